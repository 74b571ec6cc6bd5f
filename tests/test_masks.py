"""Masks and keypoints of detectors: where they lie, and the maps that explain them, by torch on a split network."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_detecting import answer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, Prepared, load
from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.looks.outputs import answer as answered
from hookscope.hooks.looks.targets import score_of
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.codec import decode, encode
from hookscope.hooks.results.looks import Detections, GradCam, LayerInfo, Masks, Prediction
from hookscope.hooks.results.targets import Box

LAYER = "backbone.body.16.0"


def small(kind: Any, **more: Any) -> nn.Module:
    """Mask R-CNN or Keypoint R-CNN of torchvision on a small backbone, with few boxes of small pictures."""
    torch.manual_seed(0)
    backbone = mobilenet_backbone(backbone_name="mobilenet_v3_large", weights=None, fpn=True)
    anchors = AnchorGenerator(((16, 32, 64),) * 3, ((0.5, 1.0, 2.0),) * 3)
    few = {"rpn_post_nms_top_n_test": 40, "box_score_thresh": 0.01, "box_detections_per_img": 4}
    made: nn.Module = kind(backbone, 3, rpn_anchor_generator=anchors, min_size=96, max_size=128, **few, **more)
    return made.eval()


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedModel]:
    made = types.ModuleType("mask_nets")
    made.make = lambda: (small(MaskRCNN), {"mean": [0, 0, 0], "std": [1, 1, 1]})  # type: ignore[attr-defined]
    sys.modules["mask_nets"] = made
    yield load(ModelOptions("mask_nets:make"), "cpu")
    del sys.modules["mask_nets"]


@pytest.fixture(scope="module")
def masker(loaded: LoadedModel) -> nn.Module:
    return loaded.module


@pytest.fixture(scope="module")
def pointer() -> nn.Module:
    heads = {"keypoint_head": KeypointRCNNHeads(256, (32, 32)), "keypoint_predictor": KeypointRCNNPredictor(32, 5)}
    return small(KeypointRCNN, num_keypoints=None, **heads)


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return torch.rand(1, 3, 70, 90, generator=torch.Generator().manual_seed(3))


def split(model: nn.Module, picture: Tensor) -> tuple[Tensor, list[Tensor], dict[str, Any], Any, dict[str, Tensor]]:
    """A detector of two stages run by hand up to its boxes: the layer's value, and what the last heads are given."""
    kept: list[Tensor] = []
    handle = model.get_submodule(LAYER).register_forward_hook(lambda *each: kept.append(each[2]))
    images, _ = model.transform([picture[0]])
    features = model.backbone(images.tensors)
    handle.remove()
    proposals, _ = model.rpn(images, features)
    heads = model.roi_heads
    pooled = heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
    boxes, scores, labels = heads.postprocess_detections(*heads.box_predictor(pooled), proposals, images.image_sizes)
    return kept[0], boxes, features, images, {"scores": scores[0], "labels": labels[0]}


def layer_cam(number: Tensor, value: Tensor) -> np.ndarray:
    (slope,) = torch.autograd.grad(number, value, retain_graph=True)
    found: np.ndarray = (slope.clamp(min=0) * value)[0].sum(0).detach().numpy()
    return found


def map_of(model: nn.Module, picture: Tensor, target: Box, layers: Sequence[LayerInfo]) -> GradCam:
    ((*_, found),) = grad_cam(model, picture, [(LAYER, 0)], target, layers, method="layercam")
    assert isinstance(found, GradCam)
    return found


def assert_same_map(found: GradCam, number: Tensor, value: Tensor) -> None:
    right = layer_cam(number, value)
    assert found.logit == pytest.approx(float(number.detach()), rel=1e-5)
    assert np.abs(right).max() > 0 and not live_hooks()
    np.testing.assert_allclose(found.values, right, atol=1e-5 * np.abs(right).max())


def test_the_map_of_a_mask_is_that_of_the_mean_of_its_logits(loaded: LoadedModel, picture: Tensor) -> None:
    masker, layers = loaded.module, loaded.info.layers
    value, boxes, features, images, found = split(masker, picture)
    heads = masker.roi_heads
    logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, boxes, images.image_sizes)))
    own = [logits[index, label] for index, label in enumerate(found["labels"].tolist())]
    filled = [index for index, each in enumerate(own) if (each > 0).any()]
    assert len(filled) >= 2
    for index in filled[:2]:
        number = own[index][own[index] > 0].mean()
        cam = map_of(masker, picture, Box(index, "mask"), layers)
        assert cam.target == int(found["labels"][index])
        assert_same_map(cam, number, value)
    of_score = map_of(masker, picture, Box(filled[0]), layers).values
    of_mask = map_of(masker, picture, Box(filled[0], "mask"), layers).values
    assert not np.allclose(of_score / of_score.max(), of_mask / of_mask.max(), atol=0.01)


def test_the_map_of_a_keypoint_is_that_of_its_heatmaps_peak(
    pointer: nn.Module, picture: Tensor, loaded: LoadedModel
) -> None:
    value, boxes, features, images, _ = split(pointer, picture)
    heads = pointer.roi_heads
    maps = heads.keypoint_predictor(heads.keypoint_head(heads.keypoint_roi_pool(features, boxes, images.image_sizes)))
    for index, point in ((0, 3), (1, 0)):
        left, top, right, bottom = boxes[0][index].tolist()
        size = int(np.ceil(max(bottom - top, 1))), int(np.ceil(max(right - left, 1)))
        peak = functional.interpolate(maps[index, point][None, None], size=size, mode="bicubic").max()
        found = map_of(pointer, picture, Box(index, "keypoint", point), loaded.info.layers)  # the same backbone
        assert_same_map(found, peak, value)


def test_masks_and_keypoints_are_torchs_own(masker: nn.Module, pointer: nn.Module, picture: Tensor) -> None:
    with torch.no_grad():
        masked, pointed = masker(picture), pointer(picture)
    found, points = detections(masked), detections(pointed)
    assert found is not None and found.masks is not None and found.keypoints is None
    right = masked[0]["masks"][:, 0].numpy() > 0.5
    assert found.masks.areas.tolist() == right.sum((1, 2)).tolist() and found.masks.areas.max() > 20
    assert points is not None and points.keypoints is not None and points.masks is None
    np.testing.assert_array_equal(points.keypoints.places, pointed[0]["keypoints"][..., :2])
    np.testing.assert_array_equal(points.keypoints.scores, pointed[0]["keypoints_scores"])


def laid(masks: Masks, index: int, height: int, width: int) -> np.ndarray:
    """A mask back on a picture, bool (height, width): each pixel's middle looked up in its grid."""
    grid = masks.of(index)
    left, top, right, bottom = masks.extents[index]
    y, x = np.mgrid[:height, :width] + 0.5
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    rows = ((y - top) / max(bottom - top, 1e-9) * len(grid)).astype(int).clip(0, len(grid) - 1)
    columns = ((x - left) / max(right - left, 1e-9) * len(grid)).astype(int).clip(0, len(grid) - 1)
    return grid[rows, columns] & inside


def three_masks(height: int = 40, width: int = 60) -> Tensor:
    masks = torch.zeros(3, height, width)
    masks[0, 5:25, 7:47] = 0.9
    masks[0, 10:15, 20:30] = 0.4  # a hole
    masks[1, 3, 59] = 0.51
    return masks


def found_in(masks: Tensor, size: tuple[int, int] | None = None) -> Detections:
    count = len(masks)
    parts = {"boxes": torch.zeros(count, 4), "labels": torch.ones(count).long(), "scores": torch.rand(count)}
    found = detections([{**parts, "masks": masks}], size)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [lambda masks: masks, lambda masks: masks[:, None], lambda masks: masks > 0.5])
def test_a_mask_is_kept_on_a_grid_of_its_own(kind: Any) -> None:
    masks = found_in(kind(three_masks())).masks
    assert masks is not None
    assert masks.extents.tolist() == [[7, 5, 47, 25], [59, 3, 60, 4], [0, 0, 0, 0]]
    assert masks.areas.tolist() == [750, 1, 0]
    for index, right in enumerate(three_masks().numpy() > 0.5):
        assert np.array_equal(laid(masks, index, 40, 60), right)
    again = decode(encode(found_in(three_masks())), Detections)
    assert np.array_equal(again.masks.bits, masks.bits) and masks.bits.nbytes == 3 * 2048


def test_a_mask_that_is_smaller_than_its_picture_lies_over_all_of_it() -> None:
    masks = found_in(three_masks(), (80, 180)).masks
    assert masks is not None and masks.extents[0].tolist() == [21, 10, 141, 50] and masks.areas.tolist() == [4500, 6, 0]


@pytest.mark.parametrize("masks", [torch.zeros(3, 2, 4, 4), torch.zeros(2, 4, 4), torch.zeros(3, 4)])
def test_what_is_no_mask_per_box_is_left_out(masks: Tensor) -> None:
    parts = {"boxes": torch.zeros(3, 4), "labels": torch.ones(3).long(), "scores": torch.rand(3)}
    found = detections([{**parts, "masks": masks}])
    assert found is not None and found.masks is None


class Own(nn.Module):
    """A detector of one's own: two boxes, with masks by sigmoid, or by something else."""

    def __init__(self, shares: Any = torch.sigmoid) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, 1, 1)
        self.shares = shares

    def forward(self, picture: Tensor) -> list[dict[str, Tensor]]:
        logits = self.conv(picture)[0] + torch.tensor([0.0, -9.0])[:, None, None]
        masks = self.shares(logits)[:, None]
        boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 8, 8]])
        scores, labels = logits.mean((1, 2)), torch.tensor([1, 2])
        return [{"boxes": boxes, "labels": labels, "scores": scores, "masks": masks}]


def test_the_masks_of_an_own_detector_are_explained_by_what_stood_before_their_sigmoid() -> None:
    torch.manual_seed(0)
    model, picture = Own(), torch.rand(1, 3, 8, 8)
    logits = model.conv(picture)[0, 0].detach()
    assert score_of(answered(model, picture), Box(0, "mask")).value == pytest.approx(float(logits[logits > 0].mean()))


@pytest.mark.parametrize(
    ("model", "target", "sentence"),
    [
        (Own(lambda logits: logits.clamp(0, 1)), Box(0, "mask"), "masks that are not a sigmoid's own value"),
        (Own(), Box(1, "mask"), "The mask of box 1 is empty"),
        (Own(), Box(0, "keypoint", 1), "no scores of keypoints"),
        (Own(), Box(2, "mask"), "There is no box 2"),
    ],
)
def test_what_of_a_box_cannot_be_explained_is_a_sentence(model: nn.Module, target: Box, sentence: str) -> None:
    with pytest.raises(TargetNotFound, match=sentence):
        score_of(answered(model, torch.rand(1, 3, 8, 8)), target)


def test_a_detector_without_masks_or_with_fewer_keypoints_says_so(pointer: nn.Module, picture: Tensor) -> None:
    output = answered(pointer, picture)
    with pytest.raises(TargetNotFound, match="The model gives no masks"):
        score_of(output, Box(0, "mask"))
    with pytest.raises(TargetNotFound, match="There is no keypoint 5: each box has 5, from 0 to 4"):
        score_of(output, Box(0, "keypoint", 5))


# --- behind the page


def test_masks_lie_on_the_original_where_the_picture_was_made_smaller(loaded: LoadedModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    prepared = Prepared(pixels, (10.0, 20.0, 190.0, 160.0), (0.0,) * 3, (1.0,) * 3)
    found = answer(loaded, prepared, "prediction")
    with torch.no_grad():
        (right,) = loaded.module([prepared.tensor[0]])
    assert isinstance(found, Prediction) and found.detections is not None and found.detections.masks is not None
    masks, own = found.detections.masks, right["masks"][:, 0].numpy() > 0.5
    assert masks.areas.tolist() == (4 * own.sum((1, 2))).tolist()
    for index in range(len(own)):
        left, top, _, _ = masks.extents[index]
        if own[index].any():
            assert left == 10 + 2 * own[index].any(0).argmax() and top == 20 + 2 * own[index].any(1).argmax()
    cam = answer(loaded, prepared, "layercam", LAYER, Box(int(masks.areas.argmax()), "mask"))
    assert isinstance(cam, GradCam) and cam.logit > 0
