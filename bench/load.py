"""Many people at once: fifty who click quickly, fifty with one question, and four hundred streams at a time."""

from __future__ import annotations

from collections.abc import Sequence

from bench import conditions
from bench.application import hookscope
from bench.crowd import LAYERS, MODEL, Crowd, Rush, ask_the_same, crowd, rush, stopped
from bench.options import Options, say
from bench.report import Table, percentile, seconds
from bench.walls import photograph
from hookscope.hooks.bench.timing import milliseconds


def run(options: Options) -> Table:
    """Measure and describe."""
    with hookscope("--model", MODEL) as application, hookscope("--model", MODEL) as reference:
        application.wait_for_model(MODEL)
        reference.wait_for_model(MODEL)
        say(f"load: {options.sessions} sessions click")
        found = crowd(application, reference, options.sessions, options.session_clicks)
        say("load: one changes their mind")
        ended = stopped(application)
        say(f"load: {options.sessions} ask the same")
        same = ask_the_same(application, options.sessions, photograph(100))
        say(f"load: {options.rush} streams at once")
        streams = rush(application, options.rush)
    return table(found, same, streams, ended, options)


def table(found: Crowd, same: dict[str, int], streams: Rush, ended: int, options: Options) -> Table:
    """The table of `docs/measurements.md`."""
    first = [value * 1000 for each in found.sessions for value in each.first_bytes]
    last = [each.answer_seconds * 1000 for each in found.sessions if not each.problem]
    rushed = [value * 1000 for value in streams.first_bytes]
    books = found.work

    def both(values: Sequence[float]) -> str:
        return f"{milliseconds(percentile(values, 50))}, {milliseconds(percentile(values, 95))}"

    people = f"{options.sessions} sessions, {options.session_clicks} clicks each"
    rows = [
        [f"{people}: last clicks answered, wrong answers", f"{len(last)}, {found.wrong}"],
        ["click → first byte of its answer: median, 95th percentile", both(first)],
        ["last click → all of its answer: median, 95th percentile", both(last)],
        [
            "units computed, stopped in the middle, failed",
            f"{books['answered']:,}, {books['stopped']:,}, {books['failed']:,}",
        ],
        ["units superseded before their turn, none of which was started", f"{books['dropped']:,}"],
        ["everybody gone → the worker has nothing to do", seconds(found.idle_seconds)],
        [f"one asks about {len(LAYERS)} layers, then about another: units stopped", f"{ended}"],
        [f"{options.sessions} ask the same: units computed (classes, activation, Grad-CAM)", f"{same['taken']}"],
        [
            f"{options.rush} streams at once: answered, told “busy”, hanging",
            f"{streams.answered}, {streams.busy}, {streams.hung}",
        ],
        ["… opened → first byte: median, 95th percentile", both(rushed)],
    ]
    notes = [
        "A click every 0.2 s on one of twelve layers of the default model, every session with a photograph of its own.",
        "The last answers, pictures included, are compared byte by byte with those of a second server, asked one by",
        "one. The people run on the same cores.",
        conditions.sentence(["torch", "dash"]),
    ]
    return Table("load", ["", ""], rows, notes)
