"""Markup: a region of the page whose plain HTML is one component, however many elements it has.

Dash wraps every element in a component that listens to every change of the page; a table of sixty cells in each of ten
cards made a click slow. `Markup` takes the elements as one property and draws them itself (assets/markup.js). Text
stays text: nothing in it is ever read as HTML.
"""

from __future__ import annotations

from typing import Any, ClassVar

from dash.development.base_component import Component

TEXT_TAGS = ("a", "abbr", "button", "details", "div", "h2", "h3", "img", "p", "span", "strong", "summary")
TABLE_TAGS = ("table", "tbody", "td", "th", "thead", "tr")
TAGS = frozenset((*TEXT_TAGS, *TABLE_TAGS))


class Markup(Component):
    """A region of plain elements.

    Args:
        id: the component's id.
        children: html components, text, or a list of them; they become `tree`, see `plain`.
        className, hidden, role: of the region's own element.
    """

    _children_props: ClassVar[list[str]] = []
    _base_nodes: ClassVar[list[str]] = ["children"]
    _namespace = "hookscope"
    _type = "Markup"
    _prop_names: ClassVar[list[str]] = ["id", "tree", "className", "hidden", "role"]
    _valid_wildcard_attributes: ClassVar[list[str]] = []
    available_properties = _prop_names
    available_wildcard_properties: ClassVar[list[str]] = []

    def __init__(
        self,
        id: str | dict[str, Any],
        children: Any = None,
        *,
        className: str = "",
        hidden: bool = False,
        role: str | None = None,
    ) -> None:
        props = {"id": id, "tree": to_markup(children), "className": className, "hidden": hidden, "role": role}
        super().__init__(**{name: value for name, value in props.items() if value is not None})


def to_markup(children: Any) -> list[Any]:
    """Html components as what the browser draws: text, or `[tag, attributes, children]`.

    Raises:
        ValueError: something else than plain elements and text.
    """
    if children is None or children is False:
        return []
    if isinstance(children, list | tuple):
        return [item for child in children for item in to_markup(child)]
    if not isinstance(children, Component):
        return [str(children)]
    tag = children._type.lower()
    if children._namespace != "dash_html_components" or tag not in TAGS:
        raise ValueError(f"{children._type} is no plain element")
    properties = children.to_plotly_json()["props"]
    attributes = {name: value for name, value in properties.items() if name != "children" and value is not None}
    return [[tag, attributes, to_markup(properties.get("children"))]]
