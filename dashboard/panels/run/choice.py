"""What is chosen in the tab "Run": which run, beside which other, at which step, which column, which layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np

from hookscope.dashboard.drawing.run_figures import Axis, axis_for
from hookscope.dashboard.feeds.series import OWN, Column
from hookscope.dashboard.feeds.store import Feeds, Followed
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.view import View, state
from hookscope.hooks.results.feeds import GROUPS, PLACES, Alarm, Look

Kind = Literal["a", "g", "w"]
Scale = Literal["", "log", "linear"]


@dataclass(frozen=True)
class Shown:
    """A column that can be chosen.

    Attributes:
        group, name: see `feeds.GROUPS`. title: for people. help: what it is.
        of_shares: 0..1. logarithmic: how its axis is.
    """

    group: str
    name: str
    title: str
    help: str
    of_shares: bool = False
    logarithmic: bool = True

    @property
    def key(self) -> str:
        """As an address has it."""
        return f"{self.group}.{self.name}"


COLUMNS: Mapping[str, Shown] = {
    each.key: each
    for each in (
        Shown("g", "norm", "gradient norm", "L2 norm of the gradient of the layer's own weights, before clipping"),
        Shown("a", "rms", "activation rms", "root mean square of the layer's output in the step's own forward pass"),
        Shown("u", "ratio", "update / weight", "L2 norm of the update by that of the weights: 1e-3 is usual"),
        Shown("w", "norm", "weight norm", "L2 norm of the layer's own weights together"),
        Shown(
            "a", "zeros", "zeros", "share of the output's values that are exactly 0", of_shares=True, logarithmic=False
        ),
        Shown(
            "a",
            "dead",
            "dead share",
            "share of the channels that were 0 in every picture of the step; after activation functions only",
            of_shares=True,
            logarithmic=False,
        ),
    )
}
FIRST = "g.norm"


class _Matching:
    """Texts that a pattern matches whole."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._pattern.fullmatch(text) is not None and text.isprintable()


NAMES = _Matching(r".{0,40}")
LAYERS = _Matching(r".{0,300}")
STEPS = _Matching(r"[0-9]{0,12}")
KEYS = _Matching(r"[agumw]\.[^\n]{1,300}")
CURVES = _Matching(r"|loss|lr|scale|s\.[^\n]{1,300}")


@state
@dataclass(frozen=True)
class Run:
    """What is chosen.

    Attributes:
        run: its name; "" for the first. run_b: of the one beside it; "" for none.
        run_step: "" for the newest. run_column: a key of `COLUMNS`, or "m." and the name of a person's own metric.
        run_layer: "" for the one of the worst alarm, or the first. run_kind: whose distributions are shown.
        run_scale: how the axis of the layers' lines is; "" as suits the column.
        run_curve: what stands above them, a key of `Curves.keys`; "" for the loss. run_loss: how its axis is.
        run_moves: the side that gets the weights that were saved last up to the step, whenever that moves; "" for none.
    """

    run: Annotated[str, NAMES] = ""
    run_b: Annotated[str, NAMES] = ""
    run_step: Annotated[str, STEPS] = ""
    run_column: Annotated[str, KEYS] = FIRST
    run_layer: Annotated[str, LAYERS] = ""
    run_kind: Kind = "a"
    run_scale: Scale = ""
    run_curve: Annotated[str, CURVES] = ""
    run_loss: Scale = ""
    run_moves: Literal["", "a", "b"] = ""


@dataclass(frozen=True)
class Asked:
    """What is drawn: the runs and the choice.

    Attributes:
        marks: what of the runs was read: pictures of the same marks are the same.
        run, other: the run, and the one beside it. problem: why that is not there, "" if it is.
        step: the one that is looked at, as chosen; None for the newest. column: what the lines are.
        layer: the chosen one, "" for none. kind: whose distributions.
        curve: what stands above the lines, of what there is. scale, loss: how the axes of the lines and of that were
            chosen.
    """

    marks: tuple[str, ...]
    run: Followed = field(repr=False, compare=False)
    other: Followed | None = field(repr=False, compare=False)
    problem: str
    step: int | None
    column: Shown
    layer: str
    kind: Kind
    curve: str
    scale: Scale
    loss: Scale
    gallery: Gallery = field(repr=False, compare=False)

    @property
    def runs(self) -> list[Followed]:
        """Both, or the one."""
        return [self.run, *([self.other] if self.other else [])]

    @property
    def across(self) -> tuple[int, int]:
        """The first step of the picture and the last."""
        return (0, max(each.kept.last_step() for each in self.runs) or 1)

    def look(self, run: Followed | None = None) -> Look | None:
        """The look that is chosen, of the run; of the other one the last that is not behind the step of that.

        Runs may be looked at at different steps, so the other's step may be an earlier one; None before its first.
        """
        own = self.run.kept.at(self.step)
        if run is None or run is self.run:
            return own
        return run.kept.at(self.step if own is None else own.step)

    @property
    def axis(self) -> Axis | None:
        """On which the column stands, of both runs; None if no layer has a number."""

        def make() -> Axis | None:
            columns = [self.values(each).values for each in self.runs]
            usual = self.column.logarithmic
            return axis_for(columns, logarithmic=wants_log(self.scale, usual), of_shares=self.column.of_shares)

        found: Axis | None = self.run.kept.once(("axis", *self.marks, self.column.key, self.scale), make)
        return found

    def values(self, run: Followed) -> Column:
        """The column over the steps, of the run or the other one."""
        return run.kept.column(self.column.group, self.column.name)

    def only(self, *names: str) -> Asked:
        """The same with nothing chosen but what is named, so that a part cannot draw from more: of "step", "column",
        "layer", "kind", "curve", "scale" and "loss".
        """
        nothing: dict[str, Any] = {"step": None, "column": COLUMNS[FIRST], "layer": "", "kind": "a", "curve": ""}
        nothing |= {"scale": "", "loss": ""}
        return replace(self, **{name: value for name, value in nothing.items() if name not in names})


def ask(view: View, feeds: Feeds | None, gallery: Gallery) -> Asked | str:
    """What a view asks of the runs; a sentence where its run is not there, "" where none is offered."""
    chosen = view.of(Run)
    if feeds is None or not feeds.names:
        return ""
    run = feeds.look(chosen.run or feeds.names[0])
    if isinstance(run, str):
        return run
    other: Followed | str | None = None
    if chosen.run_b and chosen.run_b != run.name:
        other = feeds.look(chosen.run_b)
    problem = other if isinstance(other, str) else ""
    beside = other if isinstance(other, Followed) else None
    step = int(chosen.run_step) if chosen.run_step.isdecimal() else None
    column = _column(chosen.run_column)
    layer = chosen.run_layer or _first_layer(run, (column.group, chosen.run_kind))
    marks = tuple(f"{each.name} {each.mark}" for each in (run, beside) if each)
    there = tuple(dict.fromkeys(key for each in (run, beside) if each for key in each.kept.curves()))
    curve = chosen.run_curve if chosen.run_curve in there else next(iter(there), "")
    scales = chosen.run_scale, chosen.run_loss
    return Asked(marks, run, beside, problem, step, column, layer, chosen.run_kind, curve, *scales, gallery)


def wants_log(chosen: Scale, usual: bool) -> bool:
    """Whether an axis is to be logarithmic."""
    return chosen == "log" if chosen else usual


def _column(key: str) -> Shown:
    if found := COLUMNS.get(key):
        return found
    group, _, name = key.partition(".")
    if group == OWN and name:
        return Shown(OWN, name, name, "a metric of your own: @feed.metric")
    return COLUMNS[FIRST]


def layer_of(run: Followed, alarm: Alarm) -> str:
    """The followed layer that an alarm is about, which may be about one of its weights; "" if it is about none."""
    there = set(run.kept.layers())
    return next((name for name in (alarm.layer, alarm.layer.rpartition(".")[0]) if name in there), "")


def _first_layer(run: Followed, groups: Collection[str]) -> str:
    """Where to look first: at the newest alarm that is still on, else at the first layer with weights that has what is
    shown.

    Arguments:
        groups: of what is shown, see `feeds.GROUPS`; a person's own metrics are not asked for.
    """
    for alarm in reversed(run.alarms):
        if alarm.until < 0 and (layer := layer_of(run, alarm)):
            return layer
    layers = run.kept.layers()
    there = set(layers)
    heavy = [layer for layer in run.info.layers_with_weights if layer in there]
    return next(iter([*_having(run, heavy, groups), *heavy, *layers]), "")


def _having(run: Followed, layers: Sequence[str], groups: Collection[str]) -> list[str]:
    """Those that have numbers of each group at the newest look: a module that is never called has no activations."""
    newest = run.newest
    if newest is None:
        return []
    known = ~np.isnan(newest.numbers)
    has = np.ones(len(known), bool)
    for group in groups:
        if group in GROUPS:
            has &= known[:, [PLACES[group, name] for name in GROUPS[group]]].any(axis=1)
    there = {newest.layers[place] for place in np.flatnonzero(has)}
    return [layer for layer in layers if layer in there]
