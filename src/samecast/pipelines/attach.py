"""Control of a stock diffusers pipeline: the same rules, plan and session, told from hooks instead of our own loop.

    with samecast.attach(pipeline, samecast.masactrl(), sources=[0], targets=[1, 2]):
        images = pipeline(["a dog", "a dog running", "a dog sleeping"]).images

What the pipeline computes beside stays its own: guidance, scheduler, ControlNet, T2I-Adapter, LoRA, image to image.
Three things are put on and taken off again: the session's processors, hooks on the U-Net that read the timestep, and a
listener on the pipeline's `encode_prompt`, which hears how the batch is made up.
"""

import functools
import warnings
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from numbers import Integral
from types import TracebackType
from typing import Any

from torch import Tensor

from samecast.attention.modes.base import Masks as MasksFrom
from samecast.attention.plan import select_rule_layers
from samecast.attention.rule import Rule, Rules
from samecast.attention.session import CallPlan, Session
from samecast.core.batch import Branch
from samecast.core.masks import Blank, Grid
from samecast.engine.blanks import blank_warnings
from samecast.engine.checks import check_rules
from samecast.engine.given import GivenMask, TargetMasks, masks_by_name, one_or_more, several_masks
from samecast.errors import SamecastError, SamecastWarning
from samecast.models.base import StockArguments
from samecast.models.stock import (
    PipelineCall,
    adopt_pipeline,
    read_call,
    undisturbed,
)
from samecast.pipelines.call import StockRun
from samecast.pipelines.replay import Replay
from samecast.pipelines.sources import Sources, part_sources, subjects_in
from samecast.pipelines.spec import AttachSpec

# While one inverts a photo in the midst of a pipeline's call, the U-Net is its own, and all others keep still.
_INVERTING: ContextVar["Attachment | None"] = ContextVar("inverting", default=None)


def attach(
    pipeline: Any,
    rules: Rules | Rule,
    *,
    sources: Sources | None = None,
    targets: int | Sequence[int] | None = None,
    source_masks: GivenMask | Sequence[GivenMask] = (),
    target_masks: TargetMasks = (),
    class_noun: str = "",
    source_memory: float | None = None,
) -> "Attachment":
    """Control for a stock diffusers pipeline, to be used in a `with` block around its calls.

    Steps are counted in the run that takes place: image to image with strength 0.6 has 30 steps of 50. Where a prompt
    gets several pictures, its n-th reads the sources' n-th. Shapes and seeds are the pipeline's business.

    Args:
        pipeline: of the Stable Diffusion family: text or image to image, inpainting, ControlNet, T2I-Adapter. A U-Net
            made for inpainting, with nine channels, takes sources in the batch, but no photos. Or one that makes
            pictures of texts with a transformer: see `samecast.models.families.FAMILIES`.
        rules: who reads whom, where and when; `()` is no control.
        sources: what is read: rows of the pipeline's list of prompts, or real photos, which are inverted at the
            beginning of the first call and take no rows; one or a list. They are inverted again where a later call in
            the block has other steps, size or weights. Or one Subject, or several with names, whose photos these are;
            prompts say each one's words as they are, without braces. None is row 0 where a rule reads a source, else
            nothing.
        targets: the row or rows that read; None is all but the sources. A rule's numbers count along these.
        source_masks: for rules that take given masks: one for each source.
        target_masks: one for each target; of named subjects by name, one for all targets or one for each.
        class_noun: what the subject is, for rules that look for it in cross-attention maps.
        source_memory: most GiB for what is kept of photos; at steps beyond it they are evaluated again. None is half of
            what is free.

    Raises:
        SamecastError: the pipeline cannot be bound, or sources, targets, masks and rules do not go together; what only
            a call can tell (steps, prompts, scheduler) is raised in the call.
    """
    rules = check_rules(rules)
    subjects = subjects_in(sources)
    rows, photos = part_sources([photo for each in subjects for photo in each.references] or sources, rules)
    reading = None if targets is None else tuple(int(row) for row in one_or_more(targets, Integral))
    given = several_masks(source_masks), masks_by_name(target_masks)
    casting = AttachSpec(rules, rows, photos, reading, *given, class_noun, source_memory, subjects)
    return Attachment(pipeline, casting)


class _Listener:
    """A method of a pipeline that tells, before it runs, that it was called.

    `encode_prompt` is called at the beginning of each call of a pipeline, and tells how the batch is made up;
    `maybe_free_model_hooks` at its end.
    """

    def __init__(self, pipeline: Any, method: str) -> None:
        self.original = getattr(pipeline, method)
        self.own = vars(pipeline).get(method)
        self.heard_by: list[Callable[..., None]] = []
        functools.update_wrapper(self, self.original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _INVERTING.get() is None:
            for hear in self.heard_by:
                hear(self.original, args, kwargs)
        return self.original(*args, **kwargs)


@contextmanager
def _listening(pipeline: Any, method: str, hear: Callable[..., None]) -> Generator[None]:
    """Listens with others that do, in any order; the last to leave puts the pipeline's own back."""
    listener = vars(pipeline).get(method)
    if not isinstance(listener, _Listener):
        listener = vars(pipeline)[method] = _Listener(pipeline, method)
    listener.heard_by.append(hear)
    try:
        yield
    finally:
        listener.heard_by.remove(hear)
        if not listener.heard_by and listener.own is None:
            del vars(pipeline)[method]
        elif not listener.heard_by:
            vars(pipeline)[method] = listener.own


class Attachment:
    """A pipeline under control, as a context manager; made by `attach`."""

    def __init__(self, pipeline: Any, casting: AttachSpec) -> None:
        self._backbone = adopt_pipeline(pipeline)
        self._casting = casting
        self._map_layers = casting.map_layers(self._backbone)
        self._session = Session(self._backbone, self._map_layers)
        for rule in casting.rules:
            select_rule_layers(rule, self._session.layers)
        self._on: ExitStack | None = None
        self._call: PipelineCall | None = None
        self._run: StockRun | None = None
        self._replays: dict[Hashable, Replay] = {}
        self._maps: dict[int, Tensor] = {}
        self._step, self._part = 0, -1
        self._refused = self._acted = False
        self._held = CallPlan()
        self._blanks: dict[tuple[MasksFrom, Branch], Mapping[Grid, Blank]] = {}

    @property
    def evaluations(self) -> int:
        """Rows that have gone through the U-Net in the block, those of inversion among them."""
        return self._session.evaluations

    def __enter__(self) -> "Attachment":
        if self._on is not None:
            raise SamecastError("this attachment is in use already; call attach again for another one")
        denoiser, self._session = self._backbone.denoiser, Session(self._backbone, self._map_layers)
        self._refused = self._acted = False
        self._blanks = {}
        with ExitStack() as stack:
            stack.enter_context(self._session)
            stack.enter_context(_listening(self._backbone.pipeline, "encode_prompt", self._hear))
            if self._backbone.group_order == "two calls":
                stack.enter_context(_listening(self._backbone.pipeline, "check_inputs", self._forget))
            stack.enter_context(_listening(self._backbone.pipeline, "maybe_free_model_hooks", self._forget))
            stack.callback(denoiser.register_forward_pre_hook(self._before, with_kwargs=True).remove)
            stack.callback(denoiser.register_forward_hook(self._after, with_kwargs=True, always_call=True).remove)
            self._on = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._on is not None
        self._on.close()
        self._end_call()
        self._on = self._call = None
        self._replays.clear()
        if kind is None and self._casting.rules:
            for data in (*filter(None, [self._idle()]), *blank_warnings(self._blanks)):
                warnings.warn(data, SamecastWarning, stacklevel=2)

    def _end_call(self) -> None:
        """Forgets the pipeline's last call, but for the masks that told nothing apart in it."""
        if self._run is not None:
            self._blanks |= self._run.blanks()
        self._run, self._step, self._part = None, 0, -1

    def _idle(self) -> str:
        """Why control was for nothing; empty where it was not."""
        if self._refused:
            return ""  # and said so
        if not self.evaluations:
            return "attached control did nothing: the pipeline was not called"
        if not self._acted:
            return "attached control did nothing: no rule acts at any of the steps that were run"
        if not self._session.changed:
            return "attached control changed nothing: targets read what is already their own (same prompt, same noise)"
        return ""

    def _hear(self, encode_prompt: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Takes how the batch of the pipeline's next calls of its U-Net is made up."""
        if self._call is not None and self._run is None and self._backbone.group_order == "two calls":
            self._call = replace(self._call, guided=True)  # the negative prompts of the same call
            return
        self._end_call()
        self._refused = True  # unless all goes well
        self._backbone.self_attention()  # refuses a U-Net that was compiled meanwhile
        self._call = replace(read_call(encode_prompt, args, kwargs), order=self._backbone.group_order)
        self._refused = False

    def _forget(self, *data: Any) -> None:
        """The pipeline's call is over, or a new one begins: who calls the U-Net now is another one."""
        self._end_call()
        self._call = None

    def _before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before each call of the U-Net: tells the session what this step is to do."""
        if (inverting := _INVERTING.get()) is not None:
            if inverting is not self:
                self._held, self._session.call_plan = self._session.call_plan, CallPlan()
            return
        if not self._casting.rules:
            return
        given = self._backbone.stock_arguments(args, kwargs)
        self._refused = True  # unless all goes well
        with self._evaluating(kwargs):
            run = self._run = self._run or self._begin(given)
            step = run.step_at(given.timestep)
            part = self._part + 1 if step == self._step and self._backbone.group_order == "two calls" else 0
            run.check_rows(given.rows, part)
            if step < self._step:
                raise SamecastError(
                    "the U-Net starts over in the midst of a call, so it was called by another pipeline than the one"
                    " that was attached to: attach to that one, or call it outside the block"
                )
            self._step, self._part = step, part
            kept = run.kept_at(step)
        self._maps = {}
        routes = run.routes(step, part)
        self._acted = self._acted or bool(routes)
        self._session.call_plan = CallPlan(routes, kept, map_rows=run.map_rows(step, part), maps=self._maps)
        self._refused = False

    def _after(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After each call of the U-Net, also a failed one."""
        if (inverting := _INVERTING.get()) is not None:
            if inverting is not self:
                self._session.call_plan = self._held
            return
        self._session.call_plan = CallPlan()
        self._refused = self._refused or output is None  # the call has failed
        if self._run is not None and self._maps and output is not None:
            self._run.take_maps(self._step, self._maps)
            self._maps = {}

    def _begin(self, first: StockArguments) -> StockRun:
        """What rules come to in the call whose first evaluation this is."""
        if self._call is None:
            raise SamecastError(
                "the U-Net was called, but not by the pipeline that was attached to: attach to that one"
            )
        self._call = self._call.with_rows(first.rows)
        return self._casting.begin(self._backbone, self._session, self._call, first, self._replays)

    @contextmanager
    def _evaluating(self, kwargs: dict[str, Any]) -> Generator[None]:
        """For calls of the U-Net of our own, before one of the pipeline's with these arguments."""
        ours = _INVERTING.set(self)
        try:
            with undisturbed(self._backbone, kwargs):
                yield
        finally:
            _INVERTING.reset(ours)
