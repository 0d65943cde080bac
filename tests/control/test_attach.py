"""Control of unmodified diffusers pipelines, against our own loop and against the pipelines left alone."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image

import samecast as sc
from samecast.core.steps import Steps

PROMPTS = ["a dog", "a dog on the beach", "a cat"]
STEPS = 4
HALF = torch.arange(64).expand(64, 64) / 64
SQUARE = Image.new("RGB", (64, 64), (200, 40, 90))
# The same steps in another order of float32 operations, on pictures of 0 to 1.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def loaded(tiny_pipeline_dir: Path) -> Any:
    return StableDiffusionPipeline.from_pretrained(tiny_pipeline_dir)


@pytest.fixture
def pipe(loaded: Any) -> Any:
    """A pipeline for one test, which may change it: copying takes a tenth of loading."""
    parts = copy.deepcopy(loaded.components)
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def run(pipeline: Any, prompts: list[str] = PROMPTS, generator: Any = None, **options: Any) -> np.ndarray:
    generator = generator or seeds(*range(len(prompts) * options.get("num_images_per_prompt", 1)))
    options = {"num_inference_steps": STEPS, "output_type": "np"} | options
    images = pipeline(prompts, generator=generator, **options).images
    return images.numpy() if isinstance(images, torch.Tensor) else images


def state(pipeline: Any) -> tuple[Any, ...]:
    unet = pipeline.unet
    hooks = (len(unet._forward_pre_hooks), len(unet._forward_hooks), len(unet._forward_hooks_always_called))
    processors = {name: id(processor) for name, processor in unet.attn_processors.items()}
    return processors, hooks, vars(pipeline).get("encode_prompt")


def apart(one: np.ndarray, other: np.ndarray) -> list[float]:
    """The largest difference of each picture."""
    return [float(np.abs(left - right).max()) for left, right in zip(one, other, strict=True)]


def test_without_rules_the_pipeline_is_itself_bit_for_bit(pipe: Any) -> None:
    expected = run(pipe)
    with sc.attach(pipe, sc.none()):
        assert np.array_equal(run(pipe), expected)


def own_loop(model: sc.Model, rules: sc.Rules, **settings: Any) -> list[np.ndarray]:
    out = model.render(
        settings.pop("subject", None),
        PROMPTS[1:],
        rules=rules,
        settings=sc.RenderSettings(num_inference_steps=STEPS, **settings),
    )
    return [np.asarray(render.image) / 255.0 for render in out.renders]


@pytest.mark.parametrize(
    ("rules", "guidance"),
    [
        (sc.masactrl(1, 2), 7.5),
        (sc.masactrl(1, skip=2), 1.0),
        (sc.masactrl_union(0, layers="all"), 7.5),
        (sc.style_aligned(anchor=1), 7.5),
    ],
    ids=["masactrl", "skip, unguided", "union", "aligned to a target"],
)
def test_a_stock_pipeline_makes_what_our_own_loop_makes(
    pipe: Any, model: sc.Model, rules: sc.Rules, guidance: float
) -> None:
    expected = own_loop(model, rules, source_prompt=PROMPTS[0], init="noise", guidance_scale=guidance)
    plain = run(pipe, generator=seeds(0, 1, 1), guidance_scale=guidance)
    with sc.attach(pipe, rules, sources=[0] if any(rule.reads_source for rule in rules) else [], targets=[1, 2]):
        images = run(pipe, generator=seeds(0, 1, 1), guidance_scale=guidance)
    # The own loop's pictures are of 8 bits.
    assert max(apart(images[1:], np.stack(expected))) < 0.5 / 255 + TOLERANCE
    assert max(apart(images[1:], plain[1:])) > 0.01
    assert apart(images[:1], plain[:1])[0] < TOLERANCE


def test_each_prompts_nth_picture_reads_the_sources_nth(pipe: Any) -> None:
    rules = sc.masactrl(0, layers="all")
    apart_calls = []
    for number in range(2):
        with sc.attach(pipe, rules):
            apart_calls.append(run(pipe, PROMPTS[:2], seeds(number, 10 + number)))
    with sc.attach(pipe, rules):
        together = run(pipe, PROMPTS[:2], seeds(0, 1, 10, 11), num_images_per_prompt=2)
    expected = np.stack([call[row] for row in range(2) for call in apart_calls])
    assert max(apart(together, expected)) < TOLERANCE
    assert apart(expected[2:3], expected[3:4])[0] > 0.01


def test_only_targets_change(pipe: Any) -> None:
    expected = run(pipe)
    with sc.attach(pipe, sc.masactrl(0), sources=[2], targets=[0]):
        images = run(pipe)
    changes = apart(images, expected)
    assert changes[0] > 0.01
    assert max(changes[1:]) < TOLERANCE


def test_steps_are_read_off_the_timestep_for_any_scheduler(pipe: Any) -> None:
    acting = []
    for scheduler in (DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler):
        config = {"skip_prk_steps": True} if scheduler is PNDMScheduler else {}
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **config)
        with sc.attach(pipe, (sc.Rule(steps=Steps(only=(STEPS - 1,))),)) as control:
            seen: list[int] = []

            def watch(pipeline: Any, step: int, timestep: int, kwargs: Any, control: Any = control) -> Any:
                seen.append(len(control._run.timeline.timesteps))  # noqa: B023
                return kwargs

            run(pipe, callback_on_step_end=watch)
            assert len(set(seen)) == 1
            acting.append((seen[0], control.evaluations // 6))
    # PNDM evaluates one timestep twice, Heun all but the last; the steps are four all the same.
    assert acting == [(4, 4), (4, 5), (4, 4), (4, 7)]


def test_image_to_image_counts_the_steps_that_it_runs(pipe: Any) -> None:
    img2img = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    img2img.set_progress_bar_config(disable=True)
    options = {"image": SQUARE, "strength": 0.5}
    expected = run(img2img, **options)
    with sc.attach(img2img, (sc.Rule(steps=Steps(only=(1,)), layers="all"),)):
        images = run(img2img, **options)
    assert min(apart(images, expected)[1:]) > 1e-3
    assert apart(images, expected)[0] < TOLERANCE
    with (
        sc.attach(img2img, (sc.Rule(steps=Steps(only=(2,))),)),
        pytest.raises(sc.SamecastError, match=r"a run of 2 steps has 0\.\.1"),
    ):
        run(img2img, **options)


def with_controlnet(pipe: Any) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(1)
    controlnet = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(16, 32, 96))
    for block in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.1)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    pipeline = StableDiffusionControlNetPipeline(**parts, controlnet=controlnet, requires_safety_checker=False)
    return pipeline, {"image": [SQUARE] * 3}


def with_adapter(pipe: Any) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(1)
    adapter = T2IAdapter(channels=[16, 16, 32, 32], num_res_blocks=2, downscale_factor=4)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    pipeline = StableDiffusionAdapterPipeline(**parts, adapter=adapter, requires_safety_checker=False)
    return pipeline, {"image": [SQUARE] * 3}


def with_lora(pipe: Any) -> tuple[Any, dict[str, Any]]:
    from peft import LoraConfig

    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False))
    return pipe, {"cross_attention_kwargs": {"scale": 0.5}}


@pytest.mark.parametrize("extend", [with_controlnet, with_adapter, with_lora])
def test_what_steers_the_pipeline_beside_goes_on_steering(
    pipe: Any, extend: Callable[[Any], tuple[Any, dict[str, Any]]]
) -> None:
    # The adapter's pipeline turns latents into numbers along a deprecated path.
    bare = run(pipe, output_type="latent")
    steered, options = extend(pipe)
    options["output_type"] = "latent"
    steered.set_progress_bar_config(disable=True)
    expected = run(steered, **options)
    assert max(apart(expected, bare)) > 1e-3
    before = state(steered)
    with sc.attach(steered, sc.masactrl(0)):
        images = run(steered, **options)
    changes = apart(images, expected)
    assert changes[0] < 10 * TOLERANCE  # latents are not of 0 to 1
    assert min(changes[1:]) > 1e-2
    assert state(steered) == before


def test_a_photo_is_read_as_our_own_loop_reads_it(pipe: Any, model: sc.Model, photo: Image.Image) -> None:
    rules = sc.masactrl(0, layers="all")
    subject = sc.Subject((photo,))
    expected = own_loop(model, rules, subject=subject, init="noise", seed=5, fit="crop")
    with sc.attach(pipe, rules, sources=photo) as control:
        images = run(pipe, PROMPTS[1:], seeds(5, 5))
    assert max(apart(images, np.stack(expected))) < 0.5 / 255 + TOLERANCE
    # Four rows of the photo (its two guidance groups are one row) and one more at the first step, beside 4 x 4.
    assert control.evaluations == STEPS + 1 + 4 * STEPS


def test_pictures_read_each_other_as_in_our_own_loop(pipe: Any, model: sc.Model) -> None:
    """ConsiStory: masks come with the call, and what is dropped is drawn alike."""
    masks = [HALF, HALF.T.contiguous(), 1 - HALF]
    rules = sc.consistory(0, layers="all", dropout=0.5)
    settings = sc.RenderSettings(num_inference_steps=STEPS, init="noise", seed=5, fit="crop")
    out = model.render(None, PROMPTS, rules=rules, settings=settings, target_masks=masks)
    plain = run(pipe, generator=seeds(5, 5, 5))
    with sc.attach(pipe, rules, target_masks=masks):
        images = run(pipe, generator=seeds(5, 5, 5))
    with sc.attach(pipe, sc.consistory(0, layers="all", dropout=0.0), target_masks=masks):
        whole = run(pipe, generator=seeds(5, 5, 5))
    expected = np.stack([np.asarray(render.image) / 255.0 for render in out.renders])
    assert max(apart(images, expected)) < 0.5 / 255 + TOLERANCE
    assert min(apart(images, plain)) > 1e-3
    assert min(apart(images, whole)) > 1e-4  # the dropout is there


def test_several_photos_are_weighed_as_in_our_own_loop(pipe: Any, model: sc.Model, photo: Image.Image) -> None:
    """FreeCustom: two photos with their masks, and keys and values times a weight."""
    photos, masks = (photo.resize((64, 64)), SQUARE), (HALF, HALF.T.contiguous())
    rules = sc.free_custom(0, layers="all", weight=1.5)  # heavier, rounding grows with the logits
    expected = own_loop(model, rules, subject=sc.Subject(photos, masks=masks), init="noise", seed=5, fit="crop")
    with sc.attach(pipe, rules, sources=list(photos), source_masks=list(masks)):
        images = run(pipe, PROMPTS[1:], seeds(5, 5))
    with sc.attach(pipe, sc.free_custom(0, layers="all", weight=1.0), sources=list(photos), source_masks=list(masks)):
        lighter = run(pipe, PROMPTS[1:], seeds(5, 5))
    assert max(apart(images, np.stack(expected))) < 0.5 / 255 + TOLERANCE
    assert min(apart(images, lighter)) > 1e-3


def test_values_are_put_where_they_match_as_in_our_own_loop(pipe: Any, model: sc.Model, photo: Image.Image) -> None:
    """DreamMatcher: where the subject is in the pictures is found in their own maps."""
    rules = sc.dream_matcher(2, layers="all", tokens=sc.SubjectTokens(threshold=0.3), consistency=0.4)
    subject, prompts = sc.Subject((photo,), "dog"), ["a dog on the beach", "the dog"]
    settings = sc.RenderSettings(num_inference_steps=STEPS, init="noise", seed=5, fit="crop")
    out = model.render(subject, prompts, rules=rules, settings=settings)
    plain = run(pipe, prompts, seeds(5, 5))
    with sc.attach(pipe, rules, sources=photo, class_noun="dog"):
        images = run(pipe, prompts, seeds(5, 5))
    expected = np.stack([np.asarray(render.image) / 255.0 for render in out.renders])
    assert max(apart(images, expected)) < 0.5 / 255 + TOLERANCE
    assert min(apart(images, plain)) > 1e-3


def test_a_photo_is_inverted_once_while_nothing_changes(pipe: Any, photo: Image.Image) -> None:
    pictures = 4 * STEPS
    with sc.attach(pipe, sc.masactrl(0), sources=photo) as control:
        first = run(pipe, PROMPTS[1:])
        once = control.evaluations
        assert once == STEPS + 1 + pictures
        again = run(pipe, PROMPTS[1:])
        assert control.evaluations == once + pictures
        with torch.no_grad():
            pipe.unet.conv_in.bias += 0.1
        changed = run(pipe, PROMPTS[1:])
        assert control.evaluations == 2 * once + pictures
        run(pipe, PROMPTS[1:], num_inference_steps=2)
        assert control.evaluations == 2 * once + pictures + 2 + 1 + 8
    assert np.array_equal(first, again)
    assert min(apart(first, changed)) > 1e-3
    with sc.attach(pipe, sc.masactrl(0), sources=photo) as control:
        assert np.array_equal(run(pipe, PROMPTS[1:]), changed)
        assert control.evaluations == once


def test_a_loras_strength_holds_for_the_photo_too(pipe: Any, photo: Image.Image) -> None:
    options = with_lora(pipe)[1]
    with sc.attach(pipe, sc.masactrl(0), sources=photo) as control:
        by_call = run(pipe, PROMPTS[1:], **options)
        once = control.evaluations
        full = run(pipe, PROMPTS[1:])
        assert control.evaluations == 2 * once  # another strength is another source
        pipe.unet.set_adapters("default", 0.5)
        by_weight = run(pipe, PROMPTS[1:])
    assert max(apart(by_call, by_weight)) < TOLERANCE
    assert min(apart(by_call, full)) > 1e-3


def test_over_its_budget_a_photo_is_evaluated_again(pipe: Any, photo: Image.Image) -> None:
    pictures = 4 * STEPS
    with sc.attach(pipe, sc.masactrl(1), sources=photo) as control:
        kept = run(pipe, PROMPTS[1:])
        assert control.evaluations == STEPS + pictures
    with sc.attach(pipe, sc.masactrl(1), sources=photo, source_memory=0.0) as control:
        again = run(pipe, PROMPTS[1:])
        assert control.evaluations == STEPS + (STEPS - 1) + pictures
    assert max(apart(kept, again)) < TOLERANCE


def test_a_photos_mask_is_found_as_our_own_loop_finds_it(pipe: Any, model: sc.Model, photo: Image.Image) -> None:
    rules = sc.masactrl_auto_masked(1, layers="all")
    subject, prompts = sc.Subject((photo,), "dog"), ["a dog on the beach", "the dog"]
    settings = sc.RenderSettings(num_inference_steps=STEPS, init="noise", seed=5, fit="crop")
    out = model.render(subject, prompts, rules=rules, settings=settings)
    expected = np.stack([np.asarray(render.image) / 255.0 for render in out.renders])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with sc.attach(pipe, rules, sources=photo, class_noun="dog") as control:
            images = run(pipe, prompts, seeds(5, 5))
            once = control.evaluations
            assert once == out.evaluations + out.map_evaluations
            assert np.array_equal(run(pipe, prompts, seeds(5, 5)), images)
            assert control.evaluations == once + 4 * STEPS  # neither inverted nor looked at again
    assert {str(each.message) for each in caught} == {data for data in out.warnings if "the mask of" in data}
    assert max(apart(images, expected)) < 0.5 / 255 + TOLERANCE


@pytest.mark.parametrize(
    ("offload", "options"),
    [
        ("enable_model_cpu_offload", {"device": "cpu"}),
        ("enable_group_offload", {"onload_device": torch.device("cpu"), "offload_type": "leaf_level"}),
    ],
)
def test_parts_may_wait_elsewhere(pipe: Any, photo: Image.Image, offload: str, options: dict[str, Any]) -> None:
    with sc.attach(pipe, sc.masactrl(0), sources=photo):
        expected = run(pipe, PROMPTS[1:])
    getattr(pipe, offload)(**options)
    with sc.attach(pipe, sc.masactrl(0), sources=photo):
        assert max(apart(run(pipe, PROMPTS[1:]), expected)) < TOLERANCE


def test_a_photo_is_read_in_image_to_image_too(pipe: Any, photo: Image.Image) -> None:
    img2img = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    img2img.set_progress_bar_config(disable=True)
    options = {"image": SQUARE, "strength": 0.5}
    expected = run(img2img, **options)
    with sc.attach(img2img, sc.masactrl(0), sources=[photo]) as control:
        images = run(img2img, **options)
    assert min(apart(images, expected)) > 1e-3
    assert control.evaluations == 2 + 1 + 6 * 2


@pytest.mark.parametrize(
    ("scheduler", "options", "part"),
    [(EulerDiscreteScheduler, {}, "EulerDiscreteScheduler"), (DDIMScheduler, {"clip_sample": True}, "clip_sample")],
)
def test_a_scheduler_that_cannot_invert_is_refused_for_photos(
    pipe: Any, photo: Image.Image, scheduler: Any, options: dict[str, Any], part: str
) -> None:
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **options)
    with (
        sc.attach(pipe, sc.masactrl(0), sources=[photo]),
        pytest.raises(sc.SamecastError, match=f"cannot be inverted with {part}"),
    ):
        run(pipe)


def test_masks_are_found_in_the_batch(pipe: Any) -> None:
    prompts = ["a dog", "a dog on the beach", "the dog"]
    expected = run(pipe, prompts)
    with sc.attach(pipe, sc.masactrl(1)):
        unmasked = run(pipe, prompts)
    with sc.attach(pipe, sc.masactrl_auto_masked(1), class_noun="dog"):
        masked = run(pipe, prompts)
    assert apart(masked, expected)[0] < TOLERANCE
    assert min(apart(masked, expected)[1:]) > 1e-3
    assert min(apart(masked, unmasked)[1:]) > 1e-3


def test_given_masks_are_used(pipe: Any) -> None:
    half = torch.zeros(64, 64)
    half[:, :32] = 1
    images = []
    for mask in (half, half.T):
        with sc.attach(pipe, sc.masactrl_masked(0), source_masks=[half], target_masks=[mask, mask]):
            images.append(run(pipe))
    assert apart(*images)[0] < TOLERANCE
    assert min(apart(*images)[1:]) > 1e-3


def test_the_pipeline_is_restored_exactly(pipe: Any) -> None:
    before = state(pipe)
    attachment = sc.attach(pipe, sc.masactrl(0))
    for _ in range(2):
        with attachment:
            assert state(pipe) != before
            run(pipe)
        assert state(pipe) == before


def test_an_exception_restores_too(pipe: Any) -> None:
    before = state(pipe)

    def stop(*args: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), sc.attach(pipe, sc.masactrl(0)):
        run(pipe, callback_on_step_end=stop)
    assert state(pipe) == before
    with pytest.raises(sc.SamecastError, match="beyond the last step"), sc.attach(pipe, sc.masactrl(9)):
        run(pipe)
    assert state(pipe) == before


def test_nested_attachments_act_together_and_restore_in_turn(pipe: Any) -> None:
    inner, outer = sc.masactrl(0, layers="15"), sc.masactrl(0, layers="10")
    with sc.attach(pipe, inner + outer):
        expected = run(pipe)
    before = state(pipe)
    with sc.attach(pipe, outer):
        between = state(pipe)
        with sc.attach(pipe, inner):
            assert max(apart(run(pipe), expected)) < TOLERANCE
        assert state(pipe) == between
    assert state(pipe) == before


def test_two_controls_of_one_layer_at_once_are_refused(pipe: Any) -> None:
    before = state(pipe)
    with sc.attach(pipe, sc.masactrl(0, 1, layers="10-12"), targets=1):
        with sc.attach(pipe, sc.masactrl(2, layers="12-15"), targets=2):
            run(pipe)  # not in one step
        with (
            pytest.raises(sc.SamecastError, match=r"two attached controls act at layer up\.5 in one step"),
            sc.attach(pipe, sc.masactrl(1, layers="12-15"), targets=2),
        ):
            run(pipe)
        run(pipe)
    assert state(pipe) == before


def test_attachments_may_end_in_any_order(pipe: Any) -> None:
    before, expected = state(pipe), run(pipe)
    first, second = (sc.attach(pipe, sc.masactrl(0, layers=layer)) for layer in ("10", "15"))
    with sc.attach(pipe, sc.masactrl(0, layers="15")):
        alone = run(pipe)
    first.__enter__()
    second.__enter__()
    run(pipe)
    first.__exit__(None, None, None)
    assert np.array_equal(run(pipe), alone)
    second.__exit__(None, None, None)
    assert state(pipe) == before
    assert np.array_equal(run(pipe), expected)


def test_masks_that_tell_nothing_apart_are_warned_of_as_in_our_own_loop(pipe: Any, model: sc.Model) -> None:
    dot = torch.zeros(64, 64)
    dot[:9, :9] = 1
    rules = sc.masactrl_masked(0, layers="mid")
    settings = sc.RenderSettings(num_inference_steps=STEPS, init="noise")
    subject = sc.Subject((SQUARE,), "dog", masks=(dot,))
    out = model.render(subject, ["a dog"], rules=rules, settings=settings, target_masks=dot)
    data = [warning for warning in out.warnings if "mask" in warning]
    assert len(data) == 1
    with (
        pytest.warns(sc.SamecastWarning, match="picture 1, reference 1 is empty at 2 x 2 tokens") as caught,
        sc.attach(pipe, rules, sources=SQUARE, source_masks=dot, target_masks=[dot]),
    ):
        run(pipe, ["a dog"])
    assert [str(each.message) for each in caught] == data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": "no-such.png"}, "no-such.png"),
        ({"source_memory": 1.0}, "source_memory was given, and no photo is a source"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_read_is_refused_before_any_call(
    pipe: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(sc.SamecastError, match=message):
        sc.attach(pipe, **{"rules": sc.masactrl()} | options)


def test_one_thing_need_not_be_a_list(pipe: Any) -> None:
    (rule,) = sc.masactrl_masked(0, layers="all")
    with sc.attach(pipe, (rule,), sources=[0], targets=[1], source_masks=[HALF], target_masks=[HALF]):
        expected = run(pipe)
    with sc.attach(pipe, rule, sources=0, targets=1, source_masks=HALF, target_masks=HALF):
        assert np.array_equal(run(pipe), expected)


def test_a_photos_mask_must_have_its_proportions(pipe: Any) -> None:
    rules, photo = sc.masactrl_masked(0), SQUARE.resize((128, 96))
    with (
        pytest.raises(sc.SamecastError, match="must have the same proportions"),
        sc.attach(pipe, rules, sources=photo, source_masks=[HALF], target_masks=[HALF]),
    ):
        run(pipe, PROMPTS[:1])


def test_words_beyond_what_the_text_encoder_reads_are_no_words(pipe: Any) -> None:
    rules = sc.masactrl_auto_masked(1, layers="all")
    late = " ".join(["cat"] * 90) + " dog"
    with (
        pytest.raises(sc.SamecastError, match="comes after the 75 tokens"),
        sc.attach(pipe, rules, sources=SQUARE, class_noun="dog"),
    ):
        run(pipe, [late])
    with warnings.catch_warnings(), sc.attach(pipe, rules, sources=SQUARE, class_noun="dog"):
        warnings.simplefilter("ignore")
        assert np.isfinite(run(pipe, [f"a dog {late}"])).all()


def test_a_unet_for_inpainting_takes_rows_as_sources_but_no_photos(pipe: Any) -> None:
    torch.manual_seed(0)
    config = dict(pipe.unet.config) | {"in_channels": 9}
    parts = pipe.components | {"unet": UNet2DConditionModel.from_config(config)}
    inpaint = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    inpaint.set_progress_bar_config(disable=True)
    given = {"image": [SQUARE] * 2, "mask_image": [SQUARE.convert("L")] * 2, "height": 64, "width": 64}
    with sc.attach(inpaint, sc.masactrl(0)) as control:
        run(inpaint, PROMPTS[:2], **given)
    assert control.evaluations == 4 * STEPS
    with (
        pytest.raises(sc.SamecastError, match="with 9 input channels instead of a latent's 4"),
        sc.attach(inpaint, sc.masactrl(0), sources=SQUARE),
    ):
        run(inpaint, PROMPTS[:2], **given)


def test_a_unet_without_transformer_blocks_is_refused(pipe: Any) -> None:
    blocks = {
        "down_block_types": ("SimpleCrossAttnDownBlock2D",) * 2,
        "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 2,
    }
    unet = UNet2DConditionModel(
        **blocks,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 32),
        cross_attention_dim=32,
        sample_size=8,
    )
    with pytest.raises(sc.SamecastError, match="attention outside transformer blocks"):
        sc.attach(
            StableDiffusionPipeline(**pipe.components | {"unet": unet}, requires_safety_checker=False), sc.masactrl()
        )


def test_a_photo_inside_another_attachment_is_left_alone_by_it(pipe: Any, photo: Image.Image) -> None:
    with sc.attach(pipe, sc.masactrl(0, layers="10")), sc.attach(pipe, sc.masactrl(0, layers="15"), sources=[photo]):
        run(pipe)


def test_attaching_one_twice_is_refused(pipe: Any) -> None:
    attachment = sc.attach(pipe, sc.none())
    with attachment, pytest.raises(sc.SamecastError, match="in use already"), attachment:
        pass


def test_control_that_changes_nothing_is_warned_of(pipe: Any) -> None:
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    with pytest.warns(sc.SamecastWarning, match="changed nothing"), sc.attach(pipe, sc.masactrl(0)):
        run(pipe, ["a dog", "a dog"], latents=noise)
    with pytest.warns(sc.SamecastWarning, match="was not called"), sc.attach(pipe, sc.masactrl(0)):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with sc.attach(pipe, sc.masactrl(0)):
            run(pipe, ["a dog", "a cat"], latents=noise)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"sources": [3]}, r"source 3 is not in the batch: the pipeline was called with 3 prompts, 0\.\.2"),
        ({"targets": [1, 7]}, "target 7 is not in the batch"),
        ({"sources": [0, 1, 2]}, "all of them sources"),
        ({"sources": [1], "targets": [1]}, "row 1 is both source and target"),
        ({"sources": []}, "these rules read a source: name one"),
        ({"sources": [0, SQUARE]}, "not both"),
        ({"sources": [-1]}, "counted from 0"),
        ({"targets": []}, "at least one"),
        ({"rules": sc.none()}, "no rule reads a source"),
        ({"rules": sc.masactrl(0, layers="99")}, "this model has"),
        ({"rules": sc.masactrl_masked(0)}, "give source_masks"),
        ({"rules": sc.masactrl_masked(0), "source_masks": [HALF], "target_masks": [HALF]}, "2 targets need as many"),
        ({"source_masks": [SQUARE]}, "leave them out"),
        ({"rules": sc.masactrl_auto_masked(1), "class_noun": "bird"}, "is not in the prompt"),
        ({"rules": sc.masactrl_auto_masked(1)}, "class_noun"),
        ({"rules": sc.masactrl_auto_masked(0), "class_noun": "a"}, "before there is a map"),
    ],
)
def test_mistakes_are_one_line(pipe: Any, options: dict[str, Any], part: str) -> None:
    options = {"rules": sc.masactrl(0), "sources": [0]} | options
    with pytest.raises(sc.SamecastError, match=part) as caught, sc.attach(pipe, options.pop("rules"), **options):
        run(pipe)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_bound_says_why(pipe: Any, model: sc.Model) -> None:
    for thing, part in (
        (model, "Model cannot be bound: it has no U-Net"),
        (torch.nn.Linear(1, 1), "takes a diffusers pipeline; got a Linear"),
    ):
        with pytest.raises(sc.SamecastError, match=part):
            sc.attach(thing, sc.none())
    from diffusers import StableDiffusionInstructPix2PixPipeline

    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    edit = StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)
    with pytest.raises(sc.SamecastError, match="no encode_prompt with"):
        sc.attach(edit, sc.none())


def compile_whole(pipe: Any) -> None:
    pipe.unet = torch.compile(pipe.unet)


def compile_in_place(pipe: Any) -> None:
    pipe.unet.compile()


def compile_a_block(pipe: Any) -> None:
    pipe.unet.up_blocks[3] = torch.compile(pipe.unet.up_blocks[3])


COMPILED = [compile_whole, compile_in_place, compile_a_block]


@pytest.mark.parametrize("compiled", COMPILED)
def test_a_compiled_unet_is_refused(pipe: Any, compiled: Callable[[Any], Any]) -> None:
    compiled(pipe)
    with pytest.raises(sc.SamecastError, match=r"compiled, which fixes its attention.*without torch\.compile"):
        sc.attach(pipe, sc.none())


@pytest.mark.parametrize("compiled", COMPILED)
def test_a_unet_that_is_compiled_after_attaching_is_refused(pipe: Any, compiled: Callable[[Any], Any]) -> None:
    with sc.attach(pipe, sc.masactrl(1)):
        compiled(pipe)
        with pytest.raises(sc.SamecastError, match="compiled, which fixes its attention"):
            run(pipe)


def test_a_bare_unet_is_told_to_bring_its_pipeline(pipe: Any) -> None:
    with pytest.raises(sc.SamecastError, match=r"takes a diffusers pipeline; got a UNet2DConditionModel"):
        sc.attach(pipe.unet, sc.none())


@pytest.mark.parametrize("when", ["before", "within"])
def test_attention_slicing_changes_nothing_about_control(pipe: Any, when: str) -> None:
    with sc.attach(pipe, sc.masactrl(1)):
        expected = run(pipe)
    if when == "before":
        pipe.enable_attention_slicing(1)
    own = {name: type(processor) for name, processor in pipe.unet.attn_processors.items()}
    with sc.attach(pipe, sc.masactrl(1)):
        if when == "before":
            assert max(apart(run(pipe), expected)) < TOLERANCE
        else:
            pipe.enable_attention_slicing(1)
            with pytest.raises(sc.SamecastError, match="SlicedAttnProcessor must be replaced"):
                run(pipe)
    if when == "before":
        assert {name: type(processor) for name, processor in pipe.unet.attn_processors.items()} == own


@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_an_image_prompt_goes_together_with_rows_and_photos_as_sources(pipe: Any, guidance_scale: float) -> None:
    """With an IP-Adapter of scale 0 pictures are as without; with another they are not."""
    load_image_prompts(pipe)
    embeds = [torch.randn(1 + (guidance_scale > 1), 1, 24, generator=torch.Generator().manual_seed(0))]

    def made(scale: float, rules: sc.Rules, **how: Any) -> Any:
        pipe.set_ip_adapter_scale(scale)
        with sc.attach(pipe, rules, **how):
            return run(pipe, ip_adapter_image_embeds=embeds, guidance_scale=guidance_scale)

    rows, photos = {"sources": [0]}, {"sources": SQUARE}
    for how in (rows, photos):
        controlled = made(0.8, sc.masactrl(1), **how)
        assert max(apart(controlled, made(0.0, sc.masactrl(1), **how))) > 1e-3
        assert max(apart(controlled, made(0.8, ()))) > 1e-3
    pipe.set_ip_adapter_scale(0.0)
    with sc.attach(pipe, sc.masactrl(1), sources=SQUARE):
        silent = run(pipe, ip_adapter_image_embeds=embeds, guidance_scale=guidance_scale)
    pipe.unload_ip_adapter()
    with sc.attach(pipe, sc.masactrl(1), sources=SQUARE):
        plain = run(pipe, guidance_scale=guidance_scale)
    assert max(apart(silent, plain)) < TOLERANCE


def load_image_prompts(pipe: Any) -> None:
    """An IP-Adapter of random weights, put on as diffusers puts its own."""
    generator = torch.Generator().manual_seed(3)
    width, tokens = 32, 4
    projection = {
        "proj.weight": torch.randn(width * tokens, 24, generator=generator),
        "proj.bias": torch.zeros(width * tokens),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    adapter: dict[str, Any] = {}
    crossed = [name for name in pipe.unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(crossed):
        module = pipe.unet.get_submodule(name.removesuffix(".processor"))
        for part in ("k", "v"):
            shape = module.to_k.weight.shape
            adapter[f"{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(shape, generator=generator)
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": adapter}])
    pipe.register_to_config()


def test_a_batch_of_three_guidance_groups_is_refused(pipe: Any) -> None:
    from diffusers import StableDiffusionPAGPipeline

    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    pag = StableDiffusionPAGPipeline(**parts, requires_safety_checker=False, pag_applied_layers=["mid"])
    pag.set_progress_bar_config(disable=True)
    with pytest.raises(sc.SamecastError, match="9 rows, where 3 prompts"), sc.attach(pag, sc.masactrl(0)):
        run(pag)


@pytest.mark.parametrize("after_its_own", [False, True])
def test_another_pipeline_on_the_same_unet_is_refused(pipe: Any, after_its_own: bool) -> None:
    """Also the usual second pass over the first pipeline's pictures, within the block."""
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    with sc.attach(pipe, sc.masactrl(0)):
        if after_its_own:
            run(pipe)
        with pytest.raises(sc.SamecastError, match="not by the pipeline"):
            run(other, image=SQUARE, strength=0.5)


def test_another_pipeline_after_a_call_that_was_broken_off_is_refused(pipe: Any) -> None:
    other = StableDiffusionPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)

    def stop(pipeline: Any, step: int, timestep: int, kwargs: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return kwargs

    with sc.attach(pipe, sc.masactrl(0)):
        with pytest.raises(KeyboardInterrupt):
            run(pipe, callback_on_step_end=stop)
        with pytest.raises(sc.SamecastError, match="the U-Net starts over"):
            run(other)


@pytest.mark.parametrize("method", [sc.masactrl, sc.masactrl_auto_masked, sc.style_aligned])
def test_a_loop_over_methods_can_name_the_subject_for_all(pipe: Any, method: Any) -> None:
    with sc.attach(pipe, method(2), class_noun="dog"):
        run(pipe, ["a dog", "a dog on the beach", "a red dog"])
