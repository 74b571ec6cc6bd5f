"""What a run computed before a layer, kept, so that further runs begin there: for a change of it that is tried often.

    kept = prefix_of(model, (picture,), [("layer3", 0)], layers)
    with edit(model, [mute("layer3", 5)], layers=layers), kept.replayed():
        model(picture)                # bit by bit what it gives without `kept`, and sooner

Only modules are handed out again whose calls leave nothing behind, that ran once, and whose value is memory of their
own; what lies between them is computed. Whether that is the whole truth of a model is not argued but tried: a run that
begins there has to give every bit of the plain run's answer, or there is no prefix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.causes.patching import computing_as, keeps_nothing
from hookscope.hooks.layers.names import named_layers
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting, same_bits
from hookscope.hooks.results.looks import Call, LayerInfo

KEPT_BYTES = 256 << 20  # of what one prefix keeps; above it runs begin at the picture


@dataclass(frozen=True)
class Prefix:
    """What modules returned before a layer ended.

    Attributes:
        order: of the first call that may change, among the calls of the recorded run; see `results.looks.Call`.
        outputs: by module, what its one call returned.
        written: those modules into whose output the model writes, so that it gets a copy each time.
        versions: of every tensor that is kept.
    """

    order: int
    outputs: dict[nn.Module, Any] = field(repr=False)
    written: set[nn.Module] = field(default_factory=set, repr=False)
    versions: dict[nn.Module, list[int]] = field(default_factory=dict, repr=False)

    @property
    def intact(self) -> bool:
        """Whether nobody has written into what is kept; if somebody has, the run that did so was still right."""
        return all(_versions(value) == self.versions[module] for module, value in self.outputs.items())

    @contextlib.contextmanager
    def replayed(self) -> Iterator[None]:
        """Have the runs of a `with` block begin where the prefix ends."""
        with contextlib.ExitStack() as stack:
            for module, value in self.outputs.items():
                stack.enter_context(computing_as(module, self._handing_out(module, value)))
            yield

    def _handing_out(self, module: nn.Module, value: Any) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled():
                return nested.private(value, requires_grad=True)
            return nested.private(value, requires_grad=False) if module in self.written else value

        return forward


def _versions(value: Any) -> list[int]:
    return [tensor._version for _, tensor in nested.tensors(value)]


def single_call(layers: Sequence[LayerInfo], name: str, call: int) -> Call | None:
    """The call of a layer that ran once in the recorded run, else None: among several, those before are not counted."""
    info = next((each for each in layers if name in (each.name, *each.aliases)), None)
    if info is None or len(info.calls) != 1 or call != 0:
        return None
    if info.operation:  # its module's own calls count
        around = info.name.rpartition("/")[0]
        if any(each.name == around and len(each.calls) != 1 for each in layers):
            return None
    return info.calls[0]


def prefix_of(
    model: nn.Module,
    inputs: tuple[Any, ...],
    places: Sequence[tuple[str, int]],
    layers: Sequence[LayerInfo],
    *,
    limit_bytes: int = KEPT_BYTES,
) -> Prefix | None:
    """What can be handed out again in runs in which nothing before the first of some calls changes.

    It takes a plain run, and a second one that begins behind it and has to give the same bits.

    Arguments:
        inputs: the model's positional arguments; they are copied.
        places: (layer name, call) of what may change.
        layers: what `layers.describe.describe` said of this model.
        limit_bytes: of what is kept.

    Returns:
        None where runs have to begin at the input: a layer ran several times, too much would be kept, or a run that
        begins later gives other bits.

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
    """
    calls = [single_call(layers, *place) for place in places]
    if not calls or None in calls:
        return None
    order = min(call.order for call in calls if call is not None)
    with inspecting(model) as inner, cancelling():
        keeper = _Keeper(limit_bytes)
        with keeper.watching(_outermost_before(inner, layers, order)):
            plain = inner(*nested.private(inputs, requires_grad=False))
        if keeper.too_much or not keeper.outputs:
            return None
        kept = {module: nested.private(value, requires_grad=False) for module, value in keeper.outputs.items()}
        tried = Prefix(order, keeper.outputs)
        with tried.replayed():
            again = inner(*nested.private(inputs, requires_grad=False))
    if not _same(plain, again):
        return None
    written = {module for module, value in tried.outputs.items() if any(_versions(value))}
    return Prefix(order, kept, written, {module: _versions(value) for module, value in kept.items()})


def _outermost_before(model: nn.Module, layers: Sequence[LayerInfo], order: int) -> list[nn.Module]:
    """The modules that ran once, had ended by then and leave nothing behind, without the parts of others among them."""
    modules = named_layers(model)
    before = {
        info.name: modules[info.name]
        for info in layers
        if info.name in modules and len(info.calls) == 1 and info.calls[0].order < order
    }
    chosen = {name: module for name, module in before.items() if keeps_nothing(module)}
    parts = {part for module in chosen.values() for part in module.modules() if part is not module}
    return [module for module in chosen.values() if module not in parts]


class _Keeper:
    """Keeps what modules return in one run, those whose value is memory of its own."""

    def __init__(self, limit_bytes: int) -> None:
        self.outputs: dict[nn.Module, Any] = {}
        self.too_much = False
        self._left = limit_bytes

    @contextlib.contextmanager
    def watching(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """Keep what comes in a `with` block. By the modules' own `forward`: a hook would have torch choose kernels."""
        with contextlib.ExitStack() as stack:
            for module in modules:
                stack.enter_context(self._watching(module))
            yield

    @contextlib.contextmanager
    def _watching(self, module: nn.Module) -> Iterator[None]:
        compute = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = [tensor for _, tensor in nested.tensors((args, kwargs))]
            versions = [tensor._version for tensor in given]
            output = compute(*args, **kwargs)
            if versions == [tensor._version for tensor in given]:
                self._keep(module, given, output)
            return output

        with computing_as(module, forward):
            yield

    def _keep(self, module: nn.Module, given: Sequence[Tensor], output: Any) -> None:
        found = [tensor for _, tensor in nested.tensors(output)]
        memory = {nested.memory(tensor) for tensor in found}
        if not found or 0 in memory or memory & {nested.memory(tensor) for tensor in given}:
            return  # what it hands on lies where it was given: whoever holds that would not see what is written there
        self._left -= sum(tensor.nbytes for tensor in found)
        self.too_much |= self._left < 0
        if not self.too_much:
            self.outputs[module] = nested.map_tensors(output, lambda tensor: tensor.detach().clone())


def _same(one: Any, other: Any) -> bool:
    """Whether two answers hold the same tensors, bit by bit."""
    first, second = (list(nested.tensors(each)) for each in (one, other))
    if [path for path, _ in first] != [path for path, _ in second]:
        return False
    pairs = [(a, b) for (_, a), (_, b) in zip(first, second, strict=True)]
    return all(a.shape == b.shape and a.dtype == b.dtype and same_bits(a, b) for a, b in pairs)
