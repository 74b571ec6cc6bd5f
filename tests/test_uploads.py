"""Every upload of the tables becomes the picture that it should, or is refused for the reason that it should."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutated_uploads
import numpy as np
import pytest
from made_pictures import bmp, encoded, orientation_exif
from PIL import Image
from tempo import limit
from upload_cases import ACCEPTED, PAYLOAD, REFUSED, Accepted, Refused

from hookscope.dashboard.inputs import decoder as decoder_module
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.child.decoding import MAX_PIXELS
from hookscope.dashboard.inputs.store import Input, InputRefused, InputStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what a process took")

CPU_SECONDS = 12
MEMORY_BYTES = 700 * 10**6


class Measured:
    """A store whose decoding children say, when they end, what they took."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.log = folder / "taken"
        measure = f"""
import atexit, json, re, time
@atexit.register
def write():
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
    open({str(self.log)!r}, "a").write(json.dumps([time.process_time(), peak]) + "\\n")
"""
        patch.setattr(decoder_module, "_START", measure + decoder_module._START)
        self.store = InputStore(folder / "inputs", 2**30)

    def receive(self, data: bytes, name: str) -> Input:
        return self.store.receive(io.BytesIO(data), len(data), name)

    def taken(self) -> tuple[float, int]:
        """CPU seconds and bytes: the most of any child so far."""
        seconds, peaks = zip(*map(json.loads, self.log.read_text().splitlines()), strict=True)
        return max(seconds), max(peaks)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    with pytest.MonkeyPatch.context() as patch:
        made = Measured(tmp_path_factory.mktemp("uploads"), patch)
        yield made
        made.store.close()


def test_there_are_as_many_as_were_promised() -> None:
    names = [case.name for case in (*ACCEPTED, *REFUSED)]
    assert len(names) == len(set(names)) >= 120
    assert f"{len(names)} files, good, damaged and hostile" in " ".join(
        (mutated_uploads.ROOT / "README.md").read_text().split()
    )


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_it_becomes_the_right_picture(measured: Measured, case: Accepted) -> None:
    found = measured.receive(case.data, case.name)
    kept, preview = measured.store.pixels(found.digest), measured.store.preview(found.key)
    with rows.picture(kept) as image:
        shown = np.asarray(image).astype(int)
    expected = case.picture if case.picture.ndim == 3 else np.repeat(case.picture[..., None], 3, -1)
    assert shown.shape == expected.shape == (found.height, found.width, 3)
    assert np.abs(shown - expected).max() <= case.within
    assert case.note in " ".join(found.notes)
    # What is served has nothing in it but pixels: no text, EXIF, profile, nor what stood behind the picture.
    assert PAYLOAD not in kept and PAYLOAD not in preview
    exact = rows.exact(kept)  # 16 bits per value, or all frames, where the file has them
    assert (exact is not None) == any(text in case.note for text in ("of 65535 used", "of 4095 used", "frames"))
    more = 0 if exact is None else 28 + exact.values.nbytes
    assert len(kept) == 8 + found.width * found.height * 3 + more - (1 if exact is not None else 0)
    assert set(segments(preview)) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}  # JFIF, tables, the frame, its one scan


def test_the_payload_would_be_found_if_it_were_there() -> None:
    """The control of the test above: the files as they came do hold it, and their segments say so."""
    assert sum(PAYLOAD in case.data for case in ACCEPTED) >= 10
    with_exif = next(case.data for case in ACCEPTED if case.name == "JPEG with EXIF text")
    assert 0xE1 in segments(with_exif)
    assert b"tEXt" in chunks(next(case.data for case in ACCEPTED if case.name == "PNG with text"))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_it_is_refused_in_a_sentence(measured: Measured, case: Refused) -> None:
    for attempt in range(3):
        began = time.monotonic()
        with pytest.raises(InputRefused) as caught:
            measured.receive(case.data, case.name)
        seconds = time.monotonic() - began
        if seconds < limit(1) or not case.bomb:
            break
        print(f"attempt {attempt} took {seconds:.2f} s: is the machine busy?")
    assert mutated_uploads.SENTENCE.fullmatch(str(caught.value))
    assert case.reason in str(caught.value)
    assert seconds < limit(1) or not case.bomb


def largest() -> Iterator[tuple[str, bytes]]:
    """The most that is accepted, in the two formats that take most memory, and turned, which takes another copy."""
    width, height = 8000, MAX_PIXELS // 8000
    turned = orientation_exif(6)
    image = Image.new("RGBA", (width, height), (10, 20, 30, 100))
    yield "WebP", encoded(image, "WEBP", lossless=True, method=0, quality=0, exif=turned)
    inks = Image.new("CMYK", (width, height), (10, 20, 30, 40))
    yield "JPEG", encoded(inks, "JPEG", progressive=True, exif=turned)


def test_none_takes_more_than_it_may(measured: Measured) -> None:
    for name, data in largest():
        found = measured.receive(data, name)
        assert found.width * found.height == MAX_PIXELS
    seconds, peak = measured.taken()
    print(f"the largest picture took {seconds:.1f} s of CPU time and {peak / 1e6:.0f} MB")
    assert seconds < CPU_SECONDS
    assert peak < MEMORY_BYTES


def check_mutants(folder: Path, first: int, count: int) -> dict[str, Any]:
    (folder / "bases").mkdir()
    for number, data in enumerate(mutated_uploads.bases()):
        (folder / "bases" / f"{number:03}").write_bytes(data)
    command = [sys.executable, "tests/mutated_uploads.py", str(first), str(count), str(folder)]
    done = subprocess.run(command, cwd=mutated_uploads.ROOT, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(report, indent=1))
    assert report["problems"] == []
    assert report["accepted"] + report["refused"] == count
    assert report["accepted"] > count / 20 and report["refused"] > count / 4  # neither is a test of nothing
    assert report["cpu_seconds"] < CPU_SECONDS
    assert report["memory_bytes"] < MEMORY_BYTES
    return report


def test_damaged_files_crash_nothing(tmp_path: Path) -> None:
    check_mutants(tmp_path, 0, 200)


@pytest.mark.slow
def test_three_thousand_damaged_files_crash_nothing(tmp_path: Path) -> None:
    """Takes a minute or two."""
    check_mutants(tmp_path, 0, 3000)


@pytest.mark.slow
def test_a_picture_that_keeps_its_decoder_busy_is_stopped(tmp_path: Path) -> None:
    """24 million runs of one pixel, which Pillow reads in Python: 7 s or more, so the limit of 10 is lowered to 2."""
    data = bmp(7000, 3400, 8, b"\1\7" * (7000 * 3400) + b"\0\1", 1, bytes(1024))
    store = InputStore(tmp_path, 2**30, decode_timeout_seconds=2)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(InputRefused, match="takes longer than 2 s"):
        store.receive(io.BytesIO(data), len(data), "long.bmp")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    store.close()
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 2 + CPU_SECONDS - 10


def test_the_mutants_are_the_same_every_time_and_differ() -> None:
    files = mutated_uploads.bases()
    once = [mutated_uploads.mutant(number, files) for number in range(50)]
    assert once == [mutated_uploads.mutant(number, files) for number in range(50)]
    assert len(set(once)) == 50 and not set(once) & set(files)


def chunks(png: bytes) -> list[bytes]:
    found, position = [], 8
    while position < len(png):
        found.append(png[position + 4 : position + 8])
        position += 12 + int.from_bytes(png[position : position + 4], "big")
    return found


def segments(jpeg: bytes) -> list[int]:
    """The markers of a JPEG's segments, up to its first scan."""
    found, position = [], 2
    while jpeg[position] == 0xFF and (not found or found[-1] != 0xDA):
        found.append(jpeg[position + 1])
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return found
