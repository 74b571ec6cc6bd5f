"""Maps as pictures: one channel of a layer, or the mean of all, and where a layer speaks for a class.

Each has its scale as numbers, in a header of the picture and as JSON under the same address with `.json`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import flask
import numpy as np
from PIL import Image

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import ActivationOf, ClassMap
from hookscope.dashboard.drawing.palettes import CHOICES, NON_FINITE_LEGEND
from hookscope.dashboard.drawing.pictures import cam_overlay, map_png
from hookscope.dashboard.drawing.ranking import channel_numbers
from hookscope.dashboard.drawing.resizing import nearest, reduce_by_area
from hookscope.dashboard.drawing.scales import Scale
from hookscope.dashboard.page.reading import Reading, Walls
from hookscope.dashboard.page.view import MEAN
from hookscope.dashboard.web.api.answers import Refused, plain
from hookscope.dashboard.web.api.layers import of_map
from hookscope.dashboard.web.api.looking import Asked, about, pictured
from hookscope.hooks.methods import MAPS
from hookscope.hooks.results.looks import Activation, GradCam, Prediction
from hookscope.hooks.results.maps import frame, why_no_maps
from hookscope.hooks.results.targets import OWN, Class

LONGEST_PX = 1024  # of a picture that is answered
HEAT_SHARE = 0.6  # how opaque the heat is over the picture, at most
MEAN_NAME = "mean"


def channel_map(asked: Asked) -> dict[str, Any]:
    """One channel's map as numbers about its picture."""
    return _map(asked)[1]


def channel_map_png(asked: Asked) -> flask.Response:
    """The same as a picture."""
    return _picture(*_map(asked))


def class_map(asked: Asked) -> dict[str, Any]:
    """Where a layer speaks for a class, as numbers about its picture."""
    return _cam(asked)[1]


def class_map_png(asked: Asked) -> flask.Response:
    """The same as a picture."""
    return _picture(*_cam(asked))


def _map(asked: Asked) -> tuple[bytes, dict[str, Any]]:
    which = asked.given.text("channel", MEAN_NAME)
    if which != MEAN_NAME and not re.fullmatch(r"[0-9]{1,6}", which):
        raise Refused("The parameter channel is the index of a channel, from 0, or mean for the mean of all.")
    channel = MEAN if which == MEAN_NAME else int(which)
    each = asked.given.choice("scale", ("layer", "channel"), "layer")
    colours = asked.given.choice("colours", CHOICES, "auto")
    pixels = asked.given.whole("pixels", 0, 0, LONGEST_PX)
    scene = asked.one_side()
    info = scene.info_of("a")
    layer, call, recorded = asked.layer_call(info)
    if why := why_no_maps(recorded, recorded.shape):
        raise Refused(why, 404)
    unit = scene.unit("a", ActivationOf(layer.name, call))
    found = asked.result(unit, Activation)
    walls = Walls(scale="channel" if each == "channel" else "layer", colours=colours)  # type: ignore[arg-type]
    reading = Reading(walls, {"a": found})
    if "a" not in reading.maps:
        raise Refused(why_no_maps(found, found.values.shape) or "This layer's output is too large for maps.", 404)
    count = len(reading.maps["a"])
    values = reading.channel("a", channel)
    if values is None:
        raise Refused(f"This layer has {count:,} channels, counted from 0. Ask for lower ones.", 404)
    scales = reading.scale_of["a"]
    scale = scales if isinstance(scales, Scale) else scales[channel]
    one = {name: float(column[0]) for name, column in channel_numbers(values[None]).items()}
    shown = _sized(values, pixels)
    return map_png(shown, scale, reading.palette), {
        **about(info, scene.view.model),
        **pictured(scene),
        "layer": key_of(layer.name),
        "call": call,
        "channel": which,
        "channels_in_all": count,
        "rows": values.shape[0],
        "columns": values.shape[1],
        "numbers": one,
        "of": of_map(found, recorded),
        "scale": {"low": scale.low, "high": scale.high, "kind": scale.kind, "of": each},
        "palette": reading.palette.name,
        "not_finite": NON_FINITE_LEGEND,
        "picture": {"height": shown.shape[0], "width": shown.shape[1]},
    }


def _cam(asked: Asked) -> tuple[bytes, dict[str, Any]]:
    method = asked.given.choice("method", tuple(MAPS), next(iter(MAPS)))
    over = asked.given.choice("over", ("picture", "nothing"), "picture")
    pixels = asked.given.whole("pixels", 0, 0, LONGEST_PX)
    scene = asked.one_side()
    info = scene.info_of("a")
    layer, call, _ = asked.layer_call(info)
    target = Class(asked.given.whole("class", 0, 0, 10**6)) if "class" in asked.given.texts else OWN
    unit = scene.unit("a", ClassMap(layer.name, call, method, target))
    answering = scene.prediction("a")
    answers = asked.results(answering, unit)
    prediction, cam = answers[answering].result, answers[unit].result
    assert isinstance(prediction, Prediction) and isinstance(cam, GradCam)
    under = scene.frame_of(unit.model, prediction, second=scene.sees_second(unit))
    under = _enlarged(under, pixels)
    values = frame(cam.values, scene.depth(unit), 0)
    overlay = cam_overlay(values, under.shape[:2])
    png = overlay.png if over == "nothing" else _laid_over(overlay.png, under)
    return png, {
        **about(info, scene.view.model),
        **pictured(scene),
        "layer": key_of(layer.name),
        "call": call,
        "method": method,
        "method_title": MAPS[method].title,
        "class": cam.target,
        "class_name": scene.class_name("a", cam.target) if cam.target >= 0 else None,
        "logit": cam.logit,
        "rows": values.shape[0],
        "columns": values.shape[1],
        "scale": {"low": 0.0, "high": overlay.peak, "kind": "sequential", "of": "layer"},
        "palette": "magma",
        "note": " ".join(filter(None, (overlay.note, cam.note))) or None,
        "picture": {"height": under.shape[0], "width": under.shape[1], "over": over},
    }


def _sized(values: np.ndarray, pixels: int) -> np.ndarray:
    """Float (height, width) enlarged so that each value is a square of whole pixels, the longer side at most `pixels`
    long; reduced by area where it is longer than `LONGEST_PX`.
    """
    height, width = values.shape
    longest = max(height, width)
    if longest > LONGEST_PX:
        size = max(1, height * LONGEST_PX // longest), max(1, width * LONGEST_PX // longest)
        return np.asarray(reduce_by_area(values[None], *size)[0])
    return _enlarged(values, pixels)


def _enlarged(values: np.ndarray, pixels: int) -> np.ndarray:
    """Values (height, width, ...), each a square of whole pixels, the longer side at most `pixels` long."""
    height, width = values.shape[:2]
    times = max(1, pixels // max(height, width))
    rows, columns = nearest(height, height * times), nearest(width, width * times)
    return np.asarray(values[rows[:, None], columns])


def _laid_over(heat: bytes, under: np.ndarray) -> bytes:
    """The heat over what the network saw, uint8 (height, width, 3), as PNG."""
    with Image.open(io.BytesIO(heat)) as image:
        over = image.convert("RGBA")
    over.putalpha(over.getchannel("A").point(lambda alpha: round(alpha * HEAT_SHARE)))
    whole = Image.alpha_composite(Image.fromarray(under).convert("RGBA"), over).convert("RGB")
    file = io.BytesIO()
    whole.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _picture(png: bytes, told: Mapping[str, Any]) -> flask.Response:
    response = flask.Response(png, mimetype="image/png")
    scale = plain(told["scale"])
    response.headers["X-Hookscope-Scale"] = "; ".join(f"{name}={value}" for name, value in scale.items())
    response.headers["X-Hookscope-Palette"] = str(told["palette"])
    if told["reservation"]:  # every picture says so, this one where a header can
        response.headers["X-Hookscope-Reservation"] = str(told["reservation"])
    return response
