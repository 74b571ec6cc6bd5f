"""Finds the Firefox that a slow test drives; run as a program, it installs one where there is none."""

from __future__ import annotations

import os
import shutil
import sys

from find_chromium import install_with_apt

NAMES = ("firefox-esr", "firefox")
# marionette-driver cannot be installed beside our other packages there: it demands a psutil of 2024 on macOS alone.
CAN_BE_DRIVEN = sys.platform != "darwin"


def find_firefox() -> str:
    """The path of a Firefox: $FIREFOX, or one on the search path; "" if none."""
    if chosen := os.environ.get("FIREFOX"):
        return shutil.which(chosen) or ""
    return next(filter(None, map(shutil.which, NAMES)), "")


def install_firefox() -> str:
    """Install a Firefox if this machine offers a way, and say where it is; "" if there is none."""
    install_with_apt("Firefox", "firefox-esr", "fonts-dejavu-core")
    return find_firefox()


if __name__ == "__main__" and CAN_BE_DRIVEN:
    if "FIREFOX" in os.environ and not find_firefox():
        sys.exit(f"FIREFOX names {os.environ['FIREFOX']}, and there is no such program.")
    if not (find_firefox() or install_firefox()):
        sys.exit("A slow test needs Firefox: install the package firefox-esr or firefox, or set FIREFOX to one's path.")
