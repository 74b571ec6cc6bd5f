"""The second picture of a side, for a model that takes two: left and right, before and after."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.samples import choose_sample
from hookscope.hooks.results.looks import Prediction


def slot(scene: Scene, side: str, prediction: Prediction | None, *, seen: bool) -> html.Div | None:
    """What stands there: the picture and what can be done with it, or how one is chosen; None of any other model.

    Arguments:
        seen: whether pictures are shown as the network received them.
    """
    pictures = scene.info_of(side).pictures
    if not pictures:
        return None
    place, given = f"second_{side}", scene.second(side)
    first, second = (html.Span(name, className="mono") for name in pictures)
    choose = html.Button("choose another", className="link", **{"data-browse": place})
    if given is None:
        lost = "It is no longer kept here. " if getattr(scene.view, place) else ""
        said = [f"{lost}Two pictures: ", second, " is the same as ", first, " until you "]
        offered = [
            html.P([*said, choose, " or drop one here."], className="muted"),
            choose_sample(scene.prefix, place, ", as the second picture"),
        ]
        return html.Div(offered, className="beside", **{"data-place": place})
    model = scene.view.model_of(side)
    pixels = scene.frame_of(model, prediction, second=True) if prediction and prediction.second is not None else None
    size = f"{given.width}×{given.height}" + (f" → {pixels.shape[1]}×{pixels.shape[0]}" if pixels is not None else "")
    turned = {side: given.key, place: scene.inputs[side].key}
    links = [
        choose,
        _set("turn round", turned, f"Give the model {pictures[1]} as {pictures[0]}, and the other way round."),
        _set("the same as the first", {place: ""}, "Give the model the one picture twice."),
    ]
    help_text = f"The picture of this box is {pictures[0]}. Both are prepared alike."
    about: list[Any] = [
        html.P([second, f": {given.name} ", html.Span(size, className="muted")], title=help_text),
        html.Div(links, className="links"),
    ]
    source = scene.seen(side, second=True) if seen and pixels is not None else scene.whole(side, second=True)
    picture = html.Img(src=source, alt=f"Second picture of {side.upper()}")
    return html.Div([picture, html.Div(about)], className="beside both", **{"data-place": place})


def _set(text: str, fields: dict[str, str], title: str) -> html.Button:
    return html.Button(text, className="link", title=title, **{"data-do": "set", "data-value": json.dumps(fields)})
