/* Sets of pictures: begin and stop a sweep, take a picture of a set as an input, and look again while a sweep runs. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const AGAIN_MS = 900;

  async function post(path, model, more = "") {
    const answer = await hookscope.post(`set/${path}?model=${encodeURIComponent(model)}${more}`);
    if (!answer) hookscope.lost();
    else if (!answer.ok) hookscope.banner("connection", (await answer.text()).trim());
    return answer && answer.ok ? answer : null;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-do=sweep], [data-do=open-member]");
    if (!button || button.disabled) return;
    const asked = JSON.parse(button.dataset.value);
    if (button.dataset.do === "sweep") {
      button.disabled = true; // until the page is drawn anew
      if (await post(`${encodeURIComponent(asked.set)}/${asked.what}`, asked.model)) hookscope.askAgain();
      else button.disabled = false;
      return;
    }
    const second = asked.model_b || ""; // in which the same picture is B
    const alone = asked.stay || second;
    const beside = alone ? "&beside=-1" : Number.isInteger(asked.beside) ? `&beside=${asked.beside}` : "";
    const answer = await post(`${encodeURIComponent(asked.set)}/open/${asked.number}`, asked.model, beside);
    if (!answer) return;
    const { a, b: other, said } = await answer.json();
    const b = second ? a : other;
    const depth = b && asked.tab !== "layers" ? { tab: "depth", depth: "apart" } : { tab: "layers" };
    const { side, model_b, reading, reading_b, captions, captions_b } = hookscope.view();
    const turned = side === "b" && model_b ? { reading: reading_b, reading_b: reading, captions: captions_b, captions_b: captions } : {};
    const compared = second ? {} : { agreement: "" }; // which is about two models
    hookscope.choose({ a, b, model: asked.model, model_b: second, prepare_a: "", prepare_b: "", edits_a: "", edits_b: "", side: "a", ...turned, ...compared, ...(asked.layers ? { layers: asked.layers } : {}), ...depth });
    hookscope.tellIn("b", said);
  });

  /* Where a finding is seen: at the picture that shows it, or at the one that is looked at; B is A prepared otherwise. */
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-do=open-finding]");
    if (!button || button.disabled) return;
    const { set, number, model, view: changes, keep } = JSON.parse(button.dataset.value);
    let a = keep ? hookscope.view().a : "";
    if (!a) {
      const answer = await post(`${encodeURIComponent(set)}/open/${number}`, model);
      if (!answer) return;
      ({ a } = await answer.json());
    }
    const beside = changes.prepare_b ? { b: a, prepare_b: changes.prepare_b } : { b: "", prepare_b: "" };
    hookscope.choose({ a, model, model_b: "", side: "a", prepare_a: "", edits_a: "", edits_b: "", detail: "", channel: -1, ...changes, ...beside });
  });

  /* Two sets made of one, each looked through, the one against the other. */
  async function versus(button) {
    const { set, version, model, sides } = JSON.parse(button.dataset.value);
    button.disabled = true;
    const keys = [];
    for (const { name, numbers } of sides) {
      const body = JSON.stringify({ name, numbers, version });
      const answer = await hookscope.post(`set/${encodeURIComponent(set)}/subset`, { headers: { "Content-Type": "application/json" }, body });
      if (!answer || !answer.ok) {
        button.disabled = false;
        return answer ? hookscope.banner("connection", (await answer.text()).trim()) : hookscope.lost();
      }
      const { key } = await answer.json();
      hookscope.keepSet(key);
      keys.push(key);
    }
    for (const key of keys) if (!(await post(`${key}/start`, model))) return;
    const chosen = JSON.parse(document.getElementById("set-drop").dataset.chosen);
    hookscope.choose({ ...chosen, set_a: keys[0], set_b: keys[1] });
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do=versus]");
    if (button && !button.disabled) versus(button);
  });

  /* A click that changes what stands elsewhere on the page goes there, now and once it is drawn; not against somebody who
     scrolls meanwhile. */
  const DRAWN_MS = 4000;
  let following = () => {};
  function goTo(place) {
    following();
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const go = () => {
      const { top } = place.getBoundingClientRect();
      if (top < 0 || top > window.innerHeight / 2) place.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
    };
    const drawn = new MutationObserver(() => requestAnimationFrame(go));
    drawn.observe(place, { childList: true, subtree: true, characterData: true });
    const stop = new AbortController();
    following = () => { drawn.disconnect(); stop.abort(); };
    for (const kind of ["wheel", "touchmove", "keydown"]) window.addEventListener(kind, following, { passive: true, signal: stop.signal });
    setTimeout(following, DRAWN_MS);
    go();
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-scroll]");
    const place = button && !button.disabled && document.getElementById(button.dataset.scroll);
    if (place) goTo(place);
  });

  /* Where a part of a file's name is typed: a field that the page's answers do not touch. What is typed makes no entry of
     the browser's history. */
  const TYPING_MS = 250;
  let typing = 0;
  function nameField() {
    const about = "Show the pictures whose file's name contains this; * and ? stand for any letters, and for one";
    const field = document.createElement("input");
    Object.assign(field, { type: "search", placeholder: "file name", title: about, maxLength: 80, spellcheck: false });
    field.setAttribute("aria-label", about);
    field.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => {
        typing = 0;
        hookscope.choose({ named: field.value.trim(), from_picture: 0 }, true);
      }, TYPING_MS);
    });
    return field;
  }
  hookscope.showSets = function (view) {
    for (const place of document.querySelectorAll(".name-filter")) {
      const field = place.querySelector("input") || place.appendChild(nameField());
      if (!typing && field.value.trim() !== view.named) field.value = view.named;
    }
  };

  /* While a sweep runs the page asks for what has become known; not while it is hidden, and not before the last answer. */
  setInterval(() => {
    if (document.visibilityState === "visible" && document.querySelector("[data-again]:not([hidden] *)")) hookscope.askAgain();
  }, AGAIN_MS);
})();
