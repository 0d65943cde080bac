"""A loaded model, and what it can be asked to do."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from samecast.backbones.base import Backbone
from samecast.backbones.loading import EMBEDDED, load_backbone
from samecast.concepts.apply import apply_concepts
from samecast.concepts.concept import Concept
from samecast.control.checks import check_rules
from samecast.control.given import GivenMask, several_masks
from samecast.control.rule import Rule, Rules
from samecast.control.rules import SUBJECT, masactrl
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastWarning
from samecast.render.find import MaskSearch, find_masks
from samecast.render.job import Job
from samecast.render.request import Request
from samecast.render.result import Progress, RenderResult
from samecast.subject import Subject

MASACTRL = masactrl()


def load(
    model: str | Path = EMBEDDED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: Sequence[str | Path] = (),
    concepts: Sequence[str | Path | tuple[str | Path, float]] = (),
    revision: str | None = None,
    prediction_type: str = "auto",
) -> "Model":
    """Loads a model; other arguments and errors as for `samecast.backbones.loading.load_backbone`.

    Args:
        model: which.
        device: where to.
        dtype: in what precision.
        lora: LoRAs to add.
        concepts: files of concepts to apply, as `Concept.load` reads them, each with its strength unless that is 1.
        revision: of a hub id.
        prediction_type: what the denoiser predicts, where its files do not tell.

    Raises:
        SamecastError: a concept cannot be read, or is of another model.
    """
    weighted = [entry if isinstance(entry, tuple) else (entry, 1.0) for entry in concepts]
    read = [(Concept.load(path), strength) for path, strength in weighted]
    loaded = Model(
        load_backbone(model, device=device, dtype=dtype, lora=lora, revision=revision, prediction_type=prediction_type)
    )
    if read:
        for doubt in apply_concepts(loaded, read).doubts:
            warnings.warn(doubt, SamecastWarning, stacklevel=2)
    return loaded


class Model:
    """A diffusion model that renders subjects.

    Args:
        backbone: the model behind its family's adapter.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @torch.inference_mode()
    def render(
        self,
        subject: Subject | None,
        prompts: Sequence[str],
        *,
        rules: Rules | Rule = MASACTRL,
        settings: RenderSettings | None = None,
        target_masks: GivenMask | Sequence[GivenMask] = (),
        progress: Progress | None = None,
    ) -> RenderResult:
        """Renders the subject in new scenes.

        Args:
            subject: whom to keep the same; None generates the source from `settings.source_prompt`, or renders without
                any source where the rules are empty and `settings.init` is `noise`.
            prompts: one scene each; `{noun}` stands for the subject's class noun.
            rules: who reads whom, where and when; `()` is no control.
            settings: how to render.
            target_masks: where the subject is to be in each prompt's pictures, for rules that take given masks: one for
                each prompt, or one for all.
            progress: told how far the work is.

        Raises:
            SamecastError: a prompt, setting, rule or photo cannot be used; said in one line before any work is done.
        """
        request = Request(
            subject, prompts, check_rules(rules), settings or RenderSettings(), several_masks(target_masks)
        )
        return Job(self.backbone, request, progress).work()

    @torch.inference_mode()
    def find_masks(
        self,
        subject: Subject,
        tokens: SubjectTokens | Sequence[SubjectTokens] = SUBJECT,
        *,
        settings: RenderSettings | None = None,
        progress: Progress | None = None,
    ) -> MaskSearch:
        """Looks for the subject in its photos, in cross-attention maps on their inversion.

        A photo takes one evaluation a step to invert and one for each step that maps are taken of.

        Args:
            subject: its photos, each looked at by itself, and its class noun; masks of it are not used.
            tokens: what to look for: words, sites, steps and threshold; several cost no more than one.
            settings: how to invert. `source_prompt` is the caption whose words are looked for; without one it is "a
                photo of a" and the noun.
            progress: told how far the work is (`invert`, `look`).

        Raises:
            SamecastError: a word is not in the caption, no site or step is selected, a photo cannot be read, or a map
                is the same everywhere.
        """
        wanted = (tokens,) if isinstance(tokens, SubjectTokens) else tuple(tokens)
        return find_masks(self.backbone, subject, wanted, settings or RenderSettings(), progress)
