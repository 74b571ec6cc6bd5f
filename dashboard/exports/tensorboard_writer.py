"""A process that writes activations and gradients, which come on its standard input, for TensorBoard, and ends.

python -m hookscope.dashboard.exports.tensorboard_writer FOLDER        (started by `exports.tensorboard`)
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hookscope.hooks.datasets.tensorboard import Writer, tag
from hookscope.hooks.results.codec import decode
from hookscope.hooks.results.looks import Activation, Gradients
from hookscope.hooks.results.maps import maps


def main(folder: Path, stream: BinaryIO) -> None:
    """Write everything: A and B as runs of their own, so that TensorBoard lays them over each other."""
    with contextlib.ExitStack() as stack:
        writers: dict[str, Writer] = {}
        for side, found in read(stream):
            if side not in writers:
                writers[side] = stack.enter_context(Writer(folder / side))
            if isinstance(found, Gradients):
                writers[side].add_gradients(found)
                continue
            name = tag(found.layer, found.call)
            writers[side].add_statistics(name, found.statistics)
            values = maps(found)
            if values is not None:
                writers[side].add_maps(name, values)


def read(stream: BinaryIO) -> Iterator[tuple[str, Activation | Gradients]]:
    """The sides and answers on a stream."""
    while side := stream.read(1):
        length = int.from_bytes(stream.read(8), "little")
        yield side.decode(), decode(stream.read(length), Activation, Gradients)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin.buffer)
