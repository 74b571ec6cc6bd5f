/* The colour scheme, chosen before the first paint: the person's own choice, else the system's. */
(function () {
  "use strict";
  const root = document.documentElement;
  const attribute = "data-mantine-color-scheme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try { return window.localStorage.getItem("hookscope-theme"); } catch (error) { return null; }
  }

  function apply() {
    const scheme = chosen() || (system.matches ? "dark" : "light");
    if (root.getAttribute(attribute) !== scheme) root.setAttribute(attribute, scheme);
  }

  apply();
  system.addEventListener("change", apply);
  /* Mantine sets the attribute again when it mounts. */
  new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: [attribute] });

  window.hookscope = window.hookscope || {};
  window.hookscope.toggleTheme = function () {
    const next = root.getAttribute(attribute) === "dark" ? "light" : "dark";
    try { window.localStorage.setItem("hookscope-theme", next); } catch (error) { /* private mode: this page only */ }
    root.setAttribute(attribute, next);
    return next;
  };
})();
