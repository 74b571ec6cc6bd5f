"""A sweep over a set against all values at once, and against a search through all of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import digits, write_module
from helpers import assert_untouched
from sklearn.metrics import accuracy_score, confusion_matrix
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hookscope as hs
from hookscope.hooks.datasets.sweeping import Sweeping
from hookscope.hooks.errors import Cancelled, HooksError, LayerNotExecuted, LayerNotFound
from hookscope.hooks.numbers import rows
from hookscope.hooks.results.sweeps import Sweep, drawn_at, read_sweep

COUNT = 150
WANTED = ("statistics", "top", "sample", "answers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    net: nn.Module = write_module(tmp_path_factory.mktemp("digits"))["plain"]()
    return net


@pytest.fixture(scope="module")
def labelled() -> tuple[Tensor, Tensor]:
    pictures, classes = digits()
    return pictures[:COUNT].clone(), classes[:COUNT]


Values = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def values_by(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> Callable[[int], Values]:
    """What every layer gives for all pictures in batches of some size, whose last bits depend on that."""
    return functools.cache(functools.partial(every_value, trained, labelled[0]))


def every_value(trained: nn.Module, pictures: Tensor, batch: int) -> Values:
    """Float32 (picture, channel, position) of each layer, by hooks of this test's own."""
    seen: dict[str, list[np.ndarray]] = {}

    def keep(name: str) -> Any:
        def look(module: nn.Module, args: Any, output: Tensor) -> None:
            seen.setdefault(name, []).append(output.detach().flatten(2).clone().numpy())

        return look

    named = [(name, module) for name, module in trained.named_modules() if name.startswith(("conv", "relu"))]
    handles = [module.register_forward_hook(keep(name)) for name, module in named]
    with torch.no_grad():
        for part in pictures.split(batch):
            trained(part)
    for handle in handles:
        handle.remove()
    return {name: np.concatenate(parts) for name, parts in seen.items()}


@pytest.fixture(params=["compiled loops", "torch alone"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch alone":
        monkeypatch.setattr(rows, "loops", lambda: None)
    return str(request.param)


def everything() -> list[Any]:
    return [hs.statistics(), hs.top(), hs.gap(), hs.features("relu3"), hs.answers()]


def swept(net: nn.Module, labelled: tuple[Tensor, Tensor], batch: int) -> Sweep:
    return hs.sweep(net, DataLoader(TensorDataset(*labelled), batch_size=batch), everything())


# --- against all values at once


@pytest.mark.parametrize("batch", [1, 32, COUNT])
def test_the_numbers_are_those_of_all_values_at_once(
    trained: nn.Module, labelled: tuple[Tensor, Tensor], values_by: Callable[[int], Values], batch: int, way: str
) -> None:
    found = swept(trained, labelled, batch)
    for layer, values in values_by(batch).items():
        summary, wide = found.summary(layer), values.astype(np.float64)
        numbers = summary.statistics
        by_channel = wide.swapaxes(0, 1).reshape(wide.shape[1], -1)
        assert summary.inputs == COUNT and numbers.count == values.size
        assert (numbers.min, numbers.max) == (values.min(), values.max())
        assert numbers.mean == pytest.approx(wide.mean(), abs=1e-6 * wide.std())
        assert numbers.std == pytest.approx(wide.std(), rel=1e-6)
        assert numbers.zeros == np.mean(values == 0)
        np.testing.assert_allclose(numbers.channels["mean"], by_channel.mean(1), rtol=0, atol=1e-5 * wide.std())
        np.testing.assert_allclose(numbers.channels["std"], by_channel.std(1), rtol=1e-5, atol=1e-6 * wide.std())
        np.testing.assert_array_equal(numbers.channels["min"], by_channel.min(1))
        np.testing.assert_array_equal(numbers.channels["max"], by_channel.max(1))
        np.testing.assert_array_equal(numbers.channels["zeros"], (by_channel == 0).mean(1))
        np.testing.assert_array_equal(summary.fired, (np.abs(values).max(2) > 0).sum(0))
        assert summary.norm == pytest.approx(np.linalg.norm(wide), rel=1e-5)
        spread = np.quantile(wide, [0.05, 0.5, 0.95])
        np.testing.assert_allclose(numbers.quantiles[[1, 3, 5]], spread, atol=0.12 * wide.std())


@pytest.mark.parametrize("batch", [1, 32, COUNT])
def test_galleries_are_what_a_search_through_all_values_finds(
    trained: nn.Module, labelled: tuple[Tensor, Tensor], values_by: Callable[[int], Values], batch: int, way: str
) -> None:
    found = swept(trained, labelled, batch)
    for layer, values in values_by(batch).items():
        side = int(values.shape[2] ** 0.5)
        top, largest, means = found.top(layer), values.max(2), values.astype(np.float64).mean(2)
        for channel in range(values.shape[1]):
            order = np.lexsort((np.arange(COUNT), -largest[:, channel]))[:9]
            shown = top.strongest(channel)
            np.testing.assert_array_equal(shown.pictures, order)
            np.testing.assert_array_equal(shown.values, largest[order, channel])
            places = values[order, channel].argmax(1)
            np.testing.assert_array_equal(shown.spots, np.stack([places // side, places % side], 1))
            by_mean = top.strongest(channel, by="mean")
            np.testing.assert_allclose(by_mean.values, np.sort(means[:, channel])[::-1][:9], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(by_mean.values, means[by_mean.pictures, channel], rtol=1e-5, atol=1e-6)


def test_median_and_random_pictures_are_of_a_sample_that_is_drawn_from_all(
    trained: nn.Module, labelled: tuple[Tensor, Tensor], values_by: Callable[[int], Values], way: str
) -> None:
    found = swept(trained, labelled, 32)
    drawn = np.argsort(drawn_at(np.arange(COUNT)))[:32]
    largest = values_by(32)["relu3"].max(2)
    top = found.top("relu3")
    np.testing.assert_array_equal(top.sample.pictures, drawn)
    np.testing.assert_array_equal(top.sample.maxima, largest[drawn])
    chosen = set()
    for channel in range(largest.shape[1]):
        middle = top.median(channel)
        ordered = np.sort(largest[drawn, channel])
        np.testing.assert_array_equal(middle.values, ordered[14:17])
        np.testing.assert_array_equal(largest[middle.pictures, channel], middle.values)
        random = top.random(channel)
        assert set(random.pictures) <= set(drawn) and len(set(random.pictures)) == 3
        chosen.add(tuple(random.pictures))
    assert len(chosen) > largest.shape[1] // 2  # others for each channel
    of_gap = next(part for part in found.sample if part.layer == "relu3")
    order = np.argsort(drawn_at(np.arange(COUNT)))[:128]
    np.testing.assert_array_equal(of_gap.pictures, order)
    np.testing.assert_allclose(of_gap.values, values_by(32)["relu3"].mean(2)[order], rtol=1e-5, atol=1e-6)
    (kept,) = found.features
    np.testing.assert_allclose(kept.values, values_by(32)["relu3"].mean(2), rtol=1e-5, atol=1e-6)


def test_drawing_is_even() -> None:
    taken = np.zeros(10)
    for start in range(0, 400_000, 1000):
        numbers = np.arange(start, start + 1000)
        taken += np.histogram((numbers[np.argsort(drawn_at(numbers))[:32]] - start), bins=10, range=(0, 1000))[0]
    expected = taken.sum() / 10
    assert ((taken - expected) ** 2 / expected).sum() < 27.9  # chi square of 9, p = 0.001


def test_answers_are_those_of_scikit_learn(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> None:
    answers = swept(trained, labelled, 32).answers
    assert answers is not None
    with torch.no_grad():
        logits = trained(labelled[0])
    shares, labels = logits.softmax(1).numpy(), labelled[1].numpy()
    first = shares.argmax(1)
    np.testing.assert_array_equal(answers.best[:, 0], first)
    np.testing.assert_allclose(answers.shares[:, 0], shares.max(1), rtol=1e-5)
    np.testing.assert_allclose(answers.of_label, shares[np.arange(COUNT), labels], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(answers.energy, -logits.logsumexp(1).numpy(), rtol=1e-5)
    assert answers.accuracy == accuracy_score(labels, first) < 1
    classes, counts = answers.confusion()
    np.testing.assert_array_equal(counts, confusion_matrix(labels, first, labels=classes))
    wrong = answers.mistakes()
    assert set(wrong) == set(np.flatnonzero(first != labels)) and len(wrong) > 1
    assert (np.diff(answers.shares[wrong, 0]) <= 0).all()
    ordered = np.sort(shares, 1)
    np.testing.assert_allclose(answers.margin, ordered[:, -1] - ordered[:, -2], atol=1e-5)


# --- merging


def test_sweeps_add_up_in_any_order(trained: nn.Module, labelled: tuple[Tensor, Tensor], way: str) -> None:
    whole = swept(trained, labelled, 32)
    cuts = [0, 37, 40, 111, COUNT]
    parts = [
        hs.sweep(trained, [(labelled[0][a:b], labelled[1][a:b])], everything(), first=a)
        for a, b in itertools.pairwise(cuts)
    ]
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        added = parts[order[0]]
        for index in order[1:]:
            added = added + parts[index]
        assert_alike(added, whole)


def assert_alike(one: Sweep, other: Sweep) -> None:
    np.testing.assert_array_equal(one.pictures, other.pictures)
    for layer in ("conv1", "relu3"):
        ours, theirs = one.summary(layer), other.summary(layer)
        np.testing.assert_array_equal(ours.fired, theirs.fired)
        np.testing.assert_array_equal(ours.sketch.counts, theirs.sketch.counts)
        for name in ("mean", "std", "min", "max", "zeros"):
            np.testing.assert_allclose(ours.statistics.channels[name], theirs.statistics.channels[name], rtol=1e-9)
        for by in ("by_max", "by_mean"):
            ranked, expected = getattr(one.top(layer), by), getattr(other.top(layer), by)
            np.testing.assert_array_equal(ranked.pictures, expected.pictures)
            np.testing.assert_array_equal(ranked.spots, expected.spots)
        np.testing.assert_array_equal(one.top(layer).sample.pictures, other.top(layer).sample.pictures)
        np.testing.assert_array_equal(one.top(layer).sample.spots, other.top(layer).sample.spots)
    for mine, its in zip(one.sample + one.features, other.sample + other.features, strict=True):
        np.testing.assert_array_equal(mine.pictures, its.pictures)
        np.testing.assert_allclose(mine.values, its.values, rtol=1e-5, atol=1e-6)
    assert one.answers is not None and other.answers is not None
    np.testing.assert_array_equal(one.answers.best[:, 0], other.answers.best[:, 0])
    np.testing.assert_array_equal(one.answers.labels, other.answers.labels)


def test_no_picture_counts_twice(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> None:
    one = hs.sweep(trained, [labelled[0][:4]], [hs.answers()])
    with pytest.raises(HooksError, match=r"2 pictures were seen by both sweeps \(number 2 is one\)"):
        one + hs.sweep(trained, [labelled[0][:4]], [hs.answers()], first=2)
    assert len((one + hs.sweep(trained, [labelled[0][:4]], [hs.answers()], first=4)).pictures) == 8


def test_a_sweep_is_saved_and_read(trained: nn.Module, labelled: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    found, path = swept(trained, labelled, 32), tmp_path / "set.sweep"
    found.save(path)
    assert_alike(read_sweep(path), found)
    assert [each.name for each in tmp_path.iterdir()] == ["set.sweep"]
    data = path.read_bytes()
    for damaged in (b"", data[:100], b"\x80\x04" + data, data[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(HooksError, match=r"set.sweep is no saved sweep, or it is damaged"):
            read_sweep(path)


# --- layouts


class Tokens(nn.Module):
    """Two layers over 4 x 4 patches behind a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.mixed = nn.Linear(6, 6)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patches(pictures).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        return self.mixed(tokens)[:, 0]


class Last(nn.Module):
    """Channels on the last axis, as in ConvNeXt and Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.LayerNorm(5)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.second(self.first(pictures).permute(0, 2, 3, 1)).mean((1, 2))


def test_a_token_lies_at_its_patch_and_the_class_token_nowhere(way: str) -> None:
    torch.manual_seed(0)
    net, pictures = Tokens().eval(), torch.randn(20, 3, 16, 16)
    values: list[Tensor] = []
    handle = net.mixed.register_forward_hook(lambda module, args, output: values.append(output.detach()))
    net(pictures)
    handle.remove()
    found = hs.sweep(net, pictures.split(6), [hs.top(count=20)]).top("mixed")
    for channel in range(6):
        shown = found.strongest(channel)
        for picture, value, spot in zip(shown.pictures, shown.values, shown.spots, strict=True):
            row = values[0][picture, :, channel]
            place = int(row.argmax()) - 1
            assert value == pytest.approx(float(row.max()), rel=1e-5)
            assert tuple(spot) == ((-1, -1) if place < 0 else (place // 4, place % 4))
    assert (found.by_max.spots == -1).any() and (found.by_max.spots > 0).any()


def test_channels_may_be_the_last_axis_and_pictures_of_several_sizes(way: str) -> None:
    torch.manual_seed(0)
    net = Last().eval()
    batches = [torch.randn(3, 3, 9, 12), torch.randn(3, 3, 12, 9), torch.randn(3, 3, 9, 12)]
    found = hs.sweep(net, batches, [hs.statistics(), hs.top(count=9)])
    with torch.no_grad():
        maps = [net.second(net.first(batch).permute(0, 2, 3, 1)) for batch in batches]
    for channel in range(5):
        each = [(float(one[..., channel].max()), one[..., channel]) for batch in maps for one in batch]
        shown = found.top("second").strongest(channel)
        assert list(shown.pictures) == sorted(range(9), key=lambda number: -each[number][0])
        for number, spot in zip(shown.pictures, shown.spots, strict=True):
            row, column = np.unravel_index(int(each[number][1].argmax()), each[number][1].shape)
            assert tuple(spot) == (row, column)
    everywhere = torch.cat([one.flatten(0, 2) for one in maps])
    np.testing.assert_allclose(found.summary("second").statistics.channels["mean"], everywhere.mean(0), atol=1e-6)


def test_what_is_not_finite_is_counted_and_ranked_last(way: str) -> None:
    net = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pictures = torch.arange(4 * 2 * 4).reshape(4, 2, 2, 2).float()
    pictures[1, 0, 0, 0] = torch.nan
    pictures[2, 0] = torch.nan
    pictures[3, 1, 1, 1] = torch.inf
    found = hs.sweep(net, pictures.split(2), [hs.statistics(), hs.top()])
    numbers, top = found.summary("0").statistics, found.top("0")
    assert (numbers.nan, numbers.inf, numbers.count) == (5, 1, 32)
    finite = pictures[pictures.isfinite()].double()
    assert numbers.mean == pytest.approx(float(finite.mean())) and numbers.max == float(finite.max())
    assert numbers.std == pytest.approx(float(finite.std(correction=0)))
    assert list(top.strongest(0).pictures) == [3, 1, 0] and list(top.strongest(0).spots[1]) == [1, 1]
    assert list(top.strongest(1).pictures) == [3, 2, 1, 0] and top.strongest(1).values[0] == np.inf
    np.testing.assert_array_equal(found.summary("0").fired, [4, 4])


def test_a_container_that_returns_what_its_last_child_did_is_not_read_again() -> None:
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = hs.sweep(net, [torch.randn(2, 3, 8, 8)], [hs.statistics("*")])
    assert [each.layer for each in found.statistics] == ["0.0", "0.1", "1", "2"]
    assert found.summary("0").layer == "0.1" and found.summary("0").statistics.count == 2 * 4 * 36
    assert found.place_of("0") == ("0.1", 0) and found.place_of("") == ("2", 0)
    with pytest.raises(LayerNotExecuted, match=r"no strongest pictures of layer '0', call 0, in this sweep"):
        found.top("0")


def test_every_call_of_a_layer_is_one_of_its_own() -> None:
    relu = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = hs.sweep(net, [torch.randn(2, 3, 8, 8)], [hs.statistics()])
    assert found.summary("1", 0).statistics.count == 2 * 4 * 36 and found.summary("1", 1).statistics.count == 2 * 4 * 16


# --- a model that is not as others


class ByTheBatch(nn.Module):
    """Answers to one picture by what stands beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = self.conv(pictures)
        return (seen - seen.mean(0)).mean((2, 3)) if len(pictures) > 1 else seen.mean((2, 3))


def test_a_model_whose_answer_depends_on_the_batch_is_shown_one_picture_at_a_time() -> None:
    torch.manual_seed(0)
    net, pictures = ByTheBatch().eval(), torch.randn(6, 3, 8, 8)
    found = hs.sweep(net, pictures.split(3), [hs.answers(), hs.statistics()])
    with torch.no_grad():
        alone = [int(net(one[None]).argmax()) for one in pictures]
        together = net(pictures[:3]).argmax(1).tolist() + net(pictures[3:]).argmax(1).tolist()
    assert found.answers is not None
    assert found.answers.best[:, 0].tolist() == alone != together


def test_an_answer_that_has_no_classes_says_so_and_loses_nothing_else() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
            seen = self.conv(pictures).mean((2, 3))
            return seen, seen * 2

    found = hs.sweep(Two(), [torch.randn(2, 3, 8, 8)], [hs.answers(), hs.statistics()])
    assert found.answers is None and found.summary("conv").inputs == 2
    assert "2 parts that may be its answer" in found.notes[0]


def test_the_model_is_handed_back(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> None:
    trained.train()
    with assert_untouched(trained):
        hs.sweep(trained, zip(*(each.split(50) for each in labelled), strict=True), everything())
    with assert_untouched(trained), pytest.raises(HooksError):
        hs.sweep(trained, [(labelled[0][:2], [3, 77])], everything())
    trained.eval()


# --- what is asked wrongly


def test_bad_batches_get_a_sentence(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> None:
    pictures = labelled[0][:2]
    for batch, said in (
        ("a.png", r"A batch is pictures as a floating tensor .* this one is str\."),
        (torch.zeros(2, 3, dtype=torch.uint8), r"this one is uint8 of shape \(2, 3\)"),
        ((pictures, [0]), r"A batch holds 2 pictures and 1 labels\."),
        ((pictures, [0.5, 1.0]), r"labels are one whole number per picture.*float64 of shape \(2,\)"),
        ((pictures, [0, 10]), r"label is class 10, and the model answers 10 classes"),
    ):
        with pytest.raises(HooksError, match=said):
            hs.sweep(trained, [batch], [hs.answers()])
    with pytest.raises(HooksError, match="There was no picture to look at"):
        hs.sweep(trained, [], [hs.answers()])
    with pytest.raises(LayerNotFound, match="conv4"):
        hs.sweep(trained, [pictures], [hs.statistics("conv4")])
    whole = hs.sweep(trained, [{"pixel_values": pictures, "labels": torch.tensor([1, -1])}], [hs.answers()])
    assert whole.answers is not None and whole.answers.labels.tolist() == [1, -1]


def test_after_a_batch_that_failed_there_are_no_numbers(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> None:
    run = Sweeping(trained, [hs.statistics(), hs.answers()])
    run.add(labelled[0][:3], np.arange(3))
    assert len(run.found().pictures) == 3
    with pytest.raises(HooksError, match="label is class 77"):
        run.add(labelled[0][3:5], np.arange(3, 5), np.array([77, 77]))
    for again in (run.found, lambda: run.add(labelled[0][5:6], np.arange(5, 6))):
        with pytest.raises(HooksError, match="ended in an exception and was counted in part"):
            again()


def test_it_tells_how_far_it_is_and_stops_when_told(trained: nn.Module, labelled: tuple[Tensor, Tensor]) -> None:
    told: list[Any] = []
    loader = DataLoader(TensorDataset(labelled[0]), batch_size=60)
    hs.sweep(trained, loader, [hs.answers()], progress=lambda *far: told.append(far))
    assert told == [(60, 150), (120, 150), (150, 150)]
    hs.sweep(trained, list(loader), [hs.answers()], progress=lambda *far: told.append(far))
    assert told[3:] == [(60, None), (120, None), (150, None)]
    shown: list[int] = []

    def batches() -> Iterator[Tensor]:
        for part in labelled[0].split(50):
            shown.append(len(part))
            yield part

    with pytest.raises(Cancelled), hs.looking(cancelled=lambda: len(shown) == 2):
        hs.sweep(trained, batches(), [hs.answers()])
    assert shown == [50, 50]
