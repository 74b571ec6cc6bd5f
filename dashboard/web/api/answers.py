"""What a program is answered: JSON without anything that is no JSON, within a budget; refusals and half-known answers.

{"error": "a sentence", ...}            refused
{"waiting": "a sentence", "known": ...,
 "again": "api/v1/...", ...}            not known in time; the same address gives more
{"rows": [...], "next": "api/v1/..."}   more rows than one answer may have
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import flask
import numpy as np

MOST_BYTES = 64_000  # of the rows of one answer
AGAIN_SECONDS = 2  # after which it is worth asking again


class Refused(Exception):
    """There is no answer; the text says why and what to do.

    Attributes:
        status: HTTP's. more: what stands beside the sentence, names among it.
    """

    def __init__(self, sentence: str, status: int = 400, **more: Any) -> None:
        super().__init__(sentence)
        self.status = status
        self.more = more


class Later(Exception):
    """The answer is not known yet.

    Attributes:
        known: what of it is. done, total: how far it is, where that is told.
    """

    def __init__(self, sentence: str, known: Any = None, done: int = 0, total: int = 0) -> None:
        super().__init__(sentence)
        self.known = known
        self.done, self.total = done, total


def answer(act: Callable[[], Any], address: str) -> flask.Response:
    """What a question gives, as a response.

    Arguments:
        act: gives a response, or what is to be written as JSON. address: at which the same can be asked again.
    """
    try:
        found = act()
    except Refused as refused:
        return written({"error": str(refused), **refused.more}, refused.status)
    except Later as later:
        progress = {"done": later.done, "total": later.total} if later.total else None
        body = {"waiting": str(later), "known": later.known, "progress": progress, "again": address}
        response = written({**body, "again_in_seconds": AGAIN_SECONDS}, 202)
        response.headers["Retry-After"] = str(AGAIN_SECONDS)
        return response
    return found if isinstance(found, flask.Response) else written(found)


def written(body: Any, status: int = 200) -> flask.Response:
    """JSON, all of it ASCII."""
    return flask.Response(json.dumps(plain(body), allow_nan=False) + "\n", status, mimetype="application/json")


def plain(value: Any) -> Any:
    """What JSON can hold: a number that is not known is null, an infinite one the text "inf" or "-inf".

    >>> plain({"mean": float("nan"), "max": np.float32("inf"), "shape": (1, 2)})
    {'mean': None, 'max': 'inf', 'shape': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def fitting(rows: Sequence[Any], most_bytes: int = MOST_BYTES) -> list[Any]:
    """As many of the first rows as the budget has room for, and always one."""
    found: list[Any] = []
    left = most_bytes
    for row in rows:
        left -= len(json.dumps(plain(row))) + 2
        if found and left < 0:
            break
        found.append(row)
    return found


def address_of(path: str, given: Mapping[str, str], **changed: Any) -> str:
    """An address below the page's, with the parameters that were given but for those that are changed."""
    return f"{path}?{urlencode({**given, **{name: str(value) for name, value in changed.items()}})}"
