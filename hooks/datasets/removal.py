"""Where muting a layer's channels is the same as removing them, and what removing one saves.

Where a channel is removed, its filter goes, its entries in the normalisations behind it, its depthwise filter, and the
slices of the weights that read it. What reads it then gets nothing, as it would of a channel that is 0. Muted before a
batch normalisation it is not 0 there but what that makes of 0; so it has to be muted behind the last layer that hands
the channels on one by one. To find it, one pass is recorded operator by operator, below autograd and Python, and the
channels are followed from value to value (`carrying`): where they lie, who reads them, and whether a 0 stays a 0.

What is not known to keep channels apart ends the walk, and it is then not known what removing one would change.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hookscope.hooks.causes.shares import channel_axis
from hookscope.hooks.datasets.carrying import Carried, Passed, Read, Step, Stopped, carry, keeps_zero
from hookscope.hooks.layers.axes import hookable
from hookscope.hooks.layers.names import named_layers
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.importance import Removal
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.prunable import Prunable, Prunables

Place = tuple[str, int]  # a layer and its call
WITH_FILTERS = (nn.modules.conv._ConvNd, nn.Linear)

_MOVES = frozenset({"alias", "detach", "expand", "permute", "select", "slice", "t", "transpose", "unsqueeze", "view"})
_NO_FILTERS = "None of its parameters are filters that could go. Ask for the convolution or linear layer before it."
_DEPTHWISE = (
    "Its filters see a part of the channels before it each, and go together with those. Ask for the layer before."
)
_SHARED = "Its weights, or those of a layer behind it, are used {} times in a pass, for other channels too."
_UNSEEN = "It was not seen in the pass that was to show what becomes of its channels."
_CHANGED = "What follows makes something else of a 0 on the way to the layers that read it, each in its own way."
_RETURNED = "Its channels are in what the model returns, which would be another answer without them."
_UNREAD = "No weights were seen that read its channels."
_GATED = "Its channels are multiplied by a gate; the filters that make the gate can go too, and are not counted."
_STOPPED = {
    "added": "Its channels are added to other values, as in a residual block, and cannot be removed without those: "
    "muting one takes this layer's part out of the sum.",
    "groups": "Its channels are read in groups of one size, so that none can be removed alone.",
    "together": "Its channels are normalised together, so that removing one changes the others, and muting does not.",
    "unknown": "What becomes of its channels in PyTorch's operator {!r} is not known.",
}


def removals(
    model: nn.Module, picture: Tensor, layers: Sequence[LayerInfo], wanted: Sequence[Place]
) -> dict[Place, Removal]:
    """What removing channels of some layers comes to, from one recorded pass.

    Arguments:
        picture: float (1, channel, height, width). layers: what `layers.describe.describe` said of this model.
        wanted: (layer name, 0-based call), each in `layers`.

    >>> from hookscope.hooks.layers.describe import describe
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1))
    >>> image = torch.ones(1, 3, 8, 8)
    >>> found = removals(net, image, describe(net, image), [("0", 0)])["0", 0]
    >>> found.at, found.readers, found.parameters == (3 * 9 + 1) + 2 + 5
    ('2', ('3',), True)

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        HooksError: a layer has no channels.
    """
    infos = {info.name: info for info in layers}
    modules = named_layers(model)
    seen = _recorded(model, picture)
    found = {}
    for name, call in wanted:
        info = infos[name]
        described = info.calls[call]
        axis = channel_axis(name, described, described.shape)
        own = _own(modules.get(name), info, described.shape[axis])
        flow = seen.follow((name, call), described, axis)
        found[name, call] = _removal(seen, infos, (name, call), own, flow)
    return found


def with_own_filters(model: nn.Module, layers: Sequence[LayerInfo]) -> list[Place]:
    """The calls of convolutions that are not depthwise, whose channels go with those before them, and of linear layers.

    In execution order; without those that have no channels.
    """
    infos = {info.name: info for info in layers}
    found = [
        (call.order, name, number)
        for name, module in named_layers(model).items()
        if isinstance(module, WITH_FILTERS) and getattr(module, "groups", 1) == 1 and name in infos
        for number, call in enumerate(infos[name].calls)
        if call.axes.count("channel") == 1 or call.axes.count("feature") == 1
    ]
    return [(name, number) for _, name, number in sorted(found)]


def prunable(model: nn.Module, picture: Tensor, layers: Sequence[LayerInfo]) -> Prunables:
    """What removing channels comes to, of each layer that has filters of its own and does not give the answer itself.

    Arguments:
        picture: float (1, channel, height, width). layers: what `layers.describe.describe` said of this model.

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
    """
    infos = {info.name: info for info in layers}
    found = []
    for (name, number), removal in removals(model, picture, layers, with_own_filters(model, layers)).items():
        call = infos[name].calls[number]
        if not removal.is_answer:
            found.append(Prunable(name, number, call.shape[channel_axis(name, call, call.shape)], removal))
    return Prunables(tuple(found))


@dataclass(frozen=True)
class _Own:
    """Of one channel the layer's own part.

    Attributes:
        weights: the memory of its filters, 0 if it has none. groups: of its filters.
    """

    parameters: int = 0
    multiply_adds: int = 0
    weights: int = 0
    groups: int = 1


def _own(module: nn.Module | None, info: LayerInfo, channels: int) -> _Own:
    if info.operation or not isinstance(module, WITH_FILTERS) or not isinstance(module.weight, nn.Parameter):
        return _Own()
    each = module.weight.numel() // channels + (module.bias is not None)
    groups = int(getattr(module, "groups", 1))
    return _Own(each, (info.multiply_adds or 0) // channels, module.weight.data_ptr(), groups)


@dataclass
class _Flow:
    """Where the channels of one call of a layer go.

    Attributes:
        count: how many there are. start: the number of the value that they begin in.
        places: where they lie in each value that holds them.
        passed: in execution order, the steps that hand them on, with the values before and the one behind.
        ended: the steps that read them, or where they end otherwise, with the values before.
        used: the first step that takes each value.
    """

    count: int
    start: int
    places: dict[int, Carried]
    passed: list[tuple[Step, Passed, list[int], int]] = field(default_factory=list)
    ended: list[tuple[Step, Read | Stopped, list[int]]] = field(default_factory=list)
    used: dict[int, int] = field(default_factory=dict)
    _kept: dict[int, bool] = field(default_factory=dict)

    def is_muted_at(self, value: int) -> bool:
        """Whether all that the channels come to is 0 where they are 0 in a value."""
        zero = {value}
        for step, passed, before, behind in self.passed:
            enough = any if passed.any_zero else all
            if enough(each in zero for each in before) and self._keeps(step, passed, behind):
                zero.add(behind)
        return all(each in zero for _, _, before in self.ended for each in before)

    def _keeps(self, step: Step, passed: Passed, behind: int) -> bool:
        if behind not in self._kept:
            self._kept[behind] = passed.keeps == "always" or keeps_zero(step, passed.where, self.count)
        return self._kept[behind]


def _removal(seen: _Recording, infos: Mapping[str, LayerInfo], asked: Place, own: _Own, flow: _Flow | None) -> Removal:
    if flow is None:
        return Removal(*asked, False, _UNSEEN, (), own.parameters, own.multiply_adds, 0, 0)
    at = next((place for place, value in _candidates(seen, infos, asked, flow) if flow.is_muted_at(value)), None)
    note = _why_not(seen, own, flow) or ("" if at else _CHANGED)
    exact = not note
    going = [passed for _, passed, _, _ in flow.passed] + [read for _, read, _ in flow.ended if isinstance(read, Read)]
    if exact and any(isinstance(each, Passed) and each.gated for each in going):
        note = _GATED
    returned = any(value in flow.places for value in seen.answer)
    readers = [seen.owner.get(each, "") for _, read, _ in flow.ended if isinstance(read, Read) for each in read.weights]
    return Removal(
        *(at or asked),
        exact,
        note,
        tuple(dict.fromkeys(readers)),
        own.parameters,
        own.multiply_adds,
        parameters=own.parameters + sum(each.parameters for each in going) if exact else 0,
        multiply_adds=own.multiply_adds + sum(each.multiply_adds for each in going) if exact else 0,
        is_answer=returned and not readers,
    )


def _candidates(seen: _Recording, infos: Mapping[str, LayerInfo], asked: Place, flow: _Flow) -> list[tuple[Place, int]]:
    """The calls of modules that hand the channels on as they lie in the layer to all that use them, the last first."""
    found = []
    for value, where in sorted(flow.places.items(), reverse=True):
        place, made = (asked, 0) if value == flow.start else seen.made.get(value, (None, 0))
        if flow.used.get(value, made) < made:
            continue
        info = None if place is None else infos.get(place[0])
        if place is None or info is None or place[1] >= len(info.calls) or where.block > 1:
            continue
        call = info.calls[place[1]]
        named = call.axes[where.axis] if where.axis < len(call.axes) else ""
        if named in ("channel", "feature") and call.shape[where.axis] == flow.count:
            found.append((place, value))
    return found


def _why_not(seen: _Recording, own: _Own, flow: _Flow) -> str:
    """Why muting a channel is not removing it, as a sentence; "" if it is, wherever that has to be done."""
    if not own.weights:
        return _NO_FILTERS
    if own.groups > 1:
        return _DEPTHWISE
    if any(value in flow.places for value in seen.answer):
        return _RETURNED
    stopped = {outcome.why: step for step, outcome, _ in reversed(flow.ended) if isinstance(outcome, Stopped)}
    for why, sentence in _STOPPED.items():
        if why in stopped:
            return sentence.format(stopped[why].name)
    behind = [passed.weights for _, passed, _, _ in flow.passed]
    behind += [read.weights for _, read, _ in flow.ended if isinstance(read, Read)]
    most = max(seen.uses[each] for each in (own.weights, *(weight for weights in behind for weight in weights)))
    if most > 1:
        return _SHARED.format(most)
    return "" if flow.ended else _UNREAD


def _recorded(model: nn.Module, picture: Tensor) -> _Recording:
    with inspecting(model) as inner, contextlib.ExitStack() as stack:
        modules = named_layers(inner)
        seen = _Recording(modules)
        for name, module in hookable(modules).items():
            begin, end = seen.hooks_of(name)
            stack.enter_context(hook(module, "forward_pre", begin, layer=name))
            stack.enter_context(hook(module, "forward", end, layer=name))
        stack.enter_context(cancelling())
        given = nested.private((picture,), requires_grad=False)
        stack.enter_context(seen)
        output = inner(*given)
        seen.answer = [seen.number(tensor) for _, tensor in nested.tensors(output)]
    return seen


class _Recording(TorchDispatchMode):
    """One pass as steps between values, which are numbered in the order in which they were made.

    A tensor is known by where it lies in memory and how, which is why all are kept; what is written over in place is a
    new value, and so is every view of it.

    Attributes:
        owner: by the memory address of each of the model's parameters the layer that has it.
        uses: in how many steps each of them is used.
        made: the first module and call that computed and returned a value, and how many steps there were by then.
        returned: what each call returned: the value, and its shape.
        answer: the values that the model returned.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.uses: Counter[int] = Counter()
        self.owner: dict[int, str] = {}
        for name, module in modules.items():
            for parameter in module._parameters.values():
                if parameter is not None and nested.memory(parameter):
                    self.owner.setdefault(parameter.data_ptr(), name)
        self.made: dict[int, tuple[Place, int]] = {}
        self.returned: dict[Place, tuple[int, tuple[int, ...]]] = {}
        self.answer: list[int] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._kept: dict[tuple[object, ...], Tensor] = {}
        self._of_storage: dict[int, list[tuple[object, ...]]] = {}
        self._last = 0

    def hooks_of(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        """A hook before a layer's calls, and one behind them that notes what they return."""
        calls, begun = iter(range(1 << 62)), list[int]()

        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            begun.append(self._last)

        def end(module: nn.Module, args: Any, output: Any) -> None:
            place, found, before = (name, next(calls)), nested.first(output), begun.pop()
            if found is not None:
                value = self.number(found[1])
                self.returned[place] = value, tuple(found[1].shape)
                if value > before:  # else it returns what it was given
                    self.made.setdefault(value, (place, len(self.steps)))

        return begin, end

    def number(self, tensor: Tensor) -> int:
        """The number of the value that a tensor holds now."""
        key = _key(tensor)
        return self._numbers[key] if key in self._numbers else self._new(key, tensor)

    def _new(self, key: tuple[object, ...], tensor: Tensor) -> int:
        if key not in self._numbers:
            self._of_storage.setdefault(nested.memory(tensor), []).append(key)
            self._kept[key] = tensor
        self._last += 1
        self._numbers[key] = self._last
        return self._last

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [(tensor, self.number(tensor)) for _, tensor in nested.tensors([*args, *kwargs.values()])]
        result = func(*args, **kwargs)
        returned = [tensor for _, tensor in nested.tensors(result)]
        name = func._schema.name.rpartition("::")[2]
        if func._schema.is_mutable:
            name = name.removesuffix("_")
            returned = returned or [tensor for tensor, _ in given]
        elif {_key(tensor) for tensor in returned} <= {_key(tensor) for tensor, _ in given}:
            return result  # the same value
        results = tuple((tensor, self._new(_key(tensor), tensor)) for tensor in returned)
        self.steps.append(Step(name, func, args, kwargs, tuple(given), results))
        if func._schema.is_mutable:
            self._write_over(results)
        if name not in _MOVES:
            self.uses.update({tensor.data_ptr() for tensor, _ in given if _is_strided(tensor)} & self.owner.keys())
        return result

    def _write_over(self, results: Sequence[tuple[Tensor, int]]) -> None:
        """Other tensors over the same memory are new values too, of which nothing is known."""
        for tensor, number in results:
            for key in self._of_storage.get(nested.memory(tensor), []) if nested.memory(tensor) else ():
                if key != _key(tensor):
                    other = self._kept[key]
                    given = ((other, self._numbers[key]), (tensor, number))
                    results = ((other, self._new(key, other)),)
                    self.steps.append(Step("a write in place", _never, (), {}, given, results))

    def follow(self, place: Place, described: Call, axis: int) -> _Flow | None:
        """Where the channels of a call's output go; None if it is not known as it was described."""
        if place not in self.returned or self.returned[place][1] != described.shape:
            return None
        start, shape = self.returned[place]
        flow = _Flow(shape[axis], start, {start: Carried(axis)})
        for step in self.steps:
            places = {index: flow.places[value] for index, (_, value) in enumerate(step.given) if value in flow.places}
            if not places:
                continue
            before = [step.given[index][1] for index in places]
            outcome = carry(step, places, self.owner.keys())
            if isinstance(outcome, Passed):
                flow.passed.append((step, outcome, before, step.results[0][1]))
                flow.places[step.results[0][1]] = outcome.where
                continue
            flow.ended.append((step, outcome, before))
            if isinstance(outcome, Stopped) and outcome.where is not None:
                flow.places[step.results[0][1]] = outcome.where
        return flow


def _never(*args: Any, **kwargs: Any) -> Any:
    raise TypeError("a write in place is no operator")


def _is_strided(tensor: Tensor) -> bool:
    return bool(tensor.numel() and nested.memory(tensor))


def _key(tensor: Tensor) -> tuple[object, ...]:
    """What tells a tensor from others while all are kept: where it lies, and how."""
    if not _is_strided(tensor):
        return (id(tensor),)
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
