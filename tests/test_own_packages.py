"""A person's repository with packages of our folders' names: their model opens, by every way to start the program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT, SOURCE
from installed import copy_checkout, install_wheel
from served import until

# Everything at the top of our own repository, and our modules' names, as somebody else's packages.
NAMES = ("hooks", "dashboard", "assets", "tests", "bench", "docs", "src", "worker", "sources", "settings")
FACTORY = (
    "".join(f"from {name} import SCALE as {name}_scale\n" for name in (*NAMES, "app"))
    + """
from dashboard.panels import WIDTH
from hooks.results import looks
from torch import nn

def make():
    total = sum(value for name, value in globals().items() if name.endswith("_scale"))
    model = nn.Sequential(nn.Conv2d(3, total, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(total, WIDTH))
    return model, {"input_size": 8, "title": looks.TITLE}
"""
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's own code, which has nothing of ours."""
    folder = tmp_path_factory.mktemp("their repository")
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("SCALE = 1\n")
    (folder / "app.py").write_text("SCALE = 1\n")
    (folder / "dashboard" / "panels.py").write_text("WIDTH = 4\n")
    (folder / "hooks" / "results").mkdir()
    (folder / "hooks" / "results" / "__init__.py").write_text("")
    (folder / "hooks" / "results" / "looks.py").write_text("TITLE = 'Theirs'\n")
    (folder / "net.py").write_text(FACTORY)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed wheel."""
    return install_wheel(copy_checkout(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("site"))


def opened(repository: Path, cache: Path, command: list[str], **variables: str) -> dict[str, Any]:
    """Start the program in the repository; the state of the model when it is loaded or has failed."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    command = [*command, "--model", "net:make", "--port", "0", "--cache-dir", str(cache)]
    with subprocess.Popen(
        command, cwd=repository, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = re.search(r"http://\S+", server.stdout.readline())
            assert url is not None

            def state() -> Any:
                query = urllib.parse.quote("net:make")
                with urllib.request.urlopen(f"{url[0]}state?model={query}", timeout=30) as answer:
                    found = json.load(answer)
                return found if found["phase"] in ("ready", "failed") else None

            found: dict[str, Any] = until(state, what="for the model")
            return found
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.parametrize("how", ["app.py", "PYTHONSAFEPATH", "module", "console script"])
def test_their_model_opens(how: str, repository: Path, site: Path, tmp_path: Path) -> None:
    app = str(ROOT / "app.py")
    command, variables = {
        "app.py": ([sys.executable, app], {}),
        "PYTHONSAFEPATH": ([sys.executable, app], {"PYTHONSAFEPATH": "1"}),
        "module": ([sys.executable, "-m", "hookscope"], {"PYTHONPATH": str(SOURCE)}),
        "console script": ([sys.executable, str(site / "bin" / "hookscope")], {"PYTHONPATH": str(site)}),
    }[how]
    found = opened(repository, tmp_path, command, **variables)
    assert found["phase"] == "ready", found["sentence"]


def test_the_benchmark_finds_their_model_too(repository: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "bench", "net:make", "--input-size", "8", "--repeats", "1"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "bare forward" in ran.stdout
