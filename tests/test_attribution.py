"""Grad-CAM against numbers worked out by hand, the zero-leaf oracle, and captum on the real default model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam
from helpers import Count, Ran, assert_untouched, fixed, four_pixels, maps_or_raise
from torch import Tensor, nn

from hookscope.hooks.errors import (
    Cancelled,
    HooksError,
    LayerNotExecuted,
    LayerNotFound,
    NoGradient,
    NoSpatialAxes,
    TargetNotFound,
)
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.looks import GradCam

COFFEE = Path(__file__).parent.parent / "assets" / "samples" / "coffee.png"
ESPRESSO = 967


def cams(model: nn.Module, inputs: Tensor, names, target=None, **options) -> dict[tuple[str, int], GradCam]:
    wanted = [(name, 0) if isinstance(name, str) else name for name in names]
    found = maps_or_raise(grad_cam(model, inputs, wanted, target, describe(model, inputs), **options))
    return {(cam.layer, cam.call): cam for cam in found}


def refusal(model: nn.Module, inputs: Tensor, name: str, target=None, call: int = 0) -> HooksError:
    with pytest.raises(HooksError) as caught, assert_untouched(model):
        cams(model, inputs, [(name, call)], target)
    return caught.value


def zero_leaf_cam(
    model: nn.Module, name: str, call: int, image: Tensor, target: int, channels_first=lambda t: t
) -> Tensor:
    """Grad-CAM from the gradient with respect to zeros that are added to the layer's output."""
    zeros, values = [], []

    def add(module, args, output):
        zeros.append(torch.zeros_like(output, requires_grad=True))
        values.append(output.detach().clone())
        return output + zeros[-1]

    handle = model.get_submodule(name).register_forward_hook(add)
    score = model(image)[0, target]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, zeros[call])
    gradient, value = channels_first(gradient), channels_first(values[call])
    return (gradient.mean((2, 3), keepdim=True) * value).sum(1)[0]


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


# numbers


def test_four_pixels_by_hand():
    model, image = four_pixels()
    with assert_untouched(model):
        found = cams(model, image, ["1", "0"], 0)
    # d logit 0 / d channel = [3, 1] / 4 pixels; after the ReLU the second channel is 0
    assert found["1", 0].values.tolist() == [[1.5, 3], [4.5, 6]]
    # before it, the second channel's gradient is 0, so the map is the same
    assert found["0", 0].values.tolist() == [[1.5, 3], [4.5, 6]]
    assert (found["0", 0].target, found["0", 0].logit) == (0, 15)
    assert found["0", 0].values.dtype == np.float32
    assert cams(model, image, ["1"], 1)["1", 0].values.tolist() == [[-0.5, -1], [-1.5, -2]]  # signed


def test_as_many_channels_as_columns_is_no_trap():
    """(channel, height, width) of 2 x 2 x 2: a product that broadcasts over the wrong axis would go unnoticed."""
    model, image = four_pixels()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
    # weights 3/4 and 1/4 of channels x and 2 x: 1.25 x
    assert cams(model, image, ["0"], 0)["0", 0].values.tolist() == [[1.25, 2.5], [3.75, 5]]


def test_the_models_own_class_is_the_default():
    model, image = four_pixels()
    for target in (None, -1):
        assert cams(model, image, ["0"], target)["0", 0].target == 0


@pytest.fixture(scope="module")
def default():
    """The embedded default model with its real weights, and coffee.png as it sees it."""
    from PIL import Image

    from hookscope.dashboard.engine.options import ModelOptions
    from hookscope.dashboard.sources.load import load

    loaded = load(ModelOptions(), device="cpu")
    with Image.open(COFFEE) as picture:
        prepared = loaded.prepare(picture.convert("RGB"))
    return loaded.module, prepared.tensor


def test_the_default_model_says_espresso(default):
    model, picture = default
    with torch.no_grad():
        shares = model(picture).softmax(1)[0]
    assert shares.argmax() == ESPRESSO and shares[ESPRESSO] > 0.9


@pytest.mark.parametrize("name", ["blocks.6", "conv_head", "bn2", "blocks.6.0.bn3"])
def test_grad_cam_equals_captum_on_the_default_model(default, name):
    model, picture = default
    with assert_untouched(model):
        found = cams(model, picture, [name])[name, 0]
    with torch.enable_grad():
        reference = LayerGradCam(model, model.get_submodule(name)).attribute(
            picture.clone().requires_grad_(), target=ESPRESSO
        )
    reference = reference.detach()[0, 0].numpy()
    assert found.target == ESPRESSO and found.values.shape == (7, 7)
    assert np.abs(found.values - reference).max() <= 1e-5 * np.abs(reference).max()


def test_the_map_lies_on_the_cup(default):
    model, picture = default
    cam = cams(model, picture, ["bn2"])["bn2", 0].values.clip(0)
    cup = np.zeros((7, 7), bool)
    cup[0:4, 1:6] = True  # the cup's opening, in cells of 32 pixels of the crop
    assert cup.flat[cam.argmax()]
    assert cam[cup].mean() > 3 * cam[~cup].mean()


@pytest.mark.parametrize(
    "build, names",
    [
        ("alexnet", ["features.10", "features.11", "features.12"]),
        ("resnet18", ["layer3", "layer4", "layer4.1.bn2", ("layer4.1.relu", 0), ("layer4.1.relu", 1)]),
    ],
)
def test_in_place_and_reused_layers_equal_the_zero_leaf_oracle(build, names, image):
    torch.manual_seed(0)
    model = torchvision.models.get_model(build, weights=None).eval()
    found = cams(model, image, names, 5)
    assert len(found) == len(names)
    for (name, call), cam in found.items():
        reference = zero_leaf_cam(model, name, call, image, 5).numpy()
        np.testing.assert_allclose(cam.values, reference, rtol=1e-4, atol=1e-5 * np.abs(reference).max())


def test_nhwc_layers_of_swin(image):
    torch.manual_seed(0)
    model = torchvision.models.swin_t(weights=None).eval()
    (cam,) = cams(model, image, ["features.7.1.norm1"], 3).values()
    reference = zero_leaf_cam(model, "features.7.1.norm1", 0, image, 3, lambda t: t.permute(0, 3, 1, 2)).numpy()
    assert cam.values.shape == (7, 7)
    np.testing.assert_allclose(cam.values, reference, rtol=1e-3, atol=1e-5 * np.abs(reference).max())


def test_tokens_of_a_vision_transformer_on_a_grid_that_is_not_square():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=(64, 160), depth=3).eval()
    picture = torch.randn(1, 3, 64, 160)
    name = "blocks.2.norm1"
    (cam,) = cams(model, picture, [name], 3).values()
    assert cam.values.shape == (4, 10)

    def grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(1, 4, 10, -1).permute(0, 3, 1, 2)

    reference = zero_leaf_cam(model, name, 0, picture, 3, grid).numpy()
    assert np.abs(reference).max() > 0
    np.testing.assert_allclose(cam.values, reference, rtol=1e-3, atol=1e-5 * np.abs(reference).max())


class Inner(nn.Module):
    """Differentiates in its own forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 6)

    def slope(self, x: Tensor) -> Tensor:
        return torch.autograd.grad(self.first(x).square().sum(), x)[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x) * self.slope(x).mean()).relu().mean((2, 3)))


class Functional(Inner):
    """The same by `torch.func`, in which tensors have no memory of their own."""

    def slope(self, x: Tensor) -> Tensor:
        return torch.func.grad(lambda z: self.first(z).square().sum())(x.detach())


@pytest.mark.parametrize("kind", [Inner, Functional])
def test_models_that_differentiate_in_their_forward_pass(kind: type[Inner]) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(1, 3, 12, 12, requires_grad=True)
    values: list[Tensor] = []
    with model.second.register_forward_hook(lambda *seen: values.append(seen[2])):
        score = model(x)[0, 2]
    (slope,) = torch.autograd.grad(score, values[0])
    expected = (slope.mean((2, 3), keepdim=True) * values[0]).sum(1)[0].detach().numpy()
    assert np.abs(expected).max() > 0
    found = cams(model, x, [("second", 0)], 2)["second", 0]
    assert found.values == pytest.approx(expected, rel=1e-5, abs=1e-9) and not live_hooks()


def test_frozen_models_and_no_grad_callers():
    model, image = four_pixels()
    expected = cams(model, image, ["0"], 0)["0", 0].values
    model.requires_grad_(False)
    with torch.no_grad():
        assert np.array_equal(cams(model, image, ["0"], 0)["0", 0].values, expected)
    with torch.inference_mode():
        assert np.array_equal(cams(model, image, ["0"], 0)["0", 0].values, expected)


def test_a_model_that_writes_into_its_input():
    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = four_pixels()[0]

        def forward(self, x):
            return self.inner(x.mul_(2))

    image = four_pixels()[1]
    found = cams(Scales(), image, ["inner.1"], 0)["inner.1", 0]
    assert found.values.tolist() == [[3, 6], [9, 12]]
    assert image.tolist() == [[[[1, 2], [3, 4]]]]


def test_one_forward_pass_for_all_layers_and_nobodys_grad_changes():
    model, image = four_pixels()
    layers = describe(model, image)
    ran = Ran()
    handle = model.register_forward_pre_hook(ran)
    model[4].weight.grad = torch.ones(2, 2)
    with assert_untouched(model):
        list(grad_cam(model, image, [("0", 0), ("1", 0)], 0, layers))
    handle.remove()
    assert ran.times == 1


# segmentation


class Segmenter(nn.Module):
    """Logits x and 2 - x at every pixel."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()
        self.classifier = fixed(nn.Conv2d(1, 2, 1), [1.0, -1.0], [0.0, 2.5])

    def forward(self, x):
        return {"out": self.classifier(self.features(x)), "aux": x}


def test_a_segmenter_is_explained_over_its_own_mask():
    model, image = Segmenter().eval(), four_pixels()[1]
    found = cams(model, image, ["features"])["features", 0]
    # pixels 2, 3 and 4 are class 0; the gradient of their sum is 1 there and 0 at the first pixel
    assert (found.target, found.logit) == (0, 9)
    assert found.values.tolist() == [[0.75, 1.5], [2.25, 3]]
    other = cams(model, image, ["features"], 1)["features", 0]
    assert other.logit == 1.5
    assert isinstance(refusal(model, torch.full((1, 1, 2, 2), 4.0), "features", 1), TargetNotFound)


# refusals


@pytest.mark.parametrize(
    "name, kind, part",
    [
        ("4", NoSpatialAxes, "one number per feature"),
        ("2", NoSpatialAxes, "1 x 1"),
        ("", NoSpatialAxes, "one number per feature"),
        ("nobody", LayerNotFound, "has no layer"),
    ],
)
def test_layers_without_a_map_are_sentences(name, kind, part):
    model, image = four_pixels()
    problem = refusal(model, image, name)
    assert type(problem) is kind and part in str(problem)


@pytest.mark.parametrize("target", [2, 1000, -2])
def test_a_class_out_of_range(target):
    model, image = four_pixels()
    problem = refusal(model, image, "0", target)
    assert isinstance(problem, TargetNotFound) and f"There is no class {target}: the model has 2" in str(problem)


class Branches(nn.Module):
    """A side branch that does not reach the answer, one without a graph, a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.main, self.side, self.hidden, self.unused = (nn.Conv2d(1, 2, 1) for _ in range(4))

    def forward(self, x):
        self.side(x)
        with torch.no_grad():
            self.hidden(x)
        return self.main(x).mean((2, 3))


@pytest.mark.parametrize(
    "name, call, kind, part",
    [
        ("side", 0, NoGradient, "No path leads"),
        ("hidden", 0, NoGradient, "not part of an autograd graph"),
        ("unused", 0, LayerNotExecuted, "did not run"),
        ("main", 1, LayerNotExecuted, "is called once"),
    ],
)
def test_layers_off_the_path(name, call, kind, part):
    torch.manual_seed(0)
    problem = refusal(Branches().eval(), torch.rand(1, 1, 3, 3), name, 0, call)
    assert type(problem) is kind and part in str(problem)


def test_each_refusal_goes_to_its_own_layer_and_the_others_are_answered():
    torch.manual_seed(0)
    model = Branches().eval()
    image = torch.rand(1, 1, 3, 3)
    wanted = [(name, 0) for name in ("main", "side", "unused", "")]
    found = list(grad_cam(model, image, wanted, 0, describe(model, image)))
    assert {layer: type(result) for layer, _, result in found}.items() == {
        ("main", GradCam),
        ("side", NoGradient),
        ("unused", LayerNotExecuted),
        ("", NoSpatialAxes),
    }


def test_a_gradient_of_exactly_zero_is_said_and_not_drawn():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2).eval()
    problem = refusal(model, torch.randn(1, 3, 32, 32), "blocks.1.norm2", 3)
    assert isinstance(problem, NoGradient) and "class token" in str(problem)


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = four_pixels()[0]

    @torch.no_grad()
    def forward(self, x):
        return self.inner(x)


def test_a_model_that_runs_under_no_grad():
    problem = refusal(Detached(), four_pixels()[1], "inner.0")
    assert isinstance(problem, NoGradient) and "no_grad" in str(problem)


def test_cancelling_leaves_nothing():
    model, image = four_pixels()
    layers = describe(model, image)
    for number in (1, 2, 4, 8):  # before the pass, in it, and before the gradient
        cancelled = Count(yes_from=number)
        with assert_untouched(model), pytest.raises(Cancelled), looking(cancelled=cancelled):
            list(grad_cam(model, image, [("0", 0)], 0, layers))
        assert cancelled.asked == number
    assert live_hooks() == ()


def test_training_mode_is_put_back():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=5).train()
    image = torch.randn(1, 3, 64, 64)
    with assert_untouched(model):
        cams(model, image, ["layer3"], 1)
