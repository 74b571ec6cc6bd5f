// What the layer tree knows without React: its index, its search, and which rows are on view.
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const here = document.currentScript.src;
  const OPEN_LEVELS = 2;
  const MOST_SORTED = 500;
  const REGEX_MS = 2000; // for a browser that is busy; a pattern that comes to an end does so in a few
  const UNMARKED = { on: "", start: 0, end: 0 }; // a hit with nothing to highlight

  // nodes: flat, pre-order -> parents and children by position, and positions by key.
  function indexTree(nodes) {
    const parent = new Array(nodes.length).fill(-1);
    const children = nodes.map(() => []);
    const byKey = new Map();
    const line = [];
    nodes.forEach((node, i) => {
      line.length = node.depth;
      if (node.depth > 0) {
        parent[i] = line[node.depth - 1];
        children[parent[i]].push(i);
      }
      line[node.depth] = i;
      byKey.set(node.key, { i, call: 0 });
      (node.call_rows || []).forEach((row, call) => byKey.set(row.key, { i, call }));
    });
    return { nodes, parent, children, byKey, signature: nodes.map((node) => node.key).join("\n") };
  }

  const isBranch = (tree, i) => tree.children[i].length > 0 || Boolean(tree.nodes[i].call_rows);

  // Folded at first: a layer's calls (two rows for every reused ReLU would drown the model), what is inside a
  // normalisation or an activation, and branches in which nothing ran.
  function defaultOpen(tree) {
    const open = new Set();
    tree.nodes.forEach((node, i) => {
      const alive = node.ran || tree.children[i].some((child) => tree.nodes[child].ran);
      if (node.depth < OPEN_LEVELS && tree.children[i].length && alive && !node.kind) open.add(node.key);
    });
    return open;
  }

  // The branches that must be open for these keys to be seen.
  function ancestorKeys(tree, keys) {
    const open = new Set();
    for (const key of keys) {
      const at = tree.byKey.get(key);
      if (!at) continue;
      if (at.call > 0) open.add(tree.nodes[at.i].key);
      for (let p = tree.parent[at.i]; p >= 0; p = tree.parent[p]) open.add(tree.nodes[p].key);
    }
    return open;
  }

  const regexOf = (query) => /^\/(.*?)(?:\/(i?))?$/s.exec(query);
  const whole = (on, start, end) => ({ on, start, end });

  // Whether a text matches a glob with * and ?, letter case aside: in steps, the product of both lengths at the worst.
  // As a regular expression, "**********z" would take for ever. -> where the match ends, or -1.
  function globEnd(glob, text, anchored) {
    const [pattern, letters] = [glob.toLowerCase().replace(/\*+/g, "*"), text.toLowerCase()];
    let [p, t, star, mark] = [0, 0, -1, 0];
    while (t < letters.length) {
      if (p === pattern.length && !anchored) return pattern.endsWith("*") ? letters.length : t;
      if (pattern[p] === "*") [star, mark, p] = [p, t, p + 1];
      else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === letters[t])) [p, t] = [p + 1, t + 1];
      else if (star >= 0) [p, mark, t] = [star + 1, mark + 1, mark + 1];
      else return -1;
    }
    while (pattern[p] === "*") p += 1;
    return p === pattern.length ? t : -1;
  }

  // Search text -> a test of one node that answers with the span to highlight, or null; or the regular expression,
  // which only search_worker.js may try.
  // Plain text: part of the dotted name or of the type. * and ?: a glob over the dotted name or its last part.
  // /.../: a regular expression in the dotted name. :Type: how the type begins (* and ? allowed).
  function parseSearch(text) {
    const query = text.trim();
    if (!query || query === "/" || query === ":" || query === "//") return { test: null };
    if (query[0] === "/") {
      const [, source, flags] = regexOf(query);
      try {
        new RegExp(source, flags || ""); // reading it takes no time, whatever it is
        return { test: null, regex: { source, flags: flags || "" } };
      } catch (error) {
        const why = String(error.message).split(": ").pop();
        return { test: null, error: `This regular expression cannot be read: ${why.toLowerCase()}.` };
      }
    }
    if (query[0] === ":") {
      const glob = query.slice(1).trim();
      return {
        test: (node) => {
          const end = globEnd(glob, node.type, false);
          return end < 0 ? null : whole("type", 0, end);
        },
      };
    }
    if (/[*?]/.test(query)) {
      return {
        test: (node) => {
          if (globEnd(query, node.name, true) >= 0) return whole("name", 0, node.name.length);
          if (globEnd(query, node.label, true) < 0) return null;
          return whole("name", Math.max(0, node.name.length - node.label.length), node.name.length);
        },
      };
    }
    const part = query.toLowerCase();
    return {
      test: (node) => {
        const name = node.name || node.label;
        // The last place is the one nearest to the part of the name that the row shows.
        const start = name.toLowerCase().lastIndexOf(part);
        if (start >= 0) return { on: "name", start, end: start + part.length };
        const inType = node.type.toLowerCase().indexOf(part);
        return inType < 0 ? null : { on: "type", start: inType, end: inType + part.length };
      },
    };
  }

  // -> null when nothing is filtered, else the hits by position and which branches hold one. `tried` is what
  // `tryRegex` found: [start, end] per name; without it a regular expression finds nothing yet.
  function findNodes(tree, text, kind, tried) {
    const { test, regex, error } = parseSearch(text);
    if (regex && !tried) return { pending: true };
    const byRegex = (node, name) => {
      const span = tried.get(name || node.label);
      return span ? whole("name", ...span) : null;
    };
    const hitOf = regex ? (node) => byRegex(node, node.name) : test;
    if (!hitOf && kind === "all") return error ? { error } : null;
    const hits = new Map();
    const inside = new Uint8Array(tree.nodes.length);
    tree.nodes.forEach((node, i) => {
      if (kind !== "all" && node.kind !== kind) return;
      const hit = !hitOf ? UNMARKED : hitOf(node) || ((node.aliases || []).some((name) => hitOf({ ...node, name })) && UNMARKED);
      if (!hit) return;
      hits.set(i, hit);
      for (let p = tree.parent[i]; p >= 0 && !inside[p]; p = tree.parent[p]) inside[p] = 1;
    });
    return { hits, inside, error };
  }

  // Try a regular expression on every name, in a worker of the browser's that is ended if it takes too long: nothing
  // else can stop one. `done` is told of {spans} or {error}, once, unless what this returns is called before.
  let helper = null;
  const dropHelper = () => {
    if (helper) helper.terminate();
    helper = null;
  };
  function tryRegex(tree, { source, flags }, done) {
    const names = [...new Set(tree.nodes.flatMap((node) => [node.name || node.label, ...(node.aliases || [])]))];
    helper = helper || new Worker(new URL("search_worker.js", here));
    let timer = 0;
    let over = false;
    const finish = (answer) => {
      over = true;
      clearTimeout(timer);
      if (answer.error) dropHelper();
      done(answer);
    };
    const slow = "This regular expression takes too long: repeat less inside of what is repeated.";
    helper.onmessage = ({ data }) => {
      if (over) return;
      if (data === "begun") timer = setTimeout(() => finish({ error: slow }), REGEX_MS);
      else finish({ spans: new Map(data) });
    };
    helper.onerror = () => finish({ error: "This browser cannot try regular expressions: use * and ? instead." });
    helper.postMessage({ source, flags, names });
    return () => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      dropHelper(); // it may be at it for ever
    };
  }

  // The rows on view, in order. `unfolded` holds what the person opened or closed while a search is on: key -> boolean.
  // A branch that is opened by hand and holds no hit shows everything below it.
  function visibleRows(tree, open, found, unfolded) {
    const rows = [];
    const walk = (i, level, pos, size, up) => {
      const node = tree.nodes[i];
      const byHand = found ? unfolded.get(node.key) : undefined;
      const holdsHit = found && found.inside[i];
      const expanded = found ? (byHand === undefined ? Boolean(holdsHit) : byHand) : open.has(node.key);
      const calls = expanded && node.call_rows && (!found || byHand) ? node.call_rows.length : 0;
      let below = expanded ? tree.children[i] : [];
      if (holdsHit) below = below.filter((child) => found.hits.has(child) || found.inside[child]);
      const at = rows.length;
      rows.push({ id: String(i), i, call: -1, level, pos, size, up, expanded: isBranch(tree, i) ? expanded : undefined });
      const total = calls + below.length;
      for (let call = 0; call < calls; call += 1) {
        rows.push({ id: `${i}.${call}`, i, call, level: level + 1, pos: call + 1, size: total, up: at });
      }
      below.forEach((child, place) => walk(child, level + 1, calls + place + 1, total, at));
    };
    let roots = tree.nodes.map((_, i) => i).filter((i) => tree.parent[i] < 0);
    if (found) roots = roots.filter((i) => found.hits.has(i) || found.inside[i]);
    roots.forEach((i, place) => walk(i, 1, place + 1, roots.length, -1));
    return rows;
  }

  // The worst rows as a list without branches, those that a search leaves. A model may have 20,000: as many as anyone walks.
  function sortedRows(worst, found) {
    const places = (found ? worst.filter((i) => found.hits.has(i)) : worst).slice(0, MOST_SORTED);
    const size = places.length;
    return places.map((i, at) => ({ id: String(i), i, call: -1, level: 1, pos: at + 1, size, up: -1, expanded: undefined }));
  }

  // How many of these nodes lie inside each node: a parent stands before its children, so one pass back is enough.
  function countInside(tree, places) {
    const counts = new Int32Array(tree.nodes.length);
    const own = new Uint8Array(tree.nodes.length);
    for (const i of places) own[i] = 1;
    for (let i = tree.nodes.length - 1; i > 0; i -= 1) {
      if (tree.parent[i] >= 0) counts[tree.parent[i]] += counts[i] + own[i];
    }
    return counts;
  }

  // 1234 -> "1.23 k". Three figures are what a 50 px column holds; none and not counted are a dash.
  function compact(number) {
    if (!number) return "–";
    for (const [size, unit] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
      if (number >= size * 0.9995) return Number((number / size).toPrecision(3)) + unit;
    }
    return String(number);
  }

  const grouped = (number) => Number(number).toLocaleString("en-US");
  const counted = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;

  // Everything that is known about a row, as the lines of its tooltip.
  function tooltip(node, call) {
    const many = node.calls > 1;
    const lines = [node.name || node.label, node.type];
    if (call >= 0) lines[0] += `, call ${call + 1} of ${node.calls}`;
    const full = call >= 0 ? node.call_rows[call].full_shape : node.full_shape;
    if (full) lines.push(`output ${full}${many && call < 0 ? " (first call)" : ""}`);
    if (call < 0) {
      const macs = node.multiply_adds === null ? "multiply-adds not counted" : counted(node.multiply_adds, "multiply-add");
      lines.push(`${counted(node.parameters, "parameter")}, ${macs}`);
      if (many) lines.push(`called ${grouped(node.calls)} times in one forward pass; this row is the first call`);
      if (many && node.calls > node.call_rows.length) lines.push(`the first ${node.call_rows.length} calls have rows`);
      if (node.aliases) lines.push(`the same module is also named ${node.aliases.join(", ")}`);
      if (!node.ran) lines.push(node.reason);
    }
    return lines.join("\n");
  }

  hookscope.layerTreeModel = {
    indexTree, isBranch, defaultOpen, ancestorKeys, parseSearch, findNodes, tryRegex, visibleRows, sortedRows, countInside,
    compact, counted, tooltip,
  };
})();
