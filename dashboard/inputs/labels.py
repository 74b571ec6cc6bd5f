"""A file's name as a harmless label: one line, no path, nothing invisible, not too long."""

from __future__ import annotations

import re
import unicodedata

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
