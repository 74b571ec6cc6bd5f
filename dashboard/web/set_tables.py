"""The tables of what was found over a set, for whoever saves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import flask
import numpy as np

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import FieldOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.exports import set_tables
from hookscope.dashboard.exports.outlier_table import outliers_csv
from hookscope.dashboard.panels.pictures.strips import NO_PICTURE
from hookscope.dashboard.sets import labels
from hookscope.dashboard.sets.members import PictureSet, SetMissing
from hookscope.dashboard.sets.outlying import outliers_of
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.set_answers import Answers

Act = Callable[[Sweeps, PictureSet, str], flask.Response]
OUTLIERS_SECONDS = 10.0
OUTLIERS_NOT_YET = "The outliers are still being computed. Ask again in a moment."
NOT_YET = "How far the two sets are apart is still being computed. Ask again in a moment."


def register(
    server: flask.Flask, prefix: str, service: Service, answered: Callable[[str, Act], flask.Response]
) -> None:
    """Put the routes on a server, all below `prefix`.

    Arguments:
        answered: does what a route does for a set of that key, or says why it cannot be done.
    """

    @server.get(f"{prefix}set/<key>/answers.csv")
    def answers_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            answers, info = _answers(runs, service, pictures, model)
            return _csv(set_tables.answers_csv(pictures, answers, info.names() if info else ()))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/confusion.csv")
    def confusion_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            answers, info = _answers(runs, service, pictures, model)
            return _csv(set_tables.confusion_csv(answers, info.names() if info else ()))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/galleries.csv")
    def galleries_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            layer, call = parse_key(flask.request.args.get("layer", ""))
            found = runs.found(pictures, model)
            if found is None:
                raise SetMissing("This set has not been looked through in this model yet.")
            try:
                top = found.top(layer, call)
            except LayerNotExecuted as missing:
                raise SetMissing(str(missing)) from missing
            field = service.value(Unit(Side(model, NO_PICTURE), FieldOf(layer, call)))
            known = field if isinstance(field, ReceptiveField) else None
            return _csv(set_tables.galleries_csv(pictures, top, found.frames, known))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/outliers.csv")
    def outliers_table(key: str) -> flask.Response:
        """Against a set of another key, or each picture against the others."""

        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            against = flask.request.args.get("against", "")
            other = runs.store.get(against) if against else pictures
            found = outliers_of(runs, pictures, other, model, OUTLIERS_SECONDS)
            if found is None:
                return flask.Response(f"{OUTLIERS_NOT_YET}\n", 503, {"Retry-After": "1"}, mimetype="text/plain")
            if isinstance(found, str):
                raise SetMissing(found)
            answers, info = _answers(runs, service, pictures, model)
            return _csv(outliers_csv(pictures, found.scores, answers, info.names() if info else ()))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/gaps.csv")
    def gaps_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            other = runs.store.get(flask.request.args.get("against", ""))
            found = runs.gaps(pictures, other, model)
            if found is None:
                return flask.Response(f"{NOT_YET}\n", 503, {"Retry-After": "1"}, mimetype="text/plain")
            if isinstance(found, str):
                raise SetMissing(found)
            return _csv(set_tables.gaps_csv(found))

        return answered(key, act)


def _answers(
    sweeps: Sweeps, service: Service, pictures: PictureSet, model: str
) -> tuple[Answers | None, ModelInfo | None]:
    """What the model answered so far, each picture with the class that it is said to show."""
    now, info = sweeps.progress(pictures, model).now, service.state(model).info
    if now is None or now.answers is None or info is None:
        return None, info
    classes = labels.match(pictures.groups, info.names())
    known = np.array([classes.get(member.group, labels.NOT_KNOWN) for member in pictures.members], np.int64)
    return replace(now.answers, labels=known[now.answers.pictures]), info


def _csv(text: str) -> flask.Response:
    return flask.Response(text, mimetype="text/csv")
