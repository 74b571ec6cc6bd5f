"""The tools of `python -m hookscope mcp`, one a row: what each asks, what it takes, and what that is.

Arguments have the names of the page's parameters. What comes for one is read as text and the page checks it, so that
a wrong one gets the page's own sentence; here only names are checked, and that an argument is no list.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hookscope.dashboard.asking.layer_keys import MAX_KEY_LENGTH

NEAR = 3
SAMPLE = "sample-coffee"


class WrongArguments(Exception):
    """A tool cannot be called so; the text says why and what to give.

    Attributes:
        more: what stands beside the sentence.
    """

    def __init__(self, sentence: str, **more: Any) -> None:
        super().__init__(sentence)
        self.more = more


@dataclass(frozen=True)
class Argument:
    """What a tool takes.

    Attributes:
        what: it is, in words. kind: of JSON; "either" is a whole number or a text. words: all that there are, if it is
            one of some. default: what the page is asked with where it is left out; "" for what the page does then.
        needed: it may not be left out.
    """

    what: str
    kind: Literal["text", "whole", "either"] = "text"
    words: tuple[str, ...] = ()
    default: str = ""
    needed: bool = False

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        whole, text = {"type": "integer", "minimum": 0}, {"type": "string"}
        of_kind: Mapping[str, dict[str, Any]] = {"text": text, "whole": whole, "either": {"anyOf": [whole, text]}}
        words = {"enum": list(self.words)} if self.words else {}
        default = {"default": self.default} if self.default else {}
        return {**of_kind[self.kind], **words, **default, "description": self.what}


@dataclass(frozen=True)
class Tool:
    """A question to the page.

    Attributes:
        name: of the tool. path: behind the page's api/v1/; of a picture without its ending. about: what it answers and
            costs. takes: the arguments, by name. picture: whether it answers one. waits: whether the page waits for it.
    """

    name: str
    path: str
    about: str
    takes: Mapping[str, Argument] = field(default_factory=dict)
    picture: bool = False
    waits: bool = True

    def schema(self) -> dict[str, Any]:
        """Of its arguments, as JSON Schema has it."""
        return {
            "type": "object",
            "properties": {name: argument.schema() for name, argument in self.takes.items()},
            "required": [name for name, argument in self.takes.items() if argument.needed],
            "additionalProperties": False,
        }

    def read(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The page's parameters for what a program gave; null is left out.

        Raises:
            WrongArguments: there is no such argument, one is missing, or one cannot be read.

        >>> TOOLS["top_classes"].read({"k": 3})
        {'input': 'sample-coffee', 'k': '3'}
        """
        unknown = [str(name)[:100] for name in given if name not in self.takes]
        if unknown:
            takes = f"This tool takes {', '.join(self.takes)}." if self.takes else "This tool takes none."
            near = [each for name in unknown for each in difflib.get_close_matches(name, [*self.takes], NEAR, 0.5)]
            raise WrongArguments(f"There is no such argument here. {takes}", asked=unknown[:10], near=near)
        found = {}
        for name, argument in self.takes.items():
            value = given.get(name)
            if value is None and argument.needed:
                raise WrongArguments(f"The argument {name} is missing: {argument.what}.")
            if value is None and not argument.default:
                continue
            found[name] = argument.default if value is None else _as_text(name, argument, value)
        return found


def _as_text(name: str, argument: Argument, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise WrongArguments(f"The argument {name} is one text or number, and no list or object: {argument.what}.")
    text = value if isinstance(value, str) else format(value)
    if len(text) > MAX_KEY_LENGTH:
        raise WrongArguments(f"The argument {name} is longer than {MAX_KEY_LENGTH:,} characters. Shorten it.")
    return text


_INPUT = "a sample's key, such as sample-coffee, or an upload's"
_OF_LIST = {
    "limit": Argument("how many rows at most", "whole"),
    "after": Argument("how many rows were read before; next has it", "whole"),
}
_MODEL = {"model": Argument("a name that models lists; the first of them if left out")}
_SECOND = {"second": Argument("the other picture's key, of a model that takes two; the same picture if left out")}
_PREPARE = Argument(
    "in what the picture is prepared otherwise, commas between them, such as bgr or bgr,squeezed: manual lists them"
)
_CAPTIONS = {"captions": Argument("texts with which a model compares the picture, in one text, a line each")}
_OF_PICTURE = {"input": Argument(_INPUT, default=SAMPLE), **_MODEL, "prepare": _PREPARE, **_SECOND}
_OF_LAYER = {
    "layer": Argument("a layer as layers writes it; (model) is the model itself", needed=True),
    **_OF_PICTURE,
    "call": Argument("which call of the layer, from 0", "whole"),
}
_SET = "a key or a name that sets lists"

TOOLS: Mapping[str, Tool] = {
    each.name: each
    for each in (
        Tool(
            "manual",
            "",
            "What can be asked, in which order, and what each question costs. Costs nothing; begin here.",
            waits=False,
        ),
        Tool(
            "models",
            "models",
            "The models that the page offers, and whether they are loaded: 100 at once; after: how many were read "
            "before. Costs nothing.",
            {"after": _OF_LIST["after"]},
            waits=False,
        ),
        Tool(
            "model",
            "model",
            "One model: parameters, weights (random or not), device, how pictures are prepared, notes. Costs nothing "
            "but loading it, in seconds. model: a name that models lists; the first if left out.",
            _MODEL,
        ),
        Tool(
            "layers",
            "layers",
            "A model's layers: name, type, shapes, parameters. Costs nothing. match: a part of the name or the type, "
            "such as conv. limit: rows at once, up to 200 and 64,000 bytes; after: the last layer of the rows before.",
            {
                **_MODEL,
                "match": Argument("a part of the name or of the type"),
                "limit": _OF_LIST["limit"],
                "after": Argument("the layer behind which the list goes on; next has it"),
            },
        ),
        Tool(
            "top_classes",
            "top",
            "The first classes of a model's answer to a picture, with shares: one run, the cheapest of a picture. "
            "input: a sample's key or an upload's; sample-coffee, and the first model of models, where they are left "
            "out: the answer says which were taken. k: 1 to 100. prepare: bgr, squeezed, ... to prepare it otherwise. "
            "second: the key of the other picture, of a model that takes two. captions: texts with which a model "
            "compares it, a line each.",
            {**_OF_PICTURE, "k": Argument("how many, 1 to 100; 5 if left out", "whole"), **_CAPTIONS},
        ),
        Tool(
            "layer_numbers",
            "layer",
            "Mean, deviation, range, zeros, NaN, infinite values and quantiles of what a layer computed. One run, then "
            "kept. channels: first..last, such as 0..15, for numbers by channel, 256 at once; rank: index, strongest, "
            "mean, variance or zeros. second: the other picture's key, of a model that takes two.",
            {
                **_OF_LAYER,
                "channels": Argument("first..last, both counted in, such as 0..15, for numbers by channel"),
                "rank": Argument(
                    "the order of the channels", words=("index", "strongest", "mean", "variance", "zeros")
                ),
            },
        ),
        Tool(
            "findings",
            "findings",
            "What is usually wrong with a model or its input, with number, limit and advice. Dozens of runs: up to "
            "minutes, once, then kept; an answer with waiting tells what is known so far, and asking again tells more. "
            "set: a key or a name that sets lists; the built-in photographs if left out. limit: rows at once, up to "
            "200 and 64,000 bytes; after: how many were read before. link: the page's address, for a person.",
            {**_MODEL, "set": Argument(f"{_SET}; the built-in photographs if left out"), **_OF_LIST},
        ),
        Tool(
            "comparison",
            "comparison",
            "How far two sides are apart at every layer, and the first where they part. Two runs, and with usual=yes "
            "once for each model one for each built-in photograph. a, b: keys of pictures; model_b: another model for "
            "B; prepare_b: B prepared otherwise, such as bgr. limit: rows at once, up to 200 and 64,000 bytes; after: "
            "how many were read before. cosine_distance is 1 - the cosine.",
            {
                "a": Argument(f"A's picture: {_INPUT}", default=SAMPLE),
                "b": Argument("B's picture, as a; A's if left out"),
                **_MODEL,
                "model_b": Argument("another model for B"),
                "prepare_a": _PREPARE,
                "prepare_b": _PREPARE,
                "usual": Argument(
                    "no leaves out how far photographs are apart, and with it where two pictures part first",
                    words=("yes", "no"),
                ),
                **_OF_LIST,
            },
        ),
        Tool(
            "feature_map",
            "map",
            "A channel of a layer as a picture, with its scale as numbers. One run, then kept. channel: an index, or "
            "mean for the mean of all. second: the other picture's key, of a model that takes two.",
            {
                **_OF_LAYER,
                "channel": Argument("an index, or mean for the mean of all; mean if left out", "either"),
            },
            picture=True,
        ),
        Tool(
            "class_map",
            "cam",
            "Where a layer speaks for a class (Grad-CAM), over what the network saw. One run forward and one back; "
            "with method=scorecam one for each channel, up to minutes. class: an index as top_classes tells it; the "
            "model's first class if left out. second: the other picture's key, of a model that takes two. captions: of "
            "a model that compares with captions, a line each; class is then the index of one.",
            {
                **_OF_LAYER,
                "class": Argument("the index of a class, from 0; the model's first class if left out", "either"),
                "method": Argument("how it is made", words=("gradcam", "gradcam++", "layercam", "scorecam")),
                **_CAPTIONS,
            },
            picture=True,
        ),
        Tool(
            "sets",
            "sets",
            "The sets of pictures that the operator offers. Costs nothing.",
            {"after": _OF_LIST["after"]},
            waits=False,
        ),
        Tool(
            "set_summary",
            "set",
            "What was found over a set: accuracy, mistakes, channels that never fire. Costs nothing; it is begun on "
            "the page. set: a key or a name that sets lists. limit: rows at once, up to 200 and 64,000 bytes; after: "
            "how many were read before.",
            {"set": Argument(_SET, needed=True), **_MODEL, **_OF_LIST},
        ),
    )
}
