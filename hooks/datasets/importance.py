"""How much the channels of each layer matter over a set of pictures, estimated by gradients: what to prune first.

    found = importance(model, loader)
    found[0].layer, found[0].order()[:8]        # its eight least important channels

Of each picture one number is differentiated, its own: the logit of its first class, or its loss. What muting a channel
would change of that is, to the first order, the sum over positions of activation x gradient: its magnitude, averaged
over the pictures, is the criterion of Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient
Inference", ICLR 2017; its square that of "Importance Estimation for Neural Network Pruning", CVPR 2019
(arXiv:1906.10771), whose gates stand, as here, behind batch normalisation. Only sums are kept from batch to batch.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.causes.shares import channel_axis
from hookscope.hooks.datasets.labelled import Batch, PictureSteps, known_labels, read_batches
from hookscope.hooks.datasets.removal import Place, removals, with_own_filters
from hookscope.hooks.errors import HooksError, LayerNotExecuted, NoGradient, TargetNotFound, titled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import Pattern, select
from hookscope.hooks.layers.reasons import why_unseen
from hookscope.hooks.looks.batching import baseline_of
from hookscope.hooks.looks.map_taps import MapTap, array, filling
from hookscope.hooks.looks.outputs import Answered, Chosen, answer, choose
from hookscope.hooks.looks.targets import OWN, Class, Own, Target, score_of
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.graph import differentiate, overwritten_view, reason_no_gradient
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.importance import LayerImportance, Removal
from hookscope.hooks.results.looks import Call, LayerInfo

LOSS = "loss"
HELD_BYTES = 1 << 30  # of the values of one pass, whatever the size of a batch
SUMS_TO_ONE = 1e-3  # by which a sum of shares may miss 1


def importance(
    model: nn.Module,
    loader: Iterable[Any],
    layers: Pattern | Iterable[Pattern] | None = None,
    *,
    target: Target | str = None,
    described: Sequence[LayerInfo] | None = None,
) -> tuple[LayerImportance, ...]:
    """How much each channel matters for what the model answers to a set of pictures, layer by layer.

    The values are taken where being 0 is being gone (`LayerImportance.at`): behind the batch normalisation and the
    activation of a convolution, because before these a 0 is a value like others.

    Arguments:
        loader: batches, each a float tensor (image, channel, height, width), or a tuple or list of such a tensor and,
            for each image, its label; a list of them, a DataLoader, or anything else that is gone through once.
        layers: see `layers.names.select`; by default every convolution that is not depthwise (whose channels go with
            those of the layer before) and every linear layer, but for what gives the answer itself.
        target: what is explained of each picture: None for its own first class, a class for all, "loss" for the
            cross-entropy with its label; or another of `looks.targets`, asked of one picture at a time.
        described: what `layers.describe.describe` said of this model, if it is known; else it is asked here.

    Returns:
        One for each call of each layer, in execution order. Layers without channels, or of which what is explained
        does not depend, are left out, unless they were named: then that is refused.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> (found,) = importance(net, [torch.ones(2, 3, 8, 8)])
    >>> found.layer, found.at, found.pictures, found.taylor.shape
    ('0', '2', 2, (4,))

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound, LayerNotExecuted: a pattern means nothing, or a layer that is named was not run.
        TargetNotFound: there is no such class. NoGradient: a layer that is named has none.
        HooksError: the set is empty, a batch holds no pictures, or labels are missing.
    """
    batches = read_batches(loader)
    first = next(batches)
    picture = first.pictures[:1]
    infos = describe(model, picture) if described is None else described
    wanted = _wanted(model, infos, layers)
    found = removals(model, picture, infos, wanted)
    if layers is None:
        found = {place: each for place, each in found.items() if not each.is_answer}
    asking = _asking(model, picture, _wanted_of(target), found, infos)
    sums: dict[Place, LayerImportance] = {}
    steps = PictureSteps(loader)
    for batch in itertools.chain([first], batches):
        for part in batch.parts(asking.together):
            for place, each in asking.sums(part).items():
                if isinstance(each, LayerImportance):
                    sums[place] = sums[place] + each if place in sums else each
                elif layers is not None:
                    raise each
            steps.count(len(part.pictures))
    return tuple(sums[place] for place in found if place in sums)


def _wanted(model: nn.Module, infos: Sequence[LayerInfo], patterns: Pattern | Iterable[Pattern] | None) -> list[Place]:
    """The calls of the layers that are asked for, in execution order.

    Raises:
        LayerNotFound: a pattern means nothing. LayerNotExecuted: a layer that is named did not run.
    """
    if patterns is None:
        places = with_own_filters(model, infos)
        if not places:
            raise HooksError("This model has no convolution and no linear layer that could be pruned. Name its layers.")
        return places
    described, finder = {info.name: info for info in infos}, Finder(model, infos)
    names = list(select(model, patterns))
    for name in names:
        if problem := finder.not_executed(name, 0):
            raise problem
    calls = [(call.order, name, index) for name in names for index, call in enumerate(described[name].calls)]
    return [(name, index) for _, name, index in sorted(calls)]


@dataclass(frozen=True)
class _Asking:
    """What is asked of each picture, and where.

    Attributes:
        target: what is explained. loss: whether in its place the cross-entropy with the labels is.
        places: of each call that was asked for the layer and call whose values are taken, as `MapTap` has them.
        chosen: how classes are read of an answer; None where it is no list of them.
        of_each: of a class for all pictures its number for each; else None.
        together: how many pictures may be asked in one pass.
    """

    model: nn.Module
    target: Target
    loss: bool
    places: dict[Place, tuple[str, str, int, nn.Module, Call]]
    chosen: Chosen | None = None
    of_each: Callable[[Any], Tensor] | None = None
    together: int = 1

    @property
    def explained(self) -> str:
        """The target in words."""
        if self.loss:
            return LOSS
        if _is_own(self.target):
            return "first class"
        index = self.target.index if isinstance(self.target, Class) else self.target
        return f"class {index}" if isinstance(index, int) else "another target"

    def sums(self, batch: Batch) -> dict[Place, LayerImportance | HooksError]:
        """The importances over some pictures, from one pass, or why a layer has none."""
        taps = {place: MapTap(*tap) for place, tap in self.places.items()}
        gradients = self._differentiated(batch, list(taps.values()))
        found: dict[Place, LayerImportance | HooksError] = {}
        for (place, tap), gradient in zip(taps.items(), gradients, strict=True):
            try:
                each = _each(tap, gradient)
            except HooksError as problem:
                found[place] = problem
            else:
                sums = np.abs(each).sum(0), np.square(each).sum(0)
                found[place] = LayerImportance(*place, tap.name, tap.call, self.explained, len(batch.pictures), *sums)
        return found

    def _differentiated(self, batch: Batch, taps: list[MapTap]) -> list[Tensor | None]:
        """The gradient at every tap of the sum of the pictures' own numbers, None where there is none."""
        with contextlib.ExitStack() as stack:
            model = stack.enter_context(inspecting(self.model, gradients=True))
            hooked = stack.enter_context(contextlib.ExitStack())
            hooked.enter_context(filling(model, taps))
            hooked.enter_context(cancelling())
            answered = answer(model, *nested.private((batch.pictures,), requires_grad=True))
            hooked.close()  # before the gradient: checkpointed layers run again there, and that is no call of theirs
            number = self._number(answered, batch.labels)
            stop_if_cancelled()
            edges = [each.edge for each in taps if each.edge is not None]
            slopes = iter(differentiate(number, edges) if edges and number.requires_grad else [None] * len(edges))
            found = [None if each.edge is None else next(slopes) for each in taps]
            return [None if overwritten_view(each.watch) else slope for each, slope in zip(taps, found, strict=True)]

    def _number(self, answered: Answered, labels: np.ndarray | None) -> Tensor:
        """The sum over the pictures of what is explained of each."""
        if self.chosen is not None and self.loss:
            rows = self.chosen.again(answered)
            wanted = torch.from_numpy(known_labels(labels, rows.shape[1])).to(rows.device)
            return functional.cross_entropy(rows, wanted, reduction="sum")
        if self.chosen is not None and _is_own(self.target):
            return self.chosen.again(answered).max(1).values.sum()
        if self.of_each is not None:
            return self.of_each(answered).sum()
        return score_of(answered, self.target, differentiable=False).tensor


def _wanted_of(target: Any) -> tuple[Target, bool]:
    """What is explained, and whether in its place the loss is."""
    if isinstance(target, str) and target == LOSS:
        return OWN, True
    is_number = isinstance(target, np.integer) or (isinstance(target, Tensor) and target.numel() == 1)
    return (int(target) if is_number else target), False


def _asking(
    model: nn.Module,
    picture: Tensor,
    wanted: tuple[Target, bool],
    found: dict[Place, Removal],
    infos: Sequence[LayerInfo],
) -> _Asking:
    """How the pictures are asked, tried on the first one.

    Raises:
        TargetNotFound: there is no such class in the output. HooksError: a loss is asked for that there is not.
    """
    target, is_loss = wanted
    finder, described = Finder(model, infos), {info.name: info for info in infos}
    places = {}
    for place, each in found.items():
        seen = described[each.at].calls[each.at_call]
        places[place] = (place[0], each.at, each.at_call, finder.find(each.at)[1], seen)
    asking = _Asking(model, target, is_loss, places)
    with inspecting(model) as inner:
        with cancelling():
            answered = answer(inner, *nested.private((picture,), requires_grad=False))
        score = score_of(answered, target, differentiable=False)
        chosen = _classes(answered)
        if is_loss and (chosen is None or not _has_shares(chosen)):
            raise HooksError(
                "The model's answer is no list of classes of which one is right, so no cross-entropy can be asked for. "
                "Give a class, or a function from the model's output to one number."
            )
        is_class = isinstance(target, int | Class) and not _is_own(target)
        asking = replace(
            asking,
            chosen=chosen if _is_own(target) else None,
            of_each=score.of_each if is_class else None,
        )
        alike = all("image" in seen.axes for *_, seen in places.values())
        if not alike or (asking.chosen is None and asking.of_each is None):
            return asking
        if score.of_each is None or not baseline_of(inner, score, picture)[1]:
            return asking
    return replace(asking, together=_most_together(infos, places))


def _most_together(infos: Sequence[LayerInfo], places: dict[Place, tuple[str, str, int, nn.Module, Call]]) -> int:
    """How many pictures one pass may hold: what autograd keeps, and of each place values, gradients and products."""
    kept = sum(prod(call.shape) for info in infos if info.leaf and not info.operation for call in info.calls)
    taken = sum(prod(seen.shape) for *_, seen in places.values())
    return max(1, HELD_BYTES // max(4 * (kept + 3 * taken), 1))


def _is_own(target: Any) -> bool:
    return target is None or isinstance(target, Own) or (isinstance(target, int) and target == -1)


def _classes(answered: Answered) -> Chosen | None:
    """How an answer is read, if it has one number per class and picture."""
    try:
        chosen = choose(answered)
    except TargetNotFound:
        return None
    return chosen if chosen.logits.ndim == 2 else None


def _has_shares(chosen: Chosen) -> bool:
    """Whether the logits become shares by a softmax."""
    if chosen.logits.shape[1] < 2 or chosen.reads not in ("softmax", "probabilities"):
        return False
    return chosen.reads == "softmax" or abs(float(chosen.numbers.double().sum()) - 1) < SUMS_TO_ONE


def _each(tap: MapTap, gradient: Tensor | None) -> np.ndarray:
    """Of each picture the sum over positions of activation x gradient, float64 (image, channel).

    Raises:
        LayerNotExecuted: the layer was not called (so often). HooksError: its output has no channels.
        NoGradient: there is no gradient.
    """
    if tap.value is None:
        if unseen := why_unseen(tap.placed):
            raise LayerNotExecuted(f"{titled(tap.asked)} was not seen in this forward pass. {unseen}")
        raise LayerNotExecuted(
            f"{titled(tap.asked)} was not called (so often) for this input. Choose another layer or call."
        )
    described = tap.described
    axis = channel_axis(tap.asked, described, tap.value.shape)
    if gradient is None:
        reason = tap.unrecorded or reason_no_gradient(tap.watch)
        raise NoGradient(f"{titled(tap.asked)} has no gradient for what is explained. {reason}")
    products = torch.from_numpy(tap.value) * torch.from_numpy(array(gradient))
    if "image" in described.axes:
        rows = products.movedim((described.axes.index("image"), axis), (0, 1))
    else:
        rows = products.movedim(axis, 0)[None]
    sums: np.ndarray = rows.reshape(*rows.shape[:2], -1).sum(2, dtype=torch.float64).numpy()
    return sums
