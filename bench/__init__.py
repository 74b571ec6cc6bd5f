"""The benchmarks: what Hookscope costs, in the same run as what else one would do. `python -m bench --help`."""

import sys
from pathlib import Path

_SOURCE = str(Path(__file__).resolve().parent.parent / "src")
if _SOURCE not in sys.path:  # they run from a checkout
    sys.path.insert(0, _SOURCE)
