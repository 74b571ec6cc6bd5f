"""Hookscope: open a trained vision model in the browser and see what each layer computes.

python app.py --help
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Parse the settings, build the application, serve it until a signal comes, and leave nothing behind."""
    from dashboard.run import run
    from dashboard.settings import parse

    return run(parse(sys.argv[1:], os.environ))


if __name__ == "__main__":
    sys.exit(main())
