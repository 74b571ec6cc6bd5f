"""A view's program: in a process of its own, in the folder that it is unpacked to, it prints what the view shows."""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from checkout import ENVIRON
from digits_models import digits, file_of, write_module
from inline_app import InlineApp, served
from inline_engine import MODEL
from PIL import Image
from playwright.sync_api import Page, expect
from served import until
from set_desk import SetDesk
from tempo import limit

import hookscope as hs
from hookscope.dashboard.asking import questions
from hookscope.dashboard.asking.answers import Answer, Answers
from hookscope.dashboard.asking.layer_keys import ROOT_KEY
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.exports import script
from hookscope.dashboard.exports.script_code import file_named, is_path, target_code
from hookscope.dashboard.exports.script_pictures import picture_of
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.page import restoring, standing, wall_source
from hookscope.dashboard.page.distances import distances
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.card.cam import Maps
from hookscope.dashboard.panels.findings.asked import Asked, ask
from hookscope.dashboard.panels.pictures.going import measured
from hookscope.dashboard.panels.pictures.looked import look_at
from hookscope.dashboard.places import SAMPLES_FOLDER
from hookscope.dashboard.sets.embeddings import plane_of
from hookscope.dashboard.sets.outlying import outliers_from, outliers_of
from hookscope.dashboard.sets.store import key_of
from hookscope.dashboard.sets.stored import STORED, Baselines, Stored
from hookscope.dashboard.worker.in_thread import WorkerThread
from hookscope.hooks.methods import INPUTS, MAPS
from hookscope.hooks.results.information import information_over
from hookscope.hooks.results.parting import along_the_depth
from hookscope.hooks.results.targets import OWN, RIVAL, Against, Box, Class

NASTY = "a'b\"); print('owned'); #{x}\\ü"  # of a layer; a line's end is refused when a model is loaded
NASTY_FILE = "x'''\"\"\"\nprint('owned')\u202e{0}.png"
COUNT = 24
COFFEE = SAMPLES_FOLDER / "coffee.png"
MODELS = (
    ModelOptions("digits_net:whole", "digits"),
    ModelOptions("digits_net:rounded", "rounded"),
    ModelOptions("nasty_net:make", "nasty", arguments='{"settings": "/srv/secret/settings.json", "width": 6}'),
    ModelOptions("nasty_net:looks", "looks"),
)
NASTY_NET = f"""
    import torch
    from torch import nn

    HOW = {{"input_size": 16, "resize": 16, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}}

    def seeded(net):
        own = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * 0.3)
        return net.eval()

    def make(settings, width):
        net = nn.Sequential()
        net.add_module({NASTY!r}, nn.Conv2d(3, width, 3))
        net.add_module("act", nn.ReLU())
        net.add_module("pool", nn.AdaptiveAvgPool2d(1))
        net.add_module("flat", nn.Flatten())
        net.add_module("head", nn.Linear(width, 4))
        return seeded(net), HOW | {{"classes": ["a", "b", "print('owned')", {NASTY!r}]}}

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 4, stride=4)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)
            self.spare = nn.Linear(8, 3)  # which nothing calls: a finding

        def forward(self, picture):
            tokens = self.patch(picture).flatten(2).transpose(1, 2)
            found, _ = self.attend(tokens, tokens, tokens)
            return self.head(found.mean(1))

    def looks():
        return seeded(Looks()), HOW
"""
RUN = """
import contextlib, io, json, os, runpy, sys
sys.path.insert(0, os.getcwd())
found = {}
for name in json.loads(sys.argv[1]):
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), name))
    said = io.StringIO()
    sys.argv = ["view.py", "../set", "../other"]
    with contextlib.redirect_stdout(said):
        runpy.run_path("view.py", run_name="__main__")
    found[name] = said.getvalue()
    os.chdir("..")
print(json.dumps(found))
"""


@dataclass
class Views:
    """Views, the programs of which are unpacked each into a folder of its own, and what they print."""

    desk: SetDesk
    folder: Path
    scenes: dict[str, Scene] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, **view: Any) -> None:
        chosen = View().but(**{"model": "digits", **view})
        self.desk.draw(chosen)
        scene = replace(self.desk.scene(chosen), offered=tuple(f"{each.name}={each.spec}" for each in MODELS[:2]))
        self.scenes[name] = scene
        (self.folder / name).mkdir()
        with zipfile.ZipFile(io.BytesIO(script.zipped(scene))) as archive:
            assert all("/" not in each and "\\" not in each for each in archive.namelist())
            archive.extractall(self.folder / name)

    def text(self, name: str) -> str:
        return (self.folder / name / script.PROGRAM).read_text(encoding="utf-8")

    def run(self) -> None:
        program = self.folder / "run.py"
        program.write_text(RUN)
        command = [sys.executable, str(program), json.dumps(list(self.scenes))]
        ran = subprocess.run(command, cwd=self.folder, env=ENVIRON, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        self.printed = json.loads(ran.stdout.splitlines()[-1])

    def answer(self, name: str, unit: Unit) -> Any:
        found = self.desk.service.value(unit)
        assert found is not None, unit
        return found

    def number(self, name: str, begin: str, what: str = "") -> float:
        """The number behind a name, of the only line that begins so."""
        lines = [line for line in self.printed[name].splitlines() if line.startswith(begin)]
        assert len(lines) == 1, (begin, lines)
        rest = lines[0][len(begin) :]
        found = re.search(rf"{re.escape(what)}[ :,]*(-?[0-9.]+(?:e[-+]?[0-9]+)?|nan)", rest)
        assert found, (what, rest)
        return float(found[1])

    def matches(self, name: str, begin: str, values: Mapping[str, float], rel: float = 2e-5) -> None:
        for what, value in values.items():
            assert self.number(name, begin, what) == pytest.approx(value, rel=rel, abs=2e-6, nan_ok=True), (begin, what)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """Every kind of view, written by the page's own code and run in one process."""
    folder = tmp_path_factory.mktemp("programs")
    write_module(folder)
    (folder / "nasty_net.py").write_text(textwrap.dedent(NASTY_NET))
    all_pictures, all_classes = digits()
    (folder / "other").mkdir()
    for number in range(COUNT, 2 * COUNT):
        file_of(all_pictures[number] / 2, folder / "other" / f"{number}.png")
    pictures, classes = all_pictures[:COUNT], all_classes[:COUNT].clone()
    classes[3] = 9 - classes[3]  # a picture that lies in another class's folder
    for number, (picture, index) in enumerate(zip(pictures, classes.tolist(), strict=True)):
        place = folder / "set" / str(index)
        place.mkdir(parents=True, exist_ok=True)
        file_of(picture, place / f"{number:02}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.chdir(folder)
        model = hs.open_model("digits_net:whole", device="cpu")
        hs.Baseline.fit(model.module, model.folder(folder / "other")).save(folder / "line.json")
        models = (replace(MODELS[0], baseline=str(folder / "line.json")), *MODELS[1:])
        engine = LocalEngine(models, device="cpu", start_worker=WorkerThread)
        desk = SetDesk(engine, {"line 4": folder / "set", "line 5": folder / "other"}, folder / "desk")
        desk.sweeps.baselines = Baselines({"digits": folder / "line.json"})
        try:
            for each in MODELS:
                engine.open(each.name)
                until(lambda each=each: engine.state(each.name).phase == "ready", limit(60.0))
            desk.swept("line 4", "digits")
            desk.swept("line 5", "digits")
            found = Views(desk, folder)
            _fill(found)
            found.run()
            yield found
        finally:
            desk.close()
            engine.close()


def _upload(desk: SetDesk, data: bytes, name: str) -> str:
    return desk.inputs.receive(io.BytesIO(data), None, name).key


def _fill(views: Views) -> None:
    desk = views.desk
    files = sorted((views.folder / "set").rglob("*.png"))
    one, two = (_upload(desk, files[number].read_bytes(), f"digit-{number}.png") for number in (0, 7))
    both = {"a": one, "b": two}
    edits = {"edits_a": "conv2~5~0~relu1~~1.5~conv3~2~mean"}
    layers = ["conv2", "relu3", "fc"]
    views.add("plain", a=one, layers=["conv3"])
    cards = dict(
        layers=layers, weights=True, attributions=True, detail="conv2", channel=11, metric="entropy", models=True
    )
    views.add("cards", **both, **edits, **cards, target="3", against="next", maps="layercam", rank="variance")
    views.add("strongest", **both, layers=["conv2"], rank="strongest", prepare_b="bgr,unit", target="4", against="7")
    views.add("difference", **both, layers=["conv3"], rank="difference", maps="scorecam", metric="gradient")
    views.add("class", **both, layers=["conv2"], rank="class", maps="gradcam++", target="1")
    views.add("effect", a=one, layers=["conv1"], rank="effect", side="a")
    views.add("restored", **both, layers=["conv2"], rank="back")
    views.add("gradients", **both, **edits, tab="depth")
    views.add("apart", **both, **edits, tab="depth", depth="apart")
    back = {"tab": "depth", "depth": "back", "layers": ["conv2"]}
    views.add("back", **both, **edits, **back, edits_b="conv1~1~2", back_by="channels")
    views.add("places", **both, **back, back_by="positions", back_into="a")
    views.add("two models", a=one, b=one, model_b="rounded", layers=["conv3"], metric="apart", likeness=True)
    looks = {"model": "looks", "a": one, "layers": ["attend", "patch"]}
    views.add("attention", **looks)
    of_set = {"set_a": key_of("line 4"), "tab": "pictures"}
    views.add("of a set", **of_set, layers=["relu2"])
    views.add("outliers", **of_set, set_page="outliers", outliers_by="energy")
    other = {"set_b": key_of("line 5")}
    views.add("gap", **of_set, **other)
    views.add("against", **of_set, **other, set_page="outliers")
    views.add("stored", **of_set, set_b=STORED, set_page="outliers", outliers_by="layers")
    for each in (views.folder / "line.json", *views.folder.glob("baseline-*.safetensors")):
        shutil.copy(each, views.folder / "stored")
    views.add("unlike", **of_set, set_page="outliers", outliers_by="layers")
    views.add("map", **of_set, set_page="map", layers=["relu3"])
    views.add("information", **of_set, set_page="information")
    views.add("pruning", **of_set, set_page="could-go", layers=["conv2"], prune=True, prune_by="gate")
    views.add("findings", model="looks", set_a=key_of("line 4"), tab="findings")
    views.add("reference", model="looks", tab="findings")
    grey = np.random.default_rng(0).integers(200, 3000, (24, 30), np.uint16)
    held = io.BytesIO()
    Image.fromarray(grey).save(held, "PNG")
    exact = _upload(desk, held.getvalue(), "deep.png")
    array = io.BytesIO()
    np.save(array, np.random.default_rng(1).random((3, 12, 14)).astype(np.float32))
    floats = _upload(desk, array.getvalue(), "floats.npy")
    views.add("exact", a=exact, b=floats, layers=["conv1"], prepare_a="spread")
    nasty = _upload(desk, files[2].read_bytes(), NASTY_FILE)
    nasty_edits = f"{NASTY.replace('%', '%25')}~1~0.5"
    views.add("nasty", model="nasty", a=nasty, layers=[NASTY, "act"], edits_a=nasty_edits, weights=True, rank="mean")


# --- layers


def cards_match(views: Views, name: str, key: str) -> None:
    """Every side's numbers of a layer are those of its card."""
    scene = views.scenes[name]
    units = scene.of_layer(questions.ActivationOf, key)
    assert units
    for side, unit in units.items():
        found = views.answer(name, unit).statistics
        names = ("mean", "std", "min", "max", "zeros", "nan", "inf")
        views.matches(name, f"{side.upper()} {key}: ", {each: float(getattr(found, each)) for each in names})


def channels_of(views: Views, name: str, begin: str) -> list[int]:
    return [int(each) for each in re.findall(rf"^{re.escape(begin)} channel (\d+):", views.printed[name], re.M)]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("plain", ["conv3"]),
        ("cards", ["conv2", "relu3", "fc"]),
        ("strongest", ["conv2"]),
        ("two models", ["conv3"]),
        ("attention", ["attend", "patch"]),
        ("exact", ["conv1"]),
        ("nasty", [NASTY, "act"]),
    ],
)
def test_a_cards_numbers_are_the_pages(views: Views, name: str, keys: list[str]) -> None:
    for key in keys:
        cards_match(views, name, key)


def test_edits_change_them_and_are_in_the_program(views: Views) -> None:
    plain = views.desk.service.value(views.scenes["strongest"].of_layer(questions.ActivationOf, "conv2")["a"])
    edited = views.number("cards", "A conv2: ", "mean")
    assert plain is not None and abs(plain.statistics.mean - edited) > 1e-3
    for line in ("hs.mute('conv2', 5, call=0)", "hs.scale('relu1', None, 1.5, call=0)", "hs.level('conv3', 2, call=0)"):
        assert line in views.text("cards")


@pytest.mark.parametrize(
    ("name", "key"), [("cards", "conv2"), ("strongest", "conv2"), ("difference", "conv3"), ("class", "conv2"),
                      ("effect", "conv1"), ("restored", "conv2"), ("nasty", "act")]
)  # fmt: skip
def test_channels_stand_in_the_walls_order(views: Views, name: str, key: str) -> None:
    scene = views.scenes[name]
    units = scene.of_layer(questions.ActivationOf, key)
    there = {side: views.answer(name, unit) for side, unit in units.items()}
    ranked, restored = wall_source.ranked_units(scene, key), restoring.unit_of(scene, key)
    asked = [*ranked.values(), *([restored] if restored else [])]
    answers = {unit: Answer(views.answer(name, unit), cached=True) for unit in asked}
    told = standing.standing(Answers(answers), ranked, restoring.ranking_unit(scene, restored))
    reading = scene.readings.get(scene.walls, there, told)
    expected = reading.order[:8].tolist()
    extra = [scene.view.channel] if scene.view.detail == key else []
    for side in units:
        shown = channels_of(views, name, f"{side.upper()} {key}")
        assert shown == expected + extra
        for channel in shown[:3]:
            numbers = reading.numbers[side]
            lines = {each: float(numbers[each][channel]) for each in ("mean", "std", "max", "zeros")}
            if channel not in extra or shown.count(channel) == 1:
                views.matches(name, f"{side.upper()} {key} channel {channel}: ", lines)


def test_what_models_answer(views: Views) -> None:
    for name in ("plain", "cards", "strongest", "nasty", "exact"):
        scene = views.scenes[name]
        for side in scene.inputs:
            scores = views.answer(name, scene.prediction(side)).scores
            best = int(np.argmax(scores.shares))
            text = f"{side.upper()} answers {scene.class_name(side, best)}: "
            assert views.number(name, text) == pytest.approx(float(scores.shares[best]), rel=2e-5)
    assert "rounded answers" in views.printed["cards"], "all models on this picture"


@pytest.mark.parametrize("name", ["plain", "cards", "strongest", "difference", "class", "nasty"])
def test_maps(views: Views, name: str) -> None:
    scene = views.scenes[name]
    method = scene.view.of(Maps).maps
    seen = 0
    for key in filter(None, scene.view.layers):
        for side, unit in scene.of_layer(questions.ClassMap, key, explained=True, method=method).items():
            found = views.desk.service.value(unit)
            if not hasattr(found, "values"):
                continue
            seen += 1
            begin = f"{MAPS[method].title} of {side.upper()} {key}: "
            expected = {"explains": found.logit, "sum": float(found.values.sum()), "max": float(found.values.max())}
            views.matches(name, begin, expected, rel=2e-4)
    assert seen


def test_attributions_attention_weights_and_a_number_of_every_layer(views: Views) -> None:
    scene = views.scenes["cards"]
    for side in scene.inputs:
        for method, row in INPUTS.items():
            found = views.answer("cards", scene.unit(side, questions.InputMap(method, scene.target(side))))
            end = np.quantile(np.abs(found.values), 0.99)  # of this picture there is one frame
            expected = {"explains": found.logit, "sum": float(found.values.sum()), "page's scale ends,": float(end)}
            views.matches("cards", f"{row.title} of {side.upper()}: ", expected, rel=2e-3)
    looks = views.scenes["attention"]
    heads = views.answer("attention", looks.of_layer(questions.AttentionOf, "attend")["a"])
    for head, entropy in enumerate(heads.entropy):
        views.matches("attention", f"A attend head {head}: ", {"entropy": float(entropy)})
    (weight,) = [
        each
        for each in views.answer("cards", scene.unit("a", questions.WeightsOf("conv2"))).parameters
        if each.name == "weight"
    ]
    views.matches("cards", "A conv2 weight: ", {"mean": weight.statistics.mean, "std": weight.statistics.std})
    survey = views.answer("cards", scene.unit("a", questions.SurveyOf(None)))
    for call in survey.calls:
        views.matches("cards", f"entropy of {call.layer or ROOT_KEY} call {call.call}: ", {"": call["entropy"]})
    sloped = views.scenes["difference"]
    survey = views.answer("difference", sloped.unit("a", questions.SurveyOf(sloped.target("a"))))
    assert any(call["gradient"] > 0 for call in survey.calls)
    for call in survey.calls:
        views.matches(
            "difference",
            f"gradient norm of {call.layer or ROOT_KEY} call {call.call}: ",
            {"": call["gradient"]},
            rel=1e-3,
        )


# --- along the depth


def test_gradients_a_against_b_and_what_comes_back(views: Views) -> None:
    scene = views.scenes["gradients"]
    for side in scene.inputs:
        found = views.answer("gradients", scene.unit(side, questions.GradientsOf(scene.target(side))))
        assert len(found.layers) == 4
        for each in found.layers:
            views.matches("gradients", f"{side.upper()} {each.layer} call {each.call}: ", {"rms": each.rms}, rel=1e-4)
    for name in ("apart", "two models"):
        units = distances(views.scenes[name])
        found = views.answer(name, units["parting"])
        usual = views.answer(name, units["usual"]) if "usual" in units else None
        values = along_the_depth(found, usual)
        assert any(value > 0 for value in values.values())
        for each in found.steps:
            views.matches(
                name, f"apart at {each.layer or ROOT_KEY} call {each.call}: ", {"": values[each.place]}, rel=1e-3
            )
    scene = views.scenes["back"]
    asked = questions.RestoredOf(scene.answering("b"), scene.target("a"), scene.target("b"))
    restored = views.answer("back", scene.unit("a", asked))
    assert restored.done == restored.total > 3
    for layer in restored.layers:
        begin = f"back at {layer.layer or ROOT_KEY} call {layer.call}: "
        views.matches("back", begin, {"whole": layer.whole, "estimate": layer.estimate}, rel=1e-3)
    both = scene.target("a"), scene.target("b")
    asked_of = questions.RestoredPartsOf(scene.answering("b"), "conv2", "channels", *both)
    parts = views.answer("back", scene.unit("a", asked_of))
    for channel in parts.strongest[:12]:
        views.matches("back", f"back with conv2 channel {channel} ", {"": float(parts.exact[channel])}, rel=1e-3)
    places = [line for line in views.printed["places"].splitlines() if line.startswith("back by place")]
    scene = views.scenes["places"]
    asked_of = questions.RestoredPartsOf(
        scene.answering("a"), "conv2", "positions", scene.target("b"), scene.target("a")
    )
    exact = views.answer("places", scene.unit("b", asked_of)).exact
    assert np.allclose([[float(each) for each in line.split()[3:]] for line in places], exact, rtol=1e-3, atol=1e-5)
    assert "most like" in views.printed["two models"]


# --- sets


def test_sets(views: Views) -> None:
    desk, model = views.desk, "digits"
    looked = look_at(views.scenes["of a set"])
    assert not isinstance(looked, str) and looked.found is not None and looked.answers is not None
    assert views.number("of a set", "pictures: ") == COUNT
    assert views.number("of a set", "accuracy: ") == pytest.approx(looked.answers.accuracy)
    assert views.printed["of a set"].count("wrong: ") == min(len(looked.answers.mistakes()), 24) > 0
    summary = looked.found.summary("relu2")
    views.matches(
        "of a set", "relu2 never fires in ", {"": float((summary.fired == 0).sum()), "mean": summary.statistics.mean}
    )
    pictures = looked.pictures
    told = until_known(lambda: outliers_of(desk.sweeps, pictures, pictures, model, 1.0))
    for name, by in (("outliers", "energy"), ("unlike", "layers")):
        standing = told.scores.of(by)
        assert standing is not None
        for row in np.argsort(-standing.values)[:5].tolist():
            place = pictures.members[int(told.scores.pictures[row])].place
            views.matches(name, f"unlike: {place} ", {"": float(standing.values[row])}, rel=1e-3)
    plane = plane_of(desk.sweeps, pictures, model, "relu3", "pca", 5.0)
    assert plane is not None and not isinstance(plane, str)
    for number, (x, y) in zip(plane.pictures.tolist(), plane.embedding.points, strict=True):
        line = next(
            each
            for each in views.printed["map"].splitlines()
            if each.startswith(f"point: {pictures.members[number].place} ")
        )
        assert [float(each) for each in line.split()[-2:]] == pytest.approx([float(x), float(y)], rel=1e-3, abs=1e-3)
    for step in information_over(looked.found):
        expected = {"effective rank": step.effective_rank, "entropy": step.entropy}
        views.matches("information", f"{step.layer} call {step.call}: ", expected, rel=1e-3)


def test_a_set_against_another_and_against_a_stored_baseline(views: Views) -> None:
    desk, model = views.desk, "digits"
    one, other = desk.set("line 4"), desk.set("line 5")
    gaps = until_known(lambda: desk.sweeps.gaps(one, other, model))
    assert len(gaps) > 5
    for gap in gaps:
        views.matches("gap", f"gap at {gap.layer} call {gap.call}: ", {"": gap.effect}, rel=1e-3)
    stored = desk.sweeps.baselines.about(model)
    assert isinstance(stored, Stored)
    against = until_known(lambda: outliers_of(desk.sweeps, one, other, model, 1.0))
    held = until_known(lambda: outliers_from(desk.sweeps, one, stored, model, 1.0))
    for name, found, by in (("against", against, "neighbours"), ("stored", held, "layers")):
        standing = found.scores.of(by)
        for row in np.argsort(-standing.values)[:8].tolist():
            place = one.members[int(found.scores.pictures[row])].place
            views.matches(name, f"unlike: {place} ", {"": float(standing.values[row])}, rel=1e-3)
    assert "# Put beside it: line.json and the .safetensors" in views.text("stored")


def until_known(ask: Callable[[], Any]) -> Any:
    """What is computed beside the requests."""
    found: list[Any] = []

    def known() -> bool:
        found[:] = [ask()]
        return found[0] is not None

    until(known, limit(30.0))
    assert not isinstance(found[0], str), found[0]
    return found[0]


def test_what_could_go(views: Views) -> None:
    looked = look_at(views.scenes["pruning"])
    assert not isinstance(looked, str)
    found = views.answer("pruning", measured(looked, "conv2", 3)).curve
    assert found.pictures == COUNT
    for count, agreement in zip(found.counts.tolist(), found.agreement.tolist(), strict=True):
        views.matches("pruning", f"conv2 without {count} channels ", {"agrees": agreement})
    assert views.number("pruning", "can go: ") == found.removable(0.01).count


def test_findings(views: Views) -> None:
    known = 0
    for name in ("findings", "reference"):
        asked = ask(views.scenes[name])
        assert isinstance(asked, Asked)
        found = views.answer(name, asked.unit)
        expected = [f"{each.severity}: {each.rule}: {each.sentence}" for each in found.findings]
        lines = views.printed[name].splitlines()
        assert [line for line in lines if re.match(r"(error|warning|note): [a-z-]+: ", line)] == expected
        known += len(expected)
        assert ("Nothing was found." in lines) == (not expected)
        assert [line for line in lines if re.match(r"(ok|found|skipped): [a-z-]+: .", line)] == [
            f"{each.status}: {each.rule}: {each.why}" for each in found.checked
        ]
    assert known > 1


# --- what it is as a file


def test_it_runs_by_itself_where_it_was_unpacked(views: Views, tmp_path: Path) -> None:
    shutil.copytree(views.folder / "plain", tmp_path / "here")
    for name in ("digits_net.py", "digits.pt"):  # "Put beside it"
        shutil.copy(views.folder / name, tmp_path / "here")
    assert "# Put beside it: your own code that makes the model, digits_net.py." in views.text("plain")
    ran = subprocess.run(
        [sys.executable, "view.py"], cwd=tmp_path / "here", env=ENVIRON, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout == views.printed["plain"]


def test_no_part_of_any_dies(views: Views) -> None:
    for name, printed in views.printed.items():
        assert not re.findall(r"^\w+(?:Error|Iteration): .*|^It needs .*", printed, re.M), name


def test_no_path_of_the_server_and_no_key_is_in_any(views: Views) -> None:
    for name, scene in views.scenes.items():
        text = views.text(name)
        ast.parse(text)
        for secret in (str(views.folder), "/srv", "/tmp", *(given.key for given in scene.inputs.values())):
            assert secret not in text, (name, secret)
        assert not any(given.digest[:16] in text for given in scene.inputs.values())
    assert "arguments={'settings': 'settings.json', 'width': 6}" in views.text("nasty")
    assert "# Put beside it: settings.json, which the model's code reads." in views.text("nasty")


def test_names_are_names_and_no_code(views: Views) -> None:
    assert "owned" not in [line.strip() for line in views.printed["nasty"].splitlines()]
    tree = ast.parse(views.text("nasty"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node).startswith("print('ow")
    ]
    assert not calls, "a name became a call"
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert NASTY in texts, "the layer is asked for by its own name"
    assert "\u202e" not in views.text("nasty") and "\n" not in NASTY
    (picture,) = [each for each in (views.folder / "nasty").iterdir() if each.suffix == ".png"]
    assert re.fullmatch(r"a-[\w.-]+\.png", picture.name)


def test_what_is_not_reproduced_is_said(views: Views) -> None:
    assert "# Not reproduced: Which pictures are drawn" in views.text("map")
    scene = replace(
        views.scenes["plain"], view=views.scenes["plain"].view.but(metric="set-dead", tab="layers", layers=[])
    )
    found = script.written(scene)
    assert found is not None and found.notes == [
        "The tree's bars over a set: the tab Pictures has a program of that set."
    ]


def test_models_that_lie_somewhere_or_nowhere_are_named_without_the_place(views: Views) -> None:
    scene, secret = views.scenes["plain"], "/srv/secret"
    asked = {
        "hf": (ModelOptions(f"hf:{secret}/vit"), "hs.open_model('hf:vit')"),
        "weights": (
            ModelOptions(
                "torchvision:resnet18", weights=f"{secret}/mine.pt#ema", labels=f"{secret}/names.txt", mean=(0.5,)
            ),
            "hs.open_model('torchvision:resnet18', weights='mine.pt#ema', labels='names.txt', mean=(0.5,))",
        ),
        "handed": (ModelOptions("hookscope.dashboard.notebook.handed:model_1"), "hs.open_model('my_module:make')"),
    }
    for options, line in asked.values():
        engine = SimpleNamespace(options=lambda name, options=options: options)
        written = script.Script(replace(scene, service=SimpleNamespace(engine=engine, inputs=views.desk.inputs)))
        written.opened("digits", "model")
        text = written.text([])
        assert line in text and secret not in text and "# Put beside it: " in text
    named = f"{secret}/line 4"
    assert file_named(named) == "line 4"


def test_targets_and_paths_as_they_are_written() -> None:
    targets = {
        OWN: "None",
        Class(5): "5",
        Box(2): "hs.Box(2)",
        Box(2, "keypoint", 5): "hs.Box(2, 'keypoint', 5)",
        Against(): "hs.Against()",
        Against(Class(5), Class(7)): "hs.Against(5, 7)",
        Against(other=Class(7)): "hs.Against(other=7)",
        Against(Box(1), RIVAL): "hs.Against(hs.Box(1))",
    }
    for target, text in targets.items():
        assert target_code(target) == text
        read = eval(text, {"hs": hs})
        if not isinstance(target, type(OWN)) and not isinstance(target, Class):
            plain = {int: Class}
            parts = [plain.get(type(each), lambda kept: kept)(each) for each in (getattr(read, "target", read),)]
            assert parts[0] == getattr(target, "target", target)
    assert all(map(is_path, ("/srv/x", "~/x", "./x", "C:\\x", "../x.pt#ema", "\\\\host\\x")))
    assert not any(map(is_path, ("resnet18", "google/vit-base-nowhere", "x.pt")))
    assert file_named("/srv/nets/mine.pt#ema") == "mine.pt#ema" and file_named("C:\\nets\\mine.pt") == "mine.pt"


# --- from the page


def test_the_page_is_told_where_it_is_and_what_is_beside_it(tmp_path: Path) -> None:
    app = InlineApp(tmp_path)
    try:
        view = View().but(model=MODEL, a="sample-coffee", layers=["conv"], metric="set-dead")
        answer = app.client.post("/script", json=view.to_dict())
        told = answer.get_json()
        assert answer.status_code == 200 and told["name"] == "hookscope-coffee.zip"
        assert told["left_out"] == ["The tree's bars over a set: the tab Pictures has a program of that set."]
        found = app.client.get(told["path"])
        assert found.mimetype == "application/zip" and "hookscope-coffee.zip" in found.headers["Content-Disposition"]
        with zipfile.ZipFile(io.BytesIO(found.data)) as archive:
            assert archive.namelist() == ["view.py", "a-coffee.png"]
            with Image.open(io.BytesIO(archive.read("a-coffee.png"))) as picture, Image.open(COFFEE) as own:
                assert np.array_equal(np.asarray(picture), np.asarray(own.convert("RGB")))
        again = app.client.get(app.client.post("/script", json=view.to_dict()).get_json()["path"])
        assert again.data == found.data, "the same view is the same file"
        nothing = app.client.post("/script", json=View(model=MODEL).to_dict())
        assert nothing.status_code == 409 and "choose a picture" in nothing.get_data(as_text=True)
        options = ModelOptions("nets:make", MODEL, weights="/srv/step-90.pt", labels="/srv/digits.txt")
        app.engine.options = lambda model: options  # type: ignore[method-assign]
        beside = app.client.post("/script", json=view.but(channel=2).to_dict()).get_json()["beside"]
        assert beside == [
            "your own code that makes the model, nets.py.",
            "step-90.pt, the model's weights.",
            "digits.txt, the model's labels.",
        ], "the page says what the program's own comments say"
        two = view.but(b="sample-cat", model_b="other")
        assert app.client.post("/script", json=two.to_dict()).get_json()["left_out"][0] == (
            "B is left out, because its model, other, was not loaded yet: save it again once it is."
        )
        engine, (info,) = app.engine, app.engine.infos.values()
        engine.infos, engine.phase = {}, "loading"  # as after a restart of the server: nothing has asked for it yet
        engine.open = lambda model: engine.infos.setdefault(model, info)  # type: ignore[method-assign,assignment]
        assert app.client.post("/script", json=view.to_dict()).status_code == 200
        unknown = app.client.post("/script", json=View(model="other").to_dict())
        assert unknown.status_code == 409 and "not loaded" in unknown.get_data(as_text=True)
        assert app.client.post("/script", data="[" * 100_000, content_type="application/json").status_code in (400, 409)
        elsewhere = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
        assert app.client.post("/script", json=view.to_dict(), headers=elsewhere).status_code == 403
    finally:
        app.close()


def test_its_button_saves_it(tmp_path: Path, page: Page) -> None:
    app = InlineApp(tmp_path)
    try:
        with served(app) as port:
            page.goto(f"http://127.0.0.1:{port}/?a=sample-coffee&layer=conv&metric=set-dead")
            page.locator(".card:not([hidden]) .statistics").first.wait_for()
            page.click("#script")
            expect(page.locator("#share-link")).to_contain_text("Not in it: The tree's bars over a set")
            with page.expect_download() as download:
                page.click("#share-link a")
            assert download.value.suggested_filename == "hookscope-coffee.zip"
            with zipfile.ZipFile(download.value.path()) as archive:
                assert "hs.capture(model.module, ['conv']" in archive.read("view.py").decode()
            page.keyboard.press("Escape")
            page.set_viewport_size({"width": 1024, "height": 800})
            expect(page.locator("#script")).to_be_hidden()
            page.click("#share")
            page.click("#share-link [data-do=script]")
            expect(page.locator("#share-link a")).to_have_text("Save hookscope-coffee.zip")
            page.goto("about:blank")  # before the server ends, which a page that is open would say
    finally:
        app.close()


# --- pictures as files


def _written_again(
    store: InputStore, data: bytes, name: str
) -> tuple[Exact | None, Exact | None, np.ndarray, np.ndarray]:
    """What a picture stands for, and its pixels, as they were and after they were saved and read once more."""
    given = store.receive(io.BytesIO(data), None, name)
    scene: Any = SimpleNamespace(inputs={"a": given}, service=SimpleNamespace(inputs=store))
    saved = picture_of(scene, "a")
    again = store.receive(io.BytesIO(saved.draw()), None, saved.file_name)
    before, after = store.pixels(given.digest), store.pixels(again.digest)
    return rows.exact(before), rows.exact(after), np.asarray(rows.picture(before)), np.asarray(rows.picture(after))


def test_a_saved_picture_is_read_as_the_same(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    store = InputStore(tmp_path, 2**26)

    def saved(kind: str, first: Image.Image, *others: Image.Image) -> bytes:
        file = io.BytesIO()
        first.save(file, kind, **({"save_all": True, "append_images": list(others)} if others else {}))
        return file.getvalue()

    def array(values: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, values)
        return file.getvalue()

    frames = [Image.fromarray(draw.integers(0, 256, (12, 10, 3), np.uint8)) for _ in range(3)]
    try:
        for name, data in {
            "photo.jpg": saved("JPEG", frames[0]),
            "clip.png": saved("PNG", frames[0], frames[1], frames[2]),
            "deep.png": saved("PNG", Image.fromarray(draw.integers(9, 3000, (20, 30), np.uint16))),
            "signed.npy": array(draw.integers(-500, 500, (40, 30, 5), np.int16)),
            "either.npy": array(draw.random((4, 6, 3)).astype(np.float32)),
            "bytes.npy": array(draw.integers(0, 256, (24, 20, 4), np.uint8)),
        }.items():
            before, after, shown, again = _written_again(store, data, name)
            assert (before is None) == (after is None) and np.array_equal(shown, again), name
            if before is not None and after is not None:
                assert (before.frames, before.either) == (after.frames, after.either), name
                one, other = ((each.values - each.low) / (each.high - each.low) for each in (before, after))
                assert one.shape == other.shape and np.allclose(one, other, atol=1e-7), name
        assert rows.exact(store.pixels(store.receive(io.BytesIO(saved("PNG", *frames)), None, "c").digest)).frames == 3
    finally:
        store.close()
