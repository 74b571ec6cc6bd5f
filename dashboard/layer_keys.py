"""The visible key of a layer's call, as the tree, the URL and the cards use it, and the way back."""

from __future__ import annotations

import re

ROOT_KEY = "(model)"  # the model itself has the empty name, which neither a URL nor a row of the tree can show

_CALL_SUFFIX = re.compile(r"^(.*):(\d+)$", re.DOTALL)


def key_of(name: str, call: int = 0) -> str:
    """The visible key of one call of a layer; one call has exactly one key.

    The first call's key is the layer's name alone, so a layer that runs once and its only call are the same thing.

    >>> key_of("layer1.0.relu"), key_of("layer1.0.relu", 1), key_of("")
    ('layer1.0.relu', 'layer1.0.relu:1', '(model)')
    """
    visible = name or ROOT_KEY
    if call == 0 and not _CALL_SUFFIX.match(visible):  # a module may itself be called "a:1"
        return visible
    return f"{visible}:{call}"


def parse_key(key: str) -> tuple[str, int]:
    """The layer's name and the 0-based call that a key stands for: the inverse of `key_of`.

    >>> parse_key("layer1.0.relu:1"), parse_key("(model)")
    (('layer1.0.relu', 1), ('', 0))
    """
    found = _CALL_SUFFIX.match(key)
    visible, call = (found.group(1), int(found.group(2))) if found else (key, 0)
    return ("" if visible == ROOT_KEY else visible), call
