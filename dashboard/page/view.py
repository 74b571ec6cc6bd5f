"""Everything a person has chosen on one page: what the URL holds, a share link restores, and every panel draws from.

What is looked at is the view's own; how a panel shows it is in a small state of the panel's, a dataclass under
`@state`. Reading and writing them derives from their fields' types:

    @state
    @dataclass(frozen=True)
    class Walls:
        rank: Literal["index", "strongest"] = "index"
        overlay: bool = False

    view.of(Walls).rank, view.but(rank="strongest").to_query()
"""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import parse_qs, urlencode

from hookscope.dashboard.asking.captions import read_captions
from hookscope.dashboard.asking.edits import read_edits, write_edits
from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH, canonical
from hookscope.dashboard.asking.readings import read_reading, write_reading
from hookscope.dashboard.asking.sides import AS_WANTED, Preparation
from hookscope.dashboard.asking.targets import Other, Target, read_other, read_target, write_other, write_target
from hookscope.dashboard.inputs.colours import WRITTEN
from hookscope.dashboard.page.matching import read_pairs
from hookscope.hooks.results.outputs import AS_FOUND, Reading
from hookscope.hooks.results.targets import OWN, Rival

Tab = Literal["layers", "depth", "pictures", "findings", "run"]
FORMER_TABS = {"gradients": "depth"}  # as addresses of earlier versions call them
SideName = Literal["a", "b"]
StateT = TypeVar("StateT")

MAX_LAYERS = 24
MEAN = -1  # the "channel" that is the mean over all channels
_KEY = re.compile(r"[A-Za-z0-9_-]{0,64}")

_HINTS: dict[type[Any], dict[str, Any]] = {}
STATES: list[type[Any]] = []  # in the order in which their fields stand in an address


def state(kind: type[StateT]) -> type[StateT]:
    """Have every view carry a panel's state.

    Its fields have defaults, names that no other has, and types of these: bool; int, from 0 on, or its default; a
    `Literal` of texts; `Annotated[str, NAMES]`, where NAMES is a collection, asked each time.

    Raises:
        ValueError: another state, or the view, has a field of that name.
    """
    others: list[type[Any]] = [View, *STATES]
    taken = {name for each in others for name in _hints(each)}
    if twice := taken & _hints(kind).keys():
        raise ValueError(f"{kind.__name__}: a view has {', '.join(sorted(twice))} already")
    STATES.append(kind)
    return kind


@dataclass(frozen=True)
class View:
    """What the page shows.

    Attributes:
        model: the model of A, by name. model_b: that of B; "" for the same.
        a, b: keys of the inputs; "" if there is none. second_a, second_b: of a second picture beside each, for a model
            that takes two. prepare_a, prepare_b: how they are prepared for their models.
        shown_a, shown_b: which of their channels are seen as red, green and blue, "4.1.0"; "" for the usual ones.
        edits_a, edits_b: what is changed of what their models compute, as `asking.edits` writes it.
        side: the one that the header and the tree are about.
        layers: the cards' layer keys by position; "" is a card that was closed and waits for the next layer.
        matched: which layer of the other side's model stands beside one of these, where a person has chosen it.
        target: what is explained. target_b: of B, where its model answers other classes, or B explains its own.
        against, against_b: what each is held against, None for nothing.
        reading: how the model's answer is read. reading_b: that of B's, where it is another.
        captions: with which a model of pictures and texts compares, a line each. captions_b: those of B's, where it is
            another.
        detail: the layer key of the enlarged channel, "" if none is open. channel: its index, or `MEAN`.
        tab: what stands under the inputs: the cards, what runs along the depth, a set, findings, or a training.
        set_a: the key of that set; "" if none is chosen. set_b: of one that it is compared with.
        states: of the panels, those that are not at their defaults.
    """

    model: str = ""
    a: str = ""
    b: str = ""
    second_a: str = ""
    second_b: str = ""
    model_b: str = ""
    prepare_a: Preparation = AS_WANTED
    prepare_b: Preparation = AS_WANTED
    shown_a: str = ""
    shown_b: str = ""
    edits_a: str = ""
    edits_b: str = ""
    side: SideName = "a"
    layers: tuple[str, ...] = ()
    matched: str = ""
    target: Target = OWN
    target_b: Target = OWN
    against: Other = None
    against_b: Other = None
    reading: Reading = AS_FOUND
    reading_b: Reading = AS_FOUND
    captions: str = ""
    captions_b: str = ""
    detail: str = ""
    channel: int = MEAN
    tab: Tab = "layers"
    set_a: str = ""
    set_b: str = ""
    states: tuple[Any, ...] = ()

    def model_of(self, side: str) -> str:
        """The name of a side's model."""
        return self.model_b or self.model if side == "b" else self.model

    def of(self, kind: type[StateT]) -> StateT:
        """A panel's state."""
        return next((each for each in self.states if isinstance(each, kind)), None) or kind()

    def but(self, **values: Any) -> View:
        """This view with other values of some fields, its own or the panels'."""
        return View.from_dict(self.to_dict() | values)

    def only(self, *names: str) -> View:
        """These fields of the view, its own or the panels', and the others at their defaults."""
        own = {name: getattr(self, name) for name in names if name in _hints(View)}
        states: list[Any] = []
        for each in self.states:
            kept = type(each)(**{name: getattr(each, name) for name in _hints(type(each)) if name in names})
            states += [kept] if kept != type(each)() else []
        return View(**own, states=tuple(states))

    @classmethod
    def from_dict(cls, values: Any) -> View:
        """Read a view that a browser sent; what is missing or makes no sense is left at its default."""
        if not isinstance(values, dict):
            return cls()
        return cls(
            model=_text(values.get("model")),
            a=_input_key(values.get("a")),
            b=_input_key(values.get("b")),
            second_a=_input_key(values.get("second_a")),
            second_b=_input_key(values.get("second_b")),
            model_b="" if values.get("model_b") == values.get("model") else _text(values.get("model_b")),
            prepare_a=Preparation.read(values.get("prepare_a")),
            prepare_b=Preparation.read(values.get("prepare_b")),
            shown_a=_shown(values.get("shown_a")),
            shown_b=_shown(values.get("shown_b")),
            edits_a=write_edits(read_edits(values.get("edits_a"))),
            edits_b=write_edits(read_edits(values.get("edits_b"))),
            side=_read(SideName, values.get("side"), "a"),
            layers=_layers(values.get("layers")),
            matched=read_pairs(values.get("matched")),
            target=read_target(values.get("target")),
            target_b=read_target(values.get("target_b")),
            against=read_other(values.get("against")),
            against_b=read_other(values.get("against_b")),
            reading=read_reading(values.get("reading")),
            reading_b=read_reading(values.get("reading_b")),
            captions=read_captions(values.get("captions")),
            captions_b=read_captions(values.get("captions_b")),
            detail=_layer(values.get("detail")),
            channel=_whole(values.get("channel"), MEAN),
            tab=_tab(values.get("tab")),
            set_a=_input_key(values.get("set_a")),
            set_b=_input_key(values.get("set_b")),
            states=tuple(each for kind in STATES if (each := _state(kind, values)) != kind()),
        )

    @classmethod
    def from_query(cls, query: str) -> View:
        """Read a view from a URL's query string."""
        try:
            found = parse_qs(query.removeprefix("?"), max_num_fields=200)
        except ValueError:  # more fields than any view has
            return cls()
        values: dict[str, Any] = {name: items[-1] for name, items in found.items() if name != "layer"}
        switches = [name for kind in STATES for name, hint in _hints(kind).items() if hint is bool]
        values |= {name: values[name] == "1" for name in switches if name in values}
        values["layers"] = [key for key in found.get("layer", []) if key]
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The view as the page's store holds it: its own fields and the panels', side by side."""
        found = {field.name: _written(getattr(self, field.name)) for field in fields(self) if field.name != "states"}
        for kind in STATES:
            found |= asdict(self.of(kind))
        return found

    def to_query(self) -> str:
        """The query string that restores this view: only what differs from the defaults."""
        default = View().to_dict()
        pairs: list[tuple[str, str]] = []
        for name, value in self.to_dict().items():
            if name == "layers":
                pairs += [("layer", key) for key in value if key]
            elif name == "channel" and not self.detail:
                continue
            elif value != default[name]:
                pairs.append((name, "1" if value is True else str(value)))
        return urlencode(pairs, safe=":()")


def _state(kind: type[StateT], values: Mapping[str, Any]) -> StateT:
    default = kind()
    found = {
        name: _read(hint, values[name], getattr(default, name)) for name, hint in _hints(kind).items() if name in values
    }
    return kind(**found)


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


def _read(hint: Any, value: Any, default: Any) -> Any:
    """A value of a field's type, or its default."""
    if hint is bool:
        return bool(value)
    if hint is int:
        return _whole(value, default)
    names: Collection[str] = hint.__metadata__[0] if get_origin(hint) is Annotated else get_args(hint)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    return text if text in names else default


def _tab(value: Any) -> Tab:
    text = value if isinstance(value, str) else ""
    found: Tab = _read(Tab, FORMER_TABS.get(text, text), "layers")
    return found


def _text(value: Any, length: int = 400) -> str:
    # JSON can spell half of a surrogate pair, which no address and no answer can carry
    return value[:length].encode("utf-8", "ignore").decode() if isinstance(value, str) else ""


def _layer(value: Any) -> str:
    key = _text(value, MAX_KEY_LENGTH)
    return canonical(key) if key else ""


def _input_key(value: Any) -> str:
    return value if isinstance(value, str) and _KEY.fullmatch(value) else ""


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and WRITTEN.fullmatch(value) else ""


def _layers(value: Any) -> tuple[str, ...]:
    found: list[str] = []
    for key in value[:MAX_LAYERS] if isinstance(value, list | tuple) else []:
        name = _layer(key)
        found.append("" if name in found else name)
    return tuple(found)


def _whole(value: Any, default: Any) -> Any:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return default
    return number if 0 <= number < 10**6 else default


def _written(value: Any) -> Any:
    """A field's value as the page's store and an address hold it."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Preparation):
        return value.write()
    if isinstance(value, Reading):
        return write_reading(value)
    if value is None or isinstance(value, Rival):
        return write_other(value)
    return write_target(value) if isinstance(value, Target) else value
