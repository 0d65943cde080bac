"""Control of transformers: MasaCtrl and the rest act on the picture's tokens, and on nothing else."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import samecast as sc
from samecast.attention.route import Route
from samecast.attention.session import Session
from tests.families.conftest import KINDS
from tests.families.test_stock_equality import PROMPTS, SIZE, apart

STEPS = 3
# What is kept of a source is evaluated in another batch than a source beside its targets.
TOLERANCE = 2e-4
ALL = sc.Rule(layers="all")


def render(model: sc.Model, subject: sc.Subject | None, prompts: Sequence[str], rules: Any, **settings: Any) -> Any:
    settings = {"num_inference_steps": STEPS, "height": SIZE[0], "width": SIZE[1], "guidance_scale": None} | settings
    return model.render(subject, prompts, rules=rules, output_type="np", **settings)


def calm(model: sc.Model) -> dict[str, Any]:
    """A guidance that leaves differences as small as they are."""
    return {} if not getattr(model.backbone, "takes_guidance", True) else {"guidance_scale": 1.5}


@pytest.fixture(scope="session")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo,), class_noun="dog")


def oracle(family: str, image: int, reads: tuple[tuple[int, ...], ...]) -> Any:
    """Attention by explicit softmax in float64, in the place of torch's: where a picture's tokens are read, those of
    other rows are; prompts are read by their own rows alone.

    It knows nothing of the seam: it tells layers apart by their number and the family's order of tokens.
    """
    calls = count()

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **rest: Any) -> Tensor:
        number, total = next(calls), query.shape[2]
        # PixArt's every second layer has the prompt as keys; of Z-Image's, two see the prompt alone.
        if (family == "pixart" and number % 2) or (family == "z_image" and number in (2, 3)):
            picture = range(0)
        else:
            first = 0 if family in ("sd3", "sd35", "z_image", "pixart") else total - image
            picture = range(first, first + image)
        q, k, v = query.double(), key.double(), value.double()
        bias = torch.zeros(len(query), key.shape[2]).double()
        if attn_mask is not None:
            of_keys = attn_mask.expand(len(query), -1, -1, -1)[:, 0, 0]
            bias = torch.where(of_keys, 0.0, -torch.inf).double() if of_keys.dtype == torch.bool else of_keys.double()

        def softmax(queries: Tensor, keys: Tensor, values: Tensor, added: Tensor) -> Tensor:
            weights = (queries @ keys.mT / queries.shape[-1] ** 0.5 + added).exp()
            return weights / weights.sum(-1, keepdim=True) @ values

        outputs = []
        for row, sources in enumerate(reads):
            out = softmax(q[row], k[row], v[row], bias[row])
            if sources != (row,) and len(picture):
                beside = [at for at in range(total) if at not in picture]
                keys, values = (
                    torch.cat([x[source][:, list(picture)] for source in sources] + [x[row][:, beside]], dim=1)
                    for x in (k, v)
                )
                added = torch.cat([torch.zeros(image * len(sources)).double(), bias[row][beside]])
                out[:, list(picture)] = softmax(q[row][:, list(picture)], keys, values, added)
            outputs.append(out)
        return torch.stack(outputs).to(query)

    return attention


@pytest.mark.parametrize("reads", [((0,), (0,), (0,)), ((0,), (0, 1), (2,))], ids=["masactrl", "union"])
def test_reading_equals_an_explicit_softmax(
    family: str, model: sc.Model, reads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = model.backbone
    latents = torch.randn(3, *backbone.latent_shape(*SIZE), generator=torch.Generator().manual_seed(0))
    texts = backbone.join_texts(backbone.encode_prompts(["", *PROMPTS]), [1.0] * 3)
    routes = {bound.layer.index: Route(reads) for bound in backbone.self_attention()}
    with torch.inference_mode():
        plain = backbone.predict(latents, 500.0, texts)
        with Session(backbone) as session, session.call(routes=routes):
            routed = backbone.predict(latents, 500.0, texts)
        image = (SIZE[0] // backbone.size_multiple) * (SIZE[1] // backbone.size_multiple)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", oracle(family, image, reads))
        expected = backbone.predict(latents, 500.0, texts)
    assert (routed - expected).abs().max() < 1e-4
    assert (routed - plain)[1].abs().max() > 1e-2  # control shows
    torch.testing.assert_close(routed[0], plain[0], rtol=0, atol=1e-5)  # the source is as it was


def test_a_source_ends_as_its_photo_and_is_untouched_by_targets(
    family: str, model: sc.Model, subject: sc.Subject
) -> None:
    one = render(model, subject, PROMPTS[:1], ALL, **calm(model))
    both = render(model, subject, PROMPTS, ALL, **calm(model))
    photo = model.backbone.encode_image(one.references[0])
    expected = np.asarray(model.backbone.decode(photo[None])[0])
    assert np.array_equal(np.asarray(one.sources[0]), expected)
    assert np.array_equal(np.asarray(one.sources[0]), np.asarray(both.sources[0]))
    assert not one.warnings or not any("changed nothing" in warning for warning in one.warnings)


def test_order_and_company_change_no_picture(family: str, model: sc.Model, subject: sc.Subject) -> None:
    forth = render(model, subject, PROMPTS, ALL, **calm(model)).images
    back = render(model, subject, PROMPTS[::-1], ALL, **calm(model)).images
    assert apart(forth, back[::-1]) < TOLERANCE
    alone = render(model, subject, PROMPTS[:1], ALL, **calm(model)).images
    assert apart(forth[:1], alone) < TOLERANCE


def test_control_changes_pictures_and_layers_matter(family: str, model: sc.Model, subject: sc.Subject) -> None:
    options = {**calm(model), "init": "noise", "seed": 5}
    count = len(model.backbone.self_attention())
    rules = ((), ALL, sc.Rule(layers="0"), sc.Rule(layers=f"{count - 1}"))
    pictures = [render(model, subject, PROMPTS[:1], rule, **options).images for rule in rules]
    for at, one in enumerate(pictures):
        for other in pictures[:at]:
            assert apart(one, other) > 1e-3


def test_what_memory_does_not_keep_is_computed_again(family: str, model: sc.Model, subject: sc.Subject) -> None:
    options = {**calm(model), "init": "noise", "seed": 5}
    kept = render(model, subject, PROMPTS[:1], ALL, **options)
    again = render(model, subject, PROMPTS[:1], ALL, source_memory=0.0, **options)
    assert apart(kept.images, again.images) < TOLERANCE
    assert again.evaluations > kept.evaluations


@pytest.mark.parametrize("pairing", ["matched", "straight", None])
@pytest.mark.parametrize("family", [*KINDS, "schnell", "klein_distilled"])
def test_what_a_photo_costs(family: str, model: sc.Model, subject: sc.Subject, pairing: Any) -> None:
    out = render(model, subject, PROMPTS[:1], ALL, **calm(model), init="noise", pairing=pairing)
    groups = 1 if getattr(model.backbone, "embeds_guidance", False) or not calm(model) else 2
    distilled = family in ("schnell", "klein_distilled")
    straight = pairing == "straight" or (pairing is None and distilled)
    assert out.provenance["settings"]["pairing"] == ("straight" if straight else "matched")
    # Inverted, the source is evaluated at all steps, and once more where inversion did not evaluate it: with the
    # targets at the first step. Mixed with noise, at all steps.
    assert out.evaluations == STEPS + (not straight) + groups * STEPS
    photo = model.backbone.encode_image(out.references[0])
    assert np.array_equal(np.asarray(out.sources[0]), np.asarray(model.backbone.decode(photo[None])[0]))


def test_straight_sources_are_photo_and_noise(family: str, model: sc.Model, subject: sc.Subject) -> None:
    """Every latent that the denoiser is given of the source is (signal x0 + noise eps), with one eps."""
    seen: list[Tensor] = []
    backbone = model.backbone
    predict = backbone.predict

    def recorded(latents: Tensor, *others: Any) -> Tensor:
        seen.append(latents)
        return predict(latents, *others)

    backbone.predict = recorded  # type: ignore[method-assign]
    try:
        out = render(model, subject, PROMPTS[:1], ALL, **calm(model), init="noise", pairing="straight", seed=11)
    finally:
        del backbone.predict
    photo = backbone.encode_image(out.references[0])
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(11))
    schedule = backbone.schedule(STEPS, SIZE)
    for step, level in enumerate(schedule.levels):
        torch.testing.assert_close(seen[step][0], level.signal * photo + level.noise * noise, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["schnell"])
@pytest.mark.parametrize("idle", [{"replay": False}, {"fixed_point": 1}, {"check_inversion": True}])
def test_what_a_straight_source_has_no_use_for_is_refused(
    family: str, model: sc.Model, subject: sc.Subject, idle: dict[str, Any]
) -> None:
    with pytest.raises(sc.SamecastError, match="would have no effect with pairing='straight'"):
        render(model, subject, PROMPTS[:1], ALL, pairing="straight", **idle)
    out = render(model, subject, PROMPTS[:1], ALL, **idle)  # asks for an inversion, and gets one
    assert out.provenance["settings"]["pairing"] == "matched"


def test_the_model_is_as_before_afterwards(family: str, model: sc.Model, subject: sc.Subject) -> None:
    denoiser = model.backbone.denoiser
    before = {name: (type(m), getattr(m, "processor", None)) for name, m in denoiser.named_modules()}
    weights = {name: weight.clone() for name, weight in denoiser.named_parameters()}
    render(model, subject, PROMPTS[:1], ALL, **calm(model))
    assert {name: (type(m), getattr(m, "processor", None)) for name, m in denoiser.named_modules()} == before
    assert all(torch.equal(weight, weights[name]) for name, weight in denoiser.named_parameters())
    modules = list(denoiser.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


METHODS = {
    "union": sc.Rule(sources=("source", "self"), layers="all"),
    "aligned": sc.style_aligned(),
    "found": sc.masactrl_auto_masked(layers="all", start=1),
    "matched": sc.dream_matcher(layers="all", start=1),
}


@pytest.mark.parametrize("method", METHODS)
def test_named_methods_run(family: str, model: sc.Model, subject: sc.Subject, method: str) -> None:
    out = render(model, subject, ["a dog", "the dog on the beach"], METHODS[method], **calm(model), init="noise")
    assert np.isfinite(out.images).all()


def test_default_layers_are_refused_with_what_there_is(family: str, model: sc.Model, subject: sc.Subject) -> None:
    with pytest.raises(sc.SamecastError, match=r"late decoder layers of a U-Net; this model has .*: give layers"):
        render(model, subject, PROMPTS[:1], sc.masactrl())


def test_maps_of_joint_attention_are_probabilities_over_the_prompt(family: str, model: sc.Model) -> None:
    backbone = model.backbone
    latents = torch.randn(2, *backbone.latent_shape(*SIZE), generator=torch.Generator().manual_seed(0))
    texts = backbone.encode_prompts(["dog", PROMPTS[1]])
    layers = frozenset(bound.layer.index for bound in backbone.cross_attention())
    maps: dict[int, Tensor] = {}
    with torch.inference_mode(), Session(backbone, layers) as session, session.call(map_rows=(0, 1), maps=maps):
        mapped = backbone.predict(latents, 500.0, backbone.join_texts(texts, [1.0, 1.0]))
    with torch.inference_mode():
        plain = backbone.predict(latents, 500.0, backbone.join_texts(texts, [1.0, 1.0]))
    assert torch.equal(mapped, plain)
    assert maps.keys() == layers
    tokens = (SIZE[0] // backbone.size_multiple) * (SIZE[1] // backbone.size_multiple)
    for values in maps.values():
        assert values.shape[:2] == (2, tokens)
        assert values.shape[2] == max(len(text.tokens) for text in texts)
        torch.testing.assert_close(values.sum(-1), torch.ones(2, tokens), rtol=0, atol=1e-5)
        assert not values[0, :, len(texts[0].tokens) :].any()  # nobody reads padding that the model masks


@pytest.mark.parametrize("word", ["user", "assistant", "system", "im_start", "message"])
def test_words_of_a_template_are_found_in_the_prompt_alone(model: sc.Model, word: str) -> None:
    find, other = model.backbone.find_words, f"{word[:-1]}q"  # as many letters, and in no template
    for prompt in ("{} cat", "cat {}", "{}", "a {} and a {}"):
        assert find(prompt.format(word, word), word) == find(prompt.format(other, other), other)
    with pytest.raises(sc.SamecastError, match="is not in the prompt"):
        find("a dog", word)
