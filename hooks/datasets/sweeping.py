"""What a model does over a set of pictures, in one pass over any iterable of batches.

    found = sweep(model, DataLoader(pictures, batch_size=32), [statistics(), top(), answers()])
    found.summary("layer4").statistics.std
    found.top("layer4").strongest(channel=5).pictures

Everything asked for is read from one pass of each batch. Memory does not grow with the set, but for what says so
(`features`, `answers`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.collecting import Collector
from hookscope.hooks.datasets.collectors import answers, statistics
from hookscope.hooks.datasets.galleries import top
from hookscope.hooks.datasets.labelled import read_batches
from hookscope.hooks.datasets.layer_batch import LayerBatch, Plans
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.axes import Axes, leaves
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import first_names, select
from hookscope.hooks.looks.batching import SAME
from hookscope.hooks.looks.outputs import answer, needs_watching
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.looking import current
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.sweeps import NOWHERE, Sweep


def sweep(
    model: nn.Module,
    loader: Iterable[Any],
    wanted: Sequence[Collector] | None = None,
    *,
    first: int = 0,
    described: Sequence[LayerInfo] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Sweep:
    """Show a model every picture of a set, and collect what is wanted.

    Arguments:
        loader: batches, e.g. a `DataLoader`, or that in a `tqdm`: each float (picture, channel, height, width), or a
            tuple or list of that and labels, one whole number per picture, -1 for none; or a dict of these.
        wanted: what to collect; by default `statistics()`, `top()` and `answers()`.
        first: the number of the first picture. Those of several sweeps that are to be added differ.
        described: what `layers.describe.describe` said of this model; else it is asked with the first picture.
        progress: called after each batch with the number of pictures done, and of all, None if the loader's length is
            not known.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> found = sweep(net, [torch.ones(2, 3, 8, 8), (torch.zeros(1, 3, 8, 8), [3])])
    >>> found.pictures, found.answers.labels, found.summary("1").inputs
    (array([0, 1, 2]), array([-1, -1,  3]), 3)

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        HooksError: a batch is none, a label is no class of the model, or the loader is empty.
        LayerNotFound: a pattern means nothing.
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    run = Sweeping(model, [statistics(), top(), answers()] if wanted is None else wanted, described=described)
    total, number = _length(loader), first
    for batch in read_batches(loader):
        run.add(batch.pictures, np.arange(number, number + len(batch.pictures)), batch.labels)
        number += len(batch.pictures)
        if progress is not None:
            progress(number - first, total)
        if (tell := current().progress) is not None:
            tell(number - first, max(total or 0, number - first))
    return run.found()


class Sweeping:
    """A sweep, batch by batch; `sweep` is the loop around it.

    A batch that ends in an exception leaves it half done: what was found before is then no longer to be had.

    Arguments:
        model, wanted, described: as `sweep` has them.
    """

    def __init__(
        self, model: nn.Module, wanted: Sequence[Collector], *, described: Sequence[LayerInfo] | None = None
    ) -> None:
        self._model = model
        self._wanted = wanted
        everything = select(model, "*")
        self._of: dict[str, list[Collector]] = {}  # layer -> who looks at it
        for collector in wanted:
            if collector.layers != ():
                chosen = leaves(everything) if collector.layers is None else select(model, collector.layers)
                for name in chosen:
                    self._of.setdefault(name, []).append(collector)
        names = [name for name in everything if name in self._of] + [
            name for name in self._of if name not in everything
        ]
        self._chosen = select(model, names) if names else {}
        self._names = first_names(model)
        self._described = described
        self._plans = Plans(Axes(described or ()))
        self._together: bool | None = None  # whether pictures may be given in a batch; None before that is known
        self._watched = True  # whether the pass is watched for a last softmax
        self._seen: list[np.ndarray] = []
        self._same: dict[tuple[str, int, str, int], None] = {}
        self._broken = False
        self._read = False  # whether a batch has been
        self._told: dict[str, nn.Module] | None = None  # see `_looked_at`

    def add(self, pictures: Tensor, numbers: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Show it a batch.

        Arguments:
            pictures: float (picture, channel, height, width); copied. numbers: int64 (picture,), in their set.
            labels: int64 (picture,), -1 where there is none.

        Raises:
            HooksError: a label is no class of the model.
        """
        labels = np.full(len(pictures), NOWHERE) if labels is None else labels
        numbers, labels = numbers.astype(np.int64), labels.astype(np.int64)
        self._whole()
        with inspecting(self._model) as inner:
            given = pictures.to(_device(inner))
            if self._described is None:
                self._described = describe(inner, given[:1])
                self._plans = Plans(Axes(self._described))
            if self._together is None and len(given) > 1:
                self._together = _may_be_together(inner, given)
            parts = [slice(None)] if self._together or len(given) == 1 else [slice(i, i + 1) for i in range(len(given))]
            self._broken = True
            for part in parts:
                self._run(inner, given[part], numbers[part], labels[part])
        self._seen.append(numbers)
        self._broken = False

    def found(self) -> Sweep:
        """What was found of every batch so far; it can go on afterwards."""
        self._whole()
        fields: dict[str, Any] = {}
        for collector in self._wanted:
            for name, value in collector.found().items():
                fields[name] = (*fields[name], *value) if name in fields and isinstance(value, tuple) else value
        pictures = np.sort(np.concatenate(self._seen)) if self._seen else np.zeros(0, np.int64)
        return Sweep(pictures=pictures, same=tuple(self._same), **fields)

    @property
    def described(self) -> Sequence[LayerInfo] | None:
        """What `layers.describe.describe` said of the model; None before the first batch."""
        return self._described

    @property
    def shapes(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """The shape of what each call of a layer has returned so far, without the first axis."""
        return self._plans.shapes

    def again(self, wanted: Sequence[Collector]) -> Sweeping:
        """A new sweep of this model, which knows what this one has found out about it; this one has seen a batch.

        Arguments:
            wanted: other collectors that look at the same layers, each in the place of one of this sweep's.
        """
        fresh = copy.copy(self)
        instead = {id(own): other for own, other in zip(self._wanted, wanted, strict=True)}
        fresh._wanted = wanted
        fresh._of = {layer: [instead[id(own)] for own in collectors] for layer, collectors in self._of.items()}
        fresh._seen, fresh._same, fresh._broken = [], dict(self._same), False
        return fresh

    def _whole(self) -> None:
        if self._broken:
            raise HooksError(
                "A batch of this sweep ended in an exception and was counted in part, so its numbers would be wrong. "
                "Begin again, or add what was found before to a new sweep of the rest."
            )

    def _run(self, model: nn.Module, pictures: Tensor, numbers: np.ndarray, labels: np.ndarray) -> None:
        for collector in self._wanted:
            collector.begin(numbers, labels)
        look = _Look(self._plans, numbers, self._of, self._same)
        with tapping(self._looked_at(), self._names, look.hook_of), cancelling():
            answered = answer(model, nested.private(pictures, requires_grad=False), watched=self._watched)
        if look.failure is not None:
            raise look.failure
        self._watched = self._watched and needs_watching(model, answered)
        for collector in self._wanted:
            collector.end(answered)
        self._read = True

    def _looked_at(self) -> dict[str, nn.Module]:
        """The chosen layers, once they are known without those that only hand on what another one has returned."""
        if self._read and self._told is None:
            only = {layer for layer, *_ in self._same} - {layer for layer, _ in self._plans.read}
            self._told = {name: module for name, module in self._chosen.items() if name not in only}
        return self._chosen if self._told is None else self._told


class _Look:
    """The hooks of one pass."""

    def __init__(
        self,
        plans: Plans,
        pictures: np.ndarray,
        collectors: Mapping[str, Sequence[Collector]],
        same: dict[tuple[str, int, str, int], None],
    ) -> None:
        self.plans = plans
        self.pictures = pictures
        self.collectors = collectors
        self.same = same
        self.failure: BaseException | None = None
        self._last: tuple[Tensor, int, tuple[str, int], Sequence[Collector]] | None = None

    def hook_of(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        """The hook of one layer."""
        calls = iter(range(1 << 62))
        collectors = self.collectors[layer]

        def look(module: nn.Module, args: Any, output: Any) -> None:
            place = layer, next(calls)
            found = nested.first(output)
            if found is None or self.failure is not None:
                return
            try:
                self.look(place, module, found[1], output, collectors)
            except BaseException as error:  # kept, because a model may catch what its layers raise
                self.failure = error
                raise

        return look

    def look(
        self, place: tuple[str, int], module: nn.Module, tensor: Tensor, output: Any, collectors: Sequence[Collector]
    ) -> None:
        """Have everybody look at what a layer returned, unless it is what another one has just returned."""
        version = -1 if tensor.is_inference() else tensor._version
        if self._last is not None and tensor is self._last[0] and version == self._last[1]:
            self.same[*place, *self._last[2]] = None
            collectors = [each for each in collectors if each not in self._last[3]]
        else:
            self._last = tensor, version, place, collectors
        if not collectors:
            return
        plan = self.plans.of(*place, module, tensor)
        self.plans.read[place] = None
        rows = plan.read(tensor, len(self.pictures), all(getattr(each, "whole", False) for each in collectors))
        batch = LayerBatch(*place, module, tensor, self.plans.axes, self.pictures, rows, plan.layout, output)
        for collector in collectors:
            collector.look(batch)


def _may_be_together(model: nn.Module, pictures: Tensor) -> bool:
    """Whether the answer to one picture is the same with another one beside it."""
    try:
        together, alone = (model(nested.private(pictures[:count], requires_grad=False)) for count in (2, 1))
        pairs = list(zip(nested.tensors(together), nested.tensors(alone), strict=True))
        return bool(pairs) and all(_same(one, other) for (_, one), (_, other) in pairs if other.is_floating_point())
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):  # a model for one picture at a time
        return False


def _same(together: Tensor, alone: Tensor) -> bool:
    if not alone.numel() or together.shape != (2, *alone.shape[1:]):
        return False
    size = max(float(alone.abs().max()), SAME)
    return bool(((together[:1] - alone).abs() <= SAME * size).all())


def _device(model: nn.Module) -> torch.device:
    tensor = next(iter(model.parameters()), next(iter(model.buffers()), None))
    return torch.device("cpu") if tensor is None else tensor.device


def _length(loader: Any) -> int | None:
    """How many pictures a loader has, where it tells."""
    with contextlib.suppress(TypeError, AttributeError):
        return len(loader.dataset)
    return None
