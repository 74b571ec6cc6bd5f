"""The levels of a detector's pyramid under a box: against torchvision's own rule, and against sums by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from own_page import Page, opened, operators_folder, texts
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops.poolers import LevelMapper

from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.results import pyramid

NET = """
    import torch
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.faster_rcnn import FasterRCNN

    def make():
        torch.manual_seed(1)
        backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
        return FasterRCNN(
            backbone, 3, min_size=96, max_size=128, rpn_post_nms_top_n_test=20, box_score_thresh=0.05,
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        ).eval(), {"input_size": 96, "resize": "none", "mean": 0.0, "std": 1.0}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("ladder")
    with operators_folder(folder, ladder_net=NET), opened(folder, "ladder_net:make") as made:
        yield made


STRIDES = [4.0, 8.0, 16.0, 32.0]


def test_the_level_is_the_one_that_torchvision_takes_the_box_from() -> None:
    mapper = LevelMapper(2, 5)
    generator = np.random.default_rng(0)
    for _ in range(500):
        left, top = generator.uniform(0, 400, 2)
        box = [left, top, left + generator.uniform(1, 600), top + generator.uniform(1, 600)]
        (right,) = mapper([torch.tensor([box], dtype=torch.float64)]).tolist()
        assert pyramid.assigned(box, STRIDES) == right
    for edge in (112, 224, 448, 896):  # exactly on the step
        (right,) = mapper([torch.tensor([[0.0, 0.0, edge, edge]])]).tolist()
        assert pyramid.assigned([0, 0, edge, edge], STRIDES) == right


def test_inside_over_outside() -> None:
    maps = np.zeros((2, 4, 8))
    maps[:, 1:3, 2:4] = [[[3.0]], [[-1.0]]]
    found = pyramid.rung(maps, (20, 10, 40, 30), (40, 80))
    assert (found.stride, found.inside, found.outside) == (10, 2, 0) and np.isnan(found.contrast)
    found = pyramid.rung(maps, (20, 10, 60, 30), (40, 80))
    assert (found.inside, found.outside) == (1, 0)
    found = pyramid.rung(maps + 1, (0, 0, 20, 40), (40, 80))
    assert found.inside == 1 and found.outside == pytest.approx((20 * 1 + 4 * (4 + 0) / 2) / 24) and found.contrast < 1
    tiny = pyramid.rung(maps, (26, 16, 28, 18), (40, 80))  # no position's centre lies in it
    assert tiny.inside == 2 and tiny.outside == pytest.approx(6 / 31)


def test_the_levels_are_found_by_name_and_shape(page: Page) -> None:
    info = page.engine.info("ladder_net:make")
    assert info is not None
    assert pyramid.levels(info.layers) == tuple(f"backbone.fpn.layer_blocks.{index}" for index in range(4))
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3)).eval()
    assert len(pyramid.levels(describe(plain, torch.rand(1, 3, 16, 16)))) == 0


def test_the_page_shows_every_level_with_its_contrast(page: Page) -> None:
    closed = texts(page.shows()["ladder"])
    assert "Levels of the pyramid" in closed and "stride" not in closed
    shown = page.shows(ladder=True, target="box:1")["ladder"]
    assert "ladder=1" in page.query and not shown["hidden"]
    captions = re.findall(
        r"(?<!Level of )stride (\d+), (\d+) × (\d+): inside (?:× ([0-9.]+)|—)( span badge note assigned)?", texts(shown)
    )
    net: FasterRCNN = page.net("ladder_net:make")  # type: ignore[assignment]
    picture = (page.tensor + 1) / 2
    kept: dict[int, torch.Tensor] = {}
    for index in range(4):
        block = net.backbone.fpn.layer_blocks[index]
        block.register_forward_hook(lambda module, args, output, index=index: kept.update({index: output}))
    with torch.no_grad():
        found = detections(net(picture))
    assert found is not None
    box = found.boxes[1] * 8  # 12 pixels become 96
    assert len(captions) == 4
    (taken,) = LevelMapper(2, 5)([torch.from_numpy(box)[None]]).tolist()
    for index, (stride, rows, columns, contrast, assigned) in enumerate(captions):
        values = kept[index][0].abs().mean(0).double()
        side = values.shape[0]
        step = 96 / side
        assert (float(stride), int(rows), int(columns)) == (step, side, side)
        centres = (torch.arange(side) + 0.5) * step
        inside = ((centres >= box[1]) & (centres < box[3]))[:, None] & ((centres >= box[0]) & (centres < box[2]))
        if not inside.any():
            row, column = int((box[1] + box[3]) / 2 // step), int((box[0] + box[2]) / 2 // step)
            inside[min(row, side - 1), min(column, side - 1)] = True
        right = float(values[inside].mean() / values[~inside].mean())
        assert float(contrast) == pytest.approx(right, rel=2e-3)
        assert bool(assigned) == (index == taken)
