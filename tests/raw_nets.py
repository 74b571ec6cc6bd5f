"""Small stand-ins for YOLO's inner modules: a number of boxes for every cell of strides 8, 16 and 32, all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Raw(nn.Module):
    """Rows of a box (middle, width, height) and scores by sigmoid, of every cell; random ones.

    Arguments:
        per_cell: boxes of each cell. objectness: whether one stands before the scores of classes.
    """

    def __init__(self, classes: int = 3, per_cell: int = 1, objectness: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.numbers, self.per_cell = 4 + objectness + classes, per_cell
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU())
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU()) for _ in range(2))
        self.heads = nn.ModuleList(nn.Conv2d(16, per_cell * self.numbers, 1) for _ in range(3))

    def maps(self, picture: Tensor) -> list[Tensor]:
        found = [self.stem(picture)]
        for step in self.down:
            found.append(step(found[-1]))
        raw = [head(each) for head, each in zip(self.heads, found, strict=True)]
        return [2 * (each - each.mean((2, 3), True)) / each.std((2, 3), keepdim=True) - 1 for each in raw]

    def rows(self, maps: list[Tensor]) -> Tensor:
        """(image, box, number)."""
        found = []
        for stride, each in zip((8, 16, 32), maps, strict=True):
            height, width = each.shape[2:]
            cells = each.view(-1, self.per_cell, self.numbers, height, width).permute(0, 1, 3, 4, 2)
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            middle = (torch.stack([x, y], -1) + 0.5 + cells[..., :2].tanh()) * stride
            size = cells[..., 2:4].sigmoid() * 4 * stride
            found.append(torch.cat([middle, size, cells[..., 4:].sigmoid()], -1).flatten(1, 3))
        return torch.cat(found, 1)

    def forward(self, picture: Tensor) -> Any:
        return self.rows(self.maps(picture))


class Ultralytics(Raw):
    """As the inner modules of Ultralytics answer in eval mode: (predictions, feature maps)."""

    def forward(self, picture: Tensor) -> Any:
        maps = self.maps(picture)
        return self.rows(maps).mT, maps


class Cut(Raw):
    """One row too few to be recognised."""

    def forward(self, picture: Tensor) -> Any:
        return {"preds": super().forward(picture)[:, :-1].mT}


def yolov8() -> Any:
    return Ultralytics().eval(), {"input_size": 64}


def yolov5() -> Any:
    return Raw(per_cell=3, objectness=True).eval(), {"input_size": (64, 96)}


def cut() -> Any:
    return Cut().eval(), {"input_size": 64}
