"""The tree against runs made alone: the same pictures, far fewer evaluations, whatever the batch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import samecast as sc
from samecast.attention.session import Session
from samecast.core.batch import Branch, Branches
from samecast.core.noise import seeded_noise, spherical_blend
from samecast.engine.attention_store import AttentionStore, make_map_specs
from samecast.engine.denoise import denoise_targets, outcome
from samecast.engine.map_passes import map_sources
from samecast.engine.run import Run
from samecast.engine.source import encode_photos
from samecast.models.unet import UNetBackbone
from samecast.photos import fit_photo
from samecast.render.sources import invert
from samecast.study import lockstep
from samecast.study.axes import BASE, Axis, Value, make_rules, parse_axis
from samecast.study.binding import Binding, Order, orders_of
from samecast.study.estimate import estimate
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid, Variant, factorial
from samecast.study.job import run_study
from samecast.study.presets import aiku
from samecast.study.recipe import Recipe
from samecast.study.subjects import StudySubject
from samecast.study.unit import ExecutionConfig
from tests.study.conftest import SIZE, STEPS, Counted, Create, assert_same_picture, subject_of, subjects_of


@torch.inference_mode()
def alone(recipe: Recipe, subject: StudySubject, order: Order, backbone: UNetBackbone) -> torch.Tensor:
    """One run by the engine that renders, with an inversion of its own."""
    binding = Binding(recipe, backbone)
    settings, cast = recipe.settings, order.cast
    crossed = [bound.layer for bound in backbone.cross_attention()]
    map_specs = make_map_specs(order.variant.rules, crossed, binding.schedule, cast.noun)
    session = Session(backbone, frozenset(layer for map_spec in map_specs for layer in map_spec.layers))
    caption = cast.caption or f"a photo of a {cast.noun}"
    texts = {text: backbone.encode_prompts([text])[0] for text in ("", cast.prompt, caption)}
    run = Run(backbone, session, binding.schedule, binding.plan(order.variant.rules), texts)
    sources, target = (Branch("source", 0, cast.caption),), Branch("target", 0, cast.prompt)
    with session:
        photo = fit_photo(subject.references[order.numbers[0]], height=SIZE, width=SIZE)
        trajectory = invert(
            run, sources, encode_photos(backbone, [photo]), settings, rows=8, counter=lambda stage, rounds: lambda: None
        )
        store = AttentionStore(map_specs, backbone) if map_specs else None
        if store is not None and any(rule.masks_sources for rule in order.variant.rules):
            map_sources(run, store, trajectory, caption, rows=4)
        first = trajectory.latents[0, 0]
        start = spherical_blend(first, seeded_noise((4, SIZE // 4, SIZE // 4), cast.seed), settings.noise_share)
        states = denoise_targets(
            run,
            Branches((target,), sources, settings.guidance_scale, settings.guidance_rescale),
            start[None],
            trajectory,
            same_start=settings.noise_share == 0,
            store=store,
            advance=lambda: None,
        )
        return outcome(states)[0]


def check_against_alone(folder: StudyFolder, backbone: UNetBackbone, every: int = 1) -> int:
    recipe = folder.recipe()
    checked = 0
    for subject in subjects_of(folder):
        for order in list(orders_of(recipe, subject))[::every]:
            assert_same_picture(backbone, folder.latent(order.key), alone(recipe, subject, order, backbone))
            checked += 1
    return checked


def run(folder: StudyFolder, backbone: UNetBackbone, **execution: object) -> int:
    ran = run_study(folder, ExecutionConfig(folder.path, **execution), backbone=backbone)  # type: ignore[arg-type]
    assert not ran.failed
    assert all(tally.failed == 0 for tally in ran.tallies)
    return sum(tally.evaluations for tally in ran.tallies)


def predicted(folder: StudyFolder, backbone: UNetBackbone) -> int:
    """What a dry run tells."""
    return estimate(folder.recipe(), subjects_of(folder), backbone).evaluations


def test_the_aiku_grid_costs_at_most_2998_evaluations_counted_on_the_denoiser(
    create: Create, backbone: UNetBackbone, rex: StudySubject
) -> None:
    one = StudySubject("rex", rex.prompts[:1], rex.references)
    folder = create(aiku(50, beyond=False), [one], steps=50)
    with Counted(backbone) as rows:
        run(folder, backbone)
    assert rows.total <= 2998
    assert rows.total == predicted(folder, backbone)
    assert max(rows.calls) == 64  # full batches
    assert len(list(folder.path.glob("runs/*/*.png"))) == 42


def test_lockstep_gives_what_each_run_gives_alone(create: Create, backbone: UNetBackbone) -> None:
    folder = create(aiku(STEPS))
    with Counted(backbone) as rows:
        counted = run(folder, backbone)
    assert rows.total == counted == predicted(folder, backbone)
    assert check_against_alone(folder, backbone, every=13) > 7


def test_masactrls_pairing_gives_what_each_run_gives_alone_and_other_pictures(
    create: Create, backbone: UNetBackbone
) -> None:
    grid = factorial([parse_axis("final=4,10"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)
    folder, matched = create(grid, pairing="masactrl"), create(grid, name="matched")
    data = predicted(folder, backbone)
    with Counted(backbone) as rows:
        run(folder, backbone)
    assert rows.total == data
    assert check_against_alone(folder, backbone) == 8
    run(matched, backbone)
    pairs = [
        (folder.picture(one.key), matched.picture(two.key))
        for one, two in zip(*(list(orders_of(of.recipe(), subject_of(of))) for of in (folder, matched)), strict=True)
    ]
    assert all(one.tobytes() != two.tobytes() for one, two in pairs)


def test_masked_rules_too_whose_masks_are_made_on_the_way(create: Create, backbone: UNetBackbone) -> None:
    axes = ("maps=none,encoder,@8", "threshold=0.3,otsu", "final=5:11:5")
    grid = factorial([parse_axis(words) for words in axes], {"start": 2, "layers": "all"}, STEPS)
    folder = create(grid)
    run(folder, backbone)
    assert check_against_alone(folder, backbone, every=2) == 12
    assert len(list(folder.masks())) == 4


@pytest.mark.parametrize(("caption", "guidance_scale"), [("", 1.0), ("a photo of a dog", 7.5)])
def test_captioned_photos_and_no_guidance_are_counted_and_give_what_each_run_gives_alone(
    create: Create, backbone: UNetBackbone, rex: StudySubject, caption: str, guidance_scale: float
) -> None:
    # All read at the same steps: elsewhere a captioned photo is inverted in a batch of one row instead of two, and
    # untrained weights make a picture's difference of that rounding within ten steps.
    grid = factorial([parse_axis("maps=none,encoder"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)
    subject = replace(rex, prompts=rex.prompts[:1], source_prompt=caption)
    folder = create(grid, [subject], guidance_scale=guidance_scale)
    data = predicted(folder, backbone)
    with Counted(backbone) as rows:
        assert run(folder, backbone) == rows.total
    # With a caption the inversion's own evaluations show the subject, save at the first step, which it has not.
    assert rows.total - data == (1 if caption else STEPS)
    assert check_against_alone(folder, backbone) == 4


@pytest.mark.parametrize("init", [0.5])
def test_seeds_are_repeats_where_the_start_is_random(create: Create, backbone: UNetBackbone, init: str | float) -> None:
    grid = factorial([parse_axis("final=4,10"), parse_axis("sources=source,source+self")], {"start": 1}, STEPS)
    folder = create(grid, init=init, seeds=2)
    run(folder, backbone)
    assert check_against_alone(folder, backbone, every=3) > 4
    pictures = {o.cast.seed: folder.picture(o.key).tobytes() for o in orders_of(folder.recipe(), subject_of(folder))}
    assert len(set(pictures.values())) == 2


def test_where_memory_does_not_suffice_the_batch_halves_and_goes_on(create: Create, backbone: UNetBackbone) -> None:
    grid = factorial([parse_axis("final=4:11:1"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)
    whole, cut = create(grid, name="whole"), create(grid, name="cut")
    run(whole, backbone)
    with Counted(backbone, most=7) as rows:
        run(cut, backbone)
    assert max(rows.calls) <= 7
    for order in orders_of(whole.recipe(), subject_of(whole)):
        assert_same_picture(backbone, cut.latent(order.key), whole.latent(order.key))
    none = create(grid, name="none")
    with Counted(backbone, most=1):
        assert run_study(none, ExecutionConfig(none.path), backbone=backbone).failed == 1
    assert "not suffice for a single picture" in none.failures()[0]["reason"]


def test_calls_stay_as_short_as_checkpoints_ask(
    create: Create, backbone: UNetBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = factorial([parse_axis("final=4:11:1"), parse_axis("layers=encoder,decoder")], {"start": 1}, STEPS)
    clock = [0.0]

    def take_time(module: object, args: tuple[torch.Tensor, ...]) -> None:
        clock[0] += 10.0 * len(args[0])

    monkeypatch.setattr(lockstep, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    folder = create(grid)
    handle = backbone.denoiser.register_forward_pre_hook(take_time)
    try:
        with Counted(backbone) as rows:
            run(folder, backbone)
    finally:
        handle.remove()
    assert max(rows.calls) == 6  # of ten seconds each, in a minute
    assert all(folder.is_finished(order.key) for order in orders_of(folder.recipe(), subject_of(folder)))


def test_other_errors_of_the_denoiser_are_not_taken_for_memory(create: Create, backbone: UNetBackbone) -> None:
    def fail(module: object, args: object) -> None:
        raise RuntimeError("a bug")

    folder = create(factorial([parse_axis("final=4,10")], {"start": 1}, STEPS))
    handle = backbone.denoiser.register_forward_pre_hook(fail)
    try:
        assert run_study(folder, ExecutionConfig(folder.path), backbone=backbone).failed == 1
    finally:
        handle.remove()
    (failure,) = folder.failures()
    assert (failure["kind"], failure["reason"], failure["tries"]) == ("RuntimeError", "a bug", 2)


def test_each_value_of_each_axis_changes_the_picture(create: Create, backbone: UNetBackbone, rex: StudySubject) -> None:
    base: dict[str, Value] = {"start": 1, "layers": "all", "maps": "encoder", "threshold": 0.3}
    with_self: dict[str, Value] = {"sources": "self,source"}
    axes: list[tuple[Axis, dict[str, Value]]] = [
        (parse_axis(words), beside)
        for words, beside in (
            ("start=1,3", {}),
            ("final=5,10", {}),
            ("skip=none,2", {}),
            ("stride=none,2", {}),
            ("layers=all,encoder,decoder", {}),
            ("sources=source,source+self", {}),
            ("mode=separate,subject,weigh", with_self),
            ("maps=none,encoder,decoder", {}),
            ("map_start=0,3", {"start": 4}),
            ("map_final=none,2", {}),
            ("threshold=0.3,0.7,otsu", {}),
            ("weight=1,3", {"mode": "weigh", **with_self}),
            ("dropout=0,0.5", {"mode": "subject", **with_self}),
            ("consistency=none,0.01", {"mode": "match", **with_self}),
        )
    ]
    assert {axis.field for axis, _ in axes} == set(BASE)
    variants = [
        Variant(f"{axis.field} {value}", {}, make_rules({**base, **beside, axis.field: value}, STEPS))
        for axis, beside in axes
        for value in axis.values
    ]
    folder = create(Grid(tuple(variants), ()), [replace(rex, prompts=rex.prompts[:1])])
    run(folder, backbone)
    seen = {o.variant.name: folder.picture(o.key).tobytes() for o in orders_of(folder.recipe(), subject_of(folder))}
    for axis, _ in axes:
        assert len({seen[f"{axis.field} {value}"] for value in axis.values}) == len(axis.values), axis.field


def test_all_photos_can_be_read_together_or_one_after_another(
    create: Create, backbone: UNetBackbone, rex: StudySubject
) -> None:
    photo = rex.references[0]
    two = StudySubject("rex", rex.prompts[:1], (photo, photo.rotate(90), photo.copy()), "dog")  # one of them twice
    grid = factorial([parse_axis("final=4,10")], {"start": 1}, STEPS)
    each = create(grid, [two], "each", photos="each")
    run(each, backbone)
    assert check_against_alone(each, backbone) == 4
    together = create(grid, [two], "together", photos="together")
    run(together, backbone)
    order = next(orders_of(together.recipe(), subject_of(together)))
    out = sc.Model(backbone).render(
        sc.Subject(subject_of(together).references, "dog"),
        [order.cast.prompt],
        rules=order.variant.rules,
        settings=together.recipe().settings,
    )
    difference = np.abs(np.asarray(out.renders[0].image, int) - np.asarray(together.picture(order.key), int))
    assert difference.max() <= 1
