// One row of the layer tree: a layer, or one call of a layer that runs several times.
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const React = window.React;
  const h = React.createElement;
  const DEEPEST_STEP = 12; // levels below it stand under each other, or 200 nested modules leave the panel

  function marked(text, start, end) {
    const from = Math.max(0, start);
    const to = Math.min(text.length, end);
    if (to <= from) return text;
    return [text.slice(0, from), h("mark", { key: "mark" }, text.slice(from, to)), text.slice(to)];
  }

  // Every property but `node` is a primitive, and `node` keeps its identity, so React.memo can tell what changed.
  hookscope.LayerTreeRow = React.memo(function LayerTreeRow(props) {
    const { node, call, hitOn, hitStart, hitEnd, expanded, selected, column, metric } = props;
    const { compact, tooltip } = hookscope.layerTreeModel;
    const isCall = call >= 0;
    const own = props.whole ? node.name || node.label : node.label;
    const label = isCall ? `call ${call + 1} of ${node.calls}` : own;
    const skip = node.name.length > own.length ? node.name.length - own.length : 0;
    const classes = ["hs-tree-row"];
    if (!node.ran) classes.push("hs-never");
    if (props.dim) classes.push("hs-dim");
    if (isCall) classes.push("hs-call");
    if (node.operation) classes.push("hs-operation");
    if (props.whole && !isCall) classes.push("hs-whole");
    if (props.holds && expanded === false) classes.push("hs-holds");
    const cells = {
      shape: isCall ? node.call_rows[call].shape : node.shape,
      params: isCall ? "" : compact(node.parameters),
      macs: isCall ? "" : compact(node.multiply_adds),
    };
    const shown = column === "all" ? Object.keys(cells) : [column];
    const lines = [tooltip(node, call), isCall ? "" : node.advice, isCall ? "" : props.metricText, props.alarm];
    const title = lines.filter(Boolean).join("\n");
    if (props.walked) classes.push("hs-walked");
    return h(
      "div",
      {
        className: classes.join(" "),
        role: "treeitem",
        title,
        tabIndex: props.active ? 0 : -1,
        "data-row": props.id,
        "data-key": isCall ? node.call_rows[call].key : node.key,
        "aria-level": props.level,
        "aria-setsize": props.size,
        "aria-posinset": props.pos,
        "aria-expanded": expanded,
        "aria-selected": node.ran ? selected : undefined,
        "aria-disabled": node.ran ? undefined : true,
        "aria-description": node.ran ? props.alarm || undefined : node.reason,
        style: { "--hs-depth": Math.min(props.level - 1, DEEPEST_STEP) },
      },
      h("span", { className: expanded === undefined ? "hs-chevron" : "hs-chevron hs-branch", "aria-hidden": true }),
      h(
        "span",
        { className: "hs-label" },
        h("span", { className: "hs-name" }, h("bdi", null, hitOn === "name" ? marked(label, hitStart - skip, hitEnd - skip) : label)),
        !isCall &&
          h("span", { className: "hs-type" }, hitOn === "type" ? marked(node.type, hitStart, hitEnd) : node.note),
      ),
      !isCall && node.calls > 1 && h("span", { className: "hs-badge" }, `×${node.calls}`),
      !isCall && node.advice && h("span", { className: "hs-badge hs-advice", "aria-label": node.advice }, "maps"),
      shown.map((name) => h("span", { key: name, className: `hs-cell hs-cell-${name}` }, cells[name])),
      props.alarm && h("span", { className: "hs-alarm", "aria-hidden": true }),
      metric !== undefined &&
        h(
          "span",
          { className: metric === null || isCall ? "hs-bar hs-none" : "hs-bar", "aria-hidden": true }, // nothing is not 0
          metric !== null && !isCall && h("i", { style: { width: `${Math.round(100 * Math.min(1, Math.max(0, metric)))}%` } }),
        ),
      h("span", {
        className: node.ran ? "hs-add" : "hs-add hs-none",
        "aria-hidden": true,
        title: node.ran ? (selected ? "take out of the selection" : "add to the selection") : undefined,
      }),
    );
  });
})();
