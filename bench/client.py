"""Hookscope's page without a browser: asks, follows the stream and fetches the pictures as the page's scripts do."""

from __future__ import annotations

import json
import re
import secrets
import urllib.request
from collections.abc import Iterator
from typing import Any

PICTURE = re.compile(r'"source":\s*"([^"]*picture[^"]*)"')
TIMEOUT_SECONDS = 60.0
WIDTH_PX = 2400  # of a card's wall in a very wide window: large pictures fill whatever keeps them soonest


class Client:
    """One page of a running application, with one card."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.page = secrets.token_hex(16)
        self.drawn: dict[str, str] = {}
        self.number = 0
        self.view = {"model": model, "count": "all"}
        self._get("")

    def choose(self, **changes: object) -> int:
        """Change the view and wait until everything is answered and every picture is there; returns their bytes.

        Raises:
            RuntimeError: a part of the page was told to show an error.
        """
        self.view |= changes
        stream = self._ask()
        return sum(self._apply(message) for message in self._messages(stream)) if stream else 0

    def leave(self) -> None:
        """Close the page."""
        self._post(f"leave/{self.page}", b"")

    def _ask(self) -> str:
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

    def _messages(self, stream: str) -> Iterator[dict[str, Any]]:
        kind = ""
        with urllib.request.urlopen(self._address(stream), timeout=TIMEOUT_SECONDS) as lines:
            for line in lines:
                name, _, text = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = text
                elif name == "data" and kind == "message":
                    yield json.loads(text)
                elif name == "data":
                    if kind != "done":
                        raise RuntimeError(f"The stream ended with {kind!r}: {text}")
                    return

    def _apply(self, message: dict[str, Any]) -> int:
        if message["signature"]:
            self.drawn[message["part"]] = message["signature"]
        else:
            self.drawn.pop(message["part"], None)
        text = json.dumps(message["updates"])
        if '"data-do": "retry"' in text:
            raise RuntimeError(f"{message['part']} shows an error: {text[:400]}")
        return sum(len(self._get(source)) for source in dict.fromkeys(PICTURE.findall(text)))

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._address(path), timeout=TIMEOUT_SECONDS) as answer:
            return bytes(answer.read())

    def _post(self, path: str, data: bytes, kind: str = "application/octet-stream") -> bytes:
        request = urllib.request.Request(self._address(path), data, {"Content-Type": kind}, method="POST")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return bytes(answer.read())

    def _address(self, path: str) -> str:
        return self.url + path.lstrip("/")
