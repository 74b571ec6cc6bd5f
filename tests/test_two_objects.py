"""A detector trained here on handwritten digits: a box's map lies on its own object, not on the other of its class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_iou, nms

from hookscope.hooks.errors import HooksError, TargetNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.looks.targets import score_of
from hookscope.hooks.results.looks import GradCam
from hookscope.hooks.results.targets import Box

SIDE, CELL, DIGIT = 64, 4, 16
DIGITS = functional.interpolate(torch.from_numpy(load_digits().images).float()[:, None] / 16, size=(DIGIT, DIGIT))
TRAINED = 1500  # the others are for the test


class Finder(nn.Module):
    """A detector of digits: per cell of 4 x 4 pixels a score and the four distances to the sides of its box."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()),
        )
        self.head = nn.Conv2d(32, 5, 1)

    def raw(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(pictures))
        return found

    def forward(self, pictures: Tensor) -> list[dict[str, Tensor]]:
        (raw,) = self.raw(pictures)
        scores, distances = raw[0].sigmoid().flatten(), raw[1:].exp().flatten(1)
        rows, columns = torch.meshgrid(*[torch.arange(length) for length in raw.shape[1:]], indexing="ij")
        x, y = (columns.flatten() + 0.5) * CELL, (rows.flatten() + 0.5) * CELL
        boxes = torch.stack([x - distances[0], y - distances[1], x + distances[2], y + distances[3]], 1)
        kept = (scores > 0.3).nonzero()[:, 0]
        kept = kept[nms(boxes[kept].detach(), scores[kept].detach(), 0.3)]
        return [{"boxes": boxes[kept], "labels": torch.ones(len(kept), dtype=torch.int64), "scores": scores[kept]}]


def scene(generator: np.random.Generator, digits: Tensor) -> tuple[Tensor, Tensor]:
    """Two digits, one in the left half and one in the right: (1, height, width), and their boxes."""
    picture, boxes = torch.zeros(1, SIDE, SIDE), []
    for half in (0, 1):
        left = half * SIDE // 2 + int(generator.integers(0, SIDE // 2 - DIGIT))
        top = int(generator.integers(0, SIDE - DIGIT))
        picture[:, top : top + DIGIT, left : left + DIGIT] = digits[int(generator.integers(len(digits)))]
        boxes.append([left, top, left + DIGIT, top + DIGIT])
    return picture, torch.tensor(boxes, dtype=torch.float32)


@pytest.fixture(scope="module")
def finder() -> Finder:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    model = Finder()
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(350):
        scenes = [scene(generator, DIGITS[:TRAINED]) for _ in range(16)]
        raw = model.raw(torch.stack([picture for picture, _ in scenes]))
        wanted = torch.zeros_like(raw[:, 0])
        distance = torch.zeros(())
        for index, (_, boxes) in enumerate(scenes):
            for left, top, right, bottom in boxes.tolist():
                row, column = int((top + bottom) / 2 // CELL), int((left + right) / 2 // CELL)
                wanted[index, row, column] = 1
                x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
                right_ones = torch.tensor([x - left, y - top, right - x, bottom - y])
                distance = distance + (raw[index, 1:, row, column] - right_ones.log()).abs().sum()
        weight = torch.tensor(20.0)
        loss = functional.binary_cross_entropy_with_logits(raw[:, 0], wanted, pos_weight=weight) + distance / 64
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def share_inside(values: np.ndarray, box: np.ndarray, wider: float) -> float:
    """Of a map's mass, what lies in a box that is this much wider and higher."""
    left, top, right, bottom = box
    dx, dy = (right - left) * wider / 2, (bottom - top) * wider / 2
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]]
    x, y = (columns + 0.5) * SIDE / values.shape[1], (rows + 0.5) * SIDE / values.shape[0]
    inside = (x >= left - dx) & (x <= right + dx) & (y >= top - dy) & (y <= bottom + dy)
    mass = values.clip(min=0)
    return float(mass[inside].sum() / mass.sum())


def map_of(model: nn.Module, picture: Tensor, layer: str, target: Any, method: str) -> GradCam:
    ((*_, found),) = grad_cam(model, picture, [(layer, 0)], target, describe(model, picture), method=method)
    assert isinstance(found, GradCam)
    return found


@pytest.mark.parametrize("layer", ["body.5", "body.7"])
def test_each_boxs_map_lies_on_its_own_object(layer: str, finder: Finder) -> None:
    generator = np.random.default_rng(7)
    shares, of_class = [], []
    for _ in range(8):
        picture, right = scene(generator, DIGITS[TRAINED:])
        found = detections(finder(picture[None]))
        assert found is not None and len(found.scores) >= 2
        overlap = box_iou(torch.from_numpy(found.boxes), right)
        for index in overlap.argmax(0).tolist():
            assert overlap[index].max() > 0.3
            cam = map_of(finder, picture[None], layer, Box(index), "layercam")
            assert cam.logit == pytest.approx(float(found.scores[index]), abs=1e-6)  # the score that is printed
            shares.append(share_inside(cam.values, found.boxes[index], 0.25))
        both = map_of(finder, picture[None], layer, lambda output: output[0]["scores"][:2].sum(), "layercam")
        of_class.append(share_inside(both.values, found.boxes[0], 0.25))
    print(f"least {min(shares):.3f}; of both at once {max(of_class):.3f}")
    assert len(shares) == 16 and min(shares) >= 0.9
    assert max(of_class) < 0.9  # a map of the class lies on both: the measure tells them apart


@pytest.mark.parametrize("part", ["left", "top", "right", "bottom"])
def test_a_side_of_a_box_is_a_target(part: Any, finder: Finder) -> None:
    picture, _ = scene(np.random.default_rng(7), DIGITS[TRAINED:])
    place = ["left", "top", "right", "bottom"].index(part)
    kept: list[Tensor] = []
    handle = finder.body[5].register_forward_hook(lambda *each: kept.append(each[2]))
    edge = finder(picture[None])[0]["boxes"][1, place]
    handle.remove()
    (slope,) = torch.autograd.grad(edge, kept[0])
    cam = map_of(finder, picture[None], "body.5", Box(1, part), "layercam")
    assert cam.logit == pytest.approx(float(edge.detach()))
    right = (slope.clamp(min=0) * kept[0])[0].sum(0).detach().numpy()
    np.testing.assert_allclose(cam.values, right, atol=1e-5)
    with pytest.raises(TargetNotFound, match="There is no box 90"):
        score_of(finder(picture[None]), Box(90, part))
    with pytest.raises(HooksError):
        score_of(torch.zeros(1, 3), Box(0, part))
