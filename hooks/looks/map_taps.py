"""The layers of which a map is wanted: looked up, refused where a map means nothing, and seen in a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hookscope.hooks.errors import HooksError, LayerNotExecuted, NoSpatialAxes, titled
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.layers.reasons import why_unseen
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.graph import tap, why_not_recorded
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.passes.registry import Placed
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import arrange, why_no_maps


@dataclass
class MapTap:
    """One wanted (layer, call), and what the hook saw of it.

    Attributes:
        asked: the name it was asked by. name: the layer's first name. module: the layer.
        seen: this call in the recorded run, which names the axes.
        value: float32, a copy of the output; None until the layer has run.
        edge, watch: where the output stands in the graph (see `passes.graph.tap`). unrecorded: why it is in none.
        placed: the hook.
    """

    asked: str
    name: str
    call: int
    module: nn.Module
    seen: Call | None
    value: np.ndarray | None = None
    edge: GradientEdge | None = None
    watch: tuple[Tensor, int] | None = None
    unrecorded: str = ""
    placed: Placed | None = None

    def look(self, output: Any) -> None:
        """Keep what a map needs of the layer's output."""
        found = nested.first(output)
        if found is not None:
            self.value = array(found[1])
            self.edge, self.watch = tap(found[1])
            self.unrecorded = why_not_recorded(found[1])

    def channels(self) -> np.ndarray:
        """The output as float32 (channel, height, width).

        Raises:
            LayerNotExecuted: the layer was not called (so often). NoSpatialAxes: it has no maps.
        """
        if self.value is None and (unseen := why_unseen(self.placed)):
            raise LayerNotExecuted(f"{titled(self.asked)} was not seen in this forward pass. {unseen}")
        if self.value is None:
            raise LayerNotExecuted(
                f"{titled(self.asked)} was not called (so often) for this input. Choose another layer or call."
            )
        described = self.described
        if len(described.axes) != self.value.ndim or (reason := why_no_maps(described, self.value.shape)):
            raise NoSpatialAxes(f"{titled(self.asked)} has no map. {reason if described.axes else ''}".rstrip())
        return self.arrange(self.value)

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Values that lie as the output does, as (channel, height, width)."""
        return arrange(values, self.described.axes, self.described.grid, self.described.prefix_tokens)

    @property
    def described(self) -> Call:
        """What the axes of the value mean; unknown ("axis") where the recorded run saw another shape."""
        dimensions = 0 if self.value is None else self.value.ndim
        if self.seen is not None and len(self.seen.axes) == dimensions:
            return self.seen
        return Call((), ("axis",) * dimensions, 0)


def find_taps(
    model: nn.Module,
    wanted: Sequence[tuple[str, int]],
    layers: Sequence[LayerInfo],
    refuse: Callable[[str, int, HooksError], None],
) -> list[MapTap]:
    """Look every name up, and refuse at once what the recorded run already tells.

    Arguments:
        wanted: (layer name, 0-based call). layers: from `layers.describe.describe`.
        refuse: gets (layer, call, why).

    Raises:
        LayerNotFound: a name is wrong.
    """
    infos = {info.name: info for info in layers}
    finder = Finder(model, layers)
    found = [(asked, call, *finder.find(asked)) for asked, call in dict.fromkeys(wanted)]
    taps = []
    for asked, call, name, module in found:
        if problem := finder.not_executed(name, call):
            refuse(asked, call, problem)
            continue
        seen = infos[name].calls[call] if name in infos else None
        if seen is not None and (reason := why_no_maps(seen, seen.shape)):
            refuse(asked, call, NoSpatialAxes(f"{titled(asked)} has no map to lay over the picture. {reason}"))
            continue
        taps.append(MapTap(asked, name, call, module, seen))
    return taps


@contextlib.contextmanager
def filling(model: nn.Module, taps: Sequence[MapTap]) -> Iterator[None]:
    """Fill the taps from the forward pass in the `with` block."""
    with tapping(
        {each.name: each.module for each in taps},
        first_names(model),
        lambda name: _hook_of([each for each in taps if each.name == name]),
    ) as placed:
        for each in taps:
            each.placed = placed.get(each.name)
        yield


def _hook_of(taps: list[MapTap]) -> Callable[[nn.Module, Any, Any], None]:
    calls = iter(range(1 << 62))

    def look(module: nn.Module, args: Any, output: Any) -> None:
        call = next(calls)
        for each in taps:
            if each.call == call:
                each.look(output)

    return look


def array(tensor: Tensor) -> np.ndarray:
    """A copy as float32, outside the graph."""
    with torch.no_grad():
        copied: np.ndarray = real(tensor).to("cpu", torch.float32, copy=True).numpy()
    return copied
