"""The layer tree: a Dash component over a flat, pre-order list of layers.

The browser's half is `assets/layer_tree*.js` (React, no build step), which Dash loads with the other assets; this class
only names the component's properties, so there is no package of scripts to serve. `tree_nodes` turns recorded layers
into what the browser needs to draw.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, ClassVar

from dash.development.base_component import Component

from hookscope.dashboard.asking.layer_keys import key_of, parse_key
from hookscope.hooks.results.looks import Call, LayerInfo

OPERATION = "/"  # before the operation, in the names that `passes.operations` gives

MAX_CALL_ROWS = 64  # a recurrent cell may run thousands of times; the URL reaches the calls that get no row

_KINDS = {
    "conv": re.compile(r"conv", re.IGNORECASE),
    "norm": re.compile(r"norm", re.IGNORECASE),
    "act": re.compile(
        r"elu|silu|swish|mish|sigmoid|tanh|softmax|softmin|softplus|softsign|shrink|glu$|(?-i:Act(ivation)?(?![a-z]))",
        re.IGNORECASE,
    ),
}
_PLAIN_CONTAINERS = {"Sequential", "ModuleList"}


class LayerTree(Component):
    """A searchable tree of layers in which several can be selected.

    What a person selects is told by a DOM event, "layerschosen", which bubbles up from the tree before Dash learns of
    it. Its `detail` is `{keys: [...], mode: "replace" | "toggle", selected: [...]}`. "replace": `keys` is the whole new
    selection; "toggle": `keys` went in or came out. `selected` is what the property will be.

    Args:
        id: the component's id.
        nodes: what `tree_nodes` returns.
        selected: keys of the selected layers (see `key_of`), in the order of selection. Keys that come from outside
            (the URL, another panel) open their branches and scroll into view.
        search: the text in the search box (written 250 ms after the last key).
        open: keys of the open branches; None opens the first two levels.
        column: what the right column shows: "shape", "params" or "macs".
        metric: one number 0..1, or None, per node, drawn as a bar; None draws no bars.
        metric_texts: what each node's bar stands for, a line of its tooltip; "" for none.
        worst: places of the nodes that can be walked and sorted by that number, the most alarming first.
        alarms: how many of those a closed branch warns of.
        alarm_text: what such a node has, e.g. "share of zeros 100 %".
        missing: why there are no nodes, if they will not come by themselves.
    """

    _children_props: ClassVar[list[str]] = []
    _base_nodes: ClassVar[list[str]] = ["children"]
    _namespace = "hookscope"
    _type = "LayerTree"
    _prop_names: ClassVar[list[str]] = [
        "id",
        "nodes",
        "selected",
        "search",
        "open",
        "column",
        "metric",
        "metric_texts",
        "worst",
        "alarms",
        "alarm_text",
        "missing",
    ]
    _valid_wildcard_attributes: ClassVar[list[str]] = []
    available_properties = _prop_names
    available_wildcard_properties: ClassVar[list[str]] = []

    def __init__(
        self,
        id: str | dict[str, Any] | None = None,
        *,
        nodes: Sequence[dict[str, Any]] = (),
        selected: Sequence[str] = (),
        search: str = "",
        open: Sequence[str] | None = None,
        column: str = "shape",
        metric: Sequence[float | None] | None = None,
        metric_texts: Sequence[str] | None = None,
        worst: Sequence[int] | None = None,
        alarms: int | None = None,
        alarm_text: str | None = None,
        missing: str = "",
    ) -> None:
        props: dict[str, Any] = {
            "id": id,
            "nodes": list(nodes),
            "selected": list(selected),
            "search": search,
            "open": None if open is None else list(open),
            "column": column,
            "metric": None if metric is None else list(metric),
            "metric_texts": None if metric_texts is None else list(metric_texts),
            "worst": None if worst is None else list(worst),
            "alarms": alarms,
            "alarm_text": alarm_text,
            "missing": missing,
        }
        super().__init__(**{name: value for name, value in props.items() if value is not None})


def tree_nodes(
    layers: Sequence[LayerInfo], title: str = "", advice: tuple[str, str] = ("", "")
) -> list[dict[str, Any]]:
    """The layers as the browser draws them: one dict per layer, parents before children (pre-order).

    Siblings keep the order in which `layers` names them; the functional operations of a module stand between its
    children, each after those that ran before it. A layer whose parent is not listed hangs from its nearest listed
    ancestor.

    Args:
        layers: every module of the model, and its operations, as the recorded run saw them.
        title: what the root shows instead of its class name.
        advice: the key of the layer that is recommended, and why, as a sentence.
    """
    by_name = {layer.name: layer for layer in layers}
    siblings: dict[str | None, list[LayerInfo]] = {}
    for layer in by_name.values():
        siblings.setdefault(_parent(layer, by_name), []).append(layer)
    children = {parent: [layer.name for layer in _in_order(layers)] for parent, layers in siblings.items()}

    nodes: list[dict[str, Any]] = []
    stack: list[tuple[str, int, str]] = [(name, 0, "") for name in reversed(children.get(None, []))]
    while stack:
        name, depth, parent = stack.pop()
        below = children.get(name, [])
        nodes.append(_node(by_name[name], [by_name[child] for child in below], depth, parent, title))
        stack.extend((child, depth + 1, name) for child in reversed(below))
    _mark_kinds(nodes)
    recommended, why = advice
    for node in nodes:
        if why and node["key"] == key_of(*parse_key(recommended)[:1]):
            node["advice"] = why
    return nodes


def _in_order(siblings: Sequence[LayerInfo]) -> list[LayerInfo]:
    """The layers of one parent: modules as they are listed, and each operation after what ran before it."""
    modules = [layer for layer in siblings if not (layer.operation and layer.calls)]
    operations = sorted((layer for layer in siblings if layer.operation and layer.calls), key=_first)
    # The last module that ran before an operation is found by the earliest run from each module on, which only grows:
    # to look at every sibling for every operation takes a minute for 20,000 of them.
    earliest = list(accumulate(map(_first, reversed(modules)), min))[::-1]
    after: list[list[LayerInfo]] = [[] for _ in range(len(modules) + 1)]  # [n]: what stands behind n modules
    place = 0
    for operation in operations:
        place = max(place, bisect_left(earliest, _first(operation)))
        after[place].append(operation)
    return after[0] + [layer for module, behind in zip(modules, after[1:], strict=True) for layer in (module, *behind)]


def _first(layer: LayerInfo) -> float:
    """When a layer's first call ended; infinite for one that never ran."""
    return layer.calls[0].order if layer.calls else math.inf


def _parent(layer: LayerInfo, listed: dict[str, LayerInfo]) -> str | None:
    name = layer.name
    if layer.operation and (module := name.rpartition(OPERATION)[0]) in listed:
        return module
    parts = name.split(".") if name else []
    for end in range(len(parts) - 1, -1, -1):
        ancestor = ".".join(parts[:end])
        if ancestor in listed:
            return ancestor
    return None


def _node(layer: LayerInfo, below: Sequence[LayerInfo], depth: int, parent: str, title: str) -> dict[str, Any]:
    first = layer.calls[0] if layer.calls else None
    node: dict[str, Any] = {
        "name": layer.name,
        "key": key_of(layer.name),
        "label": _label(layer, parent, title),
        "type": layer.type,
        "note": _note(layer, below),
        "depth": depth,
        "shape": shape_text(first) if first else "",
        "full_shape": _full_shape(first) if first else "",
        "parameters": layer.parameters,
        "multiply_adds": layer.multiply_adds,
        "calls": len(layer.calls),
        "ran": bool(layer.calls),
        "reason": "" if layer.calls else layer.reason_not_run or "It never ran in the recorded forward pass.",
        "children": len(below),
        "leaf": layer.leaf,
    }
    if layer.unseen:
        node["unseen"] = True
    if layer.operation:
        node["operation"] = True
    if layer.aliases:
        node["aliases"] = list(layer.aliases)
    if len(layer.calls) > 1:
        node["call_rows"] = [
            {"key": key_of(layer.name, index), "shape": shape_text(call), "full_shape": _full_shape(call)}
            for index, call in enumerate(layer.calls[:MAX_CALL_ROWS])
        ]
    return node


def _label(layer: LayerInfo, parent: str, title: str) -> str:
    """The row's own part of the name."""
    if layer.operation:
        return layer.name.rpartition(OPERATION)[2]
    return layer.name[len(parent) + 1 :] if parent else layer.name or title or layer.type


def _note(layer: LayerInfo, below: Sequence[LayerInfo]) -> str:
    """What stands behind the name: the type, or how many blocks a plain list of blocks holds."""
    if layer.operation:
        return "function"
    below = [child for child in below if not child.operation]
    blocks = below and all(not child.leaf and child.type not in _PLAIN_CONTAINERS for child in below)
    numbered = all(child.name.rpartition(".")[2].isdigit() for child in below)
    if layer.type in _PLAIN_CONTAINERS and blocks and numbered:
        return f"{len(below)} block" if len(below) == 1 else f"{len(below)} blocks"
    return layer.type


def _mark_kinds(nodes: Iterable[dict[str, Any]]) -> None:
    """Give each node the kind that the quick filters look for: "conv", "norm", "act" or "".

    The first kind that a type names is meant, unless a module inside it is of that kind already: `BatchNormAct2d` is
    the normalisation; torchvision's `Conv2dNormActivation` is none of them, because the convolution is its child.
    """
    inside: dict[int, set[str]] = {}  # depth -> kinds seen so far among the nodes of that depth under one parent
    for node in reversed(list(nodes)):
        below = inside.pop(node["depth"] + 1, set())
        kind = next((kind for kind, pattern in _KINDS.items() if pattern.search(node["type"])), "")
        node["kind"] = "" if kind in below else kind
        inside.setdefault(node["depth"], set()).update(below, {node["kind"]} - {""})


def shape_text(call: Call) -> str:
    """A shape in a few characters, without the image axis: "32·112²", "32·112×96", "197·768", "1000".

    The channel comes first whatever the memory order; the full shape keeps the order.
    """
    sizes = dict(zip(call.axes, call.shape, strict=False))
    if {"channel", "height", "width"} <= sizes.keys() and len(call.shape) == len(call.axes) <= 4:
        height, width = sizes["height"], sizes["width"]
        spatial = f"{height}²" if height == width else f"{height}×{width}"
        return f"{sizes['channel']}·{spatial}"
    kept = [size for size, axis in zip(call.shape, call.axes, strict=False) if axis != "image"]
    return "·".join(str(size) for size in kept or call.shape)


def _full_shape(call: Call) -> str:
    if not call.shape:
        return "no tensor"
    text = f"{' × '.join(str(size) for size in call.shape)} ({', '.join(call.axes)}), {call.dtype}"
    return text if call.outputs == 1 else f"{text}, the first of {call.outputs} tensors"
