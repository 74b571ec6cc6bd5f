"""The memory of server and worker over hundreds of clicks, none of which was asked before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from bench import conditions
from bench.application import Application, hookscope
from bench.client import Client
from bench.options import Options, say
from bench.report import Table, megabytes, slope
from bench.walls import photograph
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import load
from hookscope.hooks.results.looks import LayerInfo

MODEL = "embedded"
LAYERS = 40
STEPS = 10  # lines of the table
WARM_SHARE = 0.7  # of the clicks, before the slope counts: until all that is kept fills its room


@dataclass(frozen=True)
class Sample:
    """One process after a click: resident bytes, threads, open files and sockets."""

    bytes: int
    threads: int
    files: int

    @classmethod
    def of(cls, process: psutil.Process) -> Sample:
        """Look at a process."""
        with process.oneshot():
            return cls(process.memory_info().rss, process.num_threads(), process.num_fds())


def run(options: Options) -> Table:
    """Click and describe."""
    layers = largest(load(ModelOptions(MODEL), "cpu").info.layers, LAYERS)
    with hookscope("--model", MODEL) as application:
        application.wait_for_model(MODEL)
        server, worker = watch(application, layers, options.clicks)
        hooks = len(application.state(MODEL)["hooks"])
    return table(server, worker, hooks)


def largest(layers: Sequence[LayerInfo], count: int) -> list[str]:
    """Keys of the layers with the most values in their maps: they fill whatever keeps values soonest."""

    def values(layer: LayerInfo) -> int:
        return math.prod(layer.calls[0].shape)

    maps = [layer for layer in layers if layer.leaf and len(layer.calls) == 1 and "height" in layer.calls[0].axes]
    return [key_of(layer.name) for layer in sorted(maps, key=values, reverse=True)[:count]]


def watch(application: Application, layers: Sequence[str], clicks: int) -> tuple[list[Sample], list[Sample]]:
    """Click layer after layer, on two new pictures after each turn through them; a sample before and after each click.

    Every click computes two activations and two Grad-CAM maps, and fetches five pictures.
    """
    client = Client(application.url, MODEL)
    server, worker = [Sample.of(application.server)], [Sample.of(application.worker)]
    for number in range(clicks):
        turn, place = divmod(number, len(layers))
        if place == 0:
            say(f"memory: click {number} of {clicks}")
            pictures = {side: application.upload(photograph(2 * turn + index)) for index, side in enumerate("ab")}
        client.choose(layers=[layers[place]], **pictures)
        server.append(Sample.of(application.server))
        worker.append(Sample.of(application.worker))
    client.leave()
    return server, worker


def table(server: Sequence[Sample], worker: Sequence[Sample], hooks: int) -> Table:
    """A line every so many clicks, and the slope over the last ones."""
    clicks = len(server) - 1
    step = max(1, clicks // STEPS)
    rows = [
        [f"{number} clicks", *(text for at in (server[number], worker[number]) for text in _cells(at))]
        for number in range(0, clicks + 1, step)
    ]
    first = round(clicks * WARM_SHARE)
    slopes = [f"{slope([each.bytes for each in samples[first:]]) * 100 / 1e6:+.1f} MB" for samples in (server, worker)]
    rows.append([f"slope per 100 clicks, over the last {clicks - first}", slopes[0], "", slopes[1], ""])
    notes = [
        f"Each click is on one of {LAYERS} layers of the default model, for two pictures side by side, new after",
        "each turn, so nothing comes from the cache. Server and worker keep the newest answers, pictures and",
        f"addresses, up to limits that the first {first} clicks fill. Hooks live on the model at the end: {hooks}.",
        conditions.sentence(["torch", "dash"]),
    ]
    columns = ["", "server", "its threads, open files", "worker", "its threads, open files"]
    return Table("memory", columns, rows, notes)


def _cells(sample: Sample) -> list[str]:
    return [megabytes(sample.bytes), f"{sample.threads}, {sample.files}"]
