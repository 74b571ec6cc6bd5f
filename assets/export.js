/* "Export page": its address is drawn like all that the page shows, last of it. Who clicks before it is there means what has
   been chosen and not what was shown before, so the click waits for it. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const FRAMES = 120; // for which an address that was drawn is waited for: Dash puts it there later, or it is the same one
  let asked = ""; // the view of the newest question
  let before = ""; // the address then
  let there = true; // the address is of that view
  let answering = true; // what is drawn now belongs to it
  let drawn = false; // an address was drawn for it
  let clicked = false;

  const link = () => document.getElementById("export-view");
  const address = () => (link() && link().href) || "";

  /* A view is asked for; the same one again changes nothing. */
  hookscope.exportWaits = function (view) {
    if (JSON.stringify(view) === asked) return;
    asked = JSON.stringify(view);
    before = address();
    there = answering = drawn = false;
  };

  /* Its answer begins, for what the server has made of it. */
  hookscope.exportComes = function (view) {
    asked = JSON.stringify(view);
    answering = true;
  };

  document.addEventListener("click", (event) => {
    if (there || !event.target.closest("#export-view")) return;
    event.preventDefault();
    clicked = true;
    link().setAttribute("aria-busy", "true");
  }, true);

  function go() {
    there = true;
    if (link()) link().removeAttribute("aria-busy");
    if (clicked) link().click();
    clicked = false;
  }

  function come(view, frames) {
    if (view !== asked) return; // another one was chosen meanwhile
    if (address() !== before || frames > FRAMES) go();
    else requestAnimationFrame(() => come(view, frames + 1));
  }
  document.addEventListener("drawn", ({ detail }) => {
    if (detail !== "export" || !answering || there) return;
    drawn = true;
    come(asked, 0);
  });
  document.addEventListener("answered", () => { if (answering && !drawn) go(); }); // it has not changed
})();
