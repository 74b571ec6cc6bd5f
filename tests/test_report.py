"""The exported page: one file that asks for nothing, runs nothing of anybody else's, and says what it lacks."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from dash import html
from inline_app import InlineApp
from inline_engine import INFO, LAYERS, MODEL, InlineEngine, activation_of, answer_to
from PIL import Image
from plotly.offline import get_plotlyjs
from units import of

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.exports import report
from hookscope.dashboard.inputs.store import InputMissing
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels import apart, export
from hookscope.dashboard.panels.order import PANELS, parts, saved
from hookscope.dashboard.places import ASSETS
from hookscope.hooks.results.parting import PartedCall, Parting, first_parting

NASTY = "</script><!--<script><img src=x onerror=alert(1)>"
LAYOUT = ("conv", "vector", "never")


class Reader(HTMLParser):
    """Reads the file as a browser does: its elements, the text on it, and its scripts."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        inside = self.cdata_elem
        {"script": self.scripts, "style": self.styles}.get(inside or "", self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def figures(self) -> list[tuple[Any, Any]]:
        """The data and the layout of each figure."""
        calls = re.findall(r"Plotly\.newPlot\('figure-\d+', (.*?)\);(?=Plotly\.newPlot|$)", self.scripts[-1], re.DOTALL)
        return [(found[0], found[1]) for found in (json.loads(f"[{call}]") for call in calls)]


class Desk:
    """An application without a page, from which views are exported."""

    def __init__(self, app: InlineApp) -> None:
        self.app = app
        self.one = self.upload("one.png")
        self.nasty = self.upload(NASTY.replace("/", "\u2215"))

    def upload(self, name: str) -> str:
        buffer = io.BytesIO()
        Image.new("RGB", (30, 20), (len(name), 3, 4)).save(buffer, "PNG")
        return self.app.inputs.receive(io.BytesIO(buffer.getvalue()), None, name).key

    def scene(self, info: ModelInfo = INFO, **view: Any) -> Scene:
        chosen = View().but(**{"model": MODEL, "a": self.one, "b": "sample-coffee", "layers": LAYOUT, **view})
        return Scene.build(chosen, {chosen.model: info}, self.app.service, Gallery("/picture/"), Readings(), 800)

    def remember(self, scene: Scene) -> None:
        """Have every answer that the view needs."""
        for unit in {unit for part in parts(scene, 3, "/") for unit in part.units}:
            self.app.service._remember(unit.key(scene.info.fingerprint), answer_to(unit), 0)

    def exported(self, scene: Scene) -> Reader:
        """The file behind the header's "Export page", read."""
        return Reader(self.file(scene))

    def file(self, scene: Scene) -> bytes:
        """The same as it is saved."""
        ((_, shown),) = export.part(scene, saved).drawn({})
        item = scene.gallery.get(shown["href"].rsplit("/", 1)[1])
        assert item is not None and item.media_type == "text/html" and item.file_name.endswith(".html")
        return item.data


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    app = InlineApp(tmp_path_factory.mktemp("report"), InlineEngine())
    yield Desk(app)
    app.close()


@pytest.fixture
def desk(furnished: Desk) -> Desk:
    furnished.app.service._memory.clear()
    furnished.app.engine.infos = {MODEL: INFO}
    return furnished


@pytest.fixture
def complete(desk: Desk) -> Reader:
    scene = desk.scene(detail="conv", channel=2, overlay=True)
    desk.remember(scene)
    return desk.exported(scene)


def test_it_holds_everything_that_the_page_shows(complete: Reader) -> None:
    for words in ("Toy <net>", "1.23 k parameters", "one.png", "coffee.png", "conv", "Conv2d", "8 of 8 channels"):
        assert words in complete.text, words
    for words in (
        "'never' did not run",
        "without height and width",
        "channel 2",
        "strongest: row",
        "zeros",
        "<b>cup</b>",
    ):
        assert words in complete.text, words
    figures = complete.figures()
    assert len(figures) == sum(
        tag == "div" and re.match(r"figure-\d", a.get("id", "")) is not None for tag, a in complete.elements
    )
    assert len(figures) >= 8
    assert not re.search("computing|Try again", complete.text)


def test_it_holds_the_channels_numbers_and_the_bars_of_the_tree(desk: Desk) -> None:
    scene = desk.scene(table=True, metric="zeros")
    desk.remember(scene)
    text = desk.exported(scene).text
    unit = of(scene, "a", "activation", "conv")
    mean = desk.app.service.value(unit).statistics.channels["mean"]
    assert "mean |A − B|" in text
    assert f"{float(f'{mean[3]:.6g}'):.4g}" in text
    assert "share of zeros of A: " in text and "bars from 0 to 100 %" in text


def test_its_table_is_sorted_as_the_pages(desk: Desk) -> None:
    found = {}
    for sort in ("", "A_mean.desc"):
        scene = desk.scene(layers=("conv",), table=True, sort=sort)
        desk.remember(scene)
        grid = desk.file(scene).decode().split('class="statistics plain-grid"')[1]
        found[sort] = [int(row) for row in re.findall(r"<tr><td>(\d+)</td>", grid)]
    mean = desk.app.service.value(of(scene, "a", "activation", "conv")).statistics.channels["mean"]
    assert found[""] == list(range(len(mean)))
    assert found["A_mean.desc"] == np.argsort(-mean, kind="stable").tolist() != found[""]


def test_its_trees_bars_have_the_colour_of_the_pages() -> None:
    page = (ASSETS / "dashboard.css").read_text()
    assert len(re.findall(r"--metric: #", page)) == 2  # light and dark, where the tree's own sheet finds them
    assert "var(--metric" in (ASSETS / "layer_tree.css").read_text()
    assert re.search(r"\.plain-tree \.bar span \{[^}]*var\(--metric\)", report.IN_A_FILE)


def test_it_asks_for_nothing_from_anywhere(complete: Reader) -> None:
    loading = {
        "src",
        "href",
        "srcset",
        "data",
        "action",
        "formaction",
        "poster",
        "background",
        "cite",
        "ping",
        "content",
    }
    for tag, attributes in complete.elements:
        assert tag not in ("link", "base", "iframe", "object", "embed", "form", "a", "video", "audio"), tag
        for name in loading & attributes.keys():
            assert attributes[name] == "" or attributes[name].startswith("data:image/"), (tag, name, attributes[name])
        assert "url(" not in attributes.get("style", "")
    assert not re.search(r"url\(|@import|expression\(", "".join(complete.styles))
    own = [script for script in complete.scripts if script != get_plotlyjs()]
    assert len(own) == len(complete.scripts) - 1 == 2
    assert not re.search(r"https?:|fetch|XMLHttp|import\(|[\"'(]//", own[0] + own[1])
    for _, layout in complete.figures():
        for image in layout.get("images", []):
            assert image["source"].startswith("data:image/")


def test_its_pictures_are_inside_and_whole(complete: Reader) -> None:
    found = [attributes["src"] for tag, attributes in complete.elements if tag == "img" and attributes.get("src")]
    found += [image["source"] for _, layout in complete.figures() for image in layout.get("images", [])]
    assert len(found) >= 9
    for source in found:
        kind, data = re.fullmatch(r"data:(image/\w+);base64,(.+)", source).groups()  # type: ignore[union-attr]
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        picture.load()
        assert f"image/{picture.format.lower()}" == kind  # type: ignore[union-attr]


def test_no_name_in_it_is_markup(desk: Desk) -> None:
    layers = tuple(replace(layer, type=NASTY) for layer in LAYERS)
    info = replace(INFO, title=NASTY, weights=NASTY, classes=(NASTY,) * 4, layers=layers, random=True)
    desk.app.engine.infos = {MODEL: info}
    scene = desk.scene(info, a=desk.nasty, layers=("conv", "(model)"), detail="conv", channel=1)
    desk.remember(scene)
    page = desk.exported(scene)
    assert page.text.count(NASTY) >= 3  # shown as it is
    assert [tag for tag, _ in page.elements if tag == "script"] == ["script"] * 3
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert tag != "img" or attributes.get("src", "").startswith("data:") or attributes.get("src") == ""
    assert len(page.figures()) >= 6
    own = page.scripts[-1]
    assert "<" not in own  # neither an end of the script nor the beginning of a comment that hides one
    assert "x=alert" not in own


def test_it_works_when_the_values_are_gone(desk: Desk) -> None:
    page = desk.exported(desk.scene(detail="conv", channel=1, overlay=True, seen=True, table=True))
    assert "computing" in page.text and "one.png" in page.text
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img" and "src" in attributes]
    assert sum(source.startswith("data:image/jpeg") for source in sources) == 2  # the inputs are still there
    assert page.figures()


def test_it_works_when_only_the_predictions_are_gone(desk: Desk) -> None:
    """What lies under an overlay is drawn from another answer than the overlay, and either may go first."""
    scene = desk.scene(detail="conv", channel=1, overlay=True)
    desk.remember(scene)
    for side in ("a", "b"):
        desk.app.service._memory.pop(of(scene, side, "prediction").key(INFO.fingerprint))
    page = desk.exported(scene)
    assert page.figures() and "channel 1" in page.text


def test_it_works_when_the_pictures_are_gone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = desk.scene()
    desk.remember(scene)

    def gone(key: str) -> bytes:
        raise InputMissing("This picture is no longer kept; upload it again.")

    monkeypatch.setattr(desk.app.inputs, "preview", gone)
    page = desk.exported(scene)
    assert "8 of 8 channels" in page.text


def test_a_fault_in_drawing_one_region_leaves_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = desk.scene(layers=("conv", "wide"))
    desk.remember(scene)
    whole = Part.complete

    def draw(*_: Any) -> Any:
        raise ZeroDivisionError("a fault of ours")

    made = PANELS["cards"]

    def broken(*arguments: Any) -> list[Part]:
        return [replace(part, draw=draw) if part.name == "card 1" else part for part in made.parts(*arguments)]

    monkeypatch.setitem(PANELS._rows, "cards", replace(made, parts=broken))
    page = desk.exported(scene)
    assert "conv" in page.text and whole is Part.complete


def test_an_empty_view_can_be_exported_too(desk: Desk) -> None:
    page = desk.exported(desk.scene(a="", b="", layers=()))
    assert "Toy <net>" in page.text and page.figures() == []


def test_nothing_is_left_of_what_only_the_living_page_can_do(desk: Desk) -> None:
    scene = desk.scene(b="", layers=("conv", "tokens"), detail="conv", channel=1)
    desk.remember(scene)
    page = desk.exported(scene)
    names = [attributes.get("class", "") for _, attributes in page.elements]
    assert sum("panel input" in name for name in names) == 1  # no empty box for B
    titles = " ".join(attributes.get("title", "") for _, attributes in page.elements)
    assert "class" in titles.lower() and "Click" not in titles
    assert "Click to" not in page.scripts[-1]
    alone = desk.exported(desk.scene(a="", b="", layers=()))
    assert "No picture was chosen." in alone.text and "browse" not in alone.text


class Seen(HTMLParser):
    """The words that a reader of the file sees: what its style hides is not among them, and a div begins a line."""

    HIDDEN = frozenset({"links", "samples", "save", "icon", "keys", "live-only", "status"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[bool] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = set((dict(attrs).get("class") or "").split())
        hidden = bool(names & self.HIDDEN) or ("link" in names and "told" not in names)
        self.open.append(hidden or (self.open[-1] if self.open else False))
        self.words += "\n" if tag in ("div", "p") else ""

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not (self.open and self.open[-1]):
            self.words += data


def test_sentences_keep_the_layers_and_channels_that_are_links_on_the_page() -> None:
    """Whatever carries content stays, as text in its sentence; what only does something is gone."""
    share = np.array([0.5, 0.0, 0.4, 0.1], np.float32)
    parted = Parting((PartedCall("conv", 0, 1.0, 0.1, 3.0, share), PartedCall("head", 0, 1.0, 0.1, 3.0)), models=2)
    told = html.Div(
        [
            html.P(apart._sentence(parted, first_parting(parted))),
            Markup(id="x", children=["From ", html.Button("step 3", className="layer-link"), " on."]),
        ]
    )
    seen = Seen(report._render(told, [], str)).words.strip().split("\n")
    assert [each for each in seen if each] == [
        "They part at the first layer, conv, where 2 channels carry 90% of the difference: 0, 2.",
        "From step 3 on.",
    ]
    action = html.P(
        ["Known. ", html.Button("Try again", className="link"), html.Button("Keep", className="link live-only")]
    )
    assert Seen(report._render(action, [], str)).words.strip() == "Known."
    # every name in a table, too
    table = html.Table(html.Tr([html.Td(html.Button("class 3", className="link told")), html.Td("4")]))
    assert Seen(report._render(table, [], str)).words.split() == ["class", "34"]


def test_it_says_how_it_was_made(desk: Desk) -> None:
    scene = desk.scene(layers=("conv",), target=1, rank="zeros", scale="channel", colours="magma", overlay=True)
    desk.remember(scene)
    page = desk.exported(scene)
    for words in (
        "model toy",
        "explained: dog",
        "map: Grad-CAM",
        "rank: zeros",
        "scale: per channel",
        "colours: magma",
        "overlay on",
    ):
        assert words in page.text, words
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC[+-]\d\d:\d\d", page.text)
    assert "one.png and coffee.png · Toy <net> · Hookscope" in page.text  # the window's title
    assert "explained: the first of each picture" in desk.exported(desk.scene(layers=())).text


def test_a_wall_keeps_its_proportions_in_a_window_of_any_width(desk: Desk) -> None:
    scene = desk.scene(layers=("conv",))
    desk.remember(scene)
    page = desk.exported(scene)
    styles = [a.get("style", "") for _, a in page.elements if re.fullmatch(r"figure-\d+", a.get("id", ""))]
    for style, (_, layout) in zip(styles, page.figures(), strict=True):
        assert "width" not in layout
        assert ("height" in layout) != style.startswith("aspect-ratio: 800 / ")
    assert sum(bool(style) for style in styles) == 1  # the others are as high as they were


def test_odd_values_can_be_exported(desk: Desk) -> None:
    scene = desk.scene(layers=("conv",), b="", detail="conv", channel=0)
    desk.remember(scene)
    odd = activation_of("conv", np.full((8, 6, 6), np.nan))
    key = of(scene, "a", "activation", "conv").key(INFO.fingerprint)
    desk.app.service._memory[key] = (odd, 0)
    page = desk.exported(scene)
    assert "288 NaN" in page.text and len(page.figures()) >= 3


def test_the_file_is_named_after_its_inputs(desk: Desk) -> None:
    scene = desk.scene()
    ((_, shown),) = export.part(scene, saved).drawn({})
    assert scene.gallery._entries[shown["href"].rsplit("/", 1)[1]].file_name == "hookscope-one-coffee.html"
    assert export.part(scene, saved).units == ()  # it waits for nothing


def test_a_side_whose_model_is_not_there_is_named(desk: Desk) -> None:
    whole = desk.exported(desk.scene(layers=("conv",)))
    assert "left out" not in whole.text
    page = desk.exported(desk.scene(layers=("conv",), model_b="other"))
    assert "B is left out, because its model, other, was not loaded yet: save it again once it is." in page.text


def test_random_weights_are_said_at_the_top(desk: Desk) -> None:
    page = desk.exported(desk.scene(replace(INFO, random=True), layers=()))
    assert "random weights" in page.text
