"""Grad-CAM++, LayerCAM and Score-CAM: by hand, against the zero-leaf oracle, and beside captum, grad-cam and torchcam.

torchcam's maps are after ReLU and scaled to 0..1, so ours are compared after the same.
"""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchcam.methods
import torchvision
from captum.attr import LayerGradCam
from helpers import Count, Ran, assert_untouched, fixed, four_pixels, maps_or_raise
from pytorch_grad_cam import GradCAMPlusPlus, LayerCAM
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.errors import Cancelled, HooksError, ModelNotSupported, NoSpatialAxes, TargetNotFound
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks import score_cam as score_cam_module
from hookscope.hooks.looks.cam import grad_cam, layer_map
from hookscope.hooks.looks.score_cam import score_cam
from hookscope.hooks.looks.targets import Mask
from hookscope.hooks.methods import MAPS
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.looks import GradCam

TARGET = 5
TORCHCAM = {
    "gradcam": torchcam.methods.GradCAM,
    "gradcam++": torchcam.methods.GradCAMpp,
    "layercam": torchcam.methods.LayerCAM,
    "scorecam": torchcam.methods.ScoreCAM,
}


def scaled(values: np.ndarray) -> np.ndarray:
    """After ReLU, 0..1."""
    positive = values.clip(0)
    return (positive - positive.min()) / (positive.max() - positive.min())


def torchcams(method: str, model: nn.Module, layer: str, image: Tensor, target: int) -> np.ndarray:
    with TORCHCAM[method](model, layer, input_shape=tuple(image.shape[1:])) as extractor:
        scores = model(image.clone().requires_grad_())
        (found,) = extractor(target, scores)
    return found[0].detach().numpy()


def zero_leaf(model: nn.Module, name: str, call: int, image: Tensor, target: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer's value, and its gradient with respect to zeros that are added to it; both float64 (channel, h, w)."""
    zeros, values = [], []

    def add(module, args, output):
        zeros.append(torch.zeros_like(output, requires_grad=True))
        values.append(output.detach().clone())
        return output + zeros[-1]

    handle = model.get_submodule(name).register_forward_hook(add)
    score = model(image)[0, target]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, zeros[call])
    return values[call][0].double().numpy(), gradient[0].double().numpy()


def by_the_paper(method: str, value: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The definitions, channel by channel and position by position."""
    total = np.zeros(value.shape[1:])
    for a, g in zip(value, slope, strict=True):
        if method == "gradcam":
            total += g.mean() * a
        elif method == "layercam":
            total += np.maximum(g, 0) * a
        else:
            weight = 0.0
            for each in g.flat:
                if each > 0:
                    weight += each**2 / (2 * each**2 + a.sum() * each**3) * each
            total += weight * a
    return total


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {name: torchvision.models.get_model(name, weights=None).eval() for name in ("resnet18", "alexnet")}


# by hand


@pytest.mark.parametrize(
    "method, expected",
    [
        ("gradcam", [[1.5, 3], [4.5, 6]]),
        # channel 1: g 3/4, sum of the map 20, alpha = 1 / (2 + 20 * 3/4) = 1/17, weight 4 * 3/4 / 17 = 3/17;
        # channel 2 is 0 after the ReLU
        ("gradcam++", [[6 / 17, 12 / 17], [18 / 17, 24 / 17]]),
        ("layercam", [[1.5, 3], [4.5, 6]]),
    ],
)
def test_four_pixels_by_hand(method, expected):
    model, image = four_pixels()
    with assert_untouched(model):
        found = layer_map(model, image, "1", 0, method)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert (found.method, found.target, found.logit, found.note) == (method, 0, 15, "")


def test_what_speaks_against_a_class_has_no_weight_in_the_two_newer_ones():
    model, image = four_pixels()  # class 1: the only channel that is not 0 has gradient -1/4
    assert layer_map(model, image, "1", 1, "gradcam").values.tolist() == [[-0.5, -1], [-1.5, -2]]
    for method in ("gradcam++", "layercam"):
        assert not layer_map(model, image, "1", 1, method).values.any()


def test_layercam_sees_where_and_gradcam_only_how_much():
    """A head that looks at the left column alone."""
    model = nn.Sequential(
        fixed(nn.Conv2d(1, 1, 1, bias=False), [1.0]), nn.Flatten(), fixed(nn.Linear(4, 1, bias=False), [[1.0, 0, 1, 0]])
    ).eval()
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer_map(model, image, "0", 0, "layercam").values.tolist() == [[1, 0], [3, 0]]
    assert layer_map(model, image, "0", 0, "gradcam").values.tolist() == [[0.5, 1], [1.5, 2]]


# oracles


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam"])
@pytest.mark.parametrize(
    "name, layer, call",
    [
        ("alexnet", "features.10", 0),  # an in-place ReLU next
        ("alexnet", "features.11", 0),
        ("resnet18", "layer3", 0),
        ("resnet18", "layer4.1.relu", 0),  # called twice
        ("resnet18", "layer4.1.relu", 1),
        ("resnet18", "layer4.1.bn2", 0),  # `out += identity` next
    ],
)
def test_equal_to_the_papers_formula_on_the_zero_leaf_gradient(models, image, name, layer, call, method):
    model = models[name]
    found = layer_map(model, image, layer, TARGET, method, call=call).values
    reference = by_the_paper(method, *zero_leaf(model, layer, call, image, TARGET))
    assert np.abs(reference).max() > 0
    np.testing.assert_allclose(found, reference, rtol=1e-3, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize(
    "name, layer",
    [("resnet18", "layer3"), ("resnet18", "layer4"), ("alexnet", "features.11"), ("alexnet", "features.10")],
)
def test_grad_cam_equals_captums(models, image, name, layer):
    model = models[name]
    found = layer_map(model, image, layer, TARGET).values
    picture = image.clone().requires_grad_()
    reference = LayerGradCam(model, model.get_submodule(layer)).attribute(picture, target=TARGET)
    reference = reference.detach()[0, 0].numpy()
    assert np.abs(found - reference).max() <= 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize("method", ["gradcam", "layercam"])
@pytest.mark.parametrize("name, layer", [("resnet18", "layer3"), ("alexnet", "features.11")])
def test_equal_to_torchcam_where_nothing_is_written_in_place(models, image, name, layer, method):
    ours = scaled(layer_map(models[name], image, layer, TARGET, method).values)
    theirs = torchcams(method, models[name], layer, image, TARGET)
    assert np.abs(ours - theirs).max() <= 1e-4


def test_torchcams_grad_cam_plus_plus_never_divides(models, image):
    """torchcam 0.5 divides a masked copy (`alpha[mask].div_(...)`), so its alpha is g²: no oracle for this one."""
    model = models["resnet18"]
    value, slope = zero_leaf(model, "layer3", 0, image, TARGET)
    undivided = np.tensordot((slope**2 * slope.clip(0)).sum((1, 2)), value, 1)
    theirs = torchcams("gradcam++", model, "layer3", image, TARGET)
    np.testing.assert_allclose(theirs, scaled(undivided), atol=1e-3)
    ours = scaled(layer_map(model, image, "layer3", TARGET, "gradcam++").values)
    np.testing.assert_allclose(ours, scaled(by_the_paper("gradcam++", value, slope)), atol=1e-4)
    assert np.abs(ours - theirs).max() > 0.05


def grad_cams(kind: type, model: nn.Module, layer: str, image: Tensor, factor: float = 1.0) -> np.ndarray:
    """grad-cam's map of the class's logit times a factor, before it is scaled and resized."""
    kept = []

    class Kept(kind):
        def get_cam_image(self, *args, **kwargs):
            kept.append(super().get_cam_image(*args, **kwargs))
            return kept[-1]

    with Kept(model, [model.get_submodule(layer)]) as explain:
        explain(image.clone(), targets=[lambda logits: logits[TARGET] * factor])
    return kept[0][0]


@pytest.mark.parametrize("name, layer", [("resnet18", "layer3"), ("alexnet", "features.11")])
def test_layer_cam_equals_grad_cams(models, image, name, layer):
    ours = scaled(layer_map(models[name], image, layer, TARGET, "layercam").values)
    assert np.abs(ours - scaled(grad_cams(LayerCAM, models[name], layer, image))).max() <= 1e-5


@pytest.mark.parametrize("name, layer", [("resnet18", "layer3"), ("alexnet", "features.11")])
def test_grad_cam_plus_plus_equals_grad_cams_where_its_millionth_does_not_matter(models, image, name, layer):
    """grad-cam 1.5.7 adds 1e-6 to 2 g² + g³ sum(A). Gradients of a logit are so small that this is most of it."""
    model = models[name]

    def apart(factor: float) -> float:
        ours = layer_map(model, image, layer, lambda logits: logits[0, TARGET] * factor, "gradcam++").values
        return float(np.abs(scaled(ours) - scaled(grad_cams(GradCAMPlusPlus, model, layer, image, factor))).max())

    assert apart(1e4) <= 1e-4
    assert apart(1.0) > 0.005  # the control: the logit itself
    value, slope = zero_leaf(model, layer, 0, image, TARGET)
    weights = slope**2 / (2 * slope**2 + slope**3 * value.sum((1, 2), keepdims=True) + 1e-6) * slope.clip(0)
    with_it = scaled(np.tensordot(weights.sum((1, 2)), value, 1))
    np.testing.assert_allclose(scaled(grad_cams(GradCAMPlusPlus, model, layer, image)), with_it, atol=1e-4)


def test_torchcam_is_wrong_before_an_in_place_relu_and_ours_is_not(models, image):
    model = models["alexnet"]
    reference = scaled(by_the_paper("gradcam", *zero_leaf(model, "features.10", 0, image, TARGET)))
    ours = scaled(layer_map(model, image, "features.10", TARGET).values)
    theirs = torchcams("gradcam", model, "features.10", image, TARGET)
    assert np.abs(ours - reference).max() < 1e-4
    assert np.abs(theirs - reference).max() > 0.05


# Score-CAM


class Shadows(nn.Module):
    """Three maps as large as the picture, and logits that are weighted sums of them."""

    def __init__(self):
        super().__init__()
        self.maps = fixed(nn.Conv2d(1, 3, 1), [1.0, -2.0, 0.0], [0.0, 3.0, 7.0])  # the third one is constant
        self.head = fixed(nn.Linear(3, 2, bias=False), [[0.25, 0.5, 0.0], [1.0, 0.0, 0.0]])

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))


def by_the_algorithm(model: nn.Module, layer: str, image: Tensor, target: int) -> np.ndarray:
    """Algorithm 1 of the paper, one channel and one picture at a time."""
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output.clone()))
    with torch.no_grad():
        model(image)
        handle.remove()
        scores, total = [], 0
        base = model(torch.zeros_like(image))[0, target]
        for channel in kept[0][0]:
            map_ = functional.interpolate(channel[None, None], image.shape[2:], mode="bilinear", align_corners=False)
            spread = map_.max() - map_.min()
            mask = (map_ - map_.min()) / spread if spread > 0 else torch.zeros_like(map_)
            scores.append(model(image * mask)[0, target] - base)
        for weight, channel in zip(torch.stack(scores).softmax(0), kept[0][0], strict=True):
            total += weight * channel
    return total.numpy()


def test_score_cam_by_hand():
    model, image = Shadows().eval(), torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    # masks: x / 4, (4 - x) / 4 and 0; masked pictures x² / 4, x (4 - x) / 4 and 0, of means 21/16, 7/16 and 0
    logits = np.array([0.25 * m + 0.5 * (3 - 2 * m) for m in (21 / 16, 7 / 16, 0)])
    weights = np.exp(logits) / np.exp(logits).sum()
    x = np.array([[0.0, 1.0], [2.0, 4.0]])
    expected = weights[0] * x + weights[1] * (3 - 2 * x) + weights[2] * 7
    found = layer_map(model, image, "maps", 0, "scorecam")
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert (found.method, found.target, found.note) == ("scorecam", 0, "")


@pytest.mark.parametrize("name, layer", [("resnet18", "layer1"), ("alexnet", "features.0")])
def test_score_cam_equals_the_papers_algorithm(models, image, name, layer):
    with assert_untouched(models[name]):
        found = layer_map(models[name], image, layer, TARGET, "scorecam").values
    reference = by_the_algorithm(models[name], layer, image, TARGET)
    if layer == "features.0":  # the oracle's clone is the layer's own value, before the ReLU writes over it
        assert reference.min() < 0
    np.testing.assert_allclose(found, reference, rtol=1e-3, atol=1e-5 * np.abs(reference).max())


def test_score_cam_equals_torchcams_where_no_map_is_resized():
    """torchcam scales before it resizes, the paper after; here there is nothing to resize."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    image = torch.randn(1, 3, 12, 12)
    ours = layer_map(model.eval(), image, "1", 2, "scorecam").values
    np.testing.assert_allclose(scaled(ours), torchcams("scorecam", model, "1", image, 2), atol=1e-3)


def score_cams(model: nn.Module, image: Tensor, names, target=0, **options) -> list[GradCam]:
    wanted = [(name, 0) for name in names]
    return maps_or_raise(score_cam(model, image, wanted, target, describe(model, image), **options))


def test_score_cam_with_the_strongest_channels_says_so():
    model, image = Shadows().eval(), torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    (found,) = score_cams(model, image, ["maps"], max_channels=2)
    assert found.note == "From the 2 strongest of 3 channels."
    # mean |value|: 1.75, 2.5 and 7, so the first is left out
    logits = np.array([0.25 * m + 0.5 * (3 - 2 * m) for m in (7 / 16, 0)])
    weights = np.exp(logits) / np.exp(logits).sum()
    x = np.array([[0.0, 1.0], [2.0, 4.0]])
    np.testing.assert_allclose(found.values, weights[0] * (3 - 2 * x) + weights[1] * 7, rtol=1e-5)


def test_score_cam_runs_in_batches_and_tells_how_far_it_is(monkeypatch):
    monkeypatch.setattr(score_cam_module, "BATCH", 2)
    model, image = Shadows().eval(), torch.rand(1, 1, 4, 4)
    told, ran = [], Ran()
    layers = describe(model, image)
    handle = model.register_forward_pre_hook(ran)
    with looking(progress=lambda done, total: told.append((done, total))):
        found = [each for *_, each in score_cam(model, image, [("maps", 0), ("", 0)], 0, layers)]
    handle.remove()
    assert told == [(2, 3), (3, 3)]
    assert ran.times == 4  # the picture, whether two may go together, and two batches
    by_layer = {each.layer: each for each in found if isinstance(each, GradCam)}
    np.testing.assert_allclose(by_layer["maps"].values, score_cams(model, image, ["maps"])[0].values, rtol=1e-5)


def test_score_cam_is_cancelled_between_modules(monkeypatch):
    monkeypatch.setattr(score_cam_module, "BATCH", 1)
    model, image = Shadows().eval(), torch.rand(1, 1, 4, 4)
    for number in (1, 3, 6, 9):
        cancelled = Count(yes_from=number)
        with assert_untouched(model), pytest.raises(Cancelled), looking(cancelled=cancelled):
            score_cams(model, image, ["maps"])
        assert cancelled.asked == number
    assert live_hooks() == ()


def test_score_cam_of_a_segmenter_keeps_the_first_pictures_mask():
    class Segmenter(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Identity(), fixed(nn.Conv2d(1, 2, 1), [1.0, -1.0], [0.0, 2.5])

        def forward(self, x):
            return {"out": self.head(self.features(x))}

    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    found = layer_map(Segmenter().eval(), image, "features", None, "scorecam")
    assert (found.target, found.logit) == (0, 9) and found.values.tolist() == [[1, 2], [3, 4]]  # one channel: weight 1
    top = np.array([[True, False], [False, False]])
    assert layer_map(Segmenter().eval(), image, "features", Mask(top, 1), "scorecam").logit == 1.5


# every method


@pytest.mark.parametrize("method", MAPS)
def test_nhwc_and_token_layers(method):
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 32, 64)
    layout = {"embed_dim": 24, "depths": [1, 2], "num_heads": [3, 3], "window_size": [4, 4], "patch_size": [4, 4]}
    swin = torchvision.models.SwinTransformer(**layout, num_classes=4).eval()
    nhwc = layer_map(swin, picture, "features.3.1.norm1", 1, method)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=(32, 64), depth=2, num_classes=4).eval()
    tokens = layer_map(vit, picture, "blocks.1.norm1", 1, method)
    assert nhwc.values.shape == (4, 8) and tokens.values.shape == (2, 4)
    if method != "scorecam":
        value, slope = zero_leaf(swin, "features.3.1.norm1", 0, picture, 1)
        reference = by_the_paper(method, value.transpose(2, 0, 1), slope.transpose(2, 0, 1))
        np.testing.assert_allclose(nhwc.values, reference, rtol=1e-3, atol=1e-4 * np.abs(reference).max())
        value, slope = (part[1:].T.reshape(-1, 2, 4) for part in zero_leaf(vit, "blocks.1.norm1", 0, picture, 1))
        reference = by_the_paper(method, value, slope)
        np.testing.assert_allclose(tokens.values, reference, rtol=1e-3, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("layer, part", [("4", "one number per feature"), ("2", "1 x 1")])
def test_a_layer_without_positions_is_refused(method, layer, part):
    model, image = four_pixels()
    with assert_untouched(model), pytest.raises(NoSpatialAxes, match=part):
        layer_map(model, image, layer, 0, method)


@pytest.mark.parametrize("method", MAPS)
def test_a_class_out_of_range(method):
    model, image = four_pixels()
    with pytest.raises(TargetNotFound, match="There is no class 2"):
        layer_map(model, image, "0", 2, method)


def test_score_cam_needs_one_picture_and_a_number_of_every_picture():
    model, image = four_pixels()
    with pytest.raises(TargetNotFound, match=r"^Score-CAM changes the picture"):
        layer_map(model, image, "0", lambda logits: logits[0, 0], "scorecam")
    layers = describe(model, image)
    with pytest.raises(ModelNotSupported, match="one picture"):
        list(score_cam(model, image.repeat(2, 1, 1, 1), [("0", 0)], 0, layers))
    with pytest.raises(ValueError, match="no method 'nonsense'"):
        grad_cam(model, image, [("0", 0)], 0, layers, method="nonsense")


def test_the_first_refusal_is_raised_when_nobody_takes_them():
    model, image = four_pixels()
    with pytest.raises(HooksError, match="one number per feature"):
        score_cams(model, image, ["0", "4"])
