"""What becomes of a softmax on its way to a product: axis by axis, and through whole networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.passes.softmax_axes import KEY, QUERY, UNKNOWN, axes_of_softmax, onward, sums_over_keys

SOFTMAX = torch.rand(1, 4, 3, 5).softmax(-1)  # (image, head, query, key)
AXES = axes_of_softmax(SOFTMAX)


def test_a_softmax_runs_over_the_keys() -> None:
    assert AXES == ("", "", QUERY, KEY)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "result", "axes"),
    [
        ("dropout", (0.0, False), {}, SOFTMAX, AXES),
        ("permute", (0, 2, 3, 1), {}, SOFTMAX.permute(0, 2, 3, 1), ("", QUERY, KEY, "")),
        ("permute", ((0, 2, 3, 1),), {}, SOFTMAX.permute(0, 2, 3, 1), ("", QUERY, KEY, "")),
        ("permute", (), {"dims": (3, 2, 1, 0)}, SOFTMAX.permute(3, 2, 1, 0), (KEY, QUERY, "", "")),
        ("transpose", (-2, -1), {}, SOFTMAX.mT, ("", "", KEY, QUERY)),
        ("transpose", (), {"dim0": 1, "dim1": 3}, SOFTMAX.transpose(1, 3), ("", KEY, QUERY, "")),
        ("flatten", (0, 1), {}, SOFTMAX.flatten(0, 1), ("", QUERY, KEY)),
        ("view", (1, 2, 2, 3, 5), {}, SOFTMAX.view(1, 2, 2, 3, 5), ("", "", "", QUERY, KEY)),
        ("view", (1, 4, 15), {}, SOFTMAX.view(1, 4, 15), (UNKNOWN, UNKNOWN, UNKNOWN)),
        ("linear", (torch.rand(4, 4),), {}, SOFTMAX, None),  # over the keys: no mixing of heads
        ("conv2d", (torch.rand(4, 4, 1, 1), None), {}, SOFTMAX, AXES),
        ("conv2d", (torch.rand(4, 4, 3, 3), None), {}, SOFTMAX, None),
        ("conv2d", (torch.rand(8, 4, 1, 1), None), {}, SOFTMAX.repeat(1, 2, 1, 1), None),
    ],
)
def test_axes_on_the_way(name: str, args: tuple, kwargs: dict, result: Tensor, axes: object) -> None:
    assert onward(name, (SOFTMAX, *args), kwargs, SOFTMAX, AXES, result) == axes


def test_a_linear_layer_over_the_heads_mixes_them_and_one_over_anything_else_does_not() -> None:
    turned = SOFTMAX.permute(0, 2, 3, 1)
    for weight, axes in ((torch.rand(4, 4), ("", QUERY, KEY, "")), (torch.rand(8, 4), None)):
        mixed = functional.linear(turned, weight)
        assert onward("linear", (turned, weight), {}, turned, ("", QUERY, KEY, ""), mixed) == axes


def test_einsums_are_read_by_their_letters() -> None:
    other = torch.rand(4, 4)
    mixed = torch.einsum("bhij,hg->bgij", SOFTMAX, other)
    assert onward("einsum", ("bhij,hg->bgij", SOFTMAX, other), {}, SOFTMAX, AXES, mixed) == ("", "", QUERY, KEY)
    for equation, over_keys in (("bhij,bhjd->bhid", True), ("bhij,bhid->bhjd", False), ("bhij,hg->bgij", False)):
        assert sums_over_keys("einsum", (equation, SOFTMAX, other), {}, SOFTMAX, AXES) is over_keys
        assert sums_over_keys("einsum", (equation, [SOFTMAX, other]), {}, SOFTMAX, AXES) is over_keys
    assert sums_over_keys("einsum", ("...ij,...jd", SOFTMAX, other), {}, SOFTMAX, AXES)  # not read: believed


def test_a_product_adds_up_over_the_keys_from_either_side() -> None:
    value, turned = torch.rand(1, 4, 5, 2), (SOFTMAX.mT, ("", "", KEY, QUERY))
    assert sums_over_keys("matmul", (SOFTMAX, value), {}, SOFTMAX, AXES)
    assert not sums_over_keys("matmul", (value.mT, SOFTMAX), {}, SOFTMAX, AXES)
    assert sums_over_keys("matmul", (value.mT, turned[0]), {}, *turned)
    assert not sums_over_keys("matmul", (), {"input": turned[0], "other": value}, *turned)


class Steps(nn.Module):
    """Attention by hand; `way` leads from the softmax to the values."""

    def __init__(self, way: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        heads = x.unflatten(-1, (2, -1)).transpose(1, 2)  # (image, head, token, feature)
        return self.way((heads @ heads.mT).softmax(-1), heads)


MIX = torch.tensor([[0.9, 0.2], [-0.3, 1.1]])


@pytest.mark.parametrize(
    "way",
    [
        lambda weights, values: weights @ values,
        lambda weights, values: (values.mT @ weights.transpose(-2, -1)).mT,
        lambda weights, values: torch.bmm(weights.flatten(0, 1), values.flatten(0, 1)),
        lambda weights, values: torch.einsum("bhqk,bhkd->bhqd", weights, values),
        lambda weights, values: torch.einsum("bhqk,hg->bgqk", weights, MIX) @ values,
        lambda weights, values: functional.conv2d(weights, MIX[:, :, None, None]) @ values,
        lambda weights, values: functional.linear(weights.permute(0, 2, 3, 1), MIX).permute(0, 3, 1, 2) @ values,
    ],
)
def test_the_weights_are_those_of_the_softmax_whatever_comes_next(way: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = torch.rand(1, 3, 8)
    (found,) = attention_maps(Steps(way).eval(), x)
    heads = x.unflatten(-1, (2, -1)).transpose(1, 2)
    assert torch.equal(torch.from_numpy(found.weights), (heads @ heads.mT).softmax(-1)[0])


@pytest.mark.parametrize(
    "way",
    [
        lambda weights, values: values.mT @ weights,  # adds up over the queries
        lambda weights, values: functional.linear(weights, torch.rand(3, 3)) @ values,  # no distribution over the keys
        lambda weights, values: (weights + weights.mT) @ values,
        lambda weights, values: weights.sum(),
    ],
)
def test_a_softmax_that_weighs_no_keys_is_no_attention(way: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert attention_maps(Steps(way).eval(), torch.rand(1, 3, 8)) == []
