/* Sets of pictures: begin and stop a sweep, take a picture of a set as an input, and look again while a sweep runs. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const AGAIN_MS = 900;

  async function post(path, model) {
    const answer = await hookscope.post(`set/${path}?model=${encodeURIComponent(model)}`);
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
    const answer = await post(`${encodeURIComponent(asked.set)}/open/${asked.number}`, asked.model);
    if (!answer) return;
    const { a, b } = await answer.json();
    const depth = b && !asked.stay ? { tab: "depth", depth: "apart" } : { tab: "layers" };
    hookscope.choose({ a, b: asked.stay ? "" : b, model_b: "", prepare_a: "", prepare_b: "", edits_a: "", edits_b: "", side: "a", ...depth });
  });

  /* While a sweep runs the page asks for what has become known; not while it is hidden, and not before the last answer. */
  setInterval(() => {
    if (document.visibilityState === "visible" && document.querySelector("[data-again]")) hookscope.askAgain();
  }, AGAIN_MS);
})();
