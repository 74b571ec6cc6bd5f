"""Gradients by layer: against the zero-leaf oracle and by hand, and the anomalies that a mean does not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from helpers import Count, assert_untouched, fixed, four_pixels
from torch import Tensor, nn

from hookscope.hooks.errors import Cancelled, LayerNotFound, NoGradient
from hookscope.hooks.looks.gradients import gradients, layers_with_weights
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.anomalies import find_anomalies
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Gradients, LayerGradient


def by_layer(found: Gradients, side: str = "output") -> dict[tuple[str, int], LayerGradient]:
    return {(layer.layer, layer.call): layer for layer in found.layers if layer.side == side}


def zero_leaf(model: nn.Module, name: str, call: int, image: Tensor, target: int) -> Tensor:
    """The gradient with respect to zeros that are added to the layer's output."""
    zeros = []

    def add(module, args, output):
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[-1]

    handle = model.get_submodule(name).register_forward_hook(add)
    score = model(image)[0, target]
    handle.remove()
    return torch.autograd.grad(score, zeros[call])[0]


def test_four_pixels_by_hand():
    model, image = four_pixels()
    with assert_untouched(model):
        found = gradients(model, image, ["0", "1", "4"], 0, at_inputs=True)
    assert (found.target, found.score) == (0, 15)
    layers = by_layer(found)
    # d logit 0 / d the ReLU's output = [3, 1] / 4 at each of four pixels
    relu = layers["1", 0]
    assert relu.norm == pytest.approx(math.sqrt(4 * (0.75**2 + 0.25**2)), rel=1e-12)
    assert relu.rms == pytest.approx(relu.norm / math.sqrt(8), rel=1e-12)
    assert (relu.max_abs, relu.min, relu.max, relu.zeros, relu.count) == (0.75, 0.25, 0.75, 0, 8)
    assert relu.box == (0.25, 0.25, 0.5, 0.75, 0.75)
    # before it, the negative channel gets none
    assert layers["0", 0].box == (0, 0, 0.375, 0.75, 0.75) and layers["0", 0].zeros == 0.5
    assert layers["4", 0].box == (0, 0.25, 0.5, 0.75, 1)
    given = by_layer(found, "input")
    assert given["4", 0].box == (1, 1.5, 2, 2.5, 3)  # the row of weights
    assert given["0", 0].max_abs == 1.5  # 2 * 0.75


@pytest.mark.parametrize("build", ["alexnet", "resnet18"])
def test_every_layer_equals_the_zero_leaf_oracle(build):
    torch.manual_seed(0)
    model = torchvision.models.get_model(build, weights=None).eval()
    image = torch.randn(1, 3, 96, 96)
    names = [name for name, module in model.named_modules() if name and not any(True for _ in module.children())]
    found = gradients(model, image, names, 5)
    assert {layer.layer for layer in found.layers} == set(names)
    for layer in found.layers:
        oracle = zero_leaf(model, layer.layer, layer.call, image, 5).double()
        assert layer.norm == pytest.approx(float(oracle.norm()), rel=1e-4)
        assert layer.max_abs == pytest.approx(float(oracle.abs().max()), rel=1e-3)
        levels = torch.tensor(QUANTILE_LEVELS, dtype=torch.float64)
        near = 1e-3 * float(oracle.abs().max())
        np.testing.assert_allclose(layer.quantiles, oracle.flatten().quantile(levels), atol=near)
        np.testing.assert_allclose(layer.magnitudes, oracle.abs().flatten().quantile(levels), atol=near)


def test_layers_come_in_the_order_of_the_forward_pass_each_call_by_itself():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(3, 3), nn.Linear(3, 3)
            self.act = nn.Sigmoid()

        def forward(self, x):
            return self.act(self.last(self.act(self.first(x))))

    model = Backwards()
    found = gradients(model, torch.randn(1, 3), ["last", "first", "act"], 0)
    assert [(layer.layer, layer.call) for layer in found.layers] == [
        ("first", 0),
        ("act", 0),
        ("last", 0),
        ("act", 1),
    ]
    assert [layer.layer for layer in gradients(model, torch.randn(1, 3), target=0).layers] == ["first", "last"]


def test_nobodys_grad_changes_in_a_training_model():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=3).train()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    image = torch.randn(1, 3, 64, 64)
    with assert_untouched(model):
        gradients(model, image, target=1)


def test_frozen_models_and_no_grad_callers():
    model, image = four_pixels()
    expected = gradients(model, image, "0", 0).layers[0].norm
    model.requires_grad_(False)
    for quiet in (torch.no_grad(), torch.inference_mode()):
        with quiet:
            assert gradients(model, image, "0", 0).layers[0].norm == expected


def test_a_layer_off_the_path_says_so_and_the_others_have_numbers():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            self.side(x)
            return self.main(x)

    found = by_layer(gradients(Branches(), torch.rand(1, 2), target=0))
    assert found["main", 0].norm == 1 and found["main", 0].reason == ""
    assert "No path leads" in found["side", 0].reason and math.isnan(found["side", 0].norm)


def test_a_whole_batch_with_a_callable():
    model, image = four_pixels()
    one = gradients(model, image, "1", 0).layers[0]
    two = gradients(model, image.repeat(2, 1, 1, 1), "1", lambda logits: logits[:, 0].sum()).layers[0]
    assert two.norm == pytest.approx(one.norm * math.sqrt(2)) and two.box == one.box


def test_nothing_to_look_at_is_a_sentence():
    with pytest.raises(LayerNotFound, match="no layer with weights"):
        layers_with_weights(nn.Sequential(nn.ReLU()))
    model, image = four_pixels()
    with pytest.raises(LayerNotFound):
        gradients(model, image, "nobody")

    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = four_pixels()[0]

        def forward(self, x):
            return self.inner(x).detach()

    with pytest.raises(NoGradient):
        gradients(Detached(), image)


def test_cancelling():
    model, image = four_pixels()
    for number in (1, 3, 7):  # before the pass, in it, and before the gradient
        cancelled = Count(yes_from=number)
        with assert_untouched(model), pytest.raises(Cancelled), looking(cancelled=cancelled):
            gradients(model, image, "0", 0)
        assert cancelled.asked == number


# anomalies; the article's detector is the control, and stays silent


def the_articles_detector(found: list[Tensor]) -> list[str]:
    """What the article reports: by the mean of each layer's gradient."""
    reports = []
    for gradient in found:
        mean = gradient.mean().item()
        if abs(mean) < 1e-6:
            reports.append("vanishing")
        elif abs(mean) > 1e3:
            reports.append("exploding")
    return reports


class Planted(nn.Module):
    """Its output's gradient at `inner` is `slope`, whatever the input."""

    def __init__(self, slope: Tensor):
        super().__init__()
        self.inner = fixed(nn.Linear(1, slope.numel()), [[0.0]] * slope.numel())
        self.register_buffer("slope", slope)

    def forward(self, x):
        return (self.inner(x) * self.slope).sum(1, keepdim=True)


def test_a_gradient_that_cancels_explodes_and_its_mean_does_not_say_so():
    half = torch.randn(5_000, generator=torch.Generator().manual_seed(0))
    half = (half * (4.4e8 / math.sqrt(2) / half.norm())).round()
    slope = torch.cat([half, -half])
    slope[0] -= 30  # or the mean would be 0, which the article calls vanishing
    assert float(slope.double().mean()) == pytest.approx(-0.003, rel=1e-9)
    assert the_articles_detector([slope]) == the_articles_detector([slope.double()]) == []
    found = gradients(Planted(slope), torch.ones(1, 1), "inner", 0)
    assert found.layers[0].norm == pytest.approx(4.4e8, rel=1e-5)
    (anomaly,) = find_anomalies(found)
    assert (anomaly.kind, anomaly.layer) == ("exploding", "inner")
    assert anomaly.sentence == "The gradient explodes at 'inner': its norm is 4.4e+08, above 1e+04."


def test_a_normalisations_gradient_always_cancels_and_explodes_unseen():
    """LayerNorm takes the mean off, so the gradient before it adds up to 0: what is left of the mean is rounding."""
    torch.manual_seed(3)
    model, image = nn.Sequential(nn.Linear(8, 65_536), nn.LayerNorm(65_536), nn.Linear(65_536, 2)), torch.randn(1, 8)
    found = gradients(model, image, "0", lambda logits: logits[0, 0] * 4.4e8)
    slope = zero_leaf(model, "0", 0, image, 0).mul(4.4e8)
    assert abs(slope.mean().item()) < 1 and "exploding" not in the_articles_detector([slope])
    assert found.layers[0].norm == pytest.approx(float(slope.double().norm()), rel=1e-4) and found.layers[0].norm > 1e8
    assert [(anomaly.kind, anomaly.layer) for anomaly in find_anomalies(found)] == [("exploding", "0")]


def sigmoid_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [part for _ in range(15) for part in (nn.Linear(16, 16), nn.Sigmoid())]
    return nn.Sequential(*layers, nn.Linear(16, 2))


def test_a_deep_sigmoid_net_vanishes_and_is_named_layer_by_layer():
    model, image = sigmoid_net(), torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    found = gradients(model, image, target=0)
    first, last = found.layers[0], found.layers[-1]
    ratio = first.norm / last.norm
    assert 1e-14 < ratio < 1e-11
    anomalies = find_anomalies(found)
    assert (anomalies[0].kind, anomalies[0].layer) == ("vanishing", "0")
    assert f"a ratio of {ratio:.2g}" in anomalies[0].sentence
    named = [anomaly.layer for anomaly in anomalies[1:]]
    assert named == [layer.layer for layer in found.layers if layer.norm < 1e-6] and len(named) > 5
    # control: an alarm for exploding means, the article's only one for gradients, has nothing to say
    slopes = [zero_leaf(model, layer.layer, 0, image, 0) for layer in found.layers]
    assert "exploding" not in the_articles_detector(slopes)


def test_thirteen_orders_of_magnitude_are_lost_and_every_mean_looks_healthy():
    model, image = sigmoid_net(seed=6), torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in list(model)[::2][-9:]:  # the rows of the later weights add up to almost nothing
            layer.weight -= (1 - 1e-4) * layer.weight.mean(1, keepdim=True)
            layer.bias.zero_()

    def score(logits: Tensor) -> Tensor:
        return (2.0**27 * logits[:, 0] - (2.0**27 - 16) * logits[:, 1])[:, None]  # its gradient's mean is 8

    found = gradients(model, image, target=lambda logits: score(logits)[0, 0])
    ratio = found.layers[0].norm / found.layers[-1].norm
    assert 1e-14 < ratio < 1e-12  # 1.6e-13
    scored = nn.Sequential(model, Scored(score))
    slopes = [zero_leaf(scored, f"0.{layer.layer}", 0, image, 0) for layer in found.layers]
    assert the_articles_detector(slopes) == []  # the control: not a word, of 16 layers
    for layer, slope in zip(found.layers, slopes, strict=True):
        assert layer.norm == pytest.approx(float(slope.double().norm()), rel=1e-4)
    ratio_first, *others = find_anomalies(found)
    assert (ratio_first.kind, ratio_first.layer) == ("vanishing", "0") and f"{ratio:.2g}" in ratio_first.sentence
    assert [(each.kind, each.layer) for each in others] == [
        ("exploding", layer.layer) for layer in found.layers if layer.norm > 1e4
    ]
    assert len(others) > 3


class Scored(nn.Module):
    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, logits):
        return self.score(logits)


@pytest.mark.parametrize("bad, counts", [(math.nan, (1, 0)), (math.inf, (0, 1)), (-math.inf, (0, 1))])
def test_values_that_are_not_finite_are_found_and_the_article_is_silent(bad, counts):
    slope = torch.tensor([1.0, 2.0, bad])
    assert math.isinf(bad) or the_articles_detector([slope]) == []  # NaN compares as False
    layer = gradients(Planted(slope), torch.ones(1, 1), "inner", 0)
    (anomaly,) = find_anomalies(layer)
    assert anomaly.kind == "not finite" and f"{counts[0]} NaN and {counts[1]} infinite" in anomaly.sentence
    assert layer.layers[0].norm == pytest.approx(math.sqrt(5)) and layer.layers[0].max == 2
    assert (layer.layers[0].nan, layer.layers[0].inf) == counts


def test_a_gradient_of_exactly_zero_is_called_that():
    found = gradients(Planted(torch.zeros(3)), torch.ones(1, 1), "inner", 0)
    assert [anomaly.kind for anomaly in find_anomalies(found)] == ["zero"]


def test_a_growing_gradient_explodes_by_ratio():
    model = nn.Sequential(*(fixed(nn.Linear(1, 1), [[100.0]]) for _ in range(4)))
    (anomaly,) = find_anomalies(gradients(model, torch.ones(1, 1), target=0), exploding_norm=math.inf)
    assert anomaly.kind == "exploding" and anomaly.layer == "0" and "a ratio of 1e+06" in anomaly.sentence


def test_a_healthy_network_has_none():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    assert find_anomalies(gradients(model, torch.randn(1, 3, 96, 96), target=5)) == []


def test_huge_and_tiny_values_do_not_leave_float64():
    slope = torch.tensor([3e30, 4e30])
    assert gradients(Planted(slope), torch.ones(1, 1), "inner", 0).layers[0].norm == pytest.approx(5e30)
    slope = torch.tensor([3e-30, 4e-30])
    assert gradients(Planted(slope), torch.ones(1, 1), "inner", 0).layers[0].norm == pytest.approx(5e-30)
    assert float(slope.square().sum()) == 0  # in float32 the squares are gone
