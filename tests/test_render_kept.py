"""Sources that are kept for the next render: nothing is inverted twice, and no picture changes by it."""

from pathlib import Path

import pytest
from PIL import Image

import samecast as sc
from samecast.records import pixel_hash
from samecast.render.kept import KeptSources

REX = sc.Subject((Path(__file__).parents[1] / "examples" / "rex" / "0.png",), "dog")
STEPS = 4


@pytest.fixture(scope="module")
def model() -> sc.Model:
    return sc.load()


def pixels(result: sc.RenderResult) -> list[str]:
    return [pixel_hash(render.image) for render in result.renders]


def render(model: sc.Model, prompt: str, subject: sc.Subject = REX, rules=None, **changes) -> sc.RenderResult:
    chosen = sc.masactrl(0) if rules is None else rules
    return model.render(subject, [prompt], rules=chosen, num_inference_steps=STEPS, **changes)


def test_second_prompt_inverts_nothing_again_and_is_the_picture_that_it_would_be_alone(model: sc.Model) -> None:
    alone = render(model, "a dog in the snow")
    model.kept = KeptSources()
    try:
        start = count(model)
        first = render(model, "a dog on the beach")
        between = count(model)
        second = render(model, "a dog in the snow")
        end = count(model)
    finally:
        model.kept = None
    assert first.reused_evaluations == 0
    assert second.reused_evaluations == STEPS
    assert pixels(second) == pixels(alone)
    assert second.provenance == alone.provenance  # so that a repetition finds nothing changed
    assert (between - start) - (end - between) == STEPS


def count(model: sc.Model) -> int:
    """Rows that went through the denoiser, counted by a hook that is not the session's."""
    if not hasattr(model, "rows_seen"):
        model.rows_seen = [0]

        def see(module: object, inputs: tuple, output: object) -> None:
            model.rows_seen[0] += len(inputs[0])

        model.backbone.pipeline.unet.register_forward_hook(see)
    return model.rows_seen[0]


def test_what_changes_the_sources_has_them_made_anew(model: sc.Model) -> None:
    darker = sc.Subject((Image.open(REX.references[0]).point(lambda value: value // 2),), "dog")
    changes = (
        {"subject": darker},
        {"fixed_point": 1},
        {"source_prompt": "a photo of a dog"},
        {"pairing": "masactrl"},
        {"height": 96, "width": 96},
        {"guidance_scale": 1.0},
    )
    model.kept = KeptSources()
    try:
        for change in changes:
            render(model, "a dog")
            assert render(model, "a dog", **change).reused_evaluations == 0, change
    finally:
        model.kept = None


def test_rules_that_read_more_than_was_kept_have_the_sources_made_anew(model: sc.Model) -> None:
    few, many = sc.masactrl(2, layers="12"), sc.masactrl(0, layers="10-15")
    alone = {"few": pixels(render(model, "a dog", rules=few)), "many": pixels(render(model, "a dog", rules=many))}
    model.kept = KeptSources()
    try:
        assert pixels(render(model, "a dog", rules=few)) == alone["few"]
        more = render(model, "a dog", rules=many)
        assert (more.reused_evaluations, pixels(more)) == (0, alone["many"])
        less = render(model, "a dog", rules=few)
        assert (less.reused_evaluations, pixels(less)) == (STEPS, alone["few"])
        nothing = render(model, "a dog", rules=())
        assert nothing.reused_evaluations == STEPS
    finally:
        model.kept = None
