/* The tab "Run": ask whether anything is new, a slider over the steps that can be held while the page is drawn anew, and
   weights of a step as a side. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const LOOK_MS = 350; // between two questions whether anything is new: a look is on the page within a second
  const PATIENCE_MS = 3000; // after which what is new is asked for again, if it was not drawn
  const SILENT_MS = 800; // how long the answer to a move of the slider is waited for before the next is asked
  const REST_MS = 350; // for which the step stays before weights are loaded
  const SAMPLE = "sample-coffee";

  /* --- what is new */

  let asked = "";
  let askedAt = 0;
  let asking = false;
  async function look() {
    const state = document.querySelector("[data-tab=run] .run-side [data-run-token]");
    if (!state || asking || document.visibilityState !== "visible" || !hookscope.view()) return;
    asking = true;
    try {
      const answer = await fetch(hookscope.url("feed/now?" + state.dataset.runNames));
      if (!answer.ok) return;
      const { token, ages } = await answer.json();
      const places = document.querySelectorAll(".run-age");
      places.forEach((place, number) => { if (ages[number] && place.textContent !== ages[number]) place.textContent = ages[number]; });
      if (token === state.dataset.runToken) return;
      if (token === asked && Date.now() - askedAt < PATIENCE_MS) return; // it is on its way
      asked = token;
      askedAt = Date.now();
      hookscope.askAgain(true);
    } catch (error) {
      // the header says that the server does not answer
    } finally {
      asking = false;
    }
  }
  setInterval(look, LOOK_MS);

  /* --- the steps */

  const about = () => document.querySelector("#run-at [data-steps]");

  /* "first+distance*count,..." as a list. */
  let written = "";
  let steps = [];
  function stepsOf(text) {
    if (text === written) return steps;
    written = text;
    steps = [];
    for (const part of text ? text.split(",") : []) {
      const [first, distance, count] = part.split(/[+*]/).map(Number);
      for (let place = 0; place < count; place += 1) steps.push(first + distance * place);
    }
    return steps;
  }

  let slider = null;
  let held = false;
  function show() {
    const place = document.querySelector(".run-slider");
    const words = about();
    if (!place || !words) {
      if (slider) slider.hidden = true;
      return;
    }
    if (!slider) make();
    if (slider.parentElement !== place) place.append(slider);
    const there = stepsOf(words.dataset.steps);
    slider.hidden = there.length < 2;
    [slider.min, slider.max] = words.dataset.across.split(","); // so that it stands where the line stands
    if (!held && !next && !waiting) slider.value = there[words.dataset.place] ?? 0;
    tell();
  }

  function make() {
    slider = document.createElement("input");
    Object.assign(slider, { type: "range", step: 1, title: "Step: arrow keys go from look to look, Home and End to the first and the last" });
    slider.setAttribute("aria-label", "Step");
    slider.addEventListener("input", () => { held = true; move(nearest(Number(slider.value))); });
    slider.addEventListener("keydown", (event) => {
      const there = stepsOf(about()?.dataset.steps || "");
      const [key, place] = [KEYS[event.key], nearest(Number(slider.value))];
      if (!key || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault(); // its own would go a step, at which nobody looked
      move(Math.min(Math.max(key(place, there.length), 0), there.length - 1));
    });
    slider.addEventListener("change", () => { held = false; });
    slider.addEventListener("blur", () => { held = false; });
  }
  const tell = () => slider.setAttribute("aria-valuetext", `step ${Number(slider.value).toLocaleString("en")}`);
  const tenth = (count) => Math.max(Math.round(count / 10), 1);
  const KEYS = {
    ArrowLeft: (place) => place - 1, ArrowDown: (place) => place - 1,
    ArrowRight: (place) => place + 1, ArrowUp: (place) => place + 1,
    PageDown: (place, count) => place - tenth(count), PageUp: (place, count) => place + tenth(count),
    Home: () => 0, End: (place, count) => count - 1,
  };

  /* The place of the look whose step is nearest. */
  function nearest(step) {
    const there = stepsOf(about()?.dataset.steps || "");
    let found = 0;
    there.forEach((each, place) => { if (Math.abs(each - step) < Math.abs(there[found] - step)) found = place; });
    return found;
  }

  /* The marker follows the hand at once; what stands at the step follows as fast as it is answered. */
  let next = null;
  let waiting = 0;
  function move(place) {
    const there = stepsOf(about().dataset.steps);
    const step = there[Math.min(Math.max(place, 0), there.length - 1)];
    if (step === undefined) return;
    const [first, last] = about().dataset.across.split(",").map(Number);
    const line = document.querySelector("#run-marker .line");
    if (line) line.style.left = `${(100 * (step - first)) / Math.max(last - first, 1)}%`;
    if (slider) slider.value = step; // on the look, wherever the hand is
    if (slider) tell();
    next = { run_step: String(step) };
    if (!waiting) go();
  }
  function go() {
    clearTimeout(waiting);
    waiting = 0;
    if (!next) return void show();
    const fields = next;
    next = null;
    if (hookscope.choose(fields, true)) waiting = setTimeout(go, SILENT_MS);
  }
  document.addEventListener("answered", () => { if (waiting) go(); });

  /* A click on a picture over the steps goes to the look that is nearest to it. */
  document.addEventListener("click", (event) => {
    const frame = event.target.closest(".run-plots .run-frame");
    if (!frame || event.target.closest("button") || !about()) return;
    const [first, last] = about().dataset.across.split(",").map(Number);
    const box = frame.getBoundingClientRect();
    move(nearest(first + ((event.clientX - box.left) / box.width) * (last - first)));
  });

  /* The slider is no part of what is drawn, and follows it. */
  const drawn = new MutationObserver(show);
  function watch() {
    const place = document.getElementById("run-at");
    if (!place) return void setTimeout(watch, 100);
    drawn.observe(place, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-steps", "data-place"] });
    moved.observe(document.getElementById("run-weights"), { childList: true, subtree: true, attributes: true, attributeFilter: ["data-moves"] });
    show();
  }
  watch();

  /* A row of the tree as the run calls that layer: a second call is ":2" there and ":1" here. */
  hookscope.followedLayer = function (key) {
    const found = /^(.+):(\d{1,9})$/.exec(key);
    return found ? `${found[1]}:${Number(found[2]) + 1}` : key;
  };

  /* Weights of a step as A or as B, or of two steps as both; with A's picture in both, or one of the samples. */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do=run-weights]");
    if (button && !button.disabled && hookscope.view()) open(JSON.parse(button.dataset.value));
  });
  function open({ model, model_b, ...more }, { walking = false, kept = false } = {}) {
    const view = hookscope.view();
    const a = view.a || SAMPLE;
    const own = { second_b: view.second_a, prepare_b: view.prepare_a, shown_b: view.shown_a, captions_b: view.captions };
    const ofA = kept ? {} : { target: "", against: "", reading: "", edits_a: "" };
    const ofB = kept ? {} : { target_b: "", against_b: "", reading_b: "", edits_b: "" };
    const first = model ? { a, model, ...ofA, ...(view.b ? { model_b: view.model_b || view.model } : {}) } : { a };
    const second = model_b ? { b: view.b || a, ...(view.b ? {} : own), model_b, ...ofB } : {};
    const changes = { ...first, ...second, ...more, side: model ? "a" : "b" };
    if (changes.model_b === (changes.model || view.model)) changes.model_b = "";
    hookscope.move(changes, walking);
  }

  /* A side that moves with the step gets the weights that were saved last up to it, once the slider rests: each is a model
     that has to be loaded. What is explained and edited stays, because it is the same net. A model that is chosen
     otherwise stays until there are other weights. */
  const ofOneRun = (one, other) => one.split("@")[0] === other.split("@")[0];
  let moving = 0;
  let followed = "";
  function follow() {
    clearTimeout(moving);
    const words = document.querySelector("[data-tab=run] #run-weights [data-moves]");
    const wanted = words ? words.dataset.moves : "";
    if (wanted === followed) return;
    if (!wanted) return void (followed = "");
    moving = setTimeout(() => {
      const view = hookscope.view();
      const now = document.querySelector("[data-tab=run] #run-weights [data-moves]");
      if (!view || held || next || waiting || !now || now.dataset.moves !== wanted) return follow();
      followed = wanted;
      const [[field, model]] = Object.entries(JSON.parse(wanted));
      const there = (field === "model_b" && view.model_b) || view.model;
      const picture = field === "model" ? view.a : view.b;
      if (there !== model || !picture) open({ [field]: model }, { walking: true, kept: Boolean(picture) && ofOneRun(there, model) });
    }, REST_MS);
  }
  const moved = new MutationObserver(follow);
})();
