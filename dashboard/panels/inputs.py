"""The inputs A and B: the pictures, what the network saw of them, and what it answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.geometry import crop_overlay_style
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.inputs.store import Input, InputStore
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.scene import SIDES, Scene, find, preview
from hookscope.dashboard.page.view import View, state
from hookscope.dashboard.panels import detections
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import random_weights, refuse, show_text
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.scores import top_classes

TOP_CLASSES = 5
NO_SHARE = 1e-8  # of the positions


@state
@dataclass(frozen=True)
class Seen:
    """Whether the inputs show what the network received."""

    seen: bool = False


def layout(inputs: InputStore, prefix: str) -> html.Section:
    """Draw both boxes, empty."""
    more = {"aria-label": "Inputs", "data-limit": str(inputs.max_upload_bytes)}
    return html.Section([_box(side, inputs, prefix) for side in SIDES], className="inputs", **more)


def _box(side: str, inputs: InputStore, prefix: str) -> html.Div:
    letter = side.upper()
    invitation = "Drop a photograph here" if side == "a" else "Drop a second photograph to compare"
    empty = html.Div(
        id=ids.side("empty", side),
        className="drop",
        children=[
            html.Span(letter, className=f"letter {side}"),
            html.Div(
                [
                    html.P([html.Strong(invitation), ", paste one, or ", _browse(side, "browse"), "."]),
                    html.Div(
                        [
                            html.Button(
                                html.Img(src=f"{prefix}sample/{sample.name}", alt=""),
                                className="sample",
                                title=f"{sample.title} ({sample.credit})",
                                **{"data-sample": sample.name, "data-side": side, "aria-label": sample.title},
                            )
                            for sample in inputs.samples()
                        ],
                        className="samples",
                    ),
                    Markup(ids.side("refused", side), className="sentence error", hidden=True, role="alert"),
                ]
            ),
        ],
    )
    full = html.Div(
        id=ids.side("full", side),
        className="given",
        hidden=True,
        children=[
            html.Div(
                [
                    html.Img(id=ids.side("picture", side), alt=f"Input {letter}"),
                    html.Div(id=ids.side("crop", side), className="crop"),
                    Markup(ids.side("boxes", side), className="detected"),
                ],
                className="picture",
            ),
            html.Div(
                [
                    Markup(ids.side("caption", side), className="muted caption"),
                    Markup(ids.side("top", side), className="top5"),
                    html.Div(
                        [
                            _browse(side, "replace"),
                            html.Button("swap A, B", className="link", **{"data-do": "swap"}) if side == "b" else None,
                            html.Button("remove", className="link", **{"data-do": "remove-input", "data-value": side}),
                            html.Button(
                                "network's view",
                                id=ids.side("seen", side),
                                className="link",
                                title="Show the preprocessed picture: resized, cropped, as the network received it.",
                                **{"data-do": "seen"},
                            ),
                        ],
                        className="links",
                    ),
                ],
                className="answer",
            ),
        ],
    )
    return html.Div([empty, full], className=f"panel input {side}", id=ids.side("box", side), **{"data-side": side})


def _browse(side: str, text: str) -> html.Button:
    return html.Button(text, className="link", **{"data-browse": side})


def parts(scene: Scene) -> list[Part]:
    """One part per side, and one for a side without an input."""
    return [_given(scene, side) if side in scene.inputs else _empty(scene.view, side) for side in SIDES]


def parts_while_loading(view: View, store: InputStore, gallery: Gallery, *, comes: bool = True) -> list[Part]:
    """The same while the model is not there: the pictures are shown, and their answers wait if it `comes`."""
    found = {side: find(store, getattr(view, side)) for side in SIDES}
    return [
        _early(side, given, store, gallery, comes) if given else _empty(view, side) for side, given in found.items()
    ]


def _early(side: str, given: Input, store: InputStore, gallery: Gallery, comes: bool) -> Part:
    updates = [
        *_shown(side, True),
        (ids.side("picture", side), {"src": preview(store, gallery, given), "className": ""}),
        (ids.side("crop", side), {"style": {"display": "none"}}),
        show_text(ids.side("boxes", side), None),
        show_text(ids.side("caption", side), _caption(side, given, f"{given.width}×{given.height}")),
        show_text(ids.side("top", side), _top_waiting() if comes else None),
    ]
    return Part.still(f"input {side}", updates)


def _shown(side: str, full: bool) -> list[Update]:
    return [(ids.side("empty", side), {"hidden": full}), (ids.side("full", side), {"hidden": not full})]


def _caption(side: str, given: Input, sizes: str) -> list[Any]:
    """Which input it is, beside the picture: over it, the letter would hide what lies in a corner."""
    notes = "".join(f" · {note}" for note in given.notes)
    help_text = "The picture's size, and the size at which the network sees it. It never saw the shaded border."
    return [
        html.Span(side.upper(), className=f"letter {side}"),
        html.Span(given.name, className="file-name", title=given.name),
        html.Span(f"{sizes}{notes}", title=f"{sizes}{notes}. {help_text}"),
    ]


def _top_waiting() -> list[Any]:
    return [html.Div(className="row waiting") for _ in range(TOP_CLASSES)]


def _empty(view: View, side: str) -> Part:
    lost = bool(getattr(view, side))
    sentence = "This picture is no longer kept here: choose it again." if lost else ""

    refused = show_text(ids.side("refused", side), sentence, hidden=not sentence)
    return Part.still(f"input {side}", [*_shown(side, False), refused])


def _given(scene: Scene, side: str) -> Part:
    unit = scene.unit(side, "prediction")
    shows = (scene.only("seen", "target", sides=side), side, unit)
    return Part(f"input {side}", (unit,), shows, _draw, error=ids.side("top", side))


def _draw(scene: Scene, side: str, unit: Unit, answers: Answers) -> list[Update]:
    given = scene.inputs[side]
    prediction = result_of(answers, unit, Prediction)
    seen = scene.view.of(Seen).seen and prediction is not None
    source = scene.seen(side) if seen else scene.whole(side)
    crop: dict[str, str] = {"display": "none"}
    if prediction is not None and not seen:
        crop = crop_overlay_style(prediction.crop, (given.width, given.height))
    sizes = f"{given.width}×{given.height}"
    if prediction is not None:
        height, width = prediction.pixels.shape[:2]
        sizes += f" → {width}×{height}"
    frame = prediction.crop if prediction is not None and seen else (0, 0, given.width, given.height)
    boxes = detections.draw_boxes(scene, prediction, frame) if prediction is not None else None
    caption = [*_caption(side, given, sizes), *random_weights(scene.info, narrow=True)]
    wrong = failures(answers, (unit,))
    return [
        *_shown(side, True),
        (ids.side("picture", side), {"src": source, "className": "seen" if seen else ""}),
        (ids.side("crop", side), {"style": crop}),
        show_text(ids.side("boxes", side), boxes),
        show_text(ids.side("caption", side), caption),
        (ids.side("seen", side), {"children": "whole picture" if seen else "network's view"}),
        show_text(ids.side("top", side), _top(scene, prediction, wrong)),
    ]


def _top(scene: Scene, prediction: Prediction | None, wrong: list[Failure]) -> list[Any]:
    if wrong:
        return [refuse(wrong[0], "input")]
    if prediction is None:
        return _top_waiting()
    if prediction.detections is not None:
        return detections.rows(scene, prediction.detections)
    best = top_classes(prediction.logits, TOP_CLASSES)
    if not best and len(prediction.logits):
        return [
            html.P("The network's answer contains NaN or infinite values: there is no ranking.", className="sentence")
        ]
    if scene.info.kind == "segmenter":  # a class without a pixel has nothing to explain
        best = [(index, share) for index, share in best if share > NO_SHARE]
    return [_class_row(scene, index, float(prediction.logits[index]), share) for index, share in best]


def _class_row(scene: Scene, index: int, logit: float, share: float) -> html.Button:
    name = scene.class_name(index)
    numbers = f"logit {format_number(logit)}, softmax {format_number(share)}"
    if scene.info.kind == "segmenter":
        numbers = f"{format_share(share)} of the positions"
    return html.Button(
        [
            html.Span(name, className="class"),
            html.Span(html.Span(style={"width": f"{share * 100:.2f}%"}), className="bar"),
            html.Span(f"{share:.3f}", className="mono"),
        ],
        className="row chosen" if scene.view.target == index else "row",
        title=f"Class {index}, {name}: {numbers}. Click to explain this class.",
        **{"data-do": "target", "data-value": str(index)},
    )


def _saved(scene: Scene) -> Any:
    """The boxes that have a picture."""
    given = layout(scene.service.inputs, scene.prefix)
    given.children = [box for box, side in zip(given.children, SIDES, strict=True) if side in scene.inputs]
    return given if scene.inputs else html.P("No picture was chosen.", className="sentence")


PANEL = Panel(
    "inputs",
    "main",
    urgency=1,
    layout=lambda setup: layout(setup.store, setup.prefix),
    parts=parts,
    waiting=lambda wait: parts_while_loading(wait.view, wait.store, wait.gallery, comes=wait.comes),
    saved=_saved,
)
