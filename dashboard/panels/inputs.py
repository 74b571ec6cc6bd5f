"""The inputs A and B: the pictures, what the network saw of them, and what it answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.captions import LONGEST, MOST
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.sides import ASPECTS, OWN_WAY, Preparation
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.geometry import crop_overlay_style
from hookscope.dashboard.exports import answer_files
from hookscope.dashboard.inputs.store import Input, InputStore
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.previews import find, preview, shown
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.page.view import View, state
from hookscope.dashboard.panels import answer, channels, detections, frames, preparation, second, segments
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import edited, random_weights, refuse, show_text
from hookscope.dashboard.panels.samples import choose_sample
from hookscope.dashboard.sources.spec import name_of, title_of
from hookscope.hooks.results.looks import Prediction


@state
@dataclass(frozen=True)
class Seen:
    """Whether the inputs show what the network received, and in which other ways its answer can be read."""

    seen: bool = False
    readings: bool = False


def layout(inputs: InputStore, prefix: str, models: Sequence[str] = ()) -> html.Section:
    """Draw both boxes, empty.

    Arguments:
        models: those that can be chosen, as the operator named them; none for a file, in which nothing is chosen.
    """
    more = {"aria-label": "Inputs", "data-limit": str(inputs.max_upload_bytes)}
    return html.Section([_box(side, inputs, prefix, models) for side in SIDES], className="inputs", **more)


def _box(side: str, inputs: InputStore, prefix: str, models: Sequence[str]) -> html.Div:
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
                    choose_sample(prefix, side),
                    _same_picture(models) if side == "b" and models else None,
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
                    _way(side, models),
                    Markup(ids.side("second", side), className="second"),
                    Markup(ids.side("top", side), className="top5"),
                    Markup(ids.side("reading", side), className="reading"),
                    _captions(side, models),
                    html.Div(
                        [
                            _browse(side, "replace"),
                            html.Button("swap A, B", className="link", **{"data-do": "swap"}) if side == "b" else None,
                            html.Button(
                                "paint on it",
                                className="link",
                                title="Cover a part of it, and see in B what that changes.",
                                **{"data-do": "paint"},
                            )
                            if side == "a"
                            else None,
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


def _same_picture(models: Sequence[str]) -> html.Div:
    """B as A's picture in another model, or prepared otherwise."""
    chosen = [html.Option("A in another model …", value=""), *_options(models)] if len(models) > 1 else []
    ways = [
        html.Optgroup(
            [html.Option(text, value=choice) for choice, text in choices.items() if choice != OWN_WAY], label=aspect
        )
        for aspect, choices in ASPECTS.items()
    ]
    return html.Div(
        [
            html.Select(chosen, **{"data-same": "model_b", "aria-label": "Compare with A's picture in another model"})
            if chosen
            else None,
            html.Select(
                [html.Option("A prepared otherwise …", value=""), *ways],
                **{"data-same": "prepare_b", "aria-label": "Compare with A's picture prepared otherwise"},
            ),
        ],
        className="same-picture",
    )


def _options(models: Sequence[str]) -> list[html.Option]:
    return [html.Option(title_of(model), value=name_of(model)) for model in models]


def _way(side: str, models: Sequence[str]) -> html.Div | None:
    """Into which model the picture goes, and how; not in a file, in which nothing is chosen."""
    apart = Markup(ids.APART) if side == "b" else None
    return (
        html.Div([_model_choice(side, models), preparation.control(side), apart], className="way") if models else None
    )


def _captions(side: str, models: Sequence[str]) -> html.Div | None:
    """Where captions are typed for a model that compares a picture with them; not in a file.

    The style sheet shows it beside an answer that says of itself that the model takes captions (`answer.compared`).
    """
    if not models:
        return None
    help_text = (
        "How alike the model finds the picture and each caption; each can be explained. The model's own captions, or "
        f"none, where nothing is typed. At most {MOST}, of {LONGEST} characters each. Ctrl+Enter compares too."
    )
    typed = html.Textarea(
        rows=3,
        maxLength=MOST * (LONGEST + 1),
        placeholder="a photo of a cat\na photo of a dog",
        **{"data-captions": side, "aria-label": f"Captions for {side.upper()}, one a line"},
    )
    return html.Div(
        [
            html.Div(
                [
                    html.Span(f"captions, one a line, at most {MOST}", className="muted"),
                    html.Button("compare", className="link", **{"data-compare": side}),
                ],
                title=help_text,
            ),
            typed,
        ],
        className="captions",
    )


def _model_choice(side: str, models: Sequence[str]) -> html.Label:
    """The model that a side's picture is put into; not to be seen while there is one: a checkpoint may come later."""
    choice = html.Select(_options(models), **{"data-model": side, "aria-label": f"Model of {side.upper()}"})
    return html.Label([html.Span("in", className="muted"), choice], className="in-model")


def parts(scene: Scene) -> list[Part]:
    """One part per side, and one for a side without an input."""
    return [_given(scene, side) if side in scene.inputs else _unanswered(scene, side) for side in SIDES]


def _unanswered(scene: Scene, side: str) -> Part:
    """A side without a picture, or whose model is not there."""
    given = find(scene.service.inputs, getattr(scene.view, side))
    if given is None:
        return _empty(scene.view, side)
    model = scene.view.model_of(side)
    state = scene.service.state(model)
    comes = state.phase != "failed"
    text = (
        f"{title_of(model)} is being loaded …" if comes else f"{title_of(model)} could not be loaded: {state.sentence}"
    )
    return _early(side, given, _source(scene.view, side, given, scene.service.inputs, scene.gallery), comes, text)


def parts_while_loading(view: View, store: InputStore, gallery: Gallery, *, comes: bool = True) -> list[Part]:
    """The same while the model is not there: the pictures are shown, and their answers wait if it `comes`."""
    found = {side: find(store, getattr(view, side)) for side in SIDES}
    return [
        _early(side, given, _source(view, side, given, store, gallery), comes) if given else _empty(view, side)
        for side, given in found.items()
    ]


def _source(view: View, side: str, given: Input, store: InputStore, gallery: Gallery) -> str:
    painting = getattr(view, f"prepare_{side}").painted
    return preview(store, gallery, given, shown(view, side, given), painting)


def _early(side: str, given: Input, source: str, comes: bool, text: str = "") -> Part:
    waiting = _top_waiting() if comes else None
    updates = [
        *_shown(side, True),
        (ids.side("picture", side), {"src": source, "className": ""}),
        (ids.side("crop", side), {"style": {"display": "none"}}),
        show_text(ids.side("boxes", side), None),
        show_text(ids.side("caption", side), _caption(side, given, f"{given.width}×{given.height}")),
        show_text(ids.side("second", side), None),
        show_text(ids.side("top", side), [html.P(text, className="sentence"), *(waiting or [])] if text else waiting),
        show_text(ids.side("reading", side), None),
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


def _spread(scene: Scene, side: str, given: Input) -> list[html.Button]:
    """The way out where a picture uses a small part of its range: the network sees it nearly black."""
    chosen: Preparation = getattr(scene.view, f"prepare_{side}")
    if not given.spread or chosen.levels != OWN_WAY:
        return []
    text = {f"prepare_{side}": replace(chosen, levels="spread").write(), "side": side}
    help_text = "Make its smallest value 0 and its largest 1, for this side."
    action = {"data-do": "set", "data-value": json.dumps(text)}
    return [html.Button("spread it", className="link", title=help_text, **action)]


def _top_waiting() -> list[Any]:
    return [html.Div(className="row waiting") for _ in range(answer.TOP_CLASSES)]


def _empty(view: View, side: str) -> Part:
    lost = bool(getattr(view, side))
    sentence = "This picture is no longer kept here: choose it again." if lost else ""

    refused = show_text(ids.side("refused", side), sentence, hidden=not sentence)
    return Part.still(f"input {side}", [*_shown(side, False), refused])


def _given(scene: Scene, side: str) -> Part:
    unit = scene.prediction(side)
    shows = (scene.only("seen", "readings", *EXPLAINED), side, unit)
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
        height, width = scene.frame_of(unit.model, prediction).shape[:2]
        sizes += f" → {width}×{height}"
    frame = prediction.crop if prediction is not None and seen else (0, 0, given.width, given.height)
    over: list[Any] | None = None
    if prediction is not None:
        over = detections.draw_boxes(scene, side, prediction, frame)
        over += segments.draw_regions(scene, side, unit, prediction, frame)
    shown_frame = frames.control(scene.frames(unit.model), scene.walls.moment) if seen else []
    caption = [*_caption(side, given, sizes), *shown_frame, *_spread(scene, side, given), *_badges(scene, side)]
    reading = [*channels.said(scene, side), *answer.reading(scene, side, scene.view.of(Seen).readings)]
    reading += _file(scene, side, unit, prediction) if prediction is not None else []
    prepared = [*preparation.facts(scene, side), *channels.choices(scene, side)]
    wrong = failures(answers, (unit,))
    return [
        *_shown(side, True),
        (ids.side("picture", side), {"src": source, "className": "seen" if seen else ""}),
        (ids.side("crop", side), {"style": crop}),
        show_text(ids.side("boxes", side), over),
        show_text(ids.side("caption", side), caption),
        (ids.side("seen", side), {"children": "whole picture" if seen else "network's view"}),
        show_text(ids.side("prepared", side), prepared),
        show_text(ids.side("second", side), second.slot(scene, side, prediction, seen=seen)),
        show_text(ids.side("top", side), _top(scene, side, prediction, wrong)),
        show_text(ids.side("reading", side), reading),
    ]


def _file(scene: Scene, side: str, unit: Unit, prediction: Prediction) -> list[html.Div]:
    """The link that saves all boxes or regions of an answer, of which the list shows the first."""
    if (found := answer_files.file(scene, side, unit, prediction)) is None:
        return []
    text, address = found
    return [html.Div(html.A(text, href=address, download="", className="link save"))]


def _badges(scene: Scene, side: str) -> list[html.Span]:
    """What this side's answer has to say of itself."""
    text = scene.prepared(side)
    help_text = "Chosen on this page: the picture is not prepared as it is where nobody says how."
    otherwise = [html.Span(text, title=f"{help_text} Prepared: {text}.", className="badge note")] if text else []
    return [*random_weights(scene.info_of(side)), *otherwise, *edited(scene, side)]


def _top(scene: Scene, side: str, prediction: Prediction | None, wrong: list[Failure]) -> list[Any]:
    if wrong:
        return [refuse(wrong[0], "input")]
    if prediction is None:
        return _top_waiting()
    if prediction.detections is not None:
        return detections.rows(scene, side, prediction.detections)
    return answer.rows(scene, side, prediction)


def _saved(scene: Scene) -> Any:
    """The boxes that have a picture; none in a page about a set, on which they are not to be seen."""
    if scene.view.tab in ("pictures", "findings", "run"):
        return []
    given = layout(scene.service.inputs, scene.prefix)
    given.children = [box for box, side in zip(given.children, SIDES, strict=True) if side in scene.inputs]
    return given if scene.inputs else html.P("No picture was chosen.", className="sentence")


PANEL = Panel(
    "inputs",
    "main",
    urgency=1,
    layout=lambda setup: layout(setup.store, setup.prefix, setup.models),
    parts=parts,
    waiting=lambda wait: parts_while_loading(wait.view, wait.store, wait.gallery, comes=wait.comes),
    saved=_saved,
    live=parts,
)
