"""A notebook's cell as HTML that stands alone: every picture in it, its own style, and a few lines of script."""

from __future__ import annotations

import io
import json
import math
import secrets
from collections.abc import Callable, Iterator
from html import escape

import numpy as np
from PIL import Image

from hookscope.dashboard.asking.texts import say
from hookscope.dashboard.drawing.attention_pictures import attention_picture
from hookscope.dashboard.drawing.numbers import format_count, format_number, format_share
from hookscope.dashboard.drawing.palettes import NON_FINITE_LEGEND
from hookscope.dashboard.drawing.pictures import WEBP_QUALITY, cam_overlay
from hookscope.dashboard.notebook.looked import LayerSeen, Seen
from hookscope.dashboard.notebook.style import ROOT, script, style
from hookscope.dashboard.notebook.walls import Look, Wall, data_address, tokens_left_out, wall_of
from hookscope.hooks.methods import READINGS
from hookscope.hooks.results.attending import MEAN, is_windowed, query_of, shares_of
from hookscope.hooks.results.looks import Activation, AttentionMaps, GradCam, Statistics
from hookscope.hooks.results.maps import depth_of, frame, maps, reason_no_maps
from hookscope.hooks.results.scores import top_classes

TOP_CLASSES = 5
PICTURE_PX = 224  # of the longer side of a photograph
CAM_OPACITY = 0.65
HEAD_PX = 120
MOST_HEADS = 32
MOST_BARS = 1024
RANKED = {
    "index": "by index",
    "strongest": "the strongest first, by their largest absolute value",
    "mean": "the largest mean first",
    "variance": "the largest variance first",
    "zeros": "those with the most zeros first",
}


def render(seen: Seen, look: Look) -> str:
    """The whole cell. What cannot be drawn is a sentence in its place.

    Each time it has another name, so that the same view can stand in a notebook twice; a class and no id, because some
    notebooks show an output in two places at once.
    """
    name = f"v{secrets.token_hex(6)}"
    parts = [f'<div class="{ROOT} {name}"><style>{style(name)}</style>', *_guard("The head", _head, seen)]
    for layer in seen.layers:
        parts += _guard(f"Layer {layer.title!r}", _layer, layer, seen, look)
    return "".join([*parts, f"<script>{script(name)}</script></div>"])


def page(content: str, title: str) -> str:
    """A file of its own around a cell."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><style>:root { color-scheme: light dark; }'
        f" body {{ margin: 24px; background: Canvas; color: CanvasText; }}</style></head><body>{content}</body></html>"
    )


def _guard(what: str, part: Callable[..., Iterator[str]], *arguments: object) -> list[str]:
    try:
        return list(part(*arguments))
    except Exception as error:  # a fault of one layer must not take the others with it
        return [f'<p class="note">{escape(f"{what} could not be drawn: {say(error)}.")}</p>']


def _head(seen: Seen) -> Iterator[str]:
    sizes = " × ".join(map(str, seen.shape))
    yield f'<div class="head"><strong>{escape(seen.model)}</strong>{_quiet(f"given {sizes}, {seen.dtype}")}</div>'
    yield from (f'<p class="note">{escape(note)}</p>' for note in seen.notes)
    picture = data_address(_webp(_shrunk(Image.fromarray(seen.picture))), "image/webp")
    yield f'<div class="row"><figure><img src="{picture}" alt="The picture as the model was given it"'
    yield f' style="width: {_width(seen.picture)}px"><figcaption>as the model was given it'
    yield f" {_quiet(seen.picture_note)}</figcaption></figure><div>{''.join(_answer(seen))}</div></div>"


def _answer(seen: Seen) -> Iterator[str]:
    scores = seen.scores
    if isinstance(scores, str):
        yield f'<p class="quiet">{escape(scores)}</p>'
        return
    if scores.reads in ("embedding", "values"):
        yield f'<p class="quiet">The answer is {len(scores.logits)} numbers, read as {scores.reads}: no classes.</p>'
        return
    best = top_classes(scores.shares, TOP_CLASSES)
    if not best:
        yield '<p class="note">The answer has NaN or infinite values: there is no ranking.</p>'
        return
    yield "<table>"
    for index, share in best:
        width = max(1, round(120 * min(max(share, 0.0), 1.0)))
        yield f"<tr><td>{escape(seen.class_name(index))}</td>"
        yield f'<td><span class="share" style="width: {width}px"></span></td><td class="number">{share:.3f}</td></tr>'
    of_pixels = " of the positions" if scores.regions.size else ""
    assumed = f" (assumed: {seen.found.why})" if seen.found.assumed and seen.found.why else ""
    title = READINGS.find(scores.reads).title
    yield f"</table><p>{_quiet(f'Shares{of_pixels}, the answer read as {title}{assumed}.')}</p>"


# --- a layer


def _layer(layer: LayerSeen, seen: Seen, look: Look) -> Iterator[str]:
    found = layer.activation
    yield f'<section class="layer"><h4>{escape(layer.title)} <span class="quiet">{escape(_said_of(layer))}</span></h4>'
    if isinstance(found, str):
        yield f'<p class="note">{escape(found)}</p></section>'
        return
    yield from (f'<p class="note">{escape(note)}</p>' for note in notes_of(layer))
    array = maps(found)
    yield '<div class="row">'
    wall = None
    if array is None:
        yield f"<div><p>{_quiet(reason_no_maps(found))}</p>{''.join(_bars(found))}</div>"
    else:
        depth = depth_of(found, found.values.shape)
        wall = wall_of(frame(array, depth, 0), found.statistics.channels, look)
        yield from _wall(layer, wall, look, depth, found.statistics)
    yield '<div class="side">'
    if layer.cam is not None:
        yield from _cam(layer.cam, seen)
    yield f"{''.join(numbers_table(found.statistics))}{''.join(_histogram(found.statistics))}</div>"
    if wall is not None:
        yield '<figure class="enlarged" hidden><div class="large" role="img" style="aspect-ratio: '
        yield f'{wall.geometry.map_width} / {wall.geometry.map_height}"></div><figcaption></figcaption></figure>'
    yield "</div>"
    if layer.attention is not None:
        yield from _attention(layer.attention, seen)
    yield "</section>"


def _said_of(layer: LayerSeen) -> str:
    parts = [layer.info.type]
    if isinstance(layer.activation, Activation):
        parts.append(" × ".join(map(str, layer.activation.shape)) or "one number")
        parts.append(layer.activation.dtype)
    if len(layer.info.calls) > 1:
        parts.append(f"call {layer.call + 1} of {len(layer.info.calls)}")
    return " · ".join(parts)


def notes_of(layer: LayerSeen) -> list[str]:
    """What has to be said of a layer's values, in sentences."""
    found, call, notes = layer.activation, layer.described, []
    if call is not None and call.overwritten_by:
        who = call.overwritten_by if call.overwritten_by.startswith("an ") else repr(call.overwritten_by)
        notes.append(f"The values as the layer produced them: {who} writes over them afterwards.")
    if call is not None and call.outputs > 1:
        notes.append(f"It returned {call.outputs} tensors; this is the first{f', {call.path}' if call.path else ''}.")
    if isinstance(found, Activation):
        broken = found.statistics.nan + found.statistics.inf
        if broken:
            of = format_count(found.statistics.count)
            notes.append(f"{format_count(broken)} of {of} values are NaN or infinite, and left out of all numbers.")
        notes += tokens_left_out(found)
        if found.whole:
            notes.append("The output was too large to be kept whole: maps are means over squares of its positions.")
    return notes


def _wall(layer: LayerSeen, wall: Wall, look: Look, depth: int, statistics: Statistics) -> Iterator[str]:
    geometry = wall.geometry
    cells = [f"mean of all channels: {_three(*wall.mean)}"]
    for channel in wall.order:
        cells.append(
            f"channel {channel}: {_three(*(float(wall.numbers[key][channel]) for key in ('mean', 'min', 'max')))}"
        )
    width = round(geometry.columns * geometry.cell_px)
    across, down = f"{100 / geometry.columns:.4f}%", f"{100 / geometry.rows:.4f}%"
    cell = f"width: {across}; height: {down}"
    label = f"{layer.title}: the mean map and {geometry.text}. Arrow keys go from cell to cell, Enter enlarges one."
    yield f'<figure><div class="wall" tabindex="0" role="img" aria-label="{escape(label)}" style="width: {width}px"'
    yield f' data-columns="{geometry.columns}" data-rows="{geometry.rows}" data-cells="{escape(json.dumps(cells))}">'
    yield f'<img src="{wall.address}" alt="" width="{width}" height="{geometry.height_px}">'
    yield f'<div class="lines" style="background-size: {across} 100%, 100% {down}"></div>'
    yield f'<div class="mean" style="{cell}"></div><div class="mark" style="{cell}" hidden></div></div>'
    first = f"First frame of {depth}. " if depth > 1 else ""
    legend = f" {NON_FINITE_LEGEND}." if statistics.nan + statistics.inf else ""
    yield f'<figcaption><span class="told" aria-live="polite">First the mean of all channels, then {geometry.text}, '
    yield f"{RANKED[look.rank]}.</span><br>{_quiet(first)}"
    yield f'<span class="bar" style="background: {wall.palette.css()}"></span>'
    yield f"{escape(wall.text)}{escape(legend)}"
    listed = ", ".join(map(str, wall.order.tolist()))
    yield f"<details><summary>which channels</summary><p>{listed}</p></details></figcaption></figure>"


def _three(mean: float, low: float, high: float) -> str:
    return f"mean {format_number(mean)}, min {format_number(low)}, max {format_number(high)}"


def _cam(cam: GradCam | str, seen: Seen) -> Iterator[str]:
    if isinstance(cam, str):
        yield f"<p>{_quiet(f'No Grad-CAM: {cam}')}</p>"
        return
    under = _shrunk(Image.fromarray(seen.picture)).convert("RGBA")
    overlay = cam_overlay(cam.values, (under.height, under.width))
    heat = Image.open(io.BytesIO(overlay.png)).convert("RGBA")
    heat.putalpha(heat.getchannel("A").point(lambda value: round(value * CAM_OPACITY)))
    address = data_address(_webp(Image.alpha_composite(under, heat).convert("RGB")), "image/webp")
    target = seen.class_name(cam.target) if cam.target >= 0 else "the answer"
    yield f'<figure class="cam"><img src="{address}" alt="Grad-CAM over the picture" style="width: '
    yield f'{_width(seen.picture)}px"><figcaption>Grad-CAM for {escape(target)}<br>'
    yield f"{_quiet(overlay.note or f'0 … {format_number(overlay.peak)}')}{_quiet(f' {cam.note}' if cam.note else '')}"
    yield "</figcaption></figure>"


def _attention(attended: AttentionMaps | str, seen: Seen) -> Iterator[str]:
    if isinstance(attended, str):
        yield f"<p>{_quiet(attended)}</p>"
        return
    query = query_of(attended, -1)
    limit = f"{attended.entropy_limit:.2f}"
    yield f"<p>Attention from {escape(query.text)}. {_quiet(f'Entropy of each head, of at most {limit} nats.')}</p>"
    heads = range(len(attended.entropy))
    if attended.grid is None:
        text = ", ".join(f"head {head}: {attended.entropy[head]:.2f}" for head in heads)
        yield f"<p>{_quiet('How its keys lie on the picture is not known, so there is no map.')} {text}</p>"
        return
    if len(heads) > MOST_HEADS:
        yield f"<p>{_quiet(f'The first {MOST_HEADS} of {len(heads)} heads.')}</p>"
    yield '<div class="heads">'
    pixels = None if is_windowed(attended) else seen.picture
    for which in (MEAN, *map(str, heads[:MOST_HEADS])):
        shares = shares_of(attended, which, query.index)
        assert shares is not None  # there is a grid
        address = data_address(attention_picture(shares, pixels, query.place, HEAD_PX), "image/webp")
        name = "mean" if which == MEAN else f"head {which}"
        entropy = "" if which == MEAN else f" · {attended.entropy[int(which)]:.2f}"
        yield f'<figure><img src="{address}" alt="{name}"><figcaption>{name}{entropy}<br>'
        yield f"{_quiet(f'0 … {float(shares.max()):.2g}')}</figcaption></figure>"
    yield "</div>"


# --- numbers


def rows_of(statistics: Statistics) -> list[tuple[str, str]]:
    """A layer's numbers by name, as they are written."""
    return [
        ("values", format_count(statistics.count)),
        ("mean", format_number(statistics.mean)),
        ("std", format_number(statistics.std)),
        ("min", format_number(statistics.min)),
        ("max", format_number(statistics.max)),
        ("zeros", format_share(statistics.zeros)),
        ("NaN", format_count(statistics.nan)),
        ("Inf", format_count(statistics.inf)),
    ]


def numbers_table(statistics: Statistics) -> Iterator[str]:
    """The same as a table, two of them in a row."""
    cells = [f'<th scope="row">{name}</th><td class="number">{text}</td>' for name, text in rows_of(statistics)]
    half = len(cells) // 2
    yield '<table class="numbers">'
    yield from (f"<tr>{left}{right}</tr>" for left, right in zip(cells[:half], cells[half:], strict=True))
    yield "</table>"


def _histogram(statistics: Statistics, width: int = 220, height: int = 64) -> Iterator[str]:
    """Counts in equal bins, the height on a logarithmic scale from half a value on, so that one value can be seen."""
    counts, edges = statistics.histogram, statistics.edges
    if not len(counts) or not counts.sum():
        return
    top = math.log10(int(counts.max()) * 2)
    step = width / len(counts)
    yield f'<svg class="histogram" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
    yield 'aria-label="Histogram of the values, counts on a logarithmic scale">'
    for number, count in enumerate(counts.tolist()):
        if count:
            tall = height * math.log10(count * 2) / top if top else height
            between = f"{format_number(float(edges[number]))} to {format_number(float(edges[number + 1]))}"
            yield f'<rect class="fill" x="{number * step:.2f}" y="{height - tall:.2f}" width="{step * 0.92:.2f}" '
            yield f'height="{tall:.2f}"><title>{between}: {format_count(count)}</title></rect>'
    low, high = float(edges[0]), float(edges[-1])
    if low < 0 < high:
        zero = width * -low / (high - low)
        yield f'<line class="zero" x1="{zero:.2f}" x2="{zero:.2f}" y1="0" y2="{height}"></line>'
    yield f'</svg><div class="axis quiet" style="width: {width}px"><span>{format_number(low)}</span>'
    yield f"<span>up to {format_count(int(counts.max()))}</span><span>{format_number(high)}</span></div>"


def _bars(found: Activation, width: int = 600, height: int = 120) -> Iterator[str]:
    """The values of a layer without maps by index, as bars from 0."""
    values = found.values.reshape(-1).astype(np.float64)
    finite = values[np.isfinite(values)]
    if not 1 < len(values) <= MOST_BARS or not finite.size:
        return
    low, high = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
    across, down = width / len(values), height / ((high - low) or 1.0)
    yield f'<svg class="bars" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
    yield 'style="max-width: 100%" aria-label="The values by index">'
    zero = high * down
    strokes = []
    for index, value in enumerate(values.tolist()):
        if math.isfinite(value):
            left = index * across
            strokes.append(f"M{left:.2f} {zero:.2f}V{(high - value) * down:.2f}h{across * 0.9:.2f}V{zero:.2f}z")
    yield f'<path class="fill" d="{"".join(strokes)}"></path></svg><p>{_quiet(f"{format_number(low)} … ")}'
    yield f"{_quiet(f'{format_number(high)}, by index 0 to {len(values) - 1}')}</p>"


# --- small things


def _quiet(text: str) -> str:
    return f'<span class="quiet">{escape(text)}</span>' if text else ""


def _width(picture: np.ndarray) -> int:
    height, width = picture.shape[:2]
    return max(1, round(PICTURE_PX * width / max(height, width)))


def _shrunk(picture: Image.Image) -> Image.Image:
    """A picture of at most twice the size in which it is shown."""
    copy = picture.copy()
    copy.thumbnail((2 * PICTURE_PX, 2 * PICTURE_PX))
    return copy


def _webp(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=WEBP_QUALITY, method=2)
    return file.getvalue()
