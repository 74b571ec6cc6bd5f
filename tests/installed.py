"""Hookscope as somebody has it who is not us: a copy of the checkout, and the wheel installed into an empty folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from checkout import ROOT

NEEDED = ("src", "hooks", "dashboard", "assets", "pyproject.toml", "README.md", "LICENSE")
REQUIREMENTS = ("requirements.txt", "requirements-fast.txt")  # the page's


def copy_checkout(target: Path) -> Path:
    """Copy what the application consists of, links as links."""
    for name in (*NEEDED, *REQUIREMENTS, "app.py"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


def install_wheel(source: Path, target: Path) -> Path:
    """Build the wheel of a checkout and install it alone into a folder, as `pip install --target` does."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return target
