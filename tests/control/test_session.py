from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, CustomDiffusionAttnProcessor

from samecast.backbones.loading import load_backbone
from samecast.backbones.unet import UNetBackbone
from samecast.control.session import Session
from samecast.core.routing import Route
from samecast.errors import SamecastError


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


def test_attaching_binds_every_self_attention_site_and_no_other(backbone: UNetBackbone) -> None:
    before = processors(backbone)
    with Session(backbone):
        changed = {name for name, processor in processors(backbone).items() if processor is not before[name]}
    assert changed == {name for name in before if "attn1" in name}
    assert len(changed) == 16


def test_detaching_restores_the_very_processors(backbone: UNetBackbone) -> None:
    before = processors(backbone)
    with Session(backbone):
        pass
    assert same(processors(backbone), before)


def test_an_exception_detaches_too(backbone: UNetBackbone) -> None:
    before = processors(backbone)
    with pytest.raises(ZeroDivisionError), Session(backbone) as session, session.call(keep={0}):
        raise ZeroDivisionError
    assert same(processors(backbone), before)
    assert not backbone.pipeline.unet._forward_hooks


def test_nested_sessions_restore_in_turn(backbone: UNetBackbone) -> None:
    before = processors(backbone)
    with Session(backbone):
        outer = processors(backbone)
        with Session(backbone):
            assert not same(processors(backbone), outer)
        assert same(processors(backbone), outer)
    assert same(processors(backbone), before)


def test_an_inner_session_hands_over_where_it_is_silent(backbone: UNetBackbone) -> None:
    routes = {15: Route(((1,), (1,)))}
    with Session(backbone) as outer:
        with outer.call(routes=routes):
            expected = predict(backbone)
        with Session(backbone), outer.call(routes=routes):
            assert torch.equal(predict(backbone), expected)


def test_a_module_processor_is_restored_as_a_module(backbone: UNetBackbone) -> None:
    class ModuleProcessor(torch.nn.Module):
        pass

    ModuleProcessor.__name__ = "AttnProcessor2_0"
    layer = backbone.self_attention()[0].layer
    original = ModuleProcessor()
    layer.set_processor(original)
    with Session(backbone):
        assert layer.processor is not original
    assert layer.processor is original
    assert dict(layer.named_children())["processor"] is original


def test_an_attached_session_without_control_changes_nothing(backbone: UNetBackbone) -> None:
    expected = predict(backbone)
    with Session(backbone):
        assert torch.equal(predict(backbone), expected)


def test_a_route_acts_at_its_site_and_for_one_call(backbone: UNetBackbone) -> None:
    expected = predict(backbone)
    with Session(backbone) as session:
        with session.call(routes={15: Route(((0,), (0,)))}):
            routed = predict(backbone)
        assert torch.equal(predict(backbone), expected)
    assert (routed[1] - expected[1]).abs().max() > 1e-4
    # The row that reads itself all the same is only computed along another path.
    torch.testing.assert_close(routed[0], expected[0], rtol=0, atol=1e-5)


def test_kept_states_are_what_enters_the_site(backbone: UNetBackbone) -> None:
    seen: list[torch.Tensor] = []
    layer = backbone.self_attention()[15].layer
    hook = layer.to_k.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with Session(backbone) as session, session.call(keep={15}) as states:
        predict(backbone)
    hook.remove()
    assert states.keys() == {15}
    assert torch.equal(states[15], seen[0])


def test_maps_of_the_wanted_rows_sum_to_1_and_looking_changes_nothing(backbone: UNetBackbone) -> None:
    expected, before = predict(backbone), processors(backbone)
    maps: dict[int, torch.Tensor] = {}
    with Session(backbone, {4, 15}) as session:
        changed = {name for name, processor in processors(backbone).items() if processor is not before[name]}
        with session.call(map_rows=[1], maps=maps):
            assert torch.equal(predict(backbone), expected)
        with session.call():
            predict(backbone)
    assert len([name for name in changed if "attn2" in name]) == 2
    assert {site: tuple(values.shape) for site, values in maps.items()} == {4: (1, 16, 77), 15: (1, 256, 77)}
    for values in maps.values():
        torch.testing.assert_close(values.sum(dim=-1), torch.ones(values.shape[:2]))
    assert same(processors(backbone), before)


def test_a_maps_probabilities_are_those_that_diffusers_computes(backbone: UNetBackbone) -> None:
    layer: Any = backbone.cross_attention()[15].layer
    entered: list[tuple[torch.Tensor, torch.Tensor]] = []
    query_hook = layer.to_q.register_forward_hook(lambda module, inputs, output: entered.append(output))
    key_hook = layer.to_k.register_forward_hook(lambda module, inputs, output: entered.append(output))
    predict(backbone)
    query_hook.remove()
    key_hook.remove()
    scores = layer.get_attention_scores(layer.head_to_batch_dim(entered[0]), layer.head_to_batch_dim(entered[1]))
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


def test_a_processor_that_carries_work_is_refused_and_nothing_is_touched(backbone: UNetBackbone) -> None:
    layer = backbone.self_attention()[3].layer
    layer.set_processor(CustomDiffusionAttnProcessor(hidden_size=16, cross_attention_dim=32))
    before = processors(backbone)
    with pytest.raises(SamecastError, match=r"site down\.3 has a CustomDiffusionAttnProcessor"), Session(backbone):
        pass
    assert same(processors(backbone), before)


def test_fused_projections_are_refused(backbone: UNetBackbone) -> None:
    backbone.pipeline.unet.fuse_qkv_projections()
    with pytest.raises(SamecastError, match="fused projections"), Session(backbone):
        pass


def test_classic_processors_are_bound_too(backbone: UNetBackbone) -> None:
    backbone.pipeline.unet.set_attn_processor(AttnProcessor())
    before = processors(backbone)
    with Session(backbone) as session, session.call(routes={15: Route(((0,), (0,)))}):
        predict(backbone)
    assert same(processors(backbone), before)
