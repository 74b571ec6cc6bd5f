"""Arrays of numbers as uploads: what the network gets of them, and every one that is no picture told why."""

from __future__ import annotations

import io
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.store import Input, InputRefused, InputStore

RANDOM = np.random.default_rng(3)
Upload = Callable[[bytes], Input]


@pytest.fixture(scope="module")
def store() -> Iterator[InputStore]:
    with tempfile.TemporaryDirectory() as folder:
        made = InputStore(Path(folder), 10**9)
        yield made
        made.close()


def given(store: InputStore, data: bytes) -> tuple[Input, np.ndarray, rows.Exact]:
    """What a store makes of an upload: the input, what is shown, what the network gets."""
    found = store.receive(io.BytesIO(data), len(data), "a.npy")
    kept = store.pixels(found.digest)
    exact = rows.exact(kept)
    assert exact is not None
    return found, np.asarray(rows.picture(kept)), exact


def npy(values: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **how)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    """A .npy file whose header is whatever a stranger wrote."""
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text.encode("latin-1") + data


BYTES = RANDOM.integers(0, 256, (24, 40, 5), np.uint8)


@pytest.mark.parametrize(
    ("values", "scaled"),
    [
        (BYTES, BYTES / 255),
        (np.moveaxis(BYTES, 2, 0), BYTES / 255),
        (np.asfortranarray(np.moveaxis(BYTES, 2, 0)), BYTES / 255),
        (BYTES[None], BYTES / 255),
        (BYTES[:, :, 0], BYTES[:, :, :1] / 255),
        (BYTES[:, :, 0] > 100, (BYTES[:, :, :1] > 100).astype(float)),
        (BYTES.astype(">u2") * 200, BYTES.astype(float) * 200 / 65535),
        (BYTES.astype(np.int16) - 128, (BYTES - 128.0 + 32768) / 65535),
        ((BYTES / 50 - 2).astype(np.float16), (BYTES / 50 - 2).astype(np.float16)),
        (BYTES / 50 - 2, BYTES / 50 - 2),
    ],
)
def test_the_network_gets_the_numbers(values: np.ndarray, scaled: np.ndarray, store: InputStore) -> None:
    found, shown, exact = given(store, npy(values))
    assert (found.height, found.width) == (24, 40) and shown.shape == (24, 40, 3)
    got = (exact.values.astype(np.float64) - exact.low) / (exact.high - exact.low)
    np.testing.assert_allclose(got, scaled, atol=1e-6)
    assert values.dtype.newbyteorder("=").name in found.notes[0]
    three = [0, 0, 0] if scaled.shape[2] == 1 else [0, 1, 2]
    stretched = scaled[:, :, three].astype(float)
    if values.dtype.kind in "if":
        low, high = scaled.astype(np.float32).min(), scaled.astype(np.float32).max()
        stretched = (stretched - low) / (high - low)
    np.testing.assert_allclose(shown, stretched * 255, atol=0.6)


def test_the_only_array_of_an_archive(store: InputStore) -> None:
    _, _, exact = given(store, npz(picture=BYTES))
    assert np.array_equal(exact.values, BYTES)


def test_the_grey_pages_of_a_tiff_are_channels(store: InputStore) -> None:
    pages = [Image.fromarray(BYTES[:, :, index]) for index in range(5)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    found, shown, exact = given(store, file.getvalue())
    assert np.array_equal(exact.values, BYTES) and np.array_equal(shown, BYTES[:, :, :3])
    assert found.notes[0].startswith("5 pages, ") and found.channels == 5


def test_the_coloured_pages_of_a_tiff_are_frames(store: InputStore) -> None:
    pages = [Image.fromarray(BYTES[:, :, index : index + 3]) for index in range(2)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    data = file.getvalue()
    found = store.receive(io.BytesIO(data), len(data), "a.tif")
    exact = rows.exact(store.pixels(found.digest))
    assert found.notes == ("first of 2 frames",) and exact is not None and exact.frames == 2
    assert np.array_equal(exact.values[:, :, 3:], BYTES[:, :, 1:4])


def test_a_preview_that_is_lost_is_made_again_and_nothing_else_changes(store: InputStore, tmp_path: Path) -> None:
    made = InputStore(tmp_path, 10**9)
    found, _, exact = given(made, npy(BYTES))
    (tmp_path / "pixels" / f"{found.digest}.jpg").unlink()
    assert made.preview(found.key)
    again = rows.exact(made.pixels(found.digest))
    assert again is not None and np.array_equal(again.values, exact.values)
    made.close()


def test_whole_numbers_of_a_wide_type_say_how_little_of_it_they_use(store: InputStore) -> None:
    """As numpy makes of a Python list: by the type's range, 0 to 254 of int64 would all be the same grey."""
    found, shown, exact = given(store, npy(BYTES.astype(np.int64)))
    assert found.notes[0].endswith("0 to 255 of -9.22337e+18 to 9.22337e+18 used") and found.spread
    assert np.array_equal(exact.values, BYTES) and np.array_equal(shown, BYTES[:, :, :3])
    signed, _, _ = given(store, npy((BYTES.astype(np.int32) * 200 - 25000).astype(np.int16)))
    assert signed.notes[0].endswith("-25000 to 26000 of -32768 to 32767 used") and not signed.spread


def test_a_small_part_of_the_range_is_told(store: InputStore) -> None:
    data = io.BytesIO()
    Image.fromarray(np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))).save(data, "PNG")
    found, _, exact = given(store, data.getvalue())
    assert found.notes == ("16-bit grey, 0 to 4095 of 65535 used",) and found.spread
    assert len(np.unique(exact.values)) == 64
    whole, _, _ = given(store, npy(BYTES))
    assert not whole.spread


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(Path(tempfile.gettempdir()) / "hookscope-evil"),)


def bomb() -> bytes:
    """An archive of 1 MB that unpacks to a gigabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        member.write(header("{'descr': '|u1', 'fortran_order': False, 'shape': (32768, 32768), }\n"))
        for _ in range(1024):
            member.write(bytes(2**20))
    return file.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    """An archive of one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def damaged(data: bytes) -> bytes:
    """With other bytes in its middle."""
    middle = len(data) // 2
    return data[: middle - 200] + bytes(400) + data[middle + 200 :]


PLAIN = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s), }\n"
REFUSED = {
    "objects": (npy(np.array([[Evil()] * 20] * 20), allow_pickle=True), "holds object values, which are not read"),
    "structured": (npy(np.zeros((20, 20), [("a", "u1")])), "which are not read"),
    "complex": (npy(np.zeros((20, 20), complex)), "holds complex128 values"),
    "texts": (npy(np.full((20, 20), "a")), "which are not read"),
    "dates": (npy(np.zeros((20, 20), "M8[s]")), "which are not read"),
    "long doubles": (npy(np.zeros((20, 20), np.longdouble)), "which are not read"),
    "infinite": (npy(np.full((20, 20), np.inf)), "400 of this array's values are NaN or infinite"),
    "beyond float32": (npy(np.full((20, 20), 1e300)), "values above 3e38, which float32 does not hold"),
    "17 channels": (npy(np.zeros((17, 40, 40), np.uint8)), "at most 16 channels, first or last"),
    "a batch": (npy(np.zeros((2, 3, 40, 40), np.uint8)), r"is of shape \(2, 3, 40, 40\)"),
    "half a row": (header(PLAIN % "2.5, 20", bytes(400)), "header cannot be read"),
    "a text as its shape": (header(PLAIN.replace("(%s)", "'22'"), bytes(400)), "header cannot be read"),
    "rows within values": (header(PLAIN.replace("'|u1'", "('<f4', (20,))") % "20,", bytes(1600)), "which are not read"),
    "a header of 2 GB": (b"\x93NUMPY\2\0" + struct.pack("<I", 2**31) + b"{", "header cannot be read"),
    "no array": (zipped("a.npy", b"hello"), "version|header"),
    "an empty array's file": (zipped("a.npy", b""), "version|header"),
    "an archive in an archive": (zipped("a.npz", npz(a=BYTES)), "an archive; unpack it"),
    "a cut archive": (npz(a=BYTES)[:-40], "archive is damaged, cut or locked"),
    "wrong bytes in an archive": (damaged(npz(a=BYTES)), "archive is damaged, cut or locked"),
    "NaN": (npy(np.full((20, 20), np.nan)), "400 of this array's values are NaN or infinite"),
    "one number": (npy(np.float32(3)), r"is of shape \(\)"),
    "a row": (npy(np.zeros(20)), r"is of shape \(20,\)"),
    "five axes": (npy(np.zeros((2, 2, 20, 20, 3))), "of shape"),
    "nothing": (npy(np.zeros((0, 20, 3))), "of shape|no pixels"),
    "both too long": (npy(np.zeros((4, 2000, 3))), "one side may be at most 100 times"),
    "a volume": (npy(np.zeros((20, 20, 20), np.uint8)), "at most 16 channels, first or last"),
    "a billion": (header(PLAIN % "32768, 32768"), "1,073,741,824 values, and at most 50 million"),
    "more than fits a number": (header(PLAIN % "2**70, 3"), "header cannot be read"),
    "huge numbers": (header(PLAIN % f"{10**30}, 3"), "values, and at most 50 million"),
    "negative": (header(PLAIN % "-20, 20", bytes(400)), "header cannot be read"),
    "cut": (npy(BYTES)[:-10], "cut short"),
    "code": (header("__import__('os').mkdir('x')"), "header cannot be read"),
    "deep": (header("(" * 9000), "header cannot be read"),
    "a version to come": (header(PLAIN % "20, 20", bytes(400), version=9), "of a version that is not read"),
    "only a head": (b"\x93NUMPY", "version|header"),
    "two arrays": (npz(a=BYTES, b=BYTES), r"holds 2 arrays \(a, b\)"),
    "many arrays": (npz(**{f"x<{n}>": BYTES[:2, :2] for n in range(7)}), r"7 arrays \(x\?0\?, .*, x\?4\?, \.\.\.\)"),
    "a bomb": (bomb(), "values, and at most 50 million"),
    "a long strip": (npy(np.zeros((20, 4000), np.uint8)), "one side may be at most 100 times"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_told_why(name: str, store: InputStore) -> None:
    data, sentence = REFUSED[name]
    with pytest.raises(InputRefused, match=sentence):
        store.receive(io.BytesIO(data), len(data), "a.npy")
    assert not (Path(tempfile.gettempdir()) / "hookscope-evil").exists()
