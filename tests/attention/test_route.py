import pytest

from samecast.attention.modes import Align, Read, Reader
from samecast.attention.route import Group, Route, make_route
from samecast.core.batch import Branch, Branches, Place

SOURCE = Branch("source", 0, "")
TARGET = Branch("target", 0, "a dog")
GROUPS = ("unconditional", "conditional")


def test_a_place_without_instruction_reads_itself() -> None:
    layout = Branches((TARGET,), (SOURCE,), 7.5).layout()
    route = make_route(layout, {}, {})
    assert route.reads == ((0,), (1,), (2,))
    assert route.is_plain


def test_a_live_source_is_found_in_the_batch() -> None:
    layout = Branches((TARGET,), (SOURCE,), 7.5).layout()
    route = make_route(layout, {}, {Place(TARGET, group): [Place(SOURCE, group)] for group in GROUPS})
    assert route.reads == ((2,), (2,), (2,))


def test_a_kept_source_follows_the_batch_in_the_pool() -> None:
    layout = Branches((TARGET,), (SOURCE,), 7.5).layout(sources=())
    kept = {Place(SOURCE, "unconditional"): 0, Place(SOURCE, "conditional"): 1}
    reads = {Place(TARGET, group): [Place(SOURCE, group), Place(TARGET, group)] for group in GROUPS}
    assert make_route(layout, kept, reads).reads == ((2, 0), (3, 1))


def test_a_row_is_read_once_where_source_and_target_are_one() -> None:
    layout = Branches((TARGET,), (SOURCE,), 7.5).layout(same_latent=True)
    reads = {Place(TARGET, group): [Place(SOURCE, group), Place(TARGET, group)] for group in GROUPS}
    assert make_route(layout, {}, reads).reads == ((0,), (0, 1))


def test_rows_of_one_mode_that_read_equally_many_are_grouped() -> None:
    align = Align()
    route = Route(((4,), (4, 1), (0,), (4, 3), (4, 0)), {4: Reader(align, (False, False))})
    assert route.groups == (
        Group(Read(), (0, 2), ((4,), (0,))),
        Group(Read(), (1, 3), ((4, 1), (4, 3))),
        Group(align, (4,), ((4, 0),)),
    )


def test_reading_an_absent_place_is_an_error() -> None:
    layout = Branches((TARGET,), (SOURCE,), 7.5).layout(sources=())
    with pytest.raises(KeyError):
        make_route(layout, {}, {Place(TARGET, "conditional"): [Place(SOURCE, "conditional")]})
