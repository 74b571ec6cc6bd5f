"""Why a check-up cannot be made, as a sentence: what could not be checked is never healthy."""

from __future__ import annotations

from hookscope.hooks.errors import HooksError


class Unchecked(HooksError):
    """The check-up cannot be made, or came to no end."""
