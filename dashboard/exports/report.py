"""The whole view as one HTML file that opens without a server and without a network.

The page is a layout and the updates that its parts give; the file is the same layout with the same updates, written out
once, with every picture inside it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

import dash_ag_grid as dag
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.answers.service import Service, draw
from hookscope.dashboard.asking.answers import Answer
from hookscope.dashboard.components.layer_tree import LayerTree
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.tables import cell_text
from hookscope.dashboard.inputs.store import InputMissing
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.scene import Gone
from hookscope.dashboard.places import ASSETS

STYLES = ("dashboard.css", "sets.css", "findings.css", "run.css")
VOID = {"img", "br", "hr", "input"}
WORDS = {"p", "span", "strong", "label", "h1", "h2", "h3"}  # in which a button is a part of what is said
# what only works on the living page is not in the file; regions keep a distance without the page's own grid
IN_A_FILE = (
    ".links, .samples, .save, .icon, .keys, .link:not(.told), .live-only, .status { display: none !important; }"
    " :is(.link, .layer-link, .name-link, .going-link) { color: inherit !important; cursor: auto; }"
    " body { padding: 16px; } .report { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px; }"
    " .report { max-width: 1800px; margin: 0 auto; } .report-head { display: grid; gap: 2px; }"
    " .inputs:not(:has(> :nth-child(2))) { grid-template-columns: minmax(0, 1fr); }"
    " .detail { position: static; margin: 0; max-height: none; border: 1px solid var(--line); border-radius: 12px;"
    " box-shadow: none; }"
    " .plain-grid, .plain-tree > div { max-height: 300px; overflow: auto; }"
    " .plain-grid th { position: sticky; top: 0; background: var(--panel); }"
    " .plain-tree .row { display: grid; grid-template-columns: minmax(0, 1fr) 120px minmax(0, 1fr); gap: 12px; }"
    " .plain-tree .bar { align-self: center; height: 6px; background: var(--raised); border-radius: 3px; }"
    " .plain-tree .bar span { display: block; height: 100%; background: var(--metric); border-radius: 3px; }"
    " .gradient-side { display: block; } .attribution-side:not(:has(.attributions)) { display: none; }"
    " :is(.pictures-side, .findings-side, .run-side) { display: grid; gap: 12px; }"
    " .edits-bar { position: static; } .edits-bar :is(.link, .cross), .detail-edit { display: none; }"
    " .fold::before { content: none !important; } .fold, .top5 .row, .attention .cell button { cursor: default; }"
)
_DEAD_HINT = re.compile(
    r"(?:<br>| )?(?:Click to (?:show|explain|enlarge) [a-z ]+|With Shift, [a-z ]+)\."
)  # nothing can be clicked in a file


def write(title: str, head: list[Any], body: list[Any], parts: list[Part], service: Service, gallery: Gallery) -> bytes:
    """Write the file.

    Arguments:
        title: of the browser's window. head: what stands above the page: which model, when, how it is drawn.
        body: the page's layout, to which the parts' updates are applied.
        parts: everything the page shows; units that have no kept answer are shown as waiting.
    """
    root = html.Div([html.Div(head, className="report-head"), *body], className="report")
    by_id = {_id(component): component for component in _walk(root) if getattr(component, "id", None) is not None}
    for part in parts:
        values = {unit: service.value(unit) for unit in part.units}
        answers = {unit: Answer(value, cached=True) for unit, value in values.items() if value is not None}
        _, updates, _ = draw(part, answers)
        _apply(updates, by_id)
    figures: list[Any] = []
    text = _render(root, figures, lambda address: _inside(address, gallery))
    script = "".join(
        f"Plotly.newPlot('figure-{number}', {_script_json(figure, gallery)});" for number, figure in enumerate(figures)
    )
    scheme = (
        "document.documentElement.dataset.mantineColorScheme = "
        "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';"
    )
    style = "".join((ASSETS / name).read_text() for name in STYLES) + IN_A_FILE
    drawing = f"<script>{get_plotlyjs()}</script>" if figures else ""  # four megabytes
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{style}</style><script>{scheme}</script><body>{text}"
        f"{drawing}<script>{script}</script></body></html>"
    ).encode()


def _apply(updates: list[Update], by_id: dict[str, Component]) -> None:
    for component_id, properties in updates:
        component = by_id.get(_key(component_id))
        if component is None:
            continue
        for name, value in properties.items():
            setattr(component, name, value)
        for child in _walk(component):
            if getattr(child, "id", None) is not None:
                by_id[_id(child)] = child


def _key(component_id: Any) -> str:
    return component_id if isinstance(component_id, str) else json.dumps(component_id, sort_keys=True)


def _id(component: Component) -> str:
    return _key(component.id)


def _walk(node: Any) -> Iterator[Component]:
    if isinstance(node, Component):
        yield node
        yield from _walk(getattr(node, "children", None))
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _walk(child)


def _render(node: Any, figures: list[Any], inside: Callable[[str], str], inline: bool = False) -> str:
    """A component as HTML; every text escaped, every button dead, every figure a numbered place.

    Arguments:
        inline: whether it stands within a sentence.
    """
    if node is None or isinstance(node, bool):
        return ""
    if isinstance(node, list | tuple):
        return "".join(_render(child, figures, inside, inline or _says(node)) for child in node)
    if not isinstance(node, Component):
        return escape(str(node))
    if getattr(node, "hidden", False):
        return ""
    if isinstance(node, dcc.Graph):
        figures.append(node.figure)
        name = escape(getattr(node, "className", "") or "")
        return f'<div id="figure-{len(figures) - 1}" class="{name}"{_room(node.figure)}></div>'
    if isinstance(node, Markup):
        inner = "".join(_element(each, inside, _says(node.tree)) for each in node.tree)
        return f'<div class="{escape(getattr(node, "className", "") or "")}">{inner}</div>'
    if isinstance(node, dag.AgGrid):
        return _render(_plain_table(node), figures, inside)
    if isinstance(node, LayerTree):
        return _render(_plain_tree(node), figures, inside)
    if node._namespace != "dash_html_components":
        return ""
    properties = {name: value for name, value in node.to_plotly_json()["props"].items() if name != "children"}
    tag = node._type.lower()
    inner = _render(getattr(node, "children", None), figures, inside, tag in WORDS)
    return _tagged(tag, properties, inner, inside, inline)


def _says(nodes: Sequence[Any]) -> bool:
    """Whether text stands between them."""
    return any(isinstance(each, str) and each.strip() for each in nodes)


def _plain_table(grid: dag.AgGrid) -> html.Div:
    """A table that sorts, as one that does not."""
    columns = grid.columnDefs
    head = html.Tr([html.Th(column["headerName"], title=column["headerTooltip"]) for column in columns])
    body = [html.Tr([html.Td(cell_text(column, row)) for column in columns]) for row in grid.rowData]
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="statistics plain-grid")


def _plain_tree(tree: LayerTree) -> html.Div | None:
    """The layers with the bars that the tree shows, if it shows any: what runs, whole and in order."""
    bars, said = getattr(tree, "metric", None), getattr(tree, "metric_texts", None)
    if not bars or not said:
        return None
    rows = [
        html.Div(
            [
                html.Span(node["name"] or node["label"], className="mono", title=node["type"]),
                html.Span(html.Span(style={"width": f"{min(max(bar, 0), 1):.0%}"}), className="bar"),
                html.Span(text, className="muted"),
            ],
            className="row",
        )
        for node, bar, text in zip(tree.nodes, bars, said, strict=True)
        if bar is not None
    ]
    return html.Div(html.Div(rows), className="panel plain-tree")


def _element(node: Any, inside: Callable[[str], str], inline: bool = False) -> str:
    """One node of a `Markup`'s tree as HTML."""
    if isinstance(node, str):
        return escape(node)
    tag, attributes, children = node
    within = tag in WORDS or _says(children)
    return _tagged(tag, attributes, "".join(_element(child, inside, within) for child in children), inside, inline)


def _tagged(tag: str, properties: dict[str, Any], inner: str, inside: Callable[[str], str], inline: bool) -> str:
    if tag in ("button", "a"):  # nothing can be asked of a file
        tag = "span" if inline else "div"  # a div would end the sentence's line
    attributes = []
    for name in ("className", "title", "alt", "src"):
        if value := properties.get(name):
            value = inside(value) if name == "src" else _DEAD_HINT.sub("", str(value)) if name == "title" else value
            attributes.append(f' {"class" if name == "className" else name}="{escape(str(value))}"')
    if style := properties.get("style"):
        attributes.append(f' style="{escape("; ".join(f"{_css(name)}: {value}" for name, value in style.items()))}"')
    start = f"<{tag}{''.join(attributes)}>"
    return start if tag in VOID else f"{start}{inner}</{tag}>"


def _room(figure: Any) -> str:
    """The style of a picture that was laid out for one width: in a window of any width it keeps its proportions."""
    width, height = (figure.layout.width, figure.layout.height) if isinstance(figure, go.Figure) else (None, None)
    return f' style="aspect-ratio: {width} / {height}"' if width and height else ""


def _css(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: "-" + letter[0].lower(), name)


def _inside(address: str, gallery: Gallery) -> str:
    """A picture's bytes in place of its address, "" if what it was drawn from is no longer kept."""
    try:
        item = gallery.get(address.rsplit("/", 1)[-1])
    except (Gone, InputMissing):
        return ""
    return f"data:{item.media_type};base64,{base64.b64encode(item.data).decode()}" if item else ""


def _script_json(figure: Any, gallery: Gallery) -> str:
    plain = json.loads(to_json_plotly(figure))
    if plain["layout"].pop("width", None):  # the file's windows are of any width: the element gives both, see `_room`
        plain["layout"].pop("height")
    for image in plain.get("layout", {}).get("images", []):
        image["source"] = _inside(image["source"], gallery)
    config = {"displaylogo": False, "displayModeBar": False, "responsive": True}
    # "</script" would end the script, and "<!--" with "<script" would keep it from ending
    texts = [
        _DEAD_HINT.sub("", json.dumps(part)).replace("<", "\\u003c")
        for part in (plain["data"], plain["layout"], config)
    ]
    return ", ".join(texts)
