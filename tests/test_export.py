"""The exported picture holds the wall's pixels and the words that explain it."""

import io

import numpy as np
from PIL import Image

from hookscope.dashboard.drawing.palettes import DIFFERENCE, PALETTES
from hookscope.dashboard.drawing.pictures import sprite
from hookscope.dashboard.drawing.scales import difference_scale, layer_scale
from hookscope.dashboard.drawing.wall_export import MAX_SIDE, ExportPanel, wall_png

MAPS = np.array([[[0, 2], [4, 8]], [[8, 8], [0, 4]]], np.float32)


def panel(label="A: coffee.png", palette=PALETTES["viridis"], scale=None):
    scale = scale or layer_scale(MAPS)
    return ExportPanel(label, sprite(MAPS, np.array([1, 0]), 2, scale, palette), scale, palette)


def drawn(*panels, title="layer", lines=()):
    return np.asarray(
        Image.open(io.BytesIO(wall_png(panels, title, lines, columns=2, rows=2, cell_px=8))).convert("RGB")
    )


def find(picture, colour):
    return np.argwhere((picture == colour).all(axis=2))


def test_cells_are_enlarged_with_hard_edges_and_gaps():
    picture = drawn(panel())
    yellow = PALETTES["viridis"].table[252]
    top, left = 84, 24 + 8 + 1  # below the title and the label; one cell and a gap from the left
    assert (picture[top : top + 4, left : left + 8] == yellow).all()
    assert (picture[top, left - 1] == 255).all() and (picture[top, left + 8] == 255).all(), "gaps"
    assert picture[top + 4, left].tolist() == PALETTES["viridis"].table[0].tolist()
    assert (picture[top + 9 : top + 17, left : left + 8] == 255).all(), "no cell, white paper"


def test_panels_stand_side_by_side_with_their_own_bars():
    one = drawn(panel())
    three = drawn(panel(), panel("B"), panel("B − A", DIFFERENCE, difference_scale(MAPS)))
    assert three.shape[0] == one.shape[0]
    assert three.shape[1] > one.shape[1]
    bar = find(three, DIFFERENCE.table[0])
    assert len(bar), "the difference's bar starts with its own first colour"


def test_the_words_are_on_it():
    plain = drawn(panel())
    marked = drawn(panel(), lines=["random weights"])
    assert marked.shape[0] == plain.shape[0] + 20
    assert (marked[54:72] < 200).any()


def test_any_file_name_can_be_drawn():
    assert drawn(panel("A: 写真 × − \n.png"), title="a" * 400).shape[1] > 1000


def test_a_title_of_any_length_leaves_a_picture_that_opens():
    """100,000 letters in one line were a megapixel of width, and 1.8 GB in the server."""
    word = "w" * 100_000
    picture = drawn(panel(f"A: {word}"), title=word, lines=[word])
    assert picture.shape[1] < MAX_SIDE and picture.shape[0] == drawn(panel(), lines=["one"]).shape[0]
