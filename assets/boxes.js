/* A detector's boxes: the row under the pointer, or in focus, lights its rectangle on the picture, and the reverse. */
(function () {
  "use strict";

  function light(from) {
    const box = from.closest?.("[data-box]");
    const side = box && box.closest(".input");
    for (const lit of document.querySelectorAll("[data-box].lit")) {
      if (lit.dataset.box !== box?.dataset.box || !side.contains(lit)) lit.classList.remove("lit");
    }
    if (!side) return;
    for (const other of side.querySelectorAll(`[data-box="${box.dataset.box}"]`)) {
      other.classList.add("lit");
      if (box !== other && other.classList.contains("row")) reveal(other);
    }
  }

  /* Only the list scrolls, and not the page. */
  function reveal(row) {
    const list = row.parentElement;
    const [inner, outer] = [row.getBoundingClientRect(), list.getBoundingClientRect()];
    if (inner.top < outer.top) list.scrollTop -= outer.top - inner.top;
    else if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom;
  }

  document.addEventListener("mouseover", (event) => light(event.target));
  document.addEventListener("focusin", (event) => light(event.target));
  document.addEventListener("focusout", (event) => { if (!event.relatedTarget) light(document.body); });
})();
