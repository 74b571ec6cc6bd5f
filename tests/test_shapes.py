"""What the axes of an activation mean, on real models of every layout."""

from __future__ import annotations

import functools

import pytest
import timm
import torch
import torchvision
from torch import nn

from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.shapes import NCHW, NHWC
from hookscope.hooks.results.looks import Call, LayerInfo

TOKENS = ("image", "token", "channel")
FEATURES = ("image", "feature")


@functools.cache
def calls(name: str, height: int = 224, width: int = 224) -> dict[str, Call]:
    """The first call of every layer that ran."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        model = timm.create_model(name.removeprefix("timm:"))
    else:
        model = torchvision.models.get_model(name, weights=None)
    layers: tuple[LayerInfo, ...] = describe(model, torch.randn(1, 3, height, width))
    return {info.name: info.calls[0] for info in layers if info.calls}


@pytest.mark.parametrize("size", [(224, 224), (160, 288)])
def test_a_convolutional_network_is_nchw_until_it_is_flat(size):
    for name, call in calls("resnet18", *size).items():
        assert call.axes == (FEATURES if name in ("", "fc", "/flatten") else NCHW), name


def test_efficientnet_of_timm():
    for name, call in calls("timm:tf_efficientnet_lite0").items():
        flat = name in ("", "global_pool", "global_pool.flatten", "classifier")
        assert call.axes == (FEATURES if flat else NCHW), name


def test_vit_has_a_grid_behind_its_class_token():
    found = calls("vit_b_32")
    assert found["conv_proj"].axes == NCHW
    for name, call in found.items():
        if name.startswith("encoder"):
            assert (call.axes, call.grid, call.prefix_tokens) == (TOKENS, (7, 7), 1), name


def test_a_grid_need_not_be_square():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=(64, 160))
    layers = {info.name: info for info in describe(model, torch.randn(1, 3, 64, 160))}
    call = layers["blocks.11.norm1"].calls[0]
    assert (call.shape, call.axes, call.grid, call.prefix_tokens) == ((1, 41, 192), TOKENS, (4, 10), 1)
    embedded = layers["patch_embed"].calls[0]
    assert (embedded.grid, embedded.prefix_tokens) == ((4, 10), 0)
    assert layers["blocks.0.attn.q_norm"].calls[0].axes == ("image", "axis", "axis", "axis")  # heads, not channels


def test_register_tokens_stand_before_the_grid():
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=70)
    layers = {info.name: info for info in describe(model, torch.randn(1, 3, 70, 70))}
    call = layers["blocks.0"].calls[0]
    assert (call.shape, call.grid, call.prefix_tokens) == ((1, 30, 384), (5, 5), 5)


def test_swin_is_nhwc():
    found = calls("swin_t")
    assert found["features.0.0"].axes == NCHW  # the convolution
    assert found["features.0.1"].axes == NHWC  # the permutation behind it
    for name in (
        "features.0.2",
        "features.1",
        "features.1.0.norm1",
        "features.1.0.attn",
        "features.2.reduction",
        "norm",
    ):
        assert found[name].axes == NHWC, name
    assert found["features.7.1.mlp.0"].shape == (1, 7, 7, 3072)
    assert found["permute"].axes == found["avgpool"].axes == NCHW
    assert found["head"].axes == FEATURES


def test_swin_v2_and_wide_pictures():
    found = calls("swin_v2_t", 128, 256)
    assert found["features.1.0.norm1"].shape == (1, 32, 64, 96) and found["features.1.0.norm1"].axes == NHWC
    assert found["features.7.1"].axes == NHWC


def test_windows_are_not_the_image():
    found = calls("timm:swin_tiny_patch4_window7_224")
    block = "layers.0.blocks.1"
    assert found[f"{block}.attn.qkv"].axes == found[f"{block}.attn"].axes == ("window", "token", "channel")
    assert found[f"{block}.attn"].grid is None
    assert found[block].axes == NHWC
    assert (found[f"{block}.mlp"].axes, found[f"{block}.mlp"].grid) == (TOKENS, (56, 56))


def test_hieras_tokens_do_not_lie_row_by_row():
    model = timm.create_model("hiera_tiny_224").eval()
    numbered = torch.arange(56 * 56.0).reshape(1, -1, 1)
    assert model.unroll(numbered)[0, :6, 0].tolist() == [0, 8, 16, 24, 32, 40]  # the first of each unit, and so on
    found = calls("timm:hiera_tiny_224")
    assert found["patch_embed"].grid == (56, 56)
    assert {call.grid for name, call in found.items() if name.startswith(("unroll", "blocks"))} == {None}
    assert found["blocks.3.norm1"].axes == TOKENS


def test_maxvit_goes_from_nchw_to_windows_and_back():
    found = calls("maxvit_t")
    block = "blocks.0.layers.0.layers"
    assert found[f"{block}.MBconv"].axes == NCHW
    windows = ("image", "window", "token", "channel")
    for part in ("partition_op", "partition_swap", "attn_layer.0", "attn_layer.1.to_qkv", "mlp_layer.1", "mlp_layer"):
        assert found[f"{block}.window_attention.{part}"].axes == windows, part
    for part in ("departition_op", ""):
        assert found[f"{block}.window_attention.{part}".rstrip(".")].axes == NCHW
    assert set(found[f"{block}.grid_attention.partition_swap"].axes) == set(windows)
    assert found[f"{block}.grid_attention"].axes == NCHW


def test_convnext_turns_inside_its_blocks():
    found = calls("convnext_tiny")
    block = "features.1.0.block"
    assert [found[f"{block}.{index}"].axes for index in range(7)] == [NCHW, NHWC, NHWC, NHWC, NHWC, NHWC, NCHW]
    assert found["features.1.0"].axes == NCHW
    assert found["features.0.1"].axes == NCHW  # LayerNorm2d is a LayerNorm by class
    found = calls("timm:convnext_atto")
    assert found["stages.0.blocks.0.conv_dw"].axes == NCHW and found["stages.0.blocks.0.mlp.fc1"].axes in (NCHW, NHWC)
    assert found["stages.1"].axes == NCHW


class Odd(nn.Module):
    """Outputs that no rule knows."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Unflatten(1, (2, 3, 5))
        self.score = nn.Flatten(0)

    def forward(self, x):
        return self.score(self.turn(x))[0]


def test_what_is_not_known_is_called_axis():
    layers = {info.name: info.calls[0] for info in describe(Odd(), torch.zeros(1, 30))}
    assert layers["turn"].axes == ("image", "axis", "axis", "axis")
    assert layers["score"].axes == ("axis",)
    assert (layers[""].axes, layers[""].shape) == ((), ())


def test_token_first_attention():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    layers = {info.name: info.calls[0] for info in describe(model, torch.zeros(10, 3, 8)) if info.calls}
    assert layers["linear1"].shape == (10, 3, 16)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layers = {info.name: info.calls[0] for info in describe(model, torch.zeros(3, 10, 8)) if info.calls}
    assert layers["linear1"].axes == layers["self_attn"].axes == TOKENS


def test_one_dimensional_and_volumetric_convolutions():
    assert describe(nn.Sequential(nn.Conv1d(2, 3, 1)), torch.zeros(1, 2, 9))[1].calls[0].axes == (
        "image",
        "channel",
        "axis",
    )
    volume = describe(nn.Sequential(nn.Conv3d(2, 3, 1)), torch.zeros(1, 2, 4, 5, 6))[1].calls[0]
    assert volume.axes == ("image", "channel", "depth", "height", "width")
