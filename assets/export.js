/* "Export page": its address is drawn like all that the page shows, last of it. Who clicks before it is there means what has
   been chosen and not what was shown before, so the click waits for it. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const FRAMES = 600; // for which an address that Dash was given is waited for
  let asked = ""; // the view of the newest question
  let there = true; // the address is of that view
  let answering = true; // what is drawn now belongs to it
  let given = ""; // the address that was drawn for it; "" if none was
  let clicked = false;

  const link = () => document.getElementById("export-view");

  /* A view is asked for; the same one again changes nothing. */
  hookscope.exportWaits = function (view) {
    if (JSON.stringify(view) === asked) return;
    asked = JSON.stringify(view);
    there = answering = false;
    given = "";
  };

  /* Its answer begins, for what the server has made of it. */
  hookscope.exportComes = function (view) {
    asked = JSON.stringify(view);
    answering = true;
  };

  /* Dash is given an address, and puts it there in a while. */
  hookscope.exportIs = function (address) {
    if (!answering || there) return; // of what was shown before
    given = address;
    come(asked, 0);
  };

  function come(view, frames) {
    if (view !== asked || there) return; // another one was chosen meanwhile
    if (link().getAttribute("href") === given || frames > FRAMES) go();
    else requestAnimationFrame(() => come(view, frames + 1));
  }

  function go() {
    there = true;
    if (link()) link().removeAttribute("aria-busy");
    if (clicked) link().click();
    clicked = false;
  }

  /* All has come. What waits for its card or its pictures is not on the page yet, and the address may be behind it. */
  function ends(view) {
    if (view !== asked || there || given) return;
    if (hookscope.arriving()) requestAnimationFrame(() => ends(view));
    else go(); // it is as it was
  }
  document.addEventListener("answered", () => { if (answering) ends(asked); });

  document.addEventListener("click", (event) => {
    if (there || !event.target.closest("#export-view")) return;
    event.preventDefault();
    clicked = true;
    link().setAttribute("aria-busy", "true");
  }, true);
})();
