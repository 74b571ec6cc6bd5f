"""Changes of what a side's model computes, as an address and a control of the page write them: one short text a side.

    blocks.4.0~5~0~blocks.2~~1.5        channel 5 of blocks.4.0 muted, the whole of blocks.2 half as strong again

Three pieces an edit: the layer's key, the channel ("" for all), and a gain or "mean". Where the text would be too long
for an address, a key is written once: "" is that of the edit before. So there is room for a layer's ten strongest
channels, whatever its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH, canonical, key_of, parse_key
from hookscope.hooks.results.edits import MOST_EDITS, Level, Scale

PageEdit = Scale | Level

MOST = 40  # of a side; so many are readable above the page, and their address stays below 2,000 characters
LONGEST = 700  # characters of a side's text, which the page keeps to: assets/edits.js
MOST_READ = 100_000  # characters; an address cannot hold as many
GAINS = 1000.0
CHANNELS = 10**6
TO_MEAN = "mean"


def read_edits(text: object) -> tuple[PageEdit, ...]:
    """The edits that a text means; what makes no sense is left out, and so is a gain of 1, which changes nothing.

    >>> read_edits("conv1~5~0~layer2:1~~mean~x~y~z")
    (Scale(layer='conv1', channel=5, gain=0.0, call=0), Level(layer='layer2', channel=None, call=1))
    """
    pieces = text[:MOST_READ].split("~") if isinstance(text, str) else []
    triples = list(zip(pieces[::3], pieces[1::3], pieces[2::3], strict=False))[: MOST_EDITS + 1]
    keys = accumulate((key for key, _, _ in triples), _own_or_before)
    return tuple(
        found for key, (_, *each) in zip(keys, triples, strict=True) if (found := _read(key, *each)) is not None
    )


def _own_or_before(before: str, key: str) -> str:
    return key or before


def _read(key: str, channel: str, what: str) -> PageEdit | None:
    key = key.replace("%7E", "~").replace("%25", "%")
    if not key or len(key) > MAX_KEY_LENGTH or not (channel == "" or (channel.isascii() and channel.isdigit())):
        return None
    layer, call = parse_key(canonical(key.encode("utf-8", "ignore").decode()))
    index = int(channel[:9]) if channel else None
    if index is not None and index >= CHANNELS:
        return None
    if what == TO_MEAN:
        return Level(layer, index, call)
    try:
        gain = round(float(what), 4)
    except ValueError:
        return None
    if not math.isfinite(gain) or abs(gain) > GAINS or gain == 1:
        return None
    return Scale(layer, index, gain, call)


def write_edits(edits: tuple[PageEdit, ...]) -> str:
    """The text that `read_edits` reads.

    >>> write_edits((Scale("conv1", 5, 0.5, 0), Level("layer2", None, 1)))
    'conv1~5~0.5~layer2:1~~mean'
    """
    pieces = [_pieces(each) for each in edits]
    text = _joined(pieces)
    if len(text) <= LONGEST:
        return text
    before = ["", *(key for key, _, _ in pieces)]
    return _joined([("" if key == last else key, *rest) for last, (key, *rest) in zip(before, pieces, strict=False)])


def _joined(pieces: Sequence[Sequence[str]]) -> str:
    return "~".join(piece for each in pieces for piece in each)


def _pieces(each: PageEdit) -> tuple[str, str, str]:
    key = key_of(each.layer, each.call or 0).replace("%", "%25").replace("~", "%7E")
    what = TO_MEAN if isinstance(each, Level) else f"{each.gain + 0.0:g}"
    return key, "" if each.channel is None else str(each.channel), what


def place_of(each: PageEdit) -> str:
    """What an edit changes, in words.

    >>> place_of(Scale("layer2", 5, 0.0, 1)), place_of(Scale("layer2", None, 0.0, 0))
    ('layer2:1 channel 5', 'layer2')
    """
    key = key_of(each.layer, each.call or 0)
    return key if each.channel is None else f"{key} channel {each.channel}"


def change_of(each: PageEdit) -> str:
    """What becomes of it, in words.

    >>> change_of(Scale("layer2", 5, 0.0)), change_of(Scale("layer2", 5, 1.5)), change_of(Level("layer2"))
    ('muted', '× 1.5', 'set to its mean')
    """
    if isinstance(each, Level):
        return "set to its mean" if each.channel is not None else "set to its channels' means"
    return "muted" if each.gain == 0 else f"× {each.gain:g}"


def words_of(edits: tuple[PageEdit, ...]) -> str:
    """All of a side's, in words, the first few by name; "" for none."""
    named = [f"{place_of(each)} {change_of(each)}" for each in edits[:3]]
    return ", ".join(named) + (f" and {len(edits) - 3} more" if len(edits) > 3 else "")
