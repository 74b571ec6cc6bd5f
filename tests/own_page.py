"""A whole application in the test's own process: the real engine, and the workers' real code in threads."""

from __future__ import annotations

import base64
import importlib
import io
import json
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from inline_app import until
from PIL import Image
from torch import nn

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.base import Event
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.page import view
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.sources.spec import name_of, spec_of
from hookscope.dashboard.web.server import create_app
from hookscope.dashboard.web.shares import Shares
from hookscope.dashboard.worker.in_thread import WorkerThread
from hookscope.hooks.results.codec import decode

AnswerT = TypeVar("AnswerT")

NET = """
    import torch
    from torch import nn

    def make(scale=1.0):
        own = torch.Generator().manual_seed(3)  # two of these may be built at the same time
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own) * scale)
        return net.eval(), {"input_size": 12, "resize": 12, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def other():
        return make(-1.0)
"""


class Page:
    """An application whose models run in this process, and what a page of it is sent."""

    def __init__(self, folder: Path, *models: str, load: int | None = None, **engine: Any) -> None:
        settings = Settings(cache_dir=folder / "cache", models=models)
        self.engine = LocalEngine(options_for(settings), device="cpu", **{"start_worker": WorkerThread, **engine})
        self.inputs = InputStore(folder / "inputs", 2**24, max_upload_bytes=2**20)
        self.cache = Cache(folder / "answers", 2**24)
        self.service = Service(self.engine, self.cache, self.inputs)
        self.dash = create_app(settings, self.service, Shares(folder / "shares"))
        self.client = self.dash.server.test_client()
        self.models = tuple(map(name_of, models))
        for model in self.models[:load]:
            self.engine.open(model)
        for model in self.models[:load]:
            until(lambda model=model: self.engine.state(model).info or self.engine.state(model).phase == "failed", 60)
            assert self.engine.state(model).info, self.engine.state(model).sentence
        pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        self.picture = self.inputs.receive(io.BytesIO(buffer.getvalue()), None, "noise.png").key
        self.tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
        self._number = 0

    def close(self) -> None:
        self.service.close()
        self.engine.close()
        self.inputs.close()
        self.cache.close()

    def net(self, model: str) -> nn.Module:
        """A model of the operator's, built anew: the oracle."""
        module, _, name = spec_of(model).partition(":")
        net: nn.Module = getattr(importlib.import_module(module), name)()[0]
        return net

    def ask(self, **chosen: Any) -> str:
        """The name of the stream that answers a view."""
        self._number += 1
        default = view.View(model=self.models[0], a=self.picture)
        question = {
            "view": {**default.to_dict(), **chosen},
            "page": "p",
            "number": self._number,
            "drawn": {},
            "mounted": 2,
            "width": 700,
        }
        answer = self.client.post("/ask", json=question).get_json()
        self.query: str = answer["query"]
        return str(answer["stream"])

    def messages(self, stream: str) -> Iterator[dict[str, Any]]:
        """What the page is told, as it is told."""
        left = ""
        for chunk in self.client.get(stream).response:
            left += chunk.decode() if isinstance(chunk, bytes) else chunk
            while "\n\n" in left:
                event, left = left.split("\n\n", 1)
                if event.startswith("event: message"):
                    yield json.loads(event.split("data: ", 1)[1])

    def shows(self, **chosen: Any) -> dict[str, Any]:
        """What stands on the page in the end: the properties of each component, by id."""
        found: dict[str, Any] = {}
        for message in self.messages(self.ask(**chosen)):
            for component, properties in message["updates"]:
                key = component if isinstance(component, str) else f"{component['type']} {component['card']}"
                found.setdefault(key, {}).update(properties)
        return found

    def answer(self, unit: Unit, kind: type[AnswerT]) -> AnswerT:
        """What the engine answers a unit, without a page."""
        self._number += 1
        slot, events = f"slot {self._number}", list[Event]()
        self.engine.submit(slot, [unit], self.inputs.pixels)
        while not any(event.kind == "end" for event in events):
            events += self.engine.events(slot, len(events), 60.0)[0]
        found: AnswerT = decode(next(event.data for event in events if event.kind == "done"), kind)
        return found

    def layout(self) -> str:
        """The page as it is before anything was chosen."""
        return str(self.client.get("/_dash-layout").get_data(as_text=True))


@contextmanager
def operators_folder(path: Path, **modules: str) -> Iterator[Path]:
    """The operator's current directory, with factories in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, code in modules.items():
            (path / f"{name}.py").write_text(textwrap.dedent(code))
        patch.chdir(path)
        patch.syspath_prepend(str(path))
        yield path
        for name in modules:
            sys.modules.pop(name, None)


@contextmanager
def opened(folder: Path, *models: str, load: int | None = None) -> Iterator[Page]:
    """A page with these models, until it is no longer needed; at first only so many are loaded, if that is given."""
    made = Page(folder, *models, load=load)
    yield made
    made.close()
    until(lambda: not any(thread.name == "worker" for thread in threading.enumerate()))


def texts(node: Any) -> str:
    """Every text of a tree of elements."""
    if isinstance(node, str):
        return node
    if isinstance(node, Mapping):
        return texts(list(node.values()))
    return " ".join(map(texts, node)) if isinstance(node, list | tuple) else ""


def array(trace: Any) -> np.ndarray:
    """A figure's values, as Plotly writes them."""
    if isinstance(trace, dict):
        flat = np.frombuffer(base64.b64decode(trace["bdata"]), trace["dtype"])
        shape = [int(n) for n in str(trace.get("shape", flat.size)).split(",")]
        return flat.reshape(shape).astype(float)
    return np.array(trace, float)
