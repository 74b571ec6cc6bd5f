"""Links to the tables of what was found over a set."""

from __future__ import annotations

from urllib.parse import quote

from dash import html

from hookscope.dashboard.panels.pictures.looked import Looked


def csv_link(looked: Looked, table: str, text: str = "CSV", help_text: str = "", **more: str) -> html.A:
    """A link to one of a set's tables; see `web.set_tables`.

    Arguments:
        table: its name. more: what else it is asked about.
    """
    asked = {"model": looked.model, **more}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items())
    address = f"{looked.scene.prefix}set/{looked.pictures.key}/{table}.csv?{query}"
    return html.A(text, href=address, download=f"{table}.csv", className="link live-only", title=help_text or None)
