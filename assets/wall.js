/* Linked hover: the channel under the pointer is outlined in A, B, B - A and A restored in B at once. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});

  const WALLS = 4; // side by side at most

  function outlines(graph) {
    let found = graph.parentElement.querySelectorAll(":scope > .outline:not(.selected)");
    if (found.length < WALLS) {
      for (let n = found.length; n < WALLS; n += 1) {
        const box = document.createElement("div");
        box.className = "outline";
        box.hidden = true;
        graph.parentElement.append(box);
      }
      found = graph.parentElement.querySelectorAll(":scope > .outline:not(.selected)");
    }
    return found;
  }

  function place(box, layout, number, column, row, offset) {
    const x = layout["xaxis" + number];
    const y = layout["yaxis" + number];
    const [left, right] = [x.l2p(column), x.l2p(column + 1)];
    const [top, bottom] = [y.l2p(row), y.l2p(row + 1)];
    box.style.left = offset.left + x._offset + Math.min(left, right) + "px";
    box.style.top = offset.top + y._offset + Math.min(top, bottom) + "px";
    box.style.width = Math.abs(right - left) + "px";
    box.style.height = Math.abs(bottom - top) + "px";
    box.hidden = false;
  }

  window.dash_clientside = window.dash_clientside || {};
  window.dash_clientside.hookscope = window.dash_clientside.hookscope || {};
  window.dash_clientside.hookscope.wallHover = function () {
    for (const { prop_id: property, value } of window.dash_clientside.callback_context.triggered) {
      const id = property.slice(0, property.lastIndexOf("."));
      const graph = document.getElementById(id);
      const plot = graph && graph.querySelector(".js-plotly-plot");
      if (!plot || !plot._fullLayout) continue;
      const boxes = outlines(graph);
      boxes.forEach((box) => { box.hidden = true; });
      const point = value && value.points && value.points[0];
      if (!point || !plot.data.some((trace) => trace.type === "heatmap")) continue;
      const offset = { left: graph.offsetLeft, top: graph.offsetTop };
      ["", "2", "3", "4"].forEach((number, index) => {
        if (plot._fullLayout["xaxis" + number] && plot._fullLayout._plots["x" + number + "y" + number]) {
          place(boxes[index], plot._fullLayout, number, Math.floor(point.x), Math.floor(point.y), offset);
        }
      });
    }
  };
  /* Graphs follow their width: that of the window, or the one that they get when what was hidden is shown. */
  const widths = new ResizeObserver((graphs) => {
    for (const { target, contentRect } of graphs) {
      const plot = target.querySelector(".js-plotly-plot");
      const drawn = plot && plot._fullLayout && plot._fullLayout.width;
      if (drawn && contentRect.width && Math.abs(drawn - contentRect.width) > 1) window.Plotly.Plots.resize(plot);
    }
  });
  hookscope.followWidth = (graph) => widths.observe(graph);

  /* Outline the enlarged channel wherever its layer's wall is on the page. */
  hookscope.mark = function () {
    document.querySelectorAll(".wall .outline.selected").forEach((box) => box.remove());
    const view = hookscope.view();
    const walk = hookscope.walk;
    if (!view || !view.detail || !walk || walk.layer !== view.detail) return;
    const cell = walk.order.indexOf(view.channel);
    const position = view.layers.indexOf(view.detail);
    const graph = document.getElementById(JSON.stringify({ card: position, type: "card-wall" }));
    const plot = graph && graph.querySelector(".js-plotly-plot");
    if (cell < 0 || !plot || !plot._fullLayout) return;
    if (!plot.marking && plot.on) {
      plot.marking = true;
      plot.on("plotly_afterplot", () => hookscope.mark());
    }
    const offset = { left: graph.offsetLeft, top: graph.offsetTop };
    ["", "2", "3", "4"].forEach((number) => {
      if (!plot._fullLayout["xaxis" + number] || !plot._fullLayout._plots["x" + number + "y" + number]) return;
      const box = document.createElement("div");
      box.className = "outline selected";
      graph.parentElement.append(box);
      place(box, plot._fullLayout, number, cell % walk.columns, Math.floor(cell / walk.columns), offset);
    });
  };

  document.addEventListener("mouseout", (event) => {
    const wall = event.target.closest && event.target.closest(".wall");
    if (wall && !wall.contains(event.relatedTarget)) {
      wall.querySelectorAll(".outline:not(.selected)").forEach((box) => { box.hidden = true; });
    }
  });
})();
