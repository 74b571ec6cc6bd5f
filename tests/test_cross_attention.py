"""Attention from one of two pictures to the other: its maps lie over the one that is looked at; against torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import Page, opened, operators_folder, texts
from PIL import Image
from torch import Tensor

from hookscope.dashboard.asking.questions import AttentionOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.drawing.attention_pictures import SIDE_PX, attention_picture
from hookscope.hooks.results.looks import AttentionMaps

NET = """
    import torch
    from torch import nn
    from torch.nn import functional

    class Softmax(nn.Module):
        def forward(self, one, other):
            return ((one @ other.transpose(-2, -1)).softmax(-1) @ other).mean(1)

    class Fused(nn.Module):
        def forward(self, one, other):
            return functional.scaled_dot_product_attention(one, other, other).mean(1)

    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 3)
            self.own = nn.MultiheadAttention(16, 2, batch_first=True)
            self.cross = nn.MultiheadAttention(16, 2, batch_first=True)
            self.back = nn.MultiheadAttention(16, 2, batch_first=True)
            self.last = nn.MultiheadAttention(16, 2, batch_first=True)
            self.softmax, self.fused = Softmax(), Fused()

        def forward(self, left, right):
            left, right = (self.patch(each).flatten(2).transpose(1, 2) for each in (left, right))
            left, right = (each + self.own(each, each, each, need_weights=False)[0] for each in (left, right))
            heads = [each.unflatten(2, (2, 8)).transpose(1, 2) for each in (left, right)]
            more = (self.softmax(*heads) + self.fused(*heads)).flatten(1)
            seen = left + self.cross(left, right, right, need_weights=False)[0]
            back = right + self.back(right, left, left, need_weights=False)[0]
            last = self.last(seen, back, back, need_weights=False)[0]
            return self.head(last.mean(1) + more.repeat(1, 2)[:, :16])

    def make():
        net, own = Pairs(), torch.Generator().manual_seed(3)
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * 0.15)
        return net.eval(), {"input_size": 64, "resize": 64, "mean": 0.0, "std": 1.0, "reads": "softmax"}
"""
SPEC = "cross_net:make"
Pictures = list[tuple[str, str, Tensor]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("cross")
    with operators_folder(folder, cross_net=NET), opened(folder, SPEC) as made:
        yield made


@pytest.fixture(scope="module")
def pictures(page: Page) -> Pictures:
    found, generator = [], np.random.default_rng(3)
    for name in ("left.png", "right.png"):
        pixels, file = generator.integers(0, 256, (64, 64, 3), np.uint8), io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        given = page.inputs.receive(io.BytesIO(file.getvalue()), None, name)
        found.append((given.key, given.digest, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255))
    return found


def test_what_an_attention_looks_at_is_found(page: Page) -> None:
    info = page.engine.state(SPEC).info
    assert info is not None
    seen = {(each.layer, each.call): (each.keys, each.crosses) for each in info.attending}
    assert seen == {
        ("own", 0): ((0,), False),
        ("own", 1): ((1,), False),
        ("softmax", 0): ((1,), True),
        ("fused", 0): ((1,), True),
        ("cross", 0): ((1,), True),
        ("back", 0): ((0,), True),
        ("last", 0): ((0, 1), False),
    }


CASES = [
    ("own", 0, 0, ""),
    ("own:1", 1, 1, ""),
    ("cross", 0, 1, "It looks from left at right, over which its maps lie."),
    ("back", 0, 0, "It looks from right at left, over which its maps lie."),
    ("last", 0, 0, "What it looks at is made of both pictures; its maps lie over left."),
]


@pytest.mark.parametrize(("key", "call", "over", "said"), CASES)
def test_its_maps_lie_over_the_picture_that_is_looked_at(
    page: Page, pictures: Pictures, key: str, call: int, over: int, said: str
) -> None:
    (a, one, left), (b, other, right) = pictures
    layer = key.partition(":")[0]
    kept: list[Any] = []
    net: Any = page.net(SPEC)
    handle = net.get_submodule(layer).register_forward_pre_hook(lambda _, args: kept.append(args))
    with torch.no_grad():
        net(left, right)
        handle.remove()
        weights = net.get_submodule(layer)(*kept[call], average_attn_weights=False)[1][0]  # (head, query, key)
    found = page.answer(Unit(Side(SPEC, one, second=other), AttentionOf(layer, call)), AttentionMaps)
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)
    assert found.rollout is None  # no product leads through the branches of two pictures
    shown = page.shows(a=a, second_a=b, layers=[key], patch=10)
    text = texts(shown["card-attention 0"])
    assert (said in text) if said else ("It looks" not in text and "both pictures" not in text)
    # the mean of the heads, as the page draws it over either picture
    shares = found.weights[:, 10].mean(0).reshape(8, 8)
    pixels = (pictures[over][2][0].permute(1, 2, 0) * 255).round().byte().numpy()
    marked = None if said.startswith("It looks") else (1, 2)
    address = next(part for part in text.split() if part.startswith("/picture/"))
    assert page.client.get(address).get_data() == attention_picture(shares, pixels, marked, SIDE_PX)


def test_one_picture_in_both_places_needs_no_word(page: Page, pictures: Pictures) -> None:
    assert "It looks" not in texts(page.shows(a=pictures[0][0], layers=["cross"])["card-attention 0"])
