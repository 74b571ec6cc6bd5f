/* What a benchmark sees of a slider that is dragged: when it changed, and the frames in which what follows is on the screen.

   `bench.drag()` begins anew; `bench.dragged()` tells, for every answer that was painted, which change it answers. All times
   are milliseconds of the page's own clock, as `performance.now` has it. */
(function () {
  "use strict";
  const bench = (window.bench = window.bench || {});
  let changes = []; // {value, at}
  let asked = []; // {value, at, answered}: the questions, by the value that they ask about
  let painted = []; // {kind, value, changed, asked, answered, streamed, told, put, at}
  let streaming = null; // the question whose stream is open

  bench.drag = function () {
    changes = [];
    asked = [];
    painted = [];
  };
  bench.dragged = () => JSON.stringify({ changes, painted });

  document.addEventListener("input", (event) => {
    if (event.target.type === "range") changes.push({ value: Number(event.target.value), at: event.timeStamp });
  }, true);

  const plain = window.fetch;
  window.fetch = async function (address, options) {
    if (!String(address).endsWith("ask")) return plain(address, options);
    const { view } = JSON.parse(options.body);
    const question = { value: Number((view.edits_a || "~~1").split("~")[2]), at: performance.now(), answered: 0 };
    const answer = await plain(address, options);
    question.answered = performance.now();
    asked.push(question);
    return answer;
  };

  const Plain = window.EventSource;
  window.EventSource = class extends Plain {
    constructor(url) {
      super(url);
      const question = (streaming = { ...asked[asked.length - 1], streamed: performance.now(), told: {} });
      this.addEventListener("message", (event) => {
        const { part, signature } = JSON.parse(event.data);
        if (signature) question.told[part] = performance.now();
      });
    }
  };

  /* Told of a part that is whole once its properties are set; what that draws is on the screen two frames later. */
  document.addEventListener("drawn", ({ detail: part }) => {
    const question = streaming;
    if (!question || !["input a", "detail"].includes(part)) return;
    note(part === "input a" ? "answer" : "channel", part, question);
  });

  document.addEventListener("drawn", ({ detail: part }) => {
    if (streaming && /^card \d+ cam/.test(part)) note("map", part, streaming);
  });

  function note(kind, part, question) {
    const { value, at: asking, answered, streamed, told } = question;
    const change = changes.findLast((each) => each.value === value);
    if (!change) return;
    const put = performance.now();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      painted.push({ kind, value, changed: change.at, asked: asking, answered, streamed, told: told[part] || 0, put, at: performance.now() });
    }));
  }
})();
