"""Hookscope: open a trained vision model in the browser and see what each layer computes.

python app.py --help
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    """Parse the settings, build the application, serve it until a signal comes, and leave nothing behind."""
    folder = str(Path(__file__).resolve().parent)
    if folder not in sys.path:  # PYTHONSAFEPATH, or -P, leaves out the folder that the program lies in
        sys.path.insert(0, folder)
    try:
        from dashboard.dash_environment import hidden

        with hidden():  # Dash reads a part of the environment while it is imported
            from dashboard.run import run
        from dashboard.settings import parse

        return run(parse(sys.argv[1:], os.environ))
    except KeyboardInterrupt:  # Ctrl+C while the imports still run; from then on `run` stops in its own way
        return 130


if __name__ == "__main__":
    sys.exit(main())
