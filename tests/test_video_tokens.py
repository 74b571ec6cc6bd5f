"""Transformers of clips: tokens are laid out as frames, rows and columns where that is known; against torch by hand."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import Page, array, opened, operators_folder, texts
from test_clips import gif, given

from hookscope.dashboard.asking.questions import ActivationOf, AttentionOf, ClassMap, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.hooks.causes.restoring import restore_parts
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.results.attending import query_of, shares_of
from hookscope.hooks.results.looks import Activation, AttentionMaps, GradCam
from hookscope.hooks.results.maps import frame, maps, reason_no_maps
from hookscope.hooks.results.targets import Class

NET = """
    import torch
    from functools import partial
    from torch import nn
    from torchvision.models.video import MViT, SwinTransformer3d
    from torchvision.models.video.mvit import MSBlockConfig

    SETTINGS = {"input_size": 32, "resize": 32, "mean": 0.5, "std": 0.5, "reads": "softmax", "frames": 8}

    def filled(net):
        own = torch.Generator().manual_seed(3)  # several are built at the same time
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * 0.2)
        return net.eval(), SETTINGS

    def mvit():
        one, half, kernel = [1, 1, 1], [1, 2, 2], [3, 3, 3]
        blocks = [
            MSBlockConfig(1, 16, 32, kernel, kernel, one, one),
            MSBlockConfig(2, 32, 32, kernel, kernel, half, half),
            MSBlockConfig(2, 32, 32, kernel, kernel, one, half),
        ]
        norm = partial(nn.LayerNorm, eps=1e-6)
        return filled(MViT((32, 32), 8, blocks, False, False, False, False, num_classes=3, norm_layer=norm))

    def swin():
        sizes = {"depths": [1, 1], "num_heads": [1, 2], "window_size": [4, 4, 4], "num_classes": 3}
        return filled(SwinTransformer3d([2, 4, 4], 16, **sizes))

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.see, self.mix, self.head = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8)), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, video):
            tokens = self.see(video).flatten(2).transpose(1, 2)
            return self.head(self.mix(tokens[:, ::2]).mean(1))

    def mixed():
        return filled(Mixed())
"""
MVIT, SWIN, MIXED = "video_nets:mvit", "video_nets:swin", "video_nets:mixed"
LEVELS = np.random.default_rng(9).integers(0, 256, (8, 32, 32), np.uint8)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("video")
    with operators_folder(folder, video_nets=NET), opened(folder, MVIT, SWIN, MIXED) as made:
        yield made


@pytest.fixture(scope="module")
def clip(page: Page) -> tuple[str, str]:
    found = page.inputs.receive(io.BytesIO(gif(LEVELS)), None, "walk.gif")
    return found.key, found.digest


def by_hand(net: Any, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's value and the gradient of class 1 there."""
    kept: list[torch.Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda *each: kept.append(next(flat(each[2]))))
    logit = net(given(LEVELS))[0, 1]
    handle.remove()
    (slope,) = torch.autograd.grad(logit, kept[0])
    return kept[0].detach()[0], slope[0]


def flat(value: Any) -> Iterator[torch.Tensor]:
    """The first of what a layer returns: MViT's blocks return how the tokens lie, too."""
    return iter(value if isinstance(value, tuple) else (value,))


def places(tokens: torch.Tensor, prefix: int, size: tuple[int, int, int]) -> torch.Tensor:
    """Tokens as (frame, row, column, channel), each looked up by its number."""
    frames, rows, columns = size
    found = torch.empty(*size, tokens.shape[-1])
    for index in range(frames * rows * columns):
        found[index // (rows * columns), index // columns % rows, index % columns] = tokens[prefix + index]
    return found


CASES = [
    (MVIT, "blocks.0", 1, (4, 8, 8)),
    (MVIT, "blocks.1", 1, (4, 4, 4)),
    (MVIT, "blocks.2.norm1", 1, (4, 4, 4)),
    (SWIN, "features.0.0", 0, (4, 8, 8)),
    (SWIN, "features.2.0.mlp.0", 0, (4, 4, 4)),
]


@pytest.mark.parametrize(("spec", "layer", "prefix", "size"), CASES)
def test_maps_of_tokens_lie_by_frame_row_and_column(
    page: Page, clip: tuple[str, str], spec: str, layer: str, prefix: int, size: tuple[int, int, int]
) -> None:
    value, slope = by_hand(page.net(spec), layer)
    laid, slopes = ((each if each.ndim == 4 else places(each, prefix, size)) for each in (value, slope))
    assert tuple(laid.shape[:3]) == size
    side = Side(spec, clip[1])
    found = page.answer(Unit(side, ActivationOf(layer)), Activation)
    channels = maps(found)
    assert channels is not None
    for number, moment in enumerate((0, 250, 500, 999)):
        np.testing.assert_allclose(frame(channels, 4, moment), laid[number].permute(2, 0, 1), atol=1e-4)
    cam = (slopes.mean((0, 1, 2)) * laid).sum(-1)
    answer = page.answer(Unit(side, ClassMap(layer, 0, "gradcam", Class(1))), GradCam)
    np.testing.assert_allclose(answer.values.reshape(size), cam, atol=1e-4 * float(cam.abs().max()))
    shown = page.shows(model=spec, a=clip[0], layers=[layer], moment=500, target="1")
    assert "frame 3 of 4" in texts(shown["card-head 0"])
    heat = next(trace for trace in shown["card-cam 0"]["figure"]["data"] if trace["type"] == "heatmap")
    np.testing.assert_allclose(array(heat["z"]), cam[2], atol=1e-4 * float(cam.abs().max()))
    if prefix:
        head = texts(shown["card-head 0"])
        assert f"tokens as 4 frames of a {size[1]}×{size[2]} grid" in head


def test_attention_is_of_the_frame_that_is_shown(page: Page, clip: tuple[str, str]) -> None:
    found = page.answer(Unit(Side(MVIT, clip[1]), AttentionOf("blocks.0.attn")), AttentionMaps)
    assert (found.grid, found.prefix_tokens, found.frames) == ((32, 8), 1, 4)
    query = query_of(found, 3 * 8 + 5, 750)
    assert query.index == 1 + 3 * 64 + 3 * 8 + 5 and query.place == (3, 5)
    laid = found.weights[0, query.index, 1:].reshape(4, 8, 8)
    shares = shares_of(found, "0", query.index, 750)
    assert shares is not None
    np.testing.assert_array_equal(shares, laid[3])
    shown = page.shows(model=MVIT, a=clip[0], layers=["blocks.0.attn"], moment=750, patch=29)
    assert "row 3, column 5" in texts(shown["card-attention 0"])
    windows = page.answer(Unit(Side(SWIN, clip[1]), AttentionOf("features.0.0.attn")), AttentionMaps)
    assert windows.grid is None and windows.axes[0] == "window"  # of 64 positions, in four frames


def test_squares_of_tokens_go_through_all_frames(page: Page) -> None:
    net, first, other = page.net(MVIT), given(LEVELS), given(LEVELS[::-1].copy())
    layers = describe(net, other)
    asked: dict[str, Any] = {"layer": "blocks.1", "by": "positions", "target": Class(1)}
    *_, last = restore_parts(net, first, other, layers=layers, **asked)
    value, _ = by_hand(net, "blocks.1")
    tokens = [1 + each * 16 + 2 * 4 + 3 for each in range(4)]

    def put(module: Any, args: Any, output: Any) -> Any:
        changed = output[0].clone()
        changed[0, tokens] = value[tokens]
        return changed, *output[1:]

    def number(logits: torch.Tensor) -> float:
        return float(logits[last.target] - logits[last.target_b])

    with torch.no_grad():
        of_a, of_b = (number(net(each)[0]) for each in (first, other))
        handle = net.get_submodule("blocks.1").register_forward_hook(put)
        back = number(net(other)[0])
        handle.remove()
    assert last.exact.shape == (4, 4) and abs(back - of_b) > 1e-4 * abs(of_a - of_b)
    np.testing.assert_allclose(last.exact[2, 3], (back - of_b) / (of_a - of_b), rtol=1e-3)


def test_tokens_that_were_chosen_among_those_of_a_clip_say_that_they_lie_nowhere_known(
    page: Page, clip: tuple[str, str]
) -> None:
    found = page.answer(Unit(Side(MIXED, clip[1]), ActivationOf("mix")), Activation)
    assert "how they lie on the image is not known" in reason_no_maps(found)
    shown = page.shows(model=MIXED, a=clip[0], layers=["mix"])
    assert "how they lie on the image is not known" in texts(shown)
