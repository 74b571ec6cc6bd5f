"""A worker killed while A and B are compared: why is said where the answer would be, what was measured stays, and the
next question is answered rightly.

The application is the real one, and so is the kill. The model stops before the pass that a test says and notes which
process it is in, so that the kill always comes in the middle. Every case has pictures of its own: what was killed twice
is refused.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import signal
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from own_page import texts
from PIL import Image
from served import Application, until
from torch import Tensor, nn

from bench.client import Client
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs.samples import PHOTOGRAPHS, SAMPLES
from hookscope.dashboard.places import ASSETS
from hookscope.dashboard.sources.load import load
from hookscope.hooks.causes.likeness import layer_grams
from hookscope.hooks.causes.parting import parting_calibration
from hookscope.hooks.results.likeness import compare_grams

CHANNELS = 160  # more than one pass measures at once
KILLED = re.compile(r"was killed \(SIGKILL\); if nobody did that by hand, the machine may have run out of memory")
HELD = f"""
    import os, time
    import torch
    from torch import nn

    HERE = os.path.dirname(__file__)

    def path(name):
        return os.path.join(HERE, name)

    def wait_at(name):
        \"\"\"Let pass as many as the file says, then wait for as long as it is there.\"\"\"
        try:
            left = int(open(path(name)).read() or 0)
        except FileNotFoundError:
            return
        if left:
            open(path(name), "w").write(str(left - 1))
            time.sleep(0.25)  # between two passes the page is told what is known, but not that often
            return
        open(path(name + ".new"), "w").write(str(os.getpid()))
        os.replace(path(name + ".new"), path(name + ".held"))
        while os.path.exists(path(name)):
            time.sleep(0.005)

    class Net(nn.Module):
        def __init__(self, seed):
            super().__init__()
            own = torch.Generator().manual_seed(seed)
            self.conv, self.act = nn.Conv2d(3, {CHANNELS}, 3), nn.ReLU()
            self.pool, self.flat, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear({CHANNELS}, 3)
            self.name = str(seed)
            with torch.no_grad():
                for each in self.parameters():
                    each.copy_(torch.randn(each.shape, generator=own))

        def forward(self, x):
            wait_at(self.name)
            return self.head(self.flat(self.pool(self.act(self.conv(x)))))

    HOW = {{"input_size": 12, "resize": 12, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}}

    def make():
        return Net(3).eval(), HOW

    def other():
        return Net(4).eval(), HOW
"""


class Visit(Client):
    """A page of the application whose questions can be cut off in the middle."""

    def __init__(self, application: Held) -> None:
        super().__init__(application.url, "held:make")
        self.application = application
        self.shown: dict[str, Any] = {}

    def shows(self, trying: str = "", **changes: Any) -> dict[str, Any]:
        """What stands on the page when everything that a change asks is answered, by component."""
        self.drawn.clear()
        self.view |= changes
        self._note(self._asked(trying))
        return self.shown

    def killed(self, passes: int, known: str = "", trying: str = "", model: str = "3", **changes: Any) -> None:
        """The same with the worker killed before it has finished: `shown` is what the person is left with.

        Arguments:
            passes: of the model before it waits for the kill. known: what is measured by then, as the page says it.
        """
        folder = self.application.folder
        (folder / f"{model}.held").unlink(missing_ok=True)
        (folder / model).write_text(str(passes))
        self.view |= changes
        reader = threading.Thread(target=self._note, args=(self._asked(trying),))
        reader.start()
        try:
            pid = int(until(lambda: _read(folder / f"{model}.held"), what="for the model to be held"))
            until(lambda: re.search(known, self.text()), 15, f"for {known!r}")
            assert pid in {each.pid for each in psutil.Process(self.application.process.pid).children()}
            os.kill(pid, signal.SIGKILL)
        finally:
            (folder / model).unlink()
            reader.join(60)
        assert not reader.is_alive()

    def text(self, component: str = "") -> str:
        """What can be read on the page, or in one of its components."""
        found = list(self.shown.items())
        return " ".join(texts(each) for name, each in found if name.startswith(component))

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file that the page offers."""
        address = next(each for each in _addresses(list(self.shown.values())) if name in self._name_of(each))
        return list(csv.DictReader(io.StringIO(self.read(address.lstrip("/")).decode())))

    def told(self, component: str) -> str:
        """What a component says in the end: that the worker was killed, and what the person can do."""
        text = self.text(component)
        assert KILLED.search(text) and "Try again" in text, text
        return text

    def picture(self, seed: int) -> tuple[str, Tensor]:
        """A picture of noise: its key, and what the model is given of it."""
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        key = json.loads(self._post(f"upload?name={seed}.png", buffer.getvalue()))["key"]
        return key, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1

    def _asked(self, trying: str) -> str:
        self.number += 1
        known = {"page": self.page, "drawn": self.drawn, "mounted": 1, "width": 2400, "number": self.number}
        body = json.dumps({"view": self.view, "trying": trying, **known}).encode()
        return str(json.loads(self._post("ask", body, "application/json"))["stream"])

    def _note(self, stream: str) -> None:
        for message in self.messages(stream):
            for component, properties in message["updates"]:
                key = component if isinstance(component, str) else f"{component['type']} {component['card']}"
                self.shown = {**self.shown, key: {**self.shown.get(key, {}), **properties}}

    def _name_of(self, address: str) -> str:
        with self.open(address.lstrip("/")) as answer:
            return str(answer.headers.get("Content-Disposition", ""))


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _addresses(node: Any) -> list[str]:
    """Where the links of a tree of elements lead."""
    if isinstance(node, dict):
        own = [node["href"]] if "href" in node else []
        return own + [found for each in node.values() for found in _addresses(each)]
    return [found for each in node for found in _addresses(each)] if isinstance(node, list) else []


class Held(Application):
    """The application with the model that waits, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(folder / "cache", "--model", "held:make", "--model", "held:other")


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder = tmp_path_factory.mktemp("held")
    (folder / "held.py").write_text(textwrap.dedent(HELD))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(str(folder))
        started = Held(folder)
        yield started
        started.stop()


@pytest.fixture
def visit(application: Held) -> Iterator[Visit]:
    made = Visit(application)
    until(lambda: json.loads(made.read("state?model=held:make"))["phase"] == "ready")
    yield made
    made.leave()


@pytest.fixture(scope="module")
def net(application: Held) -> nn.Module:
    """The model, in this process: the oracle."""
    return _net("make")


def _net(name: str) -> nn.Module:
    held = importlib.import_module("held")  # written by the fixture

    net: nn.Module = getattr(held, name)()[0]
    return net


def means(net: nn.Module, given: Tensor) -> np.ndarray:
    """Of each channel behind the ReLU, from where on everything is linear."""
    with torch.no_grad():
        return np.asarray(net.act(net.conv(given)).mean((2, 3))[0].double())


def weights(net: nn.Module) -> np.ndarray:
    return np.asarray(net.head.weight.detach().double())


def restored(net: nn.Module, a: Tensor, b: Tensor) -> np.ndarray:
    """By hand: what each channel of A alone brings back of logit 0 - logit 1 in B."""
    parts = (means(net, a) - means(net, b)) * (weights(net)[0] - weights(net)[1])
    return parts / parts.sum()


def photographs() -> list[Tensor]:
    """The built-in ones, as the model is given them."""
    prepare = load(ModelOptions("held:make"), "cpu").prepare
    files = [ASSETS / "samples" / SAMPLES[name].file for name in PHOTOGRAPHS]
    return [prepare(Image.open(file).convert("RGB")).tensor for file in files]


TWO_CLASSES = {"target": 0, "target_b": 1, "apart": True}


def test_effects(visit: Visit, net: nn.Module) -> None:
    key, given = visit.picture(1)
    visit.shows(a=key, layers=["act"], target=0)
    visit.killed(5, known=r"[1-9]\d* of 160 measured", rank="effect")
    assert re.search(r"[1-9]\d* of 160 measured", visit.told("card-labels"))
    assert "160 of 160 measured" in texts(visit.shows()["card-labels 0"])
    rows = visit.table("channels.csv")  # in the order of the wall
    found = [float(row["A effect"]) for row in sorted(rows, key=lambda row: int(row["channel"]))]
    np.testing.assert_allclose(found, -means(net, given) * weights(net)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow  # for the seconds in which the worker starts again
def test_what_comes_back(visit: Visit, net: nn.Module) -> None:
    (a, of_a), (b, of_b) = visit.picture(2), visit.picture(3)
    visit.shows(a=a, b=b, layers=[], tab="depth", **TWO_CLASSES)
    visit.killed(7, known="[1-4] of 5 layers measured", depth="back")
    assert re.search("[1-4] of 5 layers measured", visit.told("gradients-text"))
    assert visit.shown["gradients"]["figure"]["data"]
    visit.shows()
    row = next(row for row in visit.table("what-comes-back") if row["layer"] == "act")
    ten = restored(net, of_a, of_b)[[int(each) for each in row["channels"].split()]].sum()
    assert float(row["whole layer"]) == pytest.approx(1) and float(row["ten channels"]) == pytest.approx(ten, rel=1e-3)


@pytest.mark.slow  # for the seconds in which the worker starts again
def test_what_comes_back_with_each_channel(visit: Visit, net: nn.Module) -> None:
    (a, of_a), (b, of_b) = visit.picture(4), visit.picture(5)
    visit.shows(a=a, b=b, layers=["act"], tab="depth", depth="back", **TWO_CLASSES)
    visit.killed(9, known=r"[1-9]\d* of 64 channels measured", back_by="channels")
    assert re.search(r"[1-9]\d* of 64 channels measured", visit.told("depth-channels"))
    said = texts(visit.shows()["depth-channels"])
    shares = restored(net, of_a, of_b)
    assert "64 of 64 channels measured" in said
    for channel in np.argsort(-np.abs(shares))[:5]:
        assert f"Enlarge channel {channel} of act" in said and f"{shares[channel]:.1%}" in said


def test_the_fourth_wall(visit: Visit, net: nn.Module) -> None:
    (a, of_a), (b, of_b) = visit.picture(6), visit.picture(7)
    visit.shows(a=a, b=b, layers=["act"], **TWO_CLASSES)
    visit.killed(9, known=r"[1-9]\d* of 64 measured", restored=True)
    assert re.search(r"[1-9]\d* of 64 measured", visit.told("card-labels"))
    visit.shows()
    found = np.array([float(row["A in B"] or "nan") for row in visit.table("channels.csv")])
    assert np.isfinite(found).sum() == 64
    np.testing.assert_allclose(found[np.isfinite(found)], restored(net, of_a, of_b)[np.isfinite(found)], rtol=1e-3)


@pytest.mark.slow  # for the seconds in which the worker starts again
def test_how_far_pictures_are_apart(visit: Visit, net: nn.Module) -> None:
    (a, of_a), (b, of_b) = visit.picture(8), visit.picture(9)
    visit.shows(a=a, b=b, layers=[], tab="depth")
    visit.killed(16, known=r"[1-9]\d* of 18 pairs so far", depth="apart")
    assert re.search(r"[1-9]\d* of 18 pairs so far", visit.told("gradients-text"))
    assert "18 pairs of the samples" in texts(visit.shows()["gradients-text"])
    with torch.no_grad():
        usual = parting_calibration(net, photographs()).by_place
        one, other = (net.conv(each).double() for each in (of_a, of_b))
        apart = float((one - other).norm() / ((one.norm() ** 2 + other.norm() ** 2) / 2).sqrt())
    row = next(row for row in visit.table("a-against-b") if row["layer"] == "conv")
    assert float(row["relative L2"]) == pytest.approx(apart, rel=1e-4)
    assert float(row["calibrated"]) == pytest.approx(apart / usual["conv", 0], rel=1e-4)


@pytest.mark.slow  # for the seconds in which the worker starts again
def test_the_likeness_of_layers(visit: Visit, net: nn.Module) -> None:
    key, _ = visit.picture(10)
    visit.shows(a=key, b=key, layers=[], tab="layers", model_b="held:other")
    until(lambda: json.loads(visit.read("state?model=held:other"))["phase"] == "ready")
    visit.shows()
    visit.killed(3, known=r"computing … [1-9]\d* of \d\d pictures", likeness=True)
    visit.told("likeness-text")
    visit.shows()
    right = compare_grams(*(layer_grams(each, photographs()) for each in (net, _net("other"))))
    found = [float(row["CKA"]) for row in visit.table("likeness.csv")]
    np.testing.assert_allclose(found, np.ravel(right.cka), atol=1e-4)


def test_a_slider_that_is_dragged(visit: Visit, net: nn.Module) -> None:
    key, given = visit.picture(11)
    visit.shows(a=key, layers=["act"], detail="act", channel=3)
    visit.killed(0, trying="moves", edits_a="act~3~0.5")
    visit.told("input-a")
    logits = means(net, given)
    logits[3] *= 1.5
    logits = weights(net) @ logits + np.asarray(net.head.bias.detach().double())
    visit.shows(edits_a="act~3~1.5", trying="moves")
    assert f"logit {logits.max():.4g}" in visit.text("input-a-top")
