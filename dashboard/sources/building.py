"""What every way of building a model needs: the result, its errors, the random state, the operator's flags."""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import preprocessing
from hookscope.dashboard.sources.preprocessing import Preprocessor
from hookscope.hooks.errors import HooksError


class ModelNotFound(HooksError):
    """No such model, or it cannot be built."""


class FactoryError(HooksError):
    """The operator's own code failed; `details` holds its traceback."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


@dataclass(frozen=True)
class Source:
    """A model that was just built.

    Attributes:
        weights: a sentence about where they come from. random: whether they are random.
        classes: what the weights bring along; may be empty. names_every_class: whether it is a fault if there are some
            and they are not as many as the model's outputs.
    """

    module: nn.Module
    title: str
    preprocessor: Preprocessor
    weights: str
    random: bool = False
    licence: str = ""
    classes: tuple[str, ...] = ()
    names_every_class: bool = False


class seeded:
    """Random state for building a model, put back afterwards; silences the builders' advice about weights."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._fork = torch.random.fork_rng(devices=[])
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        self._fork.__enter__()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        torch.manual_seed(self._seed)

    def __exit__(self, *exception: Any) -> None:
        self._warnings.__exit__(*exception)
        self._fork.__exit__(*exception)


def arguments_of(options: ModelOptions) -> dict[str, Any]:
    """What the factory or the library's builder is called with."""
    return dict(json.loads(options.arguments))


def overridden(own: Preprocessor, options: ModelOptions) -> Preprocessor:
    """The preprocessing with what the operator's flags change of it."""
    if not (options.input_size or options.resize or options.mean or options.std or options.interpolation):
        return own
    size = options.input_size or (own.info.crop if any(own.info.crop) else (224, 224))
    keep = own.info.resize if isinstance(own.info.resize, int) and not options.input_size else None
    return preprocessing.plain(
        size,
        options.resize or keep,
        options.interpolation or own.info.interpolation,
        options.mean or own.info.mean,
        options.std or own.info.std,
    )


NAMED = 12  # at most so many names in a sentence


def near(name: str, candidates: Iterable[str], prefix: str) -> str:
    """A sentence that names what is spelled like this."""
    candidates = list(candidates)
    close = (
        _of_one_family(name, candidates)
        or difflib.get_close_matches(name, candidates, n=3, cutoff=0.5)
        or [each for each in candidates if re.sub(r"\W|_", "", name) in each.replace("_", "")][:3]
    )
    if close:
        return f"Did you mean {' or '.join(prefix + each for each in close)}?"
    if not 0 < len(candidates) <= NAMED:
        return f"There are {len(candidates)} others."
    return f"There {'are' if len(candidates) > 1 else 'is'} {', '.join(prefix + each for each in candidates)}."


def _of_one_family(name: str, candidates: list[str]) -> list[str]:
    """Three names with the same letters and other numbers, the nearest first: resnet50, 34 and 18 for resnet51.

    What has the same digits comes before: resnet18 for resnet81.
    """
    letters, numbers = _numbers_of(name)
    family = [each for each in candidates if numbers and each != name and _numbers_of(each)[0] == letters]

    def distance(each: str) -> tuple[bool, int]:
        differences = (abs(a - b) for a, b in zip(_numbers_of(each)[1], numbers, strict=True))
        return sorted(each) != sorted(name), sum(differences)

    return sorted(family, key=distance)[:3]


def _numbers_of(name: str) -> tuple[tuple[str, ...], list[int]]:
    """A name's letters around its numbers, and those; names with as many numbers in the same places are one family."""
    parts = re.split(r"(\d{1,9})", name.lower())
    return tuple(parts[::2]), [int(each) for each in parts[1::2]]
