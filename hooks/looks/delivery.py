"""The activations that one forward pass has still to deliver."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError, LayerNotExecuted, StopForward, titled
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.reasons import why_unseen
from hookscope.hooks.numbers.reductions import real, statistics
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.registry import Placed
from hookscope.hooks.results.looks import Activation, Call, LayerInfo


class Delivery:
    """What is still to be delivered of one forward pass."""

    def __init__(
        self,
        model: nn.Module,
        wanted: Sequence[tuple[str, int]],
        deliver: Callable[[str, int, Activation | HooksError], None],
        layers: Sequence[LayerInfo],
        still_wanted: Callable[[str, int], bool] | None,
    ) -> None:
        self.modules: dict[str, nn.Module] = {}
        self.infos = {name: info for info in layers for name in (info.name, *info.aliases)}
        self.names: dict[tuple[str, int], list[str]] = {}  # (first name, call) -> the names it was asked by
        self.deliver = deliver
        self.still_wanted = still_wanted or (lambda layer, call: True)
        self.problems: list[tuple[str, int, HooksError]] = []  # the name it was asked by, the call, and why
        self.placed: Mapping[str, Placed] = {}  # the hooks, by layer
        self.calls: dict[str, int] = {}
        self.began = 0.0
        self.failure: BaseException | None = None
        finder = Finder(model, layers)
        for asked, call in dict.fromkeys(wanted):
            name, module = finder.find(asked)
            if problem := finder.not_executed(name, call):
                self.problems.append((asked, call, problem))
            else:
                self.modules[name] = module
                self.names.setdefault((name, call), []).append(asked)
        self.open = set(self.names)

    def forward(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        if not self.open:
            return
        self.began = time.perf_counter()
        with contextlib.suppress(StopForward):
            model(*args)
        if self.failure is not None:
            raise self.failure

    def hook_of(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            call = self.calls.get(name, 0)
            self.calls[name] = call + 1
            if (name, call) not in self.open:
                return
            self.open.discard((name, call))
            try:
                self.answer(name, call, output)
                self.open = {key for key in self.open if self.wanted(key)}
            except BaseException as error:
                # kept, because a model may catch what its layers raise
                self.failure = error
            if self.failure is not None or not self.open:
                raise StopForward

        return look

    def wanted(self, key: tuple[str, int]) -> bool:
        return any(self.still_wanted(asked, key[1]) for asked in self.names[key])

    def answer(self, name: str, call: int, output: Any) -> None:
        asked = [asked for asked in self.names[name, call] if self.still_wanted(asked, call)]
        if not asked:
            return
        milliseconds = (time.perf_counter() - self.began) * 1000
        found = nested.first(output)
        if found is None:
            problem = HooksError(f"{titled(name)} returned no tensor, so there is nothing to show.")
            self.problems += [(layer, call, problem) for layer in asked]
            return
        info = self.infos.get(name)
        for layer in asked:
            result = activation(layer, call, *found, info.calls[call] if info else None, milliseconds)
            self.deliver(layer, call, result)

    def finish(self) -> None:
        """Tell why there is nothing of what was wanted and has not come: each layer's own reason."""
        for name, call in sorted(self.open):
            problem = self._why_open(name, call)
            self.problems += [(asked, call, problem) for asked in self.names[name, call]]
        for each in self.problems:
            self.deliver(*each)

    def _why_open(self, name: str, call: int) -> LayerNotExecuted:
        times = self.calls.get(name, 0)
        if unseen := why_unseen(self.placed.get(name)):
            return LayerNotExecuted(f"{titled(name)} was not seen in this forward pass. {unseen}")
        return LayerNotExecuted(
            f"{titled(name)} was called {times} times for this input, so its call {call + 1} did not happen, "
            "although it did in the recorded run. The model's path depends on its input."
        )


def activation(layer: str, call: int, path: str, tensor: Tensor, seen: Call | None, milliseconds: float) -> Activation:
    """A tensor as the result that travels: float32 values of its own memory, without an image axis of length 1.

    Arguments:
        seen: this call in the recorded run, which names the axes; without it they are called "axis".
    """
    axes, grid, prefix_tokens, frames = ("axis",) * tensor.ndim, None, 0, 1
    if seen is not None and len(seen.axes) == tensor.ndim:
        axes, grid, prefix_tokens, frames = seen.axes, seen.grid, seen.prefix_tokens, seen.frames
    channel_axis = axes.index("channel") if "channel" in axes else None
    # A float32 tensor comes through `real` as itself, so it is copied: the next layer may overwrite it.
    values: np.ndarray = real(tensor).to("cpu", torch.float32, copy=True).contiguous().numpy()
    drop = next((index for index, axis in enumerate(axes) if axis == "image" and values.shape[index] == 1), None)
    if drop is not None:
        values, axes = values.squeeze(drop), axes[:drop] + axes[drop + 1 :]
    return Activation(
        layer=layer,
        call=call,
        values=values,
        axes=axes,
        statistics=statistics(tensor, channel_axis),
        dtype=str(tensor.dtype).removeprefix("torch."),
        grid=grid,
        prefix_tokens=prefix_tokens,
        frames=frames,
        path=path,
        milliseconds=milliseconds,
    )
