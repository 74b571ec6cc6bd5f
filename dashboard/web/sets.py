"""What the browser asks about sets of pictures, by keys and numbers alone: begin, stop, a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import flask
import numpy as np

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.inputs.store import InputMissing, InputRefused
from hookscope.dashboard.sets import labels
from hookscope.dashboard.sets.alike import nearest_right
from hookscope.dashboard.sets.members import PictureSet, SetMissing
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.web import set_maps, set_tables

NO_LABEL = "Nobody says what the picture in A shows, so there is none of its class to stand here."
NOT_ALIKE = "Which pictures are alike to this model is not known, so none of the same class stands here."
NONE_RIGHT = "No other picture of {} is answered rightly, so none of its class stands here beside A."


def register(server: flask.Flask, prefix: str, service: Service, models: Sequence[str]) -> None:
    """Put the routes on a server, all below `prefix`; none without sets."""
    sweeps = service.sweeps
    if sweeps is None:
        return

    def asked(key: str) -> tuple[Sweeps, PictureSet, str]:
        model = flask.request.args.get("model", "")
        if model not in models:
            raise SetMissing("This server does not offer that model. Choose one in the page's header.")
        return sweeps, sweeps.store.get(key), model

    def answered(key: str, act: Callable[[Sweeps, PictureSet, str], flask.Response]) -> flask.Response:
        """What came of it, or the sentence that says why it cannot be."""
        try:
            return act(*asked(key))
        except (SetMissing, InputMissing) as missing:
            return _sentence(404, str(missing))
        except InputRefused as refused:
            return _sentence(refused.status, str(refused))

    @server.post(f"{prefix}set/<key>/<any(start, stop):what>")
    def run_sweep(key: str, what: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            (runs.start if what == "start" else runs.stop)(pictures, model)
            return flask.Response(status=204)

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/progress")
    def progress(key: str) -> flask.Response:
        """How far a sweep is, for programs; see `sets.sweeps.Progress`."""

        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            now = runs.progress(pictures, model)
            told = {name: getattr(now, name) for name in ("phase", "sentence", "seen", "total", "saved", "lost")}
            return flask.Response(json.dumps(told), mimetype="application/json")

        return answered(key, act)

    @server.post(f"{prefix}set/<key>/open/<int:number>")
    def open_member(key: str, number: int) -> flask.Response:
        """The picture as an input, and beside it the one asked for, or the most like it that is answered rightly; a
        sentence where there is none of these. A negative number asks for none.
        """

        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            wanted = flask.request.args.get("beside", type=int)
            beside, said = _beside(runs, service, pictures, model, number) if wanted is None else (wanted, "")
            keys = [
                "" if each is None or each < 0 else runs.store.as_input(pictures.version, each).key
                for each in (number, beside)
            ]
            return flask.Response(json.dumps({"a": keys[0], "b": keys[1], "said": said}), mimetype="application/json")

        return answered(key, act)

    set_tables.register(server, prefix, service, answered)
    set_maps.register(server, prefix, service, answered)


def _beside(sweeps: Sweeps, service: Service, pictures: PictureSet, model: str, number: int) -> tuple[int | None, str]:
    """The picture of the same class most like a picture that is answered rightly; or why there is none, "" where
    nobody expects one.
    """
    found = sweeps.found(pictures, model)
    info = service.state(model).info
    if found is None or info is None or not 0 <= number < len(pictures.members):
        return None, ""
    classes = labels.match(pictures.groups, info.names())
    known = np.array([classes.get(member.group, labels.NOT_KNOWN) for member in pictures.members], np.int64)
    if found.answers is None or (known == labels.NOT_KNOWN).all():
        return None, ""
    if known[number] == labels.NOT_KNOWN:
        return None, NO_LABEL
    if not found.features:
        return None, NOT_ALIKE
    beside = nearest_right(found, known, number)
    return beside, "" if beside is not None else NONE_RIGHT.format(info.names()[known[number]])


def _sentence(status: int, text: str) -> flask.Response:
    return flask.Response(text + "\n", status, mimetype="text/plain")
