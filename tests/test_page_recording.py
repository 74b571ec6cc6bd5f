"""Recordings: what counts as the same page, what does not, and that nothing is lost in a file."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_recording import Recorder, arrays_of, differences, read, same_text, settle, write
from PIL import Image


def fetch(address: str) -> tuple[str, str, bytes]:
    raise AssertionError(address)


def recorded(value: Any) -> tuple[Any, dict[str, np.ndarray]]:
    recorder = Recorder(fetch, files=True)
    return json.loads(json.dumps(recorder.plain(value))), recorder.arrays


def apart(was: Any, now: Any) -> list[str]:
    """The differences of two values that were sent."""
    (one, were), (other, are) = recorded(was), recorded(now)
    return list(differences(one, other, were, are))


def packed(values: Any, dtype: str = "f4") -> dict[str, Any]:
    """An array as Plotly sends it."""
    array = np.asarray(values, dtype)
    return {
        "bdata": base64.b64encode(array.tobytes()).decode(),
        "dtype": dtype,
        "shape": ", ".join(map(str, array.shape)),
    }


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("mean 0.951", "mean 0.952"),  # one in the last digit that is written
        ("0.12345678", "0.12345999"),
        ("12 of 40 channels", "12 of 40 channels"),
        ("written 2026-11-28 10:00", "written 2027-01-02 23:59"),
        ({"z": 1.0}, {"z": 1.00009}),
        (packed([[1.0, 2.0]]), packed([[1.0, 2.0001]])),
        (packed([np.nan, 1.0]), packed([np.nan, 1.0])),
        (packed([5, 9], "i4"), packed([5, 10], "i4")),  # a value on the edge of a histogram's bin
    ],
)
def test_what_a_processor_may_change_is_the_same(was: Any, now: Any) -> None:
    assert not apart(was, now) and not apart(now, was)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("mean 0.951", "mean 0.953"),
        ("mean 0.951", "median 0.951"),
        ("12 of 40 channels", "13 of 40 channels"),
        ("channel 3", "channel  3"),
        ({"z": 1.0}, {"z": 1.001}),
        ({"z": 1}, {"z": True}),
        ({"z": None}, {"z": 0}),
        ({"z": 1}, {"y": 1}),
        ({"z": 1}, {"z": 1, "y": 2}),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        (packed([[1.0, 2.0]]), packed([[1.0, 2.01]])),
        (packed([[1.0, 2.0]]), packed([1.0, 2.0])),
        (packed([1.0]), packed([1.0], "f8")),
        (packed([np.nan, 1.0]), packed([1.0, np.nan])),
        (packed([5, 9], "i4"), packed([5, 11], "i4")),
    ],
)
def test_what_a_person_could_notice_is_a_difference(was: Any, now: Any) -> None:
    assert apart(was, now) and apart(now, was)


def test_a_small_number_is_not_lost_beside_the_tolerance() -> None:
    assert not same_text("3.1e-05", "3.4e-05")


def picture(values: np.ndarray, palette: list[int] | None = None) -> bytes:
    image = Image.fromarray(values.astype(np.uint8), "P" if palette else None)
    if palette:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("step", "same"), [(0, True), (1, True), (2, False)])
def test_pictures_are_compared_to_one_level_of_their_palette(step: int, same: bool) -> None:
    palette = [level for n in range(256) for level in (n, 255 - n, 0)]
    values = np.arange(64).reshape(8, 8)
    found = []
    for data in (picture(values, palette), picture(values + step, palette)):
        recorder = Recorder(lambda _, data=data: ("image/png", "", data))  # type: ignore[misc]
        found.append((recorder.plain("/picture/" + "0" * 40), recorder.arrays))
    (one, were), (other, are) = found
    assert (not list(differences(one, other, were, are))) is same


def test_a_recording_comes_back_from_its_folder(tmp_path: Path) -> None:
    first, arrays = recorded({"words": ["a", {"b": "c" * 200}], "numbers": list(range(90)), "z": packed([[1.5, 2.5]])})
    second, more = recorded({"again": packed([[1.5, 2.5]]), "other": packed([3.5])})
    for name, each in (("first", first), ("second", second)):
        write(tmp_path, name, each)
    settle(tmp_path, ["first", "second"], {**arrays, **more})
    assert read(tmp_path, "first") == first and read(tmp_path, "second") == second
    kept = arrays_of(tmp_path)
    assert kept.keys() == {*arrays, *more} and len(np.load(tmp_path / "second.npz").files) == 1
    assert not list(differences(second, second, kept, more))
    # the first one no longer has the array that both had
    write(tmp_path, "first", {})
    settle(tmp_path, ["first", "second"], kept)
    assert arrays_of(tmp_path).keys() == more.keys() and not (tmp_path / "first.npz").exists()


def test_a_saved_file_is_read_to_its_last_line() -> None:
    files = {
        "csv": ("text/csv", "x.csv", b"a,b\n1,2.5\n"),
        "npz": ("application/zip", "x.npz", npz(values=np.arange(3.0))),
    }
    for address, was, now in (("csv", b"2.5", b"2.8"), ("npz", None, None)):
        recorder = Recorder(lambda _, address=address: files[address], files=True)  # type: ignore[misc]
        one = recorder.plain("/picture/" + "0" * 40)
        kind, name, data = files[address]
        changed = data.replace(was, now) if was and now else npz(values=np.array([0.0, 1.0, 7.0]))
        other_recorder = Recorder(lambda _, kind=kind, name=name, changed=changed: (kind, name, changed), files=True)  # type: ignore[misc]
        other = other_recorder.plain("/picture/" + "0" * 40)
        assert len(list(differences(one, other, recorder.arrays, other_recorder.arrays))) == 1


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_an_exported_page_is_read_with_its_pictures_and_figures() -> None:
    inside = base64.b64encode(picture(np.zeros((2, 2)))).decode()
    figure = json.dumps([{"z": packed([1.0])}, {"images": [{"source": f"data:image/png;base64,{inside}"}]}])[1:-1]
    text = (
        f"<style>p {{}}</style><p class='a'>Words<img src='data:image/png;base64,{inside}'>"
        f"<script>var plotly = 1;</script><script>Plotly.newPlot('figure-0', {figure});</script>"
    )
    recorder = Recorder(fetch, files=True)
    found = recorder.held("text/html", text.encode())
    assert [each if isinstance(each, str) else each[0] for each in found][:4] == ["style", "p", "Words", "img"]
    assert found[3][1]["src"]["format"] == "PNG"
    ((_, drawn),) = [each for each in found if each[0] == "figure"]
    assert drawn["arguments"][0]["z"]["dtype"] == "float32"
    assert drawn["arguments"][1]["images"][0]["source"]["format"] == "PNG"
