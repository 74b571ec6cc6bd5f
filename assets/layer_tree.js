// The layer tree: a React component for Dash without a build step (see dashboard/components/layer_tree.py).
// The tree handles every event and hands its rows (layer_tree_row.js) primitives, so that a click draws two rows anew.
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const React = window.React;
  const h = React.createElement;
  const { useEffect, useLayoutEffect, useMemo, useRef, useState } = React;

  const KINDS = ["all", "conv", "norm", "act"];
  const COLUMNS = { shape: "shape", params: "params", macs: "MACs" }; // the row's cells, and what heads them
  const COLUMN_NAMES = { shape: "output shapes", params: "parameters", macs: "multiply-adds" };
  const MOST_AT_ONCE = 24; // every selected layer is a card and a computation
  const WIDE_PIXELS = 420; // from here on all three columns have room
  const ALL_ROWS = 400; // so many rows are always there; of more only those around the ones in sight
  const ROW_PIXELS = 22; // until a row was measured
  const NO_KEYS = [];
  const NO_BRANCHES = new Map();

  // The open branches: those that `open` names, or the first two levels, and those that hold a selection made elsewhere.
  // The latter stay here until the person opens or closes something: Dash loses what a component sets while it mounts.
  // An `open` that was given for another model means nothing for this one.
  function useOpenBranches(tree, open, selected, setProps) {
    const { ancestorKeys, defaultOpen } = hookscope.layerTreeModel;
    const owner = useRef({ open, signature: tree.signature });
    if (owner.current.open !== open) owner.current = { open, signature: tree.signature };
    const given = Array.isArray(open) && owner.current.signature === tree.signature;
    const [revealed, setRevealed] = useState(() => ancestorKeys(tree, selected));
    const all = useMemo(() => new Set([...(given ? open : defaultOpen(tree)), ...revealed]), [given, open, tree, revealed]);
    const setOpen = (keys) => {
      setRevealed(NO_KEYS);
      setProps({ open: [...keys] });
    };
    return [all, setOpen, setRevealed];
  }

  // The search box answers at once; Dash hears of it when the typing pauses.
  function useSearchText(search, setProps) {
    const [text, setText] = useState(search || "");
    const told = useRef(search || "");
    useEffect(() => {
      if ((search || "") === told.current) return;
      told.current = search || "";
      setText(told.current);
    }, [search]);
    useEffect(() => {
      if (text === told.current) return undefined;
      const timer = setTimeout(() => {
        told.current = text;
        setProps({ search: text });
      }, 250);
      return () => clearTimeout(timer);
    }, [text]);
    return [text, setText];
  }

  // What a search finds. A regular expression is tried elsewhere and answers later: until then the last answer stays.
  function useFound(tree, text, kind) {
    const model = hookscope.layerTreeModel;
    const [answer, setAnswer] = useState(null);
    const last = useRef(null);
    const { regex } = useMemo(() => model.parseSearch(text), [text]);
    useEffect(() => (regex ? model.tryRegex(tree, regex, (found) => setAnswer({ ...found, text, tree })) : undefined), [tree, text]);
    const tried = answer && answer.text === text && answer.tree === tree ? answer : null;
    const found = useMemo(
      () => (tried && tried.error ? { ...model.findNodes(tree, "", kind), error: tried.error } : model.findNodes(tree, text, kind, tried && tried.spans)),
      [tree, text, kind, tried],
    );
    const pending = Boolean(found && found.pending);
    useEffect(() => { if (!pending) last.current = { found, tree }; }, [found]);
    const kept = last.current && last.current.tree === tree ? last.current.found : null;
    return [pending ? kept : found, pending];
  }

  function useIsWide(ref) {
    const [wide, setWide] = useState(false);
    useEffect(() => {
      const observer = new ResizeObserver(([entry]) => setWide(entry.contentRect.width >= WIDE_PIXELS));
      observer.observe(ref.current);
      return () => observer.disconnect();
    }, []);
    return wide;
  }

  // Which rows are drawn: all of a small tree, else those in sight and as many again above and below, and the row that
  // has the focus. 20,000 rows take seven seconds to draw and a second to draw anew. Every row is as high as the first.
  function useRowsInSight(list, count, current) {
    const [top, setTop] = useState(0);
    const [height, setHeight] = useState(0);
    const few = count <= ALL_ROWS;
    const row = useRef(ROW_PIXELS);
    const look = () => {
      const shown = list.current && list.current.querySelector("[data-row]");
      if (shown && shown.offsetHeight) row.current = shown.offsetHeight;
      const page = Math.max(20, Math.ceil(list.current.clientHeight / row.current));
      setHeight(page);
      setTop(Math.floor(list.current.scrollTop / row.current / page) * page);
    };
    useLayoutEffect(() => { if (!few) look(); }, [few, count]);
    useEffect(() => {
      const observer = new ResizeObserver(() => { if (!few) look(); });
      observer.observe(list.current);
      return () => observer.disconnect();
    }, [few]);
    const page = height || 60;
    const from = few ? 0 : Math.max(0, Math.min(top, count - 1) - page);
    const to = few ? count : Math.min(count, Math.min(top, count - 1) + 3 * page);
    const drawn = [];
    if (current >= 0 && current < from) drawn.push(current);
    for (let at = from; at < to; at += 1) drawn.push(at);
    if (current >= to && current < count) drawn.push(current);
    // Brings a row into sight that need not be drawn yet; what it looks like there comes with the next drawing.
    const bring = (at) => {
      if (few || !list.current) return;
      const above = at * row.current;
      if (above < list.current.scrollTop) list.current.scrollTop = above;
      else if (above + row.current > list.current.scrollTop + list.current.clientHeight) {
        list.current.scrollTop = above + row.current - list.current.clientHeight;
      }
      look();
    };
    return { drawn, rowPixels: row.current, onScroll: few ? undefined : look, bring };
  }

  function useSlashKey(input) {
    useEffect(() => {
      const onKeyDown = (event) => {
        const typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable]");
        if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
        event.preventDefault();
        input.current.focus();
        input.current.select();
      };
      document.addEventListener("keydown", onKeyDown);
      return () => document.removeEventListener("keydown", onKeyDown);
    }, []);
  }

  // The layers by the number that their bars show, the most alarming first: walked one by one, or listed in that order.
  // While something is sought, only what it finds.
  function useWorst(props, tree, setRevealed, filter) {
    const { ancestorKeys, countInside } = hookscope.layerTreeModel;
    const all = (props.metric && props.worst) || NO_KEYS;
    const worst = useMemo(() => (filter ? all.filter((i) => filter.hits.has(i)) : all), [all, filter]);
    const [sorted, setSorted] = useState(false);
    const [at, setAt] = useState(-1);
    useLayoutEffect(() => setAt(-1), [worst]);
    const inside = useMemo(() => countInside(tree, all.slice(0, props.alarms || 0)), [tree, all, props.alarms]);
    const walked = at >= 0 && at < worst.length ? worst[at] : -1;
    const nextWorst = () => {
      const next = (at + 1) % worst.length;
      setRevealed((before) => new Set([...before, ...ancestorKeys(tree, [tree.nodes[worst[next]].key])]));
      setAt(next);
    };
    const alarmOf = (row) => {
      const count = row.expanded === false && row.call < 0 ? inside[row.i] : 0;
      return count ? `${count} ${count === 1 ? "layer" : "layers"} inside: ${props.alarm_text}` : "";
    };
    const name = walked >= 0 ? tree.nodes[walked].name || tree.nodes[walked].label : "";
    // whether the walk has come to where nothing is wrong, which on a healthy model is its beginning
    const healthy = walked >= 0 && props.alarm_text && !all.slice(0, props.alarms || 0).includes(walked);
    const before = healthy ? `${props.alarms ? "No other" : "No"} layer is at ${props.alarm_text}. ` : "";
    const walkedText = walked >= 0 ? `${before}${at + 1} of ${worst.length}: ${name}, ${(props.metric_texts || [])[walked] || ""}` : "";
    return { worst, some: all.length > 0, sorted: sorted && worst.length > 0, setSorted, walked, nextWorst, walkedText, alarmOf };
  }

  function LayerTree(props) {
    const { setProps } = props;
    const model = hookscope.layerTreeModel;
    const nodes = props.nodes || NO_KEYS;
    const selected = props.selected || NO_KEYS;
    const column = COLUMNS[props.column] ? props.column : "shape";

    const root = useRef(null);
    const list = useRef(null);
    const input = useRef(null);
    const anchor = useRef(null);
    const typed = useRef({ text: "", at: 0 });
    const entered = useRef(""); // the search in which Enter was pressed before its answer was there
    const seenSelection = useRef("");
    const sought = useRef(null); // the key of a selection made elsewhere, until it is in sight
    const [kind, setKind] = useState("all");
    const [unfolded, setUnfolded] = useState(NO_BRANCHES);
    const [active, setActive] = useState("0");
    const [message, setMessage] = useState("");
    const [text, setText] = useSearchText(props.search, setProps);
    const wide = useIsWide(root);
    useSlashKey(input);

    const tree = useMemo(() => model.indexTree(nodes), [nodes]);
    const [open, setOpen, setRevealed] = useOpenBranches(tree, props.open, selected, setProps);
    const [found, pending] = useFound(tree, text, kind);
    const filter = found && found.hits ? found : null;
    const { worst, some, sorted, setSorted, walked, nextWorst, walkedText, alarmOf } = useWorst(props, tree, setRevealed, filter);
    const rows = useMemo(
      () => (sorted ? model.sortedRows(worst, filter) : model.visibleRows(tree, open, filter, unfolded)),
      [tree, open, filter, unfolded, sorted, worst],
    );
    const places = useMemo(() => new Map(rows.map((row, at) => [row.id, at])), [rows]);
    const chosen = useMemo(() => new Set(selected), [selected]);
    const holders = useMemo(() => model.ancestorKeys(tree, selected), [tree, selected]);

    const keyOf = (row) => (row.call < 0 ? nodes[row.i].key : nodes[row.i].call_rows[row.call].key);
    let current = places.has(active) ? places.get(active) : rows.findIndex((row) => chosen.has(keyOf(row)));
    if (current < 0) current = 0;

    const { drawn, rowPixels, onScroll, bring } = useRowsInSight(list, rows.length, current);
    const awaited = useRef(null); // what is done with a row once it is drawn: {at, focus}

    const filterBy = (newText, newKind) => {
      setText(newText);
      setKind(newKind);
      setUnfolded(NO_BRANCHES);
      setMessage("");
    };

    const choose = (keys, mode) => {
      let next = keys;
      if (mode === "toggle") {
        next = selected.filter((key) => !keys.includes(key));
        if (next.length === selected.length) next = selected.concat(keys);
        if (next.length > MOST_AT_ONCE) return setMessage(`${MOST_AT_ONCE} layers can be selected at once. Take one out first.`);
      }
      seenSelection.current = next.join("\n");
      setMessage("");
      // First those who answer: Dash's work on a property takes 20 ms.
      root.current.dispatchEvent(new CustomEvent("layerschosen", { bubbles: true, detail: { keys, mode, selected: next } }));
      setProps({ selected: next });
    };

    const setBranch = (row, wanted) => {
      const { key } = nodes[row.i];
      if (filter) {
        setUnfolded(new Map(unfolded).set(key, wanted));
        return;
      }
      const next = new Set(open);
      if (wanted) next.add(key);
      else next.delete(key);
      setOpen(next);
    };

    const act = (row, how) => {
      const node = nodes[row.i];
      if (how === "fold") {
        if (row.expanded !== undefined) setBranch(row, !row.expanded);
      } else if (!node.ran) {
        setMessage(`${node.name || node.label} ${node.unseen ? "was not seen to run" : "never ran"}. ${node.reason}`);
        if (row.expanded !== undefined && how === "replace") setBranch(row, !row.expanded);
      } else if (how === "range") {
        const from = places.has(anchor.current) ? places.get(anchor.current) : current;
        const to = places.get(row.id);
        const keys = rows.slice(Math.min(from, to), Math.max(from, to) + 1).filter((each) => nodes[each.i].ran).map(keyOf);
        const unique = [...new Set(keys)];
        if (unique.length <= MOST_AT_ONCE) choose(unique, "replace");
        else setMessage(`That range holds ${unique.length} layers; ${MOST_AT_ONCE} can be selected at once. Take a shorter one.`);
      } else {
        anchor.current = row.id;
        choose([keyOf(row)], how);
      }
    };

    const elementOf = (at) => list.current.querySelector(`[data-row="${rows[at].id}"]`);
    const reach = (at, focus) => {
      const element = elementOf(at);
      if (!element) return false;
      if (focus) element.focus({ preventScroll: true });
      element.scrollIntoView({ block: "nearest" });
      return true;
    };
    const showRow = (at, focus) => {
      if (at < 0 || at >= rows.length || reach(at, focus)) return;
      awaited.current = { at, focus };
      bring(at);
    };
    const focusRow = (at) => showRow(at, true);
    useLayoutEffect(() => {
      const wanted = awaited.current;
      if (wanted && wanted.at < rows.length && reach(wanted.at, wanted.focus)) awaited.current = null;
    });

    const rowAt = (event) => {
      const element = event.target.closest("[data-row]");
      return element ? rows[places.get(element.dataset.row)] : undefined;
    };

    const onClick = (event) => {
      const row = rowAt(event);
      if (!row) return;
      if (event.target.closest(".hs-branch")) act(row, "fold");
      else if (event.ctrlKey || event.metaKey || event.target.closest(".hs-add")) act(row, "toggle");
      else act(row, event.shiftKey ? "range" : "replace");
    };

    const onDoubleClick = (event) => {
      const row = rowAt(event);
      const plain = !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.target.closest(".hs-branch, .hs-add");
      if (row && plain && nodes[row.i].ran) act(row, "fold");
    };

    const jumpTo = (letter, now) => {
      const last = typed.current;
      const begun = now - last.at < 700 ? last.text + letter : letter;
      typed.current = { text: begun, at: now };
      const first = begun.length === 1 ? 1 : 0; // the same letter again goes on to the next row
      for (let step = first; step < rows.length + first; step += 1) {
        const at = (current + step) % rows.length;
        if (rows[at].call < 0 && nodes[rows[at].i].label.toLowerCase().startsWith(begun)) return focusRow(at);
      }
      return undefined;
    };

    const onKeyDown = (event) => {
      const row = rows[current];
      if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
      if (event.key in steps) focusRow(Math.min(rows.length - 1, Math.max(0, current + steps[event.key])));
      else if (event.key === "Home") focusRow(0);
      else if (event.key === "End") focusRow(rows.length - 1);
      else if (event.key === "ArrowRight" && row.expanded === false) setBranch(row, true);
      else if (event.key === "ArrowRight" && row.expanded) focusRow(current + 1);
      else if (event.key === "ArrowLeft" && row.expanded) setBranch(row, false);
      else if (event.key === "ArrowLeft") focusRow(row.up);
      else if (event.key === "Enter") act(row, "replace");
      else if (event.key === " ") act(row, "toggle");
      else if (event.key === "Escape" && filter) filterBy("", "all");
      else if (event.key.length === 1 && event.key !== "/") jumpTo(event.key.toLowerCase(), event.timeStamp);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };

    const onSearchKey = (event) => {
      if (event.key === "Escape" && (text || kind !== "all")) filterBy("", "all");
      else if (event.key === "ArrowDown") focusRow(filter ? Math.max(0, rows.findIndex((row) => filter.hits.has(row.i))) : current);
      else if (event.key === "Enter" && pending) entered.current = text;
      else if (event.key === "Enter" && filter) takeFirst();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };

    const takeFirst = () => {
      const first = rows.findIndex((row) => filter.hits.has(row.i) && nodes[row.i].ran);
      if (first >= 0) act(rows[first], "replace");
    };
    // Enter that came before the search had answered means that answer, not what stood there until then.
    useEffect(() => {
      if (pending) return;
      if (filter && entered.current && entered.current === text) takeFirst();
      entered.current = "";
    }, [pending, text]);

    // A selection that was not made here (the URL, a closed card) opens its branches and comes into view.
    useEffect(() => {
      const now = selected.join("\n");
      if (now === seenSelection.current) return;
      const known = new Set(seenSelection.current.split("\n"));
      const fresh = selected.filter((key) => !known.has(key) && tree.byKey.has(key));
      if (nodes.length) seenSelection.current = now;
      if (!fresh.length) return;
      setRevealed((before) => new Set([...before, ...model.ancestorKeys(tree, fresh)]));
      sought.current = fresh[0];
    }, [selected, tree]);

    // The walked row comes into view; the keyboard's focus stays on the button, and Tab goes to the row.
    useEffect(() => {
      if (walked < 0) return;
      setActive(String(walked));
      const at = places.get(String(walked));
      if (at !== undefined) showRow(at, false);
    }, [walked, walkedText]);

    // It can be shown once its branches are open, which is a drawing later.
    useEffect(() => {
      if (filter) sought.current = null;
      const at = sought.current === null ? -1 : rows.findIndex((row) => keyOf(row) === sought.current);
      if (at < 0) return;
      sought.current = null;
      showRow(at, false);
    });

    useLayoutEffect(() => {
      setUnfolded(NO_BRANCHES);
      setMessage("");
    }, [tree.signature]);

    const branches = useMemo(() => nodes.filter((_, i) => tree.children[i].length).map((node) => node.key), [tree]);
    const allOpen = branches.every((key) => open.has(key));
    const selectable = filter ? [...filter.hits.keys()].filter((i) => nodes[i].ran).map((i) => nodes[i].key) : NO_KEYS;
    const total = model.counted(nodes.length, "layer");
    const matched = filter ? `${filter.hits.size} of ${total}` : total;
    const count = pending ? "searching …" : matched;
    const gap = (count, key) =>
      count > 0 ? h("div", { key, role: "presentation", style: { height: count * rowPixels } }) : null;
    const nextColumn = { shape: "params", params: "macs", macs: "shape" }[column];
    const note = (found && found.error) || message;

    return h(
      "div",
      { className: "hs-tree", id: props.id, ref: root },
      h(
        "div",
        { className: "hs-tree-search" },
        h("svg", { viewBox: "0 0 16 16", "aria-hidden": true }, h("path", { d: "M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9zM10.3 10.3 14 14" })),
        h("input", {
          ref: input,
          type: "text",
          value: text,
          placeholder: "name, glob, /regex/ or :Type",
          "aria-label": "Search layers: part of a name, a glob with * or ?, /regex/ or :Type",
          "aria-invalid": Boolean(found && found.error),
          "aria-describedby": `${props.id}-status`,
          autoComplete: "off",
          spellCheck: false,
          onChange: (event) => filterBy(event.target.value, kind),
          onKeyDown: onSearchKey,
        }),
        text
          ? h("button", { type: "button", title: "Clear the search (Esc)", "aria-label": "Clear the search", onClick: () => { filterBy("", kind); input.current.focus(); } }, "×")
          : h("kbd", { title: "Press / to search" }, "/"),
      ),
      h(
        "div",
        { className: "hs-tree-chips", role: "group", "aria-label": "Show only layers of one kind" },
        KINDS.map((name) =>
          h("button", { key: name, type: "button", "aria-pressed": kind === name, onClick: () => filterBy(text, name) }, name),
        ),
        h(
          "button",
          {
            type: "button",
            className: "hs-fold-all",
            disabled: Boolean(filter),
            title: allOpen ? "Close all but the first two levels" : "Open every branch",
            "aria-label": allOpen ? "Close all but the first two levels" : "Open every branch",
            onClick: () => setOpen(allOpen ? model.defaultOpen(tree) : branches),
          },
          h("svg", { viewBox: "0 0 12 12", "aria-hidden": true }, h("path", { d: allOpen ? "M3 1l3 3 3-3M3 11l3-3 3 3" : "M3 4l3-3 3 3M3 8l3 3 3-3" })),
        ),
      ),
      h(
        "div",
        { className: "hs-tree-status" },
        h("span", { role: "status", id: `${props.id}-status` }, note && !filter && !pending ? total : count),
        selectable.length > 1 && selectable.length <= MOST_AT_ONCE &&
          h("button", { type: "button", className: "hs-all", onClick: () => choose(selectable, "replace") }, `select all ${selectable.length} matches`),
        !wide &&
          h(
            "button",
            {
              type: "button",
              className: "hs-column",
              title: `The right column shows ${COLUMN_NAMES[column]}; click for ${COLUMN_NAMES[nextColumn]}`,
              "aria-label": `Right column: ${COLUMN_NAMES[column]}; switch to ${COLUMN_NAMES[nextColumn]}`,
              onClick: () => setProps({ column: nextColumn }),
            },
            COLUMNS[column],
          ),
        wide && Object.keys(COLUMNS).map((name) => h("span", { key: name, className: `hs-cell hs-cell-${name}` }, COLUMNS[name])),
        wide && Boolean(props.metric) && h("span", { className: "hs-bar hs-none" }),
      ),
      some &&
        h(
          "div",
          { className: "hs-tree-worst", role: "group", "aria-label": "By the number of the bars" },
          h("button", { type: "button", "aria-pressed": sorted, disabled: !worst.length, onClick: () => setSorted(!sorted), title: "List the layers by value, the most alarming first, instead of as a tree" }, "sort by value"),
          h("button", { type: "button", disabled: !worst.length, onClick: nextWorst, title: filter ? "Show the next of the found layers, from the most alarming one on; Tab goes to its row" : "Show the next layer, from the most alarming one on; Tab goes to its row" }, "next worst"),
          h("p", { role: "status", title: walkedText }, walkedText),
        ),
      note && h("p", { className: "hs-tree-note", role: "alert" }, note),
      h(
        "div",
        {
          className: "hs-tree-rows",
          role: "tree",
          ref: list,
          "aria-label": "Layers",
          "aria-multiselectable": true,
          onClick,
          onDoubleClick,
          onKeyDown,
          onScroll,
          onFocus: (event) => {
            const row = rowAt(event);
            if (row) setActive(row.id);
          },
        },
        drawn.flatMap((at, place) => {
          const row = rows[at];
          const node = nodes[row.i];
          const hit = filter && row.call < 0 ? filter.hits.get(row.i) : undefined;
          const element = h(hookscope.LayerTreeRow, {
            key: row.id,
            id: row.id,
            node,
            call: row.call,
            level: row.level,
            pos: row.pos,
            size: row.size,
            expanded: row.expanded,
            active: at === current,
            selected: chosen.has(keyOf(row)),
            whole: sorted,
            walked: row.call < 0 && row.i === walked,
            alarm: alarmOf(row),
            holds: row.expanded === false && holders.has(node.key),
            hitOn: hit ? hit.on : "",
            hitStart: hit ? hit.start : 0,
            hitEnd: hit ? hit.end : 0,
            dim: Boolean(filter) && !hit,
            column: wide ? "all" : column,
            metric: props.metric ? (props.metric[row.i] ?? null) : undefined,
            metricText: (props.metric && props.metric_texts && props.metric_texts[row.i]) || "",
          });
          return [gap(at - (place ? drawn[place - 1] + 1 : 0), `before ${place ? "more" : "all"}`), element];
        }),
        gap(rows.length - 1 - (drawn.length ? drawn[drawn.length - 1] : -1), "after all"),
      ),
      !nodes.length && h("p", { className: "hs-tree-empty" }, props.missing || "The layers appear here when the model has loaded."),
      Boolean(nodes.length) && !rows.length && h("p", { className: "hs-tree-empty" }, "No layer matches. Esc shows them all."),
    );
  }

  hookscope.LayerTree = LayerTree;
})();
