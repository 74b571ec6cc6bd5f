/* Pictures come in by drop, paste, browse or a sample: the bytes go to the server as they are. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const MOST_REFUSED = 8; // files of one drop that are tried in vain, before the rest is left
  const NAMED = 2; // of those are told with their reasons
  const choosers = {};
  /* A picture's place is a field of the view: "a", "b", or "second_a", the picture beside A's of a model that takes two.
     Sentences about it stand in its side's box. */
  const boxOf = (place) => place.slice(-1);
  for (const side of ["a", "b", "second_a", "second_b"]) {
    const chooser = (choosers[side] = document.createElement("input"));
    chooser.type = "file";
    chooser.id = `file-${side}`;
    chooser.hidden = true;
    chooser.multiple = side === boxOf(side);
    chooser.accept = "image/png,image/jpeg,image/webp,image/gif,image/bmp,image/tiff,.npy,.npz";
    chooser.addEventListener("change", () => {
      sendAll(Array.from(chooser.files), side);
      chooser.value = ""; // so that the same file can be chosen again
    });
    document.body.append(chooser);
  }

  /* Which boxes files go to, in order: the one that they were dropped on, then those that are empty; without either, A
     and B anew. What is shown is never replaced by a file that was meant for the other box. */
  function placesFor(side) {
    if (side && side !== boxOf(side)) return [side];
    const view = hookscope.view() || {};
    const empty = ["a", "b"].filter((one) => one !== side && !view[one]);
    if (side) return [side, ...empty];
    return empty.length ? empty : ["a", "b"];
  }

  /* A sentence in an input's box, `kind` "refused" or "told"; an empty one takes it back. */
  function say(side, kind, sentence) {
    for (const state of ["empty", "full"]) {
      const shown = document.getElementById(`input-${boxOf(side)}-${state}`);
      let place = shown.querySelector(`.${kind}`);
      if (!place) {
        if (!sentence) continue;
        place = document.createElement("p");
        place.className = `sentence ${kind === "refused" ? "error " : ""}${kind}`;
        place.setAttribute("role", kind === "refused" ? "alert" : "status");
        (shown.querySelector(".answer") || shown.lastElementChild).append(place);
      }
      place.textContent = sentence;
      place.hidden = !sentence;
    }
  }
  hookscope.tellIn = (side, sentence) => say(side, "told", sentence);
  const refuse = (side, sentence) => say(side, "refused", sentence);
  const refused = (side, sentence) => (refuse(side, sentence), sentence);

  function busy(side, on) {
    document.getElementById(`input-${boxOf(side)}-box`).classList.toggle("receiving", on);
  }

  /* Ask for a picture; "" if it is there, else the sentence that says why it is not, which stands in the box too. */
  async function take(side, request) {
    refuse(side, "");
    for (const each of ["a", "b"]) say(each, "told", "");
    busy(side, true);
    try {
      const answer = await request();
      const text = await answer.text();
      if (!answer.ok) return refused(side, text.trim());
      hookscope.choose({ [side]: JSON.parse(text).key, ...hookscope.unpainted(side) });
      return "";
    } catch (error) {
      return refused(side, "The picture did not arrive: the connection was lost. Try again.");
    } finally {
      busy(side, false);
    }
  }

  function send(side, file) {
    // Said before anything is sent: the server hangs up on a body of this size, which looks like a lost connection.
    const limit = Number(document.querySelector(".inputs").dataset.limit);
    if (file.size > limit) {
      return refused(side, `This file is larger than ${limit / 1e6} MB; make the picture smaller or save it as JPEG.`);
    }
    const name = encodeURIComponent(file.name || "pasted picture");
    return take(side, () => fetch(hookscope.url("upload?name=" + name), {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    }));
  }

  /* A box takes the first file that is a picture. Files that found no box are told of, those that are none by name:
     nothing vanishes without a word. */
  async function sendAll(files, side) {
    const pictures = Array.from(files);
    if (!pictures.length) return;
    const places = placesFor(side).slice(0, pictures.length);
    const wrong = [];
    let next = 0;
    let taken = 0;
    for (const place of places) {
      while (next < pictures.length && wrong.length < MOST_REFUSED) {
        const file = pictures[next++];
        const sentence = await send(place, file);
        if (!sentence) {
          taken += 1;
          break;
        }
        wrong.push(`${file.name}: ${sentence}`);
      }
    }
    if (pictures.length === 1) return;
    if (wrong.length) refuse(places[0], wrong.slice(0, NAMED).join(" "));
    if (taken === pictures.length) return;
    const kept = boxOf(places[0]) === "a" ? "B" : "A";
    let sentence = `One of ${pictures.length} was taken.`;
    if (!taken) sentence = `None of ${pictures.length} was taken.`;
    else if (taken > 1) sentence = `Two of ${pictures.length} were taken; two pictures can be compared, A and B. The tab Pictures takes all of them.`;
    else if (places.length === 1) sentence = `One of ${pictures.length} was taken; what ${kept} shows already stays.`;
    say(places[0], "told", sentence);
  }

  document.addEventListener("click", (event) => {
    const browse = event.target.closest("[data-browse]");
    if (browse) choosers[browse.dataset.browse].click();
    const sample = event.target.closest("[data-sample]");
    if (sample) {
      take(sample.dataset.side, () => fetch(hookscope.url("sample/" + sample.dataset.sample), { method: "POST" }));
    }
  });

  const carriesFiles = (event) => Array.from(event.dataTransfer?.types || []).includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const box = event.target.closest?.(".input");
    document.querySelectorAll(".input").forEach((one) => one.classList.toggle("over", one === box));
    document.documentElement.classList.add("dragging");
  });
  function rest() {
    document.documentElement.classList.remove("dragging");
    document.querySelectorAll(".input.over").forEach((one) => one.classList.remove("over"));
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) rest(); });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    rest();
    if (hookscope.dropSet(event)) return;
    const place = event.target.closest?.("[data-place]")?.dataset.place;
    sendAll(event.dataTransfer.files, place || event.target.closest?.(".input")?.dataset.side);
  });
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea") && !event.clipboardData.files.length) return;
    sendAll(event.clipboardData.files);
  });
})();
