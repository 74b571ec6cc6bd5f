"""The stop buttons beside what takes long: the model stops, what was known stays, and the sentence offers the rest."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from own_page import NET, Page, opened, operators_folder, texts

from hookscope.dashboard.answers.service import STOPPED_HALFWAY
from hookscope.dashboard.engine.queue import STOPPED

MODEL, OTHER, LATE = "stopped:wide", "stopped:other", "late=stopped:late"
SLOW = f"""{NET}
    import threading
    import time

    passes = []
    slow = threading.Event()
    may_load = threading.Event()

    class Slow(nn.Module):
        def forward(self, maps):
            if slow.is_set():
                passes.append(1)
                time.sleep(0.25)  # so that the page is told between any two
            return maps * 1.0

    def wide():
        net, how = make()
        own = torch.Generator().manual_seed(5)
        wide = nn.Sequential(nn.Conv2d(3, 24, 3), nn.ReLU(), Slow(), *list(net[2:4]), nn.Linear(24, 3))
        with torch.no_grad():
            for each in wide.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
        return wide.eval(), how

    def late():
        may_load.wait(60)
        return make()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("stopped")
    with operators_folder(folder, stopped=SLOW), opened(folder, MODEL, OTHER, LATE, load=2) as made:
        made.net(MODEL)
        yield made
        sys.modules["stopped"].may_load.set()


def stopped(page: Page, part: str, component: str, known: str, **chosen: Any) -> list[str]:
    """What a component says while somebody waits for `known`, presses its stop button and waits for the end."""
    told: list[str] = []
    pressed = False
    for message in page.messages(page.ask(**chosen)):
        for name, properties in message["updates"]:
            key = name if isinstance(name, str) else f"{name['type']} {name['card']}"
            if key == component and "tree" in properties:
                told.append(" ".join(texts(properties["tree"]).split()))
        if not pressed and told and re.search(known, told[-1]):
            assert re.search(rf"button link (stop {part}|{part} stop) stop", told[-1]), told[-1]
            pressed = True
            page.client.post(f"/cancel/p?part={part}")
    assert pressed, told
    assert "stop stop" not in told[-1] and "Try again" in told[-1], told[-1]
    return told


@pytest.fixture
def passes() -> Iterator[list[int]]:
    """The passes that the model has made since it became slow."""
    module = sys.modules["stopped"]
    module.passes.clear()
    module.slow.set()
    yield module.passes
    module.slow.clear()


def test_the_fourth_wall_stops_although_a_table_waits_for_it_too(page: Page, passes: list[int]) -> None:
    both = {"layers": ["1"], "b": page.picture, "prepare_b": "bgr", "target": 0, "target_b": 1, "apart": True}
    told = stopped(page, "card 0", "card-labels 0", r"\b[1-9]\d* of 24 measured", table=True, restored=True, **both)
    assert STOPPED_HALFWAY in told[-1]
    found = re.search(r"\b(\d+) of 24 measured", told[-1])
    assert found is not None and 1 <= int(found[1]) < 24 and len(passes) < 24


def test_the_likeness_stops(page: Page, passes: list[int]) -> None:
    both = {"b": page.picture, "model_b": OTHER, "likeness": True}
    told = stopped(page, "likeness", "likeness-text", r"A: computing … [1-9]\d* of \d\d pictures", **both)
    assert STOPPED in told[-1] and len(passes) < 18


def test_the_table_of_models_waits_for_no_model_any_longer(page: Page) -> None:
    told = stopped(page, "models", "models", r"overlap.* loading …", models=True)
    assert STOPPED in told[-1] and "overlap" in told[-1] and "loading …" not in told[-1]


def test_there_is_no_button_where_everything_is_there(page: Page) -> None:
    shown = page.shows(layers=["1"], rank="effect", table=True)
    assert "'data-do': 'stop'" not in str(shown)
