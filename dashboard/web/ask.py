"""A page's questions: the view that it wants to show and what it shows already, answered with where the rest will come.

    POST ask  {"view", "page", "drawn", "mounted", "width", "number", "moved", "trying", "sets",
               "ahead"}
    ->  {"stream", "query", "changes", "targets", "models", "title", "first"}

Not a Dash callback: one cost 35 ms on its way through the page's stores before it left the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flask
from plotly.io.json import to_json_plotly

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.targets import Other, Target
from hookscope.dashboard.engine.base import ModelInfo, Phase
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.previews import find
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import SIDES, Scene, loaded
from hookscope.dashboard.page.view import MAX_LAYERS, MEAN, View
from hookscope.dashboard.panels import order
from hookscope.dashboard.panels.panel import Trying, Waiting
from hookscope.dashboard.sources.spec import title_of
from hookscope.dashboard.web import stream
from hookscope.hooks.results.outputs import AS_FOUND, Reading
from hookscope.hooks.results.raw_boxes import RAW
from hookscope.hooks.results.targets import Box, Class, Rival

WIDTH_PX = (240, 4000)
MOST_SETS = 24
FAILED = "The model could not be loaded: the line above says why. Mend that and try again, or choose another model."


@dataclass(frozen=True)
class Ask:
    """What a page asks.

    Attributes:
        page: its own token. number: its own count of its questions.
        drawn: signatures of the parts that it shows, by name.
        mounted: how many cards it holds. width: of a card's wall, in CSS pixels.
        moved: it has just chosen another model.
        trying: a slider is being dragged: only what follows it is drawn, and nothing of it kept.
        sets: keys of the sets of pictures that the browser has made.
        ahead: the answer may bring the stream's first messages, which then come no second time.
    """

    view: View
    page: str
    number: int
    drawn: dict[str, str]
    mounted: int
    width: int
    moved: bool
    trying: Trying = ""
    sets: tuple[str, ...] = ()
    ahead: bool = False

    @classmethod
    def from_json(cls, values: Any) -> Ask:
        """Read what a browser sent.

        Raises:
            ValueError: it is no question.
        """
        try:
            low, high = WIDTH_PX
            return cls(
                view=View.from_dict(values["view"]),
                page=str(values["page"])[:64],
                number=int(values["number"]),
                drawn=dict(values["drawn"]),
                mounted=min(max(int(values["mounted"]), 0), MAX_LAYERS),
                width=min(max(int(values["width"]), low), high),
                moved=bool(values.get("moved")),
                trying=_trying(values.get("trying")),
                sets=tuple(str(key)[:64] for key in list(values.get("sets") or ())[:MOST_SETS]),
                ahead=bool(values.get("ahead")),
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a question: {error!r}") from error


def register(server: flask.Flask, prefix: str, service: Service, gallery: Gallery, models: Sequence[str] = ()) -> None:
    """Answer questions on a server that offers these models."""
    readings = Readings()

    @server.post(f"{prefix}ask")
    def ask() -> flask.Response:
        try:
            question = Ask.from_json(flask.request.get_json(silent=True))
        except (ValueError, RecursionError):
            return flask.Response("This is no question that Hookscope knows. Reload the page.\n", 400)
        view = question.view
        infos = loaded(view, service)
        changes: dict[str, Any] = {}
        if view.model_of(view.side) in infos or (infos and _answers(view, infos)):
            changes = not_to_be_had(view, infos, moved=question.moved)
            view = view.but(**changes)
            scene = Scene.build(view, infos, service, gallery, readings, question.width)
            scene = replace(scene, offered=tuple(models), own_sets=question.sets)
            wanted = order.parts(scene, max(question.mounted, len(view.layers)), prefix, trying=question.trying)
            targets = scene.target_field(view.side)
        else:
            state = service.state(view.model_of(view.side))
            comes = state.phase != "failed"
            wanted = order.waiting(
                Waiting(
                    *(view, service.inputs, gallery, no_model(state.phase), comes, question.mounted),
                    feeds=service.feeds,
                    prefix=prefix,
                    offered=tuple(models),
                )
            )
            targets = "target"
        name = service.ask(question.page, wanted, question.drawn, question.number, kept=not question.trying)
        answer = {
            "stream": f"{prefix}stream/{name}" if name else "",
            "query": view.to_query(),
            "changes": changes,
            "targets": targets,
            "models": {model: info.fingerprint for model, info in infos.items()},
            "title": title(view, infos, service),
            "first": [stream.message(shown) for shown in service.ahead(name)] if question.ahead else [],
        }
        return flask.Response(to_json_plotly(answer), mimetype="application/json")


def _trying(value: object) -> Trying:
    if value == "rests":
        return "rests"
    return "moves" if value else ""


def _answers(view: View, infos: Mapping[str, ModelInfo]) -> bool:
    """Whether a side has a picture and a model, so that there is something to look at while the other waits."""
    return any(getattr(view, side) and view.model_of(side) in infos for side in SIDES)


def title(view: View, infos: Mapping[str, ModelInfo], service: Service) -> str:
    """What the browser's window is called: the pictures and the models, which tell tabs apart."""
    found = {side: given.name for side in SIDES if (given := find(service.inputs, getattr(view, side)))}
    names = dict.fromkeys(view.model_of(side) for side in found or [view.side])
    models = " and ".join(infos[name].title if name in infos else title_of(name) for name in names)
    pictures = " and ".join(dict.fromkeys(found.values()))
    return " · ".join(part for part in (pictures, models, "Hookscope") if part)


def no_model(phase: Phase) -> str:
    """What stands where a model's answers would be, while there is no model; why it failed, the page says once."""
    return FAILED if phase == "failed" else "The model is being loaded …"


def not_to_be_had(view: View, infos: Mapping[str, ModelInfo], *, moved: bool) -> dict[str, Any]:
    """What of a view its models do not have, as the fields that have to change.

    Arguments:
        moved: another model was chosen: then layers go that none has; else a card says so of them.
    """
    changes: dict[str, Any] = {}
    for side, field in (("a", "target"), ("b", "target_b")):
        info = infos.get(view.model_of(side))
        own = side == "b" and view.model_b
        info = info and info.about(view.captions_b if own else view.captions)
        reading = getattr(view, field.replace("target", "reading"))
        if info and not readable(info, reading):
            changes[field.replace("target", "reading")] = ""
            reading = AS_FOUND
        if info and not explainable(info, getattr(view, field), reading):
            changes[field] = ""
        against = field.replace("target", "against")
        if info and not opposable(info, getattr(view, against), reading):
            changes[against] = ""
    if moved and len(infos) == len({view.model_of(side) for side in SIDES}):
        names = {name for info in infos.values() for name in info.by_name}
        if lacking := [key for key in view.layers if key and parse_key(key)[0] not in names]:
            changes["layers"] = [key for key in view.layers if key not in lacking]
        if view.detail and parse_key(view.detail)[0] not in names:
            changes |= {"detail": "", "channel": MEAN}
    return changes


def readable(info: ModelInfo, reading: Reading) -> bool:
    """Whether a model has the output that somebody has chosen, and it can be read as raw boxes if it is to be."""
    if reading.output and all(each.path != reading.output for each in info.outputs):
        return False
    return reading.reads not in RAW or info.form(reading) == "boxes"


def explainable(info: ModelInfo, target: Target, reading: Reading = AS_FOUND) -> bool:
    """Whether a model may have such a target; whether a picture has such a box is not known before it is answered."""
    if isinstance(target, Box):
        return info.form(reading) == "boxes"
    return not isinstance(target, Class) or target.index < len(info.names(reading))


def opposable(info: ModelInfo, other: Other, reading: Reading = AS_FOUND) -> bool:
    """Whether something of a model's answer may be held against such a thing; of an embedding nothing can be."""
    if other is None:
        return True
    if info.found(reading).reading.reads == "embedding":
        return False
    return isinstance(other, Rival) or explainable(info, other, reading)
