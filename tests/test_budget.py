"""A click stays as cheap as it was: the processor time of server and worker, in bare forward passes of the same run.

Processor time, because other programs take the time on the clock; a ratio, because machines differ; the median of nine,
in turns, because a machine drifts; and three tries, because a test that fails by chance is switched off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median

import psutil
import pytest
import torch
from torch import nn

from bench.application import Application, hookscope
from bench.client import Client
from bench.walls import photograph
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import load

# An uncached card of this layer, all its channels, with statistics, figures and Grad-CAM, over the bare forward pass to
# it. Recorded as `one_try` has it (pytest -s prints it): the median of three tries, 14.0, 15.2 and 16.1, while other
# programs ran on the same two cores (AMD EPYC, Linux, Python 3.11, torch 2.15). A change that makes a click dearer on
# purpose records it anew.
RECORDED = 15.2
ALLOWED = 1.5  # times that
MODEL, LAYER = "embedded", "blocks.3.1"
ROUNDS = 9
TRIES = 3
CLICKS = 3  # in a round: the system counts a process's time in hundredths of a second
PASSES = 8


class Reached(Exception):
    """The layer has run."""


def stops_here(*_: object) -> None:
    raise Reached


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    with hookscope("--model", MODEL, "--threads", "1") as started:
        started.wait_for_model(MODEL)
        yield started


def spent(processes: Iterable[psutil.Process]) -> float:
    """Seconds that processors worked for these."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


class Clicks:
    """Somebody who asks about one new picture after the other."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.client = Client(application.url, MODEL)
        self.processes = [application.server, application.worker]
        self.pictures = 0

    def cost(self) -> float:
        """Seconds of a click; the uploads before it are not counted."""
        keys = []
        for _ in range(CLICKS):
            self.pictures += 1
            keys.append(self.application.upload(photograph(self.pictures)))
        before = spent(self.processes)
        for key in keys:
            self.client.choose(a=key, layers=[LAYER])
        return (spent(self.processes) - before) / CLICKS


def bare() -> Callable[[], float]:
    """The seconds of a forward pass up to the layer, by hand."""
    loaded = load(ModelOptions(MODEL), "cpu")
    module: nn.Module = loaded.module
    picture = loaded.prepare.noise(0)
    module.get_submodule(LAYER).register_forward_hook(stops_here)

    def cost() -> float:
        before = time.thread_time()
        for _ in range(PASSES):
            with torch.no_grad(), pytest.raises(Reached):
                module(picture)
        return (time.thread_time() - before) / PASSES

    return cost


def one_try(click: Callable[[], float], passes: Callable[[], float]) -> float:
    """The median of the rounds' ratios; each compares what ran one after the other."""
    return median(click() / passes() for _ in range(ROUNDS))


def within(tries: Iterable[float], most: float) -> bool:
    """Whether one of the tries is; the others are not even begun then."""
    return any(found <= most for found in tries)


def test_a_click_costs_no_more_than_it_did(application: Application) -> None:
    clicks, passes = Clicks(application), bare()
    clicks.cost(), passes()  # to warm up
    found: list[float] = []

    def tries() -> Iterator[float]:
        for _ in range(TRIES):
            found.append(one_try(clicks.cost, passes))
            print(f"a click is {found[-1]:.2f} bare forward passes to {LAYER}")
            yield found[-1]

    assert within(tries(), RECORDED * ALLOWED), (
        f"a click costs {', '.join(f'{each:.2f}' for each in found)} bare forward passes; {RECORDED} were recorded"
    )


def test_it_fails_only_if_three_tries_in_a_row_are_dearer_by_half() -> None:
    assert within(iter([2.0, 1.6, 1.5]), 1.5)
    assert not within(iter([2.0, 1.6, 1.51]), 1.5)
    begun = iter([1.0, 2.0])
    assert within(begun, 1.5) and next(begun) == 2.0  # the first is enough
    costs = iter([1.0, 9.0, 1.2, 1.1, 0.9, 1.0, 1.0, 8.0, 1.0])
    assert one_try(lambda: next(costs), lambda: 0.5) == 2.0  # two rounds in which something else happened do not matter
