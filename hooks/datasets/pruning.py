"""How many channels of a layer can go: the answers of a model as more and more of them are muted together.

    curve = prune_curve(model, loader, "layer2.0.conv1")
    curve.removable(0.01).count                     # so many, and at most 1 % of the first classes change
    indices(curve)                                  # for Torch-Pruning

What goes first is what matters least by `importance`. Beside it stands what happens if channels go in random orders: an
order that is no better has not told anything. All shares of all orders are so many copies of one picture, which begin
at the layer: what lies before it is computed once for all of them, where the model takes that (see `causes.effects`,
which tries and checks the same).
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.causes.batches import copies_from_the_input, copies_from_the_layer
from hookscope.hooks.causes.effects import AGREES, ROUNDING
from hookscope.hooks.causes.explained import Explained, Read, explained
from hookscope.hooks.causes.muting import Muter
from hookscope.hooks.causes.shares import channel_axis
from hookscope.hooks.causes.trials import Groups, Trials, refuse_if_changed
from hookscope.hooks.datasets.importance import importance
from hookscope.hooks.datasets.labelled import Batch, PictureSteps, known_labels, read_batches
from hookscope.hooks.datasets.removal import removals
from hookscope.hooks.errors import HooksError, titled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.looks.outputs import needs_watching
from hookscope.hooks.results.importance import LayerImportance, PruneCurve, Removal, check_order
from hookscope.hooks.results.looks import Call, LayerInfo

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_ALONE = "One point per pass: what this model answers to a picture cannot be had of several at once."
_FROM_LAYER = "Up to {} points per pass: what lies before the layer is computed once for all of them."
_FROM_INPUT = "Up to {} points per pass, from the input on: what follows the layer joins it with an earlier value."
ROUNDED = 1e-9  # of a number of channels: 0.1 x 30 is a little more than 3 in floating point


def prune_curve(
    model: nn.Module,
    loader: Iterable[Any],
    layer: str,
    order: Sequence[int] | np.ndarray | LayerImportance | None = None,
    *,
    call: int = 0,
    shares: Sequence[float] = SHARES,
    random_orders: int = 5,
    seed: int = 0,
    described: Sequence[LayerInfo] | None = None,
) -> PruneCurve:
    """What a classifier answers to a set of pictures without a growing share of a layer's channels.

    They are muted where that is removing them, behind the layer's batch normalisation and activation; where there is no
    such place (as in a residual block, whose sum keeps the channel), `PruneCurve.removal` says so.

    Arguments:
        loader: as `importance` has it. Without an order it is gone through twice. The pictures are run one by one.
        layer: its dotted name. call: which of its calls, for a module that runs several times.
        order: the channels, the least important first; or what `importance` found of this layer, which is asked of
            these pictures if nothing is given.
        shares: of the channels that are muted, each above 0 and below 1; rounded up to whole channels.
        random_orders: how many random orders are measured beside it, which takes so many times as long. seed: of them.
        described: what `layers.describe.describe` said of this model, if it is known; else it is asked here.

    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> curve = prune_curve(net, [torch.rand(4, 3, 8, 8)], "0", shares=(0.25, 0.5))
    >>> curve.counts, float(curve.agreement[0]), curve.agreed.shape, curve.removal.at
    (array([0, 2, 4]), 1.0, (6, 3), '3')

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound, LayerNotExecuted: there is no such layer or call.
        TargetNotFound: a label is no class of the model.
        HooksError: the layer has no channels, or is the answer; the answer is no list of classes; the order or a share
            is none; or the set is empty, or can be gone through once only.
    """
    measured = curve_as_measured(
        model,
        loader,
        layer,
        order,
        call=call,
        shares=shares,
        random_orders=random_orders,
        seed=seed,
        described=described,
    )
    return deque(measured, maxlen=1).pop()


def curve_as_measured(
    model: nn.Module,
    loader: Iterable[Any],
    layer: str,
    order: Sequence[int] | np.ndarray | LayerImportance | None = None,
    *,
    call: int = 0,
    shares: Sequence[float] = SHARES,
    random_orders: int = 5,
    seed: int = 0,
    described: Sequence[LayerInfo] | None = None,
) -> Iterator[PruneCurve]:
    """The same curve as it becomes known: after each picture, over all pictures up to it.

    Between two of them the model is handed back, and no hook of it is on it.
    """
    began = time.perf_counter()
    if order is None and isinstance(loader, Iterator):
        raise HooksError(
            "The set is gone through twice, first for the order in which the channels go, and this one can be gone "
            "through once only. Give a list of batches or a DataLoader, or the order."
        )
    batches = read_batches(loader)
    first = next(batches)
    infos = describe(model, first.pictures[:1]) if described is None else described
    name, channels = _found(model, infos, layer, call)
    counts = _counts(shares, channels)
    removal = removals(model, first.pictures[:1], infos, [(name, call)])[name, call]
    if removal.is_answer:
        raise HooksError(
            f"{titled(layer)} gives the answer itself, and without its channels there are classes less. Choose a layer "
            "before it."
        )
    if order is None:
        batches.close()  # before the set is gone through anew: a DataLoader may have one way through at a time
        (order,) = (each for each in importance(model, loader, [layer], described=infos) if each.call == call)
        again: Iterable[Batch] = read_batches(loader)
    else:
        again = itertools.chain([first], batches)
    chosen = check_order((name, call), order, channels)
    random = np.random.default_rng(seed)
    others = np.array([random.permutation(channels) for _ in range(random_orders)], np.int64).reshape(-1, channels)
    groups = [each[:count].tolist() for each in (chosen, *others) for count in counts[1:]]
    measuring = _measuring(model, infos, layer, removal, first.pictures[:1])
    tally = _Tally.of(len(groups))
    steps = PictureSteps(loader)
    measuring.between = lambda: steps.count(0)
    for picture, label in _pictures(again):
        tally.add(measuring.compare(picture, groups), label)
        steps.count(1)
        yield PruneCurve(
            layer,
            call,
            channels,
            removal,
            chosen,
            others,
            counts,
            tally.pictures,
            tally.labelled,
            agreed=tally.by_order(tally.agreed, len(counts)),
            right=tally.by_order(tally.right, len(counts)),
            divergences=tally.by_order(tally.divergences / tally.pictures, len(counts)),
            how=measuring.how,
            milliseconds=(time.perf_counter() - began) * 1000,
        )


def _found(model: nn.Module, infos: Sequence[LayerInfo], layer: str, call: int) -> tuple[str, int]:
    """The layer's first name, and how many channels it has.

    Raises:
        LayerNotFound, LayerNotExecuted: there is no such layer or call. HooksError: it has no channels.
    """
    finder = Finder(model, infos)
    name, _ = finder.find(layer)
    if problem := finder.not_executed(name, call):
        raise problem
    info = next(each for each in infos if each.name == name)
    if info.operation:
        raise HooksError(
            f"{titled(layer)} is a function and no module, and has no channels of its own that could be removed. "
            "Choose the convolution or linear layer that makes them."
        )
    shape = info.calls[call].shape
    return name, shape[channel_axis(layer, info.calls[call], shape)]


def _counts(shares: Sequence[float], channels: int) -> np.ndarray:
    """How many channels the shares are, int64 (point,), rising, with 0 before them.

    Raises:
        HooksError: one is no share.
    """
    for share in shares:
        if not 0 < share < 1:
            raise HooksError(
                f"{share} is no share of the channels that can be muted: give numbers above 0 and below 1, such as 0.1 "
                "for a tenth."
            )
    counts = {min(ceil(share * channels - ROUNDED), channels) for share in shares}
    return np.array(sorted({0, *counts}), np.int64)


def _pictures(batches: Iterable[Batch]) -> Iterator[tuple[Tensor, np.ndarray | None]]:
    for batch in batches:
        for part in batch.parts(1):
            yield part.pictures, part.labels


@dataclass
class _Tally:
    """What came of muting each group of channels, added up over pictures.

    Attributes:
        agreed, right: int64 (1 + group,), the first of no group. divergences: float64 (1 + group,), summed.
    """

    agreed: np.ndarray
    right: np.ndarray
    divergences: np.ndarray
    pictures: int = 0
    labelled: int = 0

    @classmethod
    def of(cls, groups: int) -> _Tally:
        return cls(np.zeros(1 + groups, np.int64), np.zeros(1 + groups, np.int64), np.zeros(1 + groups))

    def add(self, compared: _Compared, label: np.ndarray | None) -> None:
        """One picture more."""
        self.pictures += 1
        self.agreed += compared.classes == compared.classes[0]
        self.divergences += compared.divergence
        if label is not None and label[0] >= 0:
            self.labelled += 1
            self.right += compared.classes == known_labels(label, compared.count)[0]

    def by_order(self, sums: np.ndarray, points: int) -> np.ndarray:
        """Sums as (order, point): what holds without any group is the first point of each order."""
        rows = sums[1:].reshape(-1, points - 1)
        return np.concatenate([np.full((len(rows), 1), sums[0]), rows], 1)


@dataclass(frozen=True)
class _Compared:
    """One picture's answers.

    Attributes:
        classes: int64 (1 + group,), the first class with nothing muted, then with each group.
        divergence: float64 (1 + group,), from the answer with nothing muted. count: how many classes there are.
    """

    classes: np.ndarray
    divergence: np.ndarray
    count: int


def _measuring(
    model: nn.Module, infos: Sequence[LayerInfo], layer: str, removal: Removal, picture: Tensor
) -> _Measuring:
    """What measures the pictures, tried on the first one.

    Raises:
        HooksError: the answer is no list of classes, or is another one with the layer's output handed on as it was.
    """
    at = next(info for info in infos if info.name == removal.at)
    seen = at.calls[removal.at_call]
    trials = Trials(model, (picture,), torch.get_rng_state())
    plain = trials.plain()
    known = explained(plain, None)
    read = known.read(plain, 1)
    if read.logits is None:
        raise HooksError(
            "The model's answer is no list of classes of which one comes first, so no share of the pictures can be "
            "said to keep its class. Choose a classifier, or say by looking's reading which output lists its classes."
        )
    trials = replace(trials, watched=needs_watching(model, plain))
    axis = channel_axis(removal.at, seen, seen.shape)
    muter = Muter(removal.at, Finder(model, infos).find(removal.at)[1], removal.at_call, axis, None, "zero")
    unchanged = known.read(trials.one(muter, ()), 1)
    refuse_if_changed(layer, known.value, float(unchanged.numbers[0]), ROUNDING * known.size)
    return _Measuring(trials, muter, known, _ways(infos, seen))


def _ways(infos: Sequence[LayerInfo], seen: Call) -> list[_Way]:
    """The ways to try, best first; none where points can be measured one at a time only."""
    if seen.axes.count("image") != 1 or seen.shape[seen.axes.index("image")] != 1:
        return []
    image = seen.axes.index("image")
    return [
        _Way(True, image, copies_from_the_layer(infos, seen), _FROM_LAYER),
        _Way(False, image, copies_from_the_input(infos), _FROM_INPUT),
    ]


@dataclass(frozen=True)
class _Way:
    """How several points are measured in one pass.

    Attributes:
        from_layer: whether the copies of the picture begin at the layer, or at the input.
        image: the axis of the copies in the layer's output. copies: how many there may be. how: for people.
    """

    from_layer: bool
    image: int
    copies: int
    how: str


@dataclass
class _Measuring:
    """Measures picture after picture by the best way that gives what each group of channels gives alone.

    Attributes:
        between: called between two passes of one picture, where no hook is on the model.
    """

    trials: Trials
    muter: Muter
    known: Explained
    ways: list[_Way]
    checked: bool = field(default=False)
    between: Callable[[], None] = field(default=lambda: None)

    @property
    def how(self) -> str:
        """How, in words."""
        return self.ways[0].how.format(self.ways[0].copies - 1) if self.ways else _ALONE

    def compare(self, picture: Tensor, groups: Groups) -> _Compared:
        """What comes of muting each group for a picture (1, channel, height, width)."""
        self.trials = replace(self.trials, inputs=(picture,))
        while self.ways:
            found = self._together(groups)
            if found is not None:
                return found
            self.ways, self.checked = self.ways[1:], False  # by this way it cannot be done
        plain, parts = self._alone(()), []
        for group in groups:
            self.between()
            parts.append(self._compared(plain, self._alone(group)))
        return _join(parts, plain)

    def _alone(self, group: Sequence[int]) -> Read:
        self.muter.image = None
        return self.known.read(self.trials.one(self.muter, group), 1)

    def _together(self, groups: Groups) -> _Compared | None:
        """The same in as few passes as there have to be; None if it is not what the groups give alone."""
        way, parts, plain = self.ways[0], [], None
        for start in range(0, len(groups), way.copies - 1):
            if start:
                self.between()
            part = [[], *groups[start : start + way.copies - 1]]
            self.muter.image = way.image
            run = self.trials.from_the_layer if way.from_layer else self.trials.from_the_input
            try:
                read = self.known.read(run(self.muter, part), len(part))
            except Exception:  # whatever the model's code says of a batch that it did not expect
                return None
            if not self.checked and not self._is_alone(part, read):
                return None
            self.checked = True
            plain = read.first() if plain is None else plain
            parts.append(self._compared(read.first(), read.rest()))  # of one pass: what does nothing is then exactly 0
        return _join(parts, plain or self._alone(()))

    def _is_alone(self, part: Groups, read: Read) -> bool:
        """Whether the unmuted copy gives the plain answer, and muted ones what they give alone."""
        assert read.logits is not None
        plain = self._alone(())
        assert plain.logits is not None
        change = np.abs(read.logits - read.logits[0]).max(1)
        for place in dict.fromkeys([0, len(part) - 1, int(change.argmax())]):
            alone = self._alone(part[place])
            assert alone.logits is not None
            effect = np.abs(alone.logits[0] - plain.logits[0])
            off = np.abs(read.logits[place] - alone.logits[0])
            if not (off <= AGREES * effect.max() + ROUNDING * self.known.size).all():
                return False
        return True

    def _compared(self, plain: Read, changed: Read) -> tuple[np.ndarray, np.ndarray]:
        """Of each answer its first class, and its divergence."""
        assert changed.logits is not None
        return changed.logits.argmax(1), self.known.compare(plain, changed)[2]


def _join(parts: Sequence[tuple[np.ndarray, np.ndarray]], plain: Read) -> _Compared:
    assert plain.logits is not None
    none = 0.0 if not parts or np.isfinite(parts[0][1]).all() else np.nan
    classes = [plain.logits.argmax(1), *(each for each, _ in parts)]
    return _Compared(
        np.concatenate(classes), np.concatenate([[none], *(each for _, each in parts)]), plain.logits.shape[1]
    )
