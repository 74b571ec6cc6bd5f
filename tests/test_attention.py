"""Attention maps are the weights that the model applied, and their entropy is that of the weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers import Count, assert_untouched
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.errors import Cancelled, LayerNotFound, NoAttention
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.attention import attention_maps, entropy, rollout
from hookscope.hooks.passes.attention_calls import attention_weights
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.codec import decode, encode
from hookscope.hooks.results.looks import AttentionMaps

BLOCK = "encoder.layers.encoder_layer_{}.self_attention"


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(64, 16, 3, 4, 32, 64, num_classes=10).eval()
    nn.init.normal_(model.heads.head.weight)  # zeros in torchvision
    nn.init.normal_(model.class_token)
    return model


def made(weights: object) -> AttentionMaps:
    """A result of these weights, (head, query, key)."""
    values = np.array(weights, np.float32)
    return AttentionMaps("x", 0, 0, values, ("head", "query", "key"), np.zeros(len(values)), 0.0)


# values


def test_torchvisions_vit_equals_a_manual_softmax(vit, image):
    tokens: list[Tensor] = []
    handles = [block.ln_1.register_forward_hook(lambda m, a, o: tokens.append(o)) for block in vit.encoder.layers]
    vit(image)  # with gradients, because without them the fused kernel rounds otherwise
    for handle in handles:
        handle.remove()
    with assert_untouched(vit):
        maps = attention_maps(vit, image)
    assert [each.layer for each in maps] == [BLOCK.format(index) for index in range(3)]
    for each, token, block in zip(maps, tokens, vit.encoder.layers, strict=True):
        attention = block.self_attention
        with torch.no_grad():
            projected = functional.linear(token, attention.in_proj_weight, attention.in_proj_bias)
            query, key, _ = projected[0].unflatten(-1, (3, 4, 8)).permute(1, 2, 0, 3)  # (head, token, feature)
            expected = (query * math.sqrt(1 / 8) @ key.transpose(1, 2)).softmax(-1)
        np.testing.assert_array_equal(each.weights, expected)
        assert each.axes == ("head", "query", "key") and (each.grid, each.prefix_tokens) == ((4, 4), 1)
        np.testing.assert_allclose(each.weights.sum(-1), 1, rtol=1e-6)


def test_timms_fused_attention_equals_its_unfused_one(image):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=3, depth=3).eval()
    assert model.blocks[0].attn.fused_attn
    fused = attention_maps(model, image)
    seen: list[Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, a, o: seen.append(o.detach().clone()))
    with torch.no_grad():
        model(image)
    assert len(fused) == len(seen) == 3
    np.testing.assert_array_equal(fused[0].weights, seen[0][0])
    for each, weights, again in zip(fused, list(seen), attention_maps(model, image), strict=True):
        # the kernels of the layers before round differently
        np.testing.assert_allclose(each.weights, weights[0], rtol=1e-5)
        np.testing.assert_array_equal(again.weights, weights[0])
        assert (each.layer, each.grid, each.prefix_tokens) == (again.layer, (4, 4), 1)


@pytest.mark.parametrize(
    ("name", "size", "count", "axes", "grid"),
    [
        ("swin_t", 64, 12, ("window", "head", "query", "key"), (7, 7)),
        ("swin_v2_t", 64, 12, ("window", "head", "query", "key"), (8, 8)),
        ("maxvit_t", 224, 22, ("window", "head", "query", "key"), (7, 7)),
    ],
)
def test_windows_of_swin_and_maxvit(name, size, count, axes, grid):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    image = torch.randn(1, 3, size, size)
    softmaxes: list[Tensor] = []
    layers = describe(model, image)
    with torch.no_grad():
        expected = model(image)
        with pytest.MonkeyPatch.context() as patch:  # the plainest way to see what the functions give
            original = functional.softmax
            patch.setattr(functional, "softmax", lambda *a, **k: softmaxes.append(original(*a, **k)) or softmaxes[-1])
            model(image)
        with assert_untouched(model):
            maps = attention_maps(model, image, layers=layers)
        assert torch.equal(model(image), expected)
    assert len(maps) == len(softmaxes) == count
    for each, weights in zip(maps, softmaxes, strict=True):
        np.testing.assert_array_equal(each.weights.ravel(), weights.ravel())
    assert (maps[0].axes, maps[0].grid) == (axes, grid)
    heads = [call.heads for info in layers if not info.operation for call in info.calls if call.heads]
    assert heads == [each.weights.shape[-3] for each in maps]
    assert not any(call.heads for info in layers if info.operation for call in info.calls)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.5},
        {"attn_mask": torch.rand(5, 5, generator=torch.Generator().manual_seed(2)) > 0.4},
        {"attn_mask": torch.rand(5, 5, generator=torch.Generator().manual_seed(2))},
        {"enable_gqa": True},
    ],
)
def test_recomputed_weights_give_what_the_fused_kernel_gives(options):
    generator = torch.Generator().manual_seed(1)
    heads = 2 if options.get("enable_gqa") else 4
    query = torch.randn(1, 4, 5, 8, generator=generator)
    key, value = (torch.randn(1, heads, 5, 8, generator=generator) for _ in range(2))
    weights = attention_weights(query, key, **options)
    expected = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(weights @ value.repeat_interleave(4 // heads, 1), expected, rtol=1e-5, atol=1e-6)


def test_a_query_that_may_look_nowhere_has_zeros():
    weights = attention_weights(
        torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), attn_mask=torch.tensor([[1, 1], [0, 0]]) > 0
    )
    assert weights.tolist() == [[[[0.5, 0.5], [0, 0]]]]


class Steps(nn.Module):
    """Attention step by step: a softmax, perhaps dropout and a cast, and a product; and a softmax that feeds none."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.softmax, self.drop = way, nn.Softmax(-1), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x.unflatten(-1, (2, -1)).softmax(-1).sum()
        heads = x.unflatten(-1, (2, -1)).transpose(1, 2)  # (image, head, token, feature)
        weights = self.drop(self.softmax(heads @ heads.transpose(-2, -1)))
        if self.way == "einsum":
            return torch.einsum("bhij,bhjd->bhid", weights.to(x.dtype), heads)
        if self.way == "bmm":
            return torch.bmm(weights.flatten(0, 1).reshape(2, 3, 3), heads.flatten(0, 1))
        return weights @ heads


@pytest.mark.parametrize("way", ["matmul", "einsum"])
def test_a_softmax_that_feeds_a_product_is_attention_and_another_is_not(way):
    x = torch.rand(1, 3, 8)
    (found,) = attention_maps(nn.Sequential(Steps(way)).eval(), x)
    heads = x.unflatten(-1, (2, -1)).transpose(1, 2)
    assert found.layer == "0"  # where the product is, not the module of the softmax
    np.testing.assert_array_equal(found.weights, (heads @ heads.transpose(-2, -1)).softmax(-1)[0])


class Two(nn.Module):
    """Attends over a feature map twice in one call, and then over channels."""

    def forward(self, x: Tensor) -> Tensor:
        for scale in (1, 2):
            tokens = x.flatten(2).transpose(1, 2)[:, None]
            x = functional.scaled_dot_product_attention(tokens, tokens, tokens, scale=scale)[:, 0]
            x = x.transpose(1, 2).unflatten(-1, (2, 3))
        return x


class OverChannels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        channels = x.flatten(2)[:, None]
        return functional.scaled_dot_product_attention(channels, channels, channels)[:, 0].unflatten(-1, (2, 3))


def test_maps_of_a_feature_map_lie_on_it_and_a_rollout_ends_where_channels_attend():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Two(), OverChannels(), Two()).eval()
    image = torch.rand(1, 3, 2, 3)
    maps = attention_maps(model, image, with_rollout=True)
    assert [(each.layer, each.index, each.grid) for each in maps] == [
        (layer, index, (2, 3)) for layer in ("1", "3") for index in (0, 1)
    ]
    assert [each.weights.shape for each in maps] == [(1, 6, 6)] * 4
    np.testing.assert_allclose(maps[1].rollout, rollout(maps[:2]), rtol=1e-6)
    assert maps[2].rollout is None and maps[3].rollout is None
    chosen = attention_maps(model, image, [("3", 0), ("1", 0)])
    assert [(each.layer, each.index) for each in chosen] == [("1", 0), ("3", 0)]
    layers = describe(model, image)
    assert [(info.calls[0].heads, info.calls[0].channel_heads) for info in layers if info.name in ("2", "3")] == [
        (0, 1),
        (1, 0),
    ]
    with assert_untouched(model), pytest.raises(NoAttention, match="'2' attends from channels to channels"):
        attention_maps(model, image, [("2", 0)], layers)


# which layers, and what is refused


def test_only_what_is_wanted_and_no_further(vit, image):
    layers = describe(vit, image)
    assert [(info.name, info.calls[0].heads) for info in layers if info.calls and info.calls[0].heads] == [
        (BLOCK.format(index), 4) for index in range(3)
    ]
    after = Count()
    handle = vit.encoder.layers[1].ln_2.register_forward_pre_hook(lambda *_: after())
    delivered: list[AttentionMaps] = []
    live: list[set[str]] = []

    def receive(layer: str, call: int, result: AttentionMaps) -> None:
        delivered.append(result)
        live.append({each.layer for each in live_hooks()})

    found = attention_maps(vit, image, [(BLOCK.format(1), 0)], layers, receive)
    handle.remove()
    assert live == [{BLOCK.format(1), f"{BLOCK.format(1)}.out_proj"}]  # no hook anywhere else
    assert found == delivered and [each.layer for each in found] == [BLOCK.format(1)] and after.asked == 0
    assert found[0].rollout is None
    with pytest.raises(NoAttention, match=rf"attention itself\. These do: '{BLOCK.format(0)}'"):
        attention_maps(vit, image, [(BLOCK.format(0).rpartition(".")[0], 0)], layers)
    with pytest.raises(NoAttention, match="one image at a time"):
        attention_maps(vit, image.expand(2, -1, -1, -1))
    with pytest.raises(LayerNotFound):
        attention_maps(vit, image, [("encoder.layer", 0)], layers)


def test_a_model_without_attention():
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    assert attention_maps(model, torch.rand(1, 3, 4, 4)) == []
    with pytest.raises(NoAttention, match="neither does any other"):
        attention_maps(model, torch.rand(1, 3, 4, 4), [("0", 0)])


def test_cancelling_leaves_nothing(vit, image):
    layers = describe(vit, image)
    with assert_untouched(vit), pytest.raises(Cancelled), looking(cancelled=Count(yes_from=9)):
        attention_maps(vit, image, layers=layers)


def test_an_error_of_the_receiver_comes_through(vit, image):
    def receive(*result: object) -> None:
        raise ValueError("no room")

    with assert_untouched(vit), pytest.raises(ValueError, match="no room"):
        attention_maps(vit, image, deliver=receive)


def test_results_travel_as_bytes(vit, image):
    found = attention_maps(vit, image, with_rollout=True)[-1]
    again = decode(encode(found), type(found))
    np.testing.assert_array_equal(again.weights, found.weights)
    np.testing.assert_array_equal(again.rollout, found.rollout)
    assert (again.grid, again.entropy_limit) == (found.grid, found.entropy_limit)


# entropy


def test_entropy_of_one_hot_rows_is_0_and_of_uniform_rows_ln_n():
    weights = torch.stack([torch.eye(197), torch.full((197, 197), 1 / 197)])
    assert entropy(weights) == pytest.approx([0, math.log(197)], abs=1e-6)
    assert entropy(weights[None].expand(3, -1, -1, -1)) == pytest.approx([0, math.log(197)], abs=1e-6)


def test_entropy_of_real_rows_by_hand_and_the_constant_that_a_second_softmax_gives(vit, image):
    found = attention_maps(vit, image)[1]
    rows = found.weights.astype(np.float64)
    np.testing.assert_allclose(found.entropy, -(rows * np.log(rows)).sum(-1).mean(-1), rtol=1e-12)
    assert found.entropy_limit == math.log(17) and (found.entropy < found.entropy_limit).all()
    # control: probabilities taken for scores look uniform, whatever they are
    sharp, flat = torch.eye(197), torch.full((197, 197), 1 / 197)
    again = [float(entropy(rows.softmax(-1)[None])[0]) for rows in (sharp, flat)]
    assert max(again) - min(again) < 0.006 and min(again) > 0.99 * math.log(197)


def test_entropy_of_half_precision_zeros_is_a_number():
    weights = torch.eye(4, dtype=torch.float16)[None]
    assert entropy(weights).tolist() == [0]
    assert (-(weights * (weights + 1e-9).log()).sum(-1)).isnan().all()  # the usual way


# rollout


def test_rollout_by_hand():
    first, second = [[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]]
    # half of each plus half of the identity: [[.75, .25], [0, 1]] and then [[1, 0], [.25, .75]]
    assert rollout([made([first]), made([second])]).tolist() == [[0.75, 0.25], [0.1875, 0.8125]]
    assert rollout([made([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])]).tolist() == [
        [0.75, 0.25],
        [0.25, 0.75],
    ]


def test_rollout_on_the_way_is_that_of_all_maps_before(vit, image):
    maps = attention_maps(vit, image)
    (last,) = attention_maps(vit, image, [(BLOCK.format(2), 0)], with_rollout=True)
    np.testing.assert_allclose(last.rollout, rollout(maps), rtol=1e-6)
    np.testing.assert_allclose(rollout(maps).sum(-1), 1, rtol=1e-6)
    assert not np.allclose(last.rollout, attention_maps(vit, image, with_rollout=True)[1].rollout)


def test_rollout_is_refused_where_it_leads_through_windows():
    windows = AttentionMaps(
        "w", 0, 0, np.ones((2, 1, 1, 1), np.float32), ("window", "head", "query", "key"), np.zeros(1), 0.0
    )
    for maps, part in (([windows], "layer 'w'"), ([made([np.eye(2)]), made([np.eye(3)])], "same tokens"), ([], "no")):
        with pytest.raises(NoAttention, match=part):
            rollout(maps)
