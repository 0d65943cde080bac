import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.plan import make_plan
from samecast.attention.rule_files import rules_from_data
from samecast.attention.session import Session
from samecast.core.batch import Branch, Branches
from samecast.core.noise import seeded_noise
from samecast.engine.denoise import denoise_targets, outcome
from samecast.engine.run import Run
from samecast.engine.source import invert_references

STEPS = 5
QUICK = sc.RenderSettings(num_inference_steps=STEPS)
FRESH = sc.RenderSettings(num_inference_steps=STEPS, init="noise")
BLENDED = sc.RenderSettings(num_inference_steps=STEPS, init=0.4, fit="crop")  # so that all pictures have one shape
CONTROL = sc.masactrl(start=2)
PROMPTS = ["a dog running", "a dog asleep", "a dog"]
# Batch shape changes rounding (about 1e-6 per call), which may tip an 8-bit value over.
ONE_LEVEL = 1
# The same in latents, which pass from step to step in float32, when the denoiser itself computes in float64:
# in float32 its rounding, 7.5-fold by guidance, depends on the processor.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def exact(tiny_pipeline_dir: Path) -> sc.Model:
    """The same model, in float64."""
    model = sc.load(tiny_pipeline_dir, device="cpu")
    model.backbone.pipeline.to(torch.float64)  # type: ignore[attr-defined]
    return model


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject(references=(photo,), class_noun="dog")


@pytest.fixture(scope="module")
def blended(model: sc.Model, subject: sc.Subject) -> Image.Image:
    rules = sc.masactrl(start=0, layers="all")
    return model.render(subject, PROMPTS[:1], rules=rules, settings=BLENDED).renders[0].image


def pixels(image: Image.Image | None) -> np.ndarray[Any, Any]:
    assert image is not None
    return np.asarray(image, dtype=np.int16)


def assert_close(left: Image.Image, right: Image.Image) -> None:
    assert np.abs(pixels(left) - pixels(right)).max() <= ONE_LEVEL


def differ(left: Image.Image, right: Image.Image) -> bool:
    return bool(np.abs(pixels(left) - pixels(right)).max() > ONE_LEVEL)


@pytest.mark.parametrize("fixture", ["tiny_pipeline_dir", "tiny_velocity_dir"])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_without_rules_images_equal_stock_diffusers(
    fixture: str, rescale: float, request: pytest.FixtureRequest
) -> None:
    from diffusers import StableDiffusionPipeline

    directory = request.getfixturevalue(fixture)
    stock = StableDiffusionPipeline.from_pretrained(directory, safety_checker=None, requires_safety_checker=False)
    latents = torch.stack([seeded_noise((4, 16, 16), 3)] * 2)
    asked: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_rescale": rescale, "latents": latents}
    expected = stock(PROMPTS[:2], negative_prompt=["blue"] * 2, **asked).images
    settings = sc.RenderSettings(
        num_inference_steps=STEPS, init="noise", seed=3, negative_prompt="blue", guidance_rescale=rescale
    )
    out = sc.load(directory, device="cpu").render(None, PROMPTS[:2], rules=(), settings=settings)
    for render, image in zip(out.renders, expected, strict=True):
        assert_close(render.image, image)


def test_control_changes_the_images_and_each_rule_differently(model: sc.Model, subject: sc.Subject) -> None:
    images = [
        model.render(subject, PROMPTS[:1], rules=rules, settings=QUICK).renders[0].image
        for rules in (
            (),
            CONTROL,
            sc.masactrl_union(start=2),
            sc.masactrl(start=2, final=2),
            sc.masactrl(start=2, layers="encoder"),
        )
    ]
    for number, image in enumerate(images):
        assert all(differ(image, other) for other in images[:number])


def test_the_replayed_source_is_the_encoded_reference_bit_for_bit(model: sc.Model, subject: sc.Subject) -> None:
    out = model.render(subject, PROMPTS[:1], rules=CONTROL, settings=QUICK)
    assert out.reference is not None
    with torch.inference_mode():
        expected = model.backbone.decode(model.backbone.encode_image(out.reference)[None])[0]
    assert np.array_equal(pixels(out.source), pixels(expected))
    error = np.mean((pixels(out.source) - pixels(out.reference)).astype(float) ** 2)
    assert out.source_psnr == pytest.approx(10 * np.log10(255**2 / error))


def test_source_is_unaffected_by_targets(model: sc.Model, subject: sc.Subject) -> None:
    one = model.render(subject, PROMPTS[:1], rules=CONTROL, settings=QUICK)
    many = model.render(subject, PROMPTS, rules=sc.masactrl_union(start=0, layers="all"), settings=FRESH)
    assert np.array_equal(pixels(one.source), pixels(many.source))


@pytest.mark.parametrize(
    ("settings", "rules"), [(QUICK, CONTROL), (FRESH, sc.style_aligned())], ids=["inverted, read", "noise, aligned"]
)
def test_permuting_targets_permutes_results(
    model: sc.Model, subject: sc.Subject, settings: sc.RenderSettings, rules: sc.Rules
) -> None:
    forward = model.render(subject, PROMPTS, rules=rules, settings=settings)
    backward = model.render(subject, PROMPTS[::-1], rules=rules, settings=settings)
    for left, right in zip(forward.renders, backward.renders[::-1], strict=True):
        assert left.prompt == right.prompt
        assert_close(left.image, right.image)


def test_an_image_does_not_depend_on_its_batch(model: sc.Model, subject: sc.Subject) -> None:
    settings = replace(FRESH, num_images_per_prompt=2)
    together = model.render(subject, PROMPTS, rules=CONTROL, settings=settings)
    apart = model.render(subject, PROMPTS, rules=CONTROL, settings=replace(settings, batch_rows=2))
    assert together.evaluations == apart.evaluations
    assert max(map(int, apart.provenance["batch_shapes"])) == 2
    for left, right in zip(together.renders, apart.renders, strict=True):
        assert_close(left.image, right.image)
    alone = model.render(subject, PROMPTS[2:], rules=CONTROL, settings=replace(settings, num_images_per_prompt=1))
    assert_close(alone.renders[0].image, together.renders[4].image)


def test_a_repetition_is_equal_bit_for_bit(model: sc.Model, subject: sc.Subject) -> None:
    one, two = (model.render(subject, PROMPTS[:2], rules=CONTROL, settings=FRESH) for _ in range(2))
    for left, right in zip(one.renders, two.renders, strict=True):
        assert np.array_equal(pixels(left.image), pixels(right.image))


def test_provenance_is_json_and_makes_the_same_images_again(model: sc.Model, subject: sc.Subject) -> None:
    first = model.render(subject, PROMPTS[:2], rules=CONTROL, settings=BLENDED)
    record = json.loads(json.dumps(first.provenance))
    again = model.render(
        subject,
        record["prompts"],
        rules=rules_from_data(record["rules"]),
        settings=sc.RenderSettings(**record["settings"]),
    )
    assert again.provenance == first.provenance
    for left, right in zip(first.renders, again.renders, strict=True):
        assert np.array_equal(pixels(left.image), pixels(right.image))
    assert record["evaluations"] == first.evaluations == sum(int(k) * v for k, v in record["batch_shapes"].items())
    assert set(record["versions"]) == {"python", "samecast", "torch", "diffusers", "transformers"}


def test_one_edit_of_50_steps_takes_50_and_100_evaluations(model: sc.Model, subject: sc.Subject) -> None:
    assert model.render(subject, PROMPTS[:1]).evaluations == 150


@pytest.mark.parametrize(
    ("rules", "changes", "expected"),
    [
        (CONTROL, {}, STEPS + 3 * 2 * STEPS),
        ((), {}, STEPS + 3 * 2 * STEPS),
        (sc.masactrl(start=0), {}, STEPS + 3 * 2 * STEPS),
        (CONTROL, {"init": "noise"}, STEPS + 3 * 2 * STEPS),
        # Nobody reads the source or starts from it.
        ((), {"init": "noise"}, 3 * 2 * STEPS),
        # Step 0 is not among inversion's timesteps, and no target's row is the source's.
        (sc.masactrl(start=0), {"init": "noise"}, STEPS + 3 * 2 * STEPS + 1),
        (sc.masactrl(start=0), {"negative_prompt": "blue"}, STEPS + 3 * 2 * STEPS + 1),
        # A caption splits the source's row in two at the 3 controlled steps.
        (CONTROL, {"source_prompt": "a cat"}, STEPS + 3 + 3 * 2 * STEPS),
        # MasaCtrl's pairing evaluates no source pass: its row joins the batch at the 3 controlled steps.
        (CONTROL, {"pairing": "masactrl"}, STEPS + 3 + 3 * 2 * STEPS),
        (CONTROL, {"guidance_scale": 1.0}, STEPS + 3 * STEPS),
    ],
)
def test_evaluations(
    model: sc.Model, subject: sc.Subject, rules: sc.Rules, changes: dict[str, Any], expected: int
) -> None:
    out = model.render(subject, PROMPTS, rules=rules, settings=replace(QUICK, **changes))
    assert out.evaluations == expected


def test_a_generated_source_has_two_rows_at_every_step(model: sc.Model) -> None:
    settings = replace(QUICK, source_prompt="a dog standing")
    out = model.render(None, PROMPTS[:1], rules=sc.masactrl(start=0), settings=settings)
    assert out.evaluations == 2 * STEPS + 2 * STEPS
    assert out.reference is None
    assert out.source_psnr is None


def test_a_generated_source_is_the_uncontrolled_image_of_its_prompt(model: sc.Model) -> None:
    settings = replace(QUICK, source_prompt="a dog standing", seed=5)
    out = model.render(None, PROMPTS[:1], rules=CONTROL, settings=settings)
    plain = model.render(None, ["a dog standing"], rules=(), settings=replace(FRESH, seed=5))
    assert out.source is not None
    assert_close(out.source, plain.renders[0].image)


def test_a_last_step_that_is_the_identity_is_skipped(tiny_pipeline_dir: Path, subject: sc.Subject) -> None:
    from diffusers import DDIMScheduler

    model = sc.load(tiny_pipeline_dir, device="cpu")
    pipeline = model.backbone.pipeline  # type: ignore[attr-defined]
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, steps_offset=0)
    out = model.render(subject, PROMPTS[:1], rules=CONTROL, settings=QUICK)
    assert out.evaluations == (STEPS - 1) + 2 * (STEPS - 1)


@pytest.mark.parametrize("caption", ["", "a cat"])
@pytest.mark.parametrize("rules", [CONTROL, sc.masactrl_union(start=0, layers="all")], ids=["masactrl", "union"])
def test_states_kept_from_inversion_equal_a_live_source(exact: sc.Model, rules: sc.Rules, caption: str) -> None:
    backbone = exact.backbone
    source, target = Branch("source", 0, caption), Branch("target", 0, "a dog", "blue")
    branches = Branches((target,), (source,), 7.5)
    schedule, session = backbone.schedule(STEPS), Session(backbone)
    plan = make_plan(rules, session.layers, schedule, 1)
    reference, start = seeded_noise((4, 16, 16), 0) * 0.5, seeded_noise((4, 16, 16), 1)[None]
    with torch.inference_mode(), session:
        texts = {text: backbone.encode_prompts([text])[0] for text in ("", caption, "a dog", "blue")}
        run = Run(backbone, session, schedule, plan, texts)
        kept = invert_references(run, branches, reference[None], pairing="matched", advance=lambda: None)
        assert set(kept.kept) == set(plan.acting) - {0}
        live = replace(kept, kept={})
        results = [
            outcome(denoise_targets(run, branches, start, trajectory, same_start=False, advance=lambda: None))
            for trajectory in (kept, live)
        ]
    torch.testing.assert_close(results[0], results[1], **ROUNDING)


@pytest.mark.parametrize(
    ("caption", "prompt", "negative"),
    [("", "a dog", ""), ("a dog", "a cat", "a dog"), ("a dog", "", "blue"), ("a dog", "a dog", "")],
)
@pytest.mark.parametrize("method", [sc.masactrl, sc.masactrl_union])
def test_merging_equal_rows_changes_nothing(
    exact: sc.Model, method: Any, caption: str, prompt: str, negative: str
) -> None:
    backbone = exact.backbone
    source, target = Branch("source", 0, caption), Branch("target", 0, prompt, negative)
    branches = Branches((target,), (source,), 7.5)
    schedule, session = backbone.schedule(STEPS), Session(backbone)
    plan = make_plan(method(start=0, layers="all"), session.layers, schedule, 1)
    reference = seeded_noise((4, 16, 16), 0) * 0.5
    with torch.inference_mode(), session:
        texts = {text: backbone.encode_prompts([text])[0] for text in ("", caption, prompt, negative)}
        run = Run(backbone, session, schedule, plan, texts)
        trajectory = invert_references(run, branches, reference[None], pairing="matched", advance=lambda: None)
        start = trajectory.latents[0]
        results = [
            outcome(denoise_targets(run, branches, start, trajectory, same_start=same_start, advance=lambda: None))
            for same_start in (True, False)
        ]
    torch.testing.assert_close(results[0], results[1], **ROUNDING)


def test_velocity_checkpoints_render_real_photos(tiny_velocity_dir: Path, subject: sc.Subject) -> None:
    out = sc.load(tiny_velocity_dir, device="cpu").render(subject, PROMPTS[:1], rules=CONTROL, settings=QUICK)
    assert out.evaluations == 3 * STEPS
    assert np.ptp(pixels(out.renders[0].image)) > 0


CHANGES: list[dict[str, Any]] = [
    {"seed": 1},
    {"num_inference_steps": 6},
    {"guidance_scale": 3.0},
    {"guidance_rescale": 0.7},
    {"init": 0.8},
    {"init": "inverted"},
    {"negative_prompt": "blue"},
    {"fit": "pad"},
    {"source_prompt": "a cat"},
    {"pairing": "masactrl"},
    {"fixed_point": 1},
    {"replay": False},
]
# How many pictures and how large have tests of their own; the rest say how to work, and change no picture.
SHAPES, MANNERS = {"num_images_per_prompt", "height", "width"}, {"check_inversion", "source_memory", "batch_rows"}
OTHER_FAMILIES = {"true_cfg_scale"}  # U-Nets refuse it


def test_no_setting_is_forgotten_here() -> None:
    assert {name for changes in CHANGES for name in changes} | SHAPES | MANNERS | OTHER_FAMILIES == {
        field.name for field in fields(sc.RenderSettings)
    }


def test_guidance_that_is_not_given_is_the_models_and_goes_on_record(
    model: sc.Model, subject: sc.Subject, blended: Image.Image
) -> None:
    scale = model.backbone.default_guidance
    out = model.render(
        subject,
        PROMPTS[:1],
        rules=sc.masactrl(start=0, layers="all"),
        settings=replace(BLENDED, guidance_scale=scale),
    )
    assert not differ(blended, out.renders[0].image)
    left = model.render(subject, PROMPTS[:1], rules=(), settings=BLENDED)
    assert left.provenance["settings"]["guidance_scale"] == scale


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_setting_changes_the_image(
    model: sc.Model, subject: sc.Subject, blended: Image.Image, changes: dict[str, Any]
) -> None:
    settings = replace(BLENDED, **changes)
    changed = model.render(subject, PROMPTS[:1], rules=sc.masactrl(start=0, layers="all"), settings=settings)
    assert differ(blended, changed.renders[0].image)


def test_height_and_width_are_the_pictures(model: sc.Model, subject: sc.Subject) -> None:
    out = model.render(subject, PROMPTS[:1], settings=replace(QUICK, height=96, width=64), rules=CONTROL)
    assert out.renders[0].image.size == (64, 96)
    assert out.reference is not None
    assert out.reference.size == (64, 96)


def test_each_prompts_images_have_consecutive_seeds(model: sc.Model, subject: sc.Subject) -> None:
    settings = replace(FRESH, num_images_per_prompt=2, seed=7)
    out = model.render(subject, PROMPTS[:2], rules=CONTROL, settings=settings)
    assert [(render.prompt, render.seed) for render in out.renders] == [
        (prompt, seed) for prompt in PROMPTS[:2] for seed in (7, 8)
    ]


def test_noun_stands_for_the_subjects_class(model: sc.Model, subject: sc.Subject) -> None:
    out = model.render(subject, ["a {noun} running", "a dog running"], rules=CONTROL, settings=QUICK)
    assert_close(out.renders[0].image, out.renders[1].image)
    assert out.renders[0].prompt == "a dog running"


def test_progress_is_told_to_the_end(model: sc.Model, subject: sc.Subject) -> None:
    data: list[tuple[str, int, int]] = []
    model.render(
        subject,
        PROMPTS,
        rules=CONTROL,
        settings=replace(QUICK, batch_rows=4),
        progress=lambda *news: data.append(news),
    )
    for stage, total in (("invert", STEPS), ("denoise", 2 * STEPS), ("decode", 3)):
        assert [news for news in data if news[0] == stage] == [(stage, done + 1, total) for done in range(total)]


def test_settings_without_effect_are_warned_of(model: sc.Model, subject: sc.Subject) -> None:
    settings = replace(QUICK, guidance_scale=1.0, guidance_rescale=0.7, negative_prompt="blue", seed=0)
    warnings = model.render(subject, PROMPTS[:1], rules=CONTROL, settings=settings).warnings
    assert any("the seed has no effect" in warning for warning in warnings)
    assert any("the negative prompt has no effect" in warning for warning in warnings)
    assert any("guidance_rescale has no effect" in warning for warning in warnings)
    assert not any(
        "seed" in each for each in model.render(subject, PROMPTS[:1], rules=CONTROL, settings=QUICK).warnings
    )
    assert not any("seed" in warning for warning in model.render(None, ["a"], rules=(), settings=FRESH).warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": "a dog"}, "must be a list of texts"),
        ({"prompts": ["a dog", " "]}, "prompt 2 is empty"),
        ({"prompts": ["dog " * 10_000]}, "the model reads at most 75"),
        ({"prompts": ["a {noun}"], "subject": None, "rules": (), "settings": FRESH}, "class_noun"),
        ({"rules": sc.masactrl(start=STEPS)}, r"start 5 is beyond the last step; a run of 5 steps has 0\.\.4"),
        ({"rules": sc.masactrl(final=STEPS)}, "final 5 is beyond"),
        ({"rules": sc.masactrl(layers="up.9")}, "'up.9' match nothing; this model has"),
        ({"subject": None}, "control needs a source"),
        ({"subject": None, "rules": ()}, "no source to start from"),
        ({"settings": replace(QUICK, height=101)}, "height must be a multiple of 4 for this model; got 101, try 100"),
        ({"settings": replace(QUICK, num_inference_steps=1001)}, "steps must be at most 1000"),
        ({"settings": replace(QUICK, num_images_per_prompt=2)}, "would repeat one picture"),
        ({"subject": sc.Subject(references=("missing.png",))}, "missing.png"),
    ],
)
def test_mistakes_are_one_line_before_any_work(
    model: sc.Model, subject: sc.Subject, arguments: dict[str, Any], message: str
) -> None:
    given = {"subject": subject, "prompts": PROMPTS[:1], "rules": CONTROL, "settings": QUICK} | arguments
    calls: list[int] = []
    hook = model.backbone.denoiser.register_forward_hook(lambda *call: calls.append(1))
    with pytest.raises(sc.SamecastError, match=message) as caught:
        model.render(given["subject"], given["prompts"], rules=given["rules"], settings=given["settings"])
    hook.remove()
    assert "\n" not in str(caught.value)
    assert not calls


def test_a_subject_takes_a_lone_photo_and_is_frozen(photo: Image.Image) -> None:
    assert sc.Subject(references="rex.png").references == ("rex.png",)  # type: ignore[arg-type]
    assert sc.Subject(references=[photo]).references == (photo,)  # type: ignore[arg-type]
    with pytest.raises(sc.SamecastError, match="at least one reference"):
        sc.Subject(references=())


def test_the_model_is_the_same_after_rendering(model: sc.Model, subject: sc.Subject) -> None:
    pipeline = model.backbone.pipeline  # type: ignore[attr-defined]
    processors = dict(pipeline.unet.attn_processors)
    weights = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    model.render(subject, PROMPTS[:1], rules=CONTROL, settings=QUICK)
    assert all(processor is processors[name] for name, processor in pipeline.unet.attn_processors.items())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in pipeline.unet.state_dict().items())
