"""How far pictures are from a baseline: scores against other libraries', alarms by chance, the layer that is named."""

from __future__ import annotations

import doctest
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import digits, write_module
from helpers import assert_untouched
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hookscope as hs
from hookscope.dashboard.panels.pictures import outliers
from hookscope.hooks.datasets import profiles as profiles_module
from hookscope.hooks.errors import Cancelled, HooksError
from hookscope.hooks.layers import fingerprint as fingerprint_module
from hookscope.hooks.layers.fingerprint import fingerprint
from hookscope.hooks.numbers import rows as rows_module
from hookscope.hooks.results import baselines, neighbours
from hookscope.hooks.results.baseline_scores import BaselineScores
from hookscope.hooks.results.baselines import baseline_of, neighbours_of
from hookscope.hooks.results.neighbours import kth_distances, unit
from hookscope.hooks.results.profiles import STATISTICS
from hookscope.hooks.results.sweeps import Sweep, read_sweep

COUNT = 300  # pictures of the baseline


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    net: nn.Module = write_module(tmp_path_factory.mktemp("digits"))["plain"]()
    return net


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Every digit, in an order in which no writer stands beside himself."""
    found, _ = digits()
    return found[np.random.default_rng(0).permutation(len(found))]


@pytest.fixture(scope="module")
def baseline(trained: nn.Module, pictures: Tensor) -> Any:
    return hs.Baseline.fit(trained, pictures[:COUNT].split(64))


def outputs(net: nn.Module, pictures: Tensor, layer: str) -> Tensor:
    """What a layer returns, by a hook of this test's own."""
    kept: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda *given: kept.append(given[2].detach().clone()))
    with torch.no_grad():
        net(pictures)
    handle.remove()
    return kept[0]


# --- the numbers of each picture


@pytest.mark.parametrize("way", ["compiled", "numpy", "torch alone"])
def test_profiles_are_the_numbers_of_all_values(
    trained: nn.Module, pictures: Tensor, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "numpy":
        monkeypatch.setattr(profiles_module, "_loop", lambda: None)
    if way == "torch alone":
        monkeypatch.setattr(rows_module, "loops", lambda: None)
    found = hs.sweep(trained, pictures[:50].split(16), [hs.profiles(["conv1", "relu2", "fc"])])
    assert [each.layer for each in found.profiles] == ["conv1", "relu2", "fc"]
    for each in found.profiles:
        values = outputs(trained, pictures[:50], each.layer).double().flatten(1).numpy()
        columns = (values.mean(1), values.std(1), (values == 0).mean(1), values.max(1))
        np.testing.assert_array_equal(each.pictures, np.arange(50))
        assert each.values.shape == (50, len(STATISTICS)) and each.values.dtype == np.float32
        for index, expected in enumerate(columns):
            np.testing.assert_allclose(each.values[:, index], expected, rtol=2e-5, atol=1e-6)
    assert found.profiles[1].values[:, 2].max() > 0.1  # there are zeros after a ReLU


def test_profiles_add_up_exactly_and_are_saved(trained: nn.Module, pictures: Tensor, tmp_path: Path) -> None:
    whole = hs.sweep(trained, pictures[:40].split(1), [hs.profiles()])
    parts = [
        hs.sweep(trained, pictures[a:b].split(1), [hs.profiles()], first=a) for a, b in ((25, 40), (0, 9), (9, 25))
    ]
    added = parts[0] + parts[1] + parts[2]
    added.save(tmp_path / "added")
    for found in (added, read_sweep(tmp_path / "added")):
        for one, other in zip(found.profiles, whole.profiles, strict=True):
            assert (one.layer, one.call) == (other.layer, other.call)
            np.testing.assert_array_equal(one.pictures, other.pictures)
            np.testing.assert_array_equal(one.values, other.values)


# --- scores against other libraries


def test_distances_are_those_of_scikit_learn(trained: nn.Module, pictures: Tensor, baseline: Any) -> None:
    assert baseline.numbers.feature_place == ("dequant", 0) and baseline.k == neighbours_of(COUNT) == 9
    features = outputs(trained, pictures[: COUNT + 200], "dequant").double().mean((2, 3)).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    near = NearestNeighbors(n_neighbors=10).fit(features[:COUNT])
    others = baseline.score(trained, pictures[COUNT : COUNT + 200].split(50))
    np.testing.assert_allclose(others.distance, near.kneighbors(features[COUNT:])[0][:, 8], atol=2e-6)
    own = baseline.leave_one_out()
    np.testing.assert_allclose(own.distance, near.kneighbors()[0][:, 8], atol=2e-6)  # scikit-learn leaves each out, too
    expected = [(1 + (own.distance >= each).sum()) / (COUNT + 1) for each in others.distance]
    np.testing.assert_allclose(others.distance_p, expected)
    expected = [(own.distance >= each).sum() / COUNT for each in own.distance]  # itself among them
    np.testing.assert_allclose(own.distance_p, expected)


def test_energy_is_that_of_scipy(trained: nn.Module, pictures: Tensor, baseline: Any) -> None:
    with torch.no_grad():
        expected = -logsumexp(trained(pictures[: COUNT + 50]).double().numpy(), axis=1)
    others = baseline.score(trained, pictures[COUNT : COUNT + 50])
    np.testing.assert_allclose(others.energy, expected[COUNT:], rtol=1e-5)
    counted = [(1 + (expected[:COUNT] >= each).sum()) / (COUNT + 1) for each in expected[COUNT:]]
    np.testing.assert_allclose(others.energy_p, counted, atol=1.5 / COUNT)  # of values that differ in the last bit


@pytest.mark.parametrize("block", [3, 1024])
def test_neighbours_in_blocks_are_those_of_scikit_learn(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.hooks.results.neighbours.BLOCK", block)
    draw = np.random.default_rng(0)
    others, given = draw.normal(size=(11, 4)), draw.normal(size=(7, 4))
    for k in (1, 4, 10):
        near = NearestNeighbors(n_neighbors=k).fit(others)
        np.testing.assert_allclose(kth_distances(others, given, k), near.kneighbors(given)[0][:, -1])
        np.testing.assert_allclose(kth_distances(others, others, k, itself=True), near.kneighbors()[0][:, -1])
    others[2] = np.nan
    given[0], given[1] = np.nan, -np.inf
    found = kth_distances(others, given, 10)
    assert np.isnan(found[0]) and found[1] == np.inf and np.isfinite(found[2:]).all()
    assert (kth_distances(others, given, 11)[2:] == np.inf).all()  # ten are there
    zero = unit(np.array([[0.0, 0.0], [3.0, 4.0], [np.inf, 1.0]]))
    np.testing.assert_allclose(zero[:2], [[0, 0], [0.6, 0.8]], rtol=1e-6)
    assert not np.isfinite(zero[2]).all()


def test_what_is_no_digit_is_told_from_digits(trained: nn.Module, pictures: Tensor, baseline: Any) -> None:
    torch.manual_seed(0)
    usual = baseline.score(trained, pictures[COUNT : COUNT + 200])
    foreign = {
        "inverted": -pictures[COUNT : COUNT + 200],
        "noise": torch.rand(200, 3, 16, 16) * 2 - 1,
        "upside down": pictures[COUNT : COUNT + 200].flip(2),
    }
    found = {}
    for name, other in foreign.items():
        scores = baseline.score(trained, other)
        truth = np.repeat([0, 1], 200)
        found[name] = [
            roc_auc_score(truth, np.concatenate(each))
            for each in (
                (usual.distance, scores.distance),
                (usual.energy, scores.energy),
                (usual.furthest, scores.furthest),
            )
        ]
    assert found["inverted"][0] > 0.99 and found["inverted"][1] > 0.9 and found["inverted"][2] > 0.99
    assert min(found["noise"]) > 0.99
    assert found["upside down"][1] > 0.75  # the same strokes, other digits: seen in the answer, if anywhere
    same = baseline.score(trained, pictures[COUNT + 200 : COUNT + 400])
    assert 0.4 < roc_auc_score(truth, np.concatenate([usual.distance, same.distance])) < 0.6  # as a control


# --- by chance


def test_false_alarms_are_as_many_as_is_said(trained: nn.Module, pictures: Tensor) -> None:
    whole = hs.sweep(trained, pictures.split(200), [hs.profiles(), hs.features("relu3"), hs.answers()])
    alarms: dict[tuple[str, float], list[float]] = {}
    draw = np.random.default_rng(1)
    for _ in range(20):
        dealt = draw.permutation(len(pictures))
        known, others = (of_pictures(whole, np.sort(part)) for part in (dealt[:100], dealt[100:]))
        scores = baseline_of(known).score_sweep(others)
        for name in ("distance_p", "energy_p", "layers_p"):
            for level in (0.02, 0.05, 0.2):
                alarms.setdefault((name, level), []).append(float((getattr(scores, name) <= level).mean()))
        np.testing.assert_array_equal(scores.firsts(0.2) >= 0, scores.layers_p <= 0.2)  # of those and of no others
    for (name, level), found in alarms.items():
        # each is Beta distributed about floor(level * 101) / 101; of twenty the mean, four deviations
        expected = np.floor(level * 101 + 1e-9) / 101
        far = 4 * np.sqrt(expected * (1 - expected) / 102 / 20)
        # at layers there are a few less, because the furthest of all is further than the furthest of all but one
        least = 0.6 * expected if name == "layers_p" else expected - far
        assert least < np.mean(found) < expected + far, (name, level)


def of_pictures(sweep: Sweep, numbers: np.ndarray) -> Sweep:
    """A sweep as if it had seen some of its pictures only."""
    from dataclasses import replace

    def cut(part: Any, *names: str) -> Any:
        return replace(part, pictures=numbers, **{name: getattr(part, name)[numbers] for name in names})

    assert sweep.answers is not None
    return Sweep(
        numbers,
        features=tuple(cut(each, "values") for each in sweep.features),
        profiles=tuple(cut(each, "values") for each in sweep.profiles),
        answers=cut(sweep.answers, "labels", "best", "shares", "of_label", "energy"),
    )


def test_leaving_one_out_is_a_baseline_without_it(trained: nn.Module, pictures: Tensor) -> None:
    whole = hs.sweep(trained, [pictures[:24]], [hs.profiles(), hs.features("relu3"), hs.answers()])
    own = baseline_of(whole, k=3).leave_one_out(unusual=0)
    for sure in (0.05, 0.1, 0.5):
        np.testing.assert_array_equal(own.firsts(sure) >= 0, own.layers_p <= sure)
    for number in (0, 7, 23):
        rest = baseline_of(of_pictures(whole, np.delete(np.arange(24), number)), k=3)
        alone = rest.score_sweep(of_pictures(whole, np.array([number])))
        np.testing.assert_allclose(own.distance[number], alone.distance[0], rtol=1e-6)
        np.testing.assert_allclose(own.quantiles(number), alone.quantiles(0))
        np.testing.assert_allclose(own.two_sided_p(number), alone.two_sided_p(0))
        assert own.distance_p is not None
        assert (own.distance >= own.distance[number]).sum() / 24 == own.distance_p[number]


@pytest.mark.parametrize("unusual", [0.0, 0.1])
def test_how_far_a_picture_is_at_a_layer_is_its_definition(
    trained: nn.Module, pictures: Tensor, unusual: float
) -> None:
    sweeps = [hs.sweep(trained, [some], [hs.profiles("relu2")]) for some in (pictures[:30], pictures[30:36])]
    usual, given = (each.profiles[0].values.astype(float) for each in sweeps)

    def far(base: np.ndarray, one: np.ndarray) -> np.ndarray:
        """From the middle, in how far all but one in twenty are at most on that side, (statistic,)."""
        low, middle, high = np.quantile(base, [0.05, 0.5, 0.95], axis=0)
        least = np.array([0.05 * middle[1], 0.05 * middle[1], 0.02, 0.5 * middle[1]])
        return np.abs(one - middle) / np.maximum(np.where(one >= middle, high - middle, middle - low), least)

    own = np.array([far(np.delete(usual, row, 0), usual[row]) for row in range(30)])
    left = baseline_of(sweeps[0]).leave_one_out(unusual)
    for row in range(30):
        others = np.sort(np.delete(own, row, 0), axis=0)[::-1][int(unusual * 29)]
        expected = own[row] / np.maximum(others, 1)
        assert (
            left.beyond[row, 0] == pytest.approx(expected.max(), rel=1e-5) and left.which[row, 0] == expected.argmax()
        )
    if not unusual:
        found = baseline_of(sweeps[0]).score_sweep(sweeps[1])
        for row in range(6):
            expected = far(usual, given[row]) / np.maximum(own.max(0), 1)
            assert found.beyond[row, 0] == pytest.approx(expected.max(), rel=1e-5)
            assert found.above[row, 0] == (given[row] >= np.median(usual, axis=0))[expected.argmax()]


def test_pictures_of_the_baseline_among_others_are_held_against_the_rest(
    trained: nn.Module, pictures: Tensor, baseline: Any
) -> None:
    own = baseline.leave_one_out(unusual=0)
    mixed = baseline.score(trained, torch.cat([pictures[5:7], pictures[COUNT : COUNT + 1]]), own=[5, 6, -1])
    assert mixed.inside.tolist() == [True, True, False]
    np.testing.assert_array_equal(mixed.distance[:2], own.distance[5:7])
    np.testing.assert_array_equal(mixed.layers_p[:2], own.layers_p[5:7])
    np.testing.assert_array_equal(mixed.quantiles(1), own.quantiles(6))
    naive = baseline.score(trained, pictures[5:7])
    assert (naive.distance < own.distance[5:7]).all()  # its nearest neighbour is itself
    with pytest.raises(HooksError, match="picture 300 is not in the baseline"):
        baseline.score(trained, pictures[:1], own=[COUNT])
    with pytest.raises(HooksError, match=r"there are 2 pictures\. Give one number for each"):
        baseline.score(trained, pictures[:2], own=[1])


# --- at each layer, by hand


def by_hand(values: list[float], given: list[float]) -> BaselineScores:
    """One layer with one channel of one place: mean and maximum are the value, the deviation is 0."""
    net = nn.Sequential(nn.Identity(), nn.Flatten())
    one, other = (
        hs.sweep(net, [torch.tensor(each, dtype=torch.float32)[:, None, None, None]], [hs.profiles("0")])
        for each in (values, given)
    )
    return baseline_of(one).score_sweep(other)


def test_quantiles_and_probabilities_are_those_counted_by_hand() -> None:
    scores = by_hand([1, 2, 3, 4, 5, 6, 7, 8, 8], [0.5, 4.5, 8, 9])
    means = np.array([scores.quantiles(row)[0, 0] for row in range(4)])
    np.testing.assert_allclose(means, [0, 4 / 9, (7 + 1) / 9, 1])
    two_sided = np.array([scores.two_sided_p(row)[0, 0] for row in range(4)])
    np.testing.assert_allclose(two_sided, [2 / 10, 2 * 5 / 10, 2 * 3 / 10, 2 / 10])
    assert scores.quantiles(0)[0, STATISTICS.index("zeros")] == 0.5  # none has a zero, and all are equal
    assert scores.two_sided_p(0)[0, STATISTICS.index("zeros")] == 1
    # the middle is 5, nine in ten lie above 1.4 and below 8; without the 1, which is furthest, that is 5.5 and 2.35
    furthest = (5.5 - 1) / (5.5 - 2.35)
    np.testing.assert_allclose(scores.beyond[:, 0] * furthest, [4.5 / 3.6, 0.5 / 3.6, 1, 4 / 3], rtol=1e-6)
    assert [scores.describe(row, 0) for row in (0, 3)] == ["mean lower than in all 9", "mean higher than in all 9"]
    assert scores.describe(1, 0) == "mean lower than in 5 of 9"


def test_a_value_that_is_not_finite_is_unlike_any() -> None:
    scores = by_hand([float(each) for each in range(1, 31)], [3.0, float("nan"), float("inf")])
    assert scores.beyond[0, 0] < 2 and (scores.beyond[1:, 0] == np.inf).all()
    assert scores.layers_p.tolist() == [pytest.approx(scores.layers_p[0]), 1 / 31, 1 / 31] and scores.layers_p[0] > 0.1
    assert scores.describe(1, 0) == "holds values that are not finite" and scores.first(1) == 0
    some = by_hand([float("nan")] + [float(each) for each in range(1, 31)], [3.0, float("nan")])
    assert some.layers_p[1] == 2 / 32  # one of the baseline's is as far


def test_what_never_varies_takes_a_difference_that_is_one() -> None:
    """A share of zeros that is 0 in every picture is not left by one value of a thousand."""
    torch.manual_seed(0)
    net, usual = nn.Sequential(nn.Identity(), nn.Flatten()), torch.rand(40, 1, 40, 40) + 1e-3
    one, many = usual[:1].clone(), usual[:1].clone()
    one[0, 0, 0, 0], many[0, 0, :4] = 0, 0
    scores = hs.Baseline.fit(net, [usual], "0").score(net, torch.cat([one, many]))
    zeros = STATISTICS.index("zeros")
    assert scores.quantiles(0)[0, zeros] == 1 and scores.beyond[0, 0] < scores.mark()
    assert scores.which[1, 0] == zeros and scores.beyond[1, 0] == pytest.approx(0.1 / 0.02)
    assert scores.first(1) == 0 and scores.describe(1, 0) == "share of zeros higher than in all 40"


class Deep(nn.Module):
    """Layers of single pixels, behind which the order of the pixels first matters at `third`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1)
        self.third, self.fourth = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.second(torch.relu(self.first(pictures))).relu()
        return self.head(self.fourth(self.third(seen).relu()).mean((2, 3)))


def smooth(count: int) -> Tensor:
    return nn.functional.interpolate(torch.randn(count, 3, 4, 4), size=(24, 24), mode="bicubic")


def test_the_layer_that_is_named_is_the_one_from_which_it_shows() -> None:
    torch.manual_seed(0)
    net, usual = Deep().eval(), smooth(200)
    with torch.no_grad():
        net.third.weight -= net.third.weight.mean((2, 3), keepdim=True)  # it answers to edges, and to nothing flat
    baseline = hs.Baseline.fit(net, usual.split(50))
    planted = smooth(40)
    order = torch.randperm(24 * 24)
    mixed = planted.flatten(2)[..., order].unflatten(2, (24, 24))  # the same pixels elsewhere
    scores = baseline.score(net, mixed)
    named = [scores.first(row, 0.01) for row in range(40)]
    layers = [None if each is None else baseline.layers[each][0] for each in named]
    assert layers.count("third") >= 38, layers
    plain = baseline.score(net, planted)  # as a control, with its pixels where they belong
    assert sum(plain.first(row, 0.01) is not None for row in range(40)) <= 2
    dark = baseline.score(net, mixed - 8)  # what shows at once is named at once
    assert {baseline.layers[int(each)][0] for row in range(40) if (each := dark.first(row, 0.01)) is not None} == {
        "first"
    }
    row = layers.index("third")
    assert "standard deviation higher than in all 200" in {
        scores.describe(row, index) for index in range(len(baseline.layers))
    }
    assert scores.worst(row) is not None and scores.beyond[row].max() == scores.beyond[row, scores.worst(row)]


def test_few_pictures_call_nothing_an_outlier() -> None:
    torch.manual_seed(0)
    net = Deep().eval()
    far = smooth(3) * 100
    for count, said in (
        (12, "Of 12 pictures no smaller probability than 0.08 can be told"),
        (18, "takes 19 pictures"),
        (19, ""),
    ):
        scores = hs.Baseline.fit(net, [smooth(count)]).score(net, far)
        assert (said in scores.note()) if said else not scores.note()
        assert scores.smallest == 1 / (count + 1) and (scores.layers_p == scores.smallest).all()
        assert [scores.first(row) is None for row in range(3)] == [bool(said)] * 3
        assert np.isinf(scores.mark()) == bool(said)
    own = hs.Baseline.fit(net, [smooth(19)]).leave_one_out()
    assert "takes 20 pictures" in own.note() and own.smallest == 1 / 19
    with pytest.raises(HooksError, match="A baseline of 7 pictures says nothing: with fewer than 8"):
        hs.Baseline.fit(net, [smooth(7)])


# --- the baseline itself


def test_a_baseline_of_a_sweep_is_the_one_that_is_fitted(trained: nn.Module, pictures: Tensor, baseline: Any) -> None:
    wanted = [hs.profiles(), hs.answers(), hs.features("dequant")]
    swept = hs.Baseline.from_sweep(hs.sweep(trained, pictures[:COUNT].split(64), wanted), trained)
    other = pictures[COUNT : COUNT + 30]
    one, two = swept.score(trained, other), baseline.score(trained, other)
    np.testing.assert_array_equal(one.distance, two.distance)
    np.testing.assert_array_equal(one.beyond, two.beyond)
    assert swept.model == baseline.model == fingerprint(trained) and len(swept) == COUNT
    with pytest.raises(HooksError, match=r"kept no numbers of each picture at each layer. Ask it for `profiles\(\)`"):
        hs.Baseline.from_sweep(hs.sweep(trained, [other], [hs.answers()]))
    bare = hs.Baseline.from_sweep(hs.sweep(trained, [other], [hs.profiles("conv1")]))
    scores = bare.leave_one_out()
    assert scores.distance is scores.distance_p is scores.energy is scores.energy_p is None and bare.model == ""
    assert scores.layers_p.shape == (30,)


def test_it_takes_what_a_sweep_takes_and_hands_the_model_back(trained: nn.Module, pictures: Tensor) -> None:
    told: list[Any] = []
    loader = DataLoader(TensorDataset(pictures[:50], torch.zeros(50, dtype=torch.int64)), batch_size=20)
    trained.train()
    with assert_untouched(trained):
        hs.Baseline.fit(trained, pictures[:20].split(5)).score(trained, pictures[:2])
    found = hs.Baseline.fit(trained, loader, ["conv?"], k=2, progress=lambda *far: told.append(far))
    scores, one = found.score(trained, loader), found.score(trained, pictures[60])
    trained.eval()
    assert told == [(20, 50), (40, 50), (50, 50)]
    assert [layer for layer, _ in found.layers] == ["conv1", "conv2", "conv3"] and found.k == 2
    assert scores.pictures.tolist() == list(range(50)) and one.distance.shape == (1,)
    told.clear()
    hs.Baseline.fit(trained, iter(pictures[:50].split(25)), "conv1", progress=lambda *far: told.append(far))
    assert told == [(25, None), (50, None)]
    with pytest.raises(Cancelled), hs.looking(cancelled=lambda: True):
        hs.Baseline.fit(trained, loader)
    with pytest.raises(HooksError, match="There was no picture to look at"):
        hs.Baseline.fit(trained, [])
    with pytest.raises(HooksError, match="A baseline of 50 pictures has no neighbour number 50: give 1 to 49"):
        hs.Baseline.fit(trained, loader, k=50)


def test_layers_of_another_order_or_lacking(trained: nn.Module, pictures: Tensor) -> None:
    swept = {
        each: hs.sweep(trained, [pictures[:20]], [hs.profiles(each[0]), *([hs.features(each[1])] if each[1] else [])])
        for each in ((("conv1", "conv2"), ""), (("conv1",), ""), (("conv1", "conv2"), "relu1"))
    }
    both, one, featured = swept.values()
    turned = Sweep(both.pictures, profiles=both.profiles[::-1])
    np.testing.assert_array_equal(
        baseline_of(both).score_sweep(turned).beyond, baseline_of(both).score_sweep(both).beyond
    )
    for known, given in ((both, one), (one, both)):
        with pytest.raises(HooksError, match=r"Layer 'conv2', call 0, is known of one and not of the other \(1 such"):
            baseline_of(known).score_sweep(given)
    with pytest.raises(HooksError, match=r"features are those of no layer, and the sweep's those of layer 'relu1'"):
        baseline_of(both).score_sweep(featured)


def test_the_examples_of_docstrings_run() -> None:
    for module in (baselines, fingerprint_module, neighbours, outliers):
        found = doctest.testmod(module, extraglobs={"np": np, "nn": nn})
        assert found.attempted and not found.failed, module


# --- files


def test_a_baseline_is_saved_and_read_without_pickle(
    trained: nn.Module, pictures: Tensor, baseline: Any, tmp_path: Path
) -> None:
    baseline.save(tmp_path / "digits.json")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2 and names[1] == "digits.json"
    data = (tmp_path / names[0]).read_bytes()
    assert names[0] == f"baseline-{hashlib.sha256(data).hexdigest()[:16]}.safetensors" and b"pickle" not in data
    written = json.loads((tmp_path / "digits.json").read_text())
    assert written["pictures"] == COUNT and written["k"] == 9 and written["model"] == fingerprint(trained)
    assert written["versions"]["torch"] == torch.__version__ and written["features"] == ["dequant", 0]
    at = written["layers"].index(["relu2", 0])
    values = outputs(trained, pictures[:COUNT], "relu2").double().flatten(1).numpy()
    np.testing.assert_allclose(
        written["usual"][at][1], np.quantile(values.std(1), written["levels"]), rtol=1e-4
    )  # a person reads what is usual
    again = hs.Baseline.read(tmp_path / "digits.json")
    assert isinstance(again, hs.Baseline) and (again.made, again.versions) == (baseline.made, baseline.versions)
    others = pictures[COUNT : COUNT + 20]
    one, two = (each.score(trained, others) for each in (again, baseline))
    for name in ("distance", "distance_p", "energy", "energy_p", "layers_p", "beyond", "which", "above"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    again.save(tmp_path / "digits.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == names  # the same content is the same file


def test_files_that_are_not_as_they_were_get_a_sentence(
    trained: nn.Module, pictures: Tensor, baseline: Any, tmp_path: Path
) -> None:
    path = tmp_path / "digits.json"
    with pytest.raises(HooksError, match=r"digits.json cannot be read \(No such file"):
        hs.Baseline.read(path)
    baseline.save(path)
    text, beside = path.read_text(), next(tmp_path.glob("*.safetensors"))
    data = beside.read_bytes()
    fields = json.loads(text)
    damaged = {
        text[:100]: "is no saved one, or it is damaged",
        "[1, 2]": "is no saved one, or it is damaged",
        json.dumps(fields | {"more": 1}): "is no saved one, or it is damaged",
        json.dumps(fields | {"k": "9"}): "is no saved one, or it is damaged",
        json.dumps(fields | {"pictures": 299}): "is no saved one, or it is damaged",
        json.dumps(fields | {"format": "hookscope baseline 9"}): r"of another version \(hookscope baseline 9\)",
        json.dumps(fields | {"file": "../../secret"}): "is no saved one, or it is damaged",
        json.dumps(fields | {"k": 300}): "is no saved one, or it is damaged",
        json.dumps(fields | {"format": "hookscope baseline 9", "more": 1}): "of another version",
        json.dumps(fields | {"sha256": "0" * 64}): "its content has another hash",
    }
    for content, said in damaged.items():
        path.write_text(content)
        with pytest.raises(HooksError, match=said):
            hs.Baseline.read(path)
    path.write_text(text)
    beside.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(HooksError, match=r"\.safetensors is not what the baseline .*digits.json was saved with"):
        hs.Baseline.read(path)
    beside.unlink()
    with pytest.raises(HooksError, match=r"in baseline-[0-9a-f]{16}.safetensors beside it, and that cannot be read"):
        hs.Baseline.read(path)
    beside.write_bytes(data)
    assert len(hs.Baseline.read(path)) == COUNT


def test_without_safetensors_it_says_so(baseline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(
        HooksError, match="kept in safetensors files, and that is not installed: pip install safetensors"
    ):
        baseline.save(tmp_path / "digits.json")
    assert not list(tmp_path.iterdir())


def test_another_model_is_refused(trained: nn.Module, pictures: Tensor, baseline: Any, tmp_path: Path) -> None:
    other = write_module(tmp_path)["plain"]()
    assert fingerprint(other) == fingerprint(trained)  # the same weights, whatever they were loaded from
    with torch.no_grad():
        other.fc.bias[0] += 1
    with pytest.raises(HooksError, match=r"fitted on another model, or on other weights \([0-9a-f]{12} and not "):
        baseline.score(other, pictures[:2])
    assert fingerprint(nn.Sequential(nn.ReLU())) != fingerprint(nn.Sequential(nn.GELU()))
