/* A wall's pictures are on the screen before Plotly, which takes longer than everything else, has drawn their figure: they
   lie where it will draw them, under the texts of their card, until it has. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const PATIENCE_MS = 150; // how long pictures are waited for before Plotly begins without them
  const LAST_MS = 2000; // after which what lies over a figure goes in any case

  const isWall = ([id, { figure }]) => Boolean(id.type === "card-wall" && figure && figure.layout.images);

  /* The pictures of a message's figures, which load while it waits: Plotly asks for them only when it is done. */
  hookscope.fetchPictures = function (message) {
    message.since = performance.now();
    message.pictures = new Map();
    for (const [, { figure }] of message.updates) {
      for (const { source } of (figure && figure.layout.images) || []) {
        const picture = new Image();
        picture.decoding = "sync";
        picture.src = source;
        message.pictures.set(source, picture);
      }
    }
  };

  /* How much of a message may be put on the page now: "nothing" while its walls' pictures are loading, then "texts", with
     the pictures in their places, and, once that is painted, "all". Asked when it has come, and then while each frame is
     made. */
  hookscope.allowed = function (message, elementOf, frames) {
    if (message.allowed === "all") return "all";
    const walls = message.updates.filter(isWall);
    const shown = walls.map(([id, { figure }]) => [elementOf(id), figure]);
    const isNew = shown.some(([graph, figure]) => !graph || unseen(graph, figure.layout.images).length);
    if (!isNew || message.laid || document.hidden) return (message.allowed = "all");
    const comes = walls.some(([, { figure }]) => figure.layout.images.some(({ source }) => !message.pictures.get(source).complete));
    if (!frames || (comes && performance.now() - message.since < PATIENCE_MS)) return "nothing";
    if (shown.some(([graph]) => !graph)) return "texts"; // its card is being made
    for (const [id, props] of walls) {
      hookscope.set(id, { style: props.style });
      lay(elementOf(id), props.figure.layout, message.pictures);
    }
    for (const [id, props] of message.updates) {
      if (props.figure && !isWall([id, props])) elementOf(id)?.classList.add("outdated");
    }
    message.laid = true;
    return "texts";
  };

  /* Take away what lies over figures that are not going to be drawn. */
  hookscope.clearEarly = () => document.querySelectorAll(".early").forEach((box) => box.remove());

  /* The pictures that a graph has not drawn. */
  function unseen(graph, images) {
    const there = [...graph.querySelectorAll(".imagelayer image")].map((image) => image.href.baseVal);
    return images.map(({ source }) => source).filter((source) => !there.includes(source));
  }

  /* A figure has no margins, and its panels are as large as their cells' proportions let them be, at the left and on top. */
  function lay(graph, layout, pictures) {
    graph.parentElement.querySelectorAll(":scope > .early").forEach((box) => box.remove());
    const width = layout.width || graph.clientWidth;
    const box = document.createElement("div");
    box.className = "early";
    Object.assign(box.style, { left: graph.offsetLeft + "px", top: graph.offsetTop + "px", width: width + "px", height: layout.height + "px" });
    for (const { source, xref, yref, sizex, sizey } of layout.images) {
      const [x, y] = [layout["xaxis" + xref.slice(1)], layout["yaxis" + yref.slice(1)]];
      const across = x.range[1];
      const down = y.range[0];
      const cell = Math.min(((x.domain[1] - x.domain[0]) * width) / across, layout.height / down / y.scaleratio);
      const picture = pictures.get(source);
      const size = { left: x.domain[0] * width, top: 0, width: sizex * cell, height: sizey * cell * y.scaleratio };
      for (const [name, value] of Object.entries(size)) picture.style[name] = value + "px";
      const grid = document.createElement("div"); // between the cells, and not around them
      const [half, gap] = [x.gridwidth / 2, x.gridwidth];
      const inside = { left: size.left + half, top: half, width: size.width - gap, height: size.height - gap };
      for (const [name, value] of Object.entries(inside)) grid.style[name] = value + "px";
      grid.style.setProperty("--gap", gap + "px");
      grid.style.backgroundSize = `${cell}px ${cell * y.scaleratio}px`;
      grid.style.backgroundPosition = `${-gap}px ${-gap}px`;
      box.append(picture, grid);
    }
    graph.parentElement.append(box);
    const awaited = new Set(unseen(graph, layout.images));
    const drawn = ({ target }) => {
      if (target instanceof SVGImageElement && graph.contains(target)) awaited.delete(target.href.baseVal);
      if (box.isConnected && awaited.size) return;
      document.removeEventListener("load", drawn, true);
      requestAnimationFrame(() => box.remove());
    };
    document.addEventListener("load", drawn, true);
    setTimeout(() => box.remove(), LAST_MS);
  }
})();
