"""A loaded model, and what it can be asked to do."""

import typing
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from samecast.attention.methods import SUBJECT, cast, masactrl
from samecast.attention.rule import Rule, Rules
from samecast.concepts.apply import Applied
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.engine.checks import check_rules
from samecast.engine.denoise import States, outcome
from samecast.engine.given import TargetMasks, masks_by_name
from samecast.errors import SamecastError, SamecastWarning
from samecast.models.base import Backbone
from samecast.models.loading import EMBEDDED, load_backbone
from samecast.notebook import reporting, table_html
from samecast.render.asked import Generators, output_type_of, settings_of
from samecast.render.find import MaskSearch, find_masks
from samecast.render.job import Job
from samecast.render.kept import KeptSources
from samecast.render.request import Request
from samecast.render.result import OutputType, Progress, RenderResult
from samecast.render.weighted import Weighted, apply_weighted, read_weighted
from samecast.subject import Subject, several_subjects

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline


def load(
    model: str | Path = EMBEDDED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: Sequence[Weighted] = (),
    concepts: Sequence[Weighted] = (),
    revision: str | None = None,
    prediction_type: str = "auto",
) -> "Model":
    """Loads a model; other arguments and errors as for `samecast.models.loading.load_backbone`.

    Args:
        model: which.
        device: where to.
        dtype: in what precision.
        lora: LoRAs to apply, of any tool: files, or folders with `pytorch_lora_weights.safetensors`.
        concepts: concepts to apply, as `Concept.load` reads them. LoRAs and concepts are written into the weights
            together, as by `apply_concepts`; `Model.applied` takes them out.
        revision: of a hub id.
        prediction_type: what the denoiser predicts, where its files do not tell.

    Raises:
        SamecastError: a LoRA or a concept cannot be read, or is of another model.
    """
    weighted = read_weighted(lora, concepts)
    loaded = Model(load_backbone(model, device=device, dtype=dtype, revision=revision, prediction_type=prediction_type))
    if any(weighted):
        loaded.applied = apply_weighted(loaded, weighted)
        for warning in loaded.applied.fit_warnings:
            warnings.warn(warning, SamecastWarning, stacklevel=2)
    return loaded


StepCallback = Callable[["Model", int, int | float, dict[str, Any]], Any]
"""As diffusers calls it: with the model, the step, the timestep and the latents; see `Model.render`."""


def _returned_latents(returned: Any) -> Tensor | None:
    """What a callback wants in the place of latents; None where it leaves them.

    Raises:
        SamecastError: it returned something else.
    """
    if returned is None:
        return None
    if not isinstance(returned, dict):
        raise SamecastError(
            f"callback_on_step_end must return a dictionary, with latents or empty; got a {type(returned).__name__}"
        )
    data = typing.cast(dict[str, Any], returned)
    if others := sorted(map(str, data.keys() - {"latents"})):
        raise SamecastError(f"callback_on_step_end can replace latents, and nothing else; got {', '.join(others)}")
    return data.get("latents")


class Model:
    """A diffusion model that renders subjects.

    Args:
        backbone: the model behind its family's adapter.
    """

    applied: Applied | None = None
    """The LoRAs and concepts that it was loaded with; `applied.revert()` takes them out."""

    kept: KeptSources | None = None
    """Keeps the sources of the last render for the next one, for what their memory costs; None keeps nothing."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._interrupt = False

    def interrupt(self) -> None:
        """Ends the render that is going on, from its callback, its progress or another thread.

        The steps that are left are skipped: pictures that are begun are decoded as they are, and pictures that are not
        begun are left out. `RenderResult.warnings` says how far it came. Same as `pipeline._interrupt = True` in
        diffusers, which works here too.
        """
        self._interrupt = True

    def render(
        self,
        subject: Subject | Sequence[Subject] | None,
        prompts: Sequence[str],
        *,
        rules: Rules | Rule | None = None,
        settings: RenderSettings | None = None,
        generator: Generators | None = None,
        output_type: OutputType = "pil",
        target_masks: TargetMasks = (),
        progress: Progress | bool | None = None,
        callback_on_step_end: StepCallback | None = None,
        **changes: Any,
    ) -> RenderResult:
        """Renders the subject in new scenes.

        Args:
            subject: whom to keep the same, or several with names; None generates the source from
                `settings.source_prompt`, or renders without any source where the rules are empty and `settings.init`
                is `noise`.
            prompts: one scene each; `{noun}` stands for the subject's class noun, and `{rex}` for the words of the
                subject of that name.
            rules: who reads whom, where and when; `()` is no control, and None is `masactrl()`, or `cast()` of several
                subjects.
            settings: how to render.
            generator: in place of a seed: picture n of each prompt takes the generator's initial seed + n; of several
                generators each picture takes its own, or picture n of each prompt the n-th. Their state is neither used
                nor changed, so that a picture does not depend on what was drawn before. Noise is drawn on the CPU: it
                is what a diffusers pipeline draws with a fresh CPU generator of that seed.
            output_type: the form of `result.images`: "pil", "np", "pt" or "latent", as in diffusers.
            target_masks: where the subject is to be in each prompt's pictures, for rules that take given masks: one for
                each prompt, or one for all; of named subjects by name, `{"rex": mask}`.
            progress: called with a stage, the steps done and their number; True shows bars.
            callback_on_step_end: called as in diffusers after each denoising step of each batch of pictures, with this
                model, the step from 0, its timestep, and `{"latents": ...}`, (picture, channel, height, width). It
                returns a dictionary: `latents` in it take the place of the batch's. It may call `model.interrupt()`.
            **changes: fields of the settings by name, such as `num_inference_steps=20, guidance_scale=5.0`.

        Raises:
            SamecastError: a prompt, setting, rule or photo cannot be used; said in one line before any work is done.
                Or the callback returns something else than latents.
        """
        with reporting(progress) as report:
            states = self.states(
                subject,
                prompts,
                rules=rules,
                settings=settings,
                generator=generator,
                output_type=output_type,
                target_masks=target_masks,
                progress=report,
                **changes,
            )
            return outcome(states) if callback_on_step_end is None else self._called(states, callback_on_step_end)

    def _called(self, states: States[RenderResult], callback: StepCallback) -> RenderResult:
        """Runs to the end, with a callback after each step."""
        with torch.inference_mode(), closing(states):
            sent: Tensor | None = None
            while True:
                try:
                    state = states.send(sent)
                except StopIteration as end:
                    return end.value
                sent = _returned_latents(callback(self, state.step, state.timestep, {"latents": state.latents}))

    def states(
        self,
        subject: Subject | Sequence[Subject] | None,
        prompts: Sequence[str],
        *,
        rules: Rules | Rule | None = None,
        settings: RenderSettings | None = None,
        generator: Generators | None = None,
        output_type: OutputType = "pil",
        target_masks: TargetMasks = (),
        progress: Progress | None = None,
        **changes: Any,
    ) -> States[RenderResult]:
        """Renders step by step, as a generator; arguments and errors as for `render`.

        Yields:
            The state after each denoising step of each batch of pictures: `step`, `timestep`, `latents`, and
            `preview()`, which gives cheap pictures. Latents that are sent take the place of the state's.

        Returns:
            What `render` returns. Closing the generator earlier ends the work and leaves the model as it was.
        """
        subjects, asked = several_subjects(subject), settings_of(settings, changes, generator)
        form, masks = output_type_of(output_type), masks_by_name(target_masks)
        if len(subjects) > 1 and asked.init == "inverted":  # whose photo's layout it would be, nothing says
            asked = replace(asked, init=0.0 if changes.get("init") == "inverted" else "noise")
        chosen = check_rules(rules) if rules is not None else cast() if len(subjects) > 1 else masactrl()
        request = Request(subjects, prompts, chosen, asked, masks, form)
        self._interrupt = False
        return Job(self.backbone, request, progress, self.kept).states(lambda: self._interrupt)

    @torch.inference_mode()
    def find_masks(
        self,
        subject: Subject,
        tokens: SubjectTokens | Sequence[SubjectTokens] = SUBJECT,
        *,
        settings: RenderSettings | None = None,
        progress: Progress | bool | None = None,
        **changes: Any,
    ) -> MaskSearch:
        """Looks for the subject in its photos, in cross-attention maps on their inversion.

        A photo takes one evaluation a step to invert and one for each step that maps are taken of.

        Args:
            subject: its photos, each looked at by itself, and its class noun; masks of it are not used.
            tokens: what to look for: words, layers, steps and threshold; several cost no more than one.
            settings: how to invert. `source_prompt` is the caption whose words are looked for; without one it is "a
                photo of a" and the noun.
            progress: told how far the work is (`invert`, `look`); True shows bars.
            **changes: fields of the settings by name.

        Raises:
            SamecastError: a word is not in the caption, no layer or step is selected, a photo cannot be read, or a map
                is the same everywhere.
        """
        wanted = (tokens,) if isinstance(tokens, SubjectTokens) else tuple(tokens)
        asked = settings_of(settings, changes, None)
        with reporting(progress) as report:
            return find_masks(self.backbone, subject, wanted, asked, report)

    @property
    def pipeline(self) -> "StableDiffusionPipeline | StableDiffusionXLPipeline":
        """The stock diffusers pipeline that the model consists of, to call as it is or under `samecast.attach`."""
        return self.backbone.pipeline

    def __repr__(self) -> str:
        return f"Model({self.backbone.identity.id!r}, {', '.join(map(str, self._facts().values()))})"

    def _facts(self) -> dict[str, str]:
        backbone = self.backbone
        return {
            "pipeline": type(self.pipeline).__name__,
            "pictures": f"{backbone.default_size} x {backbone.default_size}",
            "device": str(backbone.device),
            "precision": str(backbone.dtype).removeprefix("torch."),
        }

    def _repr_html_(self) -> str:
        identity = self.backbone.identity
        applied = [path for path, _ in identity.lora] + [word for use in identity.concepts for word in use.words]
        more = {"revision": identity.revision, "self-attention layers": len(self.backbone.self_attention())}
        more |= {"applied": ", ".join(applied)} if applied else {}
        return table_html(f"samecast model {identity.id}", {**self._facts(), **more})
