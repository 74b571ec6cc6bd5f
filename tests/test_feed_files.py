"""Reading a feed: while it is written, after it was torn, and when somebody made it to do harm."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hookscope as hs
from hookscope.hooks.results.feed_files import Feed
from hookscope.hooks.results.feeds import BINS, COLUMNS, Given, Look, RunInfo, bin_edges, shorten
from hookscope.hooks.results.tensor_files import pack, unpack
from hookscope.hooks.training.writer import Folder, as_line

INFO = RunInfo("monday", "Net", 10, 1.0e9, {"torch": "2"}, ("a", "b"), ("a",), "SGD")


def look(step: int, number: int, layers: tuple[str, ...] = ("a", "b"), **more: Any) -> Look:
    numbers = np.arange(len(layers) * len(COLUMNS), dtype=np.float64).reshape(len(layers), -1) + step
    return Look(step, number, 1.0e9 + step, layers, numbers, loss=1.0 / (step + 1), **more)


def begin(folder: Path, **more: Any) -> Folder:
    written = Folder(folder, 10**9)
    written.open(INFO, more.get("resume", False))
    written.append({"begin": 1.0, "step": 0})
    return written


def raw(folder: Path, data: bytes) -> None:
    with open(folder / "steps.jsonl", "ab") as file:
        file.write(data)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    kept = [
        look(0, 0, scalars={"accuracy": 0.5}, rates=(0.1, 0.01), scale=65_536.0),
        look(
            *(10, 1),
            given=Given(((9, 2.0), (10, float("nan"))), {"accuracy": ((9, 0.25),)}),
            skipped=True,
            own={"peak": np.array([1.5, np.nan])},
        ),
    ]
    for each in kept:
        written.append(as_line(each))
    feed = hs.read_feed(tmp_path / "run")
    assert feed.run == INFO
    assert len(feed.looks) == 2 and feed.skipped == 0
    for read, wrote in zip(feed.looks, kept, strict=True):
        assert np.array_equal(read.numbers, wrote.numbers.astype(np.float32))
        assert (read.step, read.number, read.layers) == (wrote.step, wrote.number, wrote.layers)
        assert (read.rates, read.scalars, read.skipped) == (wrote.rates, wrote.scalars, wrote.skipped)
        assert read.loss == pytest.approx(wrote.loss, rel=1e-7)
    assert feed.looks[0].scale == 65_536 and feed.own_names == ("peak",)
    assert np.array_equal(feed.own("peak")[1], [1.5, np.nan], equal_nan=True) and np.isnan(feed.own("peak")[0]).all()
    assert np.array_equal(feed.column("g", "norm")[:, 0], [look.column("g", "norm")[0] for look in kept])
    assert feed.looks[0].layers is feed.looks[1].layers  # names are kept once
    assert feed.losses()[0].tolist() == [0, 9, 10] and feed.scalar_names == ("accuracy",)
    assert [each.tolist() for each in feed.scalars("accuracy")] == [[0, 9], [0.5, 0.25]]
    assert np.array_equal(feed.rates(), [[0.1, 0.01], [np.nan, np.nan]], equal_nan=True)
    assert feed.at(9) is feed.looks[0] and feed.at(10) is feed.looks[1] and Feed(tmp_path / "run").at(3) is None


def test_new_lines_come_when_they_are_whole(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    feed = hs.read_feed(tmp_path / "run")
    assert feed.poll() == () and not feed.looks
    written.append(as_line(look(0, 0)))
    assert [each.step for each in feed.poll()] == [0]
    line = json.dumps(as_line(look(10, 1))).encode() + b"\n"
    for place in range(0, len(line), 37):  # as a reader may find it in the middle of a write
        raw(tmp_path / "run", line[place : place + 37])
        assert [each.step for each in feed.poll()] == ([10] if place + 37 >= len(line) else [])
    assert feed.skipped == 0 and feed.behind == 0


def test_it_can_be_read_in_pieces(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    layers = tuple(f"layer{n}" for n in range(100))
    for step in range(300):
        written.append(as_line(look(step, step, layers)))
    feed, polls = Feed(tmp_path / "run"), 0
    whole = feed.behind
    while feed.behind:
        feed.poll(most_bytes=1_000_000)
        polls += 1
        assert feed.behind >= whole - (polls * (2 << 20))
    assert whole > 3 << 20 and polls >= 3
    assert len(feed.looks) == 300 and feed.column("a", "mean").shape == (300, 100)


def test_torn_lines_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    written.append(as_line(look(0, 0)))
    for torn in (
        b'{"v":1,"step":5,"lay\n',
        b"\x00\xff\xfe\n",
        b"[1,2]\n",
        b"\n",
        b'{"step":-1,"look":0,"layers":{}}\n',
    ):
        raw(tmp_path / "run", torn)
    raw(tmp_path / "run", b'{"v":1,"step":10,"half')
    again = Folder(tmp_path / "run", 10**9)
    written.close()
    # a process was killed in the middle: the next one begins a new line
    assert again.open(INFO, True) == (0, 1, ())
    again.append(as_line(look(20, 1)))
    feed = hs.read_feed(tmp_path / "run")
    assert feed.steps.tolist() == [0, 20] and feed.skipped == 5


def test_an_earlier_step_takes_back_what_stood_behind_it(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    for number, step in enumerate((0, 10, 20, 30)):
        written.append(as_line(look(step, number)))
    feed = hs.read_feed(tmp_path / "run")
    written.append(as_line(look(15, 4)))
    assert [each.step for each in feed.poll()] == [0, 10, 15]  # everything, because what was known has changed
    assert feed.revision == 2


def test_another_run_in_the_folder_is_read_from_its_beginning(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    written.append(as_line(look(0, 0)))
    written.append(as_line(look(10, 1)))
    feed = hs.read_feed(tmp_path / "run")
    written.close()
    (tmp_path / "run" / "steps.jsonl").unlink()
    (tmp_path / "run" / "run.json").unlink()
    begin(tmp_path / "run").append(as_line(look(3, 0, ("c",))))
    feed.poll()
    assert feed.steps.tolist() == [3] and feed.layers == ("c",) and feed.revision


def test_whether_the_run_goes_on(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    feed = hs.read_feed(tmp_path / "run")
    assert feed.state().kind == "running"
    written.close()
    assert feed.state().kind == "ended" and "killed" in feed.state().sentence
    again = Folder(tmp_path / "run", 10**9)
    again.open(INFO, True)
    again.append({"begin": 2.0, "step": 0})
    again.append({"end": 5.0, "step": 1, "stopped_by": "KeyboardInterrupt"})
    feed.poll()
    assert feed.state().sentence == "The run was ended by KeyboardInterrupt."


def test_a_layer_that_some_steps_lack(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    written.append(as_line(look(0, 0, ("a", "b"))))
    written.append(as_line(look(10, 1, ("b", "c"))))
    feed = hs.read_feed(tmp_path / "run")
    assert feed.layers == ("a", "b", "c")
    assert np.isnan(feed.column("a", "mean")).tolist() == [[False, False, True], [True, False, False]]


# --- what cannot be read


def test_no_feed_another_file_and_a_newer_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(hs.HooksError, match=r"There is no feed in monday: no run.json is there"):
        hs.read_feed(tmp_path, called="monday")
    with pytest.raises(hs.HooksError, match="There is no feed"):
        hs.read_feed(tmp_path / "nowhere")
    for content in ("{}", "nonsense", "[" * 100_000, '{"format": "hookscope feed", "version": 1, "every": "x"}'):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(hs.HooksError, match=r"is not what hs\.follow writes, or it is damaged"):
            hs.read_feed(tmp_path)
    (tmp_path / "run.json").write_text('{"format": "hookscope feed", "version": 9}')
    with pytest.raises(hs.HooksError, match=r"newer Hookscope .version 9 of the format, and this one reads 1"):
        hs.read_feed(tmp_path)
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").mkdir()
    with pytest.raises(hs.HooksError):
        hs.read_feed(tmp_path)


def test_a_feed_that_is_gone_says_so(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    feed = hs.read_feed(tmp_path / "run")
    written.close()
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(hs.HooksError, match="is gone"):
        feed.poll()


def test_a_line_of_a_gigabyte_is_not_read_into_memory(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    written.append(as_line(look(0, 0)))
    with open(tmp_path / "run" / "steps.jsonl", "ab") as file:
        file.truncate(file.tell() + 10**9)  # zeros, which take no room
    raw(tmp_path / "run", b"\n")
    written.append(as_line(look(10, 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    feed = hs.read_feed(tmp_path / "run")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    assert feed.steps.tolist() == [0, 10] and feed.skipped == 1


def test_a_long_line_that_is_not_at_its_end_yet(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    raw(tmp_path / "run", b"x" * (20 << 20))
    feed = hs.read_feed(tmp_path / "run")
    raw(tmp_path / "run", b"x" * 1000)
    feed.poll()
    raw(tmp_path / "run", b"x\n")
    written.append(as_line(look(10, 1)))
    feed.poll()
    assert feed.steps.tolist() == [10] and feed.skipped == 1


def test_what_is_nested_too_deeply_or_too_much_is_skipped(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    hostile = [
        b"[" * 200_000 + b"]" * 200_000,
        b'{"layers":' + b'{"a":' * 100_000 + b"}" * 100_001,
        json.dumps({"step": 1, "look": 0, "layers": {str(n): {} for n in range(60_000)}}).encode(),
        b'{"step":1' + b"0" * 5_000 + b',"look":0,"layers":{}}',
        b'{"step":1,"look":0,"layers":{"a":[1]}}',
        b'{"step":1.5,"look":0,"layers":{}}',
        b'{"step":true,"look":0,"layers":{}}',
    ]
    for line in hostile:
        raw(tmp_path / "run", line + b"\n")
    feed = hs.read_feed(tmp_path / "run")
    assert feed.skipped == len(hostile) and not feed.looks


def test_numbers_that_are_none_and_names_of_100_000_characters(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    line = {
        "step": 1,
        "look": 0,
        "loss": "x",
        "lr": [{}, 1e400],
        "scale": [],
        "scalars": {"y" * 10**5: 1, "z": None},
        "losses": [[1, 2, 3], [2, "inf"]],
        "over": [1, ["a", "b"]],
        "notes": [5, "x" * 10**6],
        "alarms": [{"rule": 5, "severity": "fatal", "layer": "l" * 10**5, "layers": {}, "sentence": "s" * 10**5}, 7],
        "layers": {"n" * 100_000: {"a": [1, "nan", "inf", None, {}, 1e300], "g": "nonsense", "m": {"m" * 10**5: 1}}},
    }
    raw(tmp_path / "run", json.dumps(line).replace("Infinity", "1e999").encode() + b"\n")
    feed = hs.read_feed(tmp_path / "run")
    (found,) = feed.looks
    assert feed.skipped == 0 and len(found.layers[0]) == 300 and "…" in found.layers[0]
    assert np.array_equal(found.numbers[0, :6], [1, np.nan, np.inf, np.nan, np.nan, np.inf], equal_nan=True)
    assert np.isnan(found.numbers[0, 9:]).all() and np.isnan(found.loss)
    assert [len(name) for name in found.scalars] == [300, 1] and len(found.notes[1]) == 2_000
    assert found.given.losses == ((2, float("inf")),) and found.over == (("a", "b"),)
    (alarm,) = feed.alarms()
    assert alarm.severity == "warning" and len(alarm.layer) == 300 and len(alarm.sentence) == 2_000
    assert max(map(len, found.own)) == 300


def test_names_that_are_the_same_when_they_are_cut_are_no_two_layers(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    names = ["n" * 500 + middle + "n" * 500 for middle in "xy"]
    raw(tmp_path / "run", json.dumps({"step": 1, "look": 0, "layers": {name: {} for name in names}}).encode() + b"\n")
    assert hs.read_feed(tmp_path / "run").skipped == 1
    assert shorten("a\x1b[31mb\u202ec") == "a [31mb c"


# --- files of arrays


def with_bins(folder: Path) -> tuple[Folder, Look]:
    written = begin(folder)
    kept = look(0, 0)
    written.append(as_line(kept))
    written.keep("bins", kept, {"a/a": np.arange(BINS, dtype=np.uint32)}, {})
    written.keep("maps", kept, {"map/a": np.ones((2, 3, 4), np.float16), "channels/a": np.arange(2)}, {})
    return written, kept


def test_distributions_and_maps_are_read(tmp_path: Path) -> None:
    with_bins(tmp_path / "run")
    feed = hs.read_feed(tmp_path / "run")
    bins, maps = feed.bins(0), feed.maps(0)
    assert bins is not None and bins["a"]["a"].tolist() == list(range(BINS)) and bins["g"] == {}
    assert maps is not None and maps.maps["a"].shape == (2, 3, 4) and maps.answer is None
    assert feed.bins(10) is None
    safetensors = pytest.importorskip("safetensors.numpy")  # and by the package whose format it is
    path = tmp_path / "run" / "bins-000000000000.safetensors"
    assert safetensors.load_file(str(path))["a/a"].tolist() == list(range(BINS))


def test_the_format_is_that_of_the_safetensors_package(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    made = np.random.default_rng(0)
    arrays = {
        dtype: (made.random((3, 4)) * 100).astype(dtype)
        for dtype in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint8", "bool")
    } | {"empty": np.zeros((0, 3), np.float32), "one": np.array([5.0]), "strided": np.arange(12).reshape(3, 4).T}
    theirs = safetensors.load(pack(arrays, {"step": "5"}))
    ours, told = unpack(
        safetensors.save({name: np.ascontiguousarray(each) for name, each in arrays.items()}, {"k": "v"})
    )
    for name, values in arrays.items():
        assert np.array_equal(theirs[name], values) and theirs[name].dtype == values.dtype
        assert np.array_equal(ours[name], values) and ours[name].shape == values.shape
    assert told == {"k": "v"} and unpack(pack({}, {"step": "5"}))[1] == {"step": "5"}


@pytest.mark.parametrize("how", ["link", "huge", "pipe", "folder", "cut", "header", "deep", "outside", "another look"])
def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path, how: str) -> None:
    written, _ = with_bins(tmp_path / "run")
    path = tmp_path / "run" / "bins-000000000000.safetensors"
    data = path.read_bytes()
    path.unlink()
    if how == "link":
        (tmp_path / "secret").write_bytes(data)
        path.symlink_to(tmp_path / "secret")
    elif how == "huge":
        with open(path, "wb") as file:
            file.truncate(10**12)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "cut":
        path.write_bytes(data[:-1])
    elif how == "header":
        path.write_bytes((2**62).to_bytes(8, "little") + data[8:])
    elif how == "deep":
        text = b"[" * 200_000
        path.write_bytes(len(text).to_bytes(8, "little") + text)
    elif how == "outside":
        text = b'{"a/a":{"dtype":"U32","shape":[211],"data_offsets":[4,848]},"__metadata__":{"look":"0"}}'
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(844))
    else:
        written.keep("bins", look(0, 7), {"a/a": np.arange(BINS, dtype=np.uint32)}, {})
    begun = time.monotonic()
    assert hs.read_feed(tmp_path / "run").bins(0) is None
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("name", ["run.json", "steps.jsonl"])
def test_a_feed_that_is_a_link_is_none(tmp_path: Path, name: str) -> None:
    written = begin(tmp_path / "run")
    written.append(as_line(look(0, 0)))
    (tmp_path / "run" / name).rename(tmp_path / name)
    (tmp_path / "run" / name).symlink_to(tmp_path / name)
    with pytest.raises(hs.HooksError):
        hs.read_feed(tmp_path / "run")


def test_5_000_steps_of_300_layers(tmp_path: Path) -> None:
    written = begin(tmp_path / "run")
    layers = tuple(f"layer{n // 10}.{n % 10}.conv" for n in range(300))
    line = json.dumps(as_line(look(0, 0, layers)), separators=(",", ":"))
    with open(tmp_path / "run" / "steps.jsonl", "a") as file:
        for step in range(5_000):
            file.write(line.replace('"step":0,"look":0', f'"step":{step},"look":{step}', 1) + "\n")
    written.close()
    feed = hs.read_feed(tmp_path / "run")
    assert len(feed.looks) == 5_000 and feed.skipped == 0
    feed.column("a", "mean")
    begun = time.perf_counter()
    for step in range(0, 5_000, 500):  # what a move of the slider asks
        assert feed.at(step) is not None
        assert feed.column("g", "norm").shape == (5_000, 300)
    assert (time.perf_counter() - begun) / 10 < 0.05


def test_the_bins_are_seven_in_a_decade() -> None:
    edges = bin_edges()
    assert len(edges) == BINS - 1 == 210 and (np.diff(edges) > 0).all() and np.array_equal(edges, -edges[::-1])
    above = edges[105:]
    assert np.allclose(above, 1e-11 * 10 ** (np.arange(105) / 7), rtol=0.01)
    assert np.array_equal(above, above.astype(np.float32))
