"""Under what conditions something was measured: the machine and the versions, as a sentence."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sentence(packages: Sequence[str], *more: str) -> str:
    """For example "Measured on 2 cores (AMD EPYC 7B13), Linux, Python 3.11, torch 2.15.0, Chromium 140."."""
    name = _processor()
    parts = [
        f"{cores()} cores" + (f" ({name})" if name else ""),
        platform.system(),
        f"Python {platform.python_version()}",
        *(f"{package} {importlib.metadata.version(package)}" for package in packages),
        *more,
    ]
    return f"Measured on {', '.join(parts)}."


def busy() -> str:
    """A sentence if something else is at work on this machine, else ""."""
    if not hasattr(os, "getloadavg"):
        return ""
    load = os.getloadavg()[0]
    if load < 0.4 * cores():
        return ""
    return f"This machine is busy (load {load:.1f} on {cores()} cores), so the times will be too long and uneven."


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # not Linux
        return platform.processor()
    text = found[1] if found else ""
    return re.sub(r"\s+", " ", re.sub(r"\((R|TM)\)|CPU|Processor|@.*", "", text)).strip()
