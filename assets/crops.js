/* A crop of a picture under the pointer, or with the keyboard on it: the picture around it, and in that what was cut out. */
(function () {
  "use strict";
  const SIDE_PX = 256;
  const GAP_PX = 8;
  let shown = null; // the cell
  let box = null;

  function element(className, ...children) {
    const made = document.createElement("div");
    made.className = className;
    made.append(...children);
    return made;
  }

  function show(cell) {
    if (cell === shown) return;
    hide();
    const image = cell.querySelector("img");
    if (!image || !image.naturalWidth) return;
    const [left, top, right, bottom] = cell.dataset.around.split(",").map(Number);
    const picture = document.createElement("img");
    picture.src = image.src;
    picture.alt = "";
    const part = element("frame-mark");
    Object.assign(part.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    const whole = right - left > 99.5 && bottom - top > 99.5;
    const text = element("");
    text.textContent = cell.getAttribute("aria-label");
    box = element("around-crop", element("", picture, ...(whole ? [] : [part])), text);
    box.setAttribute("aria-hidden", "true"); // the cell's own name says it
    const ratio = image.naturalWidth / image.naturalHeight;
    box.style.width = `${Math.round(ratio < 1 ? Math.max(SIDE_PX * ratio, 120) : SIDE_PX)}px`;
    document.body.append(box);
    cell.dataset.said = cell.title;
    cell.removeAttribute("title"); // else the browser would show it besides
    shown = cell;
    place(cell);
  }

  /* Beside all the crops, where there is room, so that the next one can be pointed at; else above the cell, or below. */
  function place(cell) {
    const { width, height } = box.getBoundingClientRect();
    const own = cell.getBoundingClientRect();
    const all = cell.parentElement.getBoundingClientRect();
    const clamp = (at, most) => Math.max(Math.min(at, most - GAP_PX), GAP_PX);
    let left = all.right + GAP_PX;
    let top = clamp(own.top + own.height / 2 - height / 2, window.innerHeight - height);
    if (left + width > window.innerWidth) left = all.left - width - GAP_PX;
    if (left < 0) {
      left = clamp(own.left + own.width / 2 - width / 2, window.innerWidth - width);
      top = own.top - height - GAP_PX;
      if (top < 0) top = clamp(own.bottom + GAP_PX, window.innerHeight - height);
    }
    box.style.left = `${left}px`;
    box.style.top = `${top}px`;
  }

  function hide() {
    if (!shown) return;
    shown.title = shown.dataset.said;
    box.remove();
    shown = box = null;
  }

  const cellOf = (target) => target.closest && target.closest("[data-around]");
  document.addEventListener("pointerover", (event) => {
    const cell = event.pointerType === "touch" ? null : cellOf(event.target);
    if (cell) show(cell);
    else hide();
  });
  document.addEventListener("focusin", (event) => {
    const cell = cellOf(event.target);
    if (cell && cell.matches(":focus-visible")) show(cell);
    else hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  for (const name of ["focusout", "click"]) document.addEventListener(name, hide, true);
  const follow = () => {
    if (shown && shown.matches(":hover, :focus-visible")) place(shown);
    else hide();
  };
  document.addEventListener("scroll", follow, { capture: true, passive: true });
  setInterval(() => { if (shown && !shown.isConnected) hide(); }, 500); // the page was drawn anew under it
})();
