"""Has the decoding child take a zip apart, and says of each of its files what became of it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import subprocess
import time
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from hookscope.dashboard.inputs.decoder import Decoder, InputRefused

UNPACK = "--unpack"
_NO_ROOM = "The server's disk has no room for this set; tell whoever runs the server."
_ENDED = "Reading this zip did not come to an end, so it is probably damaged; pack the pictures again."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unpacked:
    """One file of a zip.

    Attributes:
        within: its path there, as text. file: the number that it was written under, -1 if it was not. size: in bytes.
        refused: why it is not used; "" if it is.
    """

    within: str
    file: int = -1
    size: int = 0
    refused: str = ""


def unpack(
    decoder: Decoder,
    archive: Path,
    folder: Path,
    *,
    first: int,
    most: int,
    file_bytes: int,
    all_bytes: int,
    left_out: Collection[str],
) -> Generator[Unpacked]:
    """Write the files of a zip into a folder, by number; gives one after the other what came of it.

    Arguments:
        first: the first number. most: how many files are used. file_bytes: the largest. all_bytes: of all of them.
        left_out: endings of names of files that are left out without a word.

    Raises:
        InputRefused: in a sentence, whatever happened; what was written by then stays.
    """
    limits = {"first": first, "most": most, "file_bytes": file_bytes, "bytes": all_bytes, "left_out": sorted(left_out)}
    child = decoder.start(UNPACK, str(archive), str(folder), json.dumps(limits))
    try:
        for line in _lines(child, decoder.seconds):
            yield _read(line)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1.0)
        if child.returncode != 0:
            _log.warning("The process that unpacks ended with %s", child.returncode)
            raise InputRefused(_ENDED)
    finally:
        decoder.forget(child)


def _lines(child: subprocess.Popen[bytes], seconds: float) -> Iterator[bytes]:
    """What a child prints, until it ends; each line within so many seconds.

    Raises:
        InputRefused: one takes longer.
    """
    assert child.stdout is not None
    file, rest = child.stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        deadline = time.monotonic() + seconds
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(file, 2**16)
            if not part:
                return
            *lines, rest = (rest + part).split(b"\n")
            if lines:
                yield from lines
                deadline = time.monotonic() + seconds
    raise InputRefused(_ENDED)


def _read(line: bytes) -> Unpacked:
    try:
        told = json.loads(line)
        if "within" not in told:
            if "details" in told:
                _log.info("A zip was refused: %s", told["details"])
            raise InputRefused(str(told["refused"]) or _NO_ROOM, 422 if told["refused"] else 507)
        return Unpacked(
            str(told["within"]), int(told.get("file", -1)), int(told.get("size", 0)), str(told.get("refused", ""))
        )
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("The process that unpacks answered nonsense: %s", error)
        raise InputRefused(_ENDED) from error
