"""What trackers are given of a look: a number for each name and layer, under the same names everywhere; without torch.

    rows(look)                             # {"gradient norm/layer1.0.conv1": 0.25, ...}

A name stands before the layer, so that a tracker draws one chart of one thing for all layers.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feeds import COLUMNS, TITLES, Look
from hookscope.hooks.results.findings import join_names

NAMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {f"{TITLES[group]} {name}": (group, name) for group, name in COLUMNS}
)
DEAD = "dead channels"  # the share of a layer's channels; the feed has how many they are
LOGGED = (
    "gradient norm",
    "update ratio",
    "activation rms",
    DEAD,
)  # where nobody chose: four charts, a line for a layer


def names_of(chosen: bool | str | Iterable[str]) -> tuple[str, ...]:
    """The names of what is logged.

    Arguments:
        chosen: True for `LOGGED`, False for none, or names.

    Raises:
        HooksError: there is no such name.
    """
    if isinstance(chosen, bool):
        return LOGGED if chosen else ()
    names = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    known = (*NAMES, DEAD)
    for name in names:
        if name not in known:
            raise HooksError(f"There is no number {name!r} of a layer. There are {', '.join(known)}.")
    return names


def own_name(name: str) -> str:
    """A name for numbers of one's own, `@feed.metric(name)`.

    Raises:
        HooksError: it is none, or a number that every look has is called so.
    """
    if not isinstance(name, str) or not name.strip():
        raise HooksError('A metric needs a name of its own: @feed.metric("energy").')
    if name in (*NAMES, DEAD):
        raise HooksError(f"Every look has a number {name!r} of its own: give yours another name.")
    return name


def layers_of(chosen: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The layers that are logged; None for all. One name is one layer."""
    return None if chosen is None else (chosen,) if isinstance(chosen, str) else tuple(chosen)


def check_layers(chosen: Iterable[str] | None, known: Iterable[str]) -> None:
    """See that there are such layers.

    Raises:
        HooksError: there is none of a name.
    """
    there = [*dict.fromkeys(known)]
    for name in chosen or ():
        if name not in there:
            near = difflib.get_close_matches(name, there, 3, 0.5) or there[:5]
            raise HooksError(f"There are no numbers of a layer {name!r}. There are those of {join_names(near)}.")


class AsTheyCome:
    """Layers that are wanted of looks which are still to come: those that the first one lacks are told once."""

    def __init__(self, chosen: Iterable[str] | None) -> None:
        self._chosen = chosen

    def see(self, look: Look) -> None:
        """A look has come."""
        chosen, self._chosen = self._chosen, None
        try:
            check_layers(chosen, look.layers)
        except HooksError as error:
            warnings.warn(str(error), stacklevel=2)


def rows(look: Look, names: Iterable[str] = LOGGED, layers: Iterable[str] | None = None) -> dict[str, float]:
    """The numbers of a look, by "NAME/LAYER"; what a layer does not have is left out, as is what is no number.

    Arguments:
        names: see `NAMES` and `DEAD`. layers: only these; all by default.

    Numbers of one's own (`@feed.metric`) are there, too.
    """
    found: dict[str, float] = {}
    only = None if layers is None else set(layers)
    kept = [(place, layer) for place, layer in enumerate(look.layers) if only is None or layer in only]
    for name in names:
        values = look.column(*NAMES.get(name, ("a", "dead")))
        values = values / look.column("a", "channels") if name == DEAD else values
        found |= {f"{name}/{layer or 'model'}": float(values[place]) for place, layer in kept}
    for name, own in look.own.items():
        found |= {f"{name}/{layer or 'model'}": float(own[place]) for place, layer in kept}
    return {name: value for name, value in found.items() if not math.isnan(value)}
