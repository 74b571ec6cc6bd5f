/* Small pictures enlarged over the page: a card's map, one head of attention, an attribution. Arrow keys walk those beside it. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const MOST_RATIO = 6; // a picture of one row is not drawn as wide as it is
  let dialog = null;
  let items = [];
  let at = 0;

  function element(tag, className, ...children) {
    const made = document.createElement(tag);
    made.className = className;
    made.append(...children);
    return made;
  }

  function make() {
    dialog = element("dialog", "enlarged");
    dialog.append(element("div", "enlarged-pictures"), element("div", "enlarged-foot"));
    dialog.addEventListener("click", (event) => { if (!event.target.closest(".enlarged-foot")) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation(); // the page's own keys wait
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step || !items[at + step]) return;
      event.preventDefault();
      at += step;
      draw();
    });
    document.body.append(dialog);
  }

  /* Pictures that lie on each other, each as large as the window allows. */
  function stacked({ sources, smooth }, count) {
    const stack = element("div", smooth ? "stack" : "stack sharp");
    sources.forEach((source, place) => {
      const image = element("img", place ? "heat" : "");
      image.alt = "";
      if (!place) {
        image.addEventListener("load", () => {
          const ratio = Math.min(image.naturalWidth / Math.max(image.naturalHeight, 1), MOST_RATIO);
          stack.style.width = `min(${90 / count}vw, ${72 * ratio}vh)`;
        });
      }
      image.src = source;
      stack.append(image);
    });
    return stack;
  }

  function draw() {
    const { name, figures } = items[at];
    const [pictures, foot] = dialog.children;
    pictures.replaceChildren(...figures.map((figure) =>
      element("figure", "", stacked(figure, figures.length), element("figcaption", "", ...figure.caption.map((node) => node.cloneNode(true))))));
    for (const dead of pictures.querySelectorAll("button")) dead.replaceWith(element("span", "", ...dead.childNodes));
    const close = element("button", "link", "Close");
    close.addEventListener("click", () => dialog.close());
    const keys = items.length > 1 ? `${at + 1} of ${items.length} · ← → walk · Esc closes` : "Esc closes";
    foot.replaceChildren(element("span", "muted", keys), close);
    dialog.setAttribute("aria-label", `${name}, enlarged`);
    close.focus();
  }

  function show(found, place) {
    if (!found.length) return;
    if (!dialog) make();
    items = found;
    at = Math.max(0, place);
    if (!dialog.open) dialog.showModal();
    draw();
  }

  /* A card's map: the pictures of A and of B, each with what stands under it. */
  function ofMap(card) {
    const plot = card.querySelector(".cam .js-plotly-plot");
    const sources = ((plot && plot.layout.images) || []).map((image) => image.source);
    const captions = [...card.querySelectorAll(".cam-text .cam-side")];
    const figures = captions.map((caption, side) => (
      { sources: sources.slice(2 * side, 2 * side + 2), smooth: true, caption: [caption] }
    ));
    return figures.length && sources.length ? [{ name: card.querySelector(".cam-head").firstChild.textContent, figures }] : [];
  }

  function ofHead(cell) {
    const [name, ...caption] = [cell.querySelector(".cell-name"), cell.querySelector(".cell-name"), cell.lastElementChild];
    return { name: name.firstChild.textContent, figures: [{ sources: [name.dataset.large], caption }] };
  }

  function ofAttribution(box) {
    const sources = [...box.querySelectorAll(".stack img")].map((image) => image.src);
    const title = box.parentElement.parentElement.querySelector(".small-title");
    return { name: title.textContent, figures: [{ sources, smooth: true, caption: [title, ...box.querySelectorAll(".cam-caption")] }] };
  }

  document.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    const head = event.target.closest(".cell-name");
    const stack = event.target.closest(".attribution .stack:not(.waiting)");
    if (head) {
      const cells = [...head.closest(".cells").children];
      show(cells.map(ofHead), cells.indexOf(head.closest(".cell")));
    } else if (stack) {
      const boxes = [...document.querySelectorAll(".attribution:has(.heat)")];
      show(boxes.map(ofAttribution), boxes.indexOf(stack.closest(".attribution")));
    } else if (card && event.target.closest(".cam, [data-do=enlarge]")) show(ofMap(card), 0);
  });
  hookscope.enlarged = () => Boolean(dialog && dialog.open);
})();
