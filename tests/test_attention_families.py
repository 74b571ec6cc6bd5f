"""Attention of timm's transformers that compute it in ways of their own, against query and key multiplied by hand."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from helpers import assert_untouched
from timm.models import davit, efficientformer_v2, efficientvit_msra, hiera, nest, volo, xcit
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.errors import NoAttention
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.attention import attention_maps


def inputs_of(model: nn.Module, kind: str, image: Tensor) -> dict[str, Tensor]:
    """What the modules whose class is called `kind` are given, by name."""
    found: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, args, name=name: found.update({name: args[0].detach().clone()}))
        for name, module in model.named_modules()
        if type(module).__name__ == kind
    ]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return found


def split(projected: Tensor, parts: int, heads: int) -> Tensor:
    """(image, token, parts · head · feature) as (part, image, head, token, feature)."""
    return projected.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4)


@pytest.fixture(scope="module")
def cait() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("cait_xxs24_224", img_size=64, depth=3, num_classes=4).eval()
    for name, parameter in model.named_parameters():
        if "gamma" in name or "cls_token" in name:
            nn.init.normal_(parameter)  # 1e-5 at the start, so that no block would change anything
    return model


@torch.no_grad()
def test_talking_heads_are_given_as_the_softmax_left_them(cait: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = inputs_of(cait, "TalkingHeadAttn", image)
    with assert_untouched(cait):
        maps = [each for each in attention_maps(cait, image) if each.layer in given]
    assert [each.layer for each in maps] == [f"blocks.{index}.attn" for index in range(3)]
    for each in maps:
        attention, x = cait.get_submodule(each.layer), given[each.layer]
        query, key, value = split(functional.linear(x, attention.qkv.weight, attention.qkv.bias), 3, 4)
        scores = query * 48**-0.5 @ key.mT
        # the first mixing, of the scores: heads are the rows of its weights
        mixed = torch.einsum("gh,bhij->bgij", attention.proj_l.weight, scores) + attention.proj_l.bias.view(1, 4, 1, 1)
        weights = mixed.softmax(-1)
        np.testing.assert_allclose(each.weights, weights[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(each.weights.sum(-1), 1, rtol=1e-5)
        assert (each.axes, each.grid, each.prefix_tokens) == (("head", "query", "key"), (4, 4), 0)
        # that this is what the layer does: the second mixing, the values and the projection make its output
        applied = torch.einsum("gh,bhij->bgij", attention.proj_w.weight, weights) + attention.proj_w.bias.view(
            1, 4, 1, 1
        )
        output = attention.proj((applied @ value).transpose(1, 2).flatten(2))
        torch.testing.assert_close(output, attention(x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(applied.sum(-1), torch.ones(()), atol=0.01)  # and is no distribution


@torch.no_grad()
def test_class_attention_looks_from_the_class_token_at_the_patches(cait: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = inputs_of(cait, "ClassAttn", image)
    maps = [each for each in attention_maps(cait, image) if each.layer in given]
    assert [each.layer for each in maps] == ["blocks_token_only.0.attn", "blocks_token_only.1.attn"]
    for each in maps:
        attention, x = cait.get_submodule(each.layer), given[each.layer]
        (query,) = split(attention.q(x[:, :1]), 1, 4)
        (key,), (value,) = split(attention.k(x), 1, 4), split(attention.v(x), 1, 4)
        weights = (query * 48**-0.5 @ key.mT).softmax(-1)
        np.testing.assert_allclose(each.weights, weights[0], rtol=1e-4, atol=1e-6)
        assert each.weights.shape == (4, 1, 17) and (each.grid, each.prefix_tokens) == ((4, 4), 1)
        output = attention.proj((weights @ value).transpose(1, 2).flatten(2))
        torch.testing.assert_close(output, attention(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_windows_behind_the_heads_are_told_from_them_by_what_the_module_says() -> None:
    torch.manual_seed(0)
    attention = nest.Attention(12, num_heads=3).eval()  # (image, head, block, query, key), fused
    x = torch.randn(1, 4, 9, 12)
    query, key, _ = attention.qkv(x)[0].unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
    (found,) = attention_maps(attention, x)
    assert found.axes == ("window", "head", "query", "key") and found.entropy.shape == (3,)
    np.testing.assert_allclose(found.weights, (query * 0.5 @ key.mT).softmax(-1), rtol=1e-5)

    outlook = volo.OutlookAttention(12, num_heads=3).eval()
    x = torch.randn(1, 8, 8, 12)
    weights = (outlook.attn(x) * outlook.scale).unflatten(-1, (3, 9, 9)).softmax(-1).reshape(64, 3, 9, 9)
    (found,) = attention_maps(outlook, x)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-5)

    units = hiera.MaskUnitAttention(12, 12, heads=3, window_size=4, use_mask_unit_attn=True).eval()
    x = torch.randn(1, 20, 12)
    query, key, _ = units.qkv(x).reshape(4, 5, 3, 3, 4).permute(2, 1, 3, 0, 4)  # a unit is every fifth token
    (found,) = attention_maps(units, x)
    np.testing.assert_allclose(found.weights, (query * 0.5 @ key.mT).softmax(-1), rtol=1e-5)


@torch.no_grad()
def test_heads_mixed_by_a_convolution_and_values_on_the_left() -> None:
    torch.manual_seed(0)
    attention = efficientformer_v2.Attention2d(16, key_dim=4, num_heads=2, attn_ratio=2, resolution=(3, 3))
    attention.eval()  # gives nothing back
    x = torch.randn(1, 16, 3, 3)
    query, key = (part(x).reshape(2, 4, 9) for part in (attention.q, attention.k))
    scores = (query.mT @ key)[None] * attention.scale + attention.get_attention_biases(x.device)
    (found,) = attention_maps(attention, x)
    np.testing.assert_allclose(found.weights, attention.talking_head1(scores).softmax(-1)[0], rtol=1e-4, atol=1e-6)
    assert found.grid == (3, 3)

    cascade = efficientvit_msra.CascadedGroupAttention(8, 4, 2, attn_ratio=1, resolution=3, kernels=(3, 3))
    cascade.eval()
    x = torch.randn(1, 8, 3, 3)
    first, _ = x.chunk(2, 1)
    query, key, _ = cascade.qkvs[0](first).split([cascade.key_dim, cascade.key_dim, cascade.val_dim], 1)
    scores = cascade.dws[0](query).flatten(2).mT * cascade.scale @ key.flatten(2)
    weights = (scores + cascade.get_attention_biases(x.device)[0]).softmax(-1)
    maps = attention_maps(cascade, x)
    assert [each.index for each in maps] == [0, 1]  # a group after the other, each a head
    np.testing.assert_allclose(maps[0].weights, weights, rtol=1e-4, atol=1e-6)


def test_windows_given_as_images_are_no_heads() -> None:
    torch.manual_seed(0)
    window = efficientvit_msra.LocalWindowAttention(
        8, 4, 2, attn_ratio=1, resolution=6, window_resolution=3, kernels=(3, 3)
    )
    model = nn.Sequential(nn.Conv2d(3, 8, 1), window)
    window.eval()
    layers = describe(model, torch.randn(1, 3, 6, 6))
    assert [(info.name, info.calls[0].heads) for info in layers if info.calls and info.calls[0].heads] == [
        ("1.attn", 1)
    ]
    maps = attention_maps(model, torch.randn(1, 3, 6, 6), layers=layers)
    assert [(each.weights.shape, each.axes[0], each.grid) for each in maps] == [((4, 1, 9, 9), "window", (3, 3))] * 2
    assert maps[0].entropy.shape == (1,)


def test_hieras_keys_have_no_grid_in_units_nor_behind_them() -> None:
    model = timm.create_model("hiera_tiny_224", num_classes=3).eval()
    maps = attention_maps(model, torch.randn(1, 3, 224, 224))
    shapes = [each.weights.shape for each in maps]
    assert shapes[:2] == [(49, 1, 64, 64), (49, 2, 16, 64)] and shapes[-1] == (8, 49, 49)
    assert {each.grid for each in maps} == {None}


@pytest.mark.parametrize("attention", [xcit.XCA(24, num_heads=2), davit.ChannelAttention(24, num_heads=2)])
def test_channels_that_look_at_channels_have_no_map(attention: nn.Module) -> None:
    model, x = nn.Sequential(nn.LayerNorm(24), attention).eval(), torch.randn(1, 9, 24)
    layers = describe(model, x)
    assert [(info.name, info.calls[0].channel_heads) for info in layers if info.calls[0].channel_heads] == [("1", 2)]
    assert attention_maps(model, x, layers=layers) == []
    with pytest.raises(NoAttention, match="from channels to channels"):
        attention_maps(model, x, [("1", 0)], layers)


def test_xcits_class_attention_is_found_and_its_other_layers_are_not() -> None:
    model = timm.create_model("xcit_nano_12_p16_224", img_size=64, depth=2, num_classes=3).eval()
    maps = attention_maps(model, torch.randn(1, 3, 64, 64), with_rollout=True)
    assert [each.layer for each in maps] == ["cls_attn_blocks.0.attn", "cls_attn_blocks.1.attn"]
    assert [(each.weights.shape, each.grid, each.prefix_tokens) for each in maps] == [((4, 1, 17), (4, 4), 1)] * 2
    assert [each.rollout for each in maps] == [None, None]


def test_keys_of_a_smaller_picture_lie_on_its_own_grid() -> None:
    model = timm.create_model("pvt_v2_b0", num_classes=3).eval()
    maps = attention_maps(model, torch.randn(1, 3, 64, 96))
    assert [each.weights.shape[1:] for each in maps[:4]] == [(384, 6), (384, 6), (96, 6), (96, 6)]
    assert {each.grid for each in maps} == {(2, 3)}
