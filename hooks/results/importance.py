"""How much the channels of a layer matter over a set of pictures, and how many of them can go.

    curve.removable(disagreement=0.01).indices     # the channels that can go, together
    table(importances, curves).to_csv()            # layer by layer, what that saves

Nothing here imports torch.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hookscope.hooks.errors import HooksError, called, titled

Criterion = Literal["taylor", "gate"]
ROUNDING = 1e-9  # of a number of pictures: 1 % of 300 is not quite 3 in floating point


@dataclass(frozen=True)
class LayerImportance:
    """How much each channel of one call of a layer matters for what is explained, estimated over a set of pictures.

    `one + other`, of the same call over different pictures, is that of all of them.

    Attributes:
        layer, call: where.
        at, at_call: the layer and call whose values were taken: the last one that hands the channels on as they are
            (behind batch normalisation and activation), where being 0 is being gone.
        explained: "first class" for each picture's own first class, "loss" for the cross-entropy with its label, or
            what else was given, in words.
        pictures: how many there were.
        magnitudes: float64 (channel,), the sum over pictures of |sum over positions of activation x gradient|.
        squares: float64 (channel,), the sum over pictures of the squares of the same.
    """

    layer: str
    call: int
    at: str
    at_call: int
    explained: str
    pictures: int
    magnitudes: np.ndarray
    squares: np.ndarray

    @property
    def taylor(self) -> np.ndarray:
        """Float64 (channel,), in units of what is explained: the mean over pictures of |sum a dz/da|.

        Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR 2017,
        equations 7 and 8; their mean over the positions is a sum here, the same factor for all channels of a layer.
        """
        return np.asarray(self.magnitudes / self.pictures)

    @property
    def gate(self) -> np.ndarray:
        """Float64 (channel,): the mean over pictures of (dz/dgate)^2, of a gate of 1 that multiplies the channel.

        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (arXiv:1906.10771).
        """
        return np.asarray(self.squares / self.pictures)

    def order(self, by: Criterion = "taylor") -> np.ndarray:
        """The channels from the least important on, int64 (channel,); of equal ones the first comes first."""
        return np.argsort(self.taylor if by == "taylor" else self.gate, kind="stable")

    def __add__(self, other: LayerImportance) -> LayerImportance:
        """Of both sets of pictures together.

        Raises:
            HooksError: they are not of the same thing.
        """
        if not isinstance(other, LayerImportance):
            return NotImplemented
        if self._of_what() != other._of_what():
            raise HooksError(
                f"The importances of {called(self.layer)} and of {called(other.layer)} are not of the same call, the "
                "same number of channels and the same target, so they cannot be added. Ask for both in the same way."
            )
        return dataclasses.replace(
            self,
            pictures=self.pictures + other.pictures,
            magnitudes=self.magnitudes + other.magnitudes,
            squares=self.squares + other.squares,
        )

    def _of_what(self) -> tuple[object, ...]:
        return self.layer, self.call, self.at, self.at_call, self.explained, self.magnitudes.shape


@dataclass(frozen=True)
class Removal:
    """Where muting a channel of a layer is removing it, and what goes with each channel that is removed.

    Attributes:
        at, at_call: the layer and call whose output is muted.
        exact: whether the answer with channels muted there is the one of a network from which they were removed.
        note: why not, as a sentence; if so, what else there is to know, or "".
        readers: the layers that read the channels, whose weights for them go too.
        own_parameters: of one channel the layer's own: its filter and its bias.
        own_multiply_adds: of one channel and one picture, what the filter costs.
        parameters: of one channel all that goes: its own, those of normalisations and depthwise convolutions behind it,
            and the slices of the readers' weights. 0 where `exact` is not, because then nothing goes.
        multiply_adds: the same in multiply-adds of one picture; of convolutions and linear layers alone.
        is_answer: whether the channels are the model's answer itself, as the classes are.
    """

    at: str
    at_call: int
    exact: bool
    note: str
    readers: tuple[str, ...]
    own_parameters: int
    own_multiply_adds: int
    parameters: int
    multiply_adds: int
    is_answer: bool = False


@dataclass(frozen=True)
class Band:
    """The same number over several random orders, each float64 (point,); NaN if there were none."""

    least: np.ndarray
    mean: np.ndarray
    most: np.ndarray


@dataclass(frozen=True)
class Removable:
    """The channels that can go together.

    Attributes:
        count: how many. indices: int64 (channel,), which ones, rising.
        disagreement: the share of the pictures, 0..1, whose first class changes without them.
        parameters, multiply_adds: what that saves, see `Removal`; 0 where muting them is not removing them.
        own_parameters, own_multiply_adds: of that the layer's own part.
    """

    count: int
    indices: np.ndarray
    disagreement: float
    parameters: int
    multiply_adds: int
    own_parameters: int
    own_multiply_adds: int


@dataclass(frozen=True)
class PruneCurve:
    """What a model answers without the least important channels of one layer, the more of them the further right.

    At each point the first so many of an order are muted together, which is not the sum of muting each. `one + other`,
    of the same points over different pictures, is that over all of them.

    Attributes:
        layer, call: where. channels: how many it has.
        removal: where they are muted, and what removing one saves.
        order: int64 (channel,), the least important first.
        random_orders: int64 (order, channel), the orders of which the band is made.
        counts: int64 (point,), how many channels are muted, rising, the first 0.
        pictures: how many there were. labelled: how many of them with a label.
        agreed: int64 (1 + order, point), for how many pictures the first class is that of the whole model: by `order`
            in the first row, then by each random order.
        right: int64 (1 + order, point), for how many it is the label.
        divergences: float64 (1 + order, point), the mean over pictures of the Kullback-Leibler divergence in nats of
            the answer's shares from the whole model's; NaN where the answer has no shares.
        how: how many points one pass measured, and why not more, as a sentence.
        milliseconds: everything together.
    """

    layer: str
    call: int
    channels: int
    removal: Removal
    order: np.ndarray
    random_orders: np.ndarray
    counts: np.ndarray
    pictures: int
    labelled: int
    agreed: np.ndarray
    right: np.ndarray
    divergences: np.ndarray
    how: str = ""
    milliseconds: float = 0.0

    @property
    def shares(self) -> np.ndarray:
        """The share of the channels that are muted, float64 (point,), 0..1."""
        return np.asarray(self.counts / self.channels)

    @property
    def agreement(self) -> np.ndarray:
        """The share of the pictures whose first class stays, float64 (point,), 0..1."""
        return np.asarray(self.agreed[0] / self.pictures)

    @property
    def accuracy(self) -> np.ndarray:
        """The share of the labelled pictures whose first class is their label, float64 (point,); NaN without labels."""
        return self._accuracies[0]

    @property
    def divergence(self) -> np.ndarray:
        """The mean divergence in nats, float64 (point,); see `divergences`."""
        return np.asarray(self.divergences[0])

    @property
    def random_agreement(self) -> Band:
        """`agreement` where the channels are muted in random orders."""
        return _band(self.agreed[1:] / self.pictures)

    @property
    def random_accuracy(self) -> Band:
        """`accuracy` where the channels are muted in random orders."""
        return _band(self._accuracies[1:])

    @property
    def random_divergence(self) -> Band:
        """`divergence` where the channels are muted in random orders."""
        return _band(self.divergences[1:])

    def __add__(self, other: PruneCurve) -> PruneCurve:
        """Over both sets of pictures together.

        Raises:
            HooksError: they are not of the same points.
        """
        if not isinstance(other, PruneCurve):
            return NotImplemented
        orders = (self.counts, other.counts), (self.order, other.order), (self.random_orders, other.random_orders)
        alike = all(np.array_equal(one, another) for one, another in orders)
        if (self.layer, self.call, self.removal) != (other.layer, other.call, other.removal) or not alike:
            raise HooksError(
                f"The curves of {called(self.layer)} and of {called(other.layer)} are not of the same channels, muted "
                "in the same orders, so they cannot be added. Measure both in the same way."
            )
        pictures = self.pictures + other.pictures
        return dataclasses.replace(
            self,
            pictures=pictures,
            labelled=self.labelled + other.labelled,
            agreed=self.agreed + other.agreed,
            right=self.right + other.right,
            divergences=(self.divergences * self.pictures + other.divergences * other.pictures) / pictures,
            milliseconds=self.milliseconds + other.milliseconds,
        )

    @property
    def _accuracies(self) -> np.ndarray:
        return self.right / self.labelled if self.labelled else np.full(self.right.shape, np.nan)

    def removable(self, disagreement: float = 0.01) -> Removable:
        """The most channels whose going changes the first class of at most this share of the pictures.

        Of the points that were measured, and only as far as no smaller one changes more.

        Arguments:
            disagreement: 0..1. Of fewer than 1 / `disagreement` pictures none may change.
        """
        changed = self.pictures - self.agreed[0]
        kept = changed <= disagreement * self.pictures + ROUNDING
        point = int(kept.argmin()) - 1 if not kept.all() else len(kept) - 1
        count, removal = int(self.counts[max(point, 0)]), self.removal
        return Removable(
            count,
            np.sort(self.order[:count]),
            float(changed[max(point, 0)] / self.pictures),
            count * removal.parameters,
            count * removal.multiply_adds,
            count * removal.own_parameters,
            count * removal.own_multiply_adds,
        )


def indices(curve: PruneCurve, disagreement: float = 0.01) -> list[int]:
    """The channels that can go, as Torch-Pruning takes them (`pruning_idxs`, `idxs`).

        group = graph.get_pruning_group(model.layer1[0].conv1, tp.prune_conv_out_channels, idxs=indices(curve))
        group.prune()

    Raises:
        HooksError: muting them is not removing them, so nobody knows what the model answers without them.
    """
    if not curve.removal.exact:
        raise HooksError(
            f"What {called(curve.layer)} is without these channels was measured with them muted, and removing them is "
            f"something else. {curve.removal.note} `curve.removable()` has them all the same."
        )
    return [int(each) for each in curve.removable(disagreement).indices]


@dataclass(frozen=True)
class PruneRow:
    """One layer in a table of what can go.

    Attributes:
        layer, call, channels: of the layer.
        removable: how many channels can go; None if no curve was measured.
        share: the same as a share of all, 0..1. disagreement: with them gone.
        carried: the share of the layer's summed Taylor importance that they hold; NaN where no importance was given.
        parameters, multiply_adds, exact, muted_at, note: see `Removal`; the first two of all that go.
        own_parameters, own_multiply_adds: see `Removable`.
    """

    layer: str
    call: int
    channels: int
    removable: int | None = None
    share: float = math.nan
    disagreement: float = math.nan
    carried: float = math.nan
    parameters: int = 0
    multiply_adds: int = 0
    own_parameters: int = 0
    own_multiply_adds: int = 0
    exact: bool = False
    muted_at: str = ""
    note: str = ""


@dataclass(frozen=True)
class PruneTable:
    """What can go, layer by layer.

    Attributes:
        limit: the disagreement up to which channels can go.
    """

    rows: tuple[PruneRow, ...]
    limit: float

    def to_csv(self) -> str:
        """The rows with a header, as RFC 4180 has it; what is not known is empty."""
        text = io.StringIO()
        names = [field.name for field in dataclasses.fields(PruneRow)]
        writer = csv.writer(text)
        writer.writerow(names)
        for row in self.rows:
            values = (getattr(row, name) for name in names)
            writer.writerow(["" if value is None or value != value else value for value in values])
        return text.getvalue()


def table(
    importances: Sequence[LayerImportance], curves: Sequence[PruneCurve], disagreement: float = 0.01
) -> PruneTable:
    """What can go, layer by layer: a row for each curve, then one for each importance without a curve.

    Arguments:
        disagreement: the share of the pictures whose first class may change, 0..1.
    """
    known = {(each.layer, each.call): each for each in importances}
    rows = [_row(curve, known.pop((curve.layer, curve.call), None), disagreement) for curve in curves]
    rows += [PruneRow(each.layer, each.call, len(each.magnitudes), muted_at=each.at) for each in known.values()]
    return PruneTable(tuple(rows), disagreement)


def _row(curve: PruneCurve, importance: LayerImportance | None, disagreement: float) -> PruneRow:
    found, removal = curve.removable(disagreement), curve.removal
    carried = math.nan
    if importance is not None and (whole := float(importance.taylor.sum())):
        carried = float(importance.taylor[found.indices].sum()) / whole
    return PruneRow(
        curve.layer,
        curve.call,
        curve.channels,
        removable=found.count,
        share=found.count / curve.channels,
        disagreement=found.disagreement,
        carried=carried,
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        own_parameters=found.own_parameters,
        own_multiply_adds=found.own_multiply_adds,
        exact=removal.exact,
        muted_at=removal.at,
        note=removal.note,
    )


def _band(rows: np.ndarray) -> Band:
    if not len(rows):
        none = np.full(rows.shape[1], np.nan)
        return Band(none, none, none)
    return Band(*(np.asarray(number(0)) for number in (rows.min, rows.mean, rows.max)))


def check_order(
    place: tuple[str, int], order: Sequence[int] | np.ndarray | LayerImportance, channels: int
) -> np.ndarray:
    """An order of a layer's channels, int64 (channel,), the least important first.

    Arguments:
        place: the layer and its call. channels: how many it has.

    Raises:
        HooksError: it does not name every channel once, or is of another layer.
    """
    if isinstance(order, LayerImportance):
        if (order.layer, order.call) != place:
            raise HooksError(
                f"The importance that was given is of {called(order.layer)}, call {order.call}, and the curve of "
                f"{called(place[0])}, call {place[1]}. Give the one of this layer, or none."
            )
        order = order.order()
    chosen = np.asarray(order)
    if chosen.shape != (channels,) or not np.array_equal(np.sort(chosen), np.arange(channels)):
        raise HooksError(
            f"{titled(place[0])} has {channels} channels, and the order has to name each of them once, counted from 0."
        )
    return chosen.astype(np.int64)
