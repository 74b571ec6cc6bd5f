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
    ModelSource(
        "hf:",
        r"hf:[^=\n]{1,300}",
        "hf:FOLDER",
        "hookscope.dashboard.sources.hugging_face:hugging_face_model",
        title=lambda spec: spec.rstrip("/").rpartition("/")[2].removeprefix("hf:"),
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


def name_of(model: str) -> str:
    """What the operator calls a model, written "NAME=SPEC" or as a spec alone, which is its own name.

    >>> name_of("old=my.net:make"), name_of("embedded")
    ('old', 'embedded')
    """
    return model.partition("=")[0]


def spec_of(model: str) -> str:
    """Its spec.

    >>> spec_of("old=my.net:make"), spec_of("embedded")
    ('my.net:make', 'embedded')
    """
    return model.rpartition("=")[2]


def title_of(model: str) -> str:
    """A model as the page shows it before it is loaded: its name, or what its source calls it."""
    name, spec = name_of(model), spec_of(model)
    return source_of(spec).title(spec) if name == spec else name


def how_written() -> str:
    """Every way to write a spec, for a sentence."""
    *others, last = [source.written for source in (*SOURCES.values(), OWN)]
    return f"{', '.join(others)} or {last}"


def meant_by(text: str) -> str:
    """What somebody may have meant who wrote this."""
    if re.fullmatch(r"[\w.\-]+/[\w.\-]+", text):
        return f"hf:{text}" if not text.startswith("timm/") else f"timm:{text.removeprefix('timm/')}"
    guesses = [source.guess.format(text) for source in SOURCES.values() if source.guess]
    return " or ".join(guesses[:2]) if re.fullmatch(r"\w+", text) else "torchvision:resnet50"


def _begins(spec: str, source: ModelSource) -> bool:
    return spec.startswith(source.name) if source.name.endswith(":") else spec == source.name
