"""`python app.py bench MODEL`: what hooks cost on a model of one's own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch

from hookscope.hooks.bench import cost
from hookscope.hooks.errors import HooksError


def main(arguments: Sequence[str]) -> int:
    """Run one command; 2 and a sentence if what it was given cannot be used."""
    given = _parser().parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a factory lies in the folder in which one starts
    try:
        print(cost.run(given.model, given.input_size, given.layers, given.repeats))
    except HooksError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py bench",
        description=cost.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="torchvision:NAME, timm:NAME or package.module:factory")
    parser.add_argument("--input-size", type=_size, default=(224, 224), help="224 or 320x240, height first (224)")
    parser.add_argument("--layers", action="append", metavar="PATTERN", help="layers to look at (every leaf module)")
    parser.add_argument("--repeats", type=_count, default=7, help="rounds after the warm-up (7)")
    parser.add_argument("--threads", type=_count, help="torch's threads (its own choice)")
    return parser


def _size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if not all(part.isdecimal() and 0 < int(part) <= 8192 for part in parts) or len(parts) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 224, or 320x240 for height by width.")
    return int(parts[0]), int(parts[-1])


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000.")
    return int(text)
