"""Who is in the batch: the sole owner of its layout and of the guidance groups.

A *branch* is one image in the making: a source, whose keys and values are read, or a target, which reads them. Under
classifier-free guidance (Ho and Salimans 2022) each branch has two *guidance groups*, unconditional and conditional,
and each (branch, group) is a *place*. A *row* is what the denoiser is called with: one latent and one text. Source rows
whose latent and text equal those of another row are not computed twice: an empty source prompt makes a source's two
rows equal, and where all branches start from one latent a target's unconditional row is the source's row. Rows of
targets are never merged with each other, so that the cost of a target does not depend on its company.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Group = Literal["unconditional", "conditional"]
Role = Literal["source", "target", "bystander"]


@dataclass(frozen=True)
class Branch:
    """One image in the making.

    Args:
        role: whether it is read (`source`) or reads (`target`); a `bystander` is only in the same batch.
        index: its position among the branches of its role.
        prompt: text of its conditional group.
        negative_prompt: text of its unconditional group; a source's is always empty.
        image: which of its prompt's pictures it is, where a stock pipeline makes several of each prompt.
        subject: of a source, the name of the subject whose photo it is; empty where subjects have no names.
        named: of a target, the named subjects in its prompt, each with the offset in characters at which its words
            begin; None is every occurrence of these words.
    """

    role: Role
    index: int
    prompt: str
    negative_prompt: str = ""
    image: int = 0
    subject: str = ""
    named: tuple[tuple[str, int | None], ...] = ()

    @property
    def shows(self) -> tuple[str, ...]:
        """The names of the subjects in its prompt, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.named))

    def text(self, group: Group) -> str:
        """The text that conditions this branch in one guidance group."""
        return self.prompt if group == "conditional" else self.negative_prompt


def name_of(branch: Branch) -> str:
    """What people call it, counting from 1: `reference 1`, `picture 2`."""
    return f"{'reference' if branch.role == 'source' else 'picture'} {branch.index + 1}"


@dataclass(frozen=True)
class Place:
    """One branch in one guidance group."""

    branch: Branch
    group: Group

    @property
    def text(self) -> str:
        """The text that conditions it."""
        return self.branch.text(self.group)


@dataclass(frozen=True)
class Layout:
    """The rows of one call of the denoiser.

    Args:
        rows: the place each row was laid out for.
        row_of: the row at which each place is computed; several places may share one.
    """

    rows: tuple[Place, ...]
    row_of: Mapping[Place, int]

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each row."""
        return tuple(place.text for place in self.rows)

    def stack(
        self, latents: Mapping[Branch, Float[Tensor, "channel height width"]]
    ) -> Float[Tensor, "row channel height width"]:
        """The latent of each row, given that of each branch."""
        return torch.stack([latents[place.branch] for place in self.rows])

    def gather(
        self, prediction: Float[Tensor, "row channel height width"], branches: Sequence[Branch], group: Group
    ) -> Float[Tensor, "branch channel height width"]:
        """The predictions of some branches in one guidance group."""
        return prediction[[self.row_of[Place(branch, group)] for branch in branches]]


@dataclass(frozen=True)
class Branches:
    """All branches of one denoising run.

    Args:
        targets: the branches to denoise.
        sources: the branches they may read; empty without control.
        guidance_scale: at most 1 means no guidance, that is, the conditional group alone.
        guidance_rescale: how much of a guided prediction is rescaled, 0..1.
    """

    targets: tuple[Branch, ...]
    sources: tuple[Branch, ...]
    guidance_scale: float
    guidance_rescale: float = 0.0

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The guidance groups in batch order; unconditional first, as in diffusers."""
        return ("unconditional", "conditional") if self.guidance_scale > 1 else ("conditional",)

    def layout(
        self,
        *,
        targets: Sequence[Group] | None = None,
        sources: Sequence[Group] | None = None,
        same_latent: bool = False,
    ) -> Layout:
        """Lays out one call of the denoiser: targets' rows group by group, then the sources' that no other row equals.

        Args:
            targets: guidance groups in which the targets are in the batch; None is all.
            sources: guidance groups in which the sources are in the batch; None is all, () where they were evaluated
                earlier or nobody reads them.
            same_latent: whether all branches hold the same latent at this step, as targets do that start from the
                inverted latent. Merging is exact only because a target reads nothing but the source and itself, and
                in its own group: its row is the source's only where the source it reads there has the same text.
        """
        rows: list[Place] = []
        row_of: dict[Place, int] = {}
        for group in self.groups if targets is None else targets:
            for branch in self.targets:
                row_of[Place(branch, group)] = len(rows)
                rows.append(Place(branch, group))
        for group in self.groups if sources is None else sources:
            for branch in self.sources:
                place = Place(branch, group)
                equal = (
                    row
                    for row, other in enumerate(rows)
                    if other.text == place.text
                    and (other.branch == branch or (same_latent and branch.text(other.group) == place.text))
                )
                row = next(equal, len(rows))
                if row == len(rows):
                    rows.append(place)
                row_of[place] = row
        return Layout(tuple(rows), MappingProxyType(row_of))

    def guide(
        self,
        layout: Layout,
        prediction: Float[Tensor, "row channel height width"],
        branches: Sequence[Branch],
        rescale: "Callable[[Tensor, Tensor], Tensor] | None" = None,
    ) -> Float[Tensor, "branch channel height width"]:
        """Classifier-free guidance: unconditional + guidance_scale * (conditional - unconditional), per branch.

        A family may rescale what comes of it: `rescale` is called with it and the conditional prediction.

        A share `guidance_rescale` of it is brought to the conditional prediction's standard deviation, which guidance
        raises (Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", section 3.4).
        """
        conditional = layout.gather(prediction, branches, "conditional")
        if "unconditional" not in self.groups:
            return conditional
        unconditional = layout.gather(prediction, branches, "unconditional")
        guided = unconditional + self.guidance_scale * (conditional - unconditional)
        if rescale is not None:
            guided = rescale(guided, conditional)
        if not self.guidance_rescale:
            return guided
        calmed = guided * (_deviation(conditional) / _deviation(guided))
        return torch.lerp(guided, calmed, self.guidance_rescale)


def _deviation(
    prediction: Float[Tensor, "branch channel height width"],
) -> Float[Tensor, "branch 1 1 1"]:
    return prediction.std(dim=(1, 2, 3), keepdim=True)
