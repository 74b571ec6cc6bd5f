"""The style and the script of a notebook's cell, for one element and no other on the same page.

Notebooks set their own colours, light or dark, and each in its own way. So nothing here brings a ground or a colour for
text: both are the page's, and lines and hints are shades of them. What a cell shows can be read without the script and
without the style, as where a notebook that nobody has trusted is opened.
"""

from __future__ import annotations

ROOT = "hookscope-view"

_STYLE = """
& { font: 14px/1.45 system-ui, sans-serif; max-width: 1120px; text-align: left; }
& * { box-sizing: border-box; }
& .head { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; margin: 0 0 8px; }
& .head strong { font-size: 16px; }
& .quiet { opacity: 0.72; }
& .note { margin: 4px 0; padding-left: 8px; border-left: 3px solid #f08c00; }
& .layer { border-top: 1px solid rgba(128, 128, 128, 0.35); padding: 10px 0 14px; margin: 0; }
& .layer > h4 { font-size: 15px; line-height: 1.4; margin: 0 0 6px; font-weight: 600; overflow-wrap: anywhere; }
& .layer > h4 .quiet { font-weight: 400; }
& .row { display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: flex-start; }
& figure { margin: 0; min-width: 0; }
& figcaption { font-size: 12px; line-height: 1.45; margin-top: 4px; max-width: 600px; }
& img { display: block; margin: 0; max-width: 100%; height: auto; }
& .wall { position: relative; cursor: crosshair; max-width: 100%; }
& .wall:focus-visible { outline: 2px solid #1c7ed6; outline-offset: 2px; }
& .wall img { width: 100%; image-rendering: pixelated; }
& .wall .lines { position: absolute; inset: 0; pointer-events: none; background-image:
    linear-gradient(to right, rgba(150, 150, 150, 0.6) 1px, transparent 1px),
    linear-gradient(to bottom, rgba(150, 150, 150, 0.6) 1px, transparent 1px); }
& .wall .mean, & .wall .mark { position: absolute; pointer-events: none; }
& .wall .mean { inset: 0 auto auto 0; border: 2px dashed #ffffff; outline: 1px solid #1b1f24; outline-offset: -1px; }
& .wall .mark { border: 2px solid #ffffff; outline: 2px solid #1b1f24; }
& .enlarged { width: 220px; }
& .large { width: 100%; background-repeat: no-repeat; image-rendering: pixelated; }
& .bar { display: inline-block; width: 96px; height: 10px; vertical-align: middle; margin: 0 6px; }
& table { border-collapse: collapse; margin: 0; font-size: 13px; width: auto; table-layout: auto; border: 0; }
& table tr, & table tr:nth-child(n), & table tr:nth-child(n):hover { background: none; border: 0; }
& th, & td { padding: 1px 12px 1px 0; border: 0; background: none; text-align: left; font-weight: 400; color: inherit;
    vertical-align: baseline; white-space: normal; max-width: none; }
& th { opacity: 0.72; }
& td.number { text-align: right; font-variant-numeric: tabular-nums; padding-right: 0; }
& .side { width: 232px; display: grid; gap: 8px; }
& .side p { margin: 0; }
& .numbers td.number { padding-right: 14px; }
& .share { display: inline-block; height: 8px; background: #1c7ed6; border-radius: 2px; }
& svg { display: block; overflow: visible; }
& svg .fill { fill: #1c7ed6; }
& svg .zero { stroke: currentColor; stroke-dasharray: 2 2; opacity: 0.6; }
& .axis { display: flex; justify-content: space-between; font-size: 11px; font-variant-numeric: tabular-nums; }
& .heads { display: flex; flex-wrap: wrap; gap: 8px; margin-top: 4px; }
& .heads img { width: 104px; }
& details summary { cursor: pointer; }
& details p { margin: 2px 0; overflow-wrap: anywhere; }
"""

# Cells are told under the pointer and by the arrow keys; a click, or Enter, keeps one and enlarges it.
_SCRIPT = """
(function () {
  for (const root of document.querySelectorAll(".&")) {
    if (root.dataset.begun) continue;
    root.dataset.begun = "yes";
    for (const wall of root.querySelectorAll("[data-cells]")) begin(wall);
  }
  function begin(wall) {
    const cells = JSON.parse(wall.dataset.cells), columns = Number(wall.dataset.columns);
    const rows = Number(wall.dataset.rows), figure = wall.closest("figure");
    const told = figure.querySelector(".told"), usual = told.textContent;
    const large = figure.parentNode.querySelector(".large");
    const mark = wall.querySelector(".mark");
    let kept = -1, shown = 0;
    function show(index) {
      mark.hidden = index < 0;
      if (index < 0) { told.textContent = usual; return; }
      shown = index;
      mark.style.left = 100 * (index % columns) / columns + "%";
      mark.style.top = 100 * Math.floor(index / columns) / rows + "%";
      told.textContent = cells[index];
    }
    function keep(index) {
      kept = index === kept ? -1 : index;
      show(kept);
      large.parentNode.hidden = kept < 0;
      if (kept < 0) return;
      large.style.backgroundImage = "url(" + wall.querySelector("img").src + ")";
      large.style.backgroundSize = 100 * columns + "% " + 100 * rows + "%";
      large.style.backgroundPosition = 100 * (kept % columns) / Math.max(columns - 1, 1) + "% "
        + 100 * Math.floor(kept / columns) / Math.max(rows - 1, 1) + "%";
      large.setAttribute("aria-label", cells[kept]);
      large.parentNode.querySelector("figcaption").textContent = cells[kept];
    }
    function under(event) {
      const box = wall.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / box.width * columns);
      const row = Math.floor((event.clientY - box.top) / box.height * rows);
      const index = row * columns + column;
      return column >= 0 && column < columns && index >= 0 && index < cells.length ? index : -1;
    }
    wall.addEventListener("mousemove", function (event) { show(under(event)); });
    wall.addEventListener("mouseleave", function () { show(kept); });
    wall.addEventListener("click", function (event) { if (under(event) >= 0) keep(under(event)); });
    wall.addEventListener("keydown", function (event) {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (event.key === "Enter") keep(shown);
      else if (event.key === "Escape" && kept >= 0) keep(kept);
      else if (step) show(Math.min(Math.max(shown + step, 0), cells.length - 1));
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }
})();
"""


def style(name: str) -> str:
    """The rules for the elements of this class and what is in them."""
    return _STYLE.replace("&", f".{ROOT}.{name}")


def script(name: str) -> str:
    """What makes the walls of the elements of this class answer the pointer and the keys; runs in any notebook."""
    return _SCRIPT.replace(".&", f".{ROOT}.{name}")
