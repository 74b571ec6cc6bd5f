"""What takes a program longer: the check-up of a model over a set, and where two sides part."""

from __future__ import annotations

from typing import Any

from hookscope.dashboard.answers.parts import result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.page.distances import distances
from hookscope.dashboard.page.finding_links import changes_for
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.findings.asked import ask
from hookscope.dashboard.sets.store import REFERENCE
from hookscope.dashboard.web.api.answers import Refused, address_of, fitting
from hookscope.dashboard.web.api.looking import Asked, about
from hookscope.dashboard.web.api.sets import set_key
from hookscope.hooks.results.findings import CheckUp, CheckUpNow, Finding
from hookscope.hooks.results.parting import (
    Calibration,
    PartedCall,
    Parting,
    along_the_depth,
    first_parting,
    threshold_of,
)
from hookscope.hooks.rules import RULES

FINDINGS, MOST_FINDINGS = 50, 200
ROWS, MOST_ROWS = 50, 200
SAME_SIDES = (
    "Both sides are one picture in one model, prepared in one way, so nothing is apart. Give B another b, model_b or "
    "prepare_b."
)
CARRIERS = 24  # channels of the first layer that are named


def findings(asked: Asked) -> dict[str, Any]:
    """What is usually wrong with a model, or with what it is given, is it here?"""
    limit = asked.given.whole("limit", FINDINGS, 1, MOST_FINDINGS)
    after = asked.given.whole("after", 0, 0, 10**6)
    name = asked.model_name()
    key = set_key(asked, asked.given.text("set", REFERENCE))
    scene = asked.scene(model=name, set_a=key, tab="findings")
    wanted = ask(scene)
    if isinstance(wanted, str):
        raise Refused(wanted, 404)
    view = View.from_dict({"model": name, "set_a": key})
    page = asked.office.prefix

    def so_far(answers: Answers) -> Any:
        now = result_of(answers, wanted.unit, CheckUpNow)
        if now is None:
            return None
        rows = [each.as_json(link_of(each, view, page)) for each in now.findings[after : after + limit]]
        return {"findings": fitting(rows), "checked": len(now.checked), "rules": len(RULES), "doing": now.doing}

    found = asked.result(wanted.unit, CheckUp, so_far)
    told = found.as_json([link_of(each, view, page) for each in found.findings])
    shown = fitting(told["findings"][after : after + limit])
    end = after + len(shown)
    more = address_of(asked.path, asked.given.texts, after=end) if end < len(found.findings) else None
    head = {**about(scene.info_of("a"), name), "set": key, "pictures": found.pictures}
    counts = {"findings_in_all": len(found.findings), "notes": list(found.notes), "seconds": found.seconds}
    return {**head, **counts, "findings": shown, "checked": fitting(told["checked"]), "next": more}


def link_of(finding: Finding, view: View, page: str) -> str:
    """The address, below the server's, at which the page shows it to a person."""
    return f"{page}?{view.but(**changes_for(finding)).to_query()}"


def comparison(asked: Asked) -> dict[str, Any]:
    """How far two sides are apart at every layer, and where they part first."""
    limit = asked.given.whole("limit", ROWS, 1, MOST_ROWS)
    after = asked.given.whole("after", 0, 0, 10**6)
    usual = asked.given.choice("usual", ("yes", "no"), "yes") == "yes"
    scene = asked.scene(**_sides(asked))
    units = distances(scene)
    if not units:
        raise Refused("One of the two pictures is no longer here. Give both anew.", 404)
    parting = units["parting"]
    compared = units.get("usual") if usual else None  # though it may be kept: the same question has the same answer
    wanted = [parting, *([compared] if compared else [])]

    def table(answers: Answers) -> Any:
        found = result_of(answers, parting, Parting)
        return None if found is None else _table(asked, found, _usual(answers, compared, scene), after, limit)

    answers = asked.results(*wanted, known=table)
    model_b = scene.view.model_of("b")
    sides = {
        "a": {**about(scene.info_of("a"), scene.view.model), "input": scene.view.a, "prepare": _prepared(scene, "a")},
        "b": {**about(scene.info_of("b"), model_b), "input": scene.view.b, "prepare": _prepared(scene, "b")},
    }
    return {**sides, **table(answers)}


def _prepared(scene: Scene, side: str) -> str | None:
    return scene.side(side).preparation.write() or None


def _sides(asked: Asked) -> dict[str, Any]:
    """The view of both sides; B's picture is A's where only the model or the preparation is another.

    Raises:
        Refused: nothing tells the two apart.
    """
    a = asked.input_key("a")
    differs = [name for name in ("model_b", "prepare_a", "prepare_b") if name in asked.given.texts]
    if "b" not in asked.given.texts and not differs:
        raise Refused("Give a second side: another picture as b, another model as model_b, or prepare_b.")
    sides = {
        "model": asked.model_name(),
        "model_b": asked.model_name("model_b") if "model_b" in asked.given.texts else "",
        "a": a,
        "b": asked.input_key("b") if "b" in asked.given.texts else a,
        "prepare_a": asked.preparation("prepare_a"),
        "prepare_b": asked.preparation("prepare_b"),
    }
    pixels = [found.digest for key in (a, sides["b"]) if (found := asked.office.service.inputs.get(key))]
    one_model, one_way = sides["model_b"] in ("", sides["model"]), sides["prepare_a"] == sides["prepare_b"]
    if one_model and one_way and len(set(pixels)) == 1:
        raise Refused(SAME_SIDES)
    return sides


def _usual(answers: Answers, unit: Unit | None, scene: Scene) -> Calibration | None:
    """How far any two photographs are apart, if that was asked for and is known."""
    if unit is None:
        return None
    found: Calibration | None = result_of(answers, unit, Calibration)
    return found or scene.service.value(unit)


def _table(asked: Asked, found: Parting, usual: Calibration | None, after: int, limit: int) -> dict[str, Any]:
    rows = [_row(each, usual is not None, value) for each, value in _valued(found, usual)]
    shown = fitting(rows[after : after + limit])
    end = after + len(shown)
    first = first_parting(found, usual) if (usual or found.models == 2) and not found.by_distribution else None
    place = None
    if first is not None and first.call is not None:
        place = {
            **_place(first.call),
            "before": _place(first.before) if first.before else None,
            "channels": first.channels[:CARRIERS],
            "channels_in_all": len(first.channels),
            "share": first.share,
        }
    return {
        "first": place,
        "parts": None if first is None else first.call is not None,
        "threshold": None if first is None else threshold_of(found),
        "measured": "shift" if found.by_distribution else "calibrated" if usual else "distance",
        "layers": shown,
        "layers_in_all": len(rows),
        "next": address_of(asked.path, asked.given.texts, after=end) if end < len(rows) else None,
    }


def _valued(found: Parting, usual: Calibration | None) -> list[tuple[PartedCall, float]]:
    values = along_the_depth(found, usual)
    return [(each, values[each.place]) for each in found.steps]


def _row(each: PartedCall, calibrated: bool, value: float) -> dict[str, Any]:
    return {
        **_place(each),
        "distance": each.distance,
        "calibrated": value if calibrated else None,
        "cosine_distance": each.cosine,
        "sqnr_db": each.sqnr,
        "shift": each.shift,
        "left_out": each.left_out,
        "why_none": each.reason or None,
    }


def _place(each: PartedCall) -> dict[str, Any]:
    return {"layer": key_of(each.layer), "call": each.call}
