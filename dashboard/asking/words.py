"""Texts that come from outside, such as an exception's or a model's, as they may be shown."""

from __future__ import annotations

from hookscope.dashboard.asking.texts import TITLE_LENGTH, one_line


def text_of(error: BaseException) -> str:
    """An exception's message; "" if its class, which may be the model's own, fails to give one."""
    try:
        return str(error).strip()
    except Exception:
        return ""


def say(error: BaseException) -> str:
    """An exception in a few words."""
    if "weights_only" in text_of(error):  # torch's words on a checkpoint that the model's own code reads
        return "it reads a file that holds Python objects and not only weights; have it read model.state_dict() alone"
    kind, text = one_line(type(error).__name__, TITLE_LENGTH), text_of(error).splitlines()
    return f"{kind}: {one_line(text[0], 300)}" if text else kind
