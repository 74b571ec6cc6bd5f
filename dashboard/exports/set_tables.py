"""What was found over a set of pictures as tables: answers, confusion, galleries, gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.panels.pictures.crops import WHOLE, field_share, within
from hookscope.dashboard.sets.members import PictureSet
from hookscope.hooks.results.gaps import LayerGap
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.set_answers import UNLABELLED, Answers, Frames
from hookscope.hooks.results.summaries import LayerSummary
from hookscope.hooks.results.sweeps import NOWHERE, LayerTop, Shown, count_firing

ANSWERS = ("picture", "label", "answer", "share", "second", "its share", "margin", "energy", "why it has no answer")
SILENT = ("layer", "call", "channels", "never", "in under 1 %", "pictures", "channels that never fire")
NEVER = "never fires"  # in place of a gallery
CONFUSION = ("label", "answer", "pictures", "label number", "answer number")
GALLERIES = (
    *("channel", "kind", "rank", "picture", "number", "value", "row", "column"),
    *("left", "top", "right", "bottom"),  # shares of the picture's width and height
)
GAPS = (
    *("layer", "call", "effect", "mmd2", "p", "pictures", "pictures of the other"),
    *("channel furthest apart", "its frechet distance"),
)


def answers_csv(
    pictures: PictureSet, answers: Answers | None, names: Sequence[str], unread: Sequence[tuple[int, str]] = ()
) -> str:
    """A row for each picture: its name, its label, the class that it was given, and with what share; then one for each
    file that has no answer, with the reason.

    Arguments:
        unread: the numbers of pictures that could not be read, and why.
    """
    found = [] if answers is None else list(_answers(pictures, answers, _namer(names)))
    left = [(pictures.members[number].place, pictures.members[number].group, why) for number, why in unread]
    left += [(name, "", why) for name, why in pictures.refused]
    return csv_of(ANSWERS, [*found, *([name, group, *[""] * 6, why] for name, group, why in left)])


def _answers(pictures: PictureSet, answers: Answers, named: Callable[[int], str]) -> Iterator[list[Any]]:
    margins = answers.margin
    for row, number in enumerate(answers.pictures):
        member = pictures.members[number]
        best, shares = answers.best[row], answers.shares[row]
        second = [named(int(best[1])), _short(shares[1])] if len(best) > 1 else ["", ""]
        told = [named(int(best[0])), _short(shares[0]), *second]
        yield [member.place, member.group, *told, _short(margins[row]), _short(answers.energy[row]), ""]


def confusion_csv(answers: Answers | None, names: Sequence[str]) -> str:
    """A row for each pair of classes that occurs: how many pictures of the one are answered with the other."""
    if answers is None or not (answers.labels != UNLABELLED).any():
        return csv_of(CONFUSION, [])
    named = _namer(names)
    found, counts = answers.confusion()
    pairs = [(int(found[row]), int(found[column]), int(counts[row, column])) for row, column in np.argwhere(counts)]
    return csv_of(CONFUSION, [[named(one), named(other), count, one, other] for one, other, count in pairs])


def galleries_csv(
    pictures: PictureSet,
    top: LayerTop,
    frames: Frames | None,
    field: ReceptiveField | None,
    fired: np.ndarray | None = None,
) -> str:
    """A row for each picture of each channel's galleries, with what of it the unit can depend on, where that is known.

    Arguments:
        frames: which part of each picture the model was given. field: where the layer's units look.
        fired: int (channel,), in how many pictures each fires: one that never does has a row that says so, and no
            pictures, because of equal zeros the first ones would come first. None if it is not known.
    """
    rows: list[list[Any]] = []
    for channel in range(len(top.by_max.values)):
        if fired is not None and not fired[channel]:
            rows.append([channel, NEVER, *[""] * (len(GALLERIES) - 2)])
            continue
        rows += [
            [channel, kind, rank, pictures.members[number].place, int(number), _short(value), *spot, *box]
            for kind, shown in _kinds(top, channel)
            for rank, number, value, spot, box in _pictures(shown, frames, field)
        ]
    return csv_of(GALLERIES, rows)


def silent_csv(summaries: Sequence[LayerSummary]) -> str:
    """A row for each activation function after which a channel fires seldom or never, and which these are."""
    rows = []
    for each in summaries:
        if not each.activation or not len(each.fired):
            continue
        counted = count_firing(each.layer, each.call, each.fired, each.inputs, each.activation)
        never = " ".join(map(str, np.flatnonzero(each.fired == 0).tolist()))
        if counted.never or counted.seldom:
            rows.append([each.layer, each.call, counted.channels, counted.never, counted.seldom, each.inputs, never])
    return csv_of(SILENT, sorted(rows, key=lambda row: -row[3] / row[2]))


def _kinds(top: LayerTop, channel: int) -> list[tuple[str, Shown]]:
    strongest, mean = top.strongest(channel), top.strongest(channel, by="mean")
    median, random = top.median(channel), top.random(channel)
    return [("strongest", strongest), ("by mean", mean), ("median", median), ("random", random)]


def _pictures(
    shown: Shown, frames: Frames | None, field: ReceptiveField | None
) -> Iterator[tuple[int, int, float, list[Any], list[Any]]]:
    for rank, (number, value) in enumerate(zip(shown.pictures, shown.values, strict=True)):
        spot = shown.spots[rank].tolist()
        if spot[0] == NOWHERE:
            yield rank + 1, int(number), float(value), ["", ""], [""] * 4
        elif field is None:
            yield rank + 1, int(number), float(value), spot, [""] * 4
        else:
            frame = frames.of(int(number)) if frames is not None else WHOLE
            box = [_short(edge) for edge in within(frame, field_share(field, spot))]
            yield rank + 1, int(number), float(value), spot, box


def gaps_csv(gaps: Sequence[LayerGap]) -> str:
    """A row for each layer, in execution order: how far the two sets are apart there."""
    rows = []
    for gap in gaps:
        furthest = gap.most_apart(1).tolist()
        most = [furthest[0], _short(gap.channels[furthest[0]])] if furthest else ["", ""]
        rows.append([gap.layer, gap.call, _short(gap.effect), _short(gap.mmd), gap.p, *gap.pictures, *most])
    return csv_of(GAPS, rows)


def _namer(names: Sequence[str]) -> Callable[[int], str]:
    return lambda index: names[index] if 0 <= index < len(names) else f"class {index}"


def _short(value: float) -> float | str:
    """With six digits; nothing of what is no number."""
    return float(f"{value:.6g}") if np.isfinite(value) else ""
