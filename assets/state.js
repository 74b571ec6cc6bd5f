/* What the worker is doing, polled while the page is visible: a second stream would cost a connection per tab. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  let shown = "";
  let fingerprint = null;
  let wanted = null; // the model that the header and the tree are about
  let second = null; // the other side's, where that is another one
  let secondIs = ""; // what it was when it was last seen
  let timer = 0;
  let lost = 0;
  let hasFailed = false;
  let hooks = [];
  let lastHooks = [];
  const MOST_HOOKS = 200; // that are listed

  function show(state) {
    const text = JSON.stringify(state);
    if (text !== shown) {
      shown = text;
      const dot = document.getElementById("worker-dot");
      dot.dataset.phase = state.phase;
      const more = state.waiting > 0 ? ` ${state.waiting} more waiting.` : "";
      const said = document.getElementById("worker-text");
      said.title = state.sentence + more;
      said.textContent = state.phase === "failed" ? "Not loaded." : said.title; // why, the banner says
      hookscope.banner("restart", state.phase === "restarting" ? said.title : ""); // whole, which a narrow header has no room for
      const count = state.hooks.filter((hook) => hook.purpose !== "cancelling").length; // the check for a cancel sees no value
      const live = document.getElementById("worker-hooks");
      live.textContent = count === 1 ? "1 hook live" : count + " hooks live";
      live.title = "List them: layer, kind, owner and purpose";
      hooks = state.hooks;
      if (count) lastHooks = state.hooks;
      listHooks();
    }
    const failed = state.phase === "failed";
    const again = failed && { text: "Try again", name: "open-model" };
    hookscope.banner("model", failed ? state.sentence : "", again);
    if (failed !== hasFailed) { // what stands where answers would be says so, or waits again
      hasFailed = failed;
      hookscope.set("tree", { missing: failed ? "There are no layers: the model could not be loaded." : "" });
      if (!state.fingerprint) hookscope.askAgain();
    }
    const key = state.fingerprint ? state.model + " " + state.fingerprint : null;
    if (key && key !== fingerprint) {
      fingerprint = key;
      const drawn = hookscope.drawnOf.has(key); // a question was here before this answer, and is being answered from it
      if (!drawn) hookscope.drawn = {};
      hookscope.set("model-ready", { data: { spec: state.model, fingerprint: state.fingerprint, drawn } });
    }
  }

  /* The hooks that are live, or those that were last: an answer's are gone as soon as it is there. */
  const NO_HOOK = "No hook is registered on the model now: each is removed as soon as its answer is there.";
  function listHooks() {
    const place = document.getElementById("live-hooks");
    if (place.hidden) return;
    const shown = hooks.length ? hooks : lastHooks;
    const text = hooks.length ? `${hooks.length} on the model now` : NO_HOOK + (shown.length ? " The last ones were:" : "");
    const said = document.createElement("p");
    said.textContent = text;
    const table = document.createElement("table");
    const rows = [["layer", "kind", "owner", "purpose"], ...shown.slice(0, MOST_HOOKS).map((hook) => [hook.layer || "(model)", hook.kind, hook.owner, hook.purpose])];
    rows.forEach((cells, place) => {
      const row = table.insertRow();
      for (const cell of cells) row.appendChild(document.createElement(place ? "td" : "th")).textContent = cell;
    });
    const more = document.createElement("p");
    more.textContent = shown.length > MOST_HOOKS ? `and ${shown.length - MOST_HOOKS} more` : "";
    place.replaceChildren(said, ...(shown.length ? [table, more] : []));
  }
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("#worker-hooks");
    const place = document.getElementById("live-hooks");
    if (!button && (place.hidden || target.closest("#live-hooks"))) return;
    place.hidden = !button || !place.hidden;
    document.getElementById("worker-hooks").setAttribute("aria-expanded", String(!place.hidden));
    listHooks();
  });
  document.addEventListener("keydown", ({ key }) => {
    const place = document.getElementById("live-hooks");
    if (key === "Escape" && !place.hidden) document.getElementById("worker-hooks").click();
  });

  function forget() {
    fingerprint = null;
    hookscope.drawnOf = new Set();
  }

  async function poll() {
    clearTimeout(timer);
    let next = 1000;
    if (wanted !== null && document.visibilityState === "visible") {
      try {
        const answer = await fetch(hookscope.url("state?model=" + encodeURIComponent(wanted)));
        if (answer.ok) {
          const state = await answer.json();
          if (!state.fingerprint || lost) forget(); // what is loaded now has to be shown anew
          if (lost) { lost = 0; hookscope.banner("server", ""); hookscope.askAgain(); }
          if (state.model === wanted) show(state);
          if (!state.fingerprint) next = 250;
          else if (state.phase === "computing") next = 400;
          if (second !== null && (await lookAtSecond())) next = 250;
        }
      } catch (error) {
        lost += 1;
        document.getElementById("worker-dot").dataset.phase = "failed";
        document.getElementById("worker-text").textContent = "No answer.";
        if (lost > 1) hookscope.banner("server", "Hookscope does not answer. Is it still running where you started it?");
        shown = "";
      }
    }
    timer = setTimeout(poll, next);
  }

  /* The other side's model: what waits for it is asked again when it has come, or failed. True while it has not. */
  async function lookAtSecond() {
    const model = second;
    const answer = await fetch(hookscope.url("state?model=" + encodeURIComponent(model)));
    if (!answer.ok || model !== second) return false;
    const { phase, fingerprint: print } = await answer.json();
    const is = `${model} ${phase === "failed"} ${print}`;
    if (secondIs && is !== secondIs) hookscope.askAgain();
    secondIs = is;
    return !print && phase !== "failed";
  }

  /* Follow a model, and another one beside it; called with every question. */
  hookscope.watch = function (model, beside) {
    const other = beside === model ? null : beside;
    if (other !== second) {
      second = other;
      secondIs = "";
    } else if (model === wanted) return;
    if (model !== wanted) fingerprint = null;
    wanted = model;
    poll();
  };
  hookscope.openModel = async function () {
    await hookscope.post("open?model=" + encodeURIComponent(wanted));
    poll();
  };
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") poll(); });
})();
