"""The five numbers of every layer, by hand and against a full capture."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import Count, assert_untouched, four_pixels
from torch import nn
from torchvision.models import alexnet, resnet18, swin_t
from torchvision.models.segmentation import fcn_resnet50

from hookscope.hooks.errors import Cancelled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.methods import METRICS
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results import codec
from hookscope.hooks.results.summaries import Survey


def test_four_pixels_by_hand():
    model, image = four_pixels()
    with assert_untouched(model):
        found = survey(model, image, describe(model, image), metrics=METRICS, target=0)
    calls = {call.layer: call for call in found.calls}
    assert list(calls) == list("01234") and found.target == 0 and not found.reason_no_gradient
    # [[2, 4], [6, 8]] and [[-1, -2], [-3, -4]], before the ReLU writes zeros over the second
    assert (
        calls["0"]["magnitude"] ** 2,
        calls["0"]["zeros"],
        calls["0"]["dead"],
    ) == pytest.approx((150 / 8, 0, 0))
    assert (
        calls["1"]["magnitude"] ** 2,
        calls["1"]["zeros"],
        calls["1"]["dead"],
    ) == pytest.approx((120 / 8, 0.5, 0.5))
    assert calls["0"]["entropy"] == 3  # eight values in bins of their own
    assert calls["1"]["entropy"] == pytest.approx(0.5 * 1 + 4 * 0.125 * 3)
    # the first logit is 3 times the mean of channel 0 and 1 times that of channel 1
    assert calls["1"]["gradient"] == pytest.approx(math.sqrt(4 * (3 / 4) ** 2 + 4 * (1 / 4) ** 2))
    assert calls["0"]["gradient"] == pytest.approx(math.sqrt(4 * (3 / 4) ** 2))
    assert calls["4"]["gradient"] == 1


@pytest.mark.parametrize("make, size", [(alexnet, 96), (resnet18, 64), (swin_t, 64)])
def test_every_leaf_agrees_with_a_full_capture(make, size):
    torch.manual_seed(0)
    model = make(weights=None).eval()
    image = torch.randn(1, 3, size, size)
    layers = describe(model, image)
    found = {(call.layer, call.call): call for call in survey(model, image, layers, metrics=METRICS, target=3).calls}
    leaves = [name for name, module in model.named_modules() if not any(True for _ in module.children())]
    with torch.enable_grad(), capture(model, leaves, gradients=True) as seen:
        output = model(image.clone().requires_grad_(True))
    seen.differentiate(output[0, 3])
    axes = {(info.name, n): call.axes for info in layers for n, call in enumerate(info.calls)}
    compared = 0
    for record in seen:
        if record.path not in ("", "0"):
            continue
        number, values = found[record.layer, record.call], record.value.double().numpy()
        assert number["magnitude"] == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-6)
        assert number["zeros"] == (values == 0).mean()
        assert number["gradient"] == pytest.approx(float(record.gradient.double().norm()), rel=1e-5, abs=1e-12)
        counts = np.histogram(values, 64)[0]
        shares = counts[counts > 0] / counts.sum()
        assert number["entropy"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=0.05)
        where = axes[record.layer, record.call]
        channel = next((where.index(name) for name in ("channel", "feature") if name in where), None)
        if channel is not None:
            rows = np.moveaxis(values, channel, 0).reshape(values.shape[channel], -1)
            assert number["dead"] == (rows == 0).all(1).mean()
            compared += 1
    assert compared > 10 and len(found) == len({(record.layer, record.call) for record in seen})


def test_non_finite_values_are_left_out_and_nan_is_not_dead():
    model = nn.Sequential(nn.Identity(), nn.Identity()).eval()
    image = torch.tensor([[[[math.nan, 0.0]], [[math.inf, 2.0]], [[0.0, 0.0]]]])
    (first, _) = survey(model, image, describe(model, image)).calls
    assert (first["magnitude"], first["zeros"]) == (1, 3 / 4)
    assert first["dead"] == pytest.approx(1 / 3)
    (nothing, _) = survey(model, image * math.nan, describe(model, image)).calls
    assert math.isnan(nothing["magnitude"]) and math.isnan(nothing["entropy"]) and nothing["dead"] == 0


@pytest.mark.parametrize("scale", [1e-35, 1e-3, 1e37])
def test_entropy_does_not_depend_on_the_scale(scale):
    model = nn.Sequential(nn.Identity(), nn.Identity()).eval()
    image = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    call = survey(model, image * scale, describe(model, image)).calls[0]
    assert call["entropy"] == 2
    constant = survey(model, image * 0 + scale, describe(model, image)).calls[0]
    assert constant["entropy"] == 0


def test_half_and_integers_are_read_as_they_are():
    model = nn.Sequential(nn.Identity(), nn.Identity()).eval()
    for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.bool):
        image = torch.tensor([[[[0, 1], [1, 1]]]]).to(dtype)
        call = survey(model, image, describe(model, image)).calls[0]
        assert (call["magnitude"] ** 2, call["zeros"]) == (pytest.approx(0.75), 0.25)


def test_numbers_that_were_not_asked_for_are_not_there():
    model, image = four_pixels()
    found = survey(model, image, describe(model, image), metrics=["magnitude"])
    assert found.target == -1 and all(set(call.numbers) == {"magnitude"} for call in found.calls)
    with pytest.raises(ValueError, match="there is no method 'size'; choose one of magnitude, zeros"):
        survey(model, image, describe(model, image), metrics=["size"])


def test_a_target_that_is_not_there_is_said_and_the_rest_is_given():
    model, image = four_pixels()
    found = survey(model, image, describe(model, image), metrics=METRICS, target=7)
    assert "no class 7" in found.reason_no_gradient and found.target == -1
    assert found.calls[0]["magnitude"] == pytest.approx(math.sqrt(150 / 8))
    torch.manual_seed(0)
    segmenter = fcn_resnet50(weights=None, weights_backbone=None).eval()
    picture = torch.randn(1, 3, 64, 64)
    seen = survey(segmenter, picture, describe(segmenter, picture), metrics=METRICS)
    assert seen.target >= 0 and seen.calls[0]["gradient"] > 0


def test_reused_modules_have_every_call_and_the_result_travels_as_bytes():
    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), relu, nn.Conv2d(2, 2, 1), relu).eval()
    image = torch.ones(1, 1, 2, 2)
    found = survey(model, image, describe(model, image))
    assert [(call.layer, call.call) for call in found.calls] == [("0", 0), ("1", 0), ("2", 0), ("1", 1)]
    back = codec.decode(codec.encode(found), Survey)
    assert [(call.layer, call["magnitude"]) for call in back.calls] == [(c.layer, c["magnitude"]) for c in found.calls]
    assert "gradient" not in back.calls[0].numbers


def test_it_can_be_cancelled_and_leaves_nothing_behind():
    model, image = four_pixels()
    layers = describe(model, image)
    with assert_untouched(model), pytest.raises(Cancelled), looking(cancelled=Count(yes_from=3)):
        survey(model, image, layers)


def test_containers_have_their_own_outputs_and_share_what_their_last_child_returned():
    torch.manual_seed(0)
    model = resnet18(weights=None).eval()
    image = torch.randn(1, 3, 64, 64)
    layers = describe(model, image)
    found = {
        (call.layer, call.call): call
        for call in survey(model, image, layers, also=("containers",), metrics=METRICS, target=3).calls
    }
    assert {(info.name, n) for info in layers if not info.operation for n in range(len(info.calls))} == found.keys()
    with torch.enable_grad(), capture(model, ["layer1.0", "layer1", ""], gradients=True) as seen:
        output = model(image.clone().requires_grad_(True))
    seen.differentiate(output[0, 3])
    for record in seen:
        number = found[record.layer, 0]
        assert number["magnitude"] == pytest.approx(float(record.value.double().square().mean().sqrt()), rel=1e-6)
        assert number["gradient"] == pytest.approx(float(record.gradient.double().norm()), rel=1e-5)
    assert found["layer1.0", 0]["gradient"] == found["layer1.0.relu", 1]["gradient"]


def test_a_container_that_writes_into_its_childs_output_is_looked_at_again():
    class Doubled(nn.Sequential):
        def forward(self, images):
            return super().forward(images).mul_(2)

    model = nn.Sequential(Doubled(nn.Identity(), nn.ReLU())).eval()
    image = torch.ones(1, 1, 2, 2)
    found = {
        call.layer: call["magnitude"]
        for call in survey(model, image, describe(model, image), also=("containers",)).calls
    }
    assert found == {"0.0": 1, "0.1": 1, "0": 2, "": 2}


def test_operations_have_the_numbers_of_what_they_computed():
    """Against `bn2 + identity`, taken from two plain hooks and differentiated by torch, and against `capture`."""
    torch.manual_seed(0)
    model = resnet18(weights=None).eval()
    image = torch.randn(1, 3, 64, 64)
    layers = describe(model, image)
    with assert_untouched(model):
        calls = survey(model, image, layers, also=("containers", "operations"), metrics=METRICS, target=3).calls
    found = {(call.layer, call.call): call for call in calls}
    assert {(info.name, n) for info in layers for n in range(len(info.calls))} == found.keys()
    parts = []
    block = model.layer1[0]
    handles = [
        block.register_forward_pre_hook(lambda _, args: parts.append(args[0].clone())),
        block.bn2.register_forward_hook(lambda _, __, output: parts.append(output.clone())),
        block.relu.register_forward_pre_hook(lambda _, args: (args[0].add(zero),) if len(parts) == 2 else None),
    ]
    zero = torch.zeros(1, 64, 16, 16, requires_grad=True)
    logit = model(image)[0, 3]
    for handle in handles:
        handle.remove()
    (slope,) = torch.autograd.grad(logit, zero)
    total, call = (parts[0] + parts[1]).detach().double(), found["layer1.0/add", 0]
    assert call["magnitude"] == pytest.approx(float(total.square().mean().sqrt()), rel=1e-6)
    assert call["zeros"] == float((total == 0).double().mean())
    assert call["gradient"] == pytest.approx(float(slope.norm()), rel=1e-4) and call["gradient"] > 0
    names = [info.name for info in layers if info.operation]
    with torch.enable_grad(), capture(model, names, gradients=True) as seen:
        output = model(image.clone().requires_grad_(True))
    seen.differentiate(output[0, 3])
    for record in seen:
        number, values = found[record.layer, record.call], record.value.detach().double()
        assert number["magnitude"] == pytest.approx(float(values.square().mean().sqrt()), rel=1e-6)
        assert number["dead"] == float(
            (values.flatten(1) if values.ndim == 2 else values.flatten(2).abs().amax(2)).eq(0).double().mean()
        )
        assert number["gradient"] == pytest.approx(float(record.gradient.double().norm()), rel=1e-5)
    assert len(names) == len(seen) == 9  # eight sums and the flattening before the classifier


def test_operations_of_attention_and_of_windows_agree_with_a_capture():
    torch.manual_seed(0)
    model = swin_t(weights=None).eval()
    image = torch.randn(1, 3, 64, 64)
    layers = describe(model, image)
    with torch.no_grad():
        before = model(image)
    found = {(call.layer, call.call): call for call in survey(model, image, layers, also=("operations",)).calls}
    names = [info.name for info in layers if info.operation]
    with torch.no_grad(), capture(model, names) as seen:
        after = model(image)
    assert torch.equal(before, after) and len(seen) > 20
    for record in seen:
        magnitude = float(record.value.double().square().mean().sqrt())
        assert found[record.layer, record.call]["magnitude"] == pytest.approx(magnitude, rel=1e-5, nan_ok=True)


def test_a_call_is_asked_by_the_name_of_a_metric():
    model, image = four_pixels()
    call = survey(model, image, describe(model, image), metrics=["zeros", "dead"]).calls[0]
    assert call.zeros == call["zeros"] == call.numbers["zeros"]
    assert copy.copy(call) == call
    with pytest.raises(AttributeError, match="no 'gradient' of a call, but zeros, dead"):
        print(call.gradient)
