"""The tab "Run": what it draws of a feed, what a move of the slider draws, its routes, and feeds that mean harm."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from checkout import ENVIRON
from inline_app import InlineApp
from inline_engine import INFO, MODEL
from made_feeds import begin, bins, groups, line, write_bins, write_long
from PIL import Image
from tempo import limit

from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.drawing.run_figures import step_ticks
from hookscope.dashboard.exports.run_table import curves_csv
from hookscope.dashboard.feeds import store
from hookscope.dashboard.feeds.checkpoints import Checkpoint
from hookscope.dashboard.feeds.store import Feeds, Followed
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene, loaded
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels import export, order
from hookscope.dashboard.panels.panel import Waiting
from hookscope.dashboard.panels.run import elsewhere, head, marks, moment, tab
from hookscope.dashboard.panels.run.choice import Asked, Run, ask
from hookscope.hooks.results.feed_files import read_feed
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.tensor_files import pack

STEPS = (0, 50, 100, 150)
LAYERS = ("conv", "norm", "fc")
ELSEWHERE = " of run, which is chosen in the tab Run. The weights of step 100 are saved."
ALARM = {
    "rule": "vanishing-gradients",
    "severity": "warning",
    "layer": "norm",
    "sentence": "norm has next to no gradient.",
    "why": "It does not learn.",
    "advice": "Normalise.",
    "layers": ["norm", "conv"],
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "POLL_SECONDS", -1.0)


def write(folder: Path, scale: float = 1.0, **more: Any) -> Path:
    """Four looks at three layers: the gradient of each is a tenth of the one behind it, and falls with the steps."""
    begin(folder, LAYERS, **more)
    update = 1e-3 if more.get("optimizer", "SGD") else None
    with (folder / "steps.jsonl").open("w") as file:
        for number, step in enumerate(STEPS):
            norms = {name: scale * 10.0 ** (place - number) for place, name in enumerate(LAYERS)}
            layers = {name: groups(norm, update=update, nan=5 * (step == 150)) for name, norm in norms.items()}
            alarms = {100: {"alarms": [ALARM]}}.get(step, {})
            file.write(line(number, step, layers, loss=1.0 / (number + 1), **alarms))
            write_bins(folder, number, step, {"conv": bins(b105=3, b120=number + 1)})
    return folder


def draw(feeds: Feeds, view: View, gallery: Gallery | None = None) -> dict[str, Any]:
    """What every region shows, by its id, while no model is there: JSON of its elements."""
    wait = Waiting(view, None, gallery or Gallery("/p/"), "", True, 0, feeds)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for part in tab.PANEL.waiting(wait):
        for component, properties in part.drawn({}):
            found[str(component)] = properties["tree"]
    return found


def text_of(node: Any) -> str:
    """All the text of elements."""
    if isinstance(node, str):
        return node
    if isinstance(node, list) and len(node) == 3 and isinstance(node[1], dict):
        return text_of(node[2])
    return " ".join(map(text_of, node))


def nodes(tree: Any, name: str) -> list[tuple[dict[str, Any], Any]]:
    """The elements of a class, each with its attributes and its children."""
    found: list[tuple[dict[str, Any], Any]] = []
    for each in tree:
        if isinstance(each, list):
            _, attributes, children = each
            if name in attributes.get("className", "").split():
                found.append((attributes, children))
            found += nodes(children, name)
    return found


def run(**changes: Any) -> View:
    return View(tab="run").but(**changes)


def test_without_a_run_two_lines_say_how_to_begin() -> None:
    text = text_of(draw(Feeds({}), run())["run-head"])
    assert "hs.follow(model" in text and "feed.step(loss=loss)" in text and "--feed monday=" in text


def test_a_run_that_is_not_there_is_said_without_its_path(tmp_path: Path) -> None:
    feeds = Feeds({"monday": tmp_path / "secret"})
    found = draw(feeds, run())
    assert "no feed in monday" in text_of(found["run-head"]) and "secret" not in json.dumps(found)
    assert "follows no run of that name" in text_of(draw(feeds, run(run="other"))["run-head"])
    (attributes, _) = next((a, c) for _, a, c in found["run-head"] if "data-run-token" in a)
    assert attributes["data-run-names"] == "a="  # so that it is found when it comes


def test_each_layer_is_a_line_and_the_chosen_step_is_where_it_belongs(tmp_path: Path) -> None:
    gallery = Gallery("/p/")
    found = draw(Feeds({"run": write(tmp_path / "run")}), run(run_step="100", run_layer="fc"), gallery)
    ((attributes, _),) = nodes(found["run-marker"], "line")
    assert attributes["style"]["left"] == "66.667%"
    ((about, _),) = nodes(found["run-at"], "run-at-words")
    assert (about["data-steps"], about["data-place"], about["data-across"]) == ("0+50*4", "2", "0,150")
    assert "loss 0.3333" in text_of(found["run-at"]) and "learning rate 0.1" in text_of(found["run-at"])
    address = next(a["src"] for _, a, _ in (each for _, c in nodes(found["run-lines"], "run-frame") for each in c))
    item = gallery.get(address.removeprefix("/p/"))
    assert item is not None
    picture = item.data.decode()
    paths = [part.split('"')[0] for part in picture.split('<path d="')[2:]]
    # 1e-3 to 1e2 (the NaN of step 150 makes a gap): in the thick line of fc, 100, 10, 1 at 0, 50, 100
    thick = next(part for part in picture.split("<path ") if 'stroke-width="2.8"' in part)
    numbers = [part.split()[1] for part in thick.split('d="')[1].split('"')[0].replace("h0", "").split("L")]
    low, high = -3 - 0.2, 2 + 0.2
    wanted = [round(400 * (1 - (value - low) / (high - low))) for value in (2, 1, 0)]
    assert list(map(int, numbers)) == wanted and len(paths) == 4  # three layers, and what is not finite
    assert paths[-1] == "M1000 0v14"


def test_the_bars_along_the_depth_are_the_numbers_of_that_step(tmp_path: Path) -> None:
    feeds = Feeds({"run": write(tmp_path / "run"), "other": write(tmp_path / "other", scale=0.1)})
    found = draw(feeds, run(run_step="50", run_b="other"))
    bars = nodes(found["run-depth"], "run-bar")
    assert [each["title"] for each, _ in bars] == [
        "conv: 0.1 · B 0.01",
        "norm: 1 · B 0.1",
        "fc: 10 · B 1",
    ]
    heights = [float(part[1]["style"]["height"].rstrip("%")) for _, parts in bars for part in parts[:1]]
    low, high = -4 - 0.24, 2 + 0.24  # both runs stand on one axis
    np.testing.assert_allclose(heights, [100 * (value - low) / (high - low) for value in (-1, 0, 1)], atol=0.06)
    broken = nodes(draw(feeds, run(run_step="150"))["run-depth"], "broken")
    assert [each["title"] for each, _ in broken] == [f"{name}: 5 NaN, 0 infinite" for name in LAYERS]
    assert "B" in text_of(found["run-layer"]) and "2" in text_of(found["run-layer"])


def test_the_other_run_is_looked_at_at_the_step_that_is_shown(tmp_path: Path) -> None:
    """A at 0, 50, 100, 150 and B at 30, 60, 90, ..., 300; the gradient's norm is the step and one."""
    for name, steps in (("a", STEPS), ("b", range(30, 301, 30))):
        folder = begin(tmp_path / name, LAYERS)
        with (folder / "steps.jsonl").open("w") as file:
            for number, step in enumerate(steps):
                file.write(line(number, step, {each: groups(step + 1.0) for each in LAYERS}))
    feeds = Feeds({name: tmp_path / name for name in "ab"})

    def shown(**chosen: Any) -> tuple[str, str, str, str]:
        found = draw(feeds, run(run_b="b", run_layer="fc", **chosen))
        bar = nodes(found["run-depth"], "run-bar")[-1][0]["title"]
        words, title, table = (" ".join(text_of(found[each]).split()) for each in ("run-at", "run-depth", "run-layer"))
        return bar, words, title, table

    # the newest of A, not the newest of both
    bar, words, title, table = shown()
    assert bar == "fc: 151 · B 151" and "B at step" not in words + title + table and "gradient norm 151 151" in table
    for step, own, beside in (("100", 100, 90), ("117", 100, 90), ("50", 50, 30)):
        bar, words, title, table = shown(run_step=step)
        assert bar == f"fc: {own + 1} · B at step {beside} {beside + 1}"
        assert f"B at step {beside}" in words and f"B at step {beside}" in title
        assert f"A B at step {beside}" in table and f"gradient norm {own + 1} {beside + 1}" in table
    bar, words, title, table = shown(run_step="0")
    assert bar == "fc: 1"
    assert all("B was not looked at up to step 0" in text for text in (words, title, table))


def test_alarms_are_pins_with_sentence_remedy_and_a_click(tmp_path: Path) -> None:
    found = draw(Feeds({"run": write(tmp_path / "run")}), run())
    ((pin, _),) = nodes(found["run-pins"], "pin")
    assert pin["style"]["left"] == "66.67%" and json.loads(pin["data-value"]) == {
        "run_step": "100",
        "run_layer": "norm",
    }
    assert "norm has next to no gradient." in pin["aria-label"] and "Do: Normalise." in pin["aria-label"]
    words = text_of(found["run-alarms"])
    assert "It does not learn." in words and "The same: conv" in words and "from step 100" in words
    assert nodes(found["run-layer"], "mono")[0][1] == ["norm"]  # where to look first


def test_the_first_alarm_of_all_stands_first_and_then_the_worst_that_are_on(tmp_path: Path) -> None:
    begin(tmp_path / "run", LAYERS)
    began = {
        0: [{**ALARM, "rule": "update-ratio", "sentence": "Steps are large.", "advice": "Take smaller ones."}],
        50: [ALARM, {**ALARM, "rule": "dead-channels", "sentence": "Some are dead.", "advice": "Wait."}],
        100: [{**ALARM, "rule": "non-finite", "severity": "error", "sentence": "fc makes NaN."}],
    }
    over = {100: [[rule, layer] for rule in ("update-ratio", "dead-channels") for layer in ("norm", "conv")]}
    with (tmp_path / "run" / "steps.jsonl").open("w") as file:
        for number, step in enumerate(STEPS):
            layers = {name: groups(1.0) for name in LAYERS}
            file.write(line(number, step, layers, loss=1.0, alarms=began.get(step, []), over=over.get(step, [])))
    shown = draw(Feeds({"run": tmp_path / "run"}), run())["run-alarms"]
    cards = [text_of(children) for _, children in nodes(shown, "words")]
    assert ["update-ratio" in cards[0], "non-finite" in cards[1], "vanishing-gradients" in cards[2]] == [True] * 3
    assert "the first of all" in cards[0] and "until 100" in cards[0] and "Take smaller ones." in cards[0]
    folded = text_of(nodes(shown, "findings-checked"))
    assert (
        len(cards) == 3 and "1 more that is over" in folded and "Some are dead. Do: Wait." in " ".join(folded.split())
    )


def test_runs_without_an_alarm_are_said_in_one_line(tmp_path: Path) -> None:
    for name in "xyz":
        write(tmp_path / name)
    for name in "xy":
        lines = (tmp_path / name / "steps.jsonl").read_text().splitlines()
        quiet = [json.dumps({**json.loads(each), "alarms": []}) for each in lines]
        (tmp_path / name / "steps.jsonl").write_text("".join(f"{each}\n" for each in quiet))
    feeds = Feeds({name: tmp_path / name for name in "xyz"})
    shown = draw(feeds, run(run="x", run_b="y"))["run-alarms"]
    assert [text_of(each) for each in shown] == ["A: x · B: y · No alarm until now."]
    shown = text_of(draw(feeds, run(run="x", run_b="z"))["run-alarms"])
    assert "1 alarm" in shown and "B: z" in shown and shown.endswith("A: x · No alarm until now.")


def test_an_alarm_lists_once_where_it_is(tmp_path: Path) -> None:
    names = [str(index) for index in range(6)]
    folder = begin(tmp_path / "run", names)
    sentences = [
        ("4 is small. So it is at 3 others: 0, 1, 5.", ["4", "0", "1", "5"], None),
        ("4 is 0.1 times. So it is at 4 others: 0, 1, 5, ....", ["4", "0", "1", "5", "2"], "The same: 2"),
        ("4 is 0.1 times 1.", ["4", "1", "5"], "The same: 1, 5"),
        ("4 is at its limit: 5.", ["4", "5"], "The same: 5"),
    ]
    alarms = [
        {**ALARM, "rule": f"r{place}", "layer": "4", "sentence": sentence, "layers": layers}
        for place, (sentence, layers, _) in enumerate(sentences)
    ]
    (folder / "steps.jsonl").write_text(line(0, 0, {name: groups(1.0) for name in names}, alarms=alarms))
    cards = [text_of(c) for _, c in nodes(draw(Feeds({"run": folder}), run())["run-alarms"], "words")]
    for (_, _, said), card in zip(sentences, cards, strict=True):
        assert (said in card) if said else "The same" not in card


def test_the_steps_stand_below_the_lines(tmp_path: Path) -> None:
    feeds = Feeds({"run": write(tmp_path / "run")})
    for column in ("g.norm", "a.dead"):  # of which no layer has any
        (below,) = nodes(draw(feeds, run(run_column=column))["run-lines"], "run-steps-below")
        ((_, marks),) = nodes(below[1], "run-frame")
        told = [(text, attributes["style"]["left"]) for _, attributes, (text,) in marks]
        assert told == [("0", "0.00%"), ("50", "33.33%"), ("100", "66.67%"), ("150", "100.00%")]
    assert [step for _, step in step_ticks(0, 9_957)] == [0, 2_000, 4_000, 6_000, 8_000, 9_957]
    assert [step for _, step in step_ticks(0, 1)] == [0, 1] and step_ticks(7, 7) == ((0.0, 7),)


def test_a_module_that_is_never_called_stands_where_it_is_in_the_model(tmp_path: Path) -> None:
    """As in transformers' ViT: a class token's module has weights, and never runs; its numbers stay its own."""
    model = ("embeddings", "embeddings.projection", "between", "head")
    folder = begin(tmp_path / "run", model)
    layers = {"embeddings.projection": groups(2.0), "act": groups(None, update=None), "head": groups(4.0)}
    uncalled = {name: groups(norm) for name, norm in (("embeddings", 1.0), ("between", 3.0), ("unknown", 5.0))}
    for groups_of in uncalled.values():
        del groups_of["a"]
        groups_of["m"] = {"mine": groups_of["g"][0]}
    (folder / "steps.jsonl").write_text(line(0, 0, {**layers, **uncalled}))
    feed = read_feed(folder)
    wanted = {
        "embeddings": 1.0,
        "embeddings.projection": 2.0,
        "act": None,
        "between": 3.0,
        "head": 4.0,
        "unknown": 5.0,  # of one axis, so that its place is not known
    }
    assert feed.layers == tuple(wanted)
    norms = dict(zip(feed.layers, feed.column("g", "norm")[0].tolist(), strict=True))
    assert norms == pytest.approx(
        {name: np.nan if norm is None else norm for name, norm in wanted.items()}, nan_ok=True
    )
    own = dict(zip(feed.layers, feed.own("mine")[0].tolist(), strict=True))
    assert own["embeddings"] == 1 and own["between"] == 3 and own["unknown"] == 5 and np.isnan(own["head"])
    found = draw(Feeds({"run": folder}), run())
    titles = [each["title"] for each, _ in nodes(found["run-depth"], "run-bar")]
    assert titles == [f"{name}: {norm:g}" for name, norm in wanted.items() if norm is not None]
    # what is looked at first has what is shown: here distributions of activations, there of weights
    assert nodes(found["run-layer"], "mono")[0][1] == ["embeddings.projection"]
    chosen = draw(Feeds({"run": folder}), run(run_kind="g"))["run-layer"]
    assert nodes(chosen, "mono")[0][1] == ["embeddings"]


def test_pinned_maps_have_gaps_between_them(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", pinned=1)
    maps = np.stack([np.full((2, 4), value, np.float32) for value in (1.0, 2.0, 3.0)])
    arrays = {"map/conv": maps, "channels/conv": np.array([0, 7, 9])}
    (folder / "maps-000000000150.safetensors").write_bytes(pack(arrays, {"look": "3"}))
    gallery = Gallery("/p/")
    shown = draw(Feeds({"run": folder}), run(), gallery)["run-pinned"]
    ((_, (_, _, image)),) = nodes(shown, "run-maps")
    item = gallery.get(image[1]["src"].removeprefix("/p/"))
    assert item is not None and "channels 0, 7, 9" in image[1]["title"]
    picture = np.asarray(Image.open(io.BytesIO(item.data)).convert("RGBA"))
    assert picture.shape == (16, 4 * 32 + 3 * 2, 4) and image[1]["style"]["aspectRatio"] == "134 / 16"
    clear = picture[..., 3] == 0
    assert (clear == clear[0]).all()
    assert np.flatnonzero(clear[0]).tolist() == [32, 33, 66, 67, 100, 101]
    colours = [tuple(picture[0, column, :3]) for column in (0, 34, 68, 102)]
    assert colours[0] == colours[2] != colours[1] and len(set(colours)) == 3  # the mean is 2, and then 1, 2 and 3


def test_a_step_that_was_not_looked_at_and_what_is_not_kept_are_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    (folder / "bins-000000000050.safetensors").unlink()
    found = draw(Feeds({"run": folder}), run(run_step="70", run_layer="conv"))
    assert "Step 70 was not looked at" in text_of(found["run-at"])
    said = text_of(found["run-ridge-at"])
    assert "at step 50 is not kept" in said and "go to step 0" in said
    assert "No picture is pinned" in text_of(found["run-pinned"])
    gone = draw(Feeds({"run": folder}), run(run_step="50", run_layer="nowhere"))
    assert "no such layer in the look at step 50" in text_of(gone["run-layer"])


def test_ridges_stand_at_their_steps_over_powers_of_ten(tmp_path: Path) -> None:
    found = draw(Feeds({"run": write(tmp_path / "run")}), run(run_layer="conv", run_step="0"))
    rows = nodes(found["run-ridges"], "run-rows")[0][1]
    assert [each[2] for each in rows] == [[f"{step:,}"] for step in STEPS]
    marks = nodes(found["run-ridges"], "run-values")[0][1][0][2]
    # bins 102 to 124 are shown; that of 0 is 105, and those from 106 on begin at 1e-11 * 10 ** (n / 7)
    places = {each[2][0]: float(each[1]["style"]["left"].rstrip("%")) for each in marks}
    assert places["0"] == pytest.approx(100 * 3.5 / 22, abs=0.01)
    assert places["1e-10"] == pytest.approx(100 * 11 / 22, abs=0.01)
    assert "75 % are 0" in text_of(found["run-ridge-at"]).replace("75.0", "75")


def test_without_an_optimizer_there_are_no_updates_and_the_page_says_so(tmp_path: Path) -> None:
    found = draw(Feeds({"run": write(tmp_path / "run", optimizer="", scaler=True)}), run(run_column="u.ratio"))
    assert "No optimizer was given" in text_of(found["run-head"])
    assert "No layer has this number: update / weight." in text_of(found["run-lines"])
    disabled = [a for a, _ in nodes(found["run-columns"], "pill") if a.get("disabled")]
    assert len(disabled) == 1


@pytest.mark.parametrize(("optimizer", "scaler"), [("SGD", True), ("SGD", False), ("", True), ("", False)])
def test_without_optimizer_or_scaler_the_page_says_so(tmp_path: Path, optimizer: str, scaler: bool) -> None:
    folder = write(tmp_path / "run", optimizer=optimizer, scaler=scaler)
    shown = draw(Feeds({"run": folder}), run())["run-head"]
    assert (head.NO_OPTIMIZER in text_of(shown)) == (not optimizer)
    # two words in the run's line, which are a sentence for who asks: most trainings have none
    assert [(text_of(c), a["title"]) for a, c in nodes(shown, "run-aside")] == [("no scaler", head.NO_SCALER)] * (
        not scaler
    )
    other = write(tmp_path / "other", scaler=True)
    feeds = Feeds({"run": folder, "same": folder, "other": other})
    twice, once = (text_of(draw(feeds, run(run_b=name))["run-head"]) for name in ("same", "other"))
    assert twice.count(head.NO_OPTIMIZER) == once.count(head.NO_OPTIMIZER) == (not optimizer)
    assert (twice.count("no scaler"), once.count("no scaler")) == (2 * (not scaler), int(not scaler))


def test_what_is_not_finite_is_no_0_and_says_of_what_the_others_are(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    some = groups(3.0, nan=4)
    none = {"a": [None] * 4 + [None, 8, 256, 0, 32], "g": [None, None, None, 90, 10], "w": [None, None, 100, 0, 100]}
    (folder / "steps.jsonl").write_text(line(0, 0, {"conv": some, "norm": none, "fc": groups(2.0)}))
    feeds = Feeds({"run": folder})
    table = text_of(draw(feeds, run(run_layer="norm"))["run-layer"])
    for what in ("activations", "gradients", "weights"):
        assert f"No value of the {what} is finite" in table
    assert "gradient norm" not in table and "gradient NaN 90" in table and "weight NaN 100" in table
    partly = text_of(draw(feeds, run(run_layer="conv"))["run-layer"])
    assert "The numbers of the gradients are of those values that are finite." in partly and "norm 3" in partly
    whole = text_of(draw(feeds, run(run_layer="fc"))["run-layer"])
    assert "of the weights" not in partly and "that are finite" not in whole and "No value" not in whole
    found = draw(feeds, run())
    told = {each["title"]: "broken" in each["className"] for each, _ in nodes(found["run-depth"], "run-bar")}
    assert told == {"conv: 4 NaN, 0 infinite": True, "norm: 90 NaN, 10 infinite": True, "fc: 2": False}


def test_the_axis_is_logarithmic_or_linear_as_it_was_chosen(tmp_path: Path) -> None:
    feeds, gallery = Feeds({"run": write(tmp_path / "run")}), Gallery("/p/")

    def shown(**chosen: Any) -> tuple[list[str], list[float], str]:
        found = draw(feeds, run(run_step="50", **chosen), gallery)
        ticks = [text_of(children) for _, children in nodes(found["run-lines"], "run-ticks")]
        bars = nodes(found["run-depth"], "fill")
        heights = [float(each["style"]["height"].rstrip("%")) for each, _ in bars]
        pressed = [
            text_of(children)
            for _, switch in nodes(found["run-lines"], "run-axis")
            for _, attributes, children in switch
            if attributes["aria-pressed"] == "true"
        ]
        return ticks, heights, " ".join(pressed)

    ticks, heights, pressed = shown()
    assert pressed == "log" and "0.001" in ticks[0] and shown(run_scale="log") == (ticks, heights, pressed)
    ticks, heights, pressed = shown(run_scale="linear")
    # of step 50: 0.1, 1 and 10 on an axis from 0.001 to 100, with 4 % of that on either side
    low, high = 0.001 - 0.04 * 99.999, 100 + 0.04 * 99.999
    wanted = [max(100 * (value - low) / (high - low), 2) for value in (0.1, 1, 10)]
    np.testing.assert_allclose(heights, wanted, atol=0.06)
    assert pressed == "linear" and ticks[0].split() == ["0", "50", "100"]
    assert shown(run_scale="linear", run_column="a.rms")[2] == "linear" and shown(run_column="a.zeros")[2] == ""
    loss = draw(feeds, run(run_loss="log"))["run-loss"]
    (_, buttons) = next(iter(nodes(loss, "run-axis")))
    assert [attributes["aria-pressed"] for _, attributes, _ in buttons] == ["true", "false"]


def test_above_the_lines_stands_the_loss_or_what_else_there_is_over_the_steps(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    given = {"accuracy": [[20, 0.1], [50, 0.9]]}
    lines = [
        line(0, 0, {}, lr=[0.1, 0.01], loss=2.0),
        line(1, 50, {}, lr=[0.05, 0.005], losses=[[25, 1.5], [50, "nan"]], given=given),
    ]
    end = {
        "end": 1.0,
        "step": 100,
        "stopped_by": "",
        "losses": [[60, 1.0], [80, 0.5]],
        "given": {"accuracy": [[80, 1]]},
    }
    (folder / "steps.jsonl").write_text("".join(lines) + json.dumps(end) + "\n")
    feeds, gallery = Feeds({"run": folder}), Gallery("/p/")

    def shown(curve: str) -> tuple[list[tuple[str, str]], str, list[str]]:
        regions = draw(feeds, run(run_curve=curve), gallery)
        found = regions["run-loss"]
        pills = [(text_of(c), a["aria-pressed"]) for _, group in nodes(found, "set-choice") for _, a, c in group]
        address = next(a["src"] for _, a, _ in (each for _, c in nodes(found, "run-frame") for each in c))
        item = gallery.get(address.removeprefix("/p/"))
        assert item is not None
        paths = [part.split('d="')[1].split('"')[0] for part in item.data.decode().split("<path ")[2:]]
        return pills, " ".join(text_of(regions["run-curve-at"]).split()), paths

    pills, last, paths = shown("")
    assert pills == [("loss", "true"), ("learning rate", "false"), ("accuracy", "false")] and last == "NaN"
    # 0 to 80: 2, 1.5, nothing at 50 (red), 1 and 0.5 on an axis from 0.5 to 2 with 4 % on either side
    across = [0, 312, 750, 1000]
    heights = [round(400 * (1 - (value - 0.44) / 1.62)) for value in (2, 1.5, 1, 0.5)]
    points = [f"{x} {y}" for x, y in zip(across, heights, strict=True)]
    assert paths == [f"M{points[0]}h0L{points[1]}M{points[2]}h0L{points[3]}", "M625 0v14"]
    assert shown("s.accuracy")[1:] == ("0.9", [f"M250 {400 - 15}h0L625 {round(400 * (1 - 0.836 / 0.972))}L1000 15"])
    pills, last, paths = shown("lr")
    assert last == "0.05, 0.005" and len(paths) == 2 and dict(pills)["learning rate"] == "true"
    assert shown("s.of another run")[0][0] == ("loss", "true")
    rows = curves_csv(feeds.look("run")).splitlines()  # type: ignore[arg-type]
    assert rows[0] == "step,loss,lr 1,lr 2,accuracy" and rows[1] == "0,2.0,0.1,0.01,"
    assert rows[2:] == ["20,,,,0.1", "25,1.5,,,", "50,nan,0.05,0.005,0.9", "60,1.0,,,", "80,0.5,,,1.0"]


def test_the_number_beside_the_curve_is_of_the_chosen_step(tmp_path: Path) -> None:
    """Loss 100 - step of every step but multiples of 7, and of the other run its hundredfold, looked at every 30."""
    for name, factor, every in (("run", 1, 20), ("other", 100, 30)):
        folder = begin(tmp_path / name, LAYERS)
        with (folder / "steps.jsonl").open("w") as file:
            for number, step in enumerate(range(0, 91, every)):
                known = [each for each in range(max(step - every + 1, 0), step + 1) if each % 7 or not each]
                losses = [[each, factor * (100 - each)] for each in known]
                file.write(line(number, step, {}, losses=losses, given={"accuracy": [[step, factor * step]]}))
    feeds = Feeds({"run": tmp_path / "run", "other": tmp_path / "other"})

    def shown(**chosen: Any) -> str:
        return " ".join(text_of(draw(feeds, run(**chosen))["run-curve-at"]).split())

    assert [shown(run_step=str(step)) for step in (0, 20, 39, 40)] == ["100", "80", "80", "60"]
    assert shown() == "20" and shown(run_step="40", run_curve="lr") == "0.1"
    assert shown(run_step="40", run_b="other") == "A 60 B 6000"
    assert shown(run_step="20", run_b="other", run_curve="s.accuracy") == "A 20 B 0 at 0"
    # 70 is a multiple of 7, at which the loss is not known
    feeds = Feeds({"run": begin(tmp_path / "third", LAYERS)})
    text = line(0, 0, {}, losses=[[0, 9]]) + line(1, 70, {}, losses=[[69, 31], [71, 29]])
    (tmp_path / "third" / "steps.jsonl").write_text(text)
    assert shown(run_step="70") == "31 at 69"


def test_the_number_beside_the_curve_is_found_at_once_in_a_long_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move of the slider sorts no losses, of which there may be hundreds of thousands."""
    feeds = Feeds({"run": write(tmp_path / "run")})
    now = feeds.look("run")
    assert isinstance(now, Followed)
    sorted_for: list[str] = []
    inner = now.kept._curves.curve
    monkeypatch.setattr(now.kept._curves, "curve", lambda key, after: (sorted_for.append(key), inner(key, after))[1])
    for step in STEPS:
        draw(feeds, run(run_step=str(step)))
    assert sorted_for == ["loss"]
    with (tmp_path / "run" / "steps.jsonl").open("a") as file:
        file.write(line(4, 200, {name: groups(1.0) for name in LAYERS}, loss=7.0))
    assert text_of(draw(feeds, run())["run-curve-at"]).strip() == "7" and sorted_for == ["loss"] * 2


def test_values_below_0_have_no_logarithm(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS)
    own = {name: groups(1.0) | {"m": {"kurtosis": value}} for name, value in zip(LAYERS, (-1.0, 0.5, 3.0), strict=True)}
    (folder / "steps.jsonl").write_text(line(0, 0, own))
    found = draw(Feeds({"run": folder}), run(run_column="m.kurtosis", run_scale="log"))
    (_, buttons) = next(iter(nodes(found["run-lines"], "run-axis")))
    assert [(text_of(children), attributes.get("disabled")) for _, attributes, children in buttons] == [
        ("log", True),
        ("linear", None),
    ]
    bars = nodes(found["run-depth"], "fill")
    heights = [float(each["style"]["height"].rstrip("%")) for each, _ in bars]
    np.testing.assert_allclose(heights, [100 * (value + 1.16) / 4.32 for value in (-1, 0.5, 3)], atol=0.06)


def test_whether_it_goes_on_is_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    assert "process has ended without saying so" in text_of(draw(Feeds({"run": folder}), run())["run-head"])
    with (folder / "steps.jsonl").open("a") as file:
        file.write(json.dumps({"end": 2000.0, "step": 160, "stopped_by": "KeyboardInterrupt"}) + "\n")
    assert "The run was ended by KeyboardInterrupt." in text_of(draw(Feeds({"run": folder}), run())["run-head"])


def test_a_move_of_the_slider_draws_no_long_chart_anew(tmp_path: Path) -> None:
    feeds, gallery = Feeds({"run": write(tmp_path / "run", pinned=1)}), Gallery("/p/")

    def signatures(view: View) -> dict[str, str]:
        wait = Waiting(view, None, gallery, "", True, 0, feeds)  # type: ignore[arg-type]
        return {part.name: part.signature() for part in tab.PANEL.waiting(wait)}

    one, other = signatures(run(run_step="50")), signatures(run(run_step="100"))
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"run marker", "run value", "run depth", "run layer", "run ridge", "run pinned"}
    scaled = signatures(run(run_step="50", run_scale="linear"))
    assert {name for name in one if one[name] != scaled[name]} == {"run depth", "run lines"}
    assert signatures(run(run_step="50")) == one
    chosen = signatures(run(run_step="50", run_layer="fc"))
    assert "run loss" not in {name for name in one if one[name] != chosen[name]}


def test_a_view_of_a_run_is_in_its_address() -> None:
    view = run(
        run="monday", run_b="sunday", run_step="9000000", run_column="a.rms", run_layer="stage.1:2", run_kind="g"
    )
    assert View.from_query(view.to_query()) == view and view.of(Run).run_step == "9000000"
    for name, bad in (
        ("run_step", "-1"),
        ("run_step", "1" * 13),
        ("run", "x" * 41),
        ("run_column", "z.rms"),
        ("run_layer", "a\nb"),
    ):
        assert run(**{name: bad}).of(Run) == Run()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InlineApp]:
    folder = write(tmp_path / "run")
    made = InlineApp(tmp_path / "cache", feeds={"run": folder, "later": tmp_path / "later"})
    yield made
    made.close()


def test_the_routes_take_names_alone(app: InlineApp, tmp_path: Path) -> None:
    told = app.client.get("/feed/now?a=run").get_json()
    assert told["token"] and len(told["ages"]) == 1
    assert app.client.get("/feed/now?a=run").get_json() == told
    missing = app.client.get("/feed/later/numbers.csv")
    assert missing.status_code == 404 and str(tmp_path) not in missing.text
    for name in ("nobody", "..%2frun", "%2fetc%2fpasswd"):
        answer = app.client.get(f"/feed/{name}/numbers.csv")
        assert answer.status_code == 404 or answer.mimetype == "text/html"  # the page itself, which any address gives
        assert "step,loss" not in answer.text and "root:" not in answer.text
    assert app.client.get("/feed/run/numbers.csv?column=g.sum").status_code == 404
    rows = list(csv.reader(io.StringIO(app.client.get("/feed/run/numbers.csv?column=g.norm").text)))
    assert rows[0] == ["step", "loss", *LAYERS] and len(rows) == 1 + len(STEPS)
    assert [float(cell) for cell in rows[2]] == [50, 0.5, 0.1, 1.0, 10.0]
    updates = app.client.get("/feed/run/numbers.csv?column=a.dead").text.splitlines()
    assert updates[1] == "0,1.0,,,"


def test_the_tree_is_coloured_where_the_model_has_the_layers(app: InlineApp, tmp_path: Path) -> None:
    view = View(model=MODEL, tab="run")
    scene = Scene.build(view, loaded(view, app.service), app.service, Gallery("/p/"), Readings(), 900)

    def tree() -> dict[str, Any]:
        part = next(each for each in order.parts(scene, 0, "/") if each.name == "tree metric")
        return {str(component): properties for component, properties in part.drawn({})}

    (tmp_path / "run" / "steps.jsonl").write_text(line(0, 10, {"elsewhere": groups(1.0)}))
    assert "none of the layers of run" in text_of(tree()["metric-text"]["tree"])
    chosen = [layer for layer in scene.info.layers if layer.leaf and layer.parameters][:2]
    names = [layer.name for layer in chosen]
    begin(tmp_path / "run", names)
    app.service.feeds = Feeds({"run": tmp_path / "run"})
    with (tmp_path / "run" / "steps.jsonl").open("a") as file:
        layers = {names[0]: groups(1e-3), names[1]: groups(1.0, nan=2), "more": groups(1e2)}
        for each in chosen:
            layers[each.name]["w"][-1] = each.parameters
        file.write(line(4, 200, layers))
    found = tree()["tree"]
    shown = [bar for bar in found["metric"] if bar is not None]
    assert len(shown) == 2 and shown[1] == 1.0 and 0 < shown[0] < 0.1 and found["alarms"] == 1
    assert "gradient norm 0.001 at step 200" in found["metric_texts"]


def test_the_tree_takes_no_numbers_of_another_network(tmp_path: Path) -> None:
    """Runs of nets that share names with the page's model: all of them, in another order, of other sizes, or few."""
    names = [f"layer{place}" for place in range(20)]
    layers = [LayerInfo(name, "Conv2d", 10 + place, 0, (), leaf=True) for place, name in enumerate(names)]
    model = [LayerInfo("", "Net", 390, 0, (), leaf=False), *layers, LayerInfo("pool", "MaxPool2d", 0, 0, (), leaf=True)]
    runs: dict[str, tuple[list[str], dict[str, int]]] = {
        "same": (names, {}),
        "nearly": ([*names[:18], "other1", "other2"], {}),
        "shared": ([*names[:17], "other1", "other2", "other3"], {}),
        "turned": (names[::-1], {}),
        "wider": (names, dict.fromkeys(names, 99)),
        "one": (["other1", "other2", names[-1]], {}),
        "net": ([names[0], "other1", "other2"], {}),
    }
    feeds = {}
    for name, (heavy, sizes) in runs.items():
        feeds[name] = begin(tmp_path / name, heavy)
        written = {each: groups(1.0) for each in [*heavy, "pool"]}  # the run's "pool" has weights
        for layer in layers:
            if layer.name in written:
                written[layer.name]["w"][-1] = sizes.get(layer.name, layer.parameters)
        (feeds[name] / "steps.jsonl").write_text(line(0, 0, written))
    followed, nodes_of = Feeds(feeds), [node["name"] for node in tree_nodes(model)]

    def shown(name: str, called: str = "net", **chosen: Any) -> tuple[set[str], str]:
        asked = ask(run(run=name, **chosen), followed, Gallery("/p/"))
        assert isinstance(asked, Asked)
        info = replace(INFO, title="page's", layers=tuple(model))
        found = {str(each): told for each, told in marks._draw(asked, marks._Model(info), called == name, {})}
        bars = found["tree"].get("metric") or []
        there = {each for each, bar in zip(nodes_of, bars, strict=False) if bar is not None}
        return there, text_of(found["metric-text"]["tree"])

    assert shown("same")[0] == set(names)  # and not "pool", which has no weights here
    assert shown("same", run_column="a.rms")[0] == {*names, "pool"}
    assert shown("nearly")[0] == set(names[:18])
    for name, there, count in (("shared", 17, 20), ("turned", 1, 20), ("wider", 0, 20), ("one", 1, 3)):
        bars, said = shown(name)
        told = f"nothing of {name}, as page's is another network: {there} of the run's {count} layers"
        assert not bars and told in said, said
        assert f"--model {name}=SPEC" in said
    assert shown("net")[0] == {names[0]}  # called so by who started the page
    assert [marks._names_run(model, "net") for model in ("net", "net@20", "other", "net@x", "other@20")] == [
        *(True, True, False, False, False)
    ]


def test_the_exported_page_is_of_the_run(app: InlineApp, tmp_path: Path) -> None:
    for step in (20, 100):
        path = tmp_path / "run" / f"net-{step}.pt"
        path.touch()
        os.utime(path, (0, 0))
    app.service.feeds = Feeds({"run": tmp_path / "run"}, ["run"])
    view = View(model=MODEL, tab="run").but(run_step="100")
    info = loaded(view, app.service)
    scene = Scene.build(view, info, app.service, Gallery("/p/"), Readings(), 900)
    page = export._page(scene, order.saved).decode()
    top = page[page.index('<div class="report-head">') :]
    top = top[: top.index("</div>")]
    assert "<h1>Hookscope · run</h1>" in top and "run run of Net · step 100 · gradient norm" in top
    assert escape(info[MODEL].title) not in top and "explained" not in top and "parameters" not in top
    card = page[page.index("<h2>Checkpoints</h2>") :]
    assert '<div class="run-steps">' in card and ">step 20<" in card and ">step 100<" in card
    assert "plotly.js v" not in page and len(page) < 1_000_000  # there is no figure that it would draw
    layers = view.but(tab="layers")
    scene = Scene.build(layers, info, app.service, Gallery("/p/"), Readings(), 900)
    other = export._page(scene, order.saved).decode()
    assert escape(info[MODEL].title) in other[other.index("<h1>") :][:200] and "explained" in other


def test_the_exported_page_has_what_is_shown(app: InlineApp) -> None:
    view = View(model=MODEL, tab="run")
    scene = Scene.build(view, loaded(view, app.service), app.service, Gallery("/p/"), Readings(), 900)
    _, parts = order.saved(scene)
    assert {"run lines", "run loss", "run depth", "run alarms"} <= {part.name for part in parts}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with weights of step 20 and 100, that a model of its name can be opened with."""
    folder = write(tmp_path / MODEL)
    for step in (20, 100):
        path = folder / f"net-{step}.pt"
        path.touch()
        os.utime(path, (0, 0))
    return folder


def test_the_weights_up_to_the_step_are_offered_and_may_move_with_it(saved: Path) -> None:
    feeds = Feeds({MODEL: saved}, [MODEL])

    def shown(**chosen: Any) -> list[Any]:
        found: list[Any] = draw(feeds, run(model=MODEL, **chosen))["run-weights"]
        return found

    assert "the weights of step 20 as" in text_of(shown(run_step="50")) and "data-moves" not in json.dumps(
        shown(run_step="50")
    )
    assert "the weights of step 100 as" in text_of(shown(run_step="100")) and "the weights of step 100 as" in text_of(
        shown()
    )
    assert "No weights are saved up to step 0; the first are of step 20." in text_of(shown(run_step="0"))
    ((row, _),) = nodes(shown(run_step="70", run_moves="b"), "run-weights")
    assert json.loads(row["data-moves"]) == {"model_b": f"{MODEL}@20"}  # 70 was not looked at, 50 was
    buttons = [
        attributes for _, attributes, _ in nodes(shown(run_step="50", model_b=f"{MODEL}@20"), "run-weights")[0][1]
    ]
    pressed = {each["aria-label"]: each["aria-pressed"] for each in buttons if "aria-label" in each}
    assert pressed == {
        "step 20 as A": "false",
        "step 20 as B": "true",
        "A moves with the step": "false",
        "B moves with the step": "false",
    }
    assert text_of(draw(Feeds({MODEL: saved}), run(model=MODEL))["run-weights"]) == ""
    how = text_of(draw(Feeds({MODEL: saved}), run(model=MODEL))["run-checkpoints"])
    assert "Weights of step 20, 100 lie in the folder." in how and f"--model {MODEL}=SPEC" in how


def test_other_tabs_say_where_they_do_not_show_the_chosen_step(saved: Path, tmp_path: Path) -> None:
    app = InlineApp(tmp_path / "cache", feeds={MODEL: saved})

    def said(feeds: Feeds, tab: str = "layers", **chosen: Any) -> tuple[str, list[str]]:
        view = View(model=MODEL).but(tab=tab, **chosen)
        app.service.feeds = feeds
        scene = Scene.build(view, loaded(view, app.service), app.service, Gallery("/p/"), Readings(), 900)
        parts = [each for each in order.parts(scene, 0, "/") if each.name == "run elsewhere"]
        if not parts:
            return "no such part", []
        ((_, properties),) = parts[0].drawn({})
        buttons = [text_of(children) for _, children in nodes(properties["tree"], "link")]
        return text_of(properties["tree"]), buttons

    openable = Feeds({MODEL: saved}, [MODEL])
    try:
        title = loaded(View(model=MODEL), app.service)[MODEL].title
        assert said(openable) == ("", [])  # no step is chosen
        for tab in ("layers", "depth", "pictures", "findings"):
            text, buttons = said(openable, tab, run_step="50")
            assert f"{title} is shown as it was loaded, not as at step 50 of {MODEL}" in text
            assert "The weights of step 20 are saved." in text and buttons == ["open these as A", "forget the step"]
        assert said(openable, "run", run_step="50")[0] == "no such part"
        text, buttons = said(openable, run_step="10")
        assert "are saved" not in text and buttons == ["forget the step"]
        text, buttons = said(Feeds({MODEL: saved}), run_step="50")
        assert "is shown as it was loaded" in text and buttons == ["forget the step"]
        assert said(openable, run_step="50", run="gone") == ("", [])
    finally:
        app.close()


@pytest.mark.parametrize(
    ("model", "step", "said", "offers"),
    [
        ("run@100", 100, "", False),
        ("run@100", 120, "X has the weights of step 100, the last that were saved up to step 120 of run.", False),
        ("run@20", 120, f"X has the weights of step 20, not as at step 120{ELSEWHERE}", True),
        ("other@100", 100, f"X is shown as it was loaded, not as at step 100{ELSEWHERE}", True),
    ],
)
def test_what_is_said_of_a_model_beside_a_step(model: str, step: int, said: str, offers: bool) -> None:
    assert elsewhere.said("run", step, Checkpoint(100, "net-100.pt"), model, "X") == (said, offers)


def _program(app: InlineApp, folder: Path, **chosen: Any) -> tuple[str, dict[str, Any]]:
    """A view's program, and what is said of it."""
    answer = app.client.post("/script", json=run(model=MODEL, **chosen).to_dict())
    assert answer.status_code == 200, answer.text
    told = answer.get_json()
    with zipfile.ZipFile(io.BytesIO(app.client.get(told["path"]).data)) as archive:
        assert archive.namelist() == ["view.py"]
        archive.extractall(folder)
    return (folder / "view.py").read_text(), told


def _printed(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "view.py", *arguments]
    ran = subprocess.run(command, cwd=folder, env=ENVIRON, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.splitlines()


def test_a_program_prints_what_the_tab_shows(app: InlineApp, tmp_path: Path) -> None:
    text, told = _program(app, tmp_path / "program", run_step="50", run_layer="conv", run_kind="a")
    assert (
        told["name"] == "hookscope-run.zip" and "Looks that the training wrote after this program." in told["left_out"]
    )
    assert any("run, the folder that hs.follow wrote" in each for each in told["beside"])
    assert str(tmp_path) not in text and "pip install 'hookscope'\n" in text and "open_model" not in text
    with (tmp_path / "run" / "steps.jsonl").open("a") as file:  # the training goes on
        file.write(line(4, 200, {name: groups(1e9) for name in LAYERS}, loss=7.0))
    shutil.copytree(tmp_path / "run", tmp_path / "program" / "run")
    printed = _printed(tmp_path / "program")
    assert printed == _printed(tmp_path / "program", str(tmp_path / "run"))

    def after(begin: str) -> list[str]:
        return [each.removeprefix(begin) for each in printed if each.startswith(begin)]

    assert after("step ") == ["50 loss 0.5 scale nan"] and after("learning rates ") == ["0.1"]
    view = run(run_step="50", run_layer="conv", run_kind="a")
    found = draw(Feeds({"run": tmp_path / "run"}), view)
    bars = [each["title"] for each, _ in nodes(found["run-depth"], "run-bar")]
    assert after("at the step ") == [each.replace(":", " g.norm") for each in bars] == [
        "conv g.norm 0.1", "norm g.norm 1", "fc g.norm 10"
    ]  # fmt: skip
    assert after("line ") == ["0 1", "50 0.1", "100 0.01", "150 5 NaN, 0 infinite"]  # and none of step 200
    assert after("over the steps fc ") == ["first 100 last 1 least 1 at 100 largest 100 at 0"]
    assert [float(each.split()[1]) for each in after("loss ")] == [1, 0.5, pytest.approx(1 / 3), 0.25]
    table = after("layer conv ")
    assert {"g norm 0.1", "a zeros 0.25", "w count 100", "u ratio 0.001"} <= set(table)
    assert after("share of 0, or nearer to it than 1e-11: ") == ["0.6"]  # 3 of 5
    assert [each.split(": ")[1] for each in after("bin from ")] == ["3", "2"]
    assert after("alarm ") == ["100 vanishing-gradients norm norm has next to no gradient."]


def test_a_program_of_two_runs_and_of_a_column_of_ones_own(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one"), write(tmp_path / "other", scale=0.5)
    for folder in (one, other):
        lines = [json.loads(each) for each in (folder / "steps.jsonl").read_text().splitlines()]
        for place, each in enumerate(lines):
            each["layers"]["fc"]["m"] = {"a 'b\"": 10 * place + (folder == other)}
        lines.append({"end": 1.0, "step": 170, "given": {"it's": [[160, 0.25 + (folder == other)]]}})
        (folder / "steps.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    made = InlineApp(tmp_path / "cache", feeds={"one": one, "other": other, "empty": begin(tmp_path / "empty", LAYERS)})
    try:
        chosen = {"run_b": "other", "run_column": "m.a 'b\"", "run_layer": "fc", "run_curve": "s.it's"}
        _, told = _program(made, tmp_path / "program", **chosen)
        assert told["name"] == "hookscope-one-other.zip" and "python view.py FOLDER OTHER" in " ".join(told["beside"])
        printed = _printed(tmp_path / "program", str(one), str(other))
        assert [each for each in printed if " line " in each] == [
            f"{letter} line {step} {10 * place + (letter == 'B')}"
            for letter in "AB"
            for place, step in enumerate(STEPS)
        ]
        assert [each for each in printed if "it's" in each] == ["A it's 160 0.25", "B it's 160 1.25"]
        assert "A at the step fc m.a 'b\" 30" in printed and "B layer fc own a 'b\" 31" in printed
        missing = _printed(tmp_path / "program", str(one), str(tmp_path / "nowhere"))
        assert any("There is no feed in" in each for each in missing) and "A line 0 0" in missing
        nothing = made.client.post("/script", json=run(model=MODEL, run="empty").to_dict())
        assert nothing.status_code == 409 and "has not been looked at" in nothing.text
        # a run needs no model
        assert made.client.post("/script", json=run(model="gone").to_dict()).status_code == 200
    finally:
        made.close()


@pytest.mark.slow  # it times what other tests beside it would hold up
def test_5000_steps_of_300_layers_move_in_under_200_ms(tmp_path: Path) -> None:
    folder = write_long(tmp_path / "run", 5_000, 300)
    feeds, gallery = Feeds({"run": folder}), Gallery("/p/")
    before = psutil.Process().memory_info().rss
    begun = time.monotonic()
    while True:
        now = feeds.look("run")
        assert isinstance(now, Followed)
        if now.share == 1:
            break
    assert now.looks == 5_000 and time.monotonic() - begun < limit(30)
    draw(feeds, run(), gallery)
    took = []
    for step in (100_000, 249_000, 150, 125_000):
        begun = time.monotonic()
        wait = Waiting(run(run_step=str(step)), None, gallery, "", True, 0, feeds)  # type: ignore[arg-type]
        moved = ("run marker", "run depth", "run layer", "run ridge", "run pinned")
        updates = [part.drawn({}) for part in tab.PANEL.waiting(wait) if part.name in moved]
        json.dumps(updates)
        took.append(time.monotonic() - begun)
    assert min(took) < limit(0.1), took
    begun = time.monotonic()
    assert feeds.look("run") == now
    assert time.monotonic() - begun < limit(0.02)  # nothing is new
    # twice 5,000 looks of 300 layers of 20 float32, and a few columns of 6 MB
    kept = now.kept.nbytes
    assert kept == 2 * 5_000 * 300 * 20 * 4
    assert psutil.Process().memory_info().rss - before < 1.5e9


def test_a_feed_that_means_harm_is_drawn(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", LAYERS, title="t" * 100_000, model="<script>")
    bad = {**ALARM, "layer": "x" * 100_000, "sentence": "s" * 100_000, "rule": "\u202e" * 500, "severity": ["error"]}
    layers = {"x" * 100_000: groups("inf"), "<img src=x>": groups("nan"), "y": {"a": "none", "g": [1e400], "w": [[]]}}
    text = line(0, 0, layers, loss="inf", alarms=[bad] * 400, lr=["inf"] * 300, scalars={"q" * 9000: 1e308})
    text += line(1, 10**12 - 1, {"y": groups(1e-300)}, loss=-1e308)
    text += line(2, 10**12 - 1, {f"l{index}": groups(float(index)) for index in range(3_000)}, loss=1e308)
    (folder / "steps.jsonl").write_text(text)
    gallery = Gallery("/p/")
    feeds = Feeds({"run": folder})
    for view in (run(), run(run_step="0", run_column="a.zeros"), run(run_layer="y", run_column="m.nothing")):
        found = draw(feeds, view, gallery)
        assert len(json.dumps(found)) < 3_000_000
        for key in list(gallery._entries):
            assert gallery.get(key) is not None
    assert len(nodes(draw(feeds, run(), gallery)["run-depth"], "run-bar")) <= moment.MOST_BARS


def test_steps_in_few_characters() -> None:
    generator = np.random.default_rng(0)
    steps = np.unique(generator.integers(0, 3_000, 700))
    found: list[int] = []
    for part in moment.as_runs(steps).split(","):
        first, rest = part.split("+")
        distance, count = rest.split("*")
        found += [int(first) + int(distance) * place for place in range(int(count))]
    assert found == steps.tolist() and moment.as_runs(np.arange(5_000) * 50) == "0+50*5000"
