/* The matrix of layers by keyboard: one stop of the tab key, arrow keys go from pair to pair, Enter opens both layers. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  let at = [0, 0]; // row and column of the pair

  /* Show both layers of a pair; nothing where there is none. */
  hookscope.openPair = function ({ rows, columns }, row, column) {
    const keys = [rows && rows[row], columns && columns[column]];
    if (keys[0] && keys[1]) hookscope.choose({ layers: Array.from(new Set(keys)), tab: "layers" });
  };

  const plotIn = (matrix) => {
    const plot = matrix.querySelector(".js-plotly-plot");
    return plot && plot._fullLayout && plot.layout.meta ? plot : null;
  };

  function outline(matrix) {
    let box = matrix.querySelector(":scope > .outline");
    if (!box) {
      box = document.createElement("div");
      box.className = "outline selected";
      matrix.append(box);
    }
    return box;
  }

  /* Outline the pair, say what it is, and show it as the pointer would. */
  function show(matrix, plot) {
    const { rows, columns } = plot.layout.meta;
    at = [Math.min(at[0], rows.length - 1), Math.min(at[1], columns.length - 1)];
    const [row, column] = at;
    const { xaxis: x, yaxis: y } = plot._fullLayout;
    const graph = plot.closest(".dash-graph") || plot;
    const box = outline(matrix);
    box.style.left = graph.offsetLeft + x._offset + x.l2p(column - 0.5) + "px";
    box.style.top = graph.offsetTop + y._offset + y.l2p(row - 0.5) + "px";
    box.style.width = x.l2p(column + 0.5) - x.l2p(column - 0.5) + "px";
    box.style.height = y.l2p(row + 0.5) - y.l2p(row - 0.5) + "px";
    box.hidden = false;
    const [trace] = plot._fullData;
    const number = (values) => (Number.isFinite(values[row][column]) ? values[row][column].toFixed(3) : "not known");
    const said = `CKA ${number(trace.z)}, Procrustes ${number(trace.customdata)}`;
    matrix.setAttribute("aria-label", `${rows[row]} of A and ${columns[column]} of B: ${said}. Enter opens both layers.`);
    window.Plotly.Fx.hover(plot, { xval: column, yval: row });
  }

  const matrixOf = (target) => target.closest && target.closest(".likeness-matrix");

  document.addEventListener("focusin", ({ target }) => {
    const matrix = matrixOf(target);
    const plot = matrix && target === matrix && matrix.matches(":focus-visible") && plotIn(matrix);
    if (plot) show(matrix, plot);
  });

  function leave(matrix) {
    const plot = plotIn(matrix);
    outline(matrix).hidden = true;
    if (plot) window.Plotly.Fx.unhover(plot);
  }
  document.addEventListener("focusout", ({ target }) => { if (matrixOf(target) === target) leave(target); });
  window.addEventListener("resize", () => { // it lies elsewhere now
    const matrix = matrixOf(document.activeElement || document.body);
    if (matrix) leave(matrix);
  });

  document.addEventListener("keydown", (event) => {
    const matrix = matrixOf(event.target);
    const plot = matrix && matrix === event.target && plotIn(matrix);
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") hookscope.openPair(plot.layout.meta, ...at);
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const { rows, columns } = plot.layout.meta;
    const clamp = (place, count) => Math.min(Math.max(place, 0), count - 1);
    at = [clamp(at[0] + step[0], rows.length), clamp(at[1] + step[1], columns.length)];
    show(matrix, plot);
  });
})();
