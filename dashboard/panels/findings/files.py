"""A check-up as a file, and as a command for CI."""

from __future__ import annotations

import json
import shlex
from functools import partial

from dash import html

from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.panels.findings.asked import Asked
from hookscope.hooks.results.findings import CheckUp


def as_json(asked: Asked, found: CheckUp) -> html.A:
    """A link to all of it, as `hookscope check --json` writes it."""
    name = f"hookscope-findings-{file_name(asked.looked.title)}.json"
    draw = partial(_json, found)
    address = asked.looked.scene.file(("findings", asked.unit, found.seconds), draw, "application/json", name)
    return html.A("JSON", href=address, download=name, className="link live-only")


def _json(found: CheckUp) -> bytes:
    return json.dumps(found.as_json(), indent=2, ensure_ascii=False).encode()


def in_ci(asked: Asked) -> html.Details:
    """The same check as a command; what it names only the operator knows."""
    images = "" if asked.reference or asked.looked.pictures.key.startswith("set-reference") else " --images FOLDER"
    command = f"python -m hookscope check --model {shlex.quote(asked.looked.info.spec)}{images} --fail-on warning"
    text = (
        "The same rules on the command line, with the options that this page was started with; it exits with 1 where "
    )
    return html.Details(
        [
            html.Summary("check in CI", title="The command that does the same"),
            html.Div(
                [html.P(f"{text}something is found."), html.P(command, className="sentence code")], className="menu"
            ),
        ],
        className="save ci live-only",
    )
