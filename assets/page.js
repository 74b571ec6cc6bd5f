/* How choices become the view: the browser's side of the callbacks, and the keys that work anywhere on the page. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const MOST_CARDS = 24;
  let view = null;
  let shown = null; // what the newest entry of the browser's history is about

  /* Change the view; the one way in which anything on the page is chosen. `walking`: by a key that is held down, so that
     it makes no entry of the browser's history. `trying`: by a slider that is being dragged ("moves"; or "rests",
     while it is held still), so that it is not kept at all.
     False if nothing changes. */
  hookscope.choose = function (changes, walking = false, trying = "") {
    if (!view) return false;
    const next = { ...view, ...changes };
    if (same(next, view)) return false;
    view = next;
    hookscope.askAgain(walking, trying).finally(tell);
    return true;
  };

  /* Dash's components that show a choice which may also be made elsewhere. They are told once the stream is open, and only
     what they do not show yet: Dash's work on a property takes 30 ms. */
  const told = {};
  function tell() {
    const choices = {
      tree: { selected: view.layers.filter(Boolean) },
      target: { value: view[targets] || "top" },
      against: { value: view[against(targets)] || "off" },
      metric: { value: view.metric },
      "model-select": { value: modelOf(view.side) },
    };
    for (const [id, shown] of Object.entries(choices)) {
      if (!same(told[id], shown) && hookscope.set(id, shown)) told[id] = shown;
    }
  }
  hookscope.view = () => view;
  const modelOf = (side) => (side === "b" && view.model_b) || view.model;
  const against = (field) => field.replace("target", "against"); // the field of what that is held against
  let targets = "target"; // the field of the view that "explain" is about: B's own where its model has other classes
  let moved = false; // another model was chosen, and the server has not said yet which layers it has

  /* Cards keep their place: a closed one leaves a gap, which the next layer fills. */
  function place(layers, keys, mode) {
    if (mode !== "toggle") return keys.slice(0, MOST_CARDS);
    const next = layers.slice();
    for (const key of keys) {
      const at = next.indexOf(key);
      const gap = next.indexOf("");
      if (at >= 0) next[at] = "";
      else if (gap >= 0) next[gap] = key;
      else if (next.length < MOST_CARDS) next.push(key);
    }
    while (next.length && !next[next.length - 1]) next.pop();
    return next;
  }

  /* Change the view to one with another model. */
  hookscope.move = function (changes, walking = false) {
    moved = true;
    hookscope.look(changes.side, changes, walking);
  };

  /* Have the header and the tree be about a side; until they are, they show nothing of another model. */
  hookscope.look = function (side, changes = {}, walking = false) {
    const before = modelOf(view.side);
    const after = { ...view, ...changes, side };
    if (((side === "b" && after.model_b) || after.model) !== before) {
      hookscope.set("tree", { nodes: [] });
      hookscope.set("model-facts", { children: [] });
    }
    hookscope.choose({ ...changes, side }, walking);
  };

  hookscope.close = function (position) {
    const key = view.layers[position]; // none at the second click on a card's cross
    if (key) hookscope.choose({ layers: place(view.layers, [key], "toggle") });
  };

  /* The room for a wall, which is measured on a card even while that is hidden. */
  function wallWidth() {
    const columns = getComputedStyle(document.documentElement);
    const taken = parseFloat(columns.getPropertyValue("--numbers-w")) + parseFloat(columns.getPropertyValue("--card-space"));
    return Math.round(document.getElementById("cards").clientWidth - taken);
  }

  /* Add the cards that the page lacks, one order at a time: Dash drops the answer to one that a newer one overtakes. */
  let ordered = 1;
  let needed = 1;
  let mounting = 0;
  const MOUNT_MS = 20;
  const MOST_LOOKS = 500; // ten seconds; then the order has come to nothing
  function mount(looks = 0) {
    clearTimeout(mounting);
    const there = document.querySelectorAll("#cards .card").length;
    if (there < ordered && looks < MOST_LOOKS) mounting = setTimeout(() => mount(looks + 1), MOUNT_MS);
    else if (there < ordered) {
      ordered = there;
      hookscope.lost();
    } else if (there < needed) {
      ordered = needed;
      hookscope.set("more-cards", { data: { first: there, last: needed } });
    }
  }

  /* One card more than there are layers, made when nothing else is to be done: the next layer need not wait for it. */
  hookscope.spareCard = function () {
    if (!view || !view.layers.length) return;
    needed = Math.max(needed, Math.min(view.layers.length + 1, MOST_CARDS));
    if (window.requestIdleCallback) window.requestIdleCallback(() => mount(), { timeout: 2000 });
    else setTimeout(() => mount(), 200); // Safari
  };

  /* The style sheet shows what belongs to a tab, and the controls of what is there; the buttons say which tab it is. */
  function showTab({ tab, a, b, layers, attributions, side, [against(targets)]: other }) {
    document.documentElement.dataset.against = other ? "some" : "none";
    document.documentElement.dataset.cards = (a || b) && layers.some(Boolean) ? "some" : "none";
    document.documentElement.dataset.attributions = (a || b) && attributions ? "shown" : "folded";
    document.documentElement.dataset.inputs = [a && "a", b && "b"].filter(Boolean).join(" ");
    document.documentElement.dataset.side = side;
    if (document.documentElement.dataset.tab === tab) return;
    document.documentElement.dataset.tab = tab;
    for (const button of document.querySelectorAll("[data-do=tab]")) {
      button.setAttribute("aria-pressed", button.dataset.value === tab);
    }
  }

  /* Ask the server for the view, with what the page shows already; what has been asked before no longer counts. */
  async function ask(walking, trying) {
    showTab(view);
    hookscope.showEdits(view);
    hookscope.showSets(view);
    hookscope.showSides(view); // before the room for the walls is measured, which hidden cards have not
    const about = JSON.stringify([
      view.model, view.a, view.b, view.second_a, view.second_b, view.model_b, view.prepare_a, view.prepare_b, view.shown_a, view.shown_b, view.edits_a, view.edits_b, view.layers, view.matched, view.tab, view.target, view.target_b, view.against, view.against_b, view.apart, view.reading, view.reading_b, view.captions, view.captions_b, view.patch, view.restored, view.looks_for, view.set_a, view.set_b, view.set_page, view.outliers_by, view.map_by, view.prune, view.prune_every, view.prune_by, view.prune_over, view.shown, view.of_class, view.of_label, view.of_answer, view.agreement, view.alike, view.run, view.run_b, view.run_column, view.run_layer,
    ]);
    const number = (hookscope.question += 1);
    hookscope.exportWaits(view);
    needed = Math.max(needed, view.layers.length);
    hookscope.mark();
    const { page, drawn } = hookscope;
    const nothing = !Object.keys(drawn).length;
    const body = JSON.stringify({ view, page, drawn, mounted: needed, width: wallWidth(), number, moved, trying, sets: hookscope.ownSets(), ahead: true });
    const asked = hookscope.post("ask", { headers: { "Content-Type": "application/json" }, body });
    mount();
    const answer = await asked;
    if (number !== hookscope.question) return;
    if (!answer || answer.status >= 500) {
      ordered = document.querySelectorAll("#cards .card").length;
      return hookscope.lost();
    }
    if (!answer.ok) return hookscope.banner("connection", await answer.text());
    const { stream, query, title, changes, targets: field, models, first } = await answer.json();
    if (number !== hookscope.question) return;
    targets = field;
    showTab({ ...view, ...changes });
    if (modelOf(view.side) in models) moved = false;
    if (nothing) hookscope.drawnOf = new Set(Object.entries(models).map((each) => each.join(" ")));
    view = { ...view, ...changes }; // what the models do not have
    hookscope.exportComes(view);
    document.title = title;
    hookscope.follow(stream, first);
    if (!trying) keep(query ? "?" + query : "", about, walking); // second, because Chromium takes 10 ms for it
  }

  /* The models are followed once it is known of which ones, by their fingerprints, the answer is. */
  hookscope.askAgain = async function (walking = false, trying = "") {
    if (!view) return;
    try {
      await ask(walking, trying);
    } finally {
      hookscope.watch(modelOf(view.side), modelOf(view.side === "a" ? "b" : "a"));
    }
  };

  /* The address says what the page shows; another model, input, layer, class or place is another entry of the history. */
  function keep(query, about, walking) {
    if (query !== window.location.search) {
      const change = shown !== null && shown !== about && !walking ? "pushState" : "replaceState";
      window.history[change](null, "", window.location.pathname + query);
    }
    shown = about;
  }

  /* Dash asks for the view of an address when that is another one than it saw last; it does not see those that `keep`
     writes, so going back to the one that the page was opened at has to be told. */
  let seen = window.location.search;
  window.addEventListener("popstate", () => {
    const { search } = window.location;
    if (search === seen) hookscope.set("location", { search });
    seen = search;
  });

  window.dash_clientside = window.dash_clientside || {};
  const callbacks = {
    /* A view that came from the address, or a model that has become ready. */
    adopt(data, ready) {
      const changed = window.dash_clientside.callback_context.triggered.map((each) => each.prop_id);
      const isReady = changed.some((id) => id.startsWith("model-ready"));
      if (!data || (same(data, view) && (!isReady || ready.drawn))) return;
      if (!view || changed.some((id) => id.startsWith("view"))) view = data;
      hookscope.askAgain().finally(tell);
    },
    controls(rank, scale, colours, count, overlay, table, target, maps, other) {
      told.target = { value: target };
      told.against = { value: other };
      const chosen = { [targets]: target === "top" ? "" : target, [against(targets)]: other === "off" ? "" : other };
      const sorted = rank === view?.rank ? {} : { sort: "" }; // the table follows the rank that was chosen last
      hookscope.choose({ rank, scale, colours, count, overlay: !!overlay, table: !!table, maps, ...sorted, ...chosen });
    },
    model(name) {
      told["model-select"] = { value: name };
      if (view && name && name !== modelOf(view.side)) hookscope.chooseModel(view.side, name);
    },
    metric(metric) {
      told.metric = { value: metric };
      hookscope.choose({ metric });
    },
    wallClick(clicks) {
      const triggered = window.dash_clientside.callback_context.triggered[0];
      if (view && triggered && triggered.value) {
        const position = JSON.parse(triggered.prop_id.slice(0, triggered.prop_id.lastIndexOf("."))).card;
        const point = triggered.value.points[0];
        const key = view.layers[position];
        const isMean = point.curveNumber % 2 === 1; // each panel has a trace of channels and one of the mean map
        if (key && Number.isFinite(point.z)) hookscope.choose({ detail: key, channel: isMean ? -1 : point.z });
      }
    },
    gradientClick(clicked, figure) {
      const keys = (figure && figure.layout.meta && figure.layout.meta.keys) || [];
      const key = clicked && keys[Math.round(clicked.points[0].x)];
      if (view && key) hookscope.choose({ layers: [key], tab: "layers" });
    },
    likenessClick(clicked, figure) {
      const point = clicked && clicked.points[0];
      if (view && point) hookscope.openPair((figure && figure.layout.meta) || {}, Math.round(point.y), Math.round(point.x));
    },
    opacity(percent) {
      document.documentElement.style.setProperty("--cam-opacity", percent / 100);
    },
    theme(clicks) {
      if (clicks) hookscope.toggleTheme();
    },
  };

  window.dash_clientside.hookscope = Object.assign(window.dash_clientside.hookscope || {}, callbacks);

  document.addEventListener("layerschosen", ({ detail: { keys, mode, selected } }) => {
    if (!view) return;
    told.tree = { selected };
    closeMenus(null); // they are about the layer that was there
    if (view.tab === "run" && keys.length) return hookscope.choose({ run_layer: hookscope.followedLayer(keys.at(-1)) });
    const tab = view.tab === "pictures" ? "pictures" : "layers"; // there the tree says whose channels are shown
    hookscope.choose({ layers: place(view.layers, keys, mode), tab, ...(tab === "pictures" ? { from_channel: 0, prune: false, from_ranked: 0 } : {}) });
  });

  /* Buttons that streamed updates bring onto the page carry what they do as data attributes. */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (!button || button.disabled) return;
    const { do: action, value } = button.dataset;
    if (action === "close-card") hookscope.close(Number(value));
    if (action === "close-detail") hookscope.choose({ detail: "", channel: -1 });
    if (action === "fold-detail") {
      const folded = document.documentElement.toggleAttribute("data-detail-folded");
      button.setAttribute("aria-expanded", String(!folded));
    }
    if (action === "cancel") hookscope.cancel();
    if (action === "stop") hookscope.cancel(value);
    if (action === "open-model") hookscope.openModel();
    if (action === "ask-again") hookscope.askAgain();
    if (action === "retry") {
      for (const part of Object.keys(hookscope.drawn)) if (part.startsWith(value)) delete hookscope.drawn[part];
      hookscope.askAgain();
    }
    if (action === "edit") hookscope.edit(value);
    if (action === "set") hookscope.choose(JSON.parse(value));
    if (action === "seen") hookscope.choose({ seen: !view.seen });
    if (action === "patch") patch(value, event);
    if (action === "region") region(button, event);
    if (action === "target" || action === "target_b") hookscope.choose(explain(action, value, event.shiftKey));
    if (action === "against") hookscope.choose({ [against(targets)]: "next" });
    if (action === "look") hookscope.look(value);
    if (action === "tab") hookscope.choose({ tab: value });
    if (action === "likeness") hookscope.choose({ likeness: !view.likeness });
    if (action === "models") hookscope.choose({ models: !view.models });
    if (action === "attributions") hookscope.choose({ attributions: !view.attributions });
    if (action === "skip") {
      event.preventDefault(); // the address is the view's
      document.getElementById("main").focus();
    }
    if (action === "view") {
      hookscope.choose(JSON.parse(value));
      document.getElementById("main").focus({ preventScroll: true }); // the button goes, and the keyboard's place with it
    }
    if (action === "layer") hookscope.choose({ layers: [value], tab: "layers" });
    if (action === "swap") hookscope.swap();
    if (action === "remove-input") hookscope.choose({ [value]: "", ["second_" + value]: "", ["prepare_" + value]: "", ["shown_" + value]: "", ["edits_" + value]: "", ...(value === "b" ? { model_b: "", side: "a" } : {}) });
    if (action === "share") hookscope.share(button);
    if (action === "script") writeScript();
    if (action === "tensorboard") writeForTensorBoard(button);
  });

  /* What a click on a class changes: it is explained, or if it is already, the first one again; with Shift what is
     explained is held against it. One that is held against changes places with what it was held against. */
  function explain(field, value, other) {
    const held = against(field);
    if (other) return { [held]: view[held] === value || view[field] === value ? "" : value };
    if (view[held] === value) return { [field]: value, [held]: view[field] || "next" };
    return { [field]: view[field] === value ? "" : value };
  }

  /* A click on an attention map chooses the position that it is seen from: `grid` is "rows,columns" of the map. */
  function patch(grid, event) {
    if (grid === "-1") return hookscope.choose({ patch: -1 });
    if (event.detail) hookscope.choose({ patch: placeIn(grid, event) }); // not by Enter, which points nowhere
  }

  /* Which position of a grid was clicked, counted row by row. */
  function placeIn(grid, event) {
    const [rows, columns] = grid.split(",").map(Number);
    const box = event.target.getBoundingClientRect();
    const share = (at, from, size) => Math.min(Math.max((at - from) / size, 0), 0.999999);
    const row = Math.floor(share(event.clientY, box.top, box.height) * rows);
    const column = Math.floor(share(event.clientX, box.left, box.width) * columns);
    return row * columns + column;
  }

  /* A click on a segmenter's regions explains the class that lies there, or if that is explained already, the first one
     again: `cells` is "class:count,..." of the positions, row by row. */
  function region({ dataset }, event) {
    if (!event.detail) return;
    let left = placeIn(dataset.grid, event);
    const found = dataset.cells.split(",").map((run) => run.split(":")).find(([, count]) => (left -= Number(count)) < 0);
    const field = dataset.target;
    if (found && found[0] !== "-1") hookscope.choose({ [field]: view[field] === found[0] ? "" : found[0] });
  }

  /* The arrow keys go from patch to patch, from the middle if none is chosen. */
  function stepPatch(grid, [right, down]) {
    const [rows, columns] = grid.split(",").map(Number);
    const chosen = view.patch >= 0 && view.patch < rows * columns;
    const at = chosen ? view.patch : Math.floor(rows / 2) * columns + Math.floor(columns / 2);
    const row = Math.floor(at / columns) + down;
    const column = (at % columns) + right;
    if (row >= 0 && row < rows && column >= 0 && column < columns) hookscope.choose({ patch: row * columns + column }, true);
  }

  /* Withdraw everything that is still being computed, or that of one part of the page, and keep what is there. */
  hookscope.cancel = (part = "") => hookscope.post(`cancel/${hookscope.page}?part=${encodeURIComponent(part)}`);

  /* Ask the server to write what is shown; where, only its operator decides. */
  async function writeForTensorBoard(button) {
    const box = document.getElementById("share-link");
    box.textContent = "Writing for TensorBoard …";
    box.hidden = false;
    button.disabled = true;
    const headers = { "Content-Type": "application/json" };
    const answer = await hookscope.post("tensorboard", { headers, body: JSON.stringify(view) });
    button.disabled = false;
    box.textContent = answer ? await answer.text() : "Hookscope does not answer, so nothing was written.";
    box.hidden = false;
  }

  /* Where the view's program is, and what has to be put beside it, or is not in it. */
  async function writeScript() {
    const box = document.getElementById("share-link");
    const headers = { "Content-Type": "application/json" };
    const answer = await hookscope.post("script", { headers, body: JSON.stringify(view) });
    box.replaceChildren();
    const say = (text, name = "") => {
      const line = box.appendChild(document.createElement("p"));
      line.textContent = text;
      line.className = name;
    };
    if (!answer || !answer.ok) {
      say(answer ? await answer.text() : "Hookscope does not answer, so there is no program. Is it still running where you started it?");
    } else {
      const { path, name, beside, left_out } = await answer.json();
      say("A Python program that prints the numbers of this view by hookscope, zipped with its pictures. Run it where it lies: python view.py");
      for (const each of beside) say(`Put beside it: ${each}`, "muted");
      for (const each of left_out) say(`Not in it: ${each}`, "muted");
      const link = document.createElement("a");
      link.href = path;
      link.download = name;
      link.className = "pill primary";
      link.textContent = `Save ${name}`;
      box.append(link);
    }
    box.hidden = false;
  }

  hookscope.share = async function (button) {
    const headers = { "Content-Type": "application/json" };
    const answer = await hookscope.post("share", { headers, body: JSON.stringify(view) });
    const box = document.getElementById("share-link");
    if (!answer || !answer.ok) {
      box.textContent = answer ? await answer.text() : "Hookscope does not answer, so there is no link. Is it still running where you started it?";
      box.hidden = false;
      return;
    }
    const link = new URL((await answer.json()).path, window.location.href).href;
    box.hidden = false;
    box.replaceChildren();
    const field = document.createElement("input");
    field.readOnly = true;
    field.value = link;
    field.setAttribute("aria-label", "Link to this view");
    const said = document.createElement("span");
    const script = document.createElement("button"); // a narrow header has no room for it
    script.className = "link";
    script.dataset.do = "script";
    script.textContent = "Save a script of this view";
    box.append(field, said, script);
    field.select();
    const whom = hookscope.isLocal(window.location.hostname)
      ? "It works only on this computer: to show this view to others, export the page instead."
      : "Whoever has it sees this view and its pictures.";
    const copied = await navigator.clipboard.writeText(link).then(() => true, () => false);
    said.textContent = `${copied ? "Copied." : "Not copied: copy it from here."} ${whom}`;
  };

  /* Whether a host's name means the computer that it is used on. */
  hookscope.isLocal = (host) => /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(host);

  document.addEventListener("pointerdown", (event) => {
    const box = document.getElementById("share-link");
    if (box && !box.hidden && !event.target.closest("#share-link, #share")) box.hidden = true;
  });

  /* Walls are laid out for the room that they have. */
  let resizing = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => hookscope.askAgain(), 250);
  });

  /* Arrow keys walk the wall while a channel is enlarged; Escape puts it away. */
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (!view || event.ctrlKey || event.metaKey || event.altKey) return;
    const map = event.target.closest("[data-do=patch]");
    if (map && map.dataset.value !== "-1" && steps[event.key]) {
      event.preventDefault();
      return stepPatch(map.dataset.value, steps[event.key]);
    }
    const wall = event.target.closest("[data-wall]");
    if (event.key === "Enter" && event.target === wall) {
      const key = view.layers[Number(wall.dataset.wall)];
      return hookscope.choose(view.detail === key ? { detail: "", channel: -1 } : { detail: key, channel: -1 });
    }
    const typing = event.target.value && !event.target.readOnly;
    if (event.key === "Escape" && !typing && !event.target.closest("[role=listbox]")) return putAway();
    if (!view.detail) return;
    if (event.target.closest("input, textarea, select, [role=tree], [role=slider], [role=listbox], [role=application], .ag-root")) return;
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    if (mayWalk()) walkBy(step);
    else early = { layer: view.detail, step };
  });

  /* The order of the wall's cells comes after the enlarged channel: an arrow key that is pressed before it waits for it. */
  let early = null;
  const mayWalk = () => Boolean(hookscope.walk && hookscope.walk.layer === view.detail);
  function walkBy(step) {
    const { order, columns } = hookscope.walk;
    const next = order.indexOf(view.channel) + step[0] + step[1] * columns;
    if (next >= 0 && next < order.length) hookscope.choose({ channel: order[next] });
  }

  /* What a card's table is sorted by, so that the exported page, its file and a share link have it too. */
  window.dashAgGridFunctions = Object.assign(window.dashAgGridFunctions || {}, {
    hookscopeSorted({ api }) {
      const [first] = api.getColumnState().filter(({ sort }) => sort).sort((one, other) => one.sortIndex - other.sortIndex);
      hookscope.choose({ sort: first ? `${first.colId}.${first.sort}` : "" }, true);
    },
  });

  /* A click on a row of a card's table, or Enter on it, enlarges the channel. */
  function chooseRow(target) {
    const row = target.closest(".channel-table .ag-row[row-id]");
    const position = row && JSON.parse(row.closest(".channel-table").id).card;
    const key = row && view && view.layers[position];
    if (key) hookscope.choose({ detail: key, channel: Number(row.getAttribute("row-id")) });
    return Boolean(key);
  }
  document.addEventListener("click", (event) => chooseRow(event.target));
  document.addEventListener("keydown", (event) => { if (event.key === "Enter") chooseRow(event.target); });

  /* A field that offers choices shows the chosen one: typing replaces it. */
  document.addEventListener("focusin", (event) => {
    if (["target", "against"].includes(event.target.id)) requestAnimationFrame(() => event.target.select());
  });

  /* A "Save" menu closes when something else is clicked, or on Escape. */
  function closeMenus(except) {
    document.querySelectorAll("details.save[open]").forEach((menu) => { if (menu !== except) menu.open = false; });
  }
  document.addEventListener("pointerdown", (event) => closeMenus(event.target.closest("details.save")));

  /* Escape puts away one thing: what lies on top. */
  function putAway() {
    const share = document.getElementById("share-link");
    const menu = document.querySelector("details.save[open]");
    if (!share.hidden) { share.hidden = true; document.getElementById("share").focus(); }
    else if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
    else if (view.detail) hookscope.choose({ detail: "", channel: -1 });
  }

  window.dash_clientside.hookscope.walk = function (data) {
    hookscope.walk = data;
    hookscope.mark();
    if (!early || !mayWalk()) return;
    if (early.layer === view.detail) walkBy(early.step);
    early = null;
  };
})();
