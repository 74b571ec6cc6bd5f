"""What layers make of one pinned picture, at every look: a film of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.axes import Axes, leaves
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import Pattern, named_layers, select
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import split_name
from hookscope.hooks.passes.traces import without_traces

LAYERS, CHANNELS, LARGEST = 12, 16, 40  # of maps: in how many layers, how many of each, and positions on a side
CLASSES = 5_000
PINNED_FAILED = (
    "The pinned picture could not be shown to the model ({kind}: {why}), so its maps end here. Everything else is "
    "followed as before."
)


class Pinned:
    """One picture that the model is shown at every look, in evaluation mode and without gradients.

    The model runs once more for it. Weights, buffers, random state and what modules keep are put back, see
    `passes.traces`; hooks of one's own are called, and what they write elsewhere stays.

    Arguments:
        model: unwrapped. given: a batch, or a tuple of positional arguments; of a batch the first picture is shown.
        layers: of which maps are kept; by default twelve that have maps, evenly spread over the depth.

    Raises:
        HooksError: the model cannot be run on it. LayerNotFound: a pattern means nothing.
    """

    def __init__(self, model: nn.Module, given: Any, layers: Pattern | Iterable[Pattern] | None = None) -> None:
        try:
            self.given = nested.private(arguments.first_image(arguments.arguments(given)), requires_grad=False)
            with without_traces(model):
                infos = describe(model, *self.given)
        except Exception as error:
            raise HooksError(
                f"The model cannot be run on the pinned picture ({type(error).__name__}: {error!s:.200}). pinned= is "
                "what the model is given: a batch, or a tuple of its arguments."
            ) from error
        self._axes = Axes(infos)
        chosen = leaves(select(model, "*")) if layers is None else select(model, layers)
        there = [
            info.name
            for info in infos
            if info.name in chosen and info.calls and {"height", "width"} <= set(info.calls[0].axes)
        ]
        if layers is None and len(there) > LAYERS:
            there = [there[round(place)] for place in np.linspace(0, len(there) - 1, LAYERS)]
        self.layers = tuple(there)
        self._channels: dict[str, np.ndarray] = {}
        self._failed = False

    def look(self, model: nn.Module, owner: str, said: Callable[[str], None]) -> dict[str, np.ndarray]:
        """Show the picture.

        Returns:
            "map/LAYER" float16 (channel, height, width), float32 where that cannot hold them, and "channels/LAYER"
            int64 (channel,) of each layer, of its first call, the channels that varied most at the first look; and
            "answer" float32 (class,), if the model answers a row. Nothing once it failed, which is said once.
        """
        try:
            return self._look(model, owner) if not self._failed else {}
        except Exception as error:  # the numbers of the step are there, and must not be lost for it
            self._failed = True
            said(PINNED_FAILED.format(kind=type(error).__name__, why=f"{error!s:.200}"))
            return {}

    def _look(self, model: nn.Module, owner: str) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        with looking(owner=owner, purpose="training"), without_traces(model), inspecting(model) as inner:
            modules = named_layers(inner)  # some may have been replaced since
            layers = [name for name in self.layers if (split_name(name) or (name,))[0] in modules]
            with capture(inner, layers) as seen:
                output = inner(*nested.private(self.given, requires_grad=False))
            for layer in layers:
                calls = seen.of(layer)  # a module may run more than once, and did not run in every model's passes
                value = calls[0].value if calls else None
                maps = None if value is None else self._axes.maps(layer, 0, value)
                if maps is not None:
                    found[f"map/{layer}"], found[f"channels/{layer}"] = self._smaller(layer, maps)
        first = nested.first(output)
        if first is not None and first[1].ndim == 2 and first[1].shape[1] <= CLASSES:
            found["answer"] = first[1][0].detach().float().cpu().numpy()
        return found

    def _smaller(self, layer: str, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if layer not in self._channels:
            with np.errstate(invalid="ignore"):  # of channels that are infinite
                spread = np.nan_to_num(maps.reshape(len(maps), -1).std(1, dtype=np.float64), posinf=0.0)
            self._channels[layer] = np.sort(np.argsort(-spread, kind="stable")[:CHANNELS]).astype(np.int64)
        channels = self._channels[layer]
        values = torch.from_numpy(np.ascontiguousarray(maps[channels]))
        height, width = values.shape[1:]
        if max(height, width) > LARGEST:
            shrink = max(height, width) / LARGEST
            size = max(1, round(height / shrink)), max(1, round(width / shrink))
            values = nn.functional.adaptive_avg_pool2d(values, size)
        return _as_small(values), channels


def _as_small(values: Tensor) -> np.ndarray:
    """Float16; float32 of values whose largest it would cut, or round to 0."""
    found = values.numpy()
    most = np.abs(found[np.isfinite(found)]).max(initial=0.0)
    fits = most == 0 or np.finfo(np.float16).tiny < most <= np.finfo(np.float16).max
    return found.astype(np.float16 if fits else np.float32)
