"""What a program gives behind the `?` of an address, read strictly: a typing error is no wish for the default."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import flask

from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH
from hookscope.dashboard.web.api.answers import Refused

MISSING = object()
OF_EVERY = ("wait", "slot")  # parameters of every address that asks a model


class Given:
    """The parameters of one request.

    Arguments:
        request: that is answered. allowed: the names that it may have.

    Attributes:
        texts: as they were given, by name.

    Raises:
        Refused: there is another one, one twice, or one that is too long.
    """

    def __init__(self, request: flask.Request, allowed: Collection[str]) -> None:
        self.texts: Mapping[str, str] = request.args.to_dict()
        for name, values in request.args.lists():
            if name not in allowed:
                takes = f"This address takes {', '.join(allowed)}." if allowed else "This address takes none."
                raise Refused(f"There is no such parameter here. {takes}", asked=name[:100])
            if len(values) > 1:
                raise Refused(f"The parameter {name} is given twice. Give it once.")
            if len(values[0]) > MAX_KEY_LENGTH:
                raise Refused(f"The parameter {name} is longer than {MAX_KEY_LENGTH:,} characters. Shorten it.")

    def text(self, name: str, default: str | None = None) -> str:
        """A text.

        Raises:
            Refused: it is missing, and there is no default.
        """
        found = self.texts.get(name, default)
        if found is None:
            raise Refused(f"The parameter {name} is missing. The address api/v1/ says what each address takes.")
        return found

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of some words.

        Raises:
            Refused: it is none of them.
        """
        found = self.texts.get(name, default)
        if found not in choices:
            raise Refused(f"The parameter {name} is one of {', '.join(choices)}.")
        return found

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`.

        Raises:
            Refused: it is none.
        """
        text = self.texts.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise Refused(f"The parameter {name} is a whole number from {low:,} to {high:,}.")
        return int(text)

    def span(self, name: str) -> tuple[int, int] | None:
        """A range "first..last", both counted in; None where there is none.

        Raises:
            Refused: it is no range.
        """
        text = self.texts.get(name)
        if text is None:
            return None
        found = re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", text)
        if not found or int(found[1]) > int(found[2]):
            raise Refused(f"The parameter {name} is two whole numbers with two dots between them, such as 0..15.")
        return int(found[1]), int(found[2])
