"""A page's questions: the view that it wants to show and what it shows already, answered with where the rest will come.

    POST ask  {"view", "page", "drawn", "mounted", "width", "number"}
    ->  {"stream", "query", "unknown_target", "title"}

Not a Dash callback: one cost 35 ms on its way through the page's stores before it left the browser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.questions import box_of
from hookscope.dashboard.engine.base import ModelInfo, Phase
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import SIDES, Scene, find
from hookscope.dashboard.page.view import MAX_LAYERS, View
from hookscope.dashboard.panels import order
from hookscope.dashboard.panels.panel import Waiting
from hookscope.dashboard.sources.spec import title_of

WIDTH_PX = (240, 4000)
FAILED = "The model could not be loaded: the line above says why. Mend that and try again, or choose another model."


@dataclass(frozen=True)
class Ask:
    """What a page asks.

    Attributes:
        page: its own token. number: its own count of its questions.
        drawn: signatures of the parts that it shows, by name.
        mounted: how many cards it holds. width: of a card's wall, in CSS pixels.
    """

    view: View
    page: str
    number: int
    drawn: dict[str, str]
    mounted: int
    width: int

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
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a question: {error!r}") from error


def register(server: flask.Flask, prefix: str, service: Service, gallery: Gallery) -> None:
    """Answer questions on a server."""
    readings = Readings()

    @server.post(f"{prefix}ask")
    def ask() -> flask.Response:
        try:
            question = Ask.from_json(flask.request.get_json(silent=True))
        except (ValueError, RecursionError):
            return flask.Response("This is no question that Hookscope knows. Reload the page.\n", 400)
        view, state = question.view, service.state(question.view.model)
        info = state.info
        unknown_target = False
        if info is None:
            comes = state.phase != "failed"
            wait = Waiting(view, service.inputs, gallery, no_model(state.phase), comes, question.mounted)
            wanted = order.waiting(wait)
        else:
            unknown_target = not explainable(info, view.target)
            view = replace(view, target=None) if unknown_target else view
            scene = Scene.build(view, info, service, gallery, readings, question.width)
            wanted = order.parts(scene, max(question.mounted, len(view.layers)), prefix)
        name = service.ask(question.page, wanted, question.drawn, question.number)
        answer = {
            "stream": f"{prefix}stream/{name}" if name else "",
            "query": view.to_query(),
            "unknown_target": unknown_target,
            "title": title(view, info, service),
        }
        return flask.Response(json.dumps(answer), mimetype="application/json")


def title(view: View, info: ModelInfo | None, service: Service) -> str:
    """What the browser's window is called: the pictures and the model, which tell tabs apart."""
    found = [find(service.inputs, getattr(view, side)) for side in SIDES]
    pictures = " and ".join(given.name for given in found if given)
    model = info.title if info else title_of(view.model)
    return " · ".join(part for part in (pictures, model, "Hookscope") if part)


def no_model(phase: Phase) -> str:
    """What stands where a model's answers would be, while there is no model; why it failed, the page says once."""
    return FAILED if phase == "failed" else "The model is being loaded …"


def explainable(info: ModelInfo, target: int | None) -> bool:
    """Whether a model may have such a target; whether a picture has such a box is not known before it is answered."""
    if box_of(target) is not None:
        return info.kind == "detector"
    return target is None or target < len(info.classes)
