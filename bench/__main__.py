"""`python -m bench [TOPIC ...]`: runs the benchmarks and prints one Markdown table each."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence

from bench import conditions
from bench.application import ROOT
from bench.options import QUICK, Options, say
from bench.report import Table, missing_markers, write

TOPICS = {
    "click": "click",
    "slider": "slider",
    "hooks": "hooks_cost",
    "training": "training",
    "feed": "feed",
    "load": "load",
    "memory": "memory",
    "start": "start",
    "peers": "peers",
    "attention": "attention",
    "effects": "effects",
    "parting": "parting",
    "sets": "sets",
}
MEASUREMENTS = ROOT / "docs" / "measurements.md"
ELSEWHERE = {  # tables that stand in another document
    "peers": ROOT / "docs" / "truth.md",
    "attention": ROOT / "docs" / "examples" / "attention.md",
    "effects": ROOT / "docs" / "examples" / "effects.md",
    "parting": ROOT / "docs" / "examples" / "parting.md",
    "slider": ROOT / "docs" / "examples" / "edits.md",
}


def main(arguments: Sequence[str]) -> int:
    """Run the topics that are named, or all; returns the process's exit code."""
    given = _parser().parse_args(arguments)
    names = given.topics or list(TOPICS)
    if given.write and (problem := _not_writable(names, given.quick)):
        print(problem, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the programs that were started are then stopped too
    if busy := conditions.busy():
        say(busy)
    options = QUICK if given.quick else Options()
    tables: list[Table] = []
    for name in names:
        try:
            found = importlib.import_module(f"bench.{TOPICS[name]}").run(options)
        except Exception:  # minutes of the others' measurements should not be lost with it
            traceback.print_exc()
            say(f"{name} was not measured; the lines above say why.")
            continue
        print(f"### {name}\n\n{found.markdown()}\n", flush=True)
        tables.append(found)
    if given.write:
        for document in (MEASUREMENTS, *ELSEWHERE.values()):
            write(document, [found for found in tables if ELSEWHERE.get(found.name, MEASUREMENTS) == document])
    return 0 if len(tables) == len(names) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what Hookscope costs.")
    parser.add_argument("topics", nargs="*", choices=[*TOPICS, []], metavar="TOPIC", help=f"{', '.join(TOPICS)}; all")
    parser.add_argument("--write", action="store_true", help="put the tables between their markers in docs")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing, to see that everything works")
    return parser


def _not_writable(names: Sequence[str], quick: bool) -> str:
    if quick:
        return "--quick measures too little to be written into the documents: leave one of --quick and --write away."
    missing = [
        name for name in names if missing_markers(ELSEWHERE.get(name, MEASUREMENTS).read_text(encoding="utf-8"), [name])
    ]
    if not missing:
        return ""
    wanted = ", ".join(f"<!-- bench:{name} --> ... <!-- /bench -->" for name in missing)
    return f"docs/measurements.md, or the table's own document, lacks the places for these tables: {wanted}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
