"""A file's name as a harmless label: one line, no path, nothing invisible, not too long."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

MAX_LENGTH = 80
_SCANNED_LENGTH = 4096


def file_label(name: str) -> str:
    """What to call an uploaded file.

    The label is text: whoever puts it into HTML escapes it. What is taken out are paths, control and format
    characters (they reverse or hide what follows), and length.

    >>> file_label("../../etc/pass\\x00wd.png")
    'passwd.png'
    """
    name = re.split(r"[/\\]", name[-_SCANNED_LENGTH:])[-1]
    # Categories C*: control, format (right-to-left marks, zero-width), surrogates, private, unassigned.
    visible = "".join(c if c.isspace() or unicodedata.category(c)[0] != "C" else "" for c in name)
    label = " ".join(unicodedata.normalize("NFC", visible).split()).strip(". ")
    if len(label) > MAX_LENGTH:
        stem, dot, suffix = label.rpartition(".")
        suffix = dot + suffix if stem and len(suffix) <= 5 else ""
        label = label[: MAX_LENGTH - 1 - len(suffix)] + "…" + suffix
    return label or "picture"


def path_label(within: PurePath) -> str:
    """What to call a file together with the folders that it lies in, each of which is a label.

    >>> path_label(PurePath("hourglass/00\\x001.jpg"))
    'hourglass/001.jpg'
    """
    return "/".join(file_label(part) for part in within.parts) or "picture"
