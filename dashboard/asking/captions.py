"""Captions that a person has typed, with which a model of pictures and texts compares a picture: one text, a line each.

They come from an address or a browser, and go into a tokenizer: at most so many, of at most so many characters, without
what cannot be seen.
"""

from __future__ import annotations

from hookscope.dashboard.asking.texts import one_line

MOST = 16
LONGEST = 200  # characters of one


def read_captions(text: object) -> str:
    """The captions that a text holds: those of its lines that say something, each once, in their order.

    >>> read_captions(" a red   cat\\n\\na dog\\na red cat")
    'a red cat\\na dog'
    """
    if not isinstance(text, str):
        return ""
    lines = text[: MOST * LONGEST * 8].replace("\r", "\n").split("\n")
    found = dict.fromkeys(one_line(line, LONGEST + 1)[:LONGEST].strip() for line in lines)
    return "\n".join([each for each in found if each][:MOST])


def each_of(captions: str) -> tuple[str, ...]:
    """The captions that `read_captions` has read.

    >>> each_of("a red cat\\na dog"), each_of("")
    (('a red cat', 'a dog'), ())
    """
    return tuple(captions.split("\n")) if captions else ()
