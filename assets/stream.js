/* The answers' way onto the page: one EventSource per question, each event a part with the properties to set.

   `drawn` remembers which parts the page shows (name -> signature); it travels with the next question, so the server
   sends only what has changed. */
(function () {
  "use strict";
  const hookscope = (window.hookscope = window.hookscope || {});
  const RETRY_FRAMES = 240; // a card that was just asked for may not be mounted yet
  let source = null;
  let arrived = []; // messages of the open stream that are not on the page yet, in order
  hookscope.arriving = () => arrived.length;
  let failures = 0; // in a row, without a region that became whole in between
  const MOST_FAILURES = 8; // within a minute; then the page asks no more by itself
  let refusals = 0; // because it is busy, in a row

  const bytes = crypto.getRandomValues(new Uint8Array(16));
  hookscope.page = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  hookscope.drawn = {};
  hookscope.drawnOf = new Set(); // the models, each with its fingerprint, that all of it is of
  hookscope.question = 0;

  /* Set properties; an id that is not on the page (yet) throws inside Dash. */
  hookscope.set = function (id, props) {
    try {
      window.dash_clientside.set_props(id, props);
      return true;
    } catch (error) {
      return false;
    }
  };

  /* One sentence over the page, with a button where something can be done; an empty one takes back its own kind only. */
  hookscope.banner = function (kind, sentence, action) {
    const element = document.getElementById("banner");
    if (!element || (!sentence && element.dataset.kind !== kind)) return;
    element.dataset.kind = sentence ? kind : "";
    element.replaceChildren(sentence);
    if (sentence && action) {
      const button = document.createElement("button");
      button.className = "link";
      button.textContent = action.text;
      button.dataset.do = action.name;
      element.append(" ", button);
    }
    element.hidden = !sentence;
  };

  /* The element of a component, by the id that Dash gives it: keys in alphabetical order. */
  function elementOf(id) {
    return document.getElementById(typeof id === "string" ? id : JSON.stringify(id, Object.keys(id).sort()));
  }

  /* In a low window the enlarged channel is lower than the server draws it, so that the wall above it stays in sight. */
  const LOW_WINDOW_PX = 760;
  const LOW_DETAIL_PX = 165;
  function lower(id, { figure, style }) {
    if (!["detail-figure", "detail-histogram"].includes(id) || window.innerHeight > LOW_WINDOW_PX) return;
    if (figure) figure.layout.height = Math.min(figure.layout.height, LOW_DETAIL_PX);
    if (style) style.height = Math.min(parseFloat(style.height), LOW_DETAIL_PX) + "px";
  }

  /* Put one update on the page; false if its component is not there (yet). */
  function put([id, props]) {
    if (props.tried) return hookscope.paintTried(elementOf(id), props.tried);
    lower(id, props);
    if (!hookscope.set(id, props)) return false;
    if (id === "export-view") hookscope.exportIs(props.href);
    if (props.figure) {
      const element = elementOf(id);
      if (element) element.classList.remove("outdated");
      hookscope.endTried();
      hookscope.followWidth(element);
    }
    return true;
  }

  /* Apply what has come in the order in which it came: what is meant for a card that is not mounted yet waits for it, and
     so does what comes behind; so do figures for their pictures. `frames` counts how long. */
  function apply(from, frames) {
    while (from === source && arrived.length) { // else a newer question is on screen
      const message = arrived[0];
      const now = hookscope.allowed(message, elementOf, frames);
      const may = ([, { figure }]) => now === "all" || (now === "texts" && !figure);
      message.updates = message.updates.filter((update) => !(may(update) && put(update)));
      if (now === "texts") delete hookscope.drawn[message.part]; // half of it is on the page
      if (message.updates.length && frames < RETRY_FRAMES) {
        requestAnimationFrame(() => apply(from, frames + 1));
        return;
      }
      arrived.shift();
      if (message.signature && !message.updates.length) {
        hookscope.drawn[message.part] = message.signature;
        document.dispatchEvent(new CustomEvent("drawn", { detail: message.part }));
        failures = 0;
        hookscope.banner("connection", "");
      } else delete hookscope.drawn[message.part];
    }
  }

  function end(stream) {
    stream.close();
    if (source !== stream) return;
    source = null;
    hookscope.clearEarly();
  }

  /* Read a stream, whose first messages may be here already. */
  hookscope.follow = function (url, first = []) {
    if (source) source.close();
    source = null;
    arrived = [];
    hookscope.clearEarly();
    if (!url) return void document.dispatchEvent(new Event("answered"));
    const stream = (source = new EventSource(url));
    const number = hookscope.question;
    /* It ended before everything was there: the server stops, or had to make room. A stream that a newer question has
       replaced ends too, often before the answer to that question is here; it is not missed. */
    const broken = () => {
      if (source !== stream) return;
      end(stream);
      if (number === hookscope.question) hookscope.lost();
    };
    stream.onmessage = (event) => {
      refusals = 0;
      hookscope.banner("busy", "");
      take(JSON.parse(event.data));
    };
    function take(message) {
      hookscope.fetchPictures(message);
      arrived.push(message);
      if (arrived.length === 1) apply(stream, 0);
    }
    first.forEach(take);
    /* `source` stays until the next question, so that late retries of this stream still count as its own. */
    stream.addEventListener("done", () => {
      stream.close();
      failures = 0;
      hookscope.banner("connection", "");
      hookscope.banner("busy", "");
      document.dispatchEvent(new Event("answered"));
      hookscope.spareCard();
    });
    stream.addEventListener("cut", broken);
    stream.addEventListener("busy", (event) => {
      end(stream);
      hookscope.banner("busy", JSON.parse(event.data));
      refusals += 1;
      const wait = Math.min(10000, 1000 * 1.5 ** refusals);
      setTimeout(() => { if (!source) hookscope.askAgain(); }, wait + Math.random() * wait);
    });
    stream.onerror = broken;
  };

  /* Say that the answers do not come, and ask again in a while, unless something else is asked before; each time later, and
     in the end only when somebody says so. */
  hookscope.lost = function () {
    const number = hookscope.question;
    failures += 1;
    if (failures > MOST_FAILURES) {
      const sentence = "Hookscope's answers do not arrive whole. It may have stopped, or a proxy in between ends them.";
      return hookscope.banner("connection", sentence, { text: "Ask again", name: "ask-again" });
    }
    hookscope.banner("connection", "The connection to Hookscope was lost. Trying again …");
    setTimeout(() => { if (number === hookscope.question) hookscope.askAgain(); }, Math.min(10000, 500 * 2 ** failures));
  };

  window.addEventListener("pagehide", () => {
    if (source) source.close();
    navigator.sendBeacon(hookscope.url("leave/" + hookscope.page));
  });

  /* A page that the browser kept while another was shown has missed what came meanwhile. */
  window.addEventListener("pageshow", (event) => { if (event.persisted) hookscope.askAgain(); });

  /* Send something that changes the server; null if it does not answer, which the page then says by itself. */
  hookscope.post = (path, options) => fetch(hookscope.url(path), { method: "POST", ...options }).catch(() => null);

  /* A path of this server, behind whatever prefix it is served. */
  hookscope.url = function (path) {
    const config = JSON.parse(document.getElementById("_dash-config").textContent);
    return config.requests_pathname_prefix + path;
  };
})();
