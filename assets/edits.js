/* Mute and boost: the sliders and keys of the enlarged channel, which write a side's edits into the view.

   A side's edits are one text, as dashboard/asking/edits.py has it: "layer~channel~gain~layer~channel~gain", where too long
   with "" for a layer that is that of the edit before. While a slider is dragged only what is on top is asked for, and nothing of it is kept; what is released is. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const MOST = 40; // of a side, as asking/edits.py has it, and
  const LONGEST = 700; // characters of its text
  let chosen = ""; // "a", "b" or "ab": the sides that a person has chosen to edit
  let controls = null;
  let dragging = null; // the slider that is being dragged

  function read(text) {
    const pieces = text ? text.split("~") : [];
    let before = "";
    return Array.from({ length: Math.floor(pieces.length / 3) }, (_, at) => {
      const [key, channel, what] = pieces.slice(3 * at, 3 * at + 3);
      before = key || before;
      return [before, channel, what];
    });
  }
  function write(edits) {
    const join = (all) => all.map((each) => each.join("~")).join("~");
    const text = join(edits);
    if (text.length <= LONGEST) return text;
    return join(edits.map(([key, ...rest], at) => [at && edits[at - 1][0] === key ? "" : key, ...rest]));
  }
  const keyOf = (view) => view.detail.replace(/%/g, "%25").replace(/~/g, "%7E");
  const usual = (view) => (view.b ? "b" : "a");
  const sides = (view) => Array.from(view.a && view.b && chosen ? chosen : usual(view));

  /* What the first of the edited sides has of a channel ("" for the layer): a gain as text, or "mean". */
  function found(view, channel) {
    const edit = read(view["edits_" + sides(view)[0]]).find((each) => each[0] === keyOf(view) && each[1] === channel);
    return edit ? edit[2] : "1";
  }

  /* The view's fields with one edit more, or with another in its place; null where they would be too many. */
  function changed(view, channel, what) {
    const fields = {};
    for (const side of sides(view)) {
      const kept = read(view["edits_" + side]).filter((each) => each[0] !== keyOf(view) || each[1] !== channel);
      if (what !== "1") kept.push([keyOf(view), channel, what]);
      const text = write(kept);
      if (what !== "1" && (kept.length > MOST || text.length > LONGEST)) return null;
      fields["edits_" + side] = text;
    }
    return fields;
  }

  const ofChannel = (view) => (view.channel >= 0 ? String(view.channel) : "");

  /* Change the enlarged channel, or its layer: what is released, clicked, or typed. */
  function set(channel, what) {
    const view = hookscope.view();
    const fields = changed(view, channel, what);
    if (!fields) return hookscope.banner("edits", "No more edits fit into the address of this page. Take one back first.");
    hookscope.banner("edits", "");
    hookscope.keep(fields);
  }
  hookscope.edit = (what) => set(ofChannel(hookscope.view()), what);

  function element(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function slider(name, channelOf) {
    const input = element("input", { type: "range", min: "0", max: "2", step: "0.05", value: "1", "aria-label": `Gain of the ${name}` });
    const number = element("output", { class: "mono" }, "1.00");
    const row = element("label", { class: "gain", title: `0 mutes the ${name}, 1 leaves it as it is, 2 doubles it` }, element("span", {}, name), input, number);
    input.addEventListener("input", () => {
      const view = hookscope.view();
      dragging = input;
      number.textContent = Number(input.value).toFixed(2);
      hookscope.tryOut(changed(view, channelOf(view), String(Number(input.value))));
    });
    const release = () => {
      dragging = null;
      set(channelOf(hookscope.view()), String(Number(input.value)));
    };
    input.addEventListener("change", release);
    /* One that is released where it was taken has not changed, as the browser sees it. */
    for (const kind of ["pointerup", "pointercancel"]) {
      document.addEventListener(kind, () => setTimeout(() => { if (dragging === input) release(); }));
    }
    return { row, input, number, channelOf };
  }

  function make(place) {
    const channel = slider("channel", ofChannel);
    const layer = slider("whole layer", () => "");
    const which = element("span", { class: "which-side", role: "group", "aria-label": "Which side is changed" }, "of ");
    for (const [value, text] of [["a", "A"], ["b", "B"], ["ab", "both"]]) {
      const button = element("button", { class: "chip", "data-side-edited": value }, text);
      button.addEventListener("click", () => { chosen = value; hookscope.showEdits(hookscope.view()); });
      which.append(button);
    }
    const beside = element("button", { class: "link", title: "Show A's picture a second time as B, and change it there" }, "compare with B, the same");
    beside.addEventListener("click", () => {
      const view = hookscope.view();
      const same = { b: view.a, second_b: view.second_a, shown_b: view.shown_a, prepare_b: view.prepare_a, model_b: "", side: "b" };
      hookscope.choose({ ...same, edits_a: "", edits_b: view.edits_a });
    });
    place.append(which, channel.row, layer.row, beside);
    controls = { sliders: [channel, layer], which, beside };
  }

  /* What the controls show, which are plain elements that the page's answers do not touch. */
  hookscope.showEdits = function (view) {
    const place = document.getElementById("detail-edit");
    if (!place || !view) return;
    if (!controls) make(place);
    for (const { row, input, number, channelOf } of controls.sliders) {
      const gain = found(view, channelOf(view));
      row.hidden = channelOf === ofChannel && view.channel < 0;
      if (input === dragging) continue;
      input.value = gain === "mean" ? "1" : gain;
      number.textContent = gain === "mean" ? "mean" : Number(gain).toFixed(2);
    }
    controls.which.hidden = !(view.a && view.b);
    controls.beside.hidden = !view.a || Boolean(view.b);
    const edited = sides(view).join("");
    for (const button of controls.which.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", button.dataset.sideEdited === edited);
      button.classList.toggle("chosen", button.dataset.sideEdited === edited);
    }
  };

  /* m mutes the enlarged channel, b doubles it, 0 resets it. */
  const keys = { m: "0", b: "2", 0: "1" };
  document.addEventListener("keydown", (event) => {
    const view = hookscope.view();
    if (!view || !view.detail || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    if (event.target.closest("input:not([type=range]), textarea, select, [role=tree], [role=listbox], .ag-root, dialog")) return;
    event.preventDefault();
    hookscope.edit(keys[event.key]);
  });
})();
