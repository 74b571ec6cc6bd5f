"""The visible key of a layer's call, as the tree, the URL and the cards use it, and the way back."""

from __future__ import annotations

import re

ROOT_KEY = "(model)"  # the model itself has the empty name, which neither a URL nor a row of the tree can show
MAX_NAME_LENGTH = 4_000  # characters of a layer's name: 200 modules deep is 3,000, and 24 of them fit into an address
MAX_KEY_LENGTH = MAX_NAME_LENGTH + 20  # with a call behind it

# As `key_of` writes it and no other way, so that "a:01" is no second key of "a:1", but a layer of that name.
_CALL_SUFFIX = re.compile(r"(.*):(0|[1-9][0-9]{0,8})", re.DOTALL)
_LIKE_ROOT = re.compile(r"(\(+)model(\)+)")  # what a module would have to be called to be taken for the model


def key_of(name: str, call: int = 0) -> str:
    """The visible key of one call of a layer; one call has exactly one key.

    The first call's key is the layer's name alone, so a layer that runs once and its only call are the same thing.

    >>> key_of("layer1.0.relu"), key_of("layer1.0.relu", 1), key_of("")
    ('layer1.0.relu', 'layer1.0.relu:1', '(model)')
    """
    visible = f"({name})" if _LIKE_ROOT.fullmatch(name) else name or ROOT_KEY
    if call == 0 and not _CALL_SUFFIX.fullmatch(visible):  # a module may itself be called "a:1"
        return visible
    return f"{visible}:{call}"


def parse_key(key: str) -> tuple[str, int]:
    """The layer's name and the 0-based call that a key stands for: the inverse of `key_of`.

    >>> parse_key("layer1.0.relu:1"), parse_key("(model)")
    (('layer1.0.relu', 1), ('', 0))
    """
    found = _CALL_SUFFIX.fullmatch(key)
    visible, call = (found.group(1), int(found.group(2))) if found else (key, 0)
    if _LIKE_ROOT.fullmatch(visible):
        return ("" if visible == ROOT_KEY else visible[1:-1]), call
    return visible, call


def canonical(key: str) -> str:
    """The one key of the call that a key written by hand means: "a:0" is "a"."""
    return key_of(*parse_key(key))
