"""Hookscope: open a trained vision model in the browser and see what each layer computes.

python app.py --help
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Find the package, which lies in src/, and hand over to its program."""
    here = Path(__file__).resolve().parent
    # Not this folder itself: it holds `hooks`, `dashboard` and `tests`, which would hide packages of these names in the
    # folder that somebody's own model comes from.
    sys.path[:] = [str(here / "src"), *(entry for entry in sys.path if Path(entry).resolve() != here)]
    from hookscope.__main__ import main as program

    return program()


if __name__ == "__main__":
    sys.exit(main())
