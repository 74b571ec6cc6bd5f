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
from hookscope.dashboard.sets.outlying import NOT_SEEN, Outlying, outliers_from, outliers_of
from hookscope.dashboard.sets.stored import STORED
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.set_answers import Answers
from hookscope.hooks.results.sweeps import Sweep

Act = Callable[[Sweeps, PictureSet, str], flask.Response]
OUTLIERS_SECONDS = 10.0
OUTLIERS_NOT_YET = "The outliers are still being computed. Ask again in a moment."
NO_BASELINE = "There is no stored baseline of this model here. Whoever runs the server gives one with --baseline."
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
            now = runs.progress(pictures, model).now
            unread = now.unread if now else ()
            return _csv(set_tables.answers_csv(pictures, answers, info.names() if info else (), unread))

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
                raise SetMissing(NOT_SEEN)
            try:
                top = found.top(layer, call)
            except LayerNotExecuted as missing:
                raise SetMissing(str(missing)) from missing
            field = service.value(Unit(Side(model, NO_PICTURE), FieldOf(layer, call)))
            known = field if isinstance(field, ReceptiveField) else None
            return _csv(set_tables.galleries_csv(pictures, top, found.frames, known, _fired(found, layer, call)))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/silent.csv")
    def silent_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            found = runs.found(pictures, model)
            if found is None:
                raise SetMissing(NOT_SEEN)
            return _csv(set_tables.silent_csv(found.statistics))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/outliers.csv")
    def outliers_table(key: str) -> flask.Response:
        """Against a set of another key or the stored baseline, or each picture against the others."""

        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            against = flask.request.args.get("against", "")
            if against == STORED:
                found, name = _from_stored(runs, service, pictures, model)
            else:
                other = runs.store.get(against) if against else pictures
                found = outliers_of(runs, pictures, other, model, OUTLIERS_SECONDS)
                name = "the other pictures" if other.key == pictures.key else other.name
            if found is None:
                return flask.Response(f"{OUTLIERS_NOT_YET}\n", 503, {"Retry-After": "1"}, mimetype="text/plain")
            if isinstance(found, str):
                raise SetMissing(found)
            answers, info = _answers(runs, service, pictures, model)
            return _csv(outliers_csv(pictures, found.scores, answers, info.names() if info else (), name))

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


def _fired(found: Sweep, layer: str, call: int) -> np.ndarray | None:
    """In how many pictures each channel of a layer fires; None if that was not counted."""
    place = found.place_of(layer, call)
    return next((each.fired for each in found.statistics if (each.layer, each.call) == place), None)


def _from_stored(
    sweeps: Sweeps, service: Service, pictures: PictureSet, model: str
) -> tuple[Outlying | str | None, str]:
    """How far a set is from the model's stored baseline, and what that is.

    Raises:
        SetMissing: there is none, or it cannot be used.
    """
    info = service.state(model).info
    stored = None if info is None else sweeps.baselines.of(model, info.module)
    if stored is None:
        raise SetMissing(NO_BASELINE)
    if isinstance(stored, str):
        raise SetMissing(stored)
    return outliers_from(sweeps, pictures, stored, model, OUTLIERS_SECONDS), stored.name


def _csv(text: str) -> flask.Response:
    return flask.Response(text, mimetype="text/csv")
