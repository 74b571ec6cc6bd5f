"""A baseline that is stored: its file, its model, and sets held against it, on a server and in a browser."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import digits, file_of, write_module
from playwright.sync_api import Page, expect
from served import ROOT, Application, open_page, row, until
from set_desk import SetDesk, elements, text_of
from tempo import limit
from torch import nn

import hookscope as hs
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.sets.outlying import Outlying, outliers_from, shares_beyond
from hookscope.dashboard.sets.store import key_of
from hookscope.dashboard.sets.stored import STORED, Baselines, Stored
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.parse import parse
from hookscope.dashboard.sources import weights
from hookscope.dashboard.sources.load import load
from hookscope.hooks.layers.fingerprint import fingerprint
from hookscope.hooks.results.usual import part_of

COUNT, KNOWN = 40, 120  # pictures of the set, and of the baseline
ODD = (3, 21)  # which of the set are noise
MODEL = "digits"
CALLED = f"the stored baseline (2026-02-03, {KNOWN} pictures)"


class Prepared:
    """A network of digits and its baseline in a folder: `set` are the pictures, `line.json` the baseline."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net: nn.Module = write_module(folder)["plain"]()
        sys.path.insert(0, str(folder))
        try:  # as the worker imports it: the fingerprint holds the classes' names, and of what module they are
            self.net = importlib.import_module("digits_net").plain()
        finally:
            sys.path.remove(str(folder))
        pictures, _ = digits()
        pictures = pictures[np.random.default_rng(0).permutation(len(pictures))]
        self.known, self.pictures = pictures[:KNOWN], pictures[KNOWN : KNOWN + COUNT].clone()
        for number in ODD:
            noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(number))
            self.pictures[number] = (noise * 255).round() / 127.5 - 1
        (folder / "set").mkdir()
        for number, picture in enumerate(self.pictures):
            file_of(picture, folder / "set" / f"{number:03}.png")
        self.path = folder / "line.json"
        self.baseline = replace(hs.Baseline.fit(self.net, self.known.split(32)), made="2026-02-03")
        self.baseline.save(self.path)

    def copy(self, place: Path, **changed: Any) -> Path:
        """The baseline's files in another folder, with other fields in the JSON."""
        fields = json.loads(self.path.read_text()) | changed
        (place / "line.json").write_text(json.dumps(fields))
        beside = next(self.folder.glob("baseline-*.safetensors"))
        (place / beside.name).write_bytes(beside.read_bytes())
        return place / "line.json"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def desk(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SetDesk]:
    """A server's sets, swept in a real worker; each test stores a baseline of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(prepared.folder))
        engine = LocalEngine([ModelOptions("digits_net:whole", MODEL)], device="cpu", threads=1)
        place = tmp_path_factory.mktemp("desk")
        found = SetDesk(engine, {"line 4": prepared.folder / "set"}, place)
        engine.open(MODEL)
        until(lambda: engine.state(MODEL).phase == "ready", limit(60.0))
        found.swept("line 4", MODEL)
        yield found
        found.close()
        engine.close()


def in_its_order(desk: SetDesk) -> list[int]:
    """Which of the pictures each of the set's is: a set has an order of its own."""
    return [int(member.name.removesuffix(".png")) for member in desk.set("line 4").members]


def stored(desk: SetDesk, path: Path | None) -> None:
    desk.sweeps.baselines = Baselines({} if path is None else {MODEL: path})


def shown(desk: SetDesk, wanted: Callable[[dict[str, Any]], bool] | None = None, **view: Any) -> dict[str, Any]:
    """What the page shows of the set, once nothing is computed any more."""
    asked = View().but(model=MODEL, set_a=key_of("line 4"), **view)

    def draw() -> dict[str, Any] | None:
        found = desk.draw(asked)
        texts = {name: text_of(each["tree"]) for name, each in found.items() if each.get("tree")}
        return None if any("computing" in text or " …" in text for text in texts.values()) else found

    found: dict[str, Any] = until(draw, limit(30.0))
    return found


def outliers_of(desk: SetDesk, **view: Any) -> tuple[str, dict[str, Any]]:
    found = shown(desk, tab="pictures", set_page="outliers", set_b=STORED, **view)
    return text_of(found["set-outliers"]["tree"]), found


# --- which model it is of


def test_the_server_knows_each_model_by_the_librarys_fingerprint(prepared: Prepared, desk: SetDesk) -> None:
    info = desk.engine.info(MODEL)
    assert info is not None and info.module == prepared.baseline.model == fingerprint(prepared.net)
    model = load(ModelOptions("embedded"), "cpu")
    assert model.info.module == fingerprint(model.module) != info.module
    assert fingerprint(model.module, weights.digest(model.module)) == fingerprint(model.module)
    assert weights.are_all(model.module) and not weights.are_all(nn.DataParallel(model.module))

    class More(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    assert not weights.are_all(More(2, 2))  # what is no tensor is in the library's and not in the weights' digest


def test_it_is_scored_as_the_library_scores_it(prepared: Prepared, desk: SetDesk) -> None:
    stored(desk, prepared.path)
    info, pictures = desk.engine.info(MODEL), desk.set("line 4")
    assert info is not None
    kept = desk.sweeps.baselines.of(MODEL, info.module)
    assert isinstance(kept, Stored) and kept.name == CALLED
    found = until(lambda: outliers_from(desk.sweeps, pictures, kept, MODEL, 5.0), limit(20.0))
    assert isinstance(found, Outlying) and (found.usual, found.shared, found.note) == (KNOWN, 0, "")
    assert found.layers == (len(prepared.baseline.layers),) * 2
    expected = prepared.baseline.score(prepared.net, prepared.pictures[in_its_order(desk)])
    assert found.scores.layers == expected.layers and found.k == prepared.baseline.k
    np.testing.assert_allclose(found.scores.distance, expected.distance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.scores.energy, expected.energy, rtol=1e-5)
    np.testing.assert_allclose(found.scores.beyond, expected.beyond, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.scores.layers_p, expected.layers_p)
    np.testing.assert_array_equal(found.scores.firsts(), expected.firsts())
    strangest = np.argsort(-found.scores.furthest)[: len(ODD)]
    assert {in_its_order(desk)[number] for number in strangest} == set(ODD)
    assert (expected.layers_p[strangest] == 1 / (KNOWN + 1)).all()


# --- what the page says


def test_the_page_and_the_table_say_against_what(prepared: Prepared, desk: SetDesk) -> None:
    stored(desk, prepared.path)
    text, found = outliers_of(desk, outliers_by="layers")
    assert text.startswith(f"{COUNT} pictures against {CALLED}") and "so far" not in text
    scores = prepared.baseline.score(prepared.net, prepared.pictures[in_its_order(desk)])
    assert f"{(scores.layers_p <= 0.05).sum()} of {COUNT} are beyond 95\N{NO-BREAK SPACE}%" in text
    cells = elements(found["set-outliers"]["tree"], className="thumb")
    numbers = [json.loads(cell[1]["data-value"])["number"] for cell in cells]
    assert {in_its_order(desk)[number] for number in numbers[: len(ODD)]} == set(ODD)
    assert numbers == np.argsort(-scores.furthest, kind="stable")[: len(numbers)].tolist()
    (link,) = [each for each in elements(found["set-outliers"]["tree"]) if "outliers.csv" in each[1].get("href", "")]
    assert f"against={STORED}" in link[1]["href"]
    choices = elements(found["set-choice"]["tree"], className="pill")
    assert [text_of([each]) for each in choices if each[1]["aria-pressed"] == "true"] == ["line 4", CALLED]
    assert str(prepared.folder) not in json.dumps(found)


def test_other_pages_say_where_it_stands_and_take_it_for_no_set(prepared: Prepared, desk: SetDesk) -> None:
    stored(desk, prepared.path)
    found = shown(desk, tab="pictures", set_b=STORED)
    assert text_of(found["set-gap"]["tree"]) == "How far they are from the stored baseline stands in Outliers."
    found = shown(desk, set_b=STORED, metric="set-gap")
    assert "Choose a second set" in text_of(found["metric-text"]["tree"])


def test_where_no_baseline_is_stored_none_is_offered_but_an_address_may_ask_for_it(desk: SetDesk) -> None:
    stored(desk, None)
    said = "There is no stored baseline of digits here. Whoever runs the server gives one with --baseline."
    text, found = outliers_of(desk)
    assert said in text
    assert "the stored baseline" in text_of(found["set-choice"]["tree"])  # so that it can be taken back
    assert "stored" not in text_of(shown(desk, tab="pictures")["set-choice"]["tree"])
    assert said in text_of(shown(desk, metric="set-beyond")["metric-text"]["tree"])
    assert "stored" not in text_of(shown(desk, layers=("conv1",))["card-set 0"]["tree"])


REFUSED: dict[str, tuple[Callable[[Path, Prepared], Path], str]] = {
    "another model": (
        lambda place, prepared: prepared.copy(place, model="0123456789abcdef"),
        "This baseline was fitted on another model, or on other weights (0123456789ab and not ",
    ),
    "a newer format": (
        lambda place, prepared: prepared.copy(place, format="hookscope baseline 99", more=[1, 2]),
        "The baseline of digits is of another version (hookscope baseline 99). Fit it again.",
    ),
    "half a file": (
        lambda place, prepared: _cut(prepared.copy(place)),
        "The baseline of digits is no saved one, or it is damaged (",
    ),
    "other numbers": (
        lambda place, prepared: _other_numbers(prepared.copy(place)),
        "is not what the baseline of digits was saved with: its content has another hash.",
    ),
    "no numbers": (
        lambda place, prepared: _without_numbers(prepared.copy(place)),
        "The baseline of digits has the numbers of its pictures in baseline-",
    ),
    "no file": (
        lambda place, prepared: _folder(place / "line.json"),
        "The baseline of digits cannot be read (Is a directory). Check its name, or fit it again.",
    ),
    "a file that went away": (
        lambda place, prepared: place / "gone.json",
        "The baseline of digits cannot be read (No such file or directory). Check its name, or fit it again.",
    ),
}


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _cut(path: Path) -> Path:
    path.write_text(path.read_text()[:500])
    return path


def _other_numbers(path: Path) -> Path:
    (beside,) = path.parent.glob("*.safetensors")
    beside.write_bytes(beside.read_bytes()[:-1] + b"\x01")
    return path


def _without_numbers(path: Path) -> Path:
    next(path.parent.glob("*.safetensors")).unlink()
    return path


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_a_sentence_in_place_of_the_answer(
    what: str, prepared: Prepared, desk: SetDesk, tmp_path: Path
) -> None:
    make, said = REFUSED[what]
    stored(desk, make(tmp_path, prepared))
    text, found = outliers_of(desk)
    assert text.startswith("Outliers") and said in text and str(tmp_path) not in json.dumps(found)
    assert not elements(found["set-outliers"]["tree"], className="thumb")
    for view, place in (({"metric": "set-beyond"}, "metric-text"), ({"layers": ("conv1",)}, "card-set 0")):
        assert said in text_of(shown(desk, **view)[place]["tree"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_a_sentence_until_it_may(
    prepared: Prepared, desk: SetDesk, tmp_path: Path
) -> None:
    path = prepared.copy(tmp_path)
    path.chmod(0)
    stored(desk, path)
    assert "The baseline of digits cannot be read (Permission denied)." in outliers_of(desk)[0]
    path.chmod(0o600)
    assert f"against {CALLED}" in outliers_of(desk)[0]


def test_a_file_that_is_replaced_or_mended_is_read_again(prepared: Prepared, desk: SetDesk, tmp_path: Path) -> None:
    path = _without_numbers(prepared.copy(tmp_path))
    stored(desk, path)
    assert "has the numbers of its pictures in baseline-" in outliers_of(desk)[0]
    prepared.copy(tmp_path)
    assert f"against {CALLED}" in outliers_of(desk)[0]
    replace(hs.Baseline.fit(prepared.net, prepared.known[:50].split(25)), made="2026-03-04").save(path)
    assert "against the stored baseline (2026-03-04, 50 pictures)" in outliers_of(desk)[0]


def test_a_baseline_of_some_layers_and_other_features_is_held_against_what_both_have(
    prepared: Prepared, desk: SetDesk, tmp_path: Path
) -> None:
    some = hs.Baseline.fit(prepared.net, prepared.known.split(32), ["conv1", "relu1"], features_of="relu1")
    some.save(tmp_path / "some.json")
    stored(desk, tmp_path / "some.json")
    text, _ = outliers_of(desk, outliers_by="layers")
    assert "of 2 layers" in text and "are not those of the baseline, so neighbours are not compared." in text
    bare = hs.Baseline.from_sweep(hs.sweep(prepared.net, prepared.known.split(32), [hs.profiles(["fc"])]))
    bare.save(tmp_path / "bare.json")  # without a model's fingerprint, features and energies
    stored(desk, tmp_path / "bare.json")
    text, _ = outliers_of(desk)
    assert "of 1 layers" in text and "furthest" in text and "energy" not in text


# --- the tree and the cards


def test_the_trees_colour_is_how_many_pictures_no_picture_of_the_baseline_reaches(
    prepared: Prepared, desk: SetDesk
) -> None:
    stored(desk, prepared.path)
    found = shown(desk, metric="set-beyond", set_b=STORED)
    text = text_of(found["metric-text"]["tree"])
    assert text.startswith("over line 4, against the stored baseline: bars from 0 to ") and f"{COUNT} pictures" in text
    shares = shares_beyond(prepared.baseline.score(prepared.net, prepared.pictures))
    named = dict(zip([node["name"] for node in _nodes(desk)], found[ids.TREE]["metric_texts"], strict=True))
    for layer in ("conv1", "relu2", "fc"):
        share = _by_hand(*(_profile(prepared.net, layer, each) for each in (prepared.known, prepared.pictures)))
        assert shares[layer, 0] == share
        assert _percent(named[layer]) == pytest.approx(100 * share, abs=0.06)
    assert max(shares.values()) >= len(ODD) / COUNT


def _nodes(desk: SetDesk) -> list[dict[str, Any]]:
    info = desk.engine.info(MODEL)
    assert info is not None
    return tree_nodes(info.layers)


def _percent(text: str) -> float:
    return float(text.split(" %")[0].split()[-1])


def _profile(net: nn.Module, layer: str, pictures: torch.Tensor) -> np.ndarray:
    """Mean, deviation, share of zeros and largest value of each picture, float64, by a hook of our own."""
    values: list[torch.Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda *given: values.append(given[2].clone()))
    with torch.no_grad():
        net(pictures)
    handle.remove()
    flat = values[0].flatten(1).double().numpy()
    return np.stack([flat.mean(1), flat.std(1), (flat == 0).mean(1), flat.max(1)], 1).astype(np.float32)


def _distances(usual: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How far values (picture, statistic) are from the middle of others, in how far 95 % of those are on that side."""
    low, middle, high = np.quantile(usual.astype(float), (0.05, 0.5, 0.95), axis=0)
    least = np.array([0.05 * middle[1], 0.05 * middle[1], 0.02, 0.5 * middle[1]])
    side = np.where(values >= middle, high - middle, middle - low)
    return np.asarray(np.abs(values - middle) / np.maximum(np.maximum(side, least), 1e-30))


def _by_hand(usual: np.ndarray, values: np.ndarray) -> float:
    """The share of pictures further in some statistic than each of the usual ones is from all others, and than 1."""
    rows = np.arange(len(usual))
    own = np.concatenate([_distances(usual[rows != row], usual[[row]]) for row in rows])
    return float((_distances(usual, values) > np.maximum(own.max(0), 1)).any(1).mean())


def test_a_card_says_which_number_of_a_layer_parts_most(prepared: Prepared, desk: SetDesk) -> None:
    stored(desk, prepared.path)
    found = shown(desk, layers=("conv1", "(model)"))
    known, own = (_profile(prepared.net, "conv1", each) for each in (prepared.known, prepared.pictures))
    middle, usual = np.median(own.astype(float), 0), np.median(known.astype(float), 0)
    far = _distances(known, middle[None])[0]
    which = int(far.argmax())
    name = ("mean", "standard deviation", "share of zeros", "largest value")[which]
    text = text_of(found["card-set 0"]["tree"])
    side = "above" if middle[which] >= usual[which] else "below"
    assert f"Furthest from {CALLED}: the {name}. Its median over the pictures is " in text
    assert f", {far[which]:.2g} spreads {side} it." in text
    told = part_of(own, known)
    assert told is not None and told[0] == which
    np.testing.assert_allclose(told[1:2] + told[3:], (far[which], middle[which], usual[which]), rtol=1e-6)


def test_the_statistic_that_parts_most_is_that_of_typical_pictures() -> None:
    rng = np.random.default_rng(0)
    usual = rng.normal(0, 1, (1000, 4)) + np.array([0, 10, 0.5, 20])
    usual[:, 2] = np.linspace(0.2, 0.8, 1000)
    values = usual[:101].copy() + np.array([0, 4, 0, 0])
    values[0] = np.inf  # which is left out
    which, far, above, middle, known = part_of(values, usual) or pytest.fail()
    assert (which, above) == (1, True) and known == pytest.approx(10, abs=0.1) and middle == pytest.approx(14, abs=0.3)
    assert far == pytest.approx(4 / 1.645, rel=0.15)  # in how far the 95 % quantile of a normal distribution is
    assert part_of(values, usual[:7]) is part_of(values[:1], usual) is None


# --- the setting


def test_a_baseline_is_of_any_model_that_is_offered(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(prepared.path)
    assert parse(["--baseline", path], {}).baseline == (("embedded", prepared.path.resolve()),)
    two = ["--model", "zoo:net", "--model", "new=torchvision:alexnet"]
    settings = parse([*two, "--baseline", f"new={path}"], {})
    assert dict(settings.baseline) == {"new": prepared.path.resolve()}
    assert options_for(settings)[1] == ModelOptions("torchvision:alexnet", "new", baseline=str(prepared.path.resolve()))
    for given, said in (
        ([*two, "--baseline", path], "--baseline could be meant for zoo:net or new"),
        (["--baseline", "nowhere.json"], "there is no such file (looked for "),
        (["--baseline", str(tmp_path)], "that is a folder, and a file is needed."),
    ):
        with pytest.raises(SystemExit) as ended:
            parse(given, {})
        assert ended.value.code == 2 and said in capsys.readouterr().err


# --- the whole application


@pytest.fixture(scope="module")
def application(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(prepared.folder))
        offered = ("--model", f"{MODEL}=digits_net:whole", "--images", f"line 4={prepared.folder / 'set'}")
        started = Application(tmp_path_factory.mktemp("cache"), *offered, "--baseline", f"{MODEL}={prepared.path}")
        yield started
        started.stop()


@pytest.mark.browser
def test_the_baseline_is_chosen_shared_and_saved(page: Page, application: Application, prepared: Prepared) -> None:
    open_page(page, application.url)
    page.click("nav.tabs button:has-text('Pictures')")
    page.click("[aria-label='Set of pictures'] button:has-text('line 4')")
    page.click("button:has-text('Look through it')")
    expect(page.locator(".sweep-state .sweep-line")).to_contain_text(f"{COUNT} of {COUNT}", timeout=60_000)
    page.click("button:has-text('Outliers')")
    head = page.locator("#set-outliers h2")
    expect(head).to_have_text(f"{COUNT} pictures, each against the others")
    choice = page.locator(f"[aria-label='A second set'] button:has-text('{CALLED}')")
    choice.click()
    expect(head).to_have_text(f"{COUNT} pictures against {CALLED}")
    assert f"set_b={STORED}" in page.url and str(prepared.folder) not in page.content()
    page.reload()
    expect(head).to_have_text(f"{COUNT} pictures against {CALLED}")
    with page.expect_download() as saving:
        page.click("#set-outliers a:has-text('CSV')")
    rows = list(csv.DictReader(io.StringIO(Path(saving.value.path()).read_text())))
    scores = prepared.baseline.score(prepared.net, prepared.pictures)
    assert len(rows) == COUNT and {each["against"] for each in rows} == {CALLED} and scores.energy is not None
    for each in rows:
        number = int(each["picture"].removesuffix(".png"))
        assert float(each["p of the furthest"]) == pytest.approx(scores.layers_p[number], rel=1e-5)
        assert float(each["energy"]) == pytest.approx(scores.energy[number], rel=1e-4)
    choice.click()
    expect(head).to_have_text(f"{COUNT} pictures, each against the others")
    page.go_back()
    expect(head).to_have_text(f"{COUNT} pictures against {CALLED}")
    page.click("#metric")
    page.click("[role=option]:has-text('beyond the baseline')")
    expect(page.locator("#metric-text")).to_contain_text("over line 4, against the stored baseline: bars from 0 to ")
    page.click("nav.tabs button:has-text('Layers')")
    row(page, "conv1").click()
    expect(page.locator(".over-set").first).to_contain_text(f"Furthest from {CALLED}: the ")


def test_a_file_that_is_not_there_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "app.py", "--port", "0", "--cache-dir", str(tmp_path), "--baseline", "nowhere.json"]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=limit(60.0))
    assert ended.returncode == 2
    assert ended.stderr.startswith("hookscope: --baseline is 'nowhere.json': there is no such file (looked for ")
