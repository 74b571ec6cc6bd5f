"""The models that are offered, one of them in words and numbers, and its layers."""

from __future__ import annotations

from typing import Any

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.engine.base import ModelInfo, Preprocessing
from hookscope.dashboard.sources.spec import title_of
from hookscope.dashboard.web.api.answers import Refused, address_of, fitting
from hookscope.dashboard.web.api.looking import Asked, about
from hookscope.hooks.results.looks import Call, LayerInfo

MOST_MODELS = 100
LAYERS, MOST_LAYERS = 50, 200
CALLS = 4  # of a layer that are described one by one
CLASSES = 10  # of the class names that are shown with the model; `top` names the others


def models(asked: Asked) -> dict[str, Any]:
    """Every model that is offered: its name, its title, where it stands."""
    office = asked.office
    start = asked.given.whole("after", 0, 0, 10**6)
    rows = []
    for name in office.names[start : start + MOST_MODELS]:
        state = office.service.state(name)
        title = state.info.title if state.info else title_of(name)
        rows.append({"model": name, "title": title, "phase": state.phase, "sentence": state.sentence})
    shown = fitting(rows)
    end = start + len(shown)
    more = address_of(asked.path, asked.given.texts, after=end) if end < len(office.names) else None
    return {"models": shown, "total": len(office.names), "next": more}


def model(asked: Asked) -> dict[str, Any]:
    """One model: what it is, what it takes and what it answers."""
    name = asked.model_name()
    info = asked.info(name)
    ran = [layer for layer in info.layers if layer.calls]
    return {
        **about(info, name),
        "parameters": info.parameters,
        "bytes": info.bytes,
        "device": info.device,
        "random_part": info.random_part or None,
        "licence": info.licence or None,
        "answer": {"reads": info.answer.reading.reads, "form": info.form(), "why": info.answer.why},
        "classes": len(info.names()),
        "first_classes": list(info.names()[:CLASSES]),
        "preprocessing": preprocessing(info.preprocessing),
        "layers": len(info.layers),
        "layers_that_ran": len(ran),
        "pictures": list(info.pictures),
        "captions": info.captioned or None,
        "notes": list(info.notes),
        "fingerprint": info.fingerprint,
    }


def preprocessing(way: Preprocessing) -> dict[str, Any]:
    """How pictures become what the model is given, and which of that nobody told."""
    return {
        "resize": way.resize,
        "crop": way.crop,
        "fit": way.fit,
        "interpolation": way.interpolation,
        "mean": way.mean,
        "std": way.std,
        "order": way.order,
        "range": way.range,
        "channels": way.channels,
        "frames": way.frames,
        "assumed": way.assumed,
    }


def layers(asked: Asked) -> dict[str, Any]:
    """The layers whose name or type has a text in it, in registration order."""
    name = asked.model_name()
    info = asked.info(name)
    match = asked.given.text("match", "").lower()
    limit = asked.given.whole("limit", LAYERS, 1, MOST_LAYERS)
    found = [layer for layer in info.layers if match in layer.name.lower() or match in layer.type.lower()]
    start = _place_behind(found, info, asked)
    shown = fitting([described(layer) for layer in found[start : start + limit]])
    end = start + len(shown)
    more = address_of(asked.path, asked.given.texts, after=key_of(found[end - 1].name)) if end < len(found) else None
    return {**about(info, name), "layers": shown, "matching": len(found), "next": more}


def _place_behind(found: list[LayerInfo], info: ModelInfo, asked: Asked) -> int:
    """Where the layer behind the one that `after` names stands among those that were found."""
    after = asked.given.text("after", "")
    if not after:
        return 0
    place = next((index for index, layer in enumerate(found) if after == key_of(layer.name)), None)
    if place is None:
        raise Refused("The parameter after names no layer of this list. Take it from next.", 404)
    return place + 1


def described(layer: LayerInfo) -> dict[str, Any]:
    """A layer: its name, type and calls."""
    return {
        "layer": key_of(layer.name),
        "type": layer.type,
        "parameters": layer.parameters,
        "multiply_adds": layer.multiply_adds,
        "operation": layer.operation,
        "leaf": layer.leaf,
        "calls": len(layer.calls),
        "outputs": [call_of(call) for call in layer.calls[:CALLS]],
        "why_not_run": layer.reason_not_run or None,
    }


def call_of(call: Call) -> dict[str, Any]:
    """What one call of a layer returns."""
    return {"shape": call.shape, "axes": call.axes, "dtype": call.dtype, "overwritten_by": call.overwritten_by or None}
