"""Where our own files lie, in a checkout as in an installed wheel: found by the package, never by a depth."""

from __future__ import annotations

from pathlib import Path

import hookscope

PACKAGE = Path(hookscope.__file__).absolute().parent  # holds hooks, dashboard and assets, or links to them
IMPORTED_FROM = PACKAGE.parent  # what a child process needs on its path to import `hookscope`
ASSETS = PACKAGE / "assets"  # the page's own scripts, styles and sample pictures
SAMPLES_FOLDER = ASSETS / "samples"
