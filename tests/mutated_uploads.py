"""Thousands of damaged pictures, the same ones every time, each decoded as an upload is; reports what went wrong.

    python tests/mutated_uploads.py FIRST COUNT FOLDER

Starting Python for each would take minutes, so this process loads what a decoding child loads and forks: every file is
decoded under the child's own limits, in a process of its own whose end, CPU time and memory are seen.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEED = 20_240
SENTENCE = re.compile(r"[A-Z][^\n]{15,300}\.")
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0")


def bases() -> list[bytes]:
    """The files that are damaged: everything that is accepted and not large."""
    from accepted_uploads import ACCEPTED

    return [case.data for case in ACCEPTED if len(case.data) < 6000]


def mutant(number: int, files: list[bytes]) -> bytes:
    """The file of this number: one to four changes at random places of one of the bases."""
    choose = random.Random(SEED + number)
    data = bytearray(choose.choice(files))
    for _ in range(choose.randint(1, 4)):
        # Half of the time near the start, where a file says what it is.
        at = choose.randrange(min(len(data), 128) if choose.random() < 0.5 else len(data))
        length = choose.randint(1, 64)
        match choose.randrange(7):
            case 0:
                data[at] ^= 1 << choose.randrange(8)
            case 1:
                extreme = choose.choice(EXTREMES)
                data[at : at + len(extreme)] = extreme
            case 2:
                data[at : at + length] = choose.randbytes(length)
            case 3:
                del data[at : at + length]
            case 4:
                del data[max(at, 16) :]
            case 5:
                data[at:at] = data[at : at + length] * choose.choice((1, 2, 50))
            case 6:
                other = choose.choice(files)
                start = choose.randrange(len(other))
                data[at:at] = other[start : start + length * 8]
        data = data or bytearray(b"\0")
    # Else a checksum would keep most of them from the decoder.
    return _with_right_checksums(data) if data.startswith(b"\x89PNG") and choose.random() < 0.7 else bytes(data)


def _with_right_checksums(png: bytearray) -> bytes:
    position = 8
    while len(png) - position >= 12:
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        if end + 4 > len(png):
            break
        png[end : end + 4] = zlib.crc32(png[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(png)


def run(first: int, count: int, folder: Path) -> dict[str, Any]:
    """Decode the files of these numbers.

    Returns:
        How many were "accepted" and "refused", "sentences" and how often each was said, the largest "cpu_seconds" and
        "memory_bytes" of one child, and "problems", each with its file's number.
    """
    from hookscope.dashboard.inputs.child import decoding  # not before: what the child inherits counts as its memory

    seen: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    problems: list[str] = []
    cpu, memory = 0.0, 0
    source = folder / "upload"
    files = [path.read_bytes() for path in sorted((folder / "bases").iterdir())]
    for number in range(first, first + count):
        source.write_bytes(mutant(number, files))
        status, taken, output = _child(decoding.main, [str(source), str(source), "10"], folder / "answer")
        cpu, memory = max(cpu, taken.ru_utime + taken.ru_stime), max(memory, taken.ru_maxrss * 1024)
        try:
            answer = json.loads(output)
        except ValueError:
            problems.append(f"{number}: ended with {status} and said {output[:80]!r}")
            continue
        refused = answer.get("refused")
        seen["accepted" if refused is None else "refused"] += 1
        if refused is None:
            problems += [f"{number}: {what}" for what in _wrong(source.with_suffix(".rgb"), answer)]
        else:
            sentences[re.sub(r"\d[\d,.]*", "N", refused)] += 1
            if not SENTENCE.fullmatch(refused):
                problems.append(f"{number}: {refused!r} is no sentence")
    return {**seen, "sentences": sentences, "cpu_seconds": cpu, "memory_bytes": memory, "problems": problems}


def _child(main: Any, arguments: list[str], answer: Path) -> tuple[int, Any, bytes]:
    answer.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.dup2(os.open(answer, os.O_WRONLY), 1)
        sys.stdout = os.fdopen(1, "w")
        code = main(arguments)
        sys.stdout.flush()
        os._exit(code)
    _, status, taken = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), taken, answer.read_bytes()


def _wrong(path: Path, answer: dict[str, Any]) -> list[str]:
    """What is wrong with the picture that was made: its size is all that can be known of a damaged file's."""
    data = path.read_bytes()
    size = tuple(int.from_bytes(data[start : start + 4], "little") for start in (0, 4))
    return [] if size == (answer["width"], answer["height"]) else [f"a picture of {size} and the answer {answer}"]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "src"))
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
