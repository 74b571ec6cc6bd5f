"""Everything a person has chosen on one page: what the URL holds, a share link restores, and every panel draws from."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlencode

from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH, canonical
from hookscope.dashboard.asking.questions import box_of
from hookscope.hooks.methods import MAPS, METRICS

Rank = Literal["index", "strongest", "mean", "variance", "zeros", "difference"]
ScaleBy = Literal["layer", "channel"]
Colours = Literal["auto", "viridis", "magma", "grey"]
Count = Literal["auto", "64", "256", "all"]
Tab = Literal["layers", "gradients"]

MAX_LAYERS = 24
MAX_BOXES = 10_000
NO_METRIC = "none"
MEAN = -1  # the "channel" that is the mean over all channels, and the "patch" that is none
_KEY = re.compile(r"[A-Za-z0-9_-]{0,64}")


@dataclass(frozen=True)
class View:
    """What the page shows.

    Attributes:
        model: spec of the model.
        a, b: keys of the inputs; "" if there is none.
        layers: the cards' layer keys by position; "" is a card that was closed and waits for the next layer.
        target: the class that is explained, or `jobs.box_target` of a detector's box; None for the class or box that
            each input's prediction ranks first.
        rank, scale, colours, count: how the walls are ordered, scaled, coloured, and how many channels they show.
        overlay: whether maps are drawn over the picture. seen: whether the inputs show what the network received.
        table: whether cards list every channel's numbers.
        patch: the position from which attention is shown, counted row by row over the grid; `MEAN` for the class token,
            or the middle where there is none.
        metric: the number that every row of the tree shows as a bar, of `methods.METRICS`, or `NO_METRIC`.
        detail: the layer key of the enlarged channel, "" if none is open. channel: its index, or `MEAN`.
        maps: the method, of `methods.MAPS`, by which the cards' maps explain the class. attributions: whether those of
            the input are shown.
        tab: what stands under the inputs: the cards, or the gradient at every layer.
    """

    model: str = ""
    a: str = ""
    b: str = ""
    layers: tuple[str, ...] = ()
    target: int | None = None
    rank: Rank = "index"
    scale: ScaleBy = "layer"
    colours: Colours = "auto"
    count: Count = "auto"
    overlay: bool = False
    seen: bool = False
    table: bool = False
    patch: int = MEAN
    metric: str = NO_METRIC
    detail: str = ""
    channel: int = MEAN
    maps: str = "gradcam"
    attributions: bool = False
    tab: Tab = "layers"

    @classmethod
    def from_dict(cls, values: Any) -> View:
        """Read a view that a browser sent; what is missing or makes no sense is left at its default."""
        if not isinstance(values, dict):
            return cls()
        default = cls()
        return cls(
            model=_text(values.get("model")),
            a=_input_key(values.get("a")),
            b=_input_key(values.get("b")),
            layers=_layers(values.get("layers")),
            target=_explained(values.get("target")),
            rank=_choice(values.get("rank"), Rank, default.rank),
            scale=_choice(values.get("scale"), ScaleBy, default.scale),
            colours=_choice(values.get("colours"), Colours, default.colours),
            count=_choice(str(values.get("count")), Count, default.count),
            overlay=bool(values.get("overlay")),
            seen=bool(values.get("seen")),
            table=bool(values.get("table")),
            patch=_channel(values.get("patch")),
            metric=_name(values.get("metric"), METRICS, default.metric),
            detail=_layer(values.get("detail")),
            channel=_channel(values.get("channel")),
            maps=_name(values.get("maps"), MAPS, default.maps),
            attributions=bool(values.get("attributions")),
            tab=_choice(values.get("tab"), Tab, default.tab),
        )

    @classmethod
    def from_query(cls, query: str) -> View:
        """Read a view from a URL's query string."""
        try:
            fields = parse_qs(query.removeprefix("?"), max_num_fields=200)
        except ValueError:  # more fields than any view has
            return cls()
        values: dict[str, Any] = {name: items[-1] for name, items in fields.items() if name != "layer"}
        for name in ("overlay", "seen", "table", "attributions"):
            values[name] = values.get(name) == "1"
        values["layers"] = [key for key in fields.get("layer", []) if key]
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The view as the page's store holds it."""
        return {**asdict(self), "layers": list(self.layers)}

    def to_query(self) -> str:
        """The query string that restores this view: only what differs from the defaults."""
        pairs: list[tuple[str, str]] = []
        for name, value in self.to_dict().items():
            if name == "layers":
                pairs += [("layer", key) for key in value if key]
            elif name == "channel" and not self.detail:
                continue
            elif value != getattr(View(), name):
                pairs.append((name, "1" if value is True else str(value)))
        return urlencode(pairs, safe=":()")


def _text(value: Any, length: int = 400) -> str:
    # JSON can spell half of a surrogate pair, which no address and no answer can carry
    return value[:length].encode("utf-8", "ignore").decode() if isinstance(value, str) else ""


def _layer(value: Any) -> str:
    key = _text(value, MAX_KEY_LENGTH)
    return canonical(key) if key else ""


def _input_key(value: Any) -> str:
    return value if isinstance(value, str) and _KEY.fullmatch(value) else ""


def _layers(value: Any) -> tuple[str, ...]:
    keys = [_layer(key) for key in value[:MAX_LAYERS]] if isinstance(value, list | tuple) else []
    seen: set[str] = set()
    return tuple("" if key in seen or seen.add(key) else key for key in keys)  # type: ignore[func-returns-value]


def _whole(value: Any, default: int | None) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return number if 0 <= number < 10**6 else default


def _explained(value: Any) -> int | None:
    try:
        box = box_of(int(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return _whole(value, None) if box is None else int(value) if box < MAX_BOXES else None


def _channel(value: Any) -> int:
    number = _whole(value, MEAN)
    return MEAN if number is None else number


def _choice(value: Any, kind: Any, default: Any) -> Any:
    return value if value in get_args(kind) else default


def _name(value: Any, rows: Container[str], default: str) -> str:
    return value if isinstance(value, str) and value in rows else default
