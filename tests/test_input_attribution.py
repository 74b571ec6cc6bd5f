"""Saliency, integrated gradients and occlusion on networks that can be worked out by hand."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from helpers import Count, assert_untouched, fixed, four_pixels
from torch import Tensor, nn

from hookscope.hooks.errors import Cancelled, HooksError, ModelNotSupported, NoGradient, TargetNotFound
from hookscope.hooks.looks.inputs import Sampling, attribute_input
from hookscope.hooks.methods import INPUTS
from hookscope.hooks.passes.looking import looking


def linear() -> tuple[nn.Module, Tensor]:
    """Two colours, 2 x 2 pixels; logit 0 weighs red 1, 2, 3, 4 and green -1, -2, -3, -5; logit 1 is 0."""
    weights = [[1.0, 2, 3, 4, -1, -2, -3, -5], [0.0] * 8]
    model = nn.Sequential(nn.Flatten(), fixed(nn.Linear(8, 2, bias=False), weights)).eval()
    image = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 2.0]]]])
    return model, image


def test_saliency_is_the_largest_gradient_over_the_colours():
    model, image = linear()
    with assert_untouched(model):
        found = attribute_input(model, image, "saliency", 0)
    assert found.values.tolist() == [[1, 2], [3, 5]]
    assert (found.method, found.target, found.logit) == ("saliency", 0, 0) and math.isnan(found.baseline_logit)


def test_integrated_gradients_of_a_linear_model_are_weight_times_value():
    model, image = linear()
    with assert_untouched(model):
        found = attribute_input(model, image, "integrated gradients", 0)
    np.testing.assert_allclose(found.values, [[1, 2], [3, 4 - 10]], rtol=1e-5)
    assert found.baseline_logit == 0 and "misses the difference of the logits by" in found.note


def test_integrated_gradients_sum_to_the_difference_of_the_logits():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()
    with torch.no_grad():
        model[4].weight *= 20
    image = torch.randn(1, 3, 16, 16)
    found = attribute_input(model, image, "integrated gradients", 3)
    with torch.no_grad():
        difference = float(model(image)[0, 3] - model(torch.zeros_like(image))[0, 3])
    assert abs(difference) > 0.01
    assert float(found.values.sum(dtype=np.float64)) == pytest.approx(difference, rel=1e-3)
    gradient_times_input = (
        torch.autograd.grad(model(leaf := image.clone().requires_grad_())[0, 3], leaf)[0] * image
    )  # the naive technique: not complete
    assert abs(float(gradient_times_input.sum()) - difference) > 0.01 * abs(difference)


def test_the_gap_of_integrated_gradients_is_told():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    image = torch.randn(1, 3, 64, 64)
    coarse = attribute_input(model, image, "integrated gradients", 1, Sampling(steps=2))
    gap = float(coarse.values.sum(dtype=np.float64)) - (coarse.logit - coarse.baseline_logit)
    assert coarse.note.endswith(f"by {gap:.2g}.") and coarse.note.startswith("2 steps")


def test_occlusion_by_one_window():
    model, image = linear()
    found = attribute_input(model, image, "occlusion", 0, Sampling(window=1, stride=1))
    # the fall of the logit when a pixel is 0 in both colours: 1, 2, 3 and 4 - 10
    assert found.values.tolist() == [[1, 2], [3, -6]]
    assert found.note == "Windows of 1 × 1 pixels, 1 apart."


def test_occlusion_by_overlapping_windows_is_their_mean():
    weights = [[1.0, 10.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    model = nn.Sequential(nn.Flatten(), fixed(nn.Linear(9, 1, bias=False), weights)).eval()
    found = attribute_input(model, torch.ones(1, 1, 3, 3), "occlusion", 0, Sampling(window=2, stride=1))
    # windows of 2 x 2 take away 11 on the left and 110 on the right, in the two rows that hold the first row of pixels
    top = [11, (11 + 110) / 2, 110]
    np.testing.assert_allclose(found.values[0], top, rtol=1e-6)
    np.testing.assert_allclose(found.values[2], 0, atol=1e-6)
    np.testing.assert_allclose(found.values[1], np.array(top) / 2, rtol=1e-6)


def _into(told: list[tuple[int, int]]) -> Callable[[int, int], None]:
    return lambda done, total: told.append((done, total))


def test_every_method_tells_how_far_it_is_and_ends_with_all():
    model, image = linear()
    for method, total in zip(INPUTS, (1, 7, 5), strict=True):
        told: list[tuple[int, int]] = []
        with looking(progress=_into(told)):
            attribute_input(model, image, method, 0, Sampling(7, 1, 1, 2))
        assert told[-1] == (total, total) and [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("method", INPUTS)
def test_cancelling_leaves_nothing(method):
    model, image = four_pixels()
    for number in (1, 3, 9):
        cancelled = Count(yes_from=number)
        with assert_untouched(model), pytest.raises(Cancelled), looking(cancelled=cancelled):
            attribute_input(model, image, method, 0, Sampling(window=1, stride=1, batch=1))


@pytest.mark.parametrize("method", INPUTS)
def test_training_models_in_place_inputs_and_frozen_weights(method):
    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = four_pixels()[0]

        def forward(self, x):
            return self.inner(x.mul_(2))

    model, image = Scales().train(), four_pixels()[1]
    model.requires_grad_(False)
    with assert_untouched(model), torch.no_grad():
        found = attribute_input(model, image, method, 0, Sampling(window=1, stride=1))
    assert image.tolist() == [[[[1, 2], [3, 4]]]] and found.logit == 30
    # logit 0 is 3 times the mean of 2 * 2 x: 3 per pixel value
    expected = [[3, 3], [3, 3]] if method == "saliency" else [[3, 6], [9, 12]]
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)


@pytest.mark.parametrize("method", INPUTS)
def test_the_models_own_class_is_the_default_and_others_must_exist(method):
    model, image = four_pixels()
    assert attribute_input(model, image, method).target == 0
    with pytest.raises(TargetNotFound, match="There is no class 2"):
        attribute_input(model, image, method, 2)


@pytest.mark.parametrize("method", INPUTS)
def test_only_saliency_explains_a_number_of_this_output_alone(method):
    model, image = four_pixels()
    if method == "saliency":
        found = attribute_input(model, image, method, lambda logits: logits[0, 0])
        assert np.array_equal(found.values, attribute_input(model, image, method, 0).values) and found.values.any()
    else:
        with pytest.raises(TargetNotFound, match="changes the picture"):
            attribute_input(model, image, method, lambda logits: logits[0, 0])


def test_other_inputs_and_methods_are_refused():
    model, image = four_pixels()
    for inputs in (image.repeat(2, 1, 1, 1), (image, image), [image[0]]):
        with pytest.raises(ModelNotSupported, match="one picture"):
            attribute_input(model, inputs, "saliency")
    with pytest.raises(ValueError, match="no method 'guess'"):
        attribute_input(model, image, "guess")


def test_occlusion_needs_no_graph_and_the_others_say_that_they_do():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = four_pixels()[0]

        @torch.no_grad()
        def forward(self, x):
            return self.inner(x)

    image = four_pixels()[1]
    assert attribute_input(Detached(), image, "occlusion", 0, Sampling(window=1, stride=1)).values.tolist() == [
        [1.5, 3],
        [4.5, 6],
    ]
    for method in ("saliency", "integrated gradients"):
        with pytest.raises(NoGradient):
            attribute_input(Detached(), image, method, 0)


def test_without_captum_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("captum"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    model, image = four_pixels()
    with pytest.raises(HooksError, match="pip install captum"):
        attribute_input(model, image, "saliency", 0)
