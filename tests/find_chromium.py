"""Finds the Chromium that the browser tests drive; run as a program, it installs one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def find_chromium() -> str:
    """The path of a Chromium: $CHROMIUM, one on the search path, an application, or playwright's own; "" if none."""
    if chosen := os.environ.get("CHROMIUM"):
        return shutil.which(chosen) or ""
    candidates = [*map(shutil.which, NAMES), *APPLICATIONS]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), "") or _playwrights_own()


def install_chromium() -> str:
    """Install a Chromium in the way this machine offers, and say where it is; "" if there is no way."""
    install_with_apt("Chromium", "chromium", "fonts-dejavu-core")
    if not find_chromium():
        print("Installing playwright's Chromium, once.", flush=True)
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    return find_chromium()


def install_with_apt(title: str, *packages: str) -> None:
    """Install Debian packages where there is apt-get and we may; what is there afterwards shows whether it worked."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not (is_root and shutil.which("apt-get")):
        return
    print(f"Installing {title} with apt-get, once.", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)


def _playwrights_own() -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else ""


if __name__ == "__main__":
    if "CHROMIUM" in os.environ and not find_chromium():
        sys.exit(f"CHROMIUM names {os.environ['CHROMIUM']}, and there is no such program.")
    if not (find_chromium() or install_chromium()):
        sys.exit("The browser tests need a Chromium: install the package chromium, or set CHROMIUM to one's path.")
