"""Keeps Dash from its own environment variables: what Hookscope's settings do not list has no say in Hookscope.

Some of what `DASH_*` sets cannot be given as an argument (`DASH_APP_NAME`, the addresses' prefixes beside each other),
some is read before there is an argument (`REACT_VERSION`, while Dash is imported), and a number that is none
(`DASH_HOT_RELOAD_INTERVAL=x`) is a traceback whatever the arguments say.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

PREFIXES = ("DASH_", "FLASK_")  # Dash reads its own in lower case too
NAMES = ("REACT_VERSION", "PLOTLY_RENDERER", "WERKZEUG_DEBUG_PIN", "WERKZEUG_RUN_MAIN")


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Take the variables out of this process's environment for a moment; a model's own code finds them as they were."""
    taken = {name: os.environ.pop(name) for name in list(os.environ) if is_foreign(name)}
    try:
        yield
    finally:
        os.environ.update(taken)


def is_foreign(name: str) -> bool:
    """Whether Dash, or what it stands on, would read this variable."""
    return name.upper().startswith(PREFIXES) or name.upper() in NAMES
