import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from samecast.core.batch import Branch, Branches, Place

SOURCE = Branch("source", 0, "")
CAPTIONED = Branch("source", 0, "a dog")
TARGETS = (Branch("target", 0, "a dog running"), Branch("target", 1, "a dog asleep"))


def test_targets_are_laid_out_unconditional_first_as_in_diffusers() -> None:
    layout = Branches(TARGETS, (SOURCE,), 7.5).layout(sources=())
    assert layout.texts == ("", "", "a dog running", "a dog asleep")


def test_without_guidance_there_is_one_group() -> None:
    for guidance_scale in (0.0, 1.0):
        layout = Branches(TARGETS, (SOURCE,), guidance_scale).layout(sources=())
        assert layout.texts == ("a dog running", "a dog asleep")


def test_an_uncaptioned_source_takes_one_row() -> None:
    branches = Branches(TARGETS, (SOURCE,), 7.5)
    layout = branches.layout()
    assert len(layout.rows) == 5
    assert layout.row_of[Place(SOURCE, "unconditional")] == layout.row_of[Place(SOURCE, "conditional")] == 4


def test_a_captioned_source_takes_two_rows() -> None:
    assert Branches(TARGETS, (CAPTIONED,), 7.5).layout().texts[4:] == ("", "a dog")


def test_on_the_same_latent_the_source_is_a_targets_unconditional_row() -> None:
    layout = Branches(TARGETS, (SOURCE,), 7.5).layout(same_latent=True)
    assert len(layout.rows) == 4
    assert layout.row_of[Place(SOURCE, "conditional")] == 0


def test_a_negative_prompt_keeps_the_source_apart() -> None:
    target = Branch("target", 0, "a dog", negative_prompt="blurry")
    assert Branches((target,), (SOURCE,), 7.5).layout(same_latent=True).texts == ("blurry", "a dog", "")


def test_guidance_combines_each_branchs_own_rows() -> None:
    branches = Branches(TARGETS, (), 3.0)
    prediction = torch.tensor([1.0, 2.0, 5.0, 7.0]).reshape(4, 1, 1, 1)
    guided = branches.guide(branches.layout(), prediction, TARGETS)
    assert guided.flatten().tolist() == [1 + 3 * (5 - 1), 2 + 3 * (7 - 2)]


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescaled_guidance_is_as_in_diffusers(rescale: float) -> None:
    rows = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    branches = Branches(TARGETS, (), 7.5, rescale)
    unconditional, conditional = rows.chunk(2)
    expected = rescale_noise_cfg(unconditional + 7.5 * (conditional - unconditional), conditional, rescale)
    torch.testing.assert_close(branches.guide(branches.layout(), rows, TARGETS), expected)


def test_each_row_gets_its_branchs_latent() -> None:
    latents = {branch: torch.full((1, 1, 1), float(branch.index)) for branch in TARGETS}
    assert Branches(TARGETS, (), 7.5).layout().stack(latents).flatten().tolist() == [0, 1, 0, 1]
