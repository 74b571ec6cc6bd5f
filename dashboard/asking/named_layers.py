"""Where a sentence of the check-up or of an alarm names a layer."""

from __future__ import annotations

import re

# of a name that is a number, as in nn.Sequential: what stands before or behind it where it is one
_BEFORE = re.compile(
    r"(?:channels? (?:after|of)|them after|Channel \d+ of|(?:the values|[Gg]radient|[Ww]eights) of"
    r"|[Ll]ayer|behind|What) $"
)
_BEHIND = re.compile(r" (?:is|has|makes|reaches|holds|gives|would|wants|stores|stored)\b")


def split_at(sentence: str, layer: str) -> tuple[str, str] | None:
    """What stands before a layer's name and behind it; None where the sentence does not name it.

    >>> split_at("9 of 12 channels after 1 fired in none.", "1")
    ('9 of 12 channels after ', ' fired in none.')
    >>> split_at("The pictures look like pixels of -1 to 1, and 1 is given others.", "1")
    ('The pictures look like pixels of -1 to 1, and ', ' is given others.')
    >>> split_at("Values of 1 or more", "1"), split_at("layer10 is off", "layer1")
    (None, None)
    """
    if not layer:
        return None
    number = re.fullmatch(r"[\d.]+", layer) is not None
    for found in re.finditer(rf"(?<![\w./@-]){re.escape(layer)}(?![\w/@-]|\.\w)", sentence):
        before, behind = sentence[: found.start()], sentence[found.end() :]
        if not number or _BEFORE.search(before) or _BEHIND.match(behind):
            return before, behind
    return None
