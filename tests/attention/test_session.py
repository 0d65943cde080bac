from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    CustomDiffusionAttnProcessor,
    SlicedAttnProcessor,
)

from samecast.attention.route import Route
from samecast.attention.session import Session
from samecast.errors import SamecastError
from samecast.models.loading import load_backbone
from samecast.models.unet import UNetBackbone
from tests.attention.layers import PARTS


@pytest.fixture
def backbone(tiny_pipeline_dir: Path) -> UNetBackbone:
    return load_backbone(tiny_pipeline_dir)


def processors(backbone: UNetBackbone) -> dict[str, object]:
    return dict(backbone.pipeline.unet.attn_processors)


def same(left: dict[str, object], right: dict[str, object]) -> bool:
    return left.keys() == right.keys() and all(left[name] is right[name] for name in left)


def predict(backbone: UNetBackbone) -> torch.Tensor:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return backbone.predict(latents, 10, backbone.encode_prompts(["a", "b"]))


def hooks(backbone: UNetBackbone) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.denoiser.modules())


ROUTES = {15: Route(((1,), (1,)))}


def test_attaching_leaves_processors_as_they_are_and_detaching_takes_every_hook_off(backbone: UNetBackbone) -> None:
    before = processors(backbone)
    with Session(backbone):
        assert same(processors(backbone), before)
        assert hooks(backbone) == 2 * 16 + 2
    assert hooks(backbone) == 0


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_detaches_too(backbone: UNetBackbone, error: type[BaseException]) -> None:
    """Also one in the midst of a controlled layer, after which no torch function may be caught any more."""
    module: Any = backbone.self_attention()[15].module

    def fail(*args: Any) -> None:
        raise error

    failing = module.to_out[0].register_forward_hook(fail)
    with pytest.raises(error), Session(backbone) as session, session.call(routes=ROUTES):
        predict(backbone)
    failing.remove()
    assert hooks(backbone) == 0
    assert torch.overrides._get_current_function_mode() is None
    with Session(backbone) as session, session.call(routes=ROUTES):
        predict(backbone)  # the layer does not count as busy


def test_nested_sessions_end_in_any_order(backbone: UNetBackbone) -> None:
    one, two = Session(backbone), Session(backbone)
    expected = predict(backbone)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    with two.call(routes=ROUTES):
        assert (predict(backbone) - expected).abs().max() > 1e-4
    two.__exit__(None, None, None)
    assert hooks(backbone) == 0
    assert torch.equal(predict(backbone), expected)


def test_an_inner_session_hands_over_where_it_is_silent(backbone: UNetBackbone) -> None:
    with Session(backbone) as outer:
        with outer.call(routes=ROUTES):
            expected = predict(backbone)
        with Session(backbone), outer.call(routes=ROUTES):
            assert torch.equal(predict(backbone), expected)


def test_two_sessions_may_not_control_one_layer_in_one_call(backbone: UNetBackbone) -> None:
    with Session(backbone) as outer, Session(backbone) as inner, outer.call(routes=ROUTES):
        with inner.call(routes=ROUTES), pytest.raises(SamecastError, match=r"two attached controls act at layer up\.8"):
            predict(backbone)
        with inner.call(routes={14: ROUTES[15]}):
            predict(backbone)
    assert torch.overrides._get_current_function_mode() is None


def test_an_attached_session_without_control_changes_nothing(backbone: UNetBackbone) -> None:
    expected = predict(backbone)
    with Session(backbone):
        assert torch.equal(predict(backbone), expected)


def test_a_route_acts_at_its_layer_and_for_one_call(backbone: UNetBackbone) -> None:
    expected = predict(backbone)
    with Session(backbone) as session:
        with session.call(routes={15: Route(((0,), (0,)))}):
            routed = predict(backbone)
        assert torch.equal(predict(backbone), expected)
    assert (routed[1] - expected[1]).abs().max() > 1e-4
    # The row that reads itself all the same is only computed along another path.
    torch.testing.assert_close(routed[0], expected[0], rtol=0, atol=1e-5)


def test_what_is_kept_is_what_attention_is_called_with(backbone: UNetBackbone) -> None:
    seen: dict[str, torch.Tensor] = {}
    module: Any = backbone.self_attention()[15].module
    removes = [
        getattr(module, name).register_forward_hook(
            lambda module, inputs, output, part=part: seen.update({part: output, "hidden": inputs[0]})
        )
        for part, name in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"))
    ]
    with Session(backbone) as session, session.call(keep={15: PARTS}) as states:
        predict(backbone)
    for hook in removes:
        hook.remove()
    assert states.keys() == {15}
    assert states[15].keys() == PARTS
    assert torch.equal(states[15]["hidden"], seen["hidden"])
    for part in ("query", "key", "value"):
        assert torch.equal(states[15][part].transpose(1, 2).flatten(2), seen[part])


def test_maps_of_the_wanted_rows_sum_to_1_and_looking_changes_nothing(backbone: UNetBackbone) -> None:
    expected = predict(backbone)
    maps: dict[int, torch.Tensor] = {}
    with Session(backbone, {4, 15}) as session:
        assert hooks(backbone) == 2 * (16 + 2) + 2
        with session.call(map_rows=[1], maps=maps):
            assert torch.equal(predict(backbone), expected)
        with session.call():
            predict(backbone)
    assert {layer: tuple(values.shape) for layer, values in maps.items()} == {4: (1, 16, 77), 15: (1, 256, 77)}
    for values in maps.values():
        torch.testing.assert_close(values.sum(dim=-1), torch.ones(values.shape[:2]))


def test_a_maps_probabilities_are_those_that_diffusers_computes(backbone: UNetBackbone) -> None:
    module: Any = backbone.cross_attention()[15].module
    entered: list[tuple[torch.Tensor, torch.Tensor]] = []
    query_hook = module.to_q.register_forward_hook(lambda module, inputs, output: entered.append(output))
    key_hook = module.to_k.register_forward_hook(lambda module, inputs, output: entered.append(output))
    predict(backbone)
    query_hook.remove()
    key_hook.remove()
    scores = module.get_attention_scores(module.head_to_batch_dim(entered[0]), module.head_to_batch_dim(entered[1]))
    maps: dict[int, torch.Tensor] = {}
    with Session(backbone, {15}) as session, session.call(map_rows=[0, 1], maps=maps):
        predict(backbone)
    torch.testing.assert_close(maps[15], scores.unflatten(0, (2, -1)).mean(dim=1), rtol=0, atol=1e-5)


def test_evaluations_are_rows_counted_on_the_denoiser(backbone: UNetBackbone) -> None:
    with Session(backbone) as session:
        predict(backbone)
        predict(backbone)
    predict(backbone)
    assert session.evaluations == 4
    assert session.batch_shapes == {2: 2}


def test_attaching_twice_is_refused(backbone: UNetBackbone) -> None:
    session = Session(backbone)
    with session, pytest.raises(SamecastError, match="attached already"), session:
        pass


@pytest.mark.parametrize("install", ["sliced", "classic", "fused"])
def test_other_ways_to_compute_the_same_attention_are_controlled_alike(backbone: UNetBackbone, install: str) -> None:
    with Session(backbone) as session, session.call(routes=ROUTES):
        expected = predict(backbone)
    unet = backbone.pipeline.unet
    if install == "fused":
        unet.fuse_qkv_projections()
    else:
        unet.set_attn_processor(SlicedAttnProcessor(1) if install == "sliced" else AttnProcessor())
    before = processors(backbone)
    with Session(backbone) as session, session.call(routes=ROUTES):
        torch.testing.assert_close(predict(backbone), expected, rtol=0, atol=1e-5)
    assert same(processors(backbone), before)


def test_a_processor_that_is_set_while_attached_is_controlled_or_refused(backbone: UNetBackbone) -> None:
    with Session(backbone) as session, session.call(routes=ROUTES):
        expected = predict(backbone)
        backbone.pipeline.unet.set_attn_processor(AttnProcessor2_0())
    with Session(backbone) as session, session.call(routes=ROUTES):
        assert torch.equal(predict(backbone), expected)
    with Session(backbone) as session, session.call(routes=ROUTES):
        backbone.pipeline.enable_attention_slicing()
        with pytest.raises(SamecastError, match=r"layer up\.8 computed without calling scaled_dot_product_attention"):
            predict(backbone)


def test_a_processor_that_computes_otherwise_is_refused_when_it_is_controlled(backbone: UNetBackbone) -> None:
    module = backbone.self_attention()[15].module
    module.set_processor(CustomDiffusionAttnProcessor(train_kv=False, train_q_out=False))
    before = processors(backbone)
    with (
        pytest.raises(SamecastError, match="its CustomDiffusionAttnProcessor must be replaced"),
        Session(backbone) as session,
        session.call(routes=ROUTES),
    ):
        predict(backbone)
    assert same(processors(backbone), before)


def test_a_processor_that_attends_twice_is_refused(backbone: UNetBackbone) -> None:
    class Twice(AttnProcessor2_0):
        def __call__(self, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            first = super().__call__(attn, hidden_states, *args, **kwargs)
            return super().__call__(attn, first, *args, **kwargs)

    backbone.self_attention()[15].module.set_processor(Twice())
    with (
        pytest.raises(SamecastError, match="calls attention more than once"),
        Session(backbone) as session,
        session.call(routes=ROUTES),
    ):
        predict(backbone)


def test_a_foreign_attention_backend_is_refused_and_nothing_is_touched(backbone: UNetBackbone) -> None:
    processor: Any = AttnProcessor2_0()
    processor._attention_backend = "sage"
    backbone.self_attention()[3].module.set_processor(processor)
    with pytest.raises(SamecastError, match=r"layer down\.3 uses the attention backend 'sage'"), Session(backbone):
        pass
    assert hooks(backbone) == 0
