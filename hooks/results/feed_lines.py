"""One line of a feed as what it says, whoever wrote it: what is no number is none, and what is too much is cut."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from hookscope.hooks.results.feeds import ACTIVATION, COLUMNS, GROUPS, PLACES, Alarm, Given, Look, RunInfo, shorten
from hookscope.hooks.results.findings import SEVERITIES, Severity

WIDTH = len(COLUMNS)
LAYERS, SCALARS, ALARMS, GIVEN, NOTES, OWN = 50_000, 200, 500, 20_000, 50, 50  # of a line that are read
SENTENCE = 2_000  # characters
LARGEST_STEP = 10**12 - 1
_WIDTHS = {group: (len(names), [math.nan] * len(names)) for group, names in GROUPS.items()}
_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def place(group: str, name: str) -> int:
    """Which column this is; `KeyError` of one that there is not."""
    return PLACES[group, name]


class Names:
    """The names of a line's layers as they are shown: those of the line before, where they are the same."""

    def __init__(self) -> None:
        self._raw: tuple[str, ...] = ()
        self._shown: tuple[str, ...] = ()

    def of(self, raw: tuple[str, ...]) -> tuple[str, ...]:
        """The names.

        Raises:
            ValueError: two of them are one.
        """
        if raw != self._raw:
            shown = tuple(dict.fromkeys(map(name_of, raw)))
            if len(shown) != len(raw):
                raise ValueError("two layers of one name")
            self._raw, self._shown = raw, shown
        return self._shown


def look_of(line: Mapping[str, Any], known: Names) -> Look:
    """A line as a look.

    Arguments:
        known: the names of the line before.

    Raises:
        ValueError: it is none.
    """
    layers = line["layers"]
    if not isinstance(layers, dict) or len(layers) > LAYERS:
        raise ValueError("no layers")
    if not all(isinstance(groups, dict) for groups in layers.values()):
        raise ValueError("no table")
    names = known.of(tuple(layers))
    numbers, own = _numbers(list(layers.values())), dict[str, np.ndarray]()
    for index, groups in enumerate(layers.values()):
        for name, value in _table(groups["m"], OWN).items() if "m" in groups else ():
            if name not in own and len(own) < OWN:
                own[name] = np.full(len(names), np.nan, np.float32)
            if name in own:
                own[name][index] = _narrow(value)
    step = whole(line.get("step"))
    scalars = {name: number(value) for name, value in _table(line.get("scalars"), SCALARS).items()}
    loss, given = number(line.get("loss")), given_in(line)
    losses = given.losses or (((step, loss),) if not math.isnan(loss) else ())
    alone = {name: ((step, value),) for name, value in scalars.items() if name not in given.numbers}
    return Look(
        step=step,
        number=whole(line.get("look")),
        time=number(line.get("time")),
        layers=names,
        numbers=numbers,
        cost=number(line.get("cost")),
        loss=loss,
        given=Given(losses, {**given.numbers, **alone}),
        scalars=scalars,
        rates=tuple(number(rate) for rate in _list(line.get("lr"), SCALARS)),
        scale=number(line.get("scale")),
        skipped=line.get("skipped") is True,
        own=own,
        alarms=tuple(_alarm(each) for each in _list(line.get("alarms"), ALARMS) if isinstance(each, dict)),
        over=tuple(
            (name_of(each[0]), name_of(each[1]))
            for each in _list(line.get("over"), LAYERS)
            if isinstance(each, list) and len(each) == 2
        ),
        notes=tuple(text(each) for each in _list(line.get("notes"), NOTES)),
    )


def in_place(look: Look, order: tuple[str, ...]) -> Look:
    """A look with the layers that only have weights, as they are never called, where they stand in the model.

    A line has them behind those that ran. Each comes before the first layer that follows it in the model and ran; where
    none does, it stays.

    Arguments:
        order: the layers with weights, as the model has them.
    """
    ran = ~np.isnan(look.numbers[:, : len(ACTIVATION)]).all(axis=1)
    if ran.all() or not ran.any():
        return look
    to = list(_in_place(look.layers, ran.tobytes(), order))
    if to == sorted(to):
        return look
    own = {name: values[to] for name, values in look.own.items()}
    return dataclasses.replace(
        look, layers=tuple(look.layers[place] for place in to), numbers=look.numbers[to], own=own
    )


@functools.lru_cache(maxsize=8)  # the next line is of the same layers
def _in_place(layers: tuple[str, ...], ran: bytes, order: tuple[str, ...]) -> tuple[int, ...]:
    """Which layer stands at each place."""
    where = {layer: place for place, layer in enumerate(layers)}
    before: dict[int, list[int]] = {}
    gone, found = set[int](), -1
    for layer in reversed(order):
        place = where.get(layer, -1)
        if place >= 0 and ran[place]:
            found = place
        elif place >= 0 and found >= 0:
            before.setdefault(found, []).insert(0, place)
            gone.add(place)
    return tuple(each for place in range(len(layers)) if place not in gone for each in (*before.get(place, ()), place))


def given_in(line: Mapping[str, Any]) -> Given:
    """What a line says of the steps since the line before.

    Raises:
        ValueError: it names a step that is none.
    """
    numbers = {name: _rows(rows) for name, rows in _table(line.get("given"), SCALARS).items()}
    return Given(_rows(line.get("losses")), {name: rows for name, rows in numbers.items() if rows})


def by_step(*parts: Iterable[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """(step, number) as int64 (step,), rising, and float64 (step,); of one step what came last."""
    known = {step: value for part in parts for step, value in part}
    steps = sorted(known)
    return np.array(steps, np.int64), np.array([known[step] for step in steps], np.float64)


def _rows(rows: Any) -> tuple[tuple[int, float], ...]:
    found = _list(rows, GIVEN)
    return tuple((whole(each[0]), number(each[1])) for each in found if isinstance(each, list) and len(each) == 2)


def run_of(told: Mapping[str, Any]) -> RunInfo:
    """What `run.json` says."""
    return RunInfo(
        title=name_of(told.get("title", "")),
        model=name_of(told.get("model", "")),
        every=whole(told.get("every")),
        started=number(told.get("started")),
        versions={name: text(value, 100) for name, value in _table(told.get("versions"), SCALARS).items()},
        layers=tuple(name_of(each) for each in _list(told.get("layers"), LAYERS)),
        layers_with_weights=tuple(name_of(each) for each in _list(told.get("layers_with_weights"), LAYERS)),
        optimizer=name_of(told.get("optimizer", "")),
        scaler=told.get("scaler") is True,
        pinned=whole(told.get("pinned", 0)),
        process=whole(told.get("process", 0)),
        machine=text(told.get("machine", ""), 100),
    )


def name_of(value: Any) -> str:
    """A name, as it is shown."""
    return shorten(value) if isinstance(value, str) else ""


def text(value: Any, most: int = SENTENCE) -> str:
    """A sentence, cut where it is too long."""
    return shorten(value, most) if isinstance(value, str) else ""


def number(value: Any) -> float:
    """A number; NaN of what is none."""
    if isinstance(value, str):
        return _NAMED.get(value, math.nan)
    if type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return math.nan


def whole(value: Any) -> int:
    """A whole number from 0.

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or not 0 <= value <= LARGEST_STEP:
        raise ValueError("no whole number")
    return value


def _numbers(layers: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Float32 (layer, column). All at once where they are as they should be: one by one takes ten times as long."""
    try:
        flat: list[Any] = []
        for groups in layers:
            for group, (width, empty) in _WIDTHS.items():
                values = groups.get(group, empty)
                values = values if type(values) is list else [values]
                if len(values) != width:
                    raise ValueError("another length")
                flat += values
        with np.errstate(over="ignore"):
            return np.array(flat, np.float64).astype(np.float32).reshape(len(layers), WIDTH)
    except (ValueError, TypeError, OverflowError):
        numbers = np.full((len(layers), WIDTH), np.nan, np.float32)
        for row, groups in zip(numbers, layers, strict=True):
            _fill(row, groups)
        return numbers


def _fill(row: np.ndarray, groups: Mapping[str, Any]) -> None:
    for group, names in GROUPS.items():
        values = groups.get(group)
        if values is None:
            continue
        first = PLACES[group, names[0]]
        values = values if isinstance(values, list) else [values]
        for index, value in enumerate(values[: len(names)]):
            row[first + index] = _narrow(value)


def _narrow(value: Any) -> float:
    found = number(value)
    return found if not math.isfinite(found) or abs(found) < 3.4e38 else math.copysign(math.inf, found)


def _alarm(told: Mapping[str, Any]) -> Alarm:
    severity = told.get("severity")
    return Alarm(
        rule=name_of(told.get("rule")),
        severity=cast(Severity, severity) if severity in SEVERITIES else "warning",
        layer=name_of(told.get("layer")),
        sentence=text(told.get("sentence")),
        why=text(told.get("why")),
        advice=text(told.get("advice")),
        layers=tuple(name_of(each) for each in _list(told.get("layers"), ALARMS)),
        value=number(told.get("value")),
        limit=number(told.get("limit")),
    )


def _list(value: Any, most: int) -> list[Any]:
    return value[:most] if isinstance(value, list) else []


def _table(value: Any, most: int) -> dict[str, Any]:
    return {shorten(name): value[name] for name in list(value)[:most]} if isinstance(value, dict) else {}
