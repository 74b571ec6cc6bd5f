"""One target against another: the difference of two numbers, for every look that takes a target, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brought_models import Net
from test_targets import LOGITS, PIXELS, detection, graph
from torch import Tensor
from torch.nn import functional

from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import Sampling, attribute_input
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.looks.targets import Likeness, Mask, score_of
from hookscope.hooks.methods import MAPS
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.outputs import Reading
from hookscope.hooks.results.targets import OWN, Against, Box, Class

PICTURE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
BOTH = Against(3, 1)


@pytest.fixture(scope="module")
def net() -> Net:
    return Net(5).eval()


def difference(output: Tensor) -> Tensor:
    return output[0, 3] - output[0, 1]


# --- which number


@pytest.mark.parametrize(
    "target, index, against, value",
    [
        (Against(1, 2), 1, 2, 4 - 2),
        (Against(Class(0), Class(1)), 0, 1, 1 - 4),
        (Against(), 1, 2, 4 - 2),
        (Against(0), 0, 1, 1 - 4),  # the model's first is the rival of whatever is not first
        (Against(2, OWN), 2, 1, 2 - 4),
    ],
)
def test_two_classes_are_the_difference_of_their_logits(target, index, against, value):
    score = score_of(graph(LOGITS), target)
    assert (score.index, score.against, score.value) == (index, against, value)
    others = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert score.of_each(others).tolist() == (others[:, index] - others[:, against]).tolist()
    assert score_of(graph(LOGITS), 1).against == -1


def test_of_a_segmenter_both_are_over_the_pixels_of_the_first():
    """Class 1 has three pixels, where class 0 has 1, 2 and 3; its own is the first pixel, of 9."""
    for target in (Against(1, 0), Against(), Against(1)):
        score = score_of({"out": graph(PIXELS)}, target)
        assert (score.index, score.against, score.value) == (1, 0, (5 + 6 + 7) - (1 + 2 + 3))
        changed = torch.tensor(PIXELS * 2) * torch.tensor([1.0, 10.0]).reshape(2, 1, 1, 1)
        assert score.of_each({"out": changed}).tolist() == [12, 120]
    first = Mask(np.array([[True, False], [False, False]]), 0)
    assert score_of({"out": graph(PIXELS)}, Against(first, 1)).value == 9 - 0
    assert score_of({"out": graph(PIXELS)}, Against(first, Mask(np.ones((2, 2), bool), 1))).value == 9 - 18


@pytest.mark.parametrize(
    "target, places, labels",
    [
        (Against(Box(0), Box(2)), (0, 2), (4, 4)),
        (Against(7, 4), (1, 2), (7, 4)),
        (Against(), (2, 1), (4, 7)),  # the best box against the best of another class
        (Against(Box(1), OWN), (1, 2), (7, 4)),
    ],
)
def test_two_boxes_are_the_difference_of_their_scores(target, places, labels):
    output = detection()
    score = score_of(output, target)
    assert (score.index, score.against) == labels and score.of_each is None
    (slope,) = torch.autograd.grad(score.tensor, output[0]["scores"])
    assert slope.tolist() == [float(n == places[0]) - float(n == places[1]) for n in range(3)]


def test_two_likenesses_and_two_functions():
    own, one, other = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([1.0, 0]), torch.tensor([0.0, 1])
    with looking(reading=Reading(reads="embedding")):
        score = score_of(own, Against(Likeness(other), Likeness(one)))
    assert score.value == pytest.approx(0.8 - 0.6) and score.of_each(own).tolist() == pytest.approx([0.2])
    score = score_of(graph(LOGITS), Against(lambda output: output.sum(), 1))
    assert (score.value, score.index, score.against, score.of_each) == (7 - 4, -1, 1, None)


@pytest.mark.parametrize(
    "output, target, part",
    [
        (graph(LOGITS), Against(1, 1), "Class 1 is held against itself"),
        (graph(LOGITS), Against(1, OWN), "Class 1 is held against itself"),
        (graph(PIXELS), Against(1, 1), "Class 1 is held against itself"),
        (detection(), Against(4, Box(2)), "Box 2 is held against itself"),
        (graph(LOGITS), Against(torch.sum, torch.sum), "This target is held against itself"),
        (graph(LOGITS), Against(1, 3), "There is no class 3: the model has 3"),
        (graph(LOGITS), Against(9), "There is no class 9: the model has 3"),
        (graph(LOGITS), Against(Against(1, 2), 0), "neither of them may be two"),
        (graph(LOGITS), Against(0, Against(1, 2)), "neither of them may be two"),
        (graph(LOGITS), Against(lambda output: output.sum()), "no runner-up to a number that the model does not rank"),
        (graph([[1.0]]), Against(0), "no runner-up to a number that the model does not rank"),  # read as a value
        (graph([[[[1.0, 2.0]]]]), Against(0), "one number alone"),
        (detection(), Against(Box(0, "left")), "no runner-up to a number that the model does not rank"),
        (detection(labels=[4, 4, 4]), Against(), "nothing of another class"),
        (detection(), Against(Box(0), Box(3)), "There is no box 3"),
    ],
)
def test_what_cannot_be_held_against_each_other_is_a_sentence(output, target, part):
    with pytest.raises(TargetNotFound) as caught:
        score_of(output, target)
    assert part in str(caught.value)


# --- what it explains


def test_grad_cam_is_linear_in_the_target(net):
    cams = {target: layer_map(net, PICTURE, "act", target).values.astype(np.float64) for target in (3, 1, BOTH)}
    size = max(np.abs(each).max() for each in cams.values())
    assert np.abs(cams[BOTH] - (cams[3] - cams[1])).max() <= 1e-6 * size
    found = layer_map(net, PICTURE, "act", BOTH)
    np.testing.assert_array_equal(found.opposite, -found.values)
    assert (found.target, found.against) == (3, 1) and found.values.min() < 0 < found.values.max()
    assert found.logit == pytest.approx(difference(net(PICTURE)).item(), abs=1e-6)
    assert layer_map(net, PICTURE, "act", 3).opposite.size == 0


@pytest.mark.parametrize("method", [row.name for row in MAPS.values() if row.rule is not None])
def test_every_map_by_a_gradient_is_its_rule_on_the_gradient_of_the_difference(net, method):
    features = net.features(PICTURE).detach().requires_grad_()
    (slope,) = torch.autograd.grad(difference(net.fc(features.mean((2, 3)))), features)
    channels, slopes = (each.detach()[0].double().numpy() for each in (features, slope))
    found = layer_map(net, PICTURE, "act", BOTH, method)
    for values, right in (
        (found.values, MAPS[method].rule(channels, slopes)),
        (found.opposite, MAPS[method].rule(channels, -slopes)),
    ):
        np.testing.assert_allclose(values, right, atol=1e-6 * np.abs(right).max())
    turned = layer_map(net, PICTURE, "act", Against(1, 3), method)
    np.testing.assert_allclose(found.opposite, turned.values, atol=1e-6 * np.abs(turned.values).max())


def test_score_cam_weighs_by_the_softmax_of_the_differences(net):
    maps = net.features(PICTURE).detach()[0]
    wide = functional.interpolate(maps[:, None], size=(64, 64), mode="bilinear", align_corners=False)
    low, high = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
    with torch.no_grad():
        answers = net(PICTURE * ((wide - low) / (high - low)).nan_to_num())  # a channel is 0 everywhere
    scores = (answers[:, 3] - answers[:, 1]).double()
    found = layer_map(net, PICTURE, "act", BOTH, "scorecam")
    for values, sign in ((found.values, 1), (found.opposite, -1)):
        right = ((sign * scores).softmax(0)[:, None, None] * maps).sum(0)
        np.testing.assert_allclose(values, right, atol=1e-6)


def test_occlusion_is_by_how_much_the_difference_falls(net):
    found = attribute_input(net, PICTURE, "occlusion", BOTH, Sampling(window=32, stride=32))
    masked = PICTURE.clone()
    masked[..., :32, 32:] = 0
    with torch.no_grad():
        drop = float(difference(net(PICTURE)) - difference(net(masked)))
    np.testing.assert_allclose(found.values[:32, 32:], drop, atol=1e-6)
    with torch.no_grad():
        assert found.baseline_logit == pytest.approx(float(difference(net(torch.zeros_like(PICTURE)))), abs=1e-6)
    assert (found.target, found.against) == (3, 1) and "One picture at a time" not in found.note


def test_saliency_and_integrated_gradients_are_of_the_difference(net):
    given = PICTURE.clone().requires_grad_()
    (slope,) = torch.autograd.grad(difference(net(given)), given)
    found = attribute_input(net, PICTURE, "saliency", BOTH)
    np.testing.assert_allclose(found.values, slope[0].abs().amax(0), atol=1e-7)
    one, other, both = (attribute_input(net, PICTURE, "integrated gradients", each) for each in (3, 1, BOTH))
    np.testing.assert_allclose(both.values, one.values - other.values, atol=1e-6)
    assert both.values.sum() == pytest.approx(both.logit - both.baseline_logit, abs=1e-2)


def test_gradients_by_layer_are_of_the_difference(net):
    (right,) = torch.autograd.grad(difference(net(PICTURE)), net.fc.bias)
    features = net.features(PICTURE).detach().requires_grad_()
    (slope,) = torch.autograd.grad(difference(net.fc(features.mean((2, 3)))), features)
    found = gradients(net, PICTURE, ["act", "fc"], BOTH)
    norms = {each.layer: each.norm for each in found.layers}
    assert norms["fc"] == pytest.approx(float(right.norm())) and norms["act"] == pytest.approx(float(slope.norm()))
    assert (found.target, found.against) == (3, 1)
    surveyed = survey(net, PICTURE, describe(net, PICTURE), metrics=["gradient"], target=BOTH)
    assert {call.layer: call.gradient for call in surveyed.calls}["act"] == pytest.approx(norms["act"], rel=1e-5)
    assert (surveyed.target, surveyed.against) == (3, 1)


def test_a_small_difference_of_large_numbers_is_no_sign_of_a_model_that_wants_one_picture(net):
    """Rounding is a share of the numbers, and not of their difference."""
    far = Net(5).eval()
    with torch.no_grad():
        far.fc.bias.add_(5e4)
    found = attribute_input(far, PICTURE, "occlusion", BOTH, Sampling(window=32, stride=32))
    assert "One picture at a time" not in found.note
