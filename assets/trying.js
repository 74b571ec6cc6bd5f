/* What is tried while something is dragged: only the parts on top follow, one question at a time, the newest next, and
   nothing of it is kept, neither in the address nor among the answers. What is released is kept. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const SILENT_MS = 1500; // how long an answer is waited for before the next is asked
  const RESTS_MS = 200; // after which a slider that is held counts as still, and what takes longer is asked for
  const LIVE = /^(input|detail|edits|painting|card \d+ cam$)/; // the parts that are drawn meanwhile
  const ANSWER = /^input/;
  let next = null; // fields of the view
  let waiting = 0;
  let unanswered = false; // whether what was asked last has not been answered whole, however long it takes
  let resting = 0;

  function go() {
    clearTimeout(waiting);
    waiting = 0;
    if (!next) return;
    const fields = next;
    next = null;
    waiting = setTimeout(go, SILENT_MS);
    unanswered = true;
    if (!hookscope.choose(fields, true, "moves")) go();
  }
  document.addEventListener("answered", () => {
    if (!unanswered) return;
    unanswered = false;
    go();
    if (!waiting) resting = setTimeout(() => hookscope.askAgain(true, "rests"), RESTS_MS);
  });
  /* The answer is what is looked at: with that on the screen the next may come, and takes the place of what follows. */
  document.addEventListener("drawn", ({ detail: part }) => { if (waiting && next && ANSWER.test(part)) go(); });

  hookscope.tryOut = function (fields) {
    next = fields;
    clearTimeout(resting);
    if (!waiting) go();
  };

  /* What is tried is painted over the figure that is there, in its scales and without Plotly, which takes 90 ms for a
     figure: a hand that drags would wait for it. `maps`: of the heatmaps, in order. `images`: the layout's, in order. */
  hookscope.paintTried = function (element, { maps, images }) {
    const plot = element && element.querySelector(".js-plotly-plot");
    if (!plot || !plot.layout) return true;
    if (images) {
      hookscope.endTried();
      const shown = plot.querySelectorAll(".imagelayer image");
      if (shown.length === images.length) images.forEach((address, place) => exchange(shown[place], address));
      return true;
    }
    const shown = plot.querySelectorAll(".heatmaplayer image");
    const untouched = maps.length === shown.length && maps.every(({ size: [rows, columns] }, place) => isWhole(plot, place, rows, columns));
    element.classList.toggle("outdated", !untouched);
    const histogram = document.getElementById("detail-histogram");
    if (histogram) histogram.classList.add("outdated");
    if (!untouched) return true;
    maps.forEach(({ size, values }, place) => {
      const image = shown[place];
      image.style.imageRendering = "pixelated";
      show(image, painted(size, values, plot.layout[plot.data[place].coloraxis]));
    });
    return true;
  };

  /* The attribute that Plotly sets, which another one would hide for ever; it remembers what it has set. */
  const show = (image, address) => image.setAttributeNS("http://www.w3.org/1999/xlink", "xlink:href", address);

  /* Another picture in an image, once it is there, and if nothing else is to be shown by then. */
  let exchanges = 0;
  hookscope.endTried = () => { exchanges += 1; };
  function exchange(image, address) {
    if (image._imgSrc === address) return;
    const picture = new Image();
    const number = exchanges;
    picture.addEventListener("load", () => {
      if (number !== exchanges) return;
      show(image, address);
      image._imgSrc = address;
    });
    picture.src = address;
  }

  /* Whether a panel shows all of a map; somebody may have zoomed in. */
  function isWhole(plot, place, rows, columns) {
    const number = place ? String(place + 1) : "";
    const length = ({ range }) => Math.abs(range[1] - range[0]);
    return length(plot.layout["xaxis" + number]) === columns && length(plot.layout["yaxis" + number]) === rows;
  }

  /* A map as the address of a picture with a pixel for each value, in the colours of a figure's axis. */
  const paper = document.createElement("canvas");
  const STEPS = 256;
  function painted([rows, columns], text, { cmin, cmax, colorscale }) {
    const values = new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
    const colours = table(colorscale);
    paper.width = columns;
    paper.height = rows;
    const context = paper.getContext("2d", { willReadFrequently: true });
    const picture = context.createImageData(columns, rows);
    values.forEach((value, place) => {
      const share = Math.min(Math.max((value - cmin) / (cmax - cmin || 1), 0), 1);
      if (Number.isFinite(share)) picture.data.set(colours.subarray(4 * Math.round(share * (STEPS - 1)), 4 * Math.round(share * (STEPS - 1)) + 4), 4 * place);
    });
    context.putImageData(picture, 0, 0);
    return paper.toDataURL();
  }

  /* Colours at places of 0..1, "rgb(...)", "rgba(...)" or "#rrggbb", as bytes of as many steps. */
  function table(colorscale) {
    const stops = colorscale.map(([at, text]) => [Number(at), bytesOf(text)]);
    const found = new Uint8ClampedArray(4 * STEPS);
    for (let step = 0; step < STEPS; step += 1) {
      const at = step / (STEPS - 1);
      const above = Math.max(1, stops.findIndex(([place]) => place >= at));
      const [[low, one], [high, other]] = [stops[above - 1], stops[above]];
      const share = high > low ? (at - low) / (high - low) : 0;
      for (let part = 0; part < 4; part += 1) found[4 * step + part] = one[part] + share * (other[part] - one[part]);
    }
    return found;
  }

  function bytesOf(text) {
    if (text[0] === "#") return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)).concat(255);
    const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
    return [red, green, blue, 255 * alpha];
  }

  /* Choose for good what was tried before. `walking`: as `choose` has it. */
  hookscope.keep = function (fields, walking = false) {
    next = null;
    clearTimeout(waiting);
    clearTimeout(resting);
    waiting = 0;
    unanswered = false;
    for (const part of Object.keys(hookscope.drawn)) if (LIVE.test(part)) delete hookscope.drawn[part];
    if (!hookscope.choose(fields, walking)) hookscope.askAgain(walking);
  };
})();
