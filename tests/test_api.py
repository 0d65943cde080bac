"""The Python interface as somebody knows it from diffusers: arguments, results, notebooks, and what messages name."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import samecast as sc
from samecast.attention.methods import METHODS
from samecast.records import read_record

QUICK = {"num_inference_steps": 3, "init": "noise"}
PROMPTS = ["a {noun} on the beach", "a dog at night"]


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo,), "dog")


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_settings_may_be_given_as_arguments(model: sc.Model, subject: sc.Subject) -> None:
    settings = sc.RenderSettings(num_inference_steps=3, init="noise", guidance_scale=2.0, seed=3)
    one = model.render(subject, PROMPTS, settings=settings)
    two = model.render(subject, PROMPTS, **QUICK, guidance_scale=2.0, seed=3)
    three = model.render(subject, PROMPTS, settings=replace(settings, seed=7), seed=3)
    assert [image.tobytes() for image in one.images] == [image.tobytes() for image in two.images]
    assert [image.tobytes() for image in one.images] == [image.tobytes() for image in three.images]


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ({"steps": 3}, "steps is called num_inference_steps now"),
        ({"images_per_prompt": 3}, "images_per_prompt is called num_images_per_prompt now"),
        ({"guidance": 3.0}, "no setting 'guidance'; did you mean guidance_scale"),
        ({"strength": 3.0}, "no setting 'strength'; there are num_inference_steps"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number"),
        ({"output_type": "jpg"}, "output_type must be pil, np, pt, latent; got 'jpg'"),
        ({"generator": 3}, "generator must be a torch.Generator, or a list of them; got 3"),
        ({"generator": []}, "generator must be"),
        ({"generator": [torch.Generator(), 3]}, "generator must be"),
        ({"generator": torch.Generator(), "seed": 3}, "a seed and a generator are given"),
        ({"generator": seeded(1, 2, 3)}, "3 seeds for 2 prompts with one picture of each prompt"),
        ({"seed": ()}, "seed must be"),
        ({"seed": (1, -2)}, "seed must be"),
    ],
)
def test_a_mistaken_argument_is_one_line(
    model: sc.Model, subject: sc.Subject, given: dict[str, object], data: str
) -> None:
    with pytest.raises(sc.SamecastError, match=re.escape(data)) as caught:
        model.render(subject, PROMPTS, **given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_generator_gives_the_pictures_of_its_seed(model: sc.Model, subject: sc.Subject) -> None:
    (generator,) = seeded(5)
    state = generator.get_state()
    one = model.render(subject, PROMPTS, generator=generator, **QUICK)
    assert torch.equal(generator.get_state(), state)
    assert [render.seed for render in one.renders] == [5, 5]
    assert one.images[0].tobytes() == model.render(subject, PROMPTS, seed=5, **QUICK).images[0].tobytes()
    torch.randn(1, generator=generator)
    with pytest.warns(sc.SamecastWarning, match="starts again from its seed 5"):
        model.render(subject, PROMPTS[:1], generator=generator, **QUICK)


@pytest.mark.parametrize(
    ("seeds", "count", "expected"),
    [((5, 9), 1, [5, 9]), ((5, 9), 2, [5, 9, 5, 9]), ((1, 2, 3, 4), 2, [1, 2, 3, 4]), ((8,), 1, [8, 8])],
)
def test_generators_are_of_the_pictures(
    model: sc.Model, subject: sc.Subject, seeds: tuple[int, ...], count: int, expected: list[int]
) -> None:
    made = model.render(subject, PROMPTS, generator=seeded(*seeds), num_images_per_prompt=count, **QUICK)
    assert [render.seed for render in made.renders] == expected
    alone = model.render(subject, PROMPTS[-1:], seed=expected[-1], **QUICK)
    off = np.array(alone.images[0]).astype(int) - np.array(made.images[-1])
    assert abs(off).max() <= 2  # batches of another size round otherwise


def test_seeds_of_their_own_are_kept_in_the_record(model: sc.Model, subject: sc.Subject, tmp_path: Path) -> None:
    made = model.render(subject, PROMPTS, generator=seeded(5, 9), **QUICK)
    record = read_record(made.save(tmp_path / "out"))
    assert record.provenance["settings"]["seed"] == [5, 9]
    assert record.provenance["seeds"] == [5, 9]


def test_images_take_the_form_that_is_asked_for(model: sc.Model, subject: sc.Subject) -> None:
    made = {
        form: model.render(subject, PROMPTS, seed=1, output_type=form, **QUICK)  # type: ignore[arg-type]
        for form in ("pil", "np", "pt", "latent")
    }
    pictures = made["pil"].images
    assert [type(picture) for picture in pictures] == [Image.Image, Image.Image]
    arrays, tensors, latents = (made[form].images for form in ("np", "pt", "latent"))
    assert arrays.shape == (2, 56, 72, 3)
    assert arrays.dtype == np.float32
    assert torch.equal(tensors, torch.from_numpy(arrays).permute(0, 3, 1, 2))
    assert (arrays * 255).round().astype(np.uint8).tobytes() == b"".join(picture.tobytes() for picture in pictures)
    assert not np.array_equal(arrays, (arrays * 255).round() / 255)  # not rounded
    vae = model.pipeline.vae
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    torch.testing.assert_close((decoded / 2 + 0.5).clamp(0, 1), tensors, atol=1e-5, rtol=0)
    assert made["latent"].renders[0].image.tobytes() == pictures[0].tobytes()


def test_a_result_saves_and_draws_itself(model: sc.Model, subject: sc.Subject, tmp_path: Path) -> None:
    made = model.render(subject, PROMPTS, **QUICK)
    assert [render.prompt for render in made.renders] == ["a dog on the beach", "a dog at night"]
    folder = made.save(tmp_path / "out")
    assert folder == tmp_path / "out"
    assert {"grid.png", "render.json", "reference.png"} <= {path.name for path in folder.iterdir()}
    assert made.save(tmp_path / "out") == tmp_path / "out-2"
    assert made.grid().tobytes() == Image.open(folder / "grid.png").tobytes()


def test_the_pipeline_is_the_stock_one(model: sc.Model) -> None:
    assert isinstance(model.pipeline, StableDiffusionPipeline)
    assert model.pipeline is model.backbone.pipeline


def test_no_control_is_no_rules() -> None:
    assert sc.none() == ()


def test_objects_show_themselves_in_a_notebook(
    model: sc.Model, subject: sc.Subject, photo: Image.Image, tmp_path: Path
) -> None:
    made = model.render(subject, ["a <b>dog</b> & co"], **QUICK)
    found = model.find_masks(subject, num_inference_steps=3)
    width = model.pipeline.text_encoder.config.hidden_size
    from samecast.concepts.concept import ModifierToken

    concept = sc.Concept({"<new1>": ModifierToken({"text_encoder": torch.ones(1, width)}, "dog")})
    photo.save(tmp_path / "rex.png")
    read = sc.Subject((tmp_path / "rex.png", tmp_path / "none.png"), "dog")
    shown = (made, made.renders[0], found, found.masks[0], subject, read, model, concept)
    for each in shown:
        assert len(repr(each)) < 200
        html = each._repr_html_()  # type: ignore[attr-defined]
        assert html.startswith("<")
        assert "object at 0x" not in html
        assert "<b>dog" not in html
    for each in shown[:6]:
        assert 'src="data:image/png;base64,' in each._repr_html_()  # type: ignore[attr-defined]
    assert "a &lt;b&gt;dog&lt;/b&gt; &amp; co (seed 0)" in made._repr_html_()
    assert "does not exist" in read._repr_html_()
    assert "new1" in repr(concept)
    assert repr(made) == "RenderResult(1 picture of 72 x 56, 9 evaluations)"


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_is_shown_unless_asked(
    model: sc.Model, subject: sc.Subject, capfd: pytest.CaptureFixture[str], progress: bool | None
) -> None:
    model.render(subject, PROMPTS, progress=progress, **QUICK)
    assert capfd.readouterr() == ("", "")


def test_progress_shows_bars(model: sc.Model, subject: sc.Subject, capfd: pytest.CaptureFixture[str]) -> None:
    model.render(subject, PROMPTS, progress=True, **QUICK)
    shown = capfd.readouterr().err
    assert "rendering" in shown
    assert "developing: 100%" in shown


def _messages() -> list[tuple[str, str]]:
    """Module and text of all that is raised or warned of."""
    found: list[tuple[str, str]] = []
    for path in Path(sc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            said = node.exc if isinstance(node, ast.Raise) else None
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "found.append"):
                said = node
            if said is not None:
                texts = [one.value for one in ast.walk(said) if isinstance(one, ast.Constant)]
                found.append((path.name, " ".join(text for text in texts if isinstance(text, str))))
    return found


def test_what_messages_recommend_is_exported() -> None:
    """`sc.name`, `samecast.name`, and names of our own classes and methods that stand in a message by themselves."""
    messages = _messages()
    assert len(messages) > 300
    named: set[str] = set()
    for _, text in messages:
        named |= set(re.findall(r"\b(?:sc|samecast)\.([A-Za-z_]\w*)", text))
        named |= set(re.findall(r"\b((?:[A-Z][a-z]+){2,})\b(?= |\(|$)", text)) & {"SubjectTokens", "RenderSettings"}
        named |= {
            name for name in ("apply_concepts", "attach", *METHODS) if re.search(rf"\b{name}\(|one {name}\b", text)
        }
    assert {"attach", "SubjectTokens", "apply_concepts", "masactrl"} <= named
    assert named <= set(sc.__all__)
    for name in sc.__all__:
        assert getattr(sc, name) is not None
        assert name in dir(sc)
