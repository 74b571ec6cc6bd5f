"""The regions of a segmenter's classes: where they are, how they are drawn, and what of them is said."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hookscope.dashboard.drawing.region_pictures import colour_of, regions_png, runs
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.outputs import MOST_CELLS, Reading


class Given(nn.Module):
    """Answers what it was told, whatever the picture; a sum keeps it in the graph."""

    def __init__(self, answer: torch.Tensor, last: nn.Module | None = None) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)
        self.last = last or nn.Identity()

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.answer + 0 * picture.sum())
        return found


def regions(answer: torch.Tensor, reads: str, last: nn.Module | None = None) -> np.ndarray:
    with looking(reading=Reading(reads=reads)):
        return predict(Given(answer, last).eval(), torch.rand(1, 3, 8, 8)).regions


LOGITS = torch.tensor([[[3.0, -1, -1], [2, 1, 0.01]], [[0.5, -0.5, 4], [-1, 0, 0.02]]])[None]  # (1, 2, 2, 3)


def test_each_position_has_its_class_by_the_reading() -> None:
    assert regions(LOGITS, "softmax").tolist() == [[0, 1, 1], [0, 0, 1]]
    # layers: class 0 at four positions, class 1 at three, which lies on top where both are; at one there is neither
    assert regions(LOGITS, "sigmoid").tolist() == [[1, -1, 1], [0, 0, 1]]
    assert regions(LOGITS[:, :1], "sigmoid").tolist() == [[0, -1, -1], [0, 0, 0]]
    assert regions(LOGITS[:, :1], "probabilities", nn.Sigmoid()).tolist() == [[0, -1, -1], [0, 0, 0]]
    assert regions(LOGITS, "probabilities", nn.Softmax(1)).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert regions(LOGITS, "values").size == 0 and regions(torch.rand(1, 4), "softmax").size == 0


def test_the_threshold_is_one_half_and_zero_and_what_lies_on_it_is_outside() -> None:
    logits = torch.tensor([-1e-6, 0.0, 1e-6]).reshape(1, 1, 1, 3)
    assert regions(logits, "sigmoid").tolist() == [[-1, -1, 0]]
    shares = torch.tensor([0.499, 0.5, 0.501]).reshape(1, 1, 1, 3)
    assert regions(shares, "probabilities").tolist() == [[-1, -1, 0]]


def test_a_large_answer_is_drawn_from_some_of_its_positions() -> None:
    rows, columns = torch.meshgrid(torch.arange(400), torch.arange(100), indexing="ij")
    halves = torch.stack([(columns < 50).float(), (columns >= 50) * (rows < 300) * 1.0, (rows >= 300) * 2.0])[None]
    found = regions(halves, "softmax")
    assert found.shape == (MOST_CELLS, 100) and found.dtype == np.int16
    assert (found[:120, :50] == 0).all() and (found[:120, 50:] == 1).all() and (found[120:] == 2).all()


def test_regions_are_drawn_in_the_colours_of_their_classes() -> None:
    found = np.array([[0, 0, 0, 4], [0, 0, 0, -1]], np.int16)
    picture = np.asarray(Image.open(io.BytesIO(regions_png(found, None))))
    assert picture.shape == (2, 4, 4)
    assert tuple(picture[0, 0, :3]) == colour_of(0) and tuple(picture[0, 3, :3]) == colour_of(4)
    assert picture[1, 3, 3] == 0 < picture[0, 0, 3] < picture[0, 3, 3]  # the edge of a region stands out
    chosen = np.asarray(Image.open(io.BytesIO(regions_png(found, 0))))
    assert chosen[0, 0, 3] > picture[0, 0, 3] and chosen[0, 3, 3] < picture[0, 3, 3]
    assert not np.asarray(Image.open(io.BytesIO(regions_png(found, None, (0, 4))))).any()
    assert len({colour_of(index) for index in range(150)}) == 150


@pytest.mark.parametrize(
    ("found", "text"),
    [([[0, 0, 2], [2, -1, -1]], "0:2,2:2,-1:2"), ([[7]], "7:1"), (np.empty((0, 0), np.int16), "")],
)
def test_runs_are_what_the_browser_reads(found: object, text: str) -> None:
    assert runs(np.array(found, np.int16)) == text
