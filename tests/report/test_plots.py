"""Plots say who is who, as far as markers go."""

import pytest

from samecast.report.plots import Cloud, pairs, scatter


@pytest.mark.parametrize(("subjects", "told"), [(3, True), (15, True), (16, False), (40, False)])
def test_no_two_subjects_share_a_marker_that_the_legend_tells_apart(subjects: int, told: bool) -> None:
    names = [f"subject {number}" for number in range(subjects)]
    points = {value: {name: (0.1 * at, 0.2) for at, name in enumerate(names)} for value in ("20", "30")}
    middle = (0.2, 0.1, 0.3)
    figure = scatter([Cloud("decoder", points, {"20": (middle, middle)})], x="x", y="y", axis="final", bars="bars")
    legend = figure.legends[1]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == (sorted(names) if told else [f"one of {subjects}"])
    markers = [handle.get_marker() for handle in legend.legend_handles]  # type: ignore[union-attr]
    assert len(set(markers)) == len(markers)


def test_only_the_ends_of_a_way_are_labelled_where_nothing_moves() -> None:
    middle = (0.2, 0.1, 0.3)
    values = ("20", "25", "30")
    points = {value: {"rex": (0.2, 0.2)} for value in values}
    figure = scatter(
        [Cloud("encoder", points, dict.fromkeys(values, (middle, middle)))], x="x", y="y", axis="final", bars="bars"
    )
    labels = figure.axes[0].texts
    assert [label.get_text() for label in labels] == ["20", "30"]
    assert labels[0].get_position()[1] > 0 > labels[1].get_position()[1]  # above and below


def test_names_of_subjects_are_not_written_over_each_other() -> None:
    at = {"rex": (0.2, 0.4), "tom": (0.201, 0.402), "ada": (0.3, 0.9)}
    figure = pairs({name: (place, (0.4, 0.5)) for name, place in at.items()}, ("decoder", "encoder"), x="x", y="y")
    assert sorted(label.get_text() for label in figure.axes[0].texts if label.get_text()) == ["ada", "rex\ntom"]
