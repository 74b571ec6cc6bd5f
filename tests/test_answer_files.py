"""A detector's boxes and a segmenter's regions as CSV: every row and digit is torch's own, in pixels of the picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import Page, opened, operators_folder, texts
from PIL import Image

NETS = """
    import torch
    from torch import nn

    SETTINGS = {"input_size": 12, "resize": 12, "mean": 0.5, "std": 0.5, "classes": ["sky", "=sea", "sand"]}

    class Boxes(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, padding=1)

        def forward(self, picture):
            rows = self.conv(picture).flatten(2)[0].T[:25].sigmoid()
            corners = rows[:, :2] * 6
            boxes = torch.cat([corners, corners + rows[:, 2:4] * 6], 1)
            return [{"boxes": boxes, "labels": torch.arange(25) % 4, "scores": rows[:, 4]}]

    class Regions(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, picture):
            return self.conv(picture)

    def filled(net):
        own = torch.Generator().manual_seed(4)  # both are built at the same time
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) / 3)
        return net.eval(), SETTINGS

    def make_boxes():
        return filled(Boxes())

    def make_regions():
        return filled(Regions())
"""
BOXES, REGIONS = "answer_nets:make_boxes", "answer_nets:make_regions"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("answers")
    with operators_folder(folder, answer_nets=NETS), opened(folder, BOXES, REGIONS) as made:
        yield made


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Of a picture twice as wide as high, so that a crop of its middle is what the network sees."""
    return np.random.default_rng(8).integers(0, 256, (12, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def picture(page: Page, pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return str(page.inputs.receive(io.BytesIO(file.getvalue()), None, "wide.png").key)


def saved(page: Page, text: str, **chosen: Any) -> list[dict[str, str]]:
    """The rows of the file behind the link of that text."""
    tree = page.shows(**chosen)["input-a-reading"]["tree"]
    (link,) = [child for _, _, children in tree for child in children if child[0] == "a" and text in texts(child)]
    answer = page.client.get(link[1]["href"])
    assert answer.mimetype == "text/csv" and "wide" in answer.headers["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))


def seen(pixels: np.ndarray) -> torch.Tensor:
    """The middle of the picture, as the network is given it."""
    return torch.from_numpy(pixels[:, 6:18]).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_all_boxes_are_saved_in_pixels_of_the_picture(page: Page, picture: str, pixels: np.ndarray) -> None:
    rows = saved(page, "boxes as CSV", model=BOXES, a=picture)
    with torch.no_grad():
        (found,) = page.net(BOXES)(seen(pixels))
    order = found["scores"].argsort(descending=True, stable=True)
    assert [int(row["box"]) for row in rows] == order.tolist() and len(rows) == 25  # the page lists 20
    corners = [[float(row[f"{name} (px)"]) for name in ("x1", "y1", "x2", "y2")] for row in rows]
    moved = found["boxes"][order] + torch.tensor([6.0, 0, 6, 0])
    np.testing.assert_allclose(corners, moved, atol=1e-4)
    np.testing.assert_allclose([float(row["score"]) for row in rows], found["scores"][order], atol=1e-6)
    assert [int(row["class index"]) for row in rows] == found["labels"][order].tolist()
    names = ["sky", "'=sea", "sand", "class 3"]  # no spreadsheet is to take a name for a formula
    assert [row["class"] for row in rows] == [names[label] for label in found["labels"][order]]


def test_every_region_is_saved_with_its_share_and_area(page: Page, picture: str, pixels: np.ndarray) -> None:
    rows = saved(page, "regions as CSV", model=REGIONS, a=picture)
    with torch.no_grad():
        logits = page.net(REGIONS)(seen(pixels))[0].double()
    ours = logits.argmax(0) == torch.arange(3)[:, None, None]
    sizes = ours.sum((1, 2))
    order = sizes.argsort(descending=True, stable=True)
    assert [int(row["class index"]) for row in rows] == order.tolist() and sizes.unique().numel() == 3
    np.testing.assert_allclose([float(row["share of the positions"]) for row in rows], sizes[order] / 144, atol=1e-7)
    np.testing.assert_allclose([float(row["area (px)"]) for row in rows], sizes[order], rtol=1e-5)
    sums = (logits * ours).sum((1, 2))[order]
    np.testing.assert_allclose([float(row["sum of logits"]) for row in rows], sums, rtol=1e-4)
    assert {row["class"] for row in rows} == {"sky", "'=sea", "sand"}
    as_values = page.shows(model=REGIONS, a=picture, reading="values")["input-a-reading"]
    assert "as CSV" not in texts(as_values)  # which has no regions
