"""Plots say who is who, as far as markers go."""

import pytest

from samecast.report.plots import Cloud, scatter


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
