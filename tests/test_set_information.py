"""Information over a set: against all positions of all pictures, by hand, and bottlenecks that were planted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hookscope as hs
from hookscope.hooks.datasets.information import widths
from hookscope.hooks.results.information import SetInformation, bottlenecks, describe_information, spread
from hookscope.hooks.results.sketches import entropy, histogram_edges
from hookscope.hooks.results.sweeps import drawn_at

COUNT = 60


def seeded(net: nn.Module) -> nn.Module:
    own = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.randn(each.shape, generator=own) * (0.3 if each.ndim < 2 else each[0].numel() ** -0.5))
    return net.eval()


def squeezed(narrow: nn.Module, after: int) -> nn.Sequential:
    """64 channels, something narrow, and 64 channels that spread out what comes through it."""
    net = nn.Sequential(
        nn.Conv2d(6, 64, 3), nn.ReLU(), narrow, nn.Conv2d(after, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)
    )
    return seeded(net)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(COUNT, 6, 12, 12, generator=torch.Generator().manual_seed(1))


def told(net: nn.Module, pictures: Tensor, batch: int = 16) -> tuple[SetInformation, ...]:
    return hs.information(hs.sweep(net, pictures.split(batch), [hs.statistics(values=0), hs.information()]))


# --- the numbers


def test_the_effective_rank_is_that_of_the_library_for_tensors() -> None:
    draw = np.random.default_rng(0)
    for shape in ((50, 6), (6, 50)):
        samples = (draw.standard_normal(shape) * draw.random(shape[1])).astype(np.float32)
        assert spread(samples)[0] == pytest.approx(widths(torch.from_numpy(samples))[0], rel=1e-9)


def participation_by_hand(samples: np.ndarray) -> float:
    """Over every four pictures that differ, as the paper writes it."""
    traces, squares = [], []
    for i, j, k, m in itertools.permutations(range(len(samples)), 4):
        one, other = samples[i] - samples[j], samples[k] - samples[m]
        traces.append((one @ one) * (other @ other))
        squares.append((one @ other) ** 2)
    return float(np.mean(traces) / np.mean(squares))


def test_the_corrected_participation_ratio_is_the_mean_over_all_fours() -> None:
    samples = np.random.default_rng(1).standard_normal((9, 5)) * [1, 2, 1, 3, 1] + 4
    assert spread(samples)[1] == pytest.approx(participation_by_hand(samples), rel=1e-9)


def test_it_tells_the_truth_where_the_plain_one_cannot() -> None:
    draw = np.random.default_rng(2)
    eigenvalues = np.exp(-np.arange(300) / 60)  # of a covariance
    true = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    found = [spread(draw.standard_normal((64, 300)) * np.sqrt(eigenvalues))[1] for _ in range(40)]
    plain = [widths(torch.from_numpy(draw.standard_normal((64, 300)) * np.sqrt(eigenvalues)))[1] for _ in range(5)]
    assert np.mean(found) == pytest.approx(true, rel=0.02) and np.std(found) < 0.1 * true
    assert np.mean(plain) < 0.6 * true
    white = [spread(draw.standard_normal((128, 1280)))[1] for _ in range(5)]
    assert np.mean(white) == pytest.approx(1280, rel=0.1)  # and no more than there are channels
    assert max(white) <= 1280


@pytest.mark.parametrize("samples", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((9, 3)), np.ones((9, 0))])
def test_what_does_not_vary_has_no_width(samples: np.ndarray) -> None:
    assert all(math.isnan(number) for number in spread(samples))


def test_neither_scale_nor_shift_matters() -> None:
    samples = np.random.default_rng(3).standard_normal((20, 8))
    for other in (samples * 1e-30, samples * 1e30, samples + 1e3):
        assert spread(other) == pytest.approx(spread(samples), rel=1e-6)


# --- over a set


def outputs(net: nn.Module, layer: str, pictures: Tensor) -> np.ndarray:
    """Float32 (picture, channel, position): what a layer gives."""
    with hs.capture(net, [layer]) as seen, torch.no_grad():
        net(pictures)
    return seen[layer].value.flatten(2).numpy()


def test_one_place_of_each_drawn_picture_is_kept_whatever_the_batches(pictures: Tensor) -> None:
    net = squeezed(nn.Identity(), 64)
    found = hs.sweep(net, pictures.split(7), [hs.information(drawn=20)])
    other = hs.sweep(net, pictures[:33].split(33), [hs.information(drawn=20)])
    other += hs.sweep(net, pictures[33:].split(5), [hs.information(drawn=20)], first=33)
    drawn = np.argsort(drawn_at(np.arange(COUNT)))[:20]
    for layer in ("0", "4"):
        (mine,) = (part for part in found.places if part.layer == layer)
        (its,) = (part for part in other.places if part.layer == layer)
        np.testing.assert_array_equal(mine.pictures, drawn)
        np.testing.assert_array_equal(its.pictures, drawn)
        np.testing.assert_allclose(mine.values, its.values, rtol=1e-5, atol=1e-6)
        values = outputs(net, layer, pictures)[drawn]
        apart = np.abs(values - mine.values[:, :, None]).max(1)  # of each picture one place has exactly these
        assert (apart.min(1) < 1e-5).all()
        places = apart.argmin(1)
        assert len(set(places)) > 12  # others for each picture


def test_it_agrees_with_all_positions_of_all_pictures() -> None:
    net = seeded(nn.Sequential(nn.Conv2d(6, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 1), nn.Flatten(1)))
    pictures = torch.randn(800, 6, 6, 6, generator=torch.Generator().manual_seed(2))
    found = hs.information(hs.sweep(net, pictures.split(100), [hs.statistics(values=0), hs.information(drawn=800)]))
    whole = hs.information_flow(net, pictures, ["0", "1", "2"])
    for mine, its in zip(found[:3], whole, strict=True):
        assert (mine.layer, mine.type, mine.channels) == (its.layer, its.type, its.channels)
        assert mine.effective_rank == pytest.approx(its.effective_rank, rel=0.05)
        assert mine.participation_ratio == pytest.approx(its.participation_ratio, rel=0.1)
        # the same 64 bins, read from a sketch
        assert mine.entropy == pytest.approx(its.entropy, abs=0.02)


def test_the_entropy_is_of_equal_bins_between_the_extremes_over_the_set(pictures: Tensor) -> None:
    net = squeezed(nn.Identity(), 64)
    for step in told(net, pictures)[:2]:
        values = outputs(net, step.layer, pictures)
        counts, _ = np.histogram(values, histogram_edges(float(values.min()), float(values.max())))
        assert step.entropy == pytest.approx(entropy(counts), abs=0.03)


def test_a_rank_that_the_pictures_limit_is_told_with_its_ceiling(pictures: Tensor) -> None:
    net = seeded(nn.Sequential(nn.Conv2d(6, 200, 3), nn.ReLU(), nn.Conv2d(200, 200, 3)))
    (*_, last) = told(net, pictures[:12])
    assert (last.channels, last.pictures, last.ceiling) == (200, 12, 11)
    assert 9 < last.effective_rank < 11 and last.share == pytest.approx(last.effective_rank / 11)
    (first, *_) = told(net, pictures)
    assert first.ceiling == 59 and first.effective_rank < 59


def test_pictures_that_are_not_finite_are_left_out(pictures: Tensor) -> None:
    net = squeezed(nn.Identity(), 64)
    broken = pictures.clone()
    broken[5] = math.nan
    first, without = told(net, broken)[0], told(net, pictures[torch.arange(COUNT) != 5])[0]
    assert first.pictures == COUNT - 1 == without.pictures
    assert first.effective_rank == pytest.approx(without.effective_rank, rel=0.2)


def test_layers_without_positions_are_told_too() -> None:
    net = seeded(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 12)))
    pictures = torch.randn(40, 6, 4, 4, generator=torch.Generator().manual_seed(3))
    last = told(net, pictures)[-1]
    with torch.no_grad():
        assert last.effective_rank == pytest.approx(widths(net(pictures))[0], rel=1e-4)
    assert last.effective_rank < 6.01 and last.channels == 12


def test_what_was_not_asked_for_and_what_is_too_little_is_refused(pictures: Tensor) -> None:
    net = squeezed(nn.Identity(), 64)
    with pytest.raises(hs.HooksError, match="kept no places"):
        hs.information(hs.sweep(net, [pictures[:9]], [hs.statistics()]))
    with pytest.raises(hs.HooksError, match="has 7 pictures, and with fewer than 8"):
        hs.information(hs.sweep(net, [pictures[:7]], [hs.information()]))
    (first, *_) = hs.information(hs.sweep(net, [pictures], [hs.information()]))
    assert math.isnan(first.entropy) and first.type == "" and first.effective_rank > 1


# --- bottlenecks


def test_a_layer_of_two_channels_between_wide_ones_is_named(pictures: Tensor) -> None:
    flow = told(squeezed(nn.Conv2d(64, 2, 1), 2), pictures)
    (narrow,) = bottlenecks(flow)
    assert narrow.layer == "2" and narrow.effective_rank <= 2 and narrow.narrowing > 3
    said = f"2 with {narrow.effective_rank:.1f} directions, {narrow.narrowing:.1f} times fewer (it has 2 channels)."
    assert describe_information(flow).endswith(said)


def test_a_layer_of_rank_one_is_found_by_its_rank_and_not_by_its_width(pictures: Tensor) -> None:
    net = squeezed(nn.Conv2d(64, 64, 1, bias=False), 64)
    with torch.no_grad():
        first, second = torch.randn(64, 1), torch.randn(1, 64)
        net[2].weight.copy_((first @ second / 8)[..., None, None])  # type: ignore[operator]
    flow = told(net, pictures)
    widths_of = {step.layer: step.channels for step in flow}
    assert set(widths_of.values()) == {64}
    (narrow,) = bottlenecks(flow)
    assert narrow.layer == "2" and narrow.effective_rank == pytest.approx(1, abs=1e-3)
    said = f"2 with 1.0 directions, {narrow.narrowing:.1f} times fewer (although it has 64 channels)."
    assert describe_information(flow).endswith(said)


def test_without_a_bottleneck_none_is_named(pictures: Tensor) -> None:
    flow = told(squeezed(nn.Identity(), 64), pictures)
    assert not bottlenecks(flow) and describe_information(flow).startswith("No layer is half as narrow")


def test_the_narrowest_are_named_first_and_the_rest_counted() -> None:
    def steps(ranks: Sequence[float]) -> list[SetInformation]:
        return [SetInformation(f"l{n}", 0, "Conv2d", 5.0, 64, 128, rank, rank) for n, rank in enumerate(ranks)]

    text = describe_information(steps([40, 10, 40, 5, 40, 20, 40, 19, 40]))
    assert text.index("l3") < text.index("l1") < text.index("l7") and "And 1 more layer." in text and "l5" not in text
