"""What the browser asks about runs, by their names alone: whether there is anything new, and the numbers as a table.

GET feed/now?a=NAME&b=NAME       ->  {"token", "ages"}
GET feed/NAME/numbers.csv?column=g.norm
GET feed/NAME/steps.csv
"""

from __future__ import annotations

import json
import time

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.exports.run_table import curves_csv, numbers_csv
from hookscope.dashboard.feeds.series import OWN
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.panels.run.head import age_in_words
from hookscope.hooks.results.feeds import PLACES

NO_COLUMN = "There is no such column. Name one as docs/feed.md lists them, such as column=g.norm or column=a.rms."


def register(server: flask.Flask, prefix: str, service: Service) -> None:
    """Put the routes on a server, all below `prefix`; none without runs."""
    feeds = service.feeds
    if feeds is None:
        return

    @server.get(f"{prefix}feed/now")
    def now() -> flask.Response:
        """Asked several times a second while the tab is open, so it reads no more than what is new."""
        return flask.Response(json.dumps(_now(feeds, flask.request.args)), mimetype="application/json")

    @server.get(f"{prefix}feed/<name>/numbers.csv")
    def numbers(name: str) -> flask.Response:
        found = feeds.look(name)
        if isinstance(found, str):
            return _sentence(404, found)
        group, _, column = flask.request.args.get("column", "g.norm").partition(".")
        if (group, column) not in PLACES and not (group == OWN and column in found.kept.own_names()):
            return _sentence(404, NO_COLUMN)
        return flask.Response(numbers_csv(found, group, column), mimetype="text/csv")

    @server.get(f"{prefix}feed/<name>/steps.csv")
    def steps(name: str) -> flask.Response:
        found = feeds.look(name)
        if isinstance(found, str):
            return _sentence(404, found)
        return flask.Response(curves_csv(found), mimetype="text/csv")


def _now(feeds: Feeds, asked: dict[str, str]) -> dict[str, object]:
    tokens: list[str] = []
    ages: list[str] = []
    for side in ("a", "b"):
        name = asked.get(side, "")
        if not name and (side == "b" or not feeds.names):
            continue
        found = feeds.look(name or feeds.names[0])
        tokens.append(found if isinstance(found, str) else found.token)
        newest = None if isinstance(found, str) else found.newest
        ages.append("" if newest is None else age_in_words(time.time() - newest.time))
    return {"token": " ".join(tokens), "ages": ages}


def _sentence(status: int, text: str) -> flask.Response:
    return flask.Response(text + "\n", status, mimetype="text/plain")
