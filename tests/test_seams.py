"""What people add, added from here: each by the door that the product's own use, and no product file is touched.

CONTRIBUTING.md walks the same list. The worker runs in a thread of this process, because what is added here exists in
no other one; it answers by the code that every worker runs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inline_app import until
from own_page import NET, Page, array, opened, operators_folder, texts
from tempo import limit
from torch import nn

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking import questions
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.components.markup import Markup, to_markup
from hookscope.dashboard.page import view
from hookscope.dashboard.panels import order
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.settings.values import BadValue, model_spec
from hookscope.dashboard.sources import presets
from hookscope.dashboard.sources.building import Source
from hookscope.dashboard.sources.spec import SOURCES, ModelSource, how_written
from hookscope.dashboard.worker import handlers
from hookscope.hooks.methods import MAPS, METRICS, MapMethod, Metric, Rows


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The operator's current directory, with a factory in it."""
    with operators_folder(tmp_path_factory.mktemp("seams"), seams_net=NET) as path:
        yield path


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Opened after what the test adds; `added` fixtures come first in a test's arguments."""
    with opened(tmp_path, *getattr(request, "param", ("seams_net:make",))) as made:
        yield made


def lend(monkeypatch: pytest.MonkeyPatch, *tables: Rows[Any]) -> None:
    """Take back what a test adds to them when it is over."""
    for rows in tables:
        monkeypatch.setattr(rows, "_rows", dict(rows._rows))


# --- a method of maps


@pytest.fixture
def mean_cam(monkeypatch: pytest.MonkeyPatch) -> None:
    lend(monkeypatch, MAPS)
    MAPS.add(
        MapMethod(
            "mean-cam",
            title="Mean-CAM",
            help="The mean of the layer's maps, whatever the class",
            source="Nobody, 2026",
            rule=lambda channels, slopes: channels.mean(0),
        )
    )


def test_a_map(mean_cam: None, page: Page) -> None:
    with torch.no_grad():
        oracle = page.net("seams_net:make")[:1](page.tensor)[0].mean(0).double().numpy()
    shown = page.shows(layers=["0"], maps="mean-cam")
    assert "maps=mean-cam" in page.query and '"Mean-CAM"' in page.layout()
    assert "Mean-CAM" in texts(shown["card-cam-title 0"])
    hover = next(trace for trace in shown["card-cam 0"]["figure"]["data"] if trace["type"] == "heatmap")
    np.testing.assert_allclose(array(hover["z"]), oracle, rtol=1e-5, atol=1e-6)
    assert "Nobody, 2026" in texts(shown["card-cam-text 0"])
    assert "Grad-CAM" in texts(page.shows(layers=["0"])["card-cam-title 0"])  # which stays the first


# --- a number of every layer


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> None:
    lend(monkeypatch, METRICS)
    METRICS.add(
        Metric(
            "peak",
            title="largest value",
            help="The largest magnitude of the output's values.",
            rule=lambda output: float(output.values.abs().max()),
        )
    )


def test_a_metric(peak: None, page: Page) -> None:
    net, oracle = page.net("seams_net:make"), []
    with torch.no_grad():
        for end in range(1, len(net) + 1):
            oracle.append(float(net[:end](page.tensor).abs().max()))
    shown = page.shows(metric="peak")["tree"]
    assert "metric=peak" in page.query and '"largest value"' in page.layout()
    found = [text for text in shown["metric_texts"] if text]
    numbers = {float(text.rpartition(": ")[2]) for text in found}
    assert all(min(abs(value - each) for each in numbers) < 1e-3 * abs(value) for value in oracle), (oracle, found)
    longest = [bar for bar in shown["metric"] if bar is not None]
    assert max(longest) == 1.0
    assert page.shows(metric="zeros")["tree"]["metric_texts"] != shown["metric_texts"]


# --- a panel, with a state of its own


@pytest.fixture
def loudest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel that says which of a layer's values is the largest."""
    lend(monkeypatch, order.PANELS)
    monkeypatch.setattr(view, "STATES", list(view.STATES))

    @view.state
    @dataclass(frozen=True)
    class Loudest:
        loudest: bool = False

    def parts(scene: Any) -> list[Part]:
        asked = scene.view.of(Loudest).loudest
        units = scene.of_layer(questions.ActivationOf, "0") if asked else {}

        def draw(asked: bool, answers: Answers) -> list[Update]:
            found = [float(answer.result.values.max()) for answer in answers.values()]
            return [("loudest", {"tree": to_markup(f"loudest: {found}")})]

        return [Part("loudest", tuple(units.values()), (asked,), draw, error="loudest")]

    def layout(setup: Any) -> Any:
        return Markup("loudest")

    order.PANELS.add(Panel("loudest", "main", urgency=8, layout=layout, parts=parts, saved=layout))


def test_a_panel(loudest: None, page: Page) -> None:
    with torch.no_grad():
        oracle = float(page.net("seams_net:make")[:1](page.tensor).max())
    assert '"loudest"' in page.layout()
    shown = page.shows(loudest=True)
    assert "loudest=1" in page.query
    assert float(re.findall(r"[\d.]+", texts(shown["loudest"]))[0]) == pytest.approx(oracle, rel=1e-5)
    saved = page.client.get(page.shows(loudest=True)["export-view"]["href"]).get_data(as_text=True)
    assert f"loudest: [{oracle:.5f}"[:14] in saved
    assert "loudest: []" in texts(page.shows()["loudest"])


# --- a question that takes seconds, answered bit by bit, and a panel that shows it


@dataclass(frozen=True)
class Count:
    """How far a count has come."""

    reached: int
    values: np.ndarray


@dataclass(frozen=True)
class CountTo:
    """Count, fifty a second."""

    number: int


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    lend(monkeypatch, questions.QUESTIONS, handlers.HANDLERS, order.PANELS)
    monkeypatch.setattr(view, "STATES", list(view.STATES))
    questions.question("counting", Count, takes_minutes=True)(CountTo)

    @handlers.answers(CountTo)
    def count(model: Any, task: Any, prepared: Any) -> Iterator[Count]:
        for reached in range(1, task.question.number + 1):
            time.sleep(0.02)
            yield Count(reached, np.full(3, reached, np.float32))

    @view.state
    @dataclass(frozen=True)
    class Counted:
        to: int = 0

    def parts(scene: Any) -> list[Part]:
        number = scene.view.of(Counted).to
        units = [scene.unit(side, CountTo(number)) for side in scene.inputs] if number else []

        def draw(number: int, answers: Answers) -> list[Update]:
            reached = [answer.result.reached for answer in answers.values()]
            return [("counter", {"tree": to_markup(f"counted {reached} of {number}")})]

        return [Part("counter", units, (number,), draw, error="counter")]

    order.PANELS.add(Panel("counter", "main", urgency=8, layout=lambda setup: Markup("counter"), parts=parts))


def test_a_question_with_partial_answers(counting: None, page: Page) -> None:
    assert '"counter"' in page.layout()
    begun = time.monotonic()
    stream = page.ask(to=60)
    assert "to=60" in page.query
    said = [texts(each["updates"]) for each in page.messages(stream) if each["part"] == "counter"]
    took = time.monotonic() - begun
    numbers = [int(found[1]) for text in said if (found := re.search(r"counted \[(\d+)\]", text))]
    assert numbers == sorted(numbers) and numbers[-1] == 60
    assert 3 <= len(numbers) <= 10 * took + 2  # some on the way, and not each of the sixty
    assert "counted [60] of 60" in texts(page.shows(to=60)["counter"])  # kept


def test_a_click_during_a_long_question_is_answered_and_the_long_one_is_cancelled(counting: None, page: Page) -> None:
    engine = page.engine
    digest = page.inputs.get(page.picture).digest
    side = Side("seams_net:make", digest)
    long = questions.Unit(side, CountTo(10_000))  # 200 s
    engine.submit("long", [long], page.inputs.pixels)
    until(lambda: any(event.kind == "partial" for event in engine.events("long", 0, 0.1)[0]))
    begun = time.monotonic()
    quick = [questions.Unit(side, questions.ActivationOf(name)) for name in ("0", "1")]
    engine.submit("quick", quick, page.inputs.pixels)
    found: list[str] = []
    until(lambda: found.extend(each.kind for each in engine.events("quick", len(found), 0.1)[0]) or "end" in found)
    assert found.count("done") == 2 and time.monotonic() - begun < limit(1.0)
    engine.submit("other", [questions.Unit(side, CountTo(20_000))], page.inputs.pixels)
    assert engine.state("seams_net:make").waiting == 1  # one such question at a time
    begun = time.monotonic()
    engine.cancel("long")
    until(lambda: any(event.kind == "partial" for event in engine.events("other", 0, 0.1)[0]))
    assert time.monotonic() - begun < limit(0.5)  # the first has ended, and the next is under way
    engine.cancel("other")
    until(lambda: engine.state("seams_net:make").phase == "ready")


# --- where models come from


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    lend(monkeypatch, SOURCES)
    SOURCES.add(
        ModelSource(
            "toy:",
            r"toy:\d+",
            "toy:CHANNELS",
            f"{__name__}:build_toy",
            title=lambda spec: f"Toy of {spec.removeprefix('toy:')}",
        )
    )


def build_toy(name: str, options: Any, progress: Any) -> Any:
    torch.manual_seed(int(name))
    net = nn.Sequential(nn.Conv2d(3, int(name), 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    prepare = presets.plain((12, 12), 12, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return Source(net, "Toy", prepare, "Made up.", random=True)


@pytest.mark.parametrize("page", [("toy:5",)], indirect=True)
def test_a_source(toy: None, page: Page) -> None:
    shown = page.shows(layers=["0"])
    assert "Toy of 5" in page.layout() and page.engine.state("toy:5").info.layers[1].parameters == 5 * 28
    assert "5 of 5 channels" in texts(shown)
    assert model_spec("toy:5") == "toy:5"
    with pytest.raises(BadValue):
        model_spec("toy:many")
    assert "toy:CHANNELS" in how_written()


# --- another model as B


@pytest.mark.parametrize("page", [("seams_net:make", "seams_net:other")], indirect=True)
def test_the_same_picture_in_another_model_as_b(page: Page) -> None:
    with torch.no_grad():
        ours, theirs = (page.net(model)[:1](page.tensor)[0].double().numpy() for model in page.models)
    shown = page.shows(b=page.picture, model_b="seams_net:other", layers=["0"], detail="0", channel=2)
    assert "model_b=seams_net:other" in page.query
    maps = [trace for trace in shown["detail-figure"]["figure"]["data"] if trace["type"] == "heatmap"]
    for trace, oracle in zip(maps, (ours[2], theirs[2], theirs[2] - ours[2]), strict=True):
        np.testing.assert_allclose(array(trace["z"]), oracle, rtol=1e-4, atol=1e-5)
