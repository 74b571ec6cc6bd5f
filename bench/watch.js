/* What a benchmark sees of a page: when a click happened, and the frame in which its answer is on the screen.

   `bench.expect(what)` is called before a click. When it is drawn, the page logs "bench " and a JSON text on the console:
   the milliseconds from the click to that frame, when what happened on the way, and the bytes that came. */
(function () {
  "use strict";
  const bench = (window.bench = { streams: 0, open: false });
  const watched = new WeakSet();
  let expected = null;
  let clicked = 0;
  let streamed = 0;
  let shown = 0; // when the wall's pictures were painted, before its figure was drawn
  let messages = [];
  const kept = {};

  bench.expect = function (what) {
    performance.clearResourceTimings();
    messages = [];
    clicked = streamed = shown = 0;
    expected = what;
    const graph = document.querySelector(".js-plotly-plot");
    if (what.kind === "figure" && !watched.has(graph)) {
      watched.add(graph);
      graph.on("plotly_afterplot", () => lookForFigure(graph));
    }
  };

  const plot = (card) => document.getElementById(JSON.stringify({ card, type: "card-wall" })).querySelector(".js-plotly-plot");

  /* The floor of a click: nothing is asked, and a ready figure with a ready picture takes the place of another one. `keep`
     remembers what card 0 shows, `offer` makes a button that shows it again. */
  bench.keep = (name) => { kept[name] = structuredClone({ data: plot(0).data, layout: plot(0).layout }); };
  bench.offer = function (name) {
    document.getElementById("bench-floor")?.remove();
    const button = Object.assign(document.createElement("button"), { id: "bench-floor", textContent: "floor" });
    button.addEventListener("click", () => window.Plotly.react(plot(0), structuredClone(kept[name].data), structuredClone(kept[name].layout)));
    document.querySelector(".toolbar").prepend(button);
  };

  /* Pictures that lie over a figure until it is drawn. They are laid there while a frame is made, and are on the screen when
     the next one begins; what its code does before it says so is not their time. */
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (!expected || !clicked || shown || !(node instanceof Element) || !node.matches(".early")) continue;
        requestAnimationFrame((now) => { shown = now; });
      }
    }
  }).observe(document, { childList: true, subtree: true });

  /* The time stamp is that of the mouse button, before any of the page's code ran. */
  document.addEventListener("click", (event) => {
    if (expected && !clicked) clicked = event.timeStamp;
  }, true);

  /* Hookscope's answers come by Server-Sent Events. */
  const Plain = window.EventSource;
  window.EventSource = class extends Plain {
    constructor(url) {
      super(url);
      streamed = performance.now();
      bench.streams += 1;
      bench.open = true;
      const number = bench.streams;
      this.addEventListener("message", (event) => messages.push([performance.now(), event.data]));
      this.addEventListener("done", () => { if (number === bench.streams) bench.open = false; });
    }
  };

  /* A wall's sprite is an <image> inside a Plotly figure: it is there when it has loaded. */
  document.addEventListener("load", (event) => {
    if (!expected || !clicked || !["wall", "floor"].includes(expected.kind) || !(event.target instanceof SVGImageElement)) return;
    const graph = event.target.closest(`[id='${JSON.stringify({ card: expected.card, type: "card-wall" })}']`);
    const layout = graph && graph.querySelector(".js-plotly-plot").layout;
    if (!layout || layout.uirevision !== expected.key) return;
    const source = layout.images[0].source;
    const describe = expected.kind === "wall" ? () => wall(source) : () => ({});
    if (event.target.href.baseVal === source) finish(describe, performance.now());
  }, true);

  /* A figure of the article's page is there when all of its heatmaps are. */
  function lookForFigure(graph) {
    if (!expected || !clicked || graph.layout.meta !== expected.name) return;
    if (graph.querySelectorAll(".heatmaplayer image").length >= expected.heatmaps) finish(figure, performance.now());
  }

  function finish(describe, loaded) {
    expected = null;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      const drawn = performance.now();
      const times = { milliseconds: drawn - clicked, shown: (shown || drawn) - clicked, loaded: loaded - clicked };
      console.info("bench " + JSON.stringify({ ...times, ...describe() }));
    }));
  }

  function entry(part) {
    return performance.getEntriesByType("resource").filter((each) => each.name.includes(part)).pop();
  }

  function wall(source) {
    const question = entry("/ask");
    const key = source.split("/").pop(); // Plotly's JSON writes slashes as \u002f
    const message = messages.find(([, data]) => data.includes(key)); // else it came with the answer to the question
    const [told, bytes] = message ? [message[0], new Blob([message[1]]).size] : [question.responseEnd, question.encodedBodySize];
    const picture = entry(key);
    return {
      asked: question.startTime - clicked,
      answered: question.responseEnd - clicked,
      streamed: streamed - clicked,
      told: told - clicked,
      answerBytes: bytes,
      pictureBytes: picture ? picture.encodedBodySize : 0,
    };
  }

  function figure() {
    const answer = entry("_dash-update-component");
    return { asked: answer.startTime - clicked, told: answer.responseEnd - clicked, answerBytes: answer.encodedBodySize };
  }
})();
