"""The memory of the server's side and of the worker, click by click, with the default model and a real cache."""

from __future__ import annotations

import gc
import io
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
import psutil
import pytest
from cachetools import LRUCache
from PIL import Image
from plotly.io.json import to_json_plotly

from hookscope.dashboard.answers import service as service_module
from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.order import parts
from hookscope.hooks.results.looks import Activation, GradCam, Prediction

MODEL = "embedded"
# Layers whose activations take 0.6 to 2.4 MB: what is left behind of a click would show at once.
LAYERS = ("conv_stem", "bn1", "blocks.0.0.conv_dw", "blocks.0.0.bn1", "blocks.1.0.conv_pw", "blocks.1.1.conv_dw")
# A click leaves 1.5 MB or more if one of its answers stays. The allocator's own breathing was 3 MB on the machine that
# these bounds were chosen on; they allow for ten times that, and are still a small part of what a leak would take.
MOST_GROWTH_BYTES = 30e6


@dataclass
class Desk:
    """Everything between a changed view and a drawn page, without the web."""

    engine: LocalEngine
    service: Service
    inputs: InputStore
    keys: list[str] = field(default_factory=list)
    clicks: Iterator[int] = field(default_factory=itertools.count)

    @property
    def info(self) -> ModelInfo:
        found = self.engine.state(MODEL).info
        assert found is not None
        return found

    def key(self, number: int) -> str:
        """The key of a picture, which is uploaded when it is first needed."""
        while len(self.keys) <= number:
            buffer = io.BytesIO()
            pixels = np.random.default_rng(len(self.keys)).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(buffer, "PNG")
            self.keys.append(self.inputs.receive(io.BytesIO(buffer.getvalue()), None, "noise.png").key)
        return self.keys[number]

    def click(self, gallery: Gallery, readings: Readings) -> None:
        """Choose a layer that A was not asked for before, and draw all of it for A and B, pictures too."""
        number = next(self.clicks)
        layer = LAYERS[number % len(LAYERS)]
        first, second = (self.key(number // len(LAYERS) + place) for place in (1, 0))
        view = View(model=MODEL, a=first, b=second, layers=(layer,))
        scene = Scene.build(view, {view.model: self.info}, self.service, gallery, readings, 900)
        name = self.service.ask(f"page {number % 7}", parts(scene, 1, "/"), {}, number + 1)
        for shown in self.service.updates(name, lambda: False):
            assert shown is None or "Try again" not in to_json_plotly(shown[1])
        for key in list(gallery._entries)[-12:]:
            if not gallery._entries[key].file_name:
                gallery.get(key)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("memory")
    engine = LocalEngine([ModelOptions(MODEL)], device="cpu")
    engine.open(MODEL)
    inputs = InputStore(folder / "inputs", 2**28)
    cache = Cache(folder / "answers", 2**28)
    deadline = time.monotonic() + 60
    while engine.state(MODEL).phase != "ready":
        assert time.monotonic() < deadline, engine.state(MODEL).sentence
        time.sleep(0.05)
    yield Desk(engine, Service(engine, cache, inputs), inputs)
    engine.close()
    inputs.close()
    cache.close()


def held() -> dict[str, int]:
    """How many answers, streams and scenes are alive."""
    gc.collect()
    kinds = (Activation, GradCam, Prediction, service_module.Stream, Scene)
    found = dict.fromkeys((kind.__name__ for kind in kinds), 0)
    for each in gc.get_objects():
        if type(each) in kinds:
            found[type(each).__name__] += 1
    return found


@pytest.mark.parametrize(("clicks", "last"), [(40, 25), pytest.param(300, 200, marks=pytest.mark.slow)])
def test_a_click_leaves_nothing_behind(desk: Desk, clicks: int, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What may be kept is kept within these limits; small ones are full after a few clicks, then it is level.
    monkeypatch.setattr(desk.service, "_memory", LRUCache(16 << 20, getsizeof=itemgetter(1)))
    gallery, readings = Gallery("/picture/", 120, 2 << 20), Readings()
    processes = {"server": psutil.Process(), "worker": psutil.Process(desk.engine.pids(MODEL)[0])}
    sizes: dict[str, list[int]] = {name: [] for name in processes}
    alive = {}
    for click in range(clicks):
        desk.click(gallery, readings)
        for name, process in processes.items():
            sizes[name].append(process.memory_info().rss)
        if click in (clicks - last, clicks - 1):
            alive[click] = held()
    grown = {name: growth(values[-last:]) for name, values in sizes.items()}
    print(
        {
            name: f"{grown[name] / 1e6:+.1f} MB over {last} clicks, {values[-1] / 1e6:.0f} MB"
            for name, values in sizes.items()
        }
    )
    assert max(grown.values()) < MOST_GROWTH_BYTES, grown
    before, after = alive.values()
    assert all(after[kind] <= before[kind] + 8 for kind in after), f"{before} {after}"
    assert desk.service._streams == {} and len(desk.service._pages) <= 7
    assert desk.engine._queue._slots == {} and desk.engine.state(MODEL).hooks == ()


def growth(sizes: list[int]) -> float:
    """From the median of the first fifth to the median of the last."""
    fifth = len(sizes) // 5
    return statistics.median(sizes[-fifth:]) - statistics.median(sizes[:fifth])
