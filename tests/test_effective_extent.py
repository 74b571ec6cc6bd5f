"""How much of a picture a layer is moved by in the main: by hand, and as autograd tells it place by place."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hookscope.hooks.results.receptive as results
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.strips import say_field
from hookscope.dashboard.sources.load import load
from hookscope.dashboard.worker.fields import field_of
from hookscope.hooks.errors import HooksError, NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.receptive import PROBED, effective_extent, receptive_fields
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.sweeps import Sweep


class Gated(nn.Module):
    """Each place is its own neighbourhood, and a little of all the picture's mean."""

    def __init__(self, channels: int = 1, share: float = 0.5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.share = share

    def forward(self, picture: Tensor) -> Tensor:
        return torch.relu(self.conv(picture) + self.share * picture.mean((2, 3), keepdim=True) + 9)


def box(side: int, length: int = 3) -> nn.Conv2d:
    made = nn.Conv2d(length, 2, side, padding=side // 2, bias=False)
    nn.init.ones_(made.weight)
    made.weight.data[1] *= 2  # two channels that are equal would cancel, where their random signs differ
    return made


@pytest.mark.parametrize(("share", "side"), [(0.04, 1), (0.36, 3), (0.37, 5), (0.9, 5), (1.0, 5)])
def test_of_a_box_filter_by_hand(share: float, side: int) -> None:
    """Its 25 weights are equal: one is 4 % of all, the inner nine 36 %."""
    found = effective_extent(box(5), torch.randn(2, 3, 21, 21), "", share=share)
    assert found.side == side and found.held >= share - 1e-9 and found.probes == 2 * len(PROBED)


def brute(model: nn.Module, pictures: Tensor, share: float) -> int:
    """The least square around each place that holds the share of the squared gradients of all channels, on average."""
    held = np.zeros(200)
    for picture in pictures.split(1):
        given = picture.clone().requires_grad_()
        output = model(given)[0]
        channels, rows, columns = output.shape
        for down, right in PROBED:
            row, column = int(down * rows), int(right * columns)
            slopes = [
                torch.autograd.grad(output[channel, row, column], given, retain_graph=True)[0][0].double()
                for channel in range(channels)
            ]
            energy = sum(each.square().sum(0) for each in slopes).numpy()
            middle = ((row + 0.5) * energy.shape[0] / rows, (column + 0.5) * energy.shape[1] / columns)
            for side in range(200):
                inside = [
                    [
                        abs(y + 0.5 - middle[0]) + 0.5 <= side / 2 and abs(x + 0.5 - middle[1]) + 0.5 <= side / 2
                        for x in range(energy.shape[1])
                    ]
                    for y in range(energy.shape[0])
                ]
                held[side] += energy[np.array(inside)].sum() / energy.sum()
    return int(np.argmax(held / held[-1] >= share - 1e-9))


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_of_one_channel_it_is_what_autograd_tells(share: float) -> None:
    torch.manual_seed(0)
    pictures = torch.randn(2, 1, 12, 15)
    model = Gated(share=4.0)
    assert effective_extent(model, pictures, "", share=share).side == brute(model, pictures, share)
    strided = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 1, 3, padding=1))
    assert effective_extent(strided, pictures, "2", share=share).side == brute(strided, pictures, share)


def test_of_many_channels_random_signs_come_close() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, padding=2))
    pictures = torch.randn(3, 1, 24, 24)
    assert abs(effective_extent(model, pictures, "2", share=0.8).side - brute(model, pictures, 0.8)) <= 1


def test_what_has_no_gradient_is_refused_and_a_share_has_to_be_one() -> None:
    pictures = torch.randn(2, 3, 9, 9)
    with pytest.raises(ValueError, match=r"The share is 0"):
        effective_extent(box(3), pictures, "", share=0)
    off = nn.Sequential(box(3), nn.Hardtanh(100.0, 101.0))
    with pytest.raises(NoGradient, match="zero at every pixel"):
        effective_extent(off, pictures, "1")

    class Detached(nn.Module):
        def forward(self, picture: Tensor) -> Tensor:
            return picture.detach() * 2

    with pytest.raises(NoGradient, match="has no gradient"):
        effective_extent(Detached(), pictures, "")
    with pytest.raises(HooksError, match="is not finite"):
        effective_extent(Overflows(), pictures, "")


class Overflows(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture.sqrt() * 1e30 * 1e30


def test_no_other_picture_is_begun_once_the_time_is_over() -> None:
    pictures = torch.randn(3, 3, 9, 9)
    assert effective_extent(box(3), pictures, "", seconds=0).probes == len(PROBED)
    assert effective_extent(box(3), pictures, "").probes == 3 * len(PROBED)


# --- as the page shows it

SOURCE = """
    import torch
    from torch import nn


    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.gate = nn.Conv2d(4, 4, 1)
            self.halved = nn.MaxPool2d(2)

        def forward(self, picture):
            values = self.conv(picture)
            return self.halved(values * torch.sigmoid(self.gate(values.mean((2, 3), keepdim=True)))).mean((2, 3))


    def make():
        torch.manual_seed(0)
        return Gated().eval(), {"input_size": 32, "resize": 32}
"""


def test_the_worker_tells_it_of_layers_that_see_the_whole_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gated_net.py").write_text("\n".join(line[4:] for line in SOURCE.splitlines()))
    monkeypatch.syspath_prepend(tmp_path)
    model = load(ModelOptions("gated_net:make", "gated"), "cpu")
    assert field_of(model, "conv", 0).effective is None  # its field is 3 x 3
    gated = field_of(model, "halved", 0)
    assert gated.whole and gated.effective is not None
    assert 3 <= gated.effective.side <= 8 and gated.effective.share == 0.9
    again = field_of(model, "halved", 0)
    assert again.effective is not None and again.effective.side == gated.effective.side  # the same random pictures
    side = gated.effective.side
    assert f"90 % of its sensitivity lies, {side} × {side} pixels around its place" in say_field(gated)


def field(effective: results.EffectiveExtent | None) -> ReceptiveField:
    edges = np.tile([0, 100], (10, 1))
    return ReceptiveField("gated", 0, (100, 100), edges, edges, True, True, effective=effective)


def test_the_crop_is_the_effective_field_around_the_place() -> None:
    crops = Crops(None, Sweep(np.arange(1)), field(results.EffectiveExtent(30, 0.9, 0.91, 4)))  # type: ignore[arg-type]
    shown, marks, seen = crops._place(0, (4, 7))  # whose middle is at row 45, column 75
    assert shown == seen == pytest.approx((0.6, 0.3, 0.9, 0.6)) and not marks
    shown, marks, seen = crops._place(0, (0, 9))  # in a corner it ends at the picture's edges
    assert seen == pytest.approx((0.8, 0.0, 1.0, 0.2))
    for known in (None, results.EffectiveExtent(220, 0.9, 0.91, 4)):
        crops = Crops(None, Sweep(np.arange(1)), field(known))  # type: ignore[arg-type]
        shown, marks, seen = crops._place(0, (4, 7))
        assert shown == seen == (0, 0, 1, 1) and len(marks) == 1
    assert "the dot is at the place of its value" in say_field(field(None))
    assert "a dot marks the place where that is all of the picture" in say_field(
        field(results.EffectiveExtent(180, 0.9, 0.91, 4))
    )
    with pytest.raises(ValueError, match="has no effective extent"):
        field(None).effective_box(0, 0)


def test_the_structure_says_that_all_is_seen_and_the_effective_field_that_it_is_little() -> None:
    model, picture = Gated(share=0.01), torch.randn(1, 1, 40, 40)
    layers = describe(model, picture)
    assert receptive_fields(model, picture, "", layers=layers).whole
    assert effective_extent(model, picture, "", layers=layers).side == 3


def test_doctests() -> None:
    import hookscope.hooks.looks.receptive as looks

    for module in (results, looks):
        assert doctest.testmod(module, extraglobs={"torch": torch, "nn": nn}).failed == 0
