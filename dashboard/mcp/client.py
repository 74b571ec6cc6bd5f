"""The answers of a running page's `api/v1/`, fetched: GET only, from the one address that was given and no other."""

from __future__ import annotations

import http.client
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

MOST_BYTES = 8_000_000  # of an answer
SLACK_SECONDS = 30.0  # beyond what the page was asked to wait
NO_PAGE = "What answers at this address is no page of Hookscope. Check --url."


class NotAnswered(Exception):
    """The page gave no answer; the text says why."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A page's answer never sends to another address; one that does is not a page."""

    def redirect_request(self, *arguments: Any, **more: Any) -> None:
        return None


@dataclass(frozen=True)
class Answer:
    """What came.

    Attributes:
        status: HTTP's. kind: the media type. body: its bytes. headers: lower case names.
    """

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body read as JSON, which is an object.

        Raises:
            NotAnswered: it is none.
        """
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise NotAnswered(NO_PAGE) from error
        if not isinstance(found, dict):
            raise NotAnswered(NO_PAGE)
        return found


class Client:
    """Asks one page.

    Arguments:
        url: of the page, http or https. token: of it, "" if it asks for none.

    Attributes:
        page: its address, without a query. caller: the name under which it asks, which nobody else has, so that
            nobody else's questions count as this one's.

    Raises:
        ValueError: that is no such address.
    """

    def __init__(self, url: str, token: str = "") -> None:
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            known = False
        if not known:
            raise ValueError("--url is the address of a running page, such as http://127.0.0.1:8050/.")
        self.page = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/"
        self.caller = f"hookscope-mcp-{secrets.token_hex(8)}"
        self._token = token
        # no proxy, which would be told the token, and no handler of any other kind of address
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler(),
            urllib.request.HTTPSHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _NoRedirect(),
        ):
            self._opener.add_handler(handler)

    def get(self, path: str, parameters: Mapping[str, Any], wait_seconds: int = 0) -> Answer:
        """What the page answers at an address below `api/v1/`; a refusal is an answer, too.

        Arguments:
            parameters: those that are None are left out.

        Raises:
            NotAnswered: nothing came, or too much.
        """
        given = {name: str(value) for name, value in parameters.items() if value is not None}
        request = urllib.request.Request(f"{self.page}api/v1/{path}?{urlencode(given, errors='replace')}".rstrip("?"))
        request.add_header("X-Hookscope-Caller", self.caller)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=wait_seconds + SLACK_SECONDS) as response:
                return _read(response.status, response)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error.code, error)
        except (OSError, http.client.HTTPException, ValueError) as error:
            sentence = "The page does not answer. Is it still running, and is --url the address that it printed?"
            raise NotAnswered(sentence) from error


def _read(status: int, response: Any) -> Answer:
    body = response.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise NotAnswered("The answer is larger than any of a page's. Check --url.")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status, headers.get("content-type", "").partition(";")[0], body, headers)
