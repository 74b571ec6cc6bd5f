"""How long Hookscope takes to start and to stop, and whether anything is left of it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import psutil

from bench import conditions
from bench.application import hookscope
from bench.options import Options, say
from bench.report import Table, seconds
from hookscope.hooks.bench.timing import median

MODELS = {"embedded": "the default model", "torchvision:resnet50@random": "ResNet-50"}


def run(options: Options) -> Table:
    """Start and stop, each model in turn, and describe."""
    rows = []
    for spec, title in MODELS.items():
        printed, ready, stopped = [], [], []
        left = 0
        for number in range(options.starts):
            say(f"start: {title}, {number + 1} of {options.starts}")
            with hookscope("--model", spec) as application:
                printed.append(application.start_seconds)
                ready.append(application.wait_for_model(spec))
                family = [application.server, *application.server.children(recursive=True)]
                stopped.append(application.stop())
                left += sum(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)
                left += is_open(application.url)
        rows.append([title, *(seconds(median(each)) for each in (printed, ready, stopped)), str(left)])
    notes = [
        f"Medians of {options.starts} starts; the files were read before, so they come from memory.",
        "Stopped by SIGTERM while a worker held the model.",
        conditions.sentence(["torch", "dash"]),
    ]
    columns = ["", "address printed", "model ready", "stopped", "processes and ports left"]
    return Table("start", columns, rows, notes)


def is_open(url: str) -> bool:
    """Whether somebody still listens at an address."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1):
            return True
    except OSError:
        return False
