"""Effects of muting channels: analytic identities, one full forward pass per channel as oracle, and the way back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from helpers import assert_untouched, four_pixels
from library_models import quantised
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import CNBlockConfig

import hookscope as hs
from hookscope.hooks.causes.effects import ALONE, effects_as_measured
from hookscope.hooks.causes.shares import channel_shares
from hookscope.hooks.errors import Cancelled, HooksError, LayerNotExecuted, LayerNotFound, NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.results.effects import UNKNOWN, Effects, spearman
from hookscope.hooks.results.targets import Box

models = torchvision.models


def made(build: Callable[..., nn.Module], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(weights=None, **options).eval()


def picture(pixels: int = 64) -> Tensor:
    return torch.randn(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))


def muted_alone(model: nn.Module, x: Any, layer: str, channels: list[int], axis: int, call: int = 0) -> list[Any]:
    """What a model answers with one channel after the other set to 0, by a plain hook and a forward pass for each."""
    found = []
    for channel in channels:
        calls = iter(range(1000))

        def mute(module: nn.Module, args: Any, output: Any, channel: int = channel, calls: Any = calls) -> Any:
            if next(calls) != call:
                return None
            tensor = output[0] if isinstance(output, tuple) else output
            changed = tensor.clone()
            changed.movedim(axis, 0)[channel] = 0
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = model.get_submodule(layer).register_forward_hook(mute)
        with torch.no_grad():
            found.append(model(x))
        handle.remove()
    return found


def some(found: Effects) -> list[int]:
    """The first, the strongest, the weakest and the last channel."""
    return sorted({0, int(found.strongest(1)[0]), int(found.order[-1]), len(found.order) - 1})


def test_by_hand_on_four_pixels() -> None:
    """Logits 3 * 5 + 1 * 0 and -5: without the first channel both are 0; the second channel is 0 already."""
    model, x = four_pixels()
    found = hs.effects(model, x, "1", together=2)
    assert found.score == 15 and found.target == 0 and found.complete
    np.testing.assert_allclose(found.measured, [-15, 0])
    np.testing.assert_allclose(found.estimate, [-15, 0])  # the head is linear, so the first order is all there is
    assert found.together is not None and found.together.effect == -15
    share = np.exp(15) / (np.exp(15) + np.exp(-5))
    np.testing.assert_allclose(found.divergence, [share * np.log(2 * share) + (1 - share) * np.log(2 - 2 * share), 0])
    ((_, _, shares),) = channel_shares(model, x, [("1", 0)], None, describe(model, x))
    np.testing.assert_allclose(shares.values, [15, 0])


@pytest.mark.parametrize("build, layer", [(models.resnet18, "layer4"), (models.efficientnet_b0, "features")])
def test_before_mean_and_linear_a_channel_is_worth_its_mean_times_its_weight(build: Any, layer: str) -> None:
    model, x = made(build), picture()
    found = hs.effects(model, x, layer, target=7)
    with hs.capture(model, [layer]) as seen, torch.no_grad():
        model(x)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    expected = -(seen[layer].value.mean((2, 3))[0] * linear.weight[7]).detach().numpy()
    np.testing.assert_allclose(found.measured, expected, atol=1e-5)
    np.testing.assert_allclose(found.estimate, expected, atol=1e-5)
    assert found.agreement > 0.999


def test_convnext_normalises_between_the_mean_and_the_linear_layer() -> None:
    model, x = made(lambda weights: models.ConvNeXt([CNBlockConfig(24, 48, 1), CNBlockConfig(48, None, 1)])), picture()
    found = hs.effects(model, x, "features", target=7)
    with torch.no_grad():
        means = model.features(x).mean((2, 3))[0]
        without = means.repeat(len(means), 1).fill_diagonal_(0)
        logits = [
            model.classifier[2](model.classifier[0](rows[:, :, None, None]).flatten(1))[:, 7]
            for rows in (without, means[None])
        ]
    np.testing.assert_allclose(found.measured, (logits[0] - logits[1]).numpy(), atol=1e-5)


SMALL_SWIN = {"patch_size": [4, 4], "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]}
SMALL_VIT = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 48, "mlp_dim": 96}
SMALL_DENSENET = {"growth_rate": 8, "block_config": (2, 2, 2, 2), "num_init_features": 16}
# layer, the axis of its channels, and whether what follows takes copies that begin at the layer
ARCHITECTURES: list[tuple[str, Callable[[], nn.Module], str, int, str]] = [
    ("residual branch", models.resnet18, "layer3.0.conv1", 1, "before the layer"),
    ("stage", models.resnet18, "layer2", 1, "before the layer"),
    ("added in place", models.resnet18, "layer2.0.downsample", 1, "from the input"),
    ("between blocks", lambda: models.DenseNet(**SMALL_DENSENET), "features.transition2", 1, "before the layer"),
    ("concatenated", lambda: models.DenseNet(**SMALL_DENSENET), "features.denseblock4.denselayer1.conv2", 1, "input"),
    ("channels last", lambda: models.SwinTransformer(**SMALL_SWIN), "features.1.0", 3, "before the layer"),
    ("tokens", lambda: models.VisionTransformer(**SMALL_VIT), "encoder.layers.encoder_layer_1", 2, "before the layer"),
    ("patches", lambda: models.VisionTransformer(**SMALL_VIT), "conv_proj", 1, "from the input"),
]


@pytest.mark.parametrize(
    "build, layer, axis, how", [case[1:] for case in ARCHITECTURES], ids=[c[0] for c in ARCHITECTURES]
)
def test_what_is_measured_in_batches_is_what_one_pass_per_channel_gives(
    build: Callable[[], nn.Module], layer: str, axis: int, how: str
) -> None:
    torch.manual_seed(0)
    model, x = build().eval(), picture(32)
    if isinstance(model, models.VisionTransformer):  # its own head begins as zeros
        nn.init.normal_(model.heads.head.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    found = hs.effects(model, x, layer, target=7)
    assert found.complete and how in found.how
    with torch.no_grad():
        plain = model(x)[0]
    channels = some(found)
    alone = [answer[0] for answer in muted_alone(model, x, layer, channels, axis)]
    expected = [float(logits[7] - plain[7]) for logits in alone]
    np.testing.assert_allclose(found.measured[channels], expected, atol=1e-4)
    assert [int(logits.argmax() != plain.argmax()) for logits in alone] == found.top_changed[channels].tolist()
    divergence = [functional.kl_div(each.log_softmax(0), plain.softmax(0), reduction="sum") for each in alone]
    np.testing.assert_allclose(found.divergence[channels], divergence, atol=1e-5)


def test_a_segmenter_is_measured_by_the_sum_over_the_pixels_of_its_class() -> None:
    model, x = made(models.segmentation.lraspp_mobilenet_v3_large, weights_backbone=None), picture(32)
    found = hs.effects(model, x, "backbone.16")
    with torch.no_grad():
        plain = model(x)["out"][0]
    mask = plain.argmax(0) == found.target
    channels = some(found)
    alone = [answer["out"][0] for answer in muted_alone(model, x, "backbone.16", channels, 1)]
    expected = [float((each[found.target] * mask).sum() - (plain[found.target] * mask).sum()) for each in alone]
    np.testing.assert_allclose(found.measured[channels], expected, atol=1e-4 * abs(found.score))
    assert (found.top_changed == UNKNOWN).all() and np.isnan(found.divergence).all()


class Detector(nn.Module):
    """One box, whose score is a class's share of two channels; with the first channel muted it is elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.body.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[:, :, None, None])

    def forward(self, pictures: Any) -> Any:
        maps = self.body(pictures).mean((2, 3))[0]
        moved = 0 if float(maps[0]) > 0 else 40
        boxes = torch.tensor([[0.0, 0, 10, 10]]) + moved
        return [{"boxes": boxes, "labels": torch.tensor([3]), "scores": (maps.sum() / 4)[None]}]


def test_of_a_detector_one_channel_after_the_other_is_measured_at_the_same_box() -> None:
    x = torch.ones(1, 3, 4, 4)
    found = hs.effects(Detector(), x, "body")
    assert found.how == ALONE and found.score == 0.5 and found.target == 3
    np.testing.assert_allclose(found.measured, [-0.5, -0.25])  # the first moves the box: it is found no more
    np.testing.assert_allclose(found.estimate, [-0.25, -0.25])
    assert hs.effects(Detector(), x, "body", Box(0, "left")).measured[1] == 0


def test_faster_rcnn_is_measured_alone() -> None:
    """Its boxes are chosen of all of them at the end: an answer is to one picture, and its boxes are matched."""
    options = {"weights_backbone": None, "box_score_thresh": 0.0, "min_size": 96}
    model = made(models.detection.fasterrcnn_mobilenet_v3_large_320_fpn, **options)
    x = picture(96)
    layer = "backbone.body.16"
    steps = effects_as_measured(model, x, (layer, 0), None, describe(model, x))
    for found in steps:
        if found.done == 2:
            break
    steps.close()
    assert found.how == ALONE
    with torch.no_grad():
        plain = model(x)[0]
    place = int(torch.where(plain["labels"] == found.target, plain["scores"], -1).argmax())
    for channel in found.order[:2].tolist():
        (answer,) = muted_alone(model, x, layer, [channel], 1)[0]
        overlaps = torchvision.ops.box_iou(plain["boxes"][place : place + 1], answer["boxes"])[0]
        overlaps[answer["labels"] != found.target] = -1
        score = answer["scores"][overlaps.argmax()] if overlaps.max() >= 0.5 else torch.tensor(0.0)
        assert abs(float(score - plain["scores"][place]) - found.measured[channel]) < 1e-4


class Twice(nn.Module):
    """A module that is called twice, with an operation in place after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.back = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.act(self.conv(x))
        maps = self.act(self.conv(self.back(maps)))
        return self.fc(maps.mean((2, 3)))


@pytest.mark.parametrize("call", [0, 1])
def test_of_a_module_that_runs_twice_one_call_is_muted(call: int) -> None:
    torch.manual_seed(0)
    model, x = Twice().eval(), picture(8)
    found = hs.effects(model, x, "conv", 1, call=call)
    with torch.no_grad():
        plain = float(model(x)[0, 1])
    alone = muted_alone(model, x, "conv", [0, 1, 2, 3], 1, call)
    np.testing.assert_allclose(found.measured, [float(each[0, 1]) - plain for each in alone], atol=1e-6)


def test_muting_to_the_mean_leaves_a_mean_and_a_linear_layer_as_they_are() -> None:
    model, x = made(models.resnet18), picture()
    found = hs.effects(model, x, "layer4", 7, muting="mean")
    np.testing.assert_allclose(found.measured, 0, atol=1e-5)
    np.testing.assert_allclose(found.estimate, 0, atol=1e-5)


class Mixing(nn.Module):
    """Subtracts the batch's mean, as a normalisation without running statistics does; or cuts the batch in a fixed way;
    or draws random numbers."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.fc = how, nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        means = self.conv(x).relu().mean((2, 3))
        if self.how == "batch":
            means = means - means.mean(0) / 2
        elif self.how == "order":  # a view by the number of pictures that came in
            means = means.reshape(count, 8, -1)[..., 0]
        elif self.how == "random":
            means = functional.dropout(means, 0.5, training=True)
        return self.fc(means)


@pytest.mark.parametrize("how", ["batch", "order", "random"])
def test_what_a_batch_would_falsify_is_measured_otherwise(how: str) -> None:
    torch.manual_seed(0)
    model, x = Mixing(how).train(), picture(8)
    with assert_untouched(model):
        found = hs.effects(model, x, "conv", 1)
    assert ("from the input" if how == "order" else "One channel") in found.how
    linear, conv = model.fc.weight[1].detach(), model.conv(x).relu().mean((2, 3))[0].detach()
    expected = {"batch": -conv * linear / 2, "order": -conv * linear}.get(how)
    if expected is not None:
        np.testing.assert_allclose(found.measured, expected.numpy(), atol=1e-5)
    else:  # the same numbers are drawn in each pass: what is dropped has no effect, what is kept twice its own
        kept = found.measured / (-2 * conv * linear).numpy()
        assert set(np.round(kept, 4)) == {0.0, 1.0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_without_a_gradient_it_is_measured_all_the_same() -> None:
    model, x = quantised(), picture()
    found = hs.effects(model, x, "1.conv")
    assert np.isnan(found.estimate).all() and "no gradient" in found.no_estimate and np.isnan(found.agreement)
    assert found.complete and np.abs(found.measured).max() > 0
    with pytest.raises(NoGradient):
        list(channel_shares(model, x, [("1.conv", 0)], None, describe(model, x)))


def test_the_model_is_handed_back_between_two_steps_and_after_an_exception() -> None:
    model, x = made(models.resnet18).train(), picture()
    with assert_untouched(model):
        steps = effects_as_measured(model, x, ("layer4", 0), 3, describe(model, x), pass_seconds=1e-9)
        counts = []
        for found in steps:
            with assert_untouched(model):
                counts.append(found.done)
            if len(counts) == 3:
                steps.close()
                break
        assert counts[0] == 0 < counts[1] < counts[2] < 512

    class Failing(nn.Module):
        calls = 0

        def forward(self, maps: Tensor) -> Tensor:
            Failing.calls += 1
            if Failing.calls > 3:
                raise RuntimeError("as somebody's model may")
            return maps

    broken = nn.Sequential(nn.Conv2d(3, 4, 3), Failing(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with assert_untouched(broken), pytest.raises(RuntimeError, match="as somebody's"):
        hs.effects(broken, picture(8), "0")


def test_it_is_cancelled_and_tells_how_far_it_is() -> None:
    model, x = made(models.resnet18), picture()
    layers, told = describe(model, x), []
    with hs.looking(progress=lambda done, total: told.append((done, total))):
        hs.effects(model, x, "layer4", 3, layers=layers)
    assert told == [(512, 512)]
    asked = iter(range(10**6))
    with (
        assert_untouched(model),
        hs.looking(cancelled=lambda: next(asked) > 300),
        pytest.raises(Cancelled),
    ):
        hs.effects(model, x, "layer4", 3, layers=layers)


class Particular(nn.Module):
    """Answers otherwise where a layer's output is not the very tensor that it made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.conv.register_forward_hook(lambda module, args, output: setattr(self, "made", output))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        return maps.mean((2, 3)) * (1.0 if maps is self.made else 2.0)


def test_after_the_numbers_that_are_explained_no_channel_has_an_effect() -> None:
    ending = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)).eval()
    found = hs.effects(ending, picture(8), "3")
    assert (found.measured == 0).all() and "no gradient" in found.no_estimate


def test_what_cannot_be_measured_says_why() -> None:
    model, x = made(models.resnet18), picture()
    layers = describe(model, x)
    with pytest.raises(LayerNotFound):
        hs.effects(model, x, "layer9", layers=layers)
    with pytest.raises(LayerNotExecuted, match="no call 3"):
        hs.effects(model, x, "layer1.0.relu", call=2, layers=layers)
    with pytest.raises(HooksError, match="it is a function"):
        hs.effects(model, x, "layer1.0/add", layers=layers)
    with pytest.raises(HooksError, match="handed on as it was"):
        hs.effects(Particular().eval(), picture(8), "conv", 1)
    infinite = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        infinite[0].bias.fill_(float("inf"))
    with pytest.raises(HooksError, match="no effect on it can be measured"):
        hs.effects(infinite, picture(8), "0", 1)


def test_shares_of_functions_and_of_several_layers_come_from_one_pass() -> None:
    model, x = made(models.resnet18), picture()
    layers = describe(model, x)
    runs = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    wanted = [("layer4.1/add", 0), ("layer4", 0), ("layer1.0.relu", 1), ("avgpool", 0)]
    found = {name: shares for name, _, shares in channel_shares(model, x, wanted, 7, layers)}
    handle.remove()
    assert len(runs) == 1
    # all of a logit but the bias goes through these channels, and what is 0 after the ReLU has no gradient before it
    rest = float(model.fc.bias[7].detach())
    for name in ("layer4.1/add", "layer4", "avgpool"):
        assert found[name].values.sum() + rest == pytest.approx(found[name].score, abs=1e-5)
    np.testing.assert_allclose(found["layer4"].values, found["avgpool"].values, atol=1e-5)


def test_ranks_are_scipys() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    for _ in range(20):
        first, second = random.integers(0, 6, (2, 12)).astype(float)
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0))) and np.isnan(spearman(np.ones(2), np.ones(2)))


def test_effects_are_those_on_the_logits_before_a_softmax():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()
    picture = torch.rand(1, 3, 8, 8)
    plain, ended = (hs.effects(model, picture, "0", 2) for model in (head, nn.Sequential(*head, nn.Softmax(1)).eval()))
    assert np.isfinite(plain.measured).all() and np.abs(plain.measured).max() > 1e-3
    np.testing.assert_allclose(ended.measured, plain.measured, rtol=1e-6)
