"""Text that somebody else wrote, made harmless where it comes in: one line, nothing invisible, not too long.

A title of 100,000 characters would otherwise stand in a header, in a file's name and, 1 MB wide, in a picture.
"""

from __future__ import annotations

import re
import unicodedata

TITLE_LENGTH = 80  # characters, also of a type's name and a licence
SENTENCE_LENGTH = 400
CLASS_LENGTH = 200
FILE_NAME_LENGTH = 60  # of at most 255 bytes; a letter has up to four
# Control characters but for the tab, form feed and U+0085 (spaces, all of them); halves of surrogate pairs.
_UNSHOWABLE = re.compile("[\x00-\x08\n\x0b\r\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


def shorten(text: str, length: int) -> str:
    """The beginning of a text that is longer than `length` characters, and a sign that it goes on.

    >>> shorten("abcdef", 4), shorten("abcd", 4)
    ('abc…', 'abcd')
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: str, length: int) -> str:
    """A text as a label: without what is invisible or no character, in one line, cut.

    >>> one_line("two\\n lines\\x00 and more", 12)
    'two lines a…'
    """
    text = text[: length * 8]
    # Categories C*: control, format (right-to-left marks, zero-width), surrogates, private, unassigned.
    visible = "".join(c if c.isspace() or unicodedata.category(c)[0] != "C" else "" for c in text)
    return shorten(" ".join(visible.split()), length)


def unshowable(text: str) -> str:
    """The first character that no page, file or address can hold, as "U+0007"; "" if there is none.

    >>> unshowable("bell\\x07"), unshowable("form\\x0cfeed")
    ('U+0007', '')
    """
    found = _UNSHOWABLE.search(text)
    return f"U+{ord(found[0]):04X}" if found else ""


def file_name(text: str, length: int = FILE_NAME_LENGTH) -> str:
    """A text as a part of a file's name; of a long one both ends, because layers differ in the last part of their name.

    >>> file_name("(a net) / 3:1"), file_name("a" * 50 + ".conv1", 16)
    ('a-net----3-1', 'aaaaaaaa-a.conv1')
    """
    if len(text) > length:
        text = f"{text[: length // 2]}-{text[len(text) + length // 2 + 1 - length :]}"
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text).strip("-.") or "model"


def text_of(error: BaseException) -> str:
    """An exception's message; "" if its class, which may be the model's own, fails to give one."""
    try:
        return str(error).strip()
    except Exception:
        return ""


def say(error: BaseException) -> str:
    """An exception in a few words, without a full stop: its first line, and what follows where that ends with a colon.

    >>> say(ValueError("Wrong in two places:\\n\\tthe first\\n\\tthe second")), say(ValueError("Wrong.\\nAt length."))
    ('ValueError: Wrong in two places: the first', 'ValueError: Wrong')
    """
    if "weights_only" in text_of(error):  # torch's words on a checkpoint that the model's own code reads
        return "it reads a file that holds Python objects and not only weights; have it read model.state_dict() alone"
    kind = one_line(type(error).__name__, TITLE_LENGTH)
    text: list[str] = []
    for line in filter(str.strip, text_of(error).splitlines()):
        text.append(line.strip())
        if not text[-1].rstrip(".").endswith(":"):  # "Error(s) in loading state_dict for Sequential:" says nothing yet
            break
    words = one_line(" ".join(text), 300)
    return f"{kind}: {words if words.endswith('..') else words.removesuffix('.')}" if text else kind
