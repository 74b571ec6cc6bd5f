"""What a model answers to a picture, as rows that can be explained, and how its numbers are read."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.asking.captions import MOST
from hookscope.dashboard.asking.readings import write_reading
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.page.explaining import alone
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels import segments
from hookscope.hooks.methods import READINGS, ReadingMethod
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.outputs import AS_FOUND, Output, Reading, Scores
from hookscope.hooks.results.raw_boxes import RAW, RULE, could_be
from hookscope.hooks.results.scores import top_classes
from hookscope.hooks.results.targets import Against, Class

TOP_CLASSES = 5
LISTED_NUMBERS = 50
WITH_SHIFT = "With Shift, what is explained is held against it."
NO_SHARE = 1e-8  # of the positions


def rows(scene: Scene, side: str, prediction: Prediction) -> list[Any]:
    """The classes that are ranked first, or the numbers themselves; a click explains one."""
    scores = prediction.scores
    if scores is None:
        said, _, code = prediction.note.partition("\n")
        return [html.P(said, className="sentence"), *([html.Div(code, className="sentence code")] if code else [])]
    if scores.reads == "embedding":
        text = f"An embedding of {len(scores.numbers)} numbers, which mean nothing one by one: there are no classes."
        return [html.P(text, className="sentence")]
    if scores.reads == "values":
        return _numbers(scene, side, scores)
    compared = scene.info_of(side).compares(scene.reading(side))
    best = top_classes(scores.shares, MOST if compared else TOP_CLASSES)
    if not best and len(scores.shares):
        text = "The network's answer contains NaN or infinite values: there is no ranking."
        return [html.P(text, className="sentence")]
    if scene.form(side) == "pixels":  # a class without a pixel has nothing to explain
        best = [(index, share) for index, share in best if share > NO_SHARE]
        chosen = segments.chosen_class(scene, side)
        if chosen is not None and chosen not in dict(best) and 0 <= chosen < len(scores.shares):
            best += [(chosen, share)] if (share := float(scores.shares[chosen])) > NO_SHARE else []
        above = segments.threshold(scene, side, scores)
        if not best:
            return [*above, html.P("No class has a position of this picture.", className="sentence")]
        return [*above, *(_share(scene, side, scores, index, share) for index, share in best)]
    return [_share(scene, side, scores, index, share) for index, share in best]


def _share(scene: Scene, side: str, scores: Scores, index: int, share: float) -> html.Button:
    name = scene.class_name(side, index)
    called = scene.called(side)
    coloured: list[Any] = []
    if scene.form(side) == "pixels":
        coloured = [segments.swatch(index)]
        numbers = f"{format_share(share)} of the positions"
    elif scores.reads == "probabilities":
        before = "" if called == "probability" else f", its {called} {format_number(float(scores.logits[index]))}"
        numbers = f"probability {format_number(share)}{before}"
    else:
        numbers = f"{called} {format_number(float(scores.logits[index]))}, {scores.reads} {format_number(share)}"
    return _row(
        scene,
        side,
        index,
        [
            html.Span([*coloured, name], className="class"),
            html.Span(html.Span(style={"width": f"{min(max(share, 0), 1) * 100:.2f}%"}), className="bar"),
            html.Span(f"{share:.3f}", className="mono"),
        ],
        f"Caption “{name}”: {numbers}. Click to explain this caption."
        if scene.info_of(side).compares(scene.reading(side))
        else f"Class {index}, {name}: {numbers}. Click to explain this class. {WITH_SHIFT}",
    )


def _numbers(scene: Scene, side: str, scores: Scores) -> list[Any]:
    names = scene.classes(side)
    if not names:
        output = scene.info_of(side).output(scene.reading(side))
        what = " × ".join(map(str, output.shape[1:])) if output else "numbers"
        text = f"The model answers a picture or features ({what}), which is no list of classes."
        return [html.P(f"{text} Its layers can be looked at all the same.", className="sentence")]
    listed = [
        _row(
            scene,
            side,
            index,
            [html.Span(name, className="class"), html.Span(), html.Span(format_number(number), className="mono")],
            f"{name}: {format_number(number)}. Click to explain this number.",
        )
        for index, (name, number) in enumerate(zip(names, map(float, scores.logits), strict=False))
    ]
    left = len(listed) - LISTED_NUMBERS
    return [*listed[:LISTED_NUMBERS], html.P(f"and {left} more", className="muted")] if left > 0 else listed


def _row(scene: Scene, side: str, index: int, content: list[Any], help_text: str) -> html.Button:
    target = scene.target(side)
    other = target.other if isinstance(target, Against) else None
    looks = ["row", "chosen" if alone(target) == Class(index) else "", "against" if other == Class(index) else ""]
    return html.Button(
        content,
        className=" ".join(filter(None, looks)),
        title=help_text,
        **{"data-do": scene.target_field(side), "data-value": str(index)},
    )


# --- how it is read


def reading(scene: Scene, side: str, unfolded: bool) -> list[Any]:
    """Which output is the answer and how it is read, with the other ways; those are folded where there is no doubt.

    Arguments:
        unfolded: whether somebody has asked for them.
    """
    info, chosen = scene.info_of(side), scene.reading(side)
    found, output = info.found(chosen), info.output(chosen)
    readable = [each for each in info.outputs if each.form in ("vector", "pixels", "raw boxes")]
    read = next((each for each in info.outputs if each.path == found.reading.output), None)
    is_raw = output is not None and bool(output.raw)  # by whoever started it, of whatever looks like something else
    lines: list[Any] = []
    if len(readable) > 1 or (readable and read not in readable):
        lines.append(html.Div([html.Span("answer"), *(_output(scene, side, each, read) for each in readable)]))
    if read is not None and (read in readable or is_raw):
        ways = [row for row in READINGS.values() if makes_sense(row, output or read)]
        shown = ways if unfolded or found.assumed or chosen != AS_FOUND else [READINGS[found.reading.reads]]
        lines.append(html.Div([html.Span("read as"), *(_way(scene, side, row) for row in shown), *_fold(shown, ways)]))
    before = found.reading.reads == "probabilities" and output is not None and bool(output.ending)
    if found.why and (found.assumed or output is None or before):
        badge = [html.Span("assumed", className="badge note"), " "] if found.assumed else []
        explained = "; what is explained is the number before it" if before else ""
        lines.append(html.Div([*badge, found.why + explained], className="why"))
    if is_raw and not found.assumed:
        lines.append(html.Div(f"Listed are, {RULE}.", className="why"))
    lines += [html.Div(note, className="why") for note in info.notes]
    return lines + compared(scene, side)


def compared(scene: Scene, side: str) -> list[Any]:
    """What the answer has to do with captions, of a model that takes some; by its class their text box is shown."""
    info = scene.info_of(side)
    if not info.captioned:
        return []
    text = "No caption is typed: the answer is the picture's embedding."
    if info.compares(scene.reading(side)):
        shares = {"softmax": "together they make 1 (softmax)", "sigmoid": "each is a yes or no of its own (sigmoid)"}
        count = len(scene.classes(side))
        text = f"How alike the picture is to {'the caption' if count == 1 else f'each of {count} captions'}; "
        text += shares.get(info.found(scene.reading(side)).reading.reads, "its plain numbers") + "."
    elif scene.captions(side):
        text = "Captions are typed, and another output is chosen as the answer."
    return [html.Div(text, className="why takes-captions")]


def makes_sense(row: ReadingMethod, output: Output) -> bool:
    """Whether an output can be read so: a softmax of one number is always 1, and a map is no embedding."""
    if output.form == "raw boxes" or output.raw:
        return row.name == "values" or could_be(output.shape, row.name)
    if row.name in RAW:
        return False
    if row.name == "softmax":
        return output.length > 1
    return row.name != "embedding" or (output.form == "vector" and output.length > 1)


def in_words(scene: Scene, side: str) -> str:
    """How a side's answer is read, for a file in which nothing can be chosen; "" for boxes, and where nothing is."""
    info, chosen = scene.info_of(side), scene.reading(side)
    found, output = info.found(chosen), info.output(chosen)
    if output is None or (output.form == "boxes" and not output.raw):
        return ""
    which = f"output {output.path}, " if output.path else ""
    return f"{which}read as {READINGS[found.reading.reads].title}{' (assumed)' if found.assumed else ''}"


def _fold(shown: list[ReadingMethod], ways: list[ReadingMethod]) -> list[Any]:
    if len(shown) == len(ways):
        return []
    help_text = "Read the model's numbers in another way"
    more = {"data-do": "set", "data-value": json.dumps({"readings": True})}
    return [html.Button("other …", className="link", title=help_text, **more)]


def _way(scene: Scene, side: str, row: ReadingMethod) -> html.Button:
    found = scene.info_of(side).found(scene.reading(side))
    wanted = Reading(found.reading.output, row.name)
    return _choice(scene, side, row.name, wanted, row.name == found.reading.reads, f"{row.title}. {row.help}")


def _output(scene: Scene, side: str, output: Output, chosen: Output | None) -> html.Button:
    help_text = "Have this output be the model's answer, which is ranked and explained"
    return _choice(scene, side, output.title, Reading(output.path), output is chosen, help_text)


def _choice(scene: Scene, side: str, text: str, wanted: Reading, chosen: bool, help_text: str) -> html.Button:
    info = scene.info_of(side)
    value = "" if info.found(wanted) == info.answer else write_reading(wanted)
    return html.Button(
        text,
        className="chip chosen" if chosen else "chip",
        title=help_text,
        **{
            "data-do": "set",
            "data-value": json.dumps({scene.reading_field(side): value}),
            "aria-pressed": "true" if chosen else "false",
        },
    )
