"""Hookscope's page without a browser: asks, follows the stream and fetches the pictures as the page's scripts do."""

from __future__ import annotations

import copy
import json
import re
import secrets
import urllib.request
from collections.abc import Iterator
from typing import Any

PICTURE = re.compile(r'"(?:source|src)":\s*"([^"]*picture[^"]*)"')
TIMEOUT_SECONDS = 60.0
RETRY = '"data-do": "retry"'  # the button beside every error that may go away
WIDTH_PX = 2400  # of a card's wall in a very wide window: large pictures fill whatever keeps them soonest


class Busy(Exception):
    """The server says that as many people as it can serve at once are waiting; the page asks again in a moment."""


class Client:
    """One page of a running application, with one card."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.page = secrets.token_hex(16)
        self.drawn: dict[str, str] = {}
        self.number = 0
        self.view = {"model": model, "count": "all"}
        self.read("")

    def another(self) -> Client:
        """One more page, which need not load this one's scripts again."""
        page = copy.copy(self)
        page.page, page.drawn, page.number, page.view = secrets.token_hex(16), {}, 0, dict(self.view)
        return page

    def choose(self, **changes: object) -> int:
        """Change the view and wait until everything is answered and every picture is there; returns their bytes.

        Raises:
            RuntimeError: a part of the page was told to show an error.
        """
        stream = self.ask(**changes)
        return sum(self._show(message) for message in self.messages(stream))

    def leave(self) -> None:
        """Close the page."""
        self._post(f"leave/{self.page}", b"")

    def open(self, path: str) -> Any:
        """A path of the application as a response to read from."""
        return urllib.request.urlopen(self._address(path), timeout=TIMEOUT_SECONDS)

    def read(self, path: str) -> bytes:
        """Everything at a path of the application."""
        with self.open(path) as answer:
            return bytes(answer.read())

    def ask(self, **changes: object) -> str:
        """Change the view; returns the path of the stream of answers, "" if everything is on the page already."""
        self.view |= changes
        self.number += 1
        asked = {
            "view": self.view,
            "page": self.page,
            "drawn": self.drawn,
            "mounted": 1,
            "width": WIDTH_PX,
            "number": self.number,
        }
        answer = json.loads(self._post("ask", json.dumps(asked).encode(), "application/json"))
        return str(answer["stream"])

    def messages(self, stream: str) -> Iterator[dict[str, Any]]:
        """The parts of an answer as they arrive; `drawn` remembers those that are whole.

        Raises:
            Busy: the server has no place for the stream now.
        """
        kind = ""
        if not stream:
            return
        with self.open(stream) as lines:
            for line in lines:
                name, _, text = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = text
                elif name == "data" and kind == "message":
                    message = json.loads(text)
                    if message["signature"]:
                        self.drawn[message["part"]] = message["signature"]
                    else:
                        self.drawn.pop(message["part"], None)
                    yield message
                elif name == "data":
                    if kind == "busy":
                        raise Busy(text)
                    return  # "done", or "cut" where a newer question replaced it

    def _show(self, message: dict[str, Any]) -> int:
        text = json.dumps(message["updates"])
        if RETRY in text:
            raise RuntimeError(f"{message['part']} shows an error: {text[:400]}")
        return sum(len(self.read(source)) for source in pictures(message))

    def _post(self, path: str, data: bytes, kind: str = "application/octet-stream") -> bytes:
        request = urllib.request.Request(self._address(path), data, {"Content-Type": kind}, method="POST")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return bytes(answer.read())

    def _address(self, path: str) -> str:
        return self.url + path.lstrip("/")


def pictures(message: dict[str, Any]) -> list[str]:
    """The addresses of the pictures that a part shows."""
    return list(dict.fromkeys(PICTURE.findall(json.dumps(message["updates"]))))
