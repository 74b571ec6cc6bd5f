"""What the browser asks about a set's map: its small pictures by number, and the tables of map and variety."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import flask
import numpy as np

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.exports.set_maps import information_csv, plane_csv
from hookscope.dashboard.sets import labels
from hookscope.dashboard.sets.embeddings import plane_of
from hookscope.dashboard.sets.members import PictureSet, SetMissing
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.sets.variety import variety_of
from hookscope.hooks.results.set_answers import Answers

Act = Callable[[Sweeps, PictureSet, str], flask.Response]
PATIENCE_SECONDS = 20.0  # t-SNE of all points that it is asked of takes a few
KEPT_SECONDS = 3_600  # by a browser: the address names the set's version
NOT_YET = "This is still being computed. Ask again in a moment."


def register(
    server: flask.Flask, prefix: str, service: Service, answered: Callable[[str, Act], flask.Response]
) -> None:
    """Put the routes on a server, all below `prefix`.

    Arguments:
        answered: does what a route does for a set of that key, or says why it cannot be done.
    """

    @server.get(f"{prefix}set/<key>/small/<int:number>")
    def small(key: str, number: int) -> flask.Response:
        """A small copy of a picture; of a map's thousands none has an address of its own in the page's gallery."""

        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            headers = {"Cache-Control": f"private, max-age={KEPT_SECONDS}"}
            return flask.Response(runs.store.preview(pictures.version, number), headers=headers, mimetype="image/jpeg")

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/embedding.csv")
    def embedding_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            asked, method = flask.request.args, flask.request.args.get("by", "pca")
            if method not in ("pca", "tsne"):
                raise SetMissing("There is no such map. Choose one on the page.")
            layer = asked.get("layer", "")
            plane = plane_of(runs, pictures, model, layer, "tsne" if method == "tsne" else "pca", PATIENCE_SECONDS)
            if plane is None:
                return _not_yet()
            if isinstance(plane, str):
                raise SetMissing(plane)
            info = service.state(model).info
            names = info.names() if info else ()
            return _csv(plane_csv(pictures, plane, _answers(runs, pictures, model, names), names))

        return answered(key, act)

    @server.get(f"{prefix}set/<key>/information.csv")
    def information_table(key: str) -> flask.Response:
        def act(runs: Sweeps, pictures: PictureSet, model: str) -> flask.Response:
            told = variety_of(runs, pictures, model, PATIENCE_SECONDS)
            if told is None:
                return _not_yet()
            if isinstance(told, str):
                raise SetMissing(told)
            return _csv(information_csv(told.flow))

        return answered(key, act)


def _answers(runs: Sweeps, pictures: PictureSet, model: str, names: tuple[str, ...]) -> Answers | None:
    """What the model answered so far, each picture with the class that it is said to show."""
    now = runs.progress(pictures, model).now
    if now is None or now.answers is None:
        return None
    classes = labels.match(pictures.groups, names)
    known = np.array([classes.get(member.group, labels.NOT_KNOWN) for member in pictures.members], np.int64)
    return replace(now.answers, labels=known[now.answers.pictures])


def _not_yet() -> flask.Response:
    return flask.Response(f"{NOT_YET}\n", 503, {"Retry-After": "1"}, mimetype="text/plain")


def _csv(text: str) -> flask.Response:
    return flask.Response(text, mimetype="text/csv")
