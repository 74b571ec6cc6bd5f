/* The map of a set: a thumbnail at the point that is pointed at, what is drawn around is taken, and what is taken can
   become a set. By keyboard: arrow keys from point to point, Enter opens, Space takes, Escape leaves all. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const SHOWN = 12; // thumbnails of what is taken
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  let taken = new Set(); // points of the map, by their place in it
  let of = ""; // which map that is
  let at = 0; // the point of the keyboard
  let marking = false; // Plotly tells of our own marks, too

  const frameOf = (target) => target && target.closest && target.closest(".plane-graph");
  const plain = (text) => text.replaceAll("&lt;", "<").replaceAll("&amp;", "&");

  /* The map in a frame, listened to; null while there is none. */
  function mapIn(frame) {
    const plot = frame && frame.querySelector(".js-plotly-plot");
    if (!plot || !plot._fullLayout || !plot.layout.meta || !plot.layout.meta.map) return null;
    if (!plot.hookscopeMap) {
      plot.hookscopeMap = true;
      plot.on("plotly_hover", ({ points }) => show(frame, plot, points[0].pointIndex));
      plot.on("plotly_unhover", () => hide(frame));
      plot.on("plotly_click", ({ points }) => open(plot, points[0].pointIndex));
      plot.on("plotly_selected", (event) => { if (!marking) take(plot, event ? event.points.map((point) => point.pointIndex) : []); });
      plot.on("plotly_deselect", () => { if (!marking) take(plot, []); });
    }
    const { map } = plot.layout.meta;
    if (map !== of) { // the points are others
      [of, at] = [map, 0];
      take(plot, []);
    }
    return plot;
  }

  const picture = (plot, point) => plot.data[0].customdata[point]; // number, name, what is said of it

  /* Where a point lies, in pixels of the frame. */
  function place(plot, point) {
    const { xaxis, yaxis } = plot._fullLayout;
    const { x, y } = plot.calcdata[0][point];
    return [xaxis._offset + xaxis.l2p(x), yaxis._offset + yaxis.l2p(y)];
  }

  function small(plot, point) {
    const { set, model, version } = plot.layout.meta;
    const image = document.createElement("img");
    const about = `model=${encodeURIComponent(model)}&version=${version.slice(0, 16)}`;
    image.src = hookscope.url(`set/${encodeURIComponent(set)}/small/${picture(plot, point)[0]}?${about}`);
    image.alt = "";
    return image;
  }

  /* --- the point that is pointed at */

  function cardIn(frame) {
    let card = frame.querySelector(":scope > .plane-card");
    if (!card) {
      card = document.createElement("div");
      card.className = "plane-card";
      frame.append(card);
    }
    return card;
  }

  function show(frame, plot, point) {
    const card = cardIn(frame);
    const [, name, said] = picture(plot, point).map((each) => (typeof each === "string" ? plain(each) : each));
    const words = [name, said].filter(Boolean).map((text) => {
      const line = document.createElement("span");
      line.textContent = text;
      return line;
    });
    card.replaceChildren(small(plot, point), ...words);
    card.hidden = false;
    const [left, top] = place(plot, point);
    const { width, height } = frame.getBoundingClientRect();
    card.style.left = Math.max(0, left + 14 + card.offsetWidth > width ? left - card.offsetWidth - 14 : left + 14) + "px";
    card.style.top = Math.min(Math.max(0, top - 30), Math.max(0, height - card.offsetHeight)) + "px";
  }

  function hide(frame) {
    cardIn(frame).hidden = true;
    const ring = frame.querySelector(":scope > .plane-ring");
    if (ring) ring.hidden = true;
  }

  /* The picture as A, as a click on its thumbnail would have it. */
  function open(plot, point) {
    const button = opener(plot, point);
    button.hidden = true;
    document.body.append(button); // where the click is heard
    button.click();
    button.remove();
  }

  function opener(plot, point) {
    const { set, model } = plot.layout.meta;
    const [number, name, said] = picture(plot, point);
    const button = document.createElement("button");
    button.className = "thumb";
    button.dataset.do = "open-member";
    button.dataset.value = JSON.stringify({ set, model, number, stay: true });
    button.title = [name, said].filter(Boolean).map(plain).join(": ");
    button.setAttribute("aria-label", button.title);
    button.append(small(plot, point));
    return button;
  }

  /* --- what is taken */

  function take(plot, points) {
    taken = new Set(points);
    tell(plot);
  }

  /* The same, where Plotly has not marked the points itself. */
  async function mark(plot, points) {
    take(plot, points);
    marking = true;
    const chosen = taken.size ? [[...taken].sort((one, other) => one - other)] : [null];
    await window.Plotly.relayout(plot, { selections: [] });
    await window.Plotly.restyle(plot, { selectedpoints: chosen });
    marking = false;
  }

  function tell(plot) {
    const map = plot.closest(".plane");
    const [count, beside] = [map.querySelector(".plane-count"), map.querySelector(".plane-taken")];
    const points = [...taken];
    const many = points.length === 1 ? "picture" : "pictures";
    count.textContent = points.length ? `${points.length.toLocaleString("en")} ${many} taken` : "";
    if (!points.length) return beside.replaceChildren();
    const leave = document.createElement("button");
    const them = points.length === 1 ? "leave it" : "leave them";
    Object.assign(leave, { className: "link", textContent: them, onclick: () => mark(plot, []) });
    const thumbs = document.createElement("div");
    thumbs.className = "plane-thumbs";
    thumbs.append(...points.slice(0, SHOWN).map((point) => opener(plot, point)));
    const left = document.createElement("p");
    left.className = "muted";
    left.textContent = points.length > SHOWN ? `and ${(points.length - SHOWN).toLocaleString("en")} more` : "";
    beside.replaceChildren(thumbs, left, ...maker(plot, points, many), leave);
  }

  /* What makes a set of them. */
  function maker(plot, points, many) {
    const { set, version, name } = plot.layout.meta;
    const field = document.createElement("input");
    Object.assign(field, { maxLength: 60, value: `${points.length} of ${name}`, spellcheck: false });
    field.setAttribute("aria-label", "Name of the new set");
    const button = document.createElement("button");
    button.className = "pill primary";
    button.textContent = `make a set of ${points.length === 1 ? "this" : `these ${points.length.toLocaleString("en")}`} ${many}`;
    const make = async () => {
      button.disabled = true;
      const numbers = points.map((point) => picture(plot, point)[0]).sort((one, other) => one - other);
      const body = JSON.stringify({ numbers, version, name: field.value.trim() });
      const headers = { "Content-Type": "application/json" };
      const answer = await hookscope.post(`set/${encodeURIComponent(set)}/subset`, { headers, body });
      button.disabled = false;
      if (!answer) return hookscope.lost();
      if (!answer.ok) return hookscope.banner("connection", (await answer.text()).trim());
      const { key } = await answer.json();
      hookscope.keepSet(key); // it is listed from now on
      const chosen = JSON.parse(document.getElementById("set-drop").dataset.chosen); // of the other set's pictures
      hookscope.choose({ ...chosen, set_a: key, set_b: "" });
    };
    button.onclick = make;
    field.onkeydown = (event) => { if (event.key === "Enter") make(); };
    return [field, button];
  }

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("[data-do=take-class]");
    const plot = button && mapIn(button.closest(".plane").querySelector(".plane-graph"));
    if (!plot) return;
    const { classes } = plot.layout.meta;
    const points = classes.flatMap((each, point) => (each === Number(button.dataset.value) ? [point] : []));
    const there = points.every((point) => taken.has(point));
    mark(plot, there ? [...taken].filter((point) => !points.includes(point)) : [...new Set([...taken, ...points])]);
  });

  /* --- by keyboard, and by pointer for the first time */

  function go(frame, plot) {
    let ring = frame.querySelector(":scope > .plane-ring");
    if (!ring) {
      ring = document.createElement("div");
      ring.className = "plane-ring";
      frame.append(ring);
    }
    const [left, top] = place(plot, at);
    Object.assign(ring.style, { left: left + "px", top: top + "px" });
    ring.hidden = false;
    show(frame, plot, at);
    const [, name, said] = picture(plot, at);
    const state = taken.has(at) ? "taken" : "not taken";
    frame.setAttribute("aria-label", `${[name, said].filter(Boolean).map(plain).join(": ")}, ${state}. Enter has it as A, Space takes it.`);
  }

  /* The nearest point in a direction; the same one if there is none. */
  function nearest(plot, [right, down]) {
    const [left, top] = place(plot, at);
    let [found, least] = [at, Infinity];
    plot.calcdata[0].forEach((_, point) => {
      const [x, y] = place(plot, point);
      const along = (x - left) * right + (y - top) * down;
      const across = Math.abs((x - left) * down + (y - top) * right);
      const far = along + 2 * across; // what lies ahead comes before what lies aside
      if (point !== at && along > 0 && across <= 2 * along && far < least) [found, least] = [point, far];
    });
    return found;
  }

  document.addEventListener("pointerover", ({ target }) => mapIn(frameOf(target)));
  document.addEventListener("focusin", ({ target }) => {
    const frame = frameOf(target);
    const plot = frame === target && frame && mapIn(frame);
    if (plot && frame.matches(":focus-visible")) go(frame, plot);
  });
  document.addEventListener("focusout", ({ target }) => {
    const frame = frameOf(target);
    if (!frame || frame !== target) return;
    hide(frame);
    frame.setAttribute("aria-label", frame.dataset.about);
  });
  document.addEventListener("keydown", (event) => {
    const frame = frameOf(event.target);
    const plot = frame === event.target && frame && mapIn(frame);
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") open(plot, at);
    else if (event.key === "Escape") mark(plot, []);
    else if (event.key === " ") mark(plot, taken.has(at) ? [...taken].filter((point) => point !== at) : [...taken, at]);
    else if (steps[event.key]) at = nearest(plot, steps[event.key]);
    else return;
    event.preventDefault();
    if (event.key !== "Enter") go(frame, plot);
  });
})();
