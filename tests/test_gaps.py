"""The gap between two sets against its definition, chance that is no gap, and a blur that is one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from digits_models import digits, write_module
from scipy.stats import kstest
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

import hookscope as hs
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.gaps import LayerGap, beginning, describe_gap, discrepancy
from hookscope.hooks.results.sweeps import Sweep

SPLITS = 200


def by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Gretton's unbiased estimate, pair by pair, in Python's own floats."""

    def kernel(one: np.ndarray, other: np.ndarray) -> float:
        return (sum(float(a) * float(b) for a, b in zip(one, other, strict=True)) / len(one) + 1) ** 3

    within = [
        sum(kernel(a, b) for a, b in itertools.permutations(each, 2)) / (len(each) * (len(each) - 1))
        for each in (first, second)
    ]
    across = sum(kernel(a, b) for a in first for b in second) / (len(first) * len(second))
    return within[0] + within[1] - 2 * across


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    net: nn.Module = write_module(tmp_path_factory.mktemp("digits"))["plain"]()
    return net


def test_the_discrepancy_is_its_definition() -> None:
    draw = np.random.default_rng(0)
    for one, other, channels in ((5, 7, 3), (9, 4, 11), (2, 2, 1)):
        first, second = draw.normal(size=(one, channels)), draw.normal(0.5, size=(other, channels))
        assert discrepancy(first, second, 1)[0] == pytest.approx(by_definition(first, second), rel=1e-12)


def test_the_probability_is_that_of_permutations_dealt_by_hand() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.normal(size=(4, 2)), draw.normal(1.0, size=(4, 2))
    both = np.concatenate([first, second])
    found = by_definition(first, second)
    every = [
        by_definition(both[list(chosen)], both[[i for i in range(8) if i not in chosen]])
        for chosen in itertools.combinations(range(8), 4)
    ]
    exact = np.mean([each >= found - 1e-9 for each in every])
    assert discrepancy(first, second, 4000)[1] == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000) + 1 / 4000)


def test_halves_of_one_set_part_by_chance_alone(trained: nn.Module) -> None:
    pictures, _ = digits()
    features = hs.sweep(trained, pictures[:400].split(100), [hs.features("relu2")]).features[0].values
    draw, found = np.random.default_rng(0), []
    for _ in range(SPLITS):
        order = draw.permutation(400)
        found.append(discrepancy(features[order[:60]], features[order[60:120]], 99)[1])
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) < 0.05) < 0.1


def test_a_little_blur_is_found_among_a_hundred_pictures(trained: nn.Module) -> None:
    pictures, _ = digits()
    blurred = gaussian_blur(pictures[100:200], 3, [0.6, 0.6])
    sharp = swept(trained, pictures[:100])
    gaps = {gap.layer: gap for gap in hs.gap(sharp, swept(trained, blurred))}
    assert gaps["relu1"].p < 0.01 and gaps["relu1"].pictures == (100, 100)
    assert gaps["conv1"].p > 0.5  # the mean of what is linear in the picture does not see a blur
    start = beginning(tuple(gaps.values()))
    assert start is gaps["relu1"] and "sharpness" in describe_gap(tuple(gaps.values()))
    assert all(gap.p > 0.01 for gap in hs.gap(sharp, swept(trained, pictures[100:200])))  # the same, not blurred


def swept(net: nn.Module, pictures: Tensor) -> Sweep:
    return hs.sweep(net, pictures.split(50), [hs.gap()])


def test_channels_are_ranked_by_the_distance_in_their_own_deviation() -> None:
    net = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.manual_seed(0)
    first, second = torch.randn(64, 3, 4, 4), torch.randn(64, 3, 4, 4)
    second[:, 1] += 0.5
    (gap, *_) = hs.gap(hs.sweep(net, [first], [hs.gap()]), hs.sweep(net, [second], [hs.gap()]))
    one, other = first.double().mean((2, 3)), second.double().mean((2, 3))
    apart = np.hypot((one.mean(0) - other.mean(0)).numpy(), (one.std(0, False) - other.std(0, False)).numpy())
    spread = torch.cat([one, other]).std(0, correction=0).numpy()
    np.testing.assert_allclose(gap.channels, apart / spread, rtol=1e-5)
    assert list(gap.most_apart(1)) == [1] and gap.effect == pytest.approx(np.sqrt(np.mean(gap.channels**2)))


def test_where_it_begins_is_said_in_a_sentence() -> None:
    def gaps(pattern: str) -> list[LayerGap]:
        """One layer per letter, apart where it is an x."""
        return [
            LayerGap(f"layer{i}", 0, 0.1, 0.001 if each == "x" else 0.4, 1.0, np.zeros(2), (50, 50))
            for i, each in enumerate(pattern)
        ]

    assert beginning(gaps("....................")) is None
    assert describe_gap(gaps("...x.xx....x........")) == "No layer tells these two sets apart by more than chance."
    assert describe_gap(gaps("xxxxxxxxxxxxxxxxxxxx")).startswith(
        "The gap is there from the first layer on to the answer"
    )
    assert describe_gap(gaps("xxxxxxxxxxxxxxxxx...")).startswith(
        "The gap is there from the first layer on and is gone at the end"
    )
    late = describe_gap(gaps(".x.........xxxxxxxxx"))
    assert late.startswith("The gap begins at layer11 to the answer") and "content" in late


def test_what_cannot_be_compared_gets_a_sentence(trained: nn.Module) -> None:
    pictures, _ = digits()
    whole = swept(trained, pictures[:20])
    few = swept(trained, pictures[:3])
    for first, second, said in (
        (whole, few, "has 3 pictures, and with fewer than 8"),
        (whole, hs.sweep(trained, [pictures[:20]], [hs.answers()]), "no layer in common whose features they kept"),
        (whole, None, "A gap lies between two sets"),
    ):
        with pytest.raises(HooksError, match=said):
            hs.gap(first, second)
