"""What trains moves, nothing else does, and the model is put back bit for bit."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import samecast as sc
from samecast.concepts.concept import Concept, LowRank, Value
from samecast.errors import SamecastError
from samecast.learn.devices import Devices
from samecast.learn.initial import RARE
from samecast.learn.lists import ToLearn
from samecast.learn.loop import Loop
from samecast.learn.material import Material
from samecast.learn.objective import Objective
from samecast.learn.settings import LearnSettings
from samecast.learn.trained import Trained, training


def pipeline_of(model: sc.Model) -> Any:
    return model.backbone.pipeline  # pyright: ignore[reportAttributeAccessIssue]


def bits(model: sc.Model) -> dict[str, torch.Tensor]:
    pipeline = pipeline_of(model)
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value.clone() for name, part in parts.items() for key, value in part.state_dict().items()}


def loop_of(model: sc.Model, trained: Trained, settings: LearnSettings, tmp_path: Any, **others: Any) -> Loop:
    material = Material(model.backbone, settings, trained.subjects)
    objective = Objective(model.backbone, material, settings)
    devices = others.pop("devices", Devices())
    return Loop(trained, objective, material.draws(1000), settings, devices, tmp_path / "state", "key", **others)


METHODS = {
    "kv": ({"method": "custom-diffusion"}, lambda name: ".attn2.to_k." in name or ".attn2.to_v." in name),
    "crossattn": ({"method": "custom-diffusion", "mode": "crossattn"}, lambda name: ".attn2." in name),
    "textual-inversion": ({"method": "textual-inversion", "learning_rate": 0.0}, lambda name: False),
    "dreambooth": ({"method": "dreambooth"}, lambda name: True),
    "lora": ({"method": "lora"}, lambda name: ".lora_B." in name or ".lora_A." in name),
}


@pytest.mark.parametrize("method", METHODS)
def test_what_trains_moves_and_the_model_is_put_back(
    method: str, model: sc.Model, three: list[ToLearn], short: LearnSettings, tmp_path: Any
) -> None:
    options, trains = METHODS[method]
    settings = replace(short, batch=3, steps=2, weight_decay=0.0, **options)
    before = bits(model)
    modes = [(part.training, [p.requires_grad for p in part.parameters()]) for part in (pipeline_of(model).unet,)]
    with training(model.backbone, settings, three) as trained:
        started = {name: value.detach().clone() for name, value in trained.named().items()}
        frozen = {key: value for key, value in bits(model).items() if not any(key == name for name in trained.weights)}
        loop = loop_of(model, trained, settings, tmp_path)
        loop.run(lambda step, steps, loss: None)
        for name, parameter in trained.named().items():
            moved = not torch.equal(parameter, started[name])
            assert moved or ".lora_A." in name, name  # its gradient is zero until B has moved
            assert name.startswith("token.") or trains(name), name
        # Every one of three tokens moves, also the last.
        if settings.trains_tokens:
            rows = trained.rows["text_encoder"] - started["token.text_encoder"]
            assert rows.shape[0] == 3
            assert (rows.norm(dim=1) > 1e-3).all()
        now = bits(model)
        assert all(torch.equal(now[key], value) for key, value in frozen.items())
        assert {word: token.class_noun for word, token in trained.tokens().items()} == {
            "<new1>": "dog", "<new2>": "cat", "<new3>": "mug",
        }  # fmt: skip
    after = bits(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert [
        (part.training, [p.requires_grad for p in part.parameters()]) for part in (pipeline_of(model).unet,)
    ] == modes


def test_a_tokens_gradient_is_that_of_its_row_of_the_matrix(model: sc.Model, three: list[ToLearn]) -> None:
    settings = LearnSettings(method="textual-inversion")
    prompts = ["a <new1> and a <new2>", "a <new2> <new2>"]
    with training(model.backbone, settings, three) as trained:
        model.backbone.encode_prompts(prompts).square().sum().backward()
        ours = trained.rows["text_encoder"].grad
        pipeline = pipeline_of(model)
        embedding = pipeline.text_encoder.get_input_embeddings()
        hooks = dict(embedding._forward_hooks)
        embedding._forward_hooks.clear()
        embedding.weight.requires_grad_(True)
        model.backbone.encode_prompts(prompts).square().sum().backward()
        ids = pipeline.tokenizer.convert_tokens_to_ids(["<new1>", "<new2>", "<new3>"])
        theirs = embedding.weight.grad[ids]
        embedding._forward_hooks.update(hooks)  # whose handles know this very dict
    assert ours is not None
    assert ours[2].abs().max() == 0  # not in these prompts
    assert ours[:2].abs().max() > 0
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_start_of_a_text_teaches_custom_diffusion_nothing(
    model: sc.Model, subject: ToLearn, checkpointing: bool
) -> None:
    """Against weights whose gradient is taken by hand, from what all tokens but the first teach."""
    states = torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(0))
    settings = LearnSettings(checkpointing=checkpointing)
    with training(model.backbone, settings, [subject]) as trained:
        unet = pipeline_of(model).unet
        unet.train()
        layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k
        seen: list[torch.Tensor] = []
        handle = layer.register_forward_hook(lambda module, given, out: out.register_hook(seen.append) and None)
        model.backbone.predict(torch.randn(2, 4, 16, 16), 500, states).square().mean().backward()
        handle.remove()
        (upstream,) = seen
        by_hand = torch.einsum("rto,rti->oi", upstream[:, 1:], states[:, 1:])
        gradient = next(weight for weight in trained.weights.values() if weight is layer.weight).grad
    assert gradient is not None
    torch.testing.assert_close(gradient, by_hand)


@pytest.mark.parametrize("method", ["custom-diffusion", "lora", "dreambooth"])
def test_the_concept_does_what_the_trained_model_did(
    method: Any, model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    settings = replace(short, method=method)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def answer() -> torch.Tensor:
        texts = model.backbone.encode_prompts(["a photo of a <new1> dog", "a dog"])
        return model.backbone.predict(latents, 500, texts)

    with training(model.backbone, settings, [subject]) as trained:
        untrained = answer()
        loop_of(model, trained, settings, tmp_path).run(lambda step, steps, loss: None)
        expected = answer()
        concept = Concept(trained.tokens(), trained.changes())
    kinds = {type(change) for change in concept.changes.values()}
    assert kinds == {LowRank if method == "lora" else Value}
    with concept.apply(model):
        # The product of LoRA's matrices is added to the weight rather than to what it gives.
        torch.testing.assert_close(answer(), expected, rtol=0, atol=1e-4 if method == "lora" else 0)
    assert (expected - untrained).abs().max() > 1e-3


def test_a_failure_leaves_the_model_as_it_was(model: sc.Model, subject: ToLearn, short: LearnSettings) -> None:
    before = bits(model)
    settings = replace(short, checkpointing=True)

    def fail() -> None:
        with training(model.backbone, settings, [subject]) as trained:
            for parameter in trained.named().values():
                parameter.data += 1
            assert pipeline_of(model).unet.is_gradient_checkpointing
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    after = bits(model)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not pipeline_of(model).unet.is_gradient_checkpointing


def test_tokens_begin_at_the_noun_or_where_they_are_told(model: sc.Model, subject: ToLearn) -> None:
    tokenizer, encoder = pipeline_of(model).tokenizer, pipeline_of(model).text_encoder
    assert len(tokenizer(RARE[0], add_special_tokens=False).input_ids) > 1  # this vocabulary is letters
    matrix = encoder.get_input_embeddings().weight

    def mean(words: str) -> torch.Tensor:
        return matrix[tokenizer(words, add_special_tokens=False).input_ids].mean(0, keepdim=True)

    for settings, words in ((LearnSettings(), "dog"), (LearnSettings(initializer="red cat"), "red cat")):
        with training(model.backbone, settings, [subject]) as trained:
            assert torch.equal(trained.rows["text_encoder"], mean(words))
    with (
        pytest.raises(SamecastError, match="--initializer"),
        training(model.backbone, LearnSettings(), [replace(subject, noun="")]),
    ):
        pass


def test_calls_and_batches_of_a_step_come_to_the_same(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    ends: list[list[torch.Tensor]] = []
    for batch, accumulate in ((4, 1), (2, 2), (1, 4)):
        settings = replace(short, batch=batch, accumulate=accumulate)
        with training(model.backbone, settings, [subject]) as trained:
            loop = loop_of(model, trained, settings, tmp_path)
            loop.advance()
            # After one step, the gradients times one minus beta.
            ends.append([moments["exp_avg"].clone() for moments in loop.optimizer.state.values()])
    for other in ends[1:]:
        for mine, theirs in zip(ends[0], other, strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-6)


def test_checkpointing_changes_nothing_and_bfloat16_little(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    losses: dict[str, list[float]] = {}
    for name, changed in {
        "plain": {},
        "checkpointing": {"checkpointing": True},
        "half": {"precision": "bfloat16"},
    }.items():
        settings = replace(short, **changed)
        with training(model.backbone, settings, [subject]) as trained:
            loop = loop_of(model, trained, settings, tmp_path)
            losses[name] = [loop.advance() for _ in range(3)]
            assert all(value.dtype == torch.float32 for value in trained.named().values())
    assert losses["checkpointing"] == pytest.approx(losses["plain"], abs=1e-5)
    assert losses["half"] == pytest.approx(losses["plain"], rel=0.02)
    assert losses["half"] != losses["plain"]


def test_learning_lowers_the_loss_on_what_was_shown(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    settings = replace(short, method="dreambooth", steps=8, augment="none", flip=False, prior_weight=0.0)
    with training(model.backbone, settings, [subject]) as trained:
        loop = loop_of(model, trained, settings, tmp_path)
        shown = [loop.draws.sample(number) for number in range(6)]
        with torch.no_grad():
            before = float(loop.objective(shown))
        loop.run(lambda step, steps, loss: None)
        with torch.no_grad():
            assert float(loop.objective(shown)) < 0.95 * before


def test_eight_bit_moments_need_their_package(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    settings = replace(short, optimizer="adamw8bit")
    with (
        training(model.backbone, settings, [subject]) as trained,
        pytest.raises(SamecastError, match=r"samecast\[8bit\]"),
    ):
        loop_of(model, trained, settings, tmp_path)


def test_lora_is_not_learnt_over_other_lora(model: sc.Model, subject: ToLearn, short: LearnSettings) -> None:
    from peft import LoraConfig

    unet: Any = model.backbone.denoiser
    unet.add_adapter(LoraConfig(r=1, target_modules=["to_q"]), adapter_name="mine")
    try:
        with (
            pytest.raises(SamecastError, match="already has a LoRA loaded"),
            training(model.backbone, replace(short, method="lora"), [subject]),
        ):
            pass
        assert set(unet.peft_config) == {"mine"}
    finally:
        unet.unload_lora()


def test_nothing_is_learnt_on_a_model_with_lora_applied(
    model: sc.Model, subject: ToLearn, short: LearnSettings
) -> None:
    change = LowRank(torch.ones(16, 1, 1, 1), torch.ones(1, 4, 3, 3))
    with Concept(changes={"unet.conv_in.weight": change}, origin="style.safetensors").apply(model):
        for method in ("custom-diffusion", "lora"):
            with (
                pytest.raises(SamecastError, match=r"already applied \(style.safetensors\)"),
                training(model.backbone, replace(short, method=method), [subject]),
            ):
                pass


@pytest.mark.parametrize("said", ["<rex>", "<REX>", "<Rex>"])
def test_a_token_is_learnt_however_captions_spell_it(
    model: sc.Model, subject: ToLearn, short: LearnSettings, said: str
) -> None:
    spelt = replace(subject, token="<Rex>", caption=f"a photo of a {said} dog")
    with training(model.backbone, short, [spelt]) as trained:
        material = Material(model.backbone, short, trained.subjects)
        shots = [photo for photo, *_ in (material.draws(1000).sample(number) for number in range(2))]
        material.texts(shots).sum().backward()
        assert trained.rows["text_encoder"].grad is not None
        assert trained.rows["text_encoder"].grad.abs().max() > 0


def test_a_loss_that_is_no_number_stops_the_run(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    with training(model.backbone, short, [subject]) as trained:
        trained.rows["text_encoder"].data.fill_(float("nan"))
        with pytest.raises(SamecastError, match=r"at step 1: (its weights|the applied concept) may be"):
            loop_of(model, trained, short, tmp_path).run(lambda step, steps, loss: None)


def test_after_an_update_the_rates_are_at_fault(
    model: sc.Model, subject: ToLearn, short: LearnSettings, tmp_path: Any
) -> None:
    def spoil(step: int, steps: int, loss: float) -> None:
        trained.rows["text_encoder"].data.fill_(float("nan"))

    with (
        training(model.backbone, short, [subject]) as trained,
        pytest.raises(SamecastError, match="at step 2: lower --learning-rate"),
    ):
        loop_of(model, trained, short, tmp_path).run(spoil)
