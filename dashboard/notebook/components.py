"""The components of `hs.panel`: of each captured value a wall of its channels, its numbers and a histogram."""

from __future__ import annotations

import contextlib
import math
import operator
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dash import dcc, html
from torch import Tensor, nn

from hookscope.dashboard.asking.texts import TITLE_LENGTH, one_line
from hookscope.dashboard.drawing.charts import bars_figure, histogram_figure
from hookscope.dashboard.drawing.palettes import NON_FINITE_LEGEND
from hookscope.dashboard.drawing.plain_figures import GRAPH_CONFIG
from hookscope.dashboard.drawing.wall_figure import Panel, cell_numbers, wall_figure
from hookscope.dashboard.notebook.markup import RANKED, rows_of
from hookscope.dashboard.notebook.walls import PANEL_PX, Look, NotShown, tokens_left_out, wall_of
from hookscope.hooks.layers.names import aliases
from hookscope.hooks.layers.shapes import NCHW, NHWC, channel_axis_by_type
from hookscope.hooks.looks.records import Captured, Record
from hookscope.hooks.numbers.reductions import statistics
from hookscope.hooks.results.looks import Activation, LayerInfo, Statistics
from hookscope.hooks.results.maps import depth_of, frame, maps, reason_no_maps

MOST_LAYERS = 24
SIDE_PX = 300
QUIET = {"opacity": 0.72, "fontSize": "12px"}
ROW = {"display": "flex", "flexWrap": "wrap", "gap": "12px 24px", "alignItems": "flex-start"}
ASSUMED = (
    "Its four axes are taken for (image, channel, height, width), because nothing says otherwise; "
    "layers=hs.describe(model, image) tells."
)


@dataclass(frozen=True)
class Axes:
    """What the axes of a value are, see `results.looks.Call`; note: what was taken for granted, as a sentence."""

    names: tuple[str, ...]
    grid: tuple[int, int] | None = None
    prefix_tokens: int = 0
    frames: int = 1
    note: str = ""


def build(captured: Captured, layers: Sequence[LayerInfo], image: int, name: str, look: Look) -> html.Div:
    """The whole panel; see `panel.panel`."""
    if not isinstance(captured, Captured):
        raise NotShown(f"A panel shows what hs.capture gave, and this is a {type(captured).__name__}.")
    image, layers, name = _index(image), _described(layers), name or ""
    if not isinstance(name, str):
        raise NotShown(f"name= is {one_line(repr(name), TITLE_LENGTH)}. Give a text, with which the ids begin.")
    records = [(key, record) for key, record in captured.items()]
    if not records:
        raise NotShown("Nothing was captured: run the model in the block of hs.capture.")
    if len(records) > MOST_LAYERS:
        raise NotShown(f"{len(records)} values were captured, and a panel shows at most {MOST_LAYERS}: capture fewer.")
    prefix = name or f"hookscope-{secrets.token_hex(4)}"
    parts = [
        _value(record, key, _axes(captured, record, layers), image, f"{prefix}-{number}", look)
        for number, (key, record) in enumerate(records)
    ]
    return html.Div(parts, id=prefix, style={"fontFamily": "system-ui, sans-serif", "fontSize": "14px"})


def _index(image: Any) -> int:
    with contextlib.suppress(TypeError, RuntimeError):  # the second of a tensor of several numbers
        if not isinstance(image, bool):
            return operator.index(image)
    raise NotShown(f"image= is {one_line(repr(image), TITLE_LENGTH)}. Give the index of one of a batch, from 0 on.")


def _described(layers: Any) -> list[LayerInfo]:
    found = list(layers or ()) if isinstance(layers, Iterable | None) else [layers]
    if not all(isinstance(each, LayerInfo) for each in found):
        raise NotShown("layers= is what hs.describe(model, image) gives, and this is something else.")
    return found


def _axes(captured: Captured, record: Record, layers: Sequence[LayerInfo]) -> Axes:
    """What is known of a value's axes: by the recorded run, by the layer's type, or by their number alone."""
    info = next((each for each in layers if record.layer in (each.name, *each.aliases)), None)
    if info is not None and info.calls:
        call = info.calls[record.call % len(info.calls)]
        if call.path == record.path and call.shape[1:] == record.shape[1:]:
            return Axes(call.axes, call.grid, call.prefix_tokens, call.frames)
    count = len(record.shape)
    module = _module(captured, record.layer)
    if isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm) and count in (3, 4):
        return Axes(NHWC if count == 4 else ("image", "token", "channel"))
    if count == 4:
        by_type = module is not None and channel_axis_by_type(module, torch.empty(record.shape, device="meta")) == 1
        return Axes(NCHW, note="" if by_type else ASSUMED)
    return Axes(("image", "feature") if count == 2 else ("image", *("axis",) * (count - 1)) if count else ())


def _module(captured: Captured, layer: str) -> nn.Module | None:
    model = captured.model
    if model is None or layer not in aliases(model):
        return None
    return model.get_submodule(layer)


def _value(record: Record, key: Any, axes: Axes, image: int, name: str, look: Look) -> html.Div:
    title = str(key) if isinstance(key, str) else f"{key[0]}, call {key[1]}{f', {key[2]}' if len(key) > 2 else ''}"
    shape = " × ".join(map(str, record.shape)) or "one number"
    head = html.H4([title or "the model", html.Span(f" {shape}", style=QUIET)], style={"margin": "12px 0 4px"})
    if record.value is None:
        counted = record.statistics
        assert counted is not None  # a record has its value, or its numbers
        note = "Its numbers alone were captured" + (f", of all {record.shape[0]} images." if _many(record) else ".")
        return html.Div([head, _quiet(note), html.Div(_numbers(counted, name), style=ROW)])
    if record.value.is_complex():
        return html.Div([head, _quiet("Its values are complex numbers, which are no one number each.")])
    if not math.prod(record.shape[:1]):
        return html.Div([head, _quiet("It holds no image.")])
    found = _activation(record, _plain(record.value), axes, image)
    notes = [_quiet(note) for note in (axes.note, _which(record, image), *tokens_left_out(found)) if note]
    array = maps(found)
    if array is None:
        drawn: Any = html.Div([_quiet(reason_no_maps(found)), *_bars(found, name)], style={"width": f"{PANEL_PX}px"})
    else:
        drawn = _wall(found, frame(array, depth_of(found, found.values.shape), 0), name, look)
    return html.Div([head, *notes, html.Div([drawn, *_numbers(found.statistics, name)], style=ROW)])


def _activation(record: Record, value: Tensor, axes: Axes, image: int) -> Activation:
    """One image of what was captured, with its numbers."""
    if _many(record):
        if not 0 <= image < record.shape[0]:
            raise NotShown(f"There is no image {image}: {record.shape[0]} were captured, from 0 on.")
        value = value[image : image + 1]
    channel = axes.names.index("channel") if "channel" in axes.names else None
    counted = statistics(value, channel)
    alone = axes.names[:1] == ("image",)
    names = axes.names[1:] if alone else axes.names
    values = (value[0] if alone else value).detach().cpu().float().numpy()
    dtype = str(value.dtype).removeprefix("torch.")
    return Activation(
        record.layer,
        record.call,
        values,
        names,
        counted,
        dtype,
        axes.grid,
        axes.prefix_tokens,
        record.path,
        frames=axes.frames,
    )


def _plain(value: Tensor) -> Tensor:
    """The same numbers, each in its place."""
    value = value.dequantize() if value.is_quantized else value
    return value if value.layout == torch.strided else value.to_dense()


def _many(record: Record) -> bool:
    return len(record.shape) > 1 and record.shape[0] > 1


def _which(record: Record, image: int) -> str:
    return f"Image {image} of {record.shape[0]}, counted from 0." if _many(record) else ""


def _wall(found: Activation, array: Any, name: str, look: Look) -> html.Div:
    wall = wall_of(array, found.statistics.channels, look, PANEL_PX)
    panel = Panel("", wall.address, cell_numbers(array, wall.order, wall.numbers))
    figure = wall_figure([panel], wall.order, wall.geometry, key=name, width_px=PANEL_PX)
    broken = found.statistics.nan + found.statistics.inf
    bar = {
        "display": "inline-block",
        "width": "96px",
        "height": "10px",
        "margin": "0 6px",
        "background": wall.palette.css(),
    }
    text = f"{wall.text}{f' · {NON_FINITE_LEGEND}' if broken else ''}"
    said = f"First the mean of all channels, then {wall.geometry.text}, {RANKED[look.rank]}."
    return html.Div([_graph(f"{name}-wall", figure, PANEL_PX), _quiet(said), html.Div([html.Span(style=bar), text])])


def _bars(found: Activation, name: str) -> list[Any]:
    if found.values.ndim != 1 or found.values.size < 2:
        return []
    return [_graph(f"{name}-bars", bars_figure([found.values], ("value",), key=name), PANEL_PX)]


def _numbers(counted: Statistics, name: str) -> list[Any]:
    quiet, right = {"paddingRight": "12px", "opacity": 0.72}, {"textAlign": "right"}
    rows = [html.Tr([html.Td(key, style=quiet), html.Td(text, style=right)]) for key, text in rows_of(counted)]
    table = html.Table(html.Tbody(rows), id=f"{name}-numbers", style={"fontSize": "13px"})
    if not len(counted.histogram):
        return [table, _quiet("No histogram was kept of it.")]
    return [table, _graph(f"{name}-histogram", histogram_figure([counted], ("values",), key=name), SIDE_PX)]


def _graph(name: str, figure: Any, width_px: int) -> dcc.Graph:
    return dcc.Graph(id=name, figure=figure, config=GRAPH_CONFIG, style={"width": f"{width_px}px"})


def _quiet(*content: Any) -> html.Div:
    return html.Div(list(content), style=QUIET)
