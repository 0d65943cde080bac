"""Views of photos: what they show, which cells count, and what is said of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from samecast.learn.captions import WORDINGS, say
from samecast.learn.views import LARGEST, SMALLEST, View, draw_view, in_words, show, valid_cells

SIZE, CELLS = 64, 16
WHITE = Image.new("RGB", (SIZE, SIZE), "white")


def drawn(count: int = 200) -> list[View]:
    return [draw_view(np.random.default_rng(seed), augment=True, mirrored=seed % 2 == 1) for seed in range(count)]


def test_valid_cells_show_nothing_but_the_photo() -> None:
    for view in drawn():
        pixels = torch.from_numpy(np.asarray(show(WHITE, view)).min(axis=-1).copy())
        cells = pixels.reshape(CELLS, SIZE // CELLS, CELLS, SIZE // CELLS).amin((1, 3))
        valid = valid_cells(SIZE, CELLS, view)
        assert valid.any()
        assert (cells[valid] == 255).all()


def test_all_cells_count_where_all_is_photo() -> None:
    for view in (View(), View(scale=1.3, left=0.2), View(mirrored=True)):
        assert valid_cells(SIZE, CELLS, view).all()
        assert np.asarray(show(WHITE, view)).min() == 255


def test_the_photo_has_the_size_of_the_view() -> None:
    for view in drawn(60):
        if view.scale < 1:
            seen = np.asarray(show(WHITE, view)).max(axis=-1) > 127
            assert abs(seen.any(axis=0).sum() - SIZE * view.scale) <= 1
            assert abs(seen.any(axis=1).sum() - SIZE * view.scale) <= 1


def test_words_say_the_size() -> None:
    for view in drawn():
        assert SMALLEST <= view.scale <= LARGEST
        assert ("far" in view.words or "small" in view.words) == (view.scale < 0.6)
        assert ("zoom" in view.words or "close" in view.words) == (view.scale > 1.1)
    kinds = [np.sign(view.scale - 1) for view in drawn(600)]
    for kind in (-1, 0, 1):
        assert kinds.count(kind) == pytest.approx(200, abs=50)


def test_mirrored_is_mirrored() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    assert (np.asarray(show(photo, View(mirrored=True))) == np.asarray(photo)[:, ::-1]).all()
    assert show(photo, View()) is photo


def test_captions_keep_the_subject() -> None:
    assert in_words("a photo of a <new1> dog", View(words="a far away")) == "a far away photo of a <new1> dog"
    assert in_words("photo of a <new1> dog", View(words="a far away")) == "a far away photo of a <new1> dog"
    said = {say("photo of a <new1> dog", number) for number in range(len(WORDINGS))}
    assert len(said) == len(WORDINGS)
    assert all("a <new1> dog" in text for text in said)
    assert say("A Photo of a <Rex> dog", 1) == "a picture of a <Rex> dog"
    assert {say("<new1> in a box", number) for number in range(len(WORDINGS))} == {"<new1> in a box"}
