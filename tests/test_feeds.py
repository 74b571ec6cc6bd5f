"""Runs as the server reads them: what is new, arrays that grow, files that are kept, checkpoints, and the settings."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_feeds import begin, bins, groups, line, write_bins

from hookscope.dashboard.drawing.run_figures import Line, axis_for, draw_lines, draw_ridges, ridge_bottom, thin
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.feeds import series, store
from hookscope.dashboard.feeds.checkpoints import Checkpoint, Settled, checkpoints_in, last_up_to, spread
from hookscope.dashboard.feeds.series import Series
from hookscope.dashboard.feeds.store import Feeds, Followed
from hookscope.dashboard.settings import checkpoints as settings_checkpoints
from hookscope.dashboard.settings.checkpoints import Offered
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.parse import parse
from hookscope.hooks.results.feed_files import read_feed

LAYERS = ("conv", "norm", "fc")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "POLL_SECONDS", -1.0)


def append(folder: Path, text: str) -> None:
    with (folder / "steps.jsonl").open("a") as file:
        file.write(text)


def look(feeds: Feeds, name: str = "run") -> Followed:
    found = feeds.look(name)
    assert isinstance(found, Followed), found
    return found


def test_what_was_written_since_is_read_and_nothing_twice(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    feeds = Feeds({"run": folder})
    first = look(feeds)
    assert (first.looks, first.newest, first.share) == (0, None, 1.0)
    append(folder, line(0, 0, {name: groups(1.0) for name in LAYERS}, loss=2.0))
    second = look(feeds)
    assert second.looks == 1 and second.token != first.token
    assert look(feeds).token == second.token  # nothing is new
    append(folder, line(1, 50, {name: groups(0.5) for name in LAYERS}, losses=[[25, 1.5], [50, 1.0]])[:-30])
    assert look(feeds).looks == 1  # half a line
    append(folder, line(1, 50, {name: groups(0.5) for name in LAYERS}, losses=[[25, 1.5], [50, 1.0]])[-30:])
    third = look(feeds)
    column = third.kept.column("g", "norm")
    assert column.steps.tolist() == [0, 50] and column.layers == LAYERS
    assert column.values.tolist() == [[1.0] * 3, [0.5] * 3]
    losses = third.kept.curve("loss")
    assert (losses.steps.tolist(), losses.values.tolist()) == ([0, 25, 50], [[2.0], [1.5], [1.0]])


def test_the_arrays_are_what_the_library_reads_when_layers_come_and_go(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    feeds = Feeds({"run": folder})
    generator = np.random.default_rng(0)
    for number in range(200):
        names = [name for name in (*LAYERS, "aux", "late") if generator.random() < 0.7 or name == "fc"]
        generator.shuffle(names)
        numbers = {name: groups(round(generator.random(), 4), rms=number) for name in names}
        append(folder, line(number, 10 * number, {name: numbers[name] for name in names}))
        if number % 17 == 0:
            look(feeds).kept.column("g", "norm")  # in between, so that it grows by parts
    oracle = read_feed(folder)
    for group, name in (("g", "norm"), ("a", "rms"), ("u", "ratio")):
        found, wanted = look(feeds).kept.column(group, name), oracle.column(group, name)
        assert set(found.layers) == set(oracle.layers) == {*LAYERS, "aux", "late"}
        order = [found.layers.index(layer) for layer in oracle.layers]
        np.testing.assert_array_equal(found.values[:, order], wanted)
    assert np.isnan(look(feeds).kept.column("g", "norm").values).any()


def test_columns_are_of_the_same_looks_while_another_thread_reads_on(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    append(folder, line(0, 0, {name: groups(1.0) for name in LAYERS}))
    feeds = Feeds({"run": folder})
    kept = look(feeds).kept
    reads_on = threading.Thread(target=lambda: look(feeds))
    inner, asked = kept._series.column, []

    def column(group: str, name: str, looks: Any) -> Any:
        asked.append(name)
        if len(asked) == 2:  # between two columns there is more, and somebody else reads it
            append(folder, line(1, 50, {name: groups(2.0) for name in (*LAYERS, "new")}))
            reads_on.start()
            reads_on.join(0.2)
        return inner(group, name, looks)

    kept._series.column = column  # type: ignore[method-assign]
    found = kept.columns(("g", "norm"), ("g", "nan"), ("g", "inf"))
    reads_on.join()
    assert {each.values.shape for each in found} == {(1, 3)}
    assert {each.values.shape for each in kept.columns(("g", "norm"), ("g", "nan"))} == {(2, 4)}


def test_a_run_that_went_on_from_an_earlier_step_takes_back_what_came_after(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    feeds = Feeds({"run": folder})
    for number, step in enumerate((0, 10, 20)):
        append(folder, line(number, step, {"conv": groups(float(number))}, loss=float(number)))
    before = look(feeds).kept.column("g", "norm")
    append(folder, line(3, 10, {"conv": groups(9.0)}, loss=9.0))
    after = look(feeds).kept.column("g", "norm")
    assert after.steps.tolist() == [0, 10] and after.values[:, 0].tolist() == [0.0, 9.0]
    assert look(feeds).kept.curve("loss").values[:, 0].tolist() == [0.0, 9.0]
    assert before.values[:, 0].tolist() == [0.0, 1.0, 2.0]  # what was handed out stays as it was


def test_layers_beyond_a_limit_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_LAYERS", 2)
    folder = begin(tmp_path / "run", LAYERS)
    append(folder, line(0, 0, {name: groups(1.0) for name in LAYERS}))
    found = look(Feeds({"run": folder}))
    assert found.left_out == 1 and found.kept.column("g", "norm").layers == LAYERS[:2]


def test_no_column_is_larger_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MOST_VALUES", 4)
    folder = begin(tmp_path / "run", LAYERS)
    for number in range(2):
        append(folder, line(number, number, {name: groups(1.0) for name in LAYERS}))
    assert look(Feeds({"run": folder})).kept.column("g", "norm").values.shape == (2, 2)


def test_only_some_columns_are_kept(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    append(folder, line(0, 0, {"conv": groups(1.0)}))
    arrays, looks = Series(), read_feed(folder).looks
    arrays.extend(looks)
    for name in ("mean", "std", "rms", "zeros", "dead", "channels", "nan", "inf", "inputs"):
        arrays.column("a", name, looks)
    assert len(arrays._columns) == series.COLUMNS


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "run.json").unlink(), "There is no feed in run"),
        (lambda folder: (folder / "run.json").write_text("{"), "damaged"),
        (lambda folder: begin(folder, LAYERS, version=99), "newer Hookscope"),
    ],
)
def test_why_there_is_no_run_is_said_without_the_path(tmp_path: Path, damage: object, said: str) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    damage(folder)  # type: ignore[operator]
    found = Feeds({"run": folder}).look("run")
    assert isinstance(found, str) and said in found and str(tmp_path) not in found


def test_a_run_that_goes_and_comes_back_is_found_again(tmp_path: Path) -> None:
    feeds = Feeds({"run": tmp_path / "run"})
    assert "no feed" in str(feeds.look("run"))
    folder = begin(tmp_path / "run", LAYERS)
    append(folder, line(0, 0, {"conv": groups(1.0)}))
    assert look(feeds).looks == 1
    folder.rename(tmp_path / "away")
    assert "gone" in str(feeds.look("run")) and str(tmp_path) not in str(feeds.look("run"))
    (tmp_path / "away").rename(folder)
    assert look(feeds).looks == 1
    assert feeds.look("other") == "This server follows no run of that name. It follows run."


def test_a_long_run_is_read_in_parts_that_say_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "READ_SECONDS", -1.0)
    monkeypatch.setattr(store, "READ_BYTES", 1000)
    folder = begin(tmp_path / "run", LAYERS)
    layers = {name: groups(1.0) for name in LAYERS}
    append(folder, "".join(line(number, number, layers) for number in range(20_000)))
    feeds = Feeds({"run": folder})
    shares = [look(feeds).share]
    while shares[-1] < 1 and len(shares) < 1000:
        shares.append(look(feeds).share)
    assert shares[0] < 1 and shares == sorted(shares) and len(set(shares)) > 3
    assert look(feeds).looks == 20_000


def test_distributions_are_read_once_and_links_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    for number, step in enumerate((0, 10, 20)):
        append(folder, line(number, step, {"conv": groups(1.0)}))
    write_bins(folder, 0, 0, {"conv": bins(b105=3, b120=7)})
    write_bins(folder, 7, 10, {"conv": bins(b105=3)})  # of another look
    outside = tmp_path / "bins-000000000020.safetensors"
    write_bins(tmp_path, 2, 20, {"conv": bins(b1=1)})
    (folder / outside.name).symlink_to(outside)
    kept = look(Feeds({"run": folder})).kept
    found = kept.distribution(0, "a", "conv")
    assert found is not None and (found[105], found[120], found.sum()) == (3, 7, 10)
    assert kept.distribution(10, "a", "conv") is None and kept.distribution(20, "a", "conv") is None
    assert kept.distribution(5, "a", "conv") is None and kept.distribution(0, "g", "conv") is None
    assert kept.kept("bins").tolist() == [0, 10]
    (folder / "bins-000000000000.safetensors").unlink()
    assert kept.distribution(0, "a", "conv") is found  # without the file
    monkeypatch.setattr(store, "LARGEST_FILE", 10)
    write_bins(folder, 0, 0, {"conv": bins(b105=3)})
    assert look(Feeds({"run": folder})).kept.distribution(0, "a", "conv") is None


def test_runs_that_nobody_looks_at_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        append(begin(tmp_path / name, LAYERS), line(0, 0, {"conv": groups(1.0)}))
    feeds = Feeds({name: tmp_path / name for name in ("one", "two")})
    first = look(feeds, "one").kept
    look(feeds, "two")
    assert look(feeds, "one").kept is first
    monkeypatch.setattr(store, "MOST_BYTES", 1)
    look(feeds, "two")
    monkeypatch.setattr(store, "MOST_BYTES", 2**40)
    assert look(feeds, "one").kept is not first


def test_checkpoints_are_plain_files_that_tell_a_step(tmp_path: Path) -> None:
    for name in (
        "net-step1000.pt",
        "epoch=3-step=50.safetensors",
        "best.pt",
        "bins-000000000010.safetensors",
        "a9.txt",
    ):
        (tmp_path / name).touch()
    (tmp_path / "net-step7.pt").symlink_to(tmp_path / "best.pt")
    (tmp_path / "9.pt").mkdir()
    assert checkpoints_in(tmp_path) == (
        Checkpoint(50, "epoch=3-step=50.safetensors"),
        Checkpoint(1000, "net-step1000.pt"),
    )
    assert checkpoints_in(tmp_path / "nowhere") == ()
    many = tuple(Checkpoint(step, "") for step in range(1000))
    assert len(spread(many)) == 24 and {spread(many)[0].step, spread(many)[-1].step} == {0, 999}


def test_checkpoints_become_models_with_all_that_was_said_of_theirs(tmp_path: Path) -> None:
    folder = begin(tmp_path / "monday", LAYERS)
    (folder / "net-1000.pt").touch()
    (folder / "net-2000.pt").touch()
    settings = parse(
        [
            *("--feed", f"monday={folder}", "--feed", f"later={tmp_path / 'later'}"),
            *("--model", "monday=shop.nets:make", "--model", "embedded"),
            *("--mean", "monday=0.5", "--factory-arg", "monday:classes=7", "--input-size", "monday=32"),
        ],
        {"HOME": str(tmp_path)},
    )
    assert settings.names == ("monday", "embedded", "monday@1000", "monday@2000")
    options = {each.name: each for each in options_for(settings)}
    assert options["monday@2000"].weights == str(folder / "net-2000.pt") and not options["monday"].weights
    for each in ("monday", "monday@1000"):
        assert (options[each].spec, options[each].mean, options[each].input_size) == (
            "shop.nets:make",
            (0.5,) * 3,
            (32, 32),
        )
        assert json.loads(options[each].arguments) == {"classes": 7}


def aged(path: Path, seconds: float = 60.0) -> Path:
    """A file that was written so long ago."""
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_a_checkpoint_that_is_being_written_waits(tmp_path: Path) -> None:
    old, new = aged(tmp_path / "net-10.pt"), tmp_path / "net-20.pt"
    settled = Settled()
    new.write_bytes(b"half")
    assert [each.step for each in settled.look(tmp_path)] == [10]
    new.write_bytes(b"half and more")
    assert [each.step for each in settled.look(tmp_path)] == [10]
    assert [each.step for each in settled.look(tmp_path)] == [10, 20]  # as it was at the last look
    new.write_bytes(b"anew")
    os.utime(new, (time.time() + 3600,) * 2)  # by a clock that is ahead
    assert [each.step for each in settled.look(tmp_path)] == [10]
    assert [each.step for each in settled.look(tmp_path)] == [10, 20]
    old.unlink()
    assert [each.step for each in settled.look(tmp_path)] == [20]
    assert last_up_to(settled.look(tmp_path), 19) is None


def test_a_checkpoint_that_comes_later_is_known_and_a_page_has_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHECKPOINT_SECONDS", -1.0)
    folder = begin(tmp_path / "run", LAYERS)
    append(folder, line(0, 0, {"conv": groups(1.0)}))
    feeds = Feeds({"run": folder}, ["run"])
    before = look(feeds)
    assert before.openable and before.checkpoints == () and not look(Feeds({"run": folder})).openable
    aged(folder / "net-10.pt")
    after = look(feeds)
    assert after.checkpoints == (Checkpoint(10, "net-10.pt"),) and after.token != before.token


def test_checkpoints_of_later_are_models_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_checkpoints, "LIST_SECONDS", -1.0)
    monkeypatch.setattr(settings_checkpoints, "AGAIN_SECONDS", -1.0)
    folder = begin(tmp_path / "monday", LAYERS)
    (folder / "net-1000.pt").touch()
    arguments = ["--feed", f"monday={folder}", "--feed", f"other={folder}", "--mean", "monday=0.5"]
    settings = parse([*arguments, "--model", "monday=shop.nets:make", "--model", "embedded"], {"HOME": str(tmp_path)})
    offered = Offered(settings)
    assert tuple(offered.names) == ("monday", "embedded", "monday@1000") and offered.openable == ("monday",)
    assert "monday@2000" not in offered.names and offered.options("monday@2000") is None
    (folder / "net-2000.pt").touch()
    assert tuple(offered.models)[-1] == "monday@2000=shop.nets:make" and len(offered.names) == 4
    assert "monday@2000" in offered.names and offered.names[3:] == ("monday@2000",)
    options = offered.options("monday@2000")
    assert options is not None and (options.weights, options.mean) == (str(folder / "net-2000.pt"), (0.5,) * 3)
    outside = tmp_path / "outside-3000.pt"
    outside.touch()
    (folder / "net-3000.pt").symlink_to(outside)
    names = (
        "monday@3000",
        "monday@02000",
        "monday@-1",
        "monday@",
        "other@1000",
        "embedded@1000",
        "monday@../x",
        "@1000",
    )
    assert not any(name in offered.names or offered.options(name) for name in names)
    for step in range(100):
        (folder / f"many-{step}.pt").touch()
    assert "monday@77" in offered.names and offered.options("monday@77") is not None  # although it is not listed
    assert len(offered.names) <= 3 + 24 and "monday@77" not in tuple(offered.names)


def test_an_engine_opens_what_came_later_and_nothing_else() -> None:
    asked: list[str] = []

    def later(name: str) -> ModelOptions | None:
        asked.append(name)
        return ModelOptions("embedded", name) if name == "monday@1000" else None

    def start(*_: Any) -> Any:
        raise OSError("no worker in this test")

    engine = LocalEngine([ModelOptions("embedded", "monday")], start_worker=start, later=later)
    try:
        assert engine.state("monday").phase == "idle" and not asked
        assert engine.state("monday@7").phase == "failed" and engine.options("monday@7") is None
        assert engine.state("monday@1000").phase == "idle" and engine.options("monday@1000").name == "monday@1000"  # type: ignore[union-attr]
        assert asked.count("monday@1000") == 1
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--feed", "runs/monday"], "as in monday=runs/monday"),
        (["--feed", "a b=runs/monday"], "as in monday=runs/monday"),
        (["--feed", "a=x", "--feed", "a=y"], "Two runs are called a"),
        (["--feed", f"a={__file__}"], "that is a file"),
    ],
)
def test_what_names_no_run_is_refused(capsys: pytest.CaptureFixture[str], given: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        parse(given, {})
    assert said in capsys.readouterr().err


def test_thinning_keeps_the_smallest_and_the_largest_of_each_column() -> None:
    generator = np.random.default_rng(1)
    steps = np.unique(generator.integers(0, 100_000, 3_000))
    values = generator.normal(size=(len(steps), 4))
    values[generator.random(values.shape) < 0.2] = np.nan
    values[40, 1] = np.inf
    found = thin(steps, values, (0, 100_000), most=50)
    columns = np.minimum((steps / 100_000 * 50).astype(int), 49)
    for place, column in enumerate(sorted(set(columns.tolist()))):
        there = np.where(np.isinf(values[columns == column]), np.nan, values[columns == column])
        np.testing.assert_allclose(found.low[place], np.nanmin(there, axis=0))
        np.testing.assert_allclose(found.high[place], np.nanmax(there, axis=0))
        assert found.places[place] == pytest.approx(steps[columns == column].mean() / 100_000)
    assert found.infinite.sum() == 1 and found.infinite[columns[40], 1]


def test_a_line_stands_where_its_numbers_are() -> None:
    axis = axis_for([np.array([0.001, 10.0])], logarithmic=True)
    assert axis is not None
    # from 1e-3 to 1e1 are four decades, with 4 % of that on either side
    shares = axis.shares(np.array([0.001, 0.1, 10.0, 0.0, np.inf, np.nan]))
    np.testing.assert_allclose(shares[:3], [0.16 / 4.32, 0.5, 4.16 / 4.32])
    assert shares[3] == 0 and shares[4] == 1 and np.isnan(shares[5])
    assert [text for _, text in axis.ticks] == ["0.001", "0.01", "0.1", "1", "10"]
    thinned = thin(np.array([0, 50, 100]), np.array([[0.1], [np.nan], [10.0]]), (0, 100))
    text = draw_lines([(thinned, [Line("#123456")])], axis).decode()
    # a quarter of 400 units is a decade; the missing one in the middle parts the line
    assert 'd="M0 200h0M1000 15h0"' in text
    assert axis_for([np.array([np.nan])], logarithmic=True) is None


def test_what_a_logarithmic_axis_cannot_hold_stands_below_it_with_a_word() -> None:
    axis = axis_for([np.array([0.0, 0.01, 1.0])], logarithmic=True)
    assert axis is not None and (axis.least, axis.most) == (0, 1)
    assert [text for _, text in axis.ticks] == ["0", "0.01", "0.1", "1"] and axis.ticks[0][0] == 0
    bottom, smallest, middle, top = axis.shares(np.array([0.0, 0.01, 0.1, 1.0]))
    assert bottom == 0 and smallest > 0.08 and middle - smallest == pytest.approx(top - middle)
    assert [place for place, _ in axis.ticks[1:]] == pytest.approx([smallest, middle, top])
    wide = axis_for([np.array([1e-40, 2.0, 1e21])], logarithmic=True)
    assert wide is not None and wide.ticks[0] == (0.0, "less")
    shares = wide.shares(np.array([1e-40, 2.0, 1e21]))
    # 24 decades, 4 % of that above and below them and 8 % for what is less: a loss before it exploded is to be seen
    assert shares[0] == 0 and shares[1] == pytest.approx((0.12 + (math.log10(2) + 3) / 24) / 1.16)


def test_axes_of_shares_and_of_one_value() -> None:
    shares = axis_for([np.array([0.25])], logarithmic=False, of_shares=True)
    assert shares is not None and shares.shares(np.array([0.25]))[0] == 0.25
    one = axis_for([np.array([3.0, 3.0])], logarithmic=False)
    assert one is not None and one.shares(np.array([3.0]))[0] == pytest.approx(0.5)
    below = axis_for([np.array([-2.0, 0.0])], logarithmic=True)  # nothing is above 0
    assert below is not None and not below.logarithmic


def test_ridges_are_as_high_as_their_shares_and_0_hides_nothing() -> None:
    text = draw_ridges([np.array([0.0, 5.0, 1000.0, 10.0])], zero=2).decode()
    # one row: its foot at 400, 2.2 rows of 400 / 2.2 units each, of which 96 % are used
    heights = [400 - float(part.split()[1]) for part in text.split('d="M0 400.0L')[1].split('"')[0].split("L")[:4]]
    np.testing.assert_allclose(heights, [0, 0.5 * 384, 384, 384], atol=0.1)
    assert ridge_bottom(0, 1) == 1


def test_a_folder_of_names_without_end_is_no_burden(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    layers = {"x" * 100_000: groups("nan", nan=3), "y\n<b>": groups("inf")}
    append(folder, line(0, 0, layers, loss="nan", notes=["z" * 100_000]))
    append(folder, "[" * 100_000 + "\n")
    append(folder, line(1, 10, {}))
    found = look(Feeds({"run": folder}))
    assert found.looks == 2 and found.skipped == 1
    assert max(map(len, found.kept.layers())) == 300 and all(name.isprintable() for name in found.kept.layers())
    assert os.path.getsize(folder / "steps.jsonl") > 200_000
