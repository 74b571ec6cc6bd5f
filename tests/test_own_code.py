"""What identifies our own code: a change of any of its files, in a checkout and in an installed wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import copy_checkout, install_wheel

# Changes one file in each folder that it finds, without asking the module which folders it hashes.
SCRIPT = """
import json
from hookscope.dashboard.places import PACKAGE
from hookscope.dashboard.sources import own_code

seen, unseen = [], []
for name in ("hooks", "dashboard/asking", "dashboard/checking", "dashboard/sources", "dashboard/worker"):
    top = PACKAGE / name
    for folder in [top, *(path for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__")]:
        before = own_code.code_digest.__wrapped__()
        file = sorted(folder.glob("*.py"))[-1]
        file.write_text(file.read_text() + "# changed")
        same = own_code.code_digest.__wrapped__() == before
        (unseen if same else seen).append(folder.relative_to(PACKAGE).as_posix())
print(json.dumps([seen, unseen]))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(copy_checkout(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("site"))


@pytest.mark.parametrize("kind", ["checkout", "wheel"])
def test_a_change_in_every_folder_is_seen(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place: Path = request.getfixturevalue(kind)
    environ = {**os.environ, "PYTHONPATH": str(place / "src" if kind == "checkout" else place)}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    seen, unseen = json.loads(ran.stdout)
    assert not unseen and len(seen) >= 11, (seen, unseen)
