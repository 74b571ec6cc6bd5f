/* The browser's half of dashboard/components/markup.py: elements that arrive as data, drawn without a Dash component
   for each. */
(function () {
  "use strict";

  function element(node, key) {
    if (typeof node === "string") return node;
    const [tag, attributes, children] = node;
    return window.React.createElement(tag, { ...attributes, key }, ...children.map(element));
  }

  function Markup({ id, tree, className, hidden, role }) {
    const name = typeof id === "string" ? id : JSON.stringify(id, Object.keys(id).sort());
    return window.React.createElement("div", { id: name, className, hidden, role }, ...(tree || []).map(element));
  }

  window.hookscope = window.hookscope || {};
  window.hookscope.Markup = Markup;
})();
