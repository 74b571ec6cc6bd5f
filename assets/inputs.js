/* Pictures come in by drop, paste, browse or a sample: the bytes go to the server as they are. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const choosers = {};
  for (const side of ["a", "b"]) {
    const chooser = (choosers[side] = document.createElement("input"));
    chooser.type = "file";
    chooser.id = `file-${side}`;
    chooser.hidden = true;
    chooser.multiple = true;
    chooser.accept = "image/png,image/jpeg,image/webp,image/gif,image/bmp,image/tiff";
    chooser.addEventListener("change", () => {
      sendAll(Array.from(chooser.files), side);
      chooser.value = ""; // so that the same file can be chosen again
    });
    document.body.append(chooser);
  }

  /* Without a box of its own, a picture is A, and the next one is B. */
  function freeSide() {
    const view = hookscope.view();
    return view && view.a && !view.b ? "b" : "a";
  }

  function refuse(side, sentence) {
    for (const kind of ["empty", "full"]) {
      const shown = document.getElementById(`input-${side}-${kind}`);
      if (shown.hidden) continue;
      let place = shown.querySelector(".refused");
      if (!place) {
        place = document.createElement("p");
        place.className = "sentence error refused";
        place.setAttribute("role", "alert");
        (shown.querySelector(".answer") || shown.lastElementChild).append(place);
      }
      place.textContent = sentence;
      place.hidden = !sentence;
    }
  }

  function busy(side, on) {
    document.getElementById(`input-${side}-box`).classList.toggle("receiving", on);
  }

  async function take(side, request) {
    refuse(side, "");
    busy(side, true);
    try {
      const answer = await request();
      const text = await answer.text();
      if (!answer.ok) return refuse(side, text.trim());
      hookscope.choose({ [side]: JSON.parse(text).key });
    } catch (error) {
      refuse(side, "The picture did not arrive: the connection was lost. Try again.");
    } finally {
      busy(side, false);
    }
  }

  function send(side, file) {
    // Said before anything is sent: the server hangs up on a body of this size, which looks like a lost connection.
    const limit = Number(document.querySelector(".inputs").dataset.limit);
    if (file.size > limit) {
      return refuse(side, `This file is larger than ${limit / 1e6} MB; make the picture smaller or save it as JPEG.`);
    }
    const name = encodeURIComponent(file.name || "pasted picture");
    return take(side, () => fetch(hookscope.url("upload?name=" + name), {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    }));
  }

  async function sendAll(files, side) {
    const pictures = Array.from(files);
    if (!pictures.length) return;
    const first = side || freeSide();
    await send(first, pictures[0]);
    if (pictures.length > 1) await send(first === "a" ? "b" : "a", pictures[1]);
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
    sendAll(event.dataTransfer.files, event.target.closest?.(".input")?.dataset.side);
  });
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea") && !event.clipboardData.files.length) return;
    sendAll(event.clipboardData.files);
  });
})();
