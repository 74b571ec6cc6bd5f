"""Looks layers up by name: the module that each means, and why the recorded run says that a call will not come."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hookscope.hooks.errors import LayerNotExecuted, LayerNotFound, titled
from hookscope.hooks.layers.names import every_name, first_name, not_found, quoted
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.passes.operations import SEPARATOR, split_name
from hookscope.hooks.results.looks import LayerInfo


class Finder:
    """Looks many names up, for one walk through the model: 1 ms of 1,105 modules, which per name is seen on the page.

    Arguments:
        layers: what `describe` said of the model, for `not_executed`; without it nothing is said of calls.
    """

    def __init__(self, model: nn.Module, layers: Sequence[LayerInfo] = ()) -> None:
        self._model = unwrap(model)
        names = every_name(self._model)
        self._known = {name: own[0] for own in names.values() for name in own}
        self._modules = {own[0]: module for module, own in names.items()}
        self._layers = layers
        self._infos = {name: info for info in reversed(layers) for name in (*info.aliases, info.name)}

    def find(self, name: str) -> tuple[str, nn.Module]:
        """The module of that name and its first name; of an operation ("layer1.0/add") the module it happens in.

        Whether a module does an operation is not known before it runs.

        Raises:
            LayerNotFound: no module has it; the text names what is near.
        """
        first = first_name(self._known, name)
        if first is None:
            raise LayerNotFound(not_found(self._model, f"has no layer {name!r}", name, list(self._known)))
        return first, self._modules[first if name in self._known else first.rpartition(SEPARATOR)[0]]

    def not_executed(self, name: str, call: int) -> LayerNotExecuted | None:
        """Why the recorded run says that (name, call) will not be reached, or None if it says nothing of the kind."""
        info = self._infos.get(name)
        if info is None and self._layers and (parts := split_name(name)):
            there = [
                other.name for other in self._layers if other.operation and other.name.startswith(parts[0] + SEPARATOR)
            ]
            where = f"in {parts[0]!r}" if parts[0] else "in the model itself"
            hint = f" The operations there are {quoted(there[:6])}." if there else " No operation happens there."
            return LayerNotExecuted(f"No operation {parts[1]!r} was seen {where} in the recorded forward pass.{hint}")
        if info is None or 0 <= call < len(info.calls):
            return None
        title = titled(name)
        if not info.calls:
            problem = "was not seen to run" if info.unseen else "did not run"
            return LayerNotExecuted(f"{title} ({info.type}) {problem}. {info.reason_not_run}".rstrip())
        times = "once" if len(info.calls) == 1 else f"{len(info.calls)} times"
        return LayerNotExecuted(
            f"{title} ({info.type}) is called {times} in a forward pass, so there is no call {call + 1}."
        )
