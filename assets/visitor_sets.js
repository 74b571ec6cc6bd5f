/* Sets of pictures of a visitor's own: many files, a folder or a zip come in by drop or browse, one after the other, and
   this browser remembers the keys of the sets that it made. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const MOST_KEPT = 24;
  const AT_ONCE = 3; // files that are on their way: as many connections leave some for the page
  const TRIES = 4;
  const AGAIN_MS = 700; // doubled with each try
  const LOOK_MS = 400;
  let coming = null; // the set that is being brought

  /* What this browser made. */
  const place = () => "hookscope-sets " + hookscope.url("");
  hookscope.ownSets = function () {
    try {
      const found = JSON.parse(localStorage.getItem(place()) || "[]");
      return Array.isArray(found) ? found.filter((key) => typeof key === "string").slice(-MOST_KEPT) : [];
    } catch (error) {
      return []; // storage is off, or somebody else's
    }
  };
  function remember(keys) {
    try {
      localStorage.setItem(place(), JSON.stringify(keys.slice(-MOST_KEPT)));
    } catch (error) {
      // the address has the key for as long as the set is looked at
    }
  }
  hookscope.keepSet = (key) => remember([...hookscope.ownSets().filter((each) => each !== key), key]);
  const forget = (key) => remember(hookscope.ownSets().filter((each) => each !== key));

  /* --- which files, and where they lie by their own account */

  const isZip = ({ file }) => /\.zip$/i.test(file.name);
  const stem = (name) => name.replace(/\.[^.]*$/, "");

  function fromFields(files) {
    const found = Array.from(files, (file) => ({ file, path: file.webkitRelativePath || file.name }));
    if (!found.length || !files[0].webkitRelativePath) return { found, name: "" };
    const name = found[0].path.split("/")[0];
    return { found: found.map(({ file, path }) => ({ file, path: path.slice(name.length + 1) })), name };
  }

  /* A dropped folder says what is in it some files at a time. Entries have to be taken while the drop is handled. */
  async function fromDrop(entries) {
    const found = [];
    const [only] = entries.length === 1 && entries[0].isDirectory ? entries : [null];
    async function walk(entry, path) {
      if (entry.isFile) {
        const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
        if (file) found.push({ file, path: path + entry.name });
        return;
      }
      const reader = entry.createReader();
      const inside = entry === only ? "" : `${path}${entry.name}/`;
      for (;;) {
        const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
        if (!some.length) return;
        for (const each of some) await walk(each, inside);
      }
    }
    for (const entry of entries) await walk(entry, "");
    return { found, name: only ? only.name : "" };
  }

  /* --- what the page says */

  const element = (id) => document.getElementById(id);
  function refuse(sentence) {
    element("set-refused").textContent = sentence;
    element("set-refused").hidden = !sentence;
  }
  function show(text, share) {
    element("set-making").hidden = !coming;
    if (!coming) return;
    element("set-making-name").textContent = coming.name || "your pictures";
    element("set-making-text").textContent = text;
    element("set-making-bar").style.width = `${Math.round(1000 * share) / 10}%`;
    element("set-making-bar").parentElement.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  }
  const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${Math.round(bytes / 1e6)} MB`);
  const count = (number) => (number === 1 ? "1 picture" : `${number.toLocaleString("en")} pictures`);

  /* --- sending */

  class Stop extends Error {} // what is wrong is about the whole set; the message says it
  const LOST = "The pictures did not all arrive: the connection was lost. Bring them again.";
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  /* What the server answers, as JSON; tried again where it does not. */
  async function ask(set, path, options = {}) {
    for (let tries = 1; ; tries += 1) {
      let answer = null;
      try {
        answer = await fetch(hookscope.url(path), { method: "POST", signal: set.stop.signal, ...options });
      } catch (error) {
        if (set.stop.signal.aborted) throw new Stop("");
      }
      if (answer && answer.ok) return answer.status === 204 ? {} : answer.json();
      if (answer && answer.status < 500) throw new Stop((await answer.text()).trim());
      if (answer && [503, 507].includes(answer.status)) throw new Stop((await answer.text()).trim());
      if (tries === TRIES) throw new Stop(LOST);
      await wait(AGAIN_MS * 2 ** tries);
    }
  }
  const asJson = (value) => ({ headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
  const asBytes = (body) => ({ headers: { "Content-Type": "application/octet-stream" }, body });

  const readable = (file) => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

  async function sendFiles(set, files) {
    let next = 0;
    let done = 0;
    const tell = () => show(`${done.toLocaleString("en")} of ${count(files.length)} · ${megabytes(set.sent)} of ${megabytes(set.size)}`, set.sent / set.size);
    async function sendNext() {
      while (next < files.length) {
        const number = next++;
        const { file, path } = files[number];
        if (await readable(file)) {
          await ask(set, `set/${set.key}/add?number=${number}&name=${encodeURIComponent(path)}`, asBytes(file)); // refused ones the set lists
        } else set.unread.push(path);
        done += 1;
        set.sent += file.size;
        tell();
      }
    }
    tell();
    await Promise.all(Array.from({ length: AT_ONCE }, sendNext));
  }

  async function sendZip(set, file, piece) {
    for (let at = 0; at < file.size; ) {
      const before = at;
      ({ at } = await ask(set, `set/${set.key}/piece?at=${at}`, asBytes(file.slice(at, at + piece))));
      if (at <= before && before > 0) throw new Stop(LOST);
      set.sent += at - before;
      show(`${megabytes(set.sent)} of ${megabytes(set.size)}`, set.sent / set.size);
    }
    await ask(set, `set/${set.key}/unpack?name=${encodeURIComponent(file.name)}`);
    for (;;) {
      const { phase, sentence, pictures } = await ask(set, `set/${set.key}/making`, { method: "GET" });
      if (phase === "failed") throw new Stop(sentence);
      if (phase !== "unpacking") return;
      show(`unpacking · ${count(pictures)}`, 1);
      await wait(LOOK_MS);
    }
  }

  async function send(set, files) {
    const { key, file_bytes: most, piece_bytes: piece, left_out: beside } = await ask(set, "sets", asJson({ name: set.name, bytes: set.size }));
    set.key = key;
    const ending = ({ path }) => path.slice(path.lastIndexOf(".")).toLowerCase();
    const hidden = ({ path }) => /(^|\/)(\.|__MACOSX\/)/.test(path);
    const wanted = files.filter((each) => !hidden(each) && (each.path === "labels.csv" || !beside.includes(ending(each))));
    const large = wanted.filter((each) => !isZip(each) && each.file.size > most);
    const fit = wanted.filter((each) => !isZip(each) && each.file.size <= most);
    set.size = Math.max(1, wanted.reduce((sum, { file }) => sum + file.size, 0));
    await sendFiles(set, fit);
    for (const { file } of wanted.filter(isZip)) await sendZip(set, file, piece);
    const close = asJson({ too_large: large.map(({ path }) => path), unread: set.unread });
    return ask(set, `set/${key}/close`, close);
  }

  /* Bring files as a set; one at a time. */
  async function bring({ found: files, name }) {
    if (!files.length) return;
    if (coming) return refuse("A set is being brought already: wait for it, or cancel it.");
    refuse("");
    const zips = files.filter(isZip);
    const called = name || (files.length === 1 && zips.length ? stem(zips[0].file.name) : "");
    const size = files.reduce((sum, { file }) => sum + file.size, 0);
    const set = (coming = { name: called, size, sent: 0, key: "", unread: [], stop: new AbortController() });
    show("", 0);
    try {
      const { key } = await send(set, files);
      hookscope.keepSet(key);
      const chosen = JSON.parse(element("set-drop").dataset.chosen);
      hookscope.choose({ ...chosen, set_a: key, set_b: "", tab: "pictures" });
    } catch (error) {
      set.stop.abort();
      if (set.key) hookscope.post(`set/${set.key}/cancel`);
      if (!(error instanceof Stop)) throw error;
      refuse(error.message);
    } finally {
      coming = null;
      show("", 0);
    }
  }

  /* --- browse, drop, cancel, delete */

  for (const what of ["files", "folder"]) {
    const chooser = document.createElement("input");
    chooser.type = "file";
    chooser.id = `set-${what}`;
    chooser.hidden = true;
    chooser.multiple = true;
    chooser.webkitdirectory = what === "folder";
    chooser.addEventListener("change", () => {
      bring(fromFields(chooser.files));
      chooser.value = ""; // so that the same can be chosen again
    });
    document.body.append(chooser);
  }

  /* Whether a drop is a set's: it is on the tab of sets. */
  hookscope.dropSet = function (event) {
    if (!event.target.closest?.(".pictures-side")) return false;
    const entries = Array.from(event.dataTransfer.items || [], (item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (entries.length) fromDrop(entries).then(bring);
    else bring(fromFields(event.dataTransfer.files));
    return true;
  };
  const over = (on) => element("set-drop")?.classList.toggle("over", on);
  document.addEventListener("dragover", (event) => {
    const carries = Array.from(event.dataTransfer?.types || []).includes("Files");
    over(carries && Boolean(event.target.closest?.(".pictures-side")));
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", () => over(false), true);

  async function remove(button) {
    const key = button.dataset.value;
    button.disabled = true;
    const answer = await hookscope.post(`set/${encodeURIComponent(key)}/delete`);
    button.disabled = false;
    if (!answer) return hookscope.lost();
    if (!answer.ok) return refuse((await answer.text()).trim());
    forget(key);
    const view = hookscope.view();
    const gone = view.set_a === key ? { ...JSON.parse(element("set-drop").dataset.chosen), set_a: "", set_b: "" } : view.set_b === key ? { set_b: "" } : {};
    if (!hookscope.choose(gone)) hookscope.askAgain();
  }

  document.addEventListener("click", (event) => {
    const browse = event.target.closest("[data-browse-set]");
    if (browse) element(`set-${browse.dataset.browseSet}`).click();
    if (event.target.closest("[data-do=cancel-set]") && coming) coming.stop.abort();
    const button = event.target.closest("[data-do=delete-set]");
    if (button && !button.disabled) remove(button);
  });

  /* What is half brought is of no use to anybody when the page is gone. */
  window.addEventListener("beforeunload", (event) => { if (coming) event.preventDefault(); });
  window.addEventListener("pagehide", () => { if (coming && coming.key) navigator.sendBeacon(hookscope.url(`set/${coming.key}/cancel`)); });
})();
