"""Class activation maps that the usual ways get wrong, beside ours (docs/truth.md, 7)."""

from __future__ import annotations

import io

import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam
from helpers import four_pixels
from PIL import Image
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import Tensor, nn
from torch.nn import functional

from hookscope.dashboard.drawing.palettes import LEVELS
from hookscope.dashboard.drawing.pictures import cam_overlay
from hookscope.hooks.errors import NoGradient, NoSpatialAxes
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.looks.targets import Target


def by_captum(model: nn.Module, layer: str, image: Tensor, target: int) -> np.ndarray:
    found = LayerGradCam(model, model.get_submodule(layer)).attribute(image.clone().requires_grad_(), target=target)
    return found.detach().numpy()


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two maps."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


# 7.1


def the_articles_map(model: nn.Module, layer: int, image: Tensor, target: int) -> Tensor:
    """`torch.sum(weights * features, dim=1)`, with weights of (image, channel)."""
    features: list[Tensor] = []
    slopes: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        features.append(output.detach())
        output.register_hook(slopes.append)

    handle = model[layer].register_forward_hook(keep)
    score = model(image)[0, target]
    handle.remove()
    score.backward()
    return functional.relu(torch.sum(slopes[0].mean(dim=(2, 3)) * features[0], dim=1)).squeeze()


def small(channels: int) -> nn.Module:
    """(image, channel, 8, 8) after the Tanh."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(channels * 64, 5))


def test_a_product_without_its_axes_fails_or_is_silently_wrong_where_channels_equal_columns() -> None:
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        the_articles_map(small(6), 1, image, 2)
    wrong = the_articles_map(small(8), 1, image, 2).numpy()
    for channels in (6, 8):
        found = layer_map(small(channels).eval(), image, "1", 2).values
        true = by_captum(small(channels), "1", image, 2)[0, 0]
        np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-6 * np.abs(true).max())
    # the control: nothing fails with 8 channels of 8 columns, and the map has to do with nothing
    assert wrong.shape == found.shape and abs(alike(wrong, true.clip(0))) < 0.3


# 7.3


def test_a_map_is_resized_as_grad_cam_does_and_other_ways_are_far_off() -> None:
    cam = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    drawn = np.asarray(Image.open(io.BytesIO(cam_overlay(cam, (224, 224)).png))) / (LEVELS - 1)
    scaled = torch.from_numpy(cam.clip(0) / cam.max())[None, None]
    peer = scale_cam_image(cam.clip(0)[None])[0]  # by min and max at the layer's own size, as grad-cam begins
    np.testing.assert_allclose(peer, scaled[0, 0], atol=1e-6)
    one = functional.interpolate(scaled, (224, 224), mode="bilinear", align_corners=False)[0, 0].numpy()
    assert np.abs(drawn - one).max() < 0.6 / (LEVELS - 1)
    others = [  # the control
        functional.interpolate(scaled, (224, 224), mode="bilinear", align_corners=True),
        functional.interpolate(scaled, (224, 224), mode="bicubic", align_corners=False),
        functional.interpolate(scaled, (224, 224), mode="nearest"),
    ]
    assert min(np.abs(drawn - other[0, 0].numpy()).max() for other in others) > 0.1


def test_a_map_of_zeros_is_drawn_as_nothing_and_not_as_nan() -> None:
    zeros = np.zeros((7, 7), np.float32)
    with np.errstate(invalid="ignore"):
        assert np.isnan((zeros - zeros.min()) / (zeros.max() - zeros.min())).all()  # the control
    overlay = cam_overlay(zeros, (14, 14))
    image = Image.open(io.BytesIO(overlay.png))
    assert not np.asarray(image).any() and not np.asarray(image.convert("RGBA"))[..., 3].any()
    assert overlay.note.startswith("No position of this layer speaks for the target")


# 7.4


def test_tokens_and_nhwc_maps_lie_on_the_picture_and_a_formula_for_nchw_reads_other_axes() -> None:
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 32, 64)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=(32, 64), depth=2, num_classes=4).eval()
    layout = {"embed_dim": 24, "depths": [1, 2], "num_heads": [3, 3], "window_size": [4, 4], "patch_size": [4, 4]}
    swin = torchvision.models.SwinTransformer(**layout, num_classes=4).eval()
    assert layer_map(vit, picture, "blocks.1.norm1", 1).values.shape == (2, 4)
    assert layer_map(swin, picture, "features.3.1.norm1", 1).values.shape == (4, 8)
    # the control: captum's takes axis 1 for the channels, of tokens and of (image, height, width, channel)
    assert by_captum(vit, "blocks.1.norm1", picture, 1).shape == (1, 1, 192)
    assert by_captum(swin, "features.3.1.norm1", picture, 1).shape == (1, 1, 8, 48)


def test_after_the_last_attention_there_is_no_map_and_a_formula_gives_an_empty_one() -> None:
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 32, 64)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=(32, 64), depth=2, num_classes=4).eval()
    (slope,) = torch.autograd.grad(*_score_and_output(vit, "blocks.1", picture))
    assert slope[0, 0].any() and not slope[0, 1:].any()  # the control: every patch's gradient is exactly 0
    with pytest.raises(NoGradient, match="After the last attention only the class token goes on"):
        layer_map(vit, picture, "blocks.1", 1)


def _score_and_output(model: nn.Module, layer: str, picture: Tensor) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    score = model(picture)[0, 1]
    handle.remove()
    return score, kept[0]


def test_windows_are_four_dimensional_and_no_picture() -> None:
    torch.manual_seed(0)
    layout = {"stem_channels": 8, "block_channels": [8], "block_layers": [1], "head_dim": 4, "partition_size": 4}
    model = torchvision.models.MaxVit((64, 64), **layout, stochastic_depth_prob=0.0, num_classes=3).eval()
    image, layer = torch.randn(1, 3, 64, 64), "blocks.0.layers.0.layers.window_attention.attn_layer.0"
    assert by_captum(model, layer, image, 1).shape == (1, 1, 16, 8)  # the control: a map of tokens by channels
    with pytest.raises(NoSpatialAxes, match="cut into windows"):
        layer_map(model, image, layer, 1)


# 7.5


def test_layers_without_positions_are_refused_and_captum_gives_a_number_for_a_map() -> None:
    model, image = four_pixels()
    assert by_captum(model, "4", image, 0).shape == (1, 1)  # the controls: a map that is one number
    assert by_captum(model, "2", image, 0).shape == (1, 1, 1, 1)
    for layer in ("4", "2"):
        with pytest.raises(NoSpatialAxes):
            layer_map(model, image, layer, 0)


# 7.6


def test_a_share_bends_the_map_and_the_articles_loss_turns_it_over() -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    image, truth = torch.randn(1, 3, 96, 96), torch.tensor([5])
    found = layer_map(model, image, "layer3", 5).values
    true = by_captum(model, "layer3", image, 5)[0, 0]
    np.testing.assert_allclose(found, true, rtol=1e-3, atol=1e-5 * np.abs(true).max())

    def of(target: Target) -> np.ndarray:
        return layer_map(model, image, "layer3", target).values

    assert 0.8 < alike(found, of(lambda logits: logits.softmax(1)[0, 5])) < 0.99  # the controls
    assert alike(found, of(lambda logits: functional.cross_entropy(logits, truth))) < -0.8
