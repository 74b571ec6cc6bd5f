"""Where two sides part: numbers against numpy and scipy, planted noise found, the model handed back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_untouched, four_pixels
from scipy.stats import ks_2samp, wasserstein_distance
from torch import Tensor, nn

from hookscope.hooks.causes.parting import parting, parting_calibration, partings_of_pairs
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.numbers import elsewhere
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.distributions import channel_distances
from hookscope.hooks.results.parting import (
    Calibration,
    PartedCall,
    Parting,
    calibrated,
    carriers,
    first_parting,
    first_sentence,
)


@pytest.fixture(params=["here", "on an accelerator"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of summing, on the processor."""
    if request.param != "here":
        monkeypatch.setattr(elsewhere, "lies_there", lambda values: True)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.relu(out)


class Net(nn.Module):
    """A small residual network whose ReLUs write in place."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(8) for _ in range(blocks)))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(1)
    return Net().eval()


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.rand(1, 3, 12, 12) for _ in range(4)]


@pytest.mark.usefixtures("way")
def test_identical_inputs_are_nowhere_apart(net: Net, pictures: list[Tensor]) -> None:
    with assert_untouched(net):
        found = parting(net, pictures[0], pictures[0])
    assert {each.layer for each in found.calls} >= {"", "stem", "blocks.1/add", "/mean", "blocks.2.relu", "head"}
    for each in found.calls:
        assert (each.distance, each.cosine, each.sqnr, each.reason) == (0, 0, math.inf, "")
        assert not each.share.size and not each.wasserstein.any() and not each.smirnov.any()
    assert first_parting(found).call is None
    assert first_sentence(found, first_parting(found)) == "The same everywhere: no layer is above 0.2."


@pytest.mark.filterwarnings("ignore:ks_2samp", "ignore:divide by zero")  # of its p, which is not asked for
@pytest.mark.usefixtures("way")
def test_every_number_is_that_of_numpy_and_scipy(net: Net, pictures: list[Tensor]) -> None:
    a, b = pictures[:2]
    found = parting(net, a, b)
    names = [each.layer for each in found.calls]
    with torch.no_grad(), capture(net, names) as of_a:
        net(a)
    with torch.no_grad(), capture(net, names) as of_b:
        net(b)
    assert len(found.calls) == len(of_a) > 20
    for each in found.calls:
        one, other = (seen[each.layer].value.double().numpy()[0] for seen in (of_a, of_b))
        norms, apart = (np.linalg.norm(one), np.linalg.norm(other)), np.linalg.norm(one - other)
        assert each.distance == pytest.approx(2 * apart / sum(norms), rel=1e-5)
        assert each.cosine == pytest.approx(1 - (one * other).sum() / (norms[0] * norms[1]), rel=1e-4, abs=1e-7)
        assert each.sqnr == pytest.approx(20 * math.log10(norms[0] / apart), rel=1e-5)
        rows = [values.reshape(len(values), -1) for values in (one, other)]
        squares = ((rows[0] - rows[1]) ** 2).sum(1)
        np.testing.assert_allclose(each.share, squares / squares.sum(), rtol=1e-4, atol=1e-7)
        for channel, (first, second) in enumerate(zip(*rows, strict=True)):
            assert each.wasserstein[channel] == pytest.approx(wasserstein_distance(first, second), rel=1e-5, abs=1e-7)
            assert each.smirnov[channel] == pytest.approx(ks_2samp(first, second).statistic, abs=1e-6)


def test_distances_of_unlike_numbers_of_values_with_ties_and_holes() -> None:
    random = np.random.default_rng(0)
    for size in (1, 5, 40):
        one, other = np.maximum(random.normal(size=30), 0), np.maximum(random.normal(1, 2, size), 0)
        wasserstein, smirnov = channel_distances(one[None], other[None])
        assert wasserstein[0] == pytest.approx(wasserstein_distance(one, other))
        assert smirnov[0] == pytest.approx(ks_2samp(one, other).statistic)
    broken = np.array([[1.0, np.nan, 2.0], [np.nan] * 3])
    wasserstein, smirnov = channel_distances(broken, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert (wasserstein[0], smirnov[0]) == (0, 0) and np.isnan(wasserstein[1]) and np.isnan(smirnov[1])


def test_an_object_that_only_moved_has_the_same_distribution() -> None:
    """By the distance it is elsewhere, so the distance is its control."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU())
    a = torch.zeros(1, 1, 16, 16)
    a[..., 3:6, 3:6] = torch.rand(3, 3)
    found = parting(net, a, a.roll((6, 6), (2, 3)))
    for each in found.calls:
        assert each.distance > 1.4 and each.shift == 0 and not each.wasserstein.any()


def test_pictures_of_two_sizes_have_distributions_and_say_why_there_is_no_distance(net: Net) -> None:
    found = parting(net, torch.rand(1, 3, 12, 12), torch.rand(1, 3, 9, 14), distributions="unlike")
    stem, head = found.at("stem"), found.at("head")
    assert stem is not None and head is not None
    assert math.isnan(stem.distance) and stem.smirnov.shape == (8,) and 0 < stem.shift < 1
    assert stem.reason.startswith("A is 1 x 8 x 12 x 12 here and B 1 x 8 x 9 x 14")
    assert head.distance > 0 and not head.smirnov.size


def test_values_before_a_write_in_place_and_several_passes_are_the_same() -> None:
    model, picture = four_pixels()
    whole = parting(model, picture, -picture)
    # the convolution's output is overwritten by the ReLU after it: [[2, 4, 6, 8], [-1, -2, -3, -4]] and the reverse
    first = whole.at("0")
    assert first is not None and first.distance == pytest.approx(2) and first.cosine == pytest.approx(2)
    parts = parting(model, picture, -picture, limit_bytes=40)
    assert parts.passes > 1 and whole.passes == 1
    for one, other in zip(
        whole.steps, [each for each in parts.steps if whole.at(each.layer) in whole.steps], strict=True
    ):
        assert (one.place, one.distance) == (other.place, other.distance)


def test_a_write_that_the_recorded_run_did_not_see_is_found_by_a_second_pass() -> None:
    model, picture = four_pixels()
    blind = tuple(
        replace(info, calls=tuple(replace(call, overwritten_by="") for call in info.calls))
        for info in describe(model, picture)
    )
    told, untold = (parting(model, picture, -picture, layers=layers) for layers in ((), blind))
    assert [each.distance for each in told.calls] == [each.distance for each in untold.calls]


@pytest.mark.usefixtures("way")
def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    a, b = torch.ones(1, 2, 2, 2), torch.full((1, 2, 2, 2), 3.0)
    a[0, 0, 0, 0] = math.nan
    b[0, 1, 1, 1] = math.inf
    found = parting(nn.Sequential(nn.Identity()), a, b).at("0")
    assert found is not None and found.left_out == 2
    assert found.distance == pytest.approx(2 * math.sqrt(24) / (math.sqrt(6) + math.sqrt(54)))


class Overflows(nn.Module):
    """Of values above its limit it makes infinite ones, and of those NaN further on."""

    def __init__(self, limit: float, alike: bool = False) -> None:
        super().__init__()
        self.one, self.two, self.three, self.four = (nn.Identity() for _ in range(4))
        self.limit, self.alike = limit, alike

    def forward(self, x: Tensor) -> Tensor:
        found = self.two(torch.where(self.one(x) > self.limit, math.inf, x))
        found[0, 0, 0, 0] = math.nan if self.alike else found[0, 0, 0, 0]  # as a mask has them, whatever the picture
        return self.four(self.three(found - found.amax()))


@pytest.mark.usefixtures("way")
def test_where_one_side_alone_has_infinite_values_the_two_part() -> None:
    """By their finite values the two are the same everywhere."""
    picture = torch.linspace(-1, 1, 32).reshape(1, 2, 4, 4)
    found = parting(Overflows(5.0), picture, picture, Overflows(0.9))
    first = first_parting(found)
    assert first.call is not None and first.call.layer == "two"
    assert (first.call.distance, first.call.left_out, first.call.unlike) == (0, 2, 2)
    lost = found.at("four")
    assert lost is not None and math.isnan(lost.distance) and lost.left_out == 32 and "no distance" in lost.reason
    alike = parting(Overflows(5.0, True), picture, picture, Overflows(5.0, True))
    assert [each.left_out for each in alike.calls if each.layer in ("one", "three")] == [0, 32]
    assert first_parting(alike).call is None and not any(each.unlike for each in alike.calls)


@pytest.mark.usefixtures("way")
def test_values_beyond_float32_squares() -> None:
    for scale in (1e25, 1e-25):
        found = parting(nn.Sequential(nn.Identity()), torch.full((1, 2, 2, 2), scale), torch.full((1, 2, 2, 2), -scale))
        assert found.calls[0].distance == pytest.approx(2)


def test_noise_in_one_block_is_the_first_parting_in_100_of_100_seeds(net: Net, pictures: list[Tensor]) -> None:
    layers = describe(net, pictures[0])
    for seed in range(100):
        torch.manual_seed(seed)
        block = seed % len(net.blocks)
        other = Net().eval()
        other.load_state_dict(net.state_dict())
        with torch.no_grad():
            other.blocks[block].conv.weight += 0.05 * torch.randn_like(other.blocks[block].conv.weight)
        found = parting(net, pictures[0], pictures[0], other, layers=layers, layers_b=layers, distributions="none")
        first = first_parting(found)
        assert found.models == 2 and first.call is not None and first.before is not None
        assert first.call.layer == f"blocks.{block}.conv"
        assert first.before.distance == 0
    assert first_sentence(found, first).startswith("Within tolerance up to blocks.2.relu; from blocks.3.conv on ")


def test_two_models_of_different_architectures_are_refused(net: Net, pictures: list[Tensor]) -> None:
    with pytest.raises(HooksError, match="not of one architecture"):
        parting(net, pictures[0], pictures[0], nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))


def test_a_calibration_is_the_median_over_pairs_of_different_pictures(net: Net, pictures: list[Tensor]) -> None:
    steps = list(partings_of_pairs(net, pictures))
    assert [(each.pairs, each.total) for each in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    pairs = [parting(net, pictures[place], pictures[(place + 1) % 4]) for place in range(4)]
    for place, median in steps[-1].by_place.items():
        distances = [found.distance for pair in pairs if (found := pair.at(*place))]
        assert median == pytest.approx(np.median(distances))
    assert parting_calibration(net, pictures[:2]).total == 1
    with pytest.raises(HooksError, match="1 is too few"):
        parting_calibration(net, pictures[:1])


def test_a_calibration_that_was_stopped_compares_no_pair_twice(net: Net, pictures: list[Tensor]) -> None:
    layers, passes, known = describe(net, pictures[0]), list[int](), dict[int, Any]()
    *_, whole = partings_of_pairs(net, pictures, layers=layers)
    handle = net.register_forward_pre_hook(lambda *_: passes.append(1))
    begun = partings_of_pairs(net, pictures, layers=layers, known=known)
    assert [next(begun).pairs, next(begun).pairs, len(passes)] == [1, 2, 4]
    begun.close()
    *_, again = partings_of_pairs(net, pictures, layers=layers, known=known)
    handle.remove()
    assert len(passes) == 8 and again.by_place == whole.by_place and again.pairs == whole.pairs == 4


def _profile(*distances: float, models: int = 1) -> Parting:
    calls = [PartedCall(str(place), 0, each, 0, 0, np.array([0.7, 0.3])) for place, each in enumerate(distances)]
    return Parting(tuple(calls), models)


def test_the_first_parting_stays_above_the_threshold_for_three() -> None:
    found = first_parting(_profile(0.1, 0.5, 0.1, 0.3, 0.3, 0.3, 0.1))
    assert found.call is not None and found.before is not None and (found.call.layer, found.before.layer) == ("3", "2")
    assert first_parting(_profile(0.1, 0.1, 0.5)).call is not None  # to the end
    assert first_parting(_profile(0.1, 0.5, 0.5, 0.1)).call is None
    beyond = first_parting(_profile(0, 0.002, 0, models=2)).call
    assert beyond is not None and beyond.layer == "1"


def test_the_threshold_is_of_the_calibrated_distance() -> None:
    usual = Calibration(("0", "1", "2"), (0, 0, 0), np.array([1.0, 2.0, 0.0]), 4, 4)
    profile = _profile(0.1, 0.6, 0.0)
    assert calibrated(profile, usual) == {("0", 0): 0.1, ("1", 0): 0.3, ("2", 0): 0.0}
    assert calibrated(profile, None)["1", 0] == 0.6
    assert carriers(np.array([0.1, 0.6, 0.3], np.float32)) == ((1, 2), pytest.approx(0.9))


def test_how_many_groups_of_layers_are_compared_is_told_and_not_within_a_calibration(
    net: Net, pictures: list[Tensor]
) -> None:
    told: list[tuple[int, int]] = []
    with looking(progress=lambda *done: told.append(done)):
        found = parting(net, *pictures[:2], limit_bytes=20_000)
        assert len(told) == found.passes > 2 and told[-1] == (found.passes, found.passes)
        told.clear()
        parting_calibration(net, pictures[:3])
    assert told == [(1, 3), (2, 3), (3, 3)]
