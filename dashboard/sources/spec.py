"""Where models come from: what a model's spec may look like, what it is called, and what builds it.

Everything that reads a spec, from the command line to the header, reads these rows, so one more source is one more row:

    SOURCES.add(ModelSource("zoo:", r"zoo:\\w+", "zoo:NAME", "my_package.zoo:build"))

Nothing here imports torch, because the page and the settings read it too; `build` is imported in the worker.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hookscope.hooks.methods import Rows

DEFAULT_MODEL = "embedded"  # the spec of the model that comes with the installation


@dataclass(frozen=True)
class ModelSource:
    """A place from which models come.

    Attributes:
        name: what its specs begin with; "" for those that begin with a name of the operator's own.
        pattern: a regular expression of the whole spec.
        written: how a spec is written, with words in capitals for what is to be filled in.
        build: "package.module:function", called with what follows `name` in the spec, the `ModelOptions` and a function
            that says what is being done; returns a `sources.building.Source`.
        title: what a spec is called before its model is loaded.
        guess: what somebody may have meant who wrote a mere word, which "{}" stands for; "" for nothing.
    """

    name: str
    pattern: str
    written: str
    build: str
    title: Callable[[str], str] = str
    guess: str = ""


SOURCES = Rows(
    ModelSource(
        DEFAULT_MODEL,
        re.escape(DEFAULT_MODEL),
        DEFAULT_MODEL,
        "hookscope.dashboard.sources.build:embedded",
        title=lambda spec: "EfficientNet-Lite0",
    ),
    ModelSource(
        "torchvision:",
        r"torchvision:\w+(@\w+)?",
        "torchvision:NAME, torchvision:NAME@WEIGHTS",
        "hookscope.dashboard.sources.build:torchvision_model",
        title=lambda spec: spec.removeprefix("torchvision:"),
        guess="torchvision:{}",
    ),
    ModelSource(
        "timm:",
        r"timm:[\w.\-/]+(@random)?",
        "timm:NAME",
        "hookscope.dashboard.sources.build:timm_model",
        title=lambda spec: spec.removeprefix("timm:"),
        guess="timm:{}",
    ),
)
OWN = ModelSource(
    "",
    r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*",
    "package.module:factory",
    "hookscope.dashboard.sources.factory:own_model",
)


def source_of(spec: str) -> ModelSource:
    """The source that a spec names by its beginning: `OWN` if none of them."""
    return next((source for source in SOURCES.values() if _begins(spec, source)), OWN)


def is_spec(text: str) -> bool:
    """Whether a text is written as its source wants it; whether the model exists is for the worker to find out."""
    return re.fullmatch(source_of(text).pattern, text) is not None


def is_own(spec: str) -> bool:
    """Whether a spec names the operator's own code."""
    return source_of(spec) is OWN


def title_of(spec: str) -> str:
    """A spec as the page shows it before its model is loaded."""
    return source_of(spec).title(spec)


def how_written() -> str:
    """Every way to write a spec, for a sentence."""
    *others, last = [source.written for source in (*SOURCES.values(), OWN)]
    return f"{', '.join(others)} or {last}"


def meant_by(text: str) -> str:
    """What somebody may have meant who wrote this."""
    guesses = [source.guess.format(text) for source in SOURCES.values() if source.guess]
    return " or ".join(guesses[:2]) if re.fullmatch(r"\w+", text) else "torchvision:resnet50"


def _begins(spec: str, source: ModelSource) -> bool:
    return spec.startswith(source.name) if source.name.endswith(":") else spec == source.name
