"""The panels' parts: what they show, when they have to be drawn again, and that nothing odd stops or misleads them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import (
    CLASSES,
    INFO,
    LAYERS,
    MODEL,
    InlineEngine,
    activation_of,
    answer_to,
    gradient_of,
    read_as_softmax,
)
from PIL import Image
from plotly.io.json import to_json_plotly
from units import of, what_of

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.asking.answers import Answer, Answers, Failure
from hookscope.dashboard.asking.questions import SurveyOf, Unit
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.drawing.aligning import aligned
from hookscope.dashboard.drawing.numbers import short_count
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.exports import wall_files
from hookscope.dashboard.page import ids, wall_source
from hookscope.dashboard.page.gallery import Gallery, Item
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MEAN, View
from hookscope.dashboard.panels import inputs
from hookscope.dashboard.panels.header import facts
from hookscope.dashboard.panels.order import parts
from hookscope.dashboard.panels.toolbar import property_of, targets, values
from hookscope.dashboard.sources.spec import title_of
from hookscope.hooks.results.looks import GradCam, Gradients, Prediction
from hookscope.hooks.results.outputs import Output, Scores
from hookscope.hooks.results.scores import softmax
from hookscope.hooks.results.summaries import Survey, SurveyedCall
from hookscope.hooks.results.targets import Class

MARKUP = "<img src=x onerror=alert(1)>"
LINK = '<a href="https://example.org">click</a>.png'
CARDS = ("conv", "relu:1", "tokens", "vector", "number", "never", "gone", "wide")
SIGNED = ("conv", "never")


class Desk:
    """A gallery, a memory of answers and some pictures: everything that scenes are built from."""

    def __init__(self, app: InlineApp) -> None:
        self.app = app
        self.clear()
        self.one = self.upload("one.png", (10, 20, 30))
        self.same = self.upload("other name.png", (10, 20, 30))
        self.two = self.upload("two.png", (200, 20, 30))
        self.marked = self.upload(MARKUP, (10, 20, 30))
        self.linked = self.upload(LINK.replace("/", "\u2215"), (200, 20, 30))

    def clear(self) -> None:
        """Forget every drawing and every answer."""
        self.gallery = Gallery("/picture/")
        self.readings = Readings()
        self.app.service._memory.clear()

    def upload(self, name: str, colour: tuple[int, int, int]) -> str:
        buffer = io.BytesIO()
        Image.new("RGB", (30, 20), colour).save(buffer, "PNG")
        return self.app.inputs.receive(io.BytesIO(buffer.getvalue()), None, name).key

    def scene(self, info: ModelInfo = INFO, width: int = 800, **view: Any) -> Scene:
        """A scene of input A, unless the view says otherwise."""
        chosen = View().but(**{"model": MODEL, "a": self.one, **view})
        return Scene.build(chosen, {chosen.model: info}, self.app.service, self.gallery, self.readings, width)

    def answered(self, scene: Scene, shown: Sequence[Part], results: dict[Unit, Any] | None = None) -> Answers:
        """An answer to each unit, which the service keeps too, so that pictures can be drawn."""
        answers = {}
        for unit in {unit for part in shown for unit in part.units}:
            result = (results or {}).get(unit) or answer_to(unit)
            key = unit.key(INFO.fingerprint)
            self.app.service._memory.pop(key, None)
            self.app.service._remember(key, result, 0)
            answers[unit] = Answer(result, cached=True)
        return answers


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    app = InlineApp(tmp_path_factory.mktemp("panels"), InlineEngine())
    yield Desk(app)
    app.close()


@pytest.fixture
def desk(furnished: Desk) -> Desk:
    furnished.clear()
    return furnished


def drawn(part: Part, answers: Answers) -> str:
    """What a part sends to the browser, as text."""
    known = {unit: answers[unit] for unit in part.units if unit in answers}
    return to_json_plotly(part.drawn(known))


def all_drawn(desk: Desk, scene: Scene, results: dict[Unit, Any] | None = None) -> dict[str, Any]:
    """What the whole page shows when everything is answered: component id -> properties."""
    shown = parts(scene, len(scene.view.layers), "/")
    answers = desk.answered(scene, shown, results)
    page: dict[str, Any] = {}
    for part in shown:
        for component, properties in json.loads(drawn(part, answers)):
            page.setdefault(name_of(component), {}).update(properties)
    return page


def name_of(component: Any) -> str:
    return component if isinstance(component, str) else f"{component['type']} {component['card']}"


def text(node: Any) -> str:
    """The text in a tree of plain elements, or in Dash components as they travel."""
    if isinstance(node, str):
        return node
    if isinstance(node, dict) and "props" in node:
        return text(node["props"].get("children"))
    if isinstance(node, list) and len(node) == 3 and isinstance(node[0], str) and isinstance(node[1], dict):
        return text(node[2])
    if isinstance(node, list):
        return " ".join(" ".join(filter(None, map(text, node))).split())
    return "" if node is None else str(node)


def said(page: dict[str, Any], component: str) -> str:
    """The text that a region shows."""
    properties = page[component]
    return text(properties.get("tree", properties.get("children")))


def is_blank(graph: dict[str, Any]) -> bool:
    """Whether a graph only keeps its room, whatever it showed before."""
    return "figure" not in graph and graph["style"]["visibility"] == "hidden"


def addresses(page: Any) -> set[str]:
    """Every picture and file that the page names."""
    return set(re.findall(r"picture/([0-9a-f]{40})", json.dumps(page).replace("\\u002f", "/")))


def fetched(desk: Desk, key: str) -> Item | None:
    """A picture or file as the browser would get it; None for the exported page, which is tested by itself."""
    if desk.gallery._entries[key].media_type == "text/html":
        return None
    return desk.gallery.get(key)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved pictures have cells of a size that is drawn quickly."""
    monkeypatch.setattr(wall_files, "EXPORT_CELL_PX", 16)


# --- signatures


def variations(desk: Desk) -> list[Scene]:
    """Pages that differ from a first one in one thing each, and in several."""
    other_layers = tuple(replace(layer, type=f"New{layer.type}") for layer in LAYERS)
    other = replace(INFO, fingerprint="g" * 16, random=True, title="Other", classes=("x", "y"), layers=other_layers)
    base: dict[str, Any] = {"b": desk.two, "layers": SIGNED, "detail": "conv", "channel": 2}
    changes: list[dict[str, Any]] = [
        {},
        {"rank": "strongest"},
        {"rank": "difference"},
        {"scale": "channel"},
        {"colours": "viridis"},
        {"colours": "grey"},
        {"count": "64"},
        *({switch: True} for switch in ("overlay", "seen", "table")),
        {"target": 0},
        {"target": 3},
        *({"channel": channel} for channel in (MEAN, 0, 99)),
        *({"detail": key} for key in ("", "wide", "vector", "gone")),
        {"b": ""},
        {"a": ""},
        {"a": "", "b": ""},
        {"a": "k" * 22},
        {"a": desk.two, "b": desk.one},
        {"a": desk.same},
        {"a": desk.marked},
        {"a": desk.one, "b": desk.one},
        {"a": desk.two, "b": ""},
        {"a": "", "b": desk.one},
        {"a": desk.one, "b": ""},
        {"a": desk.same, "b": ""},
        {"a": "", "b": desk.same},
        {"layers": SIGNED[::-1]},
        {"layers": ("", "conv", "", "wide")},
        {"layers": ("gone", "conv")},
        {"overlay": True, "scale": "channel", "colours": "magma", "table": True, "a": "", "b": desk.one},
        {"overlay": True, "scale": "channel", "colours": "magma", "table": True, "a": desk.one, "b": ""},
    ]
    scenes = [desk.scene(**{**base, **change}) for change in changes]
    scenes += [desk.scene(width=400, **base), desk.scene(width=1200, **base)]
    return scenes + [desk.scene(other, **{**base, **change}) for change in ({}, {"a": "", "b": ""}, {"b": ""})]


def test_one_signature_always_stands_for_one_drawing(desk: Desk) -> None:
    """Whatever a region's drawing depends on is in its signature; else a page would keep showing what is not so."""
    seen: dict[tuple[str, str], str] = {}
    wrong: set[str] = set()
    for scene in variations(desk):
        shown = parts(scene, 4, "/")
        assert len({part.name for part in shown}) == len(shown)
        answers = desk.answered(scene, shown)
        for part in shown:
            now = drawn(part, answers)
            if seen.setdefault((part.name, part.signature()), now) != now:
                wrong.add(part.name)
    assert len(seen) > 120
    assert wrong == set()


@pytest.mark.usefixtures("small_files")
def test_one_address_always_stands_for_one_picture(desk: Desk) -> None:
    """Browsers keep pictures for ever, and people who have the same pixels may have different names for them."""
    base: dict[str, Any] = {"b": desk.two, "layers": ("conv",), "detail": "conv", "channel": 2}
    changes: list[dict[str, Any]] = [
        {},
        {"a": desk.same},
        {"a": desk.two, "b": desk.one},
        {"b": ""},
        {"a": "", "b": desk.one},
        {"rank": "strongest", "scale": "channel"},
        {"overlay": True},
        {"colours": "grey", "count": "all"},
    ]
    seen: dict[str, bytes] = {}
    for scene in [*(desk.scene(**{**base, **change}) for change in changes), desk.scene(width=300, **base)]:
        for key in addresses(all_drawn(desk, scene)):
            item = fetched(desk, key)
            if item is not None:
                assert seen.setdefault(key, item.data) == item.data, desk.gallery._entries[key].file_name
    assert len(seen) > 50


@pytest.mark.parametrize(
    ("change", "redrawn"),
    [
        ({"detail": "wide"}, {"detail", "walk", "export"}),
        ({"channel": 5}, {"detail", "export"}),
        ({"seen": True}, {"input a", "input b", "export"}),
        ({"target": 3}, {"input a", "input b", "card 0 cam", "card 1 cam", "apart", "export"}),
        ({"against": "next"}, {"input a", "input b", "card 0 cam", "card 1 cam", "apart", "export"}),
        ({"table": True}, {"card 0 table", "card 1 table", "export"}),
        (
            {"layers": ("conv", "wide", "vector")},
            {"card 2", *(f"card 2 {region}" for region in ("cam", "flip", "set", "table", "weights")), "export"},
        ),
        ({"layers": ("conv", "")}, {"card 1", "export"}),
        ({"rank": "mean"}, {"card 0", "card 1", "walk", "export"}),
    ],
)
def test_a_change_redraws_what_it_concerns_and_nothing_else(desk: Desk, change: Any, redrawn: set[str]) -> None:
    base: dict[str, Any] = {"b": desk.two, "layers": ("conv", "wide"), "detail": "conv", "channel": 2}
    before = {part.name: part.signature() for part in parts(desk.scene(**base), 2, "/")}
    after = parts(desk.scene(**{**base, **change}), 2, "/")
    assert {part.name for part in after if before.get(part.name) != part.signature()} == redrawn


# --- what is asked, and in which order


def test_walls_come_before_grad_cam_and_shallow_layers_before_deep_ones(desk: Desk) -> None:
    shown = parts(desk.scene(b=desk.two, layers=("vector", "wide", "conv")), 3, "/")
    units = list(dict.fromkeys(unit for part in shown for unit in part.units))
    assert [(what_of(unit), unit.layer) for unit in units[::2]] == [
        ("prediction", ""),
        ("activation", "conv"),
        ("activation", "wide"),
        ("activation", "vector"),
        ("gradcam", "conv"),
        ("gradcam", "wide"),
    ]
    first, second = units[0].side, units[1].side
    assert [unit.side for unit in units] == [first, second] * 6


def test_a_layer_that_cannot_be_asked_is_not(desk: Desk) -> None:
    shown = parts(desk.scene(layers=("never", "gone", "relu:7")), 3, "/")
    assert {what_of(unit) for part in shown for unit in part.units} == {"prediction"}
    empty = parts(desk.scene(a="", layers=("conv",), detail="conv", table=True, overlay=True), 1, "/")
    assert [unit for part in empty for unit in part.units] == []


def test_another_method_asks_for_maps_alone(desk: Desk) -> None:
    for method, title in (("gradcam++", "Grad-CAM++"), ("layercam", "LayerCAM"), ("scorecam", "Score-CAM")):
        scene = desk.scene(layers=("conv",), maps=method, target=2)
        units = {unit for part in parts(scene, 1, "/") for unit in part.units}
        explained = [unit.question for unit in units if hasattr(unit.question, "target")]
        assert [(asked.method, asked.target) for asked in explained] == [(method, Class(2))]
        page = all_drawn(desk, scene)
        assert said(page, "card-cam-title 0") == f"{title} enlarge"
        assert ("64 strongest of 99 channels" in said(page, "card-cam-text 0")) == (method == "scorecam")
    assert said(all_drawn(desk, desk.scene(layers=("vector",), maps="layercam")), "card-cam-title 0") == "LayerCAM"


def test_attributions_are_asked_for_when_they_are_open(desk: Desk) -> None:
    closed = desk.scene(b=desk.two)
    assert all_drawn(desk, closed)["attributions"]["hidden"] is True
    scene = desk.scene(b=desk.two, attributions=True, target=1)
    units = [unit for part in parts(scene, 0, "/") for unit in part.units if part.name == "attributions"]
    assert [what_of(unit) for unit in units[2:]] == [
        *("saliency", "saliency", "integrated gradients", "integrated gradients", "occlusion", "occlusion")
    ]
    assert {unit.question.target for unit in units[2:]} == {Class(1)}
    assert {unit.side for unit in units[2::2]} == {units[2].side}
    page = all_drawn(desk, scene)
    shown = page["attributions"]
    assert shown["hidden"] is False and page["attributions-fold"] == {"aria-expanded": "true"}
    assert said(page, "attributions").count("Made up.") == 6 and said(page, "attributions").count("dog") == 6
    assert len(addresses(shown)) == 2 + 6
    for key in addresses(shown):
        item = fetched(desk, key)
        assert item is not None and item.data.startswith(b"\x89PNG")


def test_one_attribution_that_fails_leaves_the_others(desk: Desk) -> None:
    scene = desk.scene(attributions=True)
    broken = Failure("There is no class 7.", final=True)
    page = all_drawn(desk, scene, {of(scene, "a", "occlusion"): broken})
    text_ = said(page, "attributions")
    assert "There is no class 7." in text_ and text_.count("Made up.") == 2
    waiting = next(part for part in parts(scene, 0, "/") if part.name == "attributions")
    assert drawn(waiting, {}).count("computing") == 3
    nobody = all_drawn(desk, desk.scene(a="", attributions=True))
    assert said(nobody, "attributions") == "Choose a picture above."


def test_the_gradients_tab_asks_for_gradients_and_for_no_card(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, tab="gradients", layers=("conv",), detail="conv", attributions=True)
    shown = parts(scene, 1, "/")
    assert [what_of(unit) for part in shown for unit in part.units] == ["prediction"] * 2 + ["gradients"] * 2
    page = all_drawn(desk, scene)
    figure = page["gradients"]["figure"]
    assert figure["layout"]["meta"]["keys"] == ["conv", "relu", "relu:1", "vector"]
    assert [trace["type"] for trace in figure["data"]] == ["box", "scatter", "scatter"] * 2
    assert said(page, "gradients-text").count("nothing vanishes or explodes") == 2


def test_anomalies_and_layers_without_a_gradient_are_sentences(desk: Desk) -> None:
    scene = desk.scene(tab="gradients")
    layers = [gradient_of("conv", 0, np.ones(4) * 1e-9), gradient_of("side", 0, np.ones(4), "No path leads there.")]
    layers += [gradient_of(f"x{number}", 0, np.array([1.0, np.nan])) for number in range(9)]
    odd = Gradients(5, 1.0, tuple(layers))
    page = all_drawn(desk, scene, {of(scene, "a", "gradients"): odd})
    text_ = said(page, "gradients-text")
    assert "vanishes on its way back" not in text_  # no ratio is taken of what is not finite
    assert "The gradient vanishes at 'conv'" in text_ and "The gradient at 'x0' holds 1 NaN" in text_
    assert "class 5" in text_ and "No path leads there." in text_
    refused = all_drawn(desk, scene, {of(scene, "a", "gradients"): Failure("No graph.", final=True)})
    assert "No graph." in said(refused, "gradients-text") and is_blank(refused["gradients"])
    assert "Choose a picture" in said(all_drawn(desk, desk.scene(a="", tab="gradients")), "gradients-text")


def test_layers_that_say_the_same_are_one_sentence_with_the_others_behind_it_and_one_hint(desk: Desk) -> None:
    scene = desk.scene(tab="gradients")
    sizes = [1e-9, 1e-8, 1.0, 1e-8, 1.0]
    layers = [gradient_of(f"features.{n}", 0, np.array([size, 0])) for n, size in enumerate(sizes)]
    layers += [gradient_of("features.3", 1, np.array([5e-9, 0]))]
    layers += [gradient_of(f"side.{n}", 0, np.ones(1), "No path leads there.") for n in range(3)]
    page = all_drawn(desk, scene, {of(scene, "a", "gradients"): Gradients(1, 1.0, tuple(layers))})
    folds = [each for each in page["gradients-text"]["tree"][1][2] if each[0] == "details"]
    assert [text(fold[2][0]) for fold in folds] == [
        "The gradient vanishes at 3 of 5 layers, from features.0 to features.3: "
        "norms from 1e-09 to 1e-08, below 1e-06.",
        "3 layers, from side.0 to side.2: No path leads there.",
    ]
    assert text(folds[0][2][1]).count("The gradient vanishes at 'features.") == 4  # call by call
    assert said(page, "gradients-text").count("What usually helps") == 1
    bands = [(shape["x0"], shape["x1"]) for shape in page["gradients"]["figure"]["layout"]["shapes"]]
    assert page["gradients"]["figure"]["layout"]["meta"]["keys"][3:6] == ["features.3", "features.4", "features.3:1"]
    assert bands == [(-0.5, 1.5), (2.5, 3.5), (4.5, 5.5)]
    well = all_drawn(desk, scene)
    assert "shapes" not in well["gradients"]["figure"]["layout"] and "helps" not in said(well, "gradients-text")


def test_only_what_both_inputs_ran_is_compared() -> None:
    one = tuple(gradient_of(*call, np.ones(2)) for call in (("a", 0), ("b", 0), ("b", 1)))
    other = tuple(gradient_of(*call, np.ones(2)) for call in (("b", 0), ("c", 0), ("a", 0)))
    found = aligned([one, other])
    assert found is not None and found[1] == ["a", "b"]
    assert [[layer.layer for layer in layers] for layers in found[0]] == [["a", "b"], ["a", "b"]]
    assert aligned([]) is None


# --- what is shown


def test_an_order_that_needs_a_second_picture_says_so(desk: Desk) -> None:
    page = all_drawn(desk, desk.scene(layers=("conv",), rank="difference"))
    assert "; |A − B| needs a second picture" in said(page, "card-labels 0")
    both = all_drawn(desk, desk.scene(layers=("conv",), rank="difference", b=desk.two))
    assert "second picture" not in said(both, "card-labels 0")


def test_a_card_of_two_inputs(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, layers=("relu:1",), table=True)
    page = all_drawn(desk, scene)
    assert page["card-card 0"]["hidden"] is False
    head = said(page, "card-head 0")
    assert all(word in head for word in ("relu:1", "ReLU", "8 × 6 × 6", "computed before", "call 2 of 2"))
    labels = said(page, "card-labels 0")
    assert re.fullmatch(r"A 8 of 8 channels.* B 8 of 8 channels.* B − A \+ A restored in B", labels)
    wall = page["card-wall 0"]["figure"]
    assert len(wall["layout"]["images"]) == 3
    mean = answer_to(of(scene, "b", "activation", "relu:1")).values.mean(axis=(1, 2))
    shown = np.frombuffer(bytes_of(wall["data"][2]["customdata"]), np.float32).reshape(-1, 4)[:, 0]
    assert sorted(shown[~np.isnan(shown)]) == pytest.approx(sorted(mean), rel=1e-5)
    rows = page["card-table 0"]["children"][0]["props"]["rowData"]
    assert [row["channel"] for row in rows] == list(range(8))
    ranked = all_drawn(desk, desk.scene(b=desk.two, layers=("relu:1",), table=True, rank="mean"))
    rows = ranked["card-table 0"]["children"][0]["props"]["rowData"]
    assert [row["rank"] for row in rows] == list(range(1, 9))  # as the wall above it
    assert [row["channel"] for row in rows] != list(range(8))
    assert said(page, "card-cam-text 0").count("logits per position") == 2
    assert len(page["card-cam 0"]["figure"]["layout"]["images"]) == 4
    links = said(page, "card-files 0")
    assert [word in links for word in ("PNG", "CSV", "Activation of A, NPZ", "Activation of B, NPZ")] == [True] * 4


def bytes_of(array: dict[str, str]) -> bytes:
    import base64

    return base64.b64decode(array["bdata"])


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        ({"layers": ("gone",)}, "Toy <net> has no layer 'gone'. Choose one in the tree."),
        ({"layers": ("never",)}, "'never' did not run: this head is only used while training."),
        (
            {"layers": ("relu:2",)},
            "'relu' runs 2 times in one forward pass; there is no call 3. Choose one in the tree.",
        ),
        ({"layers": ("conv",), "a": ""}, "Choose a picture above to see what this layer computes."),
    ],
)
def test_a_card_that_cannot_be_drawn_says_why(desk: Desk, view: dict[str, Any], sentence: str) -> None:
    page = all_drawn(desk, desk.scene(**view))
    assert sentence in said(page, "card-labels 0") and view["layers"][0] in said(page, "card-head 0")


def test_the_enlarged_channel_lies_over_the_picture_only_with_overlay(desk: Desk) -> None:
    for overlay in (False, True):
        page = all_drawn(desk, desk.scene(b=desk.two, layers=("conv",), detail="conv", channel=1, overlay=overlay))
        layout = page["detail-figure"]["figure"]["layout"]
        assert len(layout.get("images", [])) == (2 if overlay else 0)
        colours = [colour for _, colour in layout["coloraxis"]["colorscale"]]
        assert all(colour.startswith("rgba(" if overlay else "#") for colour in colours)  # off is opaque


def test_a_failure_names_the_class_that_it_counts(desk: Desk) -> None:
    scene = desk.scene(layers=("conv",), target=2, attributions=True, metric="gradient")
    broken = Failure("Layer 'conv' has no gradient for class 2. There is no class 40.", final=True)
    units = [of(scene, "a", question, "conv" if question == "gradcam" else "") for question in ("gradcam", "saliency")]
    page = all_drawn(desk, scene, dict.fromkeys(units, broken))
    for region in ("card-cam-text 0", "attributions"):
        assert "no gradient for class 2 (“<b>cup</b>”). There is no class 40." in said(page, region)


def test_a_wall_of_few_maps_has_cells_as_large_as_the_card_has_room_for(desk: Desk) -> None:
    few = wall_source.geometry_for(desk.scene(width=800), "conv", (32, 56, 56))
    assert (few.columns, few.rows, few.shown) == (8, 5, 32) and few.cell_px == 100 and few.height_px == 500
    many = wall_source.geometry_for(desk.scene(width=800), "conv", (1280, 7, 7))
    assert many.height_px <= wall_source.MAX_HEIGHT_PX and many.shown < 1280


def test_a_layer_without_maps_has_bars_and_says_why(desk: Desk) -> None:
    page = all_drawn(desk, desk.scene(b=desk.two, layers=("vector", "number"), detail="vector"))
    for card in (0, 1):
        assert [trace["type"] for trace in page[f"card-wall {card}"]["figure"]["data"]] == ["bar", "bar"]
        assert "without height and width" in said(page, f"card-bars {card}")
        assert "No map to lay over the picture" in said(page, f"card-cam-text {card}")
        assert "PNG" not in said(page, f"card-files {card}")
    assert "without height and width" in said(page, "detail-numbers")


def test_the_models_answer_is_named_by_class(desk: Desk) -> None:
    page = all_drawn(desk, desk.scene(layers=("(model)",)))
    bars = page["card-wall 0"]["figure"]["data"][0]
    assert len(bars["customdata"]) == len(CLASSES) and bars["customdata"][0] == "cat"


def test_what_every_picture_has_to_say_of_itself(desk: Desk) -> None:
    def notes(info: ModelInfo, key: str) -> str:
        return said(all_drawn(desk, desk.scene(info, layers=(key,))), "card-head 0")

    random = replace(INFO, random=True)
    assert "value before relu" in notes(INFO, "conv") and "random weights" not in notes(INFO, "conv")
    assert "call 1 of 2" in notes(INFO, "relu")
    assert "tokens as a 3×3 grid" in notes(INFO, "tokens") and "output 1 of 2" in notes(INFO, "tokens")
    page = all_drawn(desk, desk.scene(random, layers=("conv",), detail="conv", channel=1))
    assert "random weights" in said(page, "card-head 0")
    assert "random weights" in said(page, "detail-notes")
    assert "random weights" in said(page, "input-a-caption")


def test_an_input_with_its_classes_in_order(desk: Desk) -> None:
    scene = desk.scene(target=1)
    page = all_drawn(desk, scene)
    logits = answer_to(of(scene, "a", "prediction")).scores.logits
    shares = np.exp(logits) / np.exp(logits).sum()
    best = np.argsort(-shares)
    assert page["input-a-full"] == {"hidden": False} and page["input-a-empty"] == {"hidden": True}
    rows = page["input-a-top"]["tree"]
    assert [text(row[2]) for row in rows] == [f"{CLASSES[i]} {shares[i]:.3f}" for i in best]
    assert ["chosen" in row[1]["className"] for row in rows] == [int(i) == 1 for i in best]
    assert "one.png" in said(page, "input-a-caption") and "30×20 → 8×8" in said(page, "input-a-caption")
    assert page["input-b-full"] == {"hidden": True}


def test_a_lost_input_is_said_and_an_empty_one_is_not(desk: Desk) -> None:
    page = all_drawn(desk, desk.scene(a="k" * 22))
    assert page["input-a-refused"]["hidden"] is False and "no longer kept" in said(page, "input-a-refused")
    assert page["input-b-refused"]["hidden"] is True


def test_the_picture_shows_what_the_network_saw_on_demand(desk: Desk) -> None:
    for seen, size in ((False, (30, 20)), (True, (8, 8))):
        page = all_drawn(desk, desk.scene(seen=seen))
        item = desk.gallery.get(page["input-a-picture"]["src"].rsplit("/", 1)[1])
        assert item is not None and Image.open(io.BytesIO(item.data)).size == size
        assert (page["input-a-crop"]["style"] == {"display": "none"}) is seen


def test_while_the_model_loads_the_pictures_are_there(desk: Desk) -> None:
    view = View(model=MODEL, a=desk.one, b="k" * 22)
    early = inputs.parts_while_loading(view, desk.app.inputs, desk.gallery)
    late = inputs.parts(desk.scene(b="k" * 22))
    assert [part.name for part in early] == [part.name for part in late]
    shown = json.loads(drawn(early[0], {}))
    assert "one.png" in text([props.get("tree") for _, props in shown])
    assert early[0].signature() != late[0].signature() and early[1].signature() == late[1].signature()


def test_the_enlarged_channel_shows_its_own_values(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, detail="conv", channel=3)
    page = all_drawn(desk, scene)
    assert "conv · channel 3" in said(page, "detail-title").replace("  ", " ")
    values = answer_to(of(scene, "a", "activation", "conv")).values[3]
    figure = page["detail-figure"]["figure"]
    assert np.array_equal(np.frombuffer(bytes_of(figure["data"][0]["z"]), np.float32).reshape(6, 6), values)
    assert len(figure["data"]) == 3 and f"{values.min():.4g}" in said(page, "detail-numbers")
    walk = page["walk"]["data"]
    assert (walk["layer"], walk["order"]) == ("conv", [MEAN, *range(8)])


@pytest.mark.parametrize("view", [{"detail": ""}, {"detail": "gone"}, {"detail": "never"}, {"detail": "conv", "a": ""}])
def test_nothing_is_enlarged_that_is_not_there(desk: Desk, view: dict[str, Any]) -> None:
    assert all_drawn(desk, desk.scene(**view))[ids.DETAIL] == {"hidden": True}


def test_a_channel_that_the_layer_lacks_is_said(desk: Desk) -> None:
    assert "no channel 99" in said(all_drawn(desk, desk.scene(detail="conv", channel=99)), "detail-numbers")


# --- waiting and failing


def test_everything_waits_before_the_first_answer(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, layers=CARDS, detail="conv", overlay=True, table=True, seen=True)
    page: dict[str, Any] = {}
    for part in parts(scene, len(CARDS), "/"):
        for component, properties in json.loads(drawn(part, {})):
            page.setdefault(name_of(component), {}).update(properties)
    assert "computing" in said(page, "card-head 0") and "computing" in said(page, "card-cam-text 0")
    for graph in ("card-wall 0", "card-histogram 0", "card-cam 0", "detail-figure", "detail-histogram"):
        assert is_blank(page[graph]) and float(page[graph]["style"]["height"].removesuffix("px")) > 50, graph
    assert "computing" in said(page, "detail-numbers")
    assert not {key for key in addresses(page) if desk.gallery._entries[key].file_name.endswith((".png", ".npz"))}


def test_the_height_of_a_wall_is_known_before_its_values(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, layers=("conv", "wide", "tokens"))
    page = all_drawn(desk, scene)
    for part in parts(scene, 3, "/"):
        for component, properties in json.loads(drawn(part, {})):
            if name_of(component).startswith("card-wall"):
                assert is_blank(properties)
                assert properties["style"]["height"] == page[name_of(component)]["style"]["height"]
                assert not is_blank(page[name_of(component)])


@pytest.mark.parametrize("overlay", [False, True])
def test_each_failure_is_said_in_the_regions_that_it_concerns_and_nowhere_else(desk: Desk, overlay: bool) -> None:
    scene = desk.scene(b=desk.two, layers=("conv", "wide"), overlay=overlay, table=True)
    shown = parts(scene, 2, "/")
    answers = dict(desk.answered(scene, shown))
    for unit in answers:
        now = {**answers, unit: Answer(Failure("It failed."))}
        for part in shown:
            sent = drawn(part, now)
            if not part.name.endswith("table"):  # which has nothing to say beside its card's own sentence
                assert ("It failed." in sent) is (unit in part.units), (part.name, unit)
                assert "computing" not in sent, (part.name, unit)


def test_no_room_is_kept_for_pictures_that_will_not_come(desk: Desk) -> None:
    shown = parts(desk.scene(layers=("conv",)), 1, "/")
    failed = {unit: Answer(Failure("It failed.")) for part in shown for unit in part.units}
    page: dict[str, Any] = {}
    for part in shown:
        for component, properties in json.loads(drawn(part, failed)):
            page.setdefault(name_of(component), {}).update(properties)
    for graph in ("card-wall 0", "card-histogram 0", "card-cam 0"):
        assert is_blank(page[graph]) and page[graph]["style"]["height"] == "10px", graph


def test_a_failure_of_the_enlarged_layer_is_said_in_its_place(desk: Desk) -> None:
    scene = desk.scene(detail="conv", channel=1)
    (part,) = (part for part in parts(scene, 0, "/") if part.name == "detail")
    sent = drawn(part, {part.units[0]: Answer(Failure("It failed."))})
    assert "It failed." in sent and "Try again" in sent and "computing" not in sent
    final = drawn(part, {part.units[0]: Answer(Failure("It failed.", final=True))})
    assert "It failed." in final and "Try again" not in final  # asking again would give the same


def test_what_one_side_lacks_does_not_take_the_other_away(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, layers=("conv",), detail="conv", channel=1)
    unit, cam = of(scene, "b", "activation", "conv"), of(scene, "b", "gradcam", "conv")
    shown = parts(scene, 1, "/")
    answers = {**desk.answered(scene, shown), unit: Answer(Failure("B failed.")), cam: Answer(Failure("B failed."))}
    page: dict[str, Any] = {}
    for part in shown:
        for component, properties in json.loads(drawn(part, answers)):
            page.setdefault(name_of(component), {}).update(properties)
    assert len(page["card-wall 0"]["figure"]["layout"]["images"]) == 1
    assert "B failed." in said(page, "card-labels 0") and "B failed." in said(page, "card-cam-text 0")
    assert "logits per position" in said(page, "card-cam-text 0")
    assert page["detail-figure"]["figure"]["data"]


# --- odd values


def odd_layers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    plain = rng.normal(size=(8, 6, 6)).astype(np.float32)
    one_nan, some_inf, mixed = plain.copy(), plain.copy(), plain.copy()
    one_nan[2, 3, 3] = np.nan
    some_inf[1], some_inf[2, 0] = np.inf, -np.inf
    mixed[0], mixed[1], mixed[2] = np.nan, 0, 3e38
    return {
        "plain": plain,
        "positive": np.abs(plain),
        "zero": np.zeros((8, 6, 6), np.float32),
        "minus zero": np.full((8, 6, 6), -0.0, np.float32),
        "nan": np.full((8, 6, 6), np.nan, np.float32),
        "inf": np.full((8, 6, 6), np.inf, np.float32),
        "minus inf": np.full((8, 6, 6), -np.inf, np.float32),
        "one nan": one_nan,
        "some inf": some_inf,
        "mixed": mixed,
        "huge": np.where(plain > 0, 3.3e38, -3.3e38).astype(np.float32),
        "large and constant": np.full((8, 6, 6), 1e20, np.float32),
        "tiny": plain * 1e-44,
        "negative": -np.abs(plain) - 1,
        "one channel": plain[:1],
        "one value": plain[:1, :1, :1],
        "one row": rng.normal(size=(8, 1, 40)).astype(np.float32),
        "one column": rng.normal(size=(8, 40, 1)).astype(np.float32),
        "many channels": rng.normal(size=(120, 2, 2)).astype(np.float32),
        "other size": rng.normal(size=(8, 3, 9)).astype(np.float32),
        "other channels": plain[:5],
        "no channel": np.zeros((0, 6, 6), np.float32),
        "no row": np.zeros((8, 0, 6), np.float32),
    }


VIEWS: list[dict[str, Any]] = [  # for two layers that differ, and for two that are alike
    {"rank": "difference", "scale": "channel", "overlay": True, "table": True, "channel": MEAN},
    {"rank": "zeros", "count": "all", "channel": 0, "colours": "grey"},
]
ODD = odd_layers()
PAIRS = [
    *((name, name) for name in ("zero", "nan", "inf", "huge", "tiny", "large and constant", "one value", "no row")),
    *(("plain", name) for name in ODD),
    *((name, "plain") for name in ("nan", "other channels", "no row")),
    ("nan", "inf"),
    ("huge", "negative"),
]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_no_values_stop_a_card_its_pictures_or_its_files(desk: Desk, first: str, second: str) -> None:
    scene = desk.scene(b=desk.two, layers=("conv",), detail="conv", **VIEWS[first == second])
    results = {
        of(scene, side, "activation", "conv"): activation_of("conv", ODD[name])
        for side, name in (("a", first), ("b", second))
    }
    for key in addresses(all_drawn(desk, scene, results)):
        item = fetched(desk, key)
        assert item is None or item.data


def test_a_layer_that_has_maps_for_one_input_only_shows_those(desk: Desk) -> None:
    scene = desk.scene(b=desk.two, layers=("conv",), detail="conv", table=True, rank="difference")
    flat = activation_of("conv", np.ones(5), axes=("feature",))
    for side, other in (("a", "b"), ("b", "a")):
        page = all_drawn(desk, scene, {of(scene, side, "activation", "conv"): flat})
        assert page["card-wall 0"]["figure"]["data"], other
        for key in addresses(page):
            fetched(desk, key)


def test_a_layer_of_one_input_only_with_every_odd_value(desk: Desk) -> None:
    for odd in ODD.values():
        scene = desk.scene(layers=("conv",), detail="conv", channel=1, table=True)
        unit = of(scene, "a", "activation", "conv")
        for key in addresses(all_drawn(desk, scene, {unit: activation_of("conv", odd)})):
            fetched(desk, key)


@pytest.mark.parametrize("values", [np.array(3.0), np.array([]), np.zeros(5000), np.full(3, np.nan), np.arange(4.0)])
def test_no_vector_stops_a_card(desk: Desk, values: np.ndarray) -> None:
    scene = desk.scene(b=desk.two, layers=("vector",), detail="vector", channel=0, table=True)
    axes = ("feature",) if values.ndim else ()
    odd = activation_of("vector", values, axes=axes)
    for results in ({of(scene, "a", "activation", "vector"): odd}, dict.fromkeys(
        (of(scene, side, "activation", "vector") for side in "ab"), odd
    )):  # fmt: skip
        for key in addresses(all_drawn(desk, scene, results)):
            fetched(desk, key)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 3e38, -1.0])
def test_no_map_stops_grad_cam(desk: Desk, value: float) -> None:
    scene = desk.scene(layers=("conv",))
    for shape in ((3, 3), (1, 1), (1, 9)):
        cam = GradCam("conv", 0, 2, float(value), np.full(shape, value, np.float32))
        page = all_drawn(desk, scene, {of(scene, "a", "gradcam", "conv"): cam})
        assert "<b>cup</b>" in said(page, "card-cam-text 0")
        for key in addresses(page):
            fetched(desk, key)


@pytest.mark.parametrize(
    "logits", [[np.nan, 1.0], [np.inf, 1.0], [np.inf, np.inf], [-np.inf, -np.inf], [], [3e38, -3e38]]
)
def test_no_logits_stop_an_input(desk: Desk, logits: list[float]) -> None:
    scene = desk.scene()
    odd = Prediction(read_as_softmax(np.array(logits, np.float32)), np.zeros((8, 8, 3), np.uint8), (0.0, 0.0, 8.0, 8.0))
    page = all_drawn(desk, scene, {of(scene, "a", "prediction"): odd})
    if not np.isfinite(logits).all() and not (np.array(logits) == -np.inf).any():
        assert "there is no ranking" in said(page, "input-a-top")


def test_a_segmenter_lists_the_classes_that_have_a_share(desk: Desk) -> None:
    scene = desk.scene(replace(INFO, outputs=(Output("", (1, 4, 8, 8), "pixels"),)))
    numbers = np.zeros(4, np.float32)
    scores = Scores("", "softmax", numbers, numbers, np.array([0.25, 0, 0.75, 0], np.float32))
    shares = Prediction(scores, np.zeros((8, 8, 3), np.uint8), (0, 0, 8, 8))
    rows = all_drawn(desk, scene, {of(scene, "a", "prediction"): shares})["input-a-top"]["tree"]
    assert [row[1]["data-value"] for row in rows] == ["2", "0"] and "75.0 % of the positions" in rows[0][1]["title"]


def test_softmax_by_hand() -> None:
    assert softmax(np.log(np.array([1.0, 2.0, 5.0]))) == pytest.approx([0.125, 0.25, 0.625])
    assert softmax(np.array([1000.0, 1000.0])) == pytest.approx([0.5, 0.5])


# --- markup


def read_as_markup(value: Any, key: str = "") -> Iterator[str]:
    """The texts of figures, of which Plotly reads some tags."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from read_as_markup(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from read_as_markup(item, key)
    elif isinstance(value, str) and key in (
        "text",
        "hovertemplate",
        "name",
        "title",
        "ticktext",
        "customdata",
        "label",
    ):
        yield value


def test_no_file_name_class_or_layer_is_ever_markup(desk: Desk) -> None:
    nasty = replace(
        INFO,
        title=MARKUP,
        classes=(MARKUP, LINK, "cat", "dog"),
        layers=tuple(replace(layer, type=MARKUP) for layer in LAYERS),
    )
    for channel, view in ((1, {"overlay": True}), (MEAN, {"table": True})):
        scene = desk.scene(
            nasty, a=desk.marked, b=desk.linked, layers=("conv", "(model)"), detail="conv", channel=channel, **view
        )
        page = all_drawn(desk, scene)
        figures = [properties["figure"] for properties in page.values() if "figure" in properties]
        assert len(figures) >= 5
        for sentence in read_as_markup(figures):
            assert not re.search(r"<(?!/?(b|br|extra)\b)", sentence), sentence
        assert MARKUP in said(page, "input-a-caption")  # where text is text, the name stands as it is
        assert not re.search("dangerously|innerHTML|javascript:", json.dumps(page))


def test_a_template_in_a_file_name_is_not_filled_in(desk: Desk) -> None:
    given = desk.upload("%{z} %{customdata[0]}.png", (1, 1, 1))
    page = all_drawn(desk, desk.scene(a=given, detail="conv", channel=0, layers=("conv",)))
    for properties in page.values():
        for trace in properties.get("figure", {}).get("data", []):
            assert "%{z} %{customdata[0]}.png" not in trace.get("hovertemplate", "")


# --- header and toolbar


def test_the_facts_of_a_model() -> None:
    trained = facts(INFO)
    assert "1.23 k parameters · cpu" in text(json.loads(to_json_plotly(trained))) and len(trained) == 1
    assert "random weights" in text(json.loads(to_json_plotly(facts(replace(INFO, random=True)))))


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (4_652_008, "4.65 M"), (25_557_032, "25.6 M"), (10**9, "1 G")],
)
def test_counts_have_three_digits(number: int, shown: str) -> None:
    assert short_count(number) == shown


def test_a_spec_as_people_read_it() -> None:
    assert title_of("embedded") == "EfficientNet-Lite0"
    assert title_of("torchvision:resnet50@V2") == "resnet50@V2" and title_of("zoo:net") == "zoo:net"


def test_classes_of_the_same_name_are_told_apart() -> None:
    labels = [each["label"] for each in targets(INFO)]
    assert labels == ["top class", "cat (0)", "dog", "<b>cup</b>", "cat (3)"]
    assert [each["value"] for each in targets(INFO)] == ["top", "0", "1", "2", "3"]


def test_the_controls_show_the_view() -> None:
    view = View().but(
        rank="zeros", scale="channel", colours="grey", count="64", overlay=True, table=True, target=0, maps="layercam"
    )
    assert values(view) == {
        ids.RANK: "zeros",
        ids.SCALE: "channel",
        ids.COLOURS: "grey",
        ids.COUNT: "64",
        ids.OVERLAY: True,
        ids.TABLE: True,
        ids.TARGET: "0",
        ids.MAPS: "layercam",
        ids.AGAINST: "off",
    }
    assert values(View())[ids.TARGET] == "top" and values(View()).keys() == set(ids.CONTROLS)
    assert [property_of(name) for name in (ids.RANK, ids.OVERLAY, ids.TABLE)] == ["value", "checked", "checked"]


def test_every_id_that_a_part_updates_is_on_the_page(desk: Desk, tmp_path: Path) -> None:
    """An update of an id that is nowhere would be tried again for seconds, and then be lost."""
    layout = json.loads(to_json_plotly(desk.app.dash.layout()))
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            identity = node.get("props", {}).get("id") if "props" in node else None
            if identity is not None:
                found.add(name_of(identity))
            for item in node.values():
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(layout)
    for scene in (
        desk.scene(),
        desk.scene(a="", layers=("conv",)),
        desk.scene(layers=("conv",), detail="conv", table=True),
        desk.scene(b=desk.two, attributions=True),
        desk.scene(b=desk.two, tab="gradients"),
    ):
        assert set(all_drawn(desk, scene)) - found == set()


def test_a_number_of_every_layer_on_the_tree_leaves_the_cards_alone(desk: Desk) -> None:
    def signatures(**view: Any) -> dict[str, str]:
        shown = parts(desk.scene(layers=("conv",), **view), 1, "/")
        return {part.name: part.signature() for part in shown if part.name != "export"}

    plain, coloured = signatures(), signatures(metric="zeros")
    assert {name for name in plain if plain[name] != coloured[name]} == {"tree metric"}
    assert signatures(metric="zeros", target=2)["tree metric"] == coloured["tree metric"]
    assert signatures(metric="gradient", target=2)["tree metric"] != signatures(metric="gradient")["tree metric"]


def test_a_region_draws_from_what_its_signature_holds_and_from_nothing_else(desk: Desk) -> None:
    """A function of a module sees what it is given: no value that a forgotten signature would leave on the page."""
    for chosen in (
        {"layers": CARDS, "b": desk.two, "detail": "conv", "metric": "zeros", "table": True, "attributions": True},
        {"layers": CARDS, "tab": "gradients"},
        {"a": ""},
    ):
        for part in parts(desk.scene(**chosen), 4, "/"):
            assert isinstance(part.draw, FunctionType) and part.draw.__closure__ is None, part.name
            assert " at 0x" not in repr(part.shows) or part.name == "export", part.name


def test_the_trees_bars_texts_and_scale(desk: Desk) -> None:
    scene = desk.scene(metric="zeros", b=desk.two)
    (shown,) = (part for part in parts(scene, 0, "/") if part.name == "tree metric")
    (unit,) = shown.units
    assert unit.side == scene.side("a") and unit.question == SurveyOf(None)
    waiting = {name_of(id): properties for id, properties in json.loads(drawn(shown, {}))}
    assert waiting[ids.TREE]["metric"] is None and "computing" in str(waiting[ids.METRIC_TEXT])
    survey = Survey((SurveyedCall("conv", 0, {"zeros": 0.25}), SurveyedCall("relu", 0, {"zeros": 0.5})), -1)
    page = all_drawn(desk, scene, {unit: survey})
    names = [node["name"] for node in tree_nodes(INFO.layers)]
    bars = dict(zip(names, page[ids.TREE]["metric"], strict=True))
    assert (bars["conv"], bars["relu"], bars["never"]) == (0.25, 0.5, None)
    lines = dict(zip(names, page[ids.TREE]["metric_texts"], strict=True))
    ranked = [bars[names[place]] for place in page[ids.TREE]["worst"]]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) > 1 and page[ids.TREE]["alarms"] == 0
    assert page[ids.TREE]["alarm_text"] == "share of zeros 100 %"
    assert lines["conv"] == "share of zeros of A: 25.0 %" and lines["never"] == ""
    assert "bars from 0 to 100 %" in str(page[ids.METRIC_TEXT])


def test_the_trees_gradient_names_its_class_or_says_why_there_is_none(desk: Desk) -> None:
    scene = desk.scene(metric="gradient", target=2)
    (unit,) = next(part for part in parts(scene, 0, "/") if part.name == "tree metric").units
    assert unit.question == SurveyOf(Class(2))
    assert CLASSES[2] in str(all_drawn(desk, scene)[ids.METRIC_TEXT])
    page = all_drawn(desk, scene, {unit: Survey((), -1, "There is no class.")})
    assert page[ids.TREE]["metric"] is None and "There is no class." in str(page[ids.METRIC_TEXT])


def test_the_tree_without_a_picture_or_with_a_failure(desk: Desk) -> None:
    page = all_drawn(desk, desk.scene(metric="entropy", a=""))
    assert page[ids.TREE]["metric"] is None and "picture" in str(page[ids.METRIC_TEXT])
    scene = desk.scene(metric="entropy")
    (unit,) = next(part for part in parts(scene, 0, "/") if part.name == "tree metric").units
    page = all_drawn(desk, scene, {unit: Failure("The model failed.")})
    assert page[ids.TREE]["metric"] is None and "The model failed." in str(page[ids.METRIC_TEXT])
    assert all_drawn(desk, desk.scene())[ids.TREE]["metric"] is None
