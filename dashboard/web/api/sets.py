"""The sets that the operator offers, and what was found over one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.sets.members import SetMissing
from hookscope.dashboard.web.api.answers import Refused, address_of, fitting
from hookscope.dashboard.web.api.looking import Asked, about
from hookscope.hooks.results.set_answers import UNLABELLED

MOST_SETS = 100
LAYERS, MOST_LAYERS = 50, 200
NAMED = 64  # silent channels of a layer that are named
NO_SETS = "This server looks at no sets of pictures."


def sets(asked: Asked) -> dict[str, Any]:
    """The sets that everybody may look at; those of visitors are not listed."""
    sweeps = asked.office.service.sweeps
    offered = sweeps.store.offered() if sweeps is not None else []
    start = asked.given.whole("after", 0, 0, 10**6)
    shown = fitting([{"set": key, "name": name} for key, name in offered[start : start + MOST_SETS]])
    end = start + len(shown)
    more = address_of(asked.path, asked.given.texts, after=end) if end < len(offered) else None
    return {"sets": shown, "total": len(offered), "next": more}


def set_key(asked: Asked, named: str) -> str:
    """The key of a set that is given by its key or, of an offered one, by its name.

    Raises:
        Refused: there is none.
    """
    sweeps = asked.office.service.sweeps
    if sweeps is None:
        raise Refused(NO_SETS, 404)
    by_name = {name: key for key, name in sweeps.store.offered()}
    key = by_name.get(named, named)
    try:
        sweeps.store.get(key)
    except SetMissing as missing:
        raise Refused(str(missing), 404) from missing
    return key


def found_of_set(asked: Asked) -> dict[str, Any]:
    """What is written down of a set in a model: answers, mistakes, channels that never fire."""
    name = asked.model_name()
    key = set_key(asked, asked.given.text("set"))
    limit = asked.given.whole("limit", LAYERS, 1, MOST_LAYERS)
    after = asked.given.whole("after", 0, 0, 10**6)
    scene: Scene = asked.scene(model=name, set_a=key)
    looked = look_at(scene)
    if isinstance(looked, str):
        raise Refused(looked, 404)
    now = looked.progress
    head = {
        **about(looked.info, name),
        "set": key,
        "name": looked.pictures.name,
        "pictures": len(looked.pictures.members),
        "phase": now.phase,
        "sentence": now.sentence or None,
        "seen": now.seen,
        "unread": now.unread,
    }
    if now.now is None:
        begin = address_of(f"{asked.office.prefix}set/{key}/start", {}, model=name)
        return {
            **head,
            "found": None,
            "how": "Nothing is known yet. The tab Pictures of the page begins it, or a POST to the address start.",
            "start": begin,
        }
    rows = _silent(looked)
    shown = fitting(rows[after : after + limit])
    end = after + len(shown)
    more = address_of(asked.path, asked.given.texts, after=end) if end < len(rows) else None
    dead = {
        "dead_channels": sum(each.never for each in now.now.firing if each.activation),
        "layers_with_silent_channels": len(rows),
    }
    return {**head, "found": {**_answered(looked), **dead}, "layers": shown, "next": more}


def _answered(looked: Looked) -> dict[str, Any]:
    answers = looked.answers
    if answers is None:
        return {"labelled": None, "accuracy": None, "mistakes": None}
    labelled = int((answers.labels != UNLABELLED).sum())
    return {
        "labelled": labelled,
        "accuracy": answers.accuracy,
        "mistakes": len(answers.mistakes()) if labelled else None,
    }


def _silent(looked: Looked) -> list[dict[str, Any]]:
    """The layers behind an activation function that have channels which fire seldom or never."""
    now, found = looked.progress.now, looked.found
    fired = {(each.layer, each.call): each.fired for each in found.statistics} if found is not None else {}
    rows = []
    for each in now.firing if now is not None else ():
        if not each.activation or not (each.never or each.seldom):
            continue
        known = fired.get((each.layer, each.call))
        never = np.flatnonzero(known == 0).tolist() if known is not None else []
        rows.append(
            {
                "layer": key_of(each.layer),
                "call": each.call,
                "channels": each.channels,
                "never": each.never,
                "seldom": each.seldom,
                "never_firing": never[:NAMED],
            }
        )
    return rows
