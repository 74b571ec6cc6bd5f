/* A and B: which model each is put into, how it is prepared for that, and which of the two the header and the tree show. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const other = (side) => (side === "a" ? "b" : "a");
  const model = (view, side) => (side === "b" && view.model_b) || view.model;
  const reading = (view, side) => (side === "b" && view.model_b ? view.reading_b : view.reading);

  const captionsField = (view, side) => (side === "b" && view.model_b ? "captions_b" : "captions");
  const captions = (view, side) => view[captionsField(view, side)];

  /* The view's fields for these two models; B's is named only where it is another. */
  const models = (a, b) => ({ model: a, model_b: b === a ? "" : b });

  /* Put a side into another model; layers that one of the models has stay. */
  hookscope.chooseModel = function (side, name) {
    const view = hookscope.view();
    const chosen = { [side]: name, [other(side)]: model(view, other(side)) };
    if (!view.b) chosen.b = chosen.a; // it goes where the first one goes
    const read = { [side]: "", [other(side)]: reading(view, other(side)) }; // another model's answer is read in its own way
    const texts = { captions: captions(view, "a"), captions_b: chosen.b === chosen.a ? "" : captions(view, "b") };
    hookscope.move({ ...models(chosen.a, chosen.b), reading: read.a, reading_b: chosen.b === chosen.a ? "" : read.b, ...texts, side });
  };

  hookscope.swap = function () {
    const view = hookscope.view();
    const turned = { prepare_a: view.prepare_b, prepare_b: view.prepare_a, shown_a: view.shown_b, shown_b: view.shown_a, edits_a: view.edits_b, edits_b: view.edits_a };
    const changes = { a: view.b, b: view.a, second_a: view.second_b, second_b: view.second_a, ...turned, side: other(view.side) };
    const own = view.apart || (view.model_b && (view.target_b || view.against_b));
    const explained = own ? { target: view.target_b, target_b: view.target, against: view.against_b, against_b: view.against } : {};
    const read = view.model_b ? { reading: view.reading_b, reading_b: view.reading } : {};
    const texts = view.model_b ? { captions: view.captions_b, captions_b: view.captions } : {};
    hookscope.move({ ...changes, ...models(model(view, "b"), view.model), ...explained, ...read, ...texts });
  };

  /* A text like "bgr,bytes,320x240" names what differs; each choice of a side is one of its words, or none. How an array's
     axes are read and what is painted stand among them too, and are chosen elsewhere. */
  const words = (text) => (text ? text.split(",") : []);
  const painted = /^(box|stroke)\./;
  const elsewhere = /^(channels-|box\.|stroke\.)/;
  function prepare(side) {
    const chosen = Array.from(document.querySelectorAll(`[data-prepare=${side}]`), (select) => select.value);
    const others = words(hookscope.view()["prepare_" + side]).filter((word) => elsewhere.test(word));
    hookscope.choose({ ["prepare_" + side]: [...chosen.filter((word) => word !== "own"), ...others].join(","), side });
  }

  /* What is painted lies at places of one picture, and goes with it. */
  hookscope.unpainted = function (side) {
    const before = hookscope.view()["prepare_" + side];
    const kept = words(before).filter((word) => !painted.test(word)).join(",");
    return before && kept !== before ? { ["prepare_" + side]: kept } : {};
  };

  /* Compare a side's picture with the captions that stand in its box: each line that says something, once. */
  const MOST_CAPTIONS = 16; // as asking/captions.py has it, and
  const LONGEST_CAPTION = 200;
  function compare(side) {
    const view = hookscope.view();
    const box = document.querySelector(`[data-captions=${side}]`);
    const lines = box.value.split(/[\r\n]+/).map((line) => Array.from(line.trim().replace(/\s+/g, " ")).slice(0, LONGEST_CAPTION).join(""));
    const text = Array.from(new Set(lines.filter(Boolean))).slice(0, MOST_CAPTIONS).join("\n");
    const field = captionsField(view, side);
    box.value = text;
    if (text !== view[field]) hookscope.choose({ [field]: text, [field.replace("captions", "target")]: "", [field.replace("captions", "against")]: "", [field.replace("captions", "reading")]: "" });
  }

  /* What the boxes' own controls show, which are plain elements that the page's answers do not touch. */
  hookscope.showSides = function (view) {
    for (const select of document.querySelectorAll("[data-model]")) {
      const name = model(view, select.dataset.model);
      // a checkpoint that came after the page was opened
      if (!Array.from(select.options).some((option) => option.value === name)) select.add(new Option(name, name));
      select.value = name;
    }
    if (document.querySelector("[data-model] option + option")) {
      for (const fold of document.querySelectorAll(".model-side, .likeness-side")) fold.hidden = false;
    }
    for (const select of document.querySelectorAll("[data-prepare]")) {
      const named = words(view["prepare_" + select.dataset.prepare]);
      const asked = select.dataset.aspect === "pixels" && named.find((word) => /^\d+x\d+$/.test(word));
      if (asked && !Array.from(select.options).some((option) => option.value === asked)) select.add(new Option(asked.replace("x", " × "), asked));
      select.value = Array.from(select.options, (option) => option.value).find((value) => named.includes(value)) || "own";
    }
    for (const box of document.querySelectorAll("[data-captions]")) {
      if (box !== document.activeElement) box.value = captions(view, box.dataset.captions);
    }
    for (const select of document.querySelectorAll("[data-same]")) {
      select.value = "";
      select.disabled = !view.a;
    }
    const letter = document.getElementById("model-letter");
    letter.hidden = !(view.a && view.b);
    letter.textContent = view.side.toUpperCase();
    letter.className = `letter small ${view.side}`;
    letter.title = `The header and the tree are about ${view.side.toUpperCase()}. Click the other picture to change that.`;
    for (const side of ["a", "b"]) {
      document.getElementById(`input-${side}-box`).classList.toggle("looked-at", view.side === side && Boolean(view.a && view.b));
    }
  };

  document.addEventListener("change", (event) => {
    const { model: modelOf, prepare: prepareOf, same, captions: captionsOf } = event.target.dataset || {};
    const view = hookscope.view();
    if (!view) return;
    if (modelOf) hookscope.chooseModel(modelOf, event.target.value);
    if (prepareOf) prepare(prepareOf);
    if (captionsOf) compare(captionsOf);
    const same_ = { b: view.a, second_b: view.second_a, shown_b: view.shown_a, edits_b: view.edits_a, side: "b" };
    if (same === "model_b" && event.target.value) hookscope.move({ ...same_, prepare_b: view.prepare_a, ...models(view.model, event.target.value), captions_b: view.captions });
    if (same === "prepare_b" && event.target.value) {
      const axes = words(view.prepare_a).filter((word) => word.startsWith("channels-"));
      hookscope.choose({ ...same_, prepare_b: [event.target.value, ...axes].join(",") });
    }
  });

  /* Put A's picture into a model, as A or as B beside it; where only B has one, that is it. */
  function put(side, name) {
    const view = hookscope.view();
    if (side === "a" && !view.a) return hookscope.move({ ...asA(view), ...models(name, model(view, "b")), side });
    if (side === "a") return hookscope.chooseModel("a", name);
    const shown = view.a ? { b: view.a, second_b: view.second_a, shown_b: view.shown_a, prepare_b: view.prepare_a } : {};
    hookscope.move({ ...shown, ...models(view.model, name), reading_b: "", target_b: "", against_b: "", captions_b: view.captions, side });
  }
  const asA = (view) => ({ a: view.b, second_a: view.second_b, shown_a: view.shown_b, prepare_a: view.prepare_b });

  document.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-put]");
    if (chosen && !chosen.disabled && hookscope.view()) put(chosen.dataset.put, chosen.dataset.value);
    const button = event.target.closest("[data-compare]");
    if (button && hookscope.view()) compare(button.dataset.compare);
  });
  document.addEventListener("keydown", (event) => {
    const side = event.target.dataset?.captions;
    if (side && hookscope.view() && event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare(side);
  });

  /* The side that is clicked is the one that the header and the tree are about. */
  document.addEventListener("click", (event) => {
    const box = event.target.closest(".input");
    const view = hookscope.view();
    if (!box || !view || !view.a || !view.b || view.side === box.dataset.side) return;
    if (event.target.closest("[data-do=swap], [data-do=remove-input], select")) return;
    hookscope.look(box.dataset.side);
  });
})();
