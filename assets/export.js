/* "Export page": its address is drawn like all that the page shows, last of it. Who clicks before it is there means what has
   been chosen and not what was shown before, so the click waits for it. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  let asked = ""; // the view of the newest question
  let there = true; // the address is of that one
  let answering = true; // what is drawn now belongs to that one
  let clicked = false;

  const link = () => document.getElementById("export-view");

  /* A view is asked for; the same one again changes nothing. */
  hookscope.exportWaits = function (view) {
    if (JSON.stringify(view) === asked) return;
    asked = JSON.stringify(view);
    there = answering = clicked = false;
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
    if (!answering) return;
    there = true;
    if (link()) link().removeAttribute("aria-busy");
    if (clicked) link().click();
    clicked = false;
  }
  document.addEventListener("drawn", ({ detail }) => {
    if (detail === "export") requestAnimationFrame(() => requestAnimationFrame(go)); // when Dash has put it there
  });
  document.addEventListener("answered", go); // nothing of it has changed
})();
