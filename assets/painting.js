/* Painting on A: what is drawn with the mouse or by keys becomes a part of how B is prepared (inputs/painting.py). */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST_STEP = 0.01; // of the picture's longer side, between two points of a stroke
  const isPainting = /^(box|stroke)\./;
  let drawing = null; // what the pointer is about: {shapes, place, from, before}

  const paper = () => document.getElementById("paper-box");
  const control = (name) => document.getElementById("paint-" + name);
  const picture = () => paper().querySelector("img");
  const size = () => picture().dataset.size.split("x").map(Number);
  const clamp = (value, most) => Math.max(0, Math.min(Math.round(value), most));

  const words = (text) => (text ? text.split(",") : []);
  const isCopy = (view) => Boolean(view.b) && view.b === view.a && (!view.model_b || view.model_b === view.model);
  const preparation = (view) => words(isCopy(view) ? view.prepare_b : view.prepare_a);

  /* Shapes as [kind, fill, numbers], as their text has them. */
  function shapes() {
    const text = preparation(hookscope.view()).find((word) => isPainting.test(word)) || "";
    return text.split("~").filter(Boolean).map((each) => {
      const [kind, fill, ...numbers] = each.split(".");
      return [kind, fill, numbers.map(Number)];
    });
  }
  const write = (all) => all.map(([kind, fill, numbers]) => [kind, fill, ...numbers].join(".")).join("~");

  /* B is A with these shapes; without any that is nothing of its own any more. `trying`: while they are being drawn. */
  function apply(all, { walking = false, trying = false } = {}) {
    const view = hookscope.view();
    const limits = document.getElementById("painting").dataset;
    const text = write(all);
    const full = all.length > Number(limits.shapes) || text.length > Number(limits.characters);
    control("told").hidden = !full;
    control("told").textContent = full ? "That is as much as one address holds. Take a shape away, or make a stroke shorter." : "";
    if (full) return;
    const others = preparation(view).filter((word) => !isPainting.test(word));
    if (!text && others.join(",") === view.prepare_a) return hookscope.choose({ b: "", prepare_b: "", edits_b: "" }, walking);
    const changes = { b: view.a, second_b: view.second_a, shown_b: view.shown_a, model_b: "", prepare_b: [...others, text].filter(Boolean).join(",") };
    if (!isCopy(view)) changes.edits_b = view.edits_a;
    if (trying) hookscope.tryOut(changes);
    else hookscope.keep(changes, walking);
  }

  function fill() {
    const chosen = control("fill").value;
    return chosen === "colour" ? control("colour").value.slice(1) : chosen;
  }

  function brush() {
    const share = Number(control("width").value);
    return share ? Math.max(1, Math.round((Math.min(...size()) * share) / 100)) : 1;
  }

  /* Where the pointer is, in pixels of the picture. */
  function place(event) {
    const box = picture().getBoundingClientRect();
    const [width, height] = size();
    const x = ((event.clientX - box.left) / box.width) * width;
    const y = ((event.clientY - box.top) / box.height) * height;
    return [clamp(Math.floor(x), width - 1), clamp(Math.floor(y), height - 1)];
  }

  /* The outlines of what is being drawn, until the picture shows it. */
  function outline(all) {
    const [width, height] = size();
    const drawn = document.createElementNS(SVG, "svg");
    drawn.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawn.setAttribute("preserveAspectRatio", "none");
    for (const [kind, , numbers] of all) {
      const box = kind === "box";
      const shape = document.createElementNS(SVG, box ? "rect" : "polyline");
      if (box) {
        const [left, top, right, bottom] = numbers;
        const named = { x: Math.min(left, right), y: Math.min(top, bottom), width: Math.abs(right - left) + 1, height: Math.abs(bottom - top) + 1 };
        for (const [name, value] of Object.entries(named)) shape.setAttribute(name, value);
      } else {
        const points = [];
        for (let at = 1; at < numbers.length; at += 2) points.push(`${numbers[at] + 0.5},${numbers[at + 1] + 0.5}`);
        shape.setAttribute("points", points.join(" "));
        shape.setAttribute("stroke-width", Math.max(numbers[0], width / 200));
        shape.classList.add("brush");
      }
      drawn.append(shape);
    }
    document.getElementById("paper-overlay").replaceChildren(drawn);
  }

  function moved([kind, chosen, numbers], right, down) {
    const [width, height] = size();
    const from = kind === "box" ? 0 : 1;
    const xs = numbers.slice(from).filter((_, at) => at % 2 === 0);
    const ys = numbers.slice(from).filter((_, at) => at % 2 === 1);
    const dx = Math.max(-Math.min(...xs), Math.min(right, width - 1 - Math.max(...xs)));
    const dy = Math.max(-Math.min(...ys), Math.min(down, height - 1 - Math.max(...ys)));
    return [kind, chosen, numbers.map((number, at) => (at < from ? number : number + ((at - from) % 2 ? dy : dx)))];
  }

  function begin(event) {
    if (event.button || !picture()) return;
    event.preventDefault();
    const [x, y] = place(event);
    const all = shapes();
    const inside = ([kind, , [left, top, right, bottom]]) => kind === "box" && x >= left && x <= right && y >= top && y <= bottom;
    const grabbed = control("tool").value === "box" ? all.findLastIndex(inside) : -1;
    drawing = { all, at: grabbed, from: [x, y], before: grabbed >= 0 ? all[grabbed] : null };
    if (grabbed < 0) {
      drawing.at = all.length;
      all.push(control("tool").value === "box" ? ["box", fill(), [x, y, x, y]] : ["stroke", fill(), [brush(), x, y, x, y]]);
    }
    paper().setPointerCapture(event.pointerId);
    paper().focus({ preventScroll: true });
    outline(all);
  }

  function go(event) {
    if (!drawing) return;
    const { all, at, from, before } = drawing;
    const [x, y] = place(event);
    if (before) all[at] = moved(before, x - from[0], y - from[1]);
    else if (all[at][0] === "box") all[at] = ["box", all[at][1], [...from, x, y]];
    else {
      const numbers = all[at][2];
      const step = Math.hypot(x - numbers[numbers.length - 2], y - numbers[numbers.length - 1]);
      if (step >= Math.max(1, Math.max(...size()) * LEAST_STEP)) numbers.push(x, y);
    }
    outline(all);
    apply(all, { trying: true });
  }

  function end() {
    if (!drawing) return;
    const { all } = drawing;
    drawing = null;
    document.getElementById("paper-overlay").replaceChildren();
    apply(all);
  }

  /* Enter puts a box into the middle, the arrows move the newest shape, Delete takes it away. */
  function byKey(event) {
    const all = shapes();
    const [width, height] = size();
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 50));
    const arrow = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (event.key === "Enter") all.push(["box", fill(), [width * 0.375, height * 0.375, width * 0.625, height * 0.625].map(Math.floor)]);
    else if (arrow && all.length) all.push(moved(all.pop(), ...arrow));
    else if (["Delete", "Backspace"].includes(event.key) && all.length) all.pop();
    else return;
    event.preventDefault();
    event.stopPropagation();
    apply(all, { walking: event.repeat });
  }

  function ready() {
    const box = paper();
    if (!box || box.dataset.ready) return;
    box.dataset.ready = "yes";
    const colour = document.createElement("input");
    colour.type = "color";
    colour.id = "paint-colour";
    colour.value = "#ff0000";
    colour.hidden = true;
    colour.setAttribute("aria-label", "Colour");
    control("fill").after(colour);
    control("fill").addEventListener("change", () => { colour.hidden = control("fill").value !== "colour"; });
    box.addEventListener("pointerdown", begin);
    box.addEventListener("pointermove", go);
    box.addEventListener("pointerup", end);
    box.addEventListener("pointercancel", end);
    box.addEventListener("keydown", byKey);
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-do=paint]")) return;
    ready();
    hookscope.choose({ painting: !hookscope.view().painting });
  });
  document.addEventListener("pointerover", (event) => { if (event.target.closest?.("#paper-box")) ready(); });
  document.addEventListener("focusin", (event) => { if (event.target.closest?.("#painting")) ready(); });
})();
