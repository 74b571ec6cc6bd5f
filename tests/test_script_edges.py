"""A view's program where sides, models and answers do not go together: each part says what is so, and costs itself."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from made_feeds import begin, bins, groups, line, write_bins
from PIL import Image
from served import until
from set_desk import SetDesk
from tempo import limit

from hookscope.dashboard.asking import questions
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.exports import script
from hookscope.dashboard.exports.script_code import Script
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.page.distances import distances
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.sets.store import key_of
from hookscope.dashboard.worker.in_thread import WorkerThread
from hookscope.hooks.results.parting import along_the_depth

NETS = """
    from collections import OrderedDict

    import torch
    from torch import nn

    HOW = {"input_size": 16, "resize": 16, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    BROKEN = []  # names of those that cannot be made any more


    def seeded(net, name, **more):
        if name in BROKEN:
            raise RuntimeError(f"no {name}")
        own = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * 0.3)
        return net.eval(), HOW | more


    def line_of(channels, *names):
        parts = [nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, channels, 3), nn.ReLU()]
        parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]
        return nn.Sequential(OrderedDict(zip(names, parts)))


    def narrow():
        return seeded(line_of(5, "one", "one_act", "two", "two_act", "pool", "flat", "fc"), "narrow")


    def wide():
        return seeded(line_of(12, "stem", "stem_act", "body", "body_act", "mean", "rows", "head"), "wide")


    class Rows(nn.Module):  # whose answer is of no form that is known
        def __init__(self):
            super().__init__()
            self.conv, self.mix = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 6)

        def forward(self, picture):
            return self.mix(self.conv(picture).flatten(2).transpose(1, 2))


    class Embeds(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3)

        def forward(self, picture):
            return nn.functional.normalize(self.conv(picture).relu().mean((2, 3)), dim=1)


    class Unknown(Embeds):  # whose answer is NaN
        def forward(self, picture):
            return self.conv(picture).mean((2, 3))[:, :4] * torch.nan


    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.attend = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, picture):
            maps = self.conv(picture)
            tokens = maps.flatten(2).transpose(1, 2)
            return self.attend(tokens, tokens, tokens)[0].transpose(1, 2).reshape(maps.shape)


    class Boxes(Embeds):
        def forward(self, picture):
            size = self.conv(picture).relu().mean() + 4
            boxes = torch.stack([size * 0, size * 0, size, size])[None]
            return [{"boxes": boxes, "labels": torch.tensor([1]), "scores": (size / 10)[None]}]


    class Fixed(nn.Module):  # which fails itself at any other size
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 14 * 14, 3)

        def forward(self, picture):
            return self.fc(self.conv(picture).flatten(1))


    class Pair(Embeds):
        def forward(self, left, right):
            return (self.conv(left) - self.conv(right)).relu().mean((2, 3))[:, :5]


    def rows():
        return seeded(Rows(), "rows")


    def embeds():
        return seeded(Embeds(), "embeds")


    def unknown():
        return seeded(Unknown(), "unknown")


    def features():
        return seeded(Features(), "features")


    def boxes():
        return seeded(Boxes(), "boxes")


    def fixed():
        return seeded(Fixed(), "fixed")


    def pair():
        return seeded(Pair(), "pair")


    def gone():
        return seeded(nn.Identity(), "gone")
"""
NAMES = ("narrow", "wide", "rows", "embeds", "unknown", "features", "boxes", "fixed", "pair")
READS = {"features": "values"}
MODELS = tuple(ModelOptions(f"edge_nets:{name}", name, reads=READS.get(name, "")) for name in (*NAMES, "gone"))


@dataclass
class Edges:
    """Models that do not go together, and two pictures."""

    desk: SetDesk
    nets: ModuleType
    folder: Path
    a: str
    b: str

    def scene(self, model: str = "narrow", *, drawn: bool = False, **view: Any) -> Scene:
        """A scene; drawn for what is asked of its answers afterwards."""
        chosen = View().but(model=model, **view)
        if drawn:
            self.desk.draw(chosen)
        return replace(self.desk.scene(chosen), offered=tuple(f"{each.name}={each.spec}" for each in MODELS))

    def printed(self, scene: Scene, *arguments: str) -> list[str]:
        """What its program prints, which warns of nothing."""
        folder = self.folder / f"program-{len(list(self.folder.iterdir()))}"
        with zipfile.ZipFile(io.BytesIO(script.zipped(scene))) as archive:
            archive.extractall(folder)
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["view.py", *arguments])
            runpy.run_path("view.py", run_name="__main__")
        return said.getvalue().splitlines()


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edges]:
    folder = tmp_path_factory.mktemp("edges")
    (folder / "edge_nets.py").write_text(textwrap.dedent(NETS))
    draw = np.random.default_rng(0)
    (folder / "set").mkdir()
    keys = []
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        engine = LocalEngine(MODELS, device="cpu", start_worker=WorkerThread)
        desk = SetDesk(engine, {"set": folder / "set"}, folder / "desk")
        desk.service.feeds = Feeds({"run": _feed(folder / "run")})
        try:
            for name in ("a.png", "b.png"):
                file = folder / "set" / name
                Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(file)
                keys.append(desk.inputs.receive(io.BytesIO(file.read_bytes()), None, name).key)
            for name in NAMES:
                engine.open(name)
                until(lambda name=name: engine.state(name).phase in ("ready", "failed"), limit(60.0))
                assert engine.state(name).phase == "ready", (name, engine.state(name).sentence)
            nets = sys.modules["edge_nets"]
            nets.BROKEN.append("gone")
            yield Edges(desk, nets, folder, *keys)
        finally:
            desk.close()
            engine.close()
            sys.modules.pop("edge_nets", None)


def _feed(folder: Path) -> Path:
    """A run that ends without a finite value."""
    begin(folder, ["conv", "fc"])
    lines = [line(number, 50 * number, {"conv": groups(1.0), "fc": groups(1.0)}, loss=1.0) for number in range(2)]
    (folder / "steps.jsonl").write_text("".join(lines))
    write_bins(folder, 0, 0, {"conv": bins(b105=3, b120=1)})
    write_bins(folder, 1, 50, {"conv": bins()})
    return folder


# --- how it is written


def test_every_kind_of_view_is_a_program(edges: Edges, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}
    for kind in script.KINDS.values():
        write = kind.write

        def counted(written: Script, scene: Scene, name: str = kind.name, write: Any = write) -> None:
            seen[name] = seen.get(name, 0) + 1
            write(written, scene)

        monkeypatch.setitem(script.KINDS._rows, kind.name, replace(kind, write=counted))
    edits = {"edits_b": "conv~1~0~one~1~0"}
    both = {"a": edges.a, "b": edges.b}
    pictures: list[dict[str, Any]] = [{"a": edges.a}, both, {**both, **edits}, {"b": edges.b, "side": "b", **edits}]
    models = [{"model": name} for name in NAMES] + [{"model": "narrow", "model_b": "wide"}]
    asked: list[dict[str, Any]] = [
        {"layers": ["conv", "one", "attend"], "weights": True, "attributions": True, "models": True, "likeness": True},
        *({"layers": ["conv", "one"], "rank": rank, "maps": "scorecam"} for rank in ("back", "difference", "effect")),
        {"layers": ["conv", "one"], "rank": "class", "metric": "apart"},
        {"layers": ["conv", "one"], "rank": "mean", "metric": "gradient"},
        *({"tab": "depth", "depth": depth, "metric": "entropy"} for depth in ("gradients", "apart", "back")),
        *({"tab": "depth", "depth": "back", "layers": ["one"], "back_by": by} for by in ("channels", "positions")),
    ]
    of_sets: list[dict[str, Any]] = [
        *(
            {"tab": "pictures", "set_a": key_of("set"), "set_page": page, "layers": ["one"], "prune": True}
            for page in ("", "outliers", "map", "information", "could-go")
        ),
        {"tab": "findings"},
        {"tab": "run", "run": "run", "run_layer": "conv"},
    ]
    count = 0
    for parts in (*product(pictures, models, asked), *product(pictures[:2], models[-2:], of_sets)):
        scene = edges.scene(**{name: value for part in parts for name, value in part.items()})
        written = script.written(scene)
        if written is None:
            continue
        count += 1
        text = written.text([])
        try:
            compile(text, "view.py", "exec")
        except SyntaxError as error:
            pytest.fail(f"{parts}: {error}\n{text}")
    assert count > 300 and set(seen) == set(script.KINDS), set(script.KINDS) - set(seen)


def test_code_stands_in_parts_alone(edges: Edges) -> None:
    written = Script(edges.scene(a=edges.a, b=edges.b, edits_b="one~1~0"))
    for wrong in (lambda: written.add("x = 1"), lambda: written.within("a"), lambda: written.around("a", "b")):
        with pytest.raises(AssertionError, match="code stands in a part"):
            wrong()
    with written.part("outer"), pytest.raises(AssertionError, match="a part stands in no other"):
        with written.part("inner"):
            pass
    with written.part("nothing is added to it"):
        pass
    assert not written.body
    with written.part("something"):
        written.around("a", "b")
    compile(written.text([]), "view.py", "exec")


# --- two sides that do not go together


def test_sides_of_two_sizes_part_nowhere(edges: Edges) -> None:
    for view in ({"tab": "depth", "depth": "apart"}, {"layers": ["two"], "metric": "apart"}):
        scene = edges.scene(a=edges.a, b=edges.a, prepare_b="24x24", drawn=True, **view)
        found = edges.desk.service.value(distances(scene)["parting"])
        assert found.by_distribution
        lines = edges.printed(scene)
        assert not any("they part first" in each for each in lines)
        assert any(each.startswith("A and B differ in size at most layers") for each in lines)
        told = [each.removeprefix("apart at ") for each in lines if each.startswith("apart at ")]
        values = along_the_depth(found, None)
        assert len(told) == len(found.steps) and any("two call 0: 0." in each for each in told)
        for each, text in zip(found.steps, told, strict=True):
            number = float(re.split(r"[ ,]", text.split(" call 0: ")[1])[0])
            assert number == pytest.approx(values[each.place], rel=1e-4, nan_ok=True)
            if np.isnan(number):
                assert text.endswith(f"nan, of one size here, relative L2 {each.distance:.6g}")
    same = edges.printed(edges.scene(a=edges.a, b=edges.b, tab="depth", depth="apart"))
    assert "they part first at one" in same


@pytest.mark.parametrize("rank", ["index", "strongest", "mean", "class", "effect", "difference", "back"])
def test_layers_of_other_channel_counts_have_each_its_own(edges: Edges, rank: str) -> None:
    chosen = {"model_b": "wide", "a": edges.a, "b": edges.a, "matched": "two=body", "rank": rank}
    scene = edges.scene(**chosen, layers=["two"], detail="two", channel=9, drawn=rank == "class")
    lines = edges.printed(scene)
    shown = {
        name: [int(each) for each in re.findall(rf"^{name} channel (\d+):", "\n".join(lines), re.M)]
        for name in ("A two", "B body", "A body", "B two")
    }
    assert shown == {"A two": [0, 1, 2, 3, 4], "B body": [*range(8), 9], "A body": [], "B two": []}
    assert any(each.startswith("Grad-CAM of A two: ") for each in lines)
    assert any(each.startswith("Grad-CAM of B body: ") for each in lines), "what comes after it is there"
    if rank == "class":
        there = {
            side: edges.desk.service.value(unit) for side, unit in scene.of_layer(questions.ActivationOf, "two").items()
        }
        reading = scene.readings.get(scene.walls, there)
        assert [reading.order_of(side)[:8].tolist() for side in "ab"] == [shown["A two"], shown["B body"][:8]]
        counts = [each for each in lines if " counts " in each]
        assert len(counts) == 5 + 8 and counts[0].startswith("A two channel 0 counts "), "by index, as the page"
    other = edges.scene("wide", model_b="narrow", a=edges.a, b=edges.a, matched="body=two", rank=rank, layers=["body"])
    lines = edges.printed(other)
    assert sum(each.startswith("B two channel ") and ": mean" in each for each in lines) == 5


def test_a_rank_that_is_refused_costs_its_part(edges: Edges) -> None:
    for rank in ("class", "effect"):
        lines = edges.printed(edges.scene("embeds", a=edges.a, layers=["conv"], rank=rank))
        assert sum(each.startswith("A conv channel ") for each in lines) == 8
        assert any("embedding, whose numbers mean nothing one by one" in each for each in lines)


# --- answers


def test_what_comes_back_of_an_answer_that_is_no_list_is_refused(edges: Edges) -> None:
    back = {"tab": "depth", "depth": "back", "edits_b": "conv~1~0"}
    lines = edges.printed(edges.scene("rows", a=edges.a, b=edges.b, **back))
    assert lines[lines.index("--- A restored in B") + 1].startswith("The model's output is not one logit per class")


def test_what_is_no_list_of_classes_is_not_printed_as_one(edges: Edges) -> None:
    def told(model: str) -> list[str]:
        return [each for each in edges.printed(edges.scene(model, a=edges.a)) if each.startswith("A ")]

    assert told("embeds") == ["A answers an embedding of 16 numbers, which is no list of classes."]
    assert told("features") == ["A answers a picture or features of 8 channels, which is no list of classes."]
    assert told("unknown") == ["A answers NaN or infinite values: there is no ranking."]
    assert [each.split(":")[0] for each in told("fixed")] == [f"A answers class {each}" for each in _order(edges)]


def _order(edges: Edges) -> list[int]:
    scene = edges.scene("fixed", a=edges.a, drawn=True)
    scores = edges.desk.service.value(scene.prediction("a")).scores
    return [int(each) for each in np.argsort(-scores.shares, kind="stable")]


# --- models that do not load, or fail


def test_a_model_that_does_not_load_costs_its_own_part(edges: Edges) -> None:
    lines = edges.printed(edges.scene("unknown", a=edges.a, layers=["conv"], models=True))
    assert any(each.startswith("A conv: mean") for each in lines)
    refused = lines[lines.index("--- gone on A") + 1]
    assert "RuntimeError: no gone" in refused and lines.index("--- gone on A") > lines.index("--- wide on A")
    assert "embeds answers no classes." in lines and any(each.startswith("wide answers class ") for each in lines)
    try:
        edges.nets.BROKEN.append("wide")
        both = edges.scene("narrow", model_b="wide", a=edges.a, b=edges.a, layers=["two"], metric="apart")
        lines = edges.printed(both)
        assert "RuntimeError: no wide" in lines[lines.index("--- the model wide") + 1]
        assert any(each.startswith("A two: mean") for each in lines)
        for part in ("what B answers", "the layer body, B", "A against B"):
            needed = lines[lines.index(f"--- {part}") + 1]
            assert re.fullmatch("It needs (model_b|b), which was refused above.", needed), part
    finally:
        edges.nets.BROKEN.remove("wide")


def test_a_model_that_fails_itself_costs_its_own_part(edges: Edges) -> None:
    lines = edges.printed(edges.scene("fixed", a=edges.a, b=edges.a, prepare_a="24x24", layers=["conv"]))
    assert lines[lines.index("--- what A answers") + 1].startswith("RuntimeError: ")
    assert any(each.startswith("B answers class ") for each in lines)
    assert any(each.startswith("B conv channel 0: ") for each in lines)


# --- names and counts


def test_the_model_itself_has_the_pages_name(edges: Edges) -> None:
    lines = edges.printed(edges.scene(a=edges.a, metric="gradient"))
    assert any(each.startswith("gradient norm of (model) call 0: ") for each in lines)
    alone = edges.printed(edges.scene("embeds", a=edges.a, b=edges.b, tab="depth", depth="apart", metric="entropy"))
    assert not any(re.search(r"  call|first at $", each) for each in [*lines, *alone])
    assert any(each.startswith("entropy of (model) call 0: ") for each in alone)


def test_a_run_without_a_finite_value_says_so(edges: Edges) -> None:
    lines = edges.printed(edges.scene(tab="run", run="run", run_layer="conv"), str(edges.folder / "run"))
    assert "none of its values at this step is finite" in lines and not any("share of 0" in each for each in lines)
    lines = edges.printed(edges.scene(tab="run", run="run", run_layer="conv", run_step="0"), str(edges.folder / "run"))
    assert "share of 0, or nearer to it than 1e-11: 0.75" in lines
