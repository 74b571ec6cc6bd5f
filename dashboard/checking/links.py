"""Where a finding is seen on the page: the part of an address behind the `?`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from urllib.parse import urlencode

from hookscope.dashboard.page.finding_links import changes_for
from hookscope.dashboard.page.view import View
from hookscope.hooks.results.findings import Finding

OWN = tuple(field.name for field in fields(View))


def link_of(finding: Finding, model: str, key: str, pictures: Sequence[str] = ()) -> str:
    """A query string that holds after the address of a page started with the same `--model` and `--images`.

    Arguments:
        model: its name, as it was given. key: of the set. pictures: of each, how the page asks for it as an input; ""
            where only the set has it.
    """
    changes = {"model": model, "set_a": key, **changes_for(finding)}
    shown = finding.picture if 0 <= finding.picture < len(pictures) else 0
    if pictures and pictures[shown]:
        changes["a"] = pictures[shown]
    if "prepare_b" in changes and "a" in changes:
        changes["b"] = changes["a"]
    view = View.from_dict({name: value for name, value in changes.items() if name in OWN})
    # what is a panel's own: its states are not known where there is no page
    others = [(name, str(value)) for name, value in changes.items() if name not in OWN]
    return "&".join(filter(None, [view.to_query(), urlencode(others)]))
