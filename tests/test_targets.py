"""Targets: the number that each kind means, worked out by hand, and the sentence where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from hookscope.hooks.errors import HooksError, NoGradient, TargetNotFound
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.targets import NO_CLASS, Box, Mask, per_image, score_of


def graph(values: object) -> Tensor:
    return torch.tensor(values, requires_grad=True)


LOGITS = [[1.0, 4.0, 2.0]]
# logits of two classes at 2 x 2 pixels; class 0 wins at the first, class 1 at the other three
PIXELS = [[[[9.0, 1.0], [2.0, 3.0]], [[0.0, 5.0], [6.0, 7.0]]]]
DETECTION = {"boxes": [[0.0, 0.0, 1.0, 1.0]] * 3, "labels": [4, 7, 4], "scores": [0.9, 0.8, 0.95]}


def detection(**changed: object) -> list[dict[str, Tensor]]:
    given = {**DETECTION, **changed}
    return [{"boxes": graph(given["boxes"]), "labels": torch.tensor(given["labels"]), "scores": graph(given["scores"])}]


@pytest.mark.parametrize("target, index, value", [(None, 1, 4), (-1, 1, 4), (0, 0, 1), (2, 2, 2)])
def test_a_class_is_its_logit_and_not_its_share(target, index, value):
    two = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    outputs = ((graph(LOGITS), two), (graph(LOGITS[0]), two), ({"logits": graph(LOGITS)}, {"logits": two}))
    for output, others in outputs:
        score = score_of(output, target)
        assert (score.index, score.value) == (index, value)
        assert score.of_each(others)[1] == 4 + index


def test_a_saturated_share_has_no_gradient_and_the_logit_has():
    """Why the logit: the naive target, the softmax share, is flat for a sure model."""
    logits = graph([[0.0, 200.0]])
    (naive,) = torch.autograd.grad(logits.softmax(1)[0, 1], logits)
    (ours,) = torch.autograd.grad(score_of(logits, 1).tensor, logits)
    assert naive.tolist() == [[0, 0]] and ours.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "target, index, value",
    [
        (None, 1, 5 + 6 + 7),
        (0, 0, 9),
        (Mask(np.array([[True, True], [False, False]]), 1), 1, 0 + 5),
        (Mask(torch.tensor([[1, 0], [0, 0]])), 0, 9),
        (Mask(np.ones((2, 2), bool)), 1, 18),
    ],
)
def test_a_segmenters_class_over_its_own_or_a_given_mask(target, index, value):
    score = score_of({"out": graph(PIXELS)}, target)
    assert (score.index, score.value) == (index, value)
    changed = torch.tensor(PIXELS * 2) * torch.tensor([1.0, 10.0]).reshape(2, 1, 1, 1)
    assert score.of_each({"out": changed}).tolist() == [value, 10 * value]  # the mask of the first picture


@pytest.mark.parametrize("target, place", [(None, 2), (Box(1), 1), (7, 1), (4, 2), (-1, 2)])
def test_a_detectors_box_or_its_best_one_of_a_class(target, place):
    output = detection()
    score = score_of(output, target)
    assert score.value == pytest.approx(DETECTION["scores"][place]) and score.index == DETECTION["labels"][place]
    (slope,) = torch.autograd.grad(score.tensor, output[0]["scores"])
    assert slope.tolist() == [float(other == place) for other in range(3)]


def test_a_callable_picks_any_number():
    score = score_of((graph(LOGITS), "more"), lambda output: output[0].square().sum())
    assert (score.value, score.index, score.of_each) == (21, NO_CLASS, None)


@pytest.mark.parametrize(
    "output, target, part",
    [
        (graph(LOGITS), 3, "There is no class 3: the model has 3, from 0 to 2"),
        (graph(LOGITS), -2, "no class -2"),
        (graph(LOGITS * 2), None, "one image at a time"),
        (torch.zeros(1, dtype=torch.int64), None, "not one logit per class"),
        ({"nothing": 1}, None, "not one logit per class"),
        (graph(LOGITS), Mask(np.ones((2, 2))), "a target of segmenters"),
        (graph(PIXELS), Mask(np.ones((3, 2)), 1), "3 x 2 pixels and the model's output 2 x 2"),
        (graph(PIXELS), Mask(np.zeros((2, 2)), 1), "mask is empty"),
        (graph([[[[1.0, 1.0]], [[2.0, 2.0]]]]), 0, "gives no pixel of this image to class 0"),
        (detection(boxes=[], labels=[], scores=[]), None, "detects nothing in this image"),
        (detection(), 5, "nothing of class 5"),
        (detection(), Box(3), "There is no box 3: the model found 3"),
        (detection(), Mask(np.ones((2, 2))), "choose a class or a box"),
        (detection() * 2, Box(0), "this output holds 2"),
        ([{"boxes": torch.zeros(2, 4)}], None, 'no "scores"'),
        (graph(LOGITS), Box(0), 'no "scores"'),
        (graph(LOGITS), lambda output: output, "one number as a tensor; it returned a tensor of (1, 3)"),
        (graph(LOGITS), lambda output: 1.5, "it returned float"),
    ],
)
def test_what_is_not_there_is_a_sentence(output, target, part):
    with pytest.raises(TargetNotFound) as caught:
        score_of(output, target)
    assert part in str(caught.value)


def test_a_number_without_a_graph_is_refused_unless_none_is_needed():
    with pytest.raises(NoGradient, match="without a graph"):
        score_of(torch.tensor(LOGITS), 0)
    assert score_of(torch.tensor(LOGITS), 0, differentiable=False).value == 1


def test_what_belongs_to_one_output_cannot_be_asked_of_changed_pictures():
    with pytest.raises(HooksError, match=r"^Occlusion changes the picture"):
        per_image(score_of(detection(), Box(0)), "Occlusion")


def test_a_real_detector_and_a_picture_without_detections():
    torch.manual_seed(0)
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5, score_thresh=0.0, detections_per_img=5
    ).eval()
    picture = [torch.rand(3, 64, 64)]
    found = gradients(model, (picture,), "head.classification_head.module_list.0", Box(0))
    assert found.target in range(5) and 0 < found.score < 1
    model.score_thresh = 1.0
    with pytest.raises(TargetNotFound, match="detects nothing"):
        gradients(model, (picture,), "head", None)
