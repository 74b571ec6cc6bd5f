"""Detections: the boxes in an output, read by hand, and what counts as a detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from hookscope.hooks.layers.describe import describe, recorded
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.results.looks import Detections
from hookscope.hooks.results.outputs import BOXES, find_reading


def output(**changed: Tensor) -> list[dict[str, Tensor]]:
    parts = {
        "boxes": torch.tensor([[0.5, 1.0, 2.5, 3.0], [4.0, 5.0, 6.0, 7.0]], requires_grad=True),
        "labels": torch.tensor([7, 4]),
        "scores": torch.tensor([0.75, 0.5], dtype=torch.float16),
    }
    return [parts | changed]


def test_the_boxes_of_the_first_image():
    found = detections([*output(), *output(scores=torch.zeros(2))])
    assert found.boxes.tolist() == [[0.5, 1, 2.5, 3], [4, 5, 6, 7]] and found.boxes.dtype == np.float32
    assert found.labels.tolist() == [7, 4] and found.labels.dtype == np.int64
    assert found.scores.tolist() == [0.75, 0.5] and found.scores.dtype == np.float32


def test_no_box_is_an_answer_too():
    found = detections(output(boxes=torch.empty(0, 4), labels=torch.empty(0).long(), scores=torch.empty(0)))
    assert found.boxes.shape == (0, 4) and found.best(7) == -1


@pytest.mark.parametrize(
    "other", [torch.zeros(1, 3), [], [torch.zeros(3)], {"out": torch.zeros(1)}, [{"boxes": torch.zeros(1, 4)}]]
)
def test_what_is_no_detection(other):
    assert detections(other) is None


def test_the_best_box_of_a_class_is_not_always_its_first():
    found = Detections(np.zeros((4, 4), np.float32), np.array([4, 7, 4, 4]), np.array([0.2, 0.9, 0.8, 0.8], np.float32))
    assert [found.best(label) for label in (4, 7, 1)] == [2, 1, -1]


class Reads(nn.Module):
    """Answers whatever it was made with."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        (output(), True),
        ([{"scores": torch.ones(1), "labels": torch.ones(1), "boxes": torch.ones(1, 4)}], True),
        ([{"pred_logits": torch.ones(1, 2)}], False),
        ({"boxes": torch.ones(1, 4)}, False),
        (torch.ones(1, 4), False),
    ],
)
def test_a_detector_is_known_by_its_recorded_answer(answer, yes):
    outputs = recorded(Reads(answer), torch.zeros(1, 3, 4, 4)).outputs
    assert (find_reading(outputs).reading.output in BOXES) is yes


def test_the_recorded_run_says_where_the_first_tensor_stood():
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    layers = {layer.name: layer for layer in describe(model, torch.rand(1, 3, 64, 64))}
    assert layers[""].calls[0].path == "out" and layers["backbone.0"].calls[0].path == ""


def test_regions_of_one_image_are_no_images():
    """roi_align gives (region, channel, height, width): maps of many regions are not the maps of as many images."""
    model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    layers = describe(model.eval(), torch.rand(1, 3, 64, 64))
    pooled = [layer for layer in layers if layer.operation and layer.type == "roi_align"]
    assert pooled and all(layer.calls[0].axes[0] == "axis" for layer in pooled if layer.calls[0].shape[0] != 1)
