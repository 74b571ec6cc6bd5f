"""What every way of building a model needs: the result, its errors, the random state, the operator's flags."""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import nn

from hookscope.dashboard.engine.base import Fit
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import checkpoints, presets
from hookscope.dashboard.sources.fitting import Filled, fill
from hookscope.dashboard.sources.preprocessing import Preprocessor
from hookscope.dashboard.sources.steps import swapped
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.outputs import AS_FOUND, Reading


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
        weights: a sentence about where they come from. weights_note: what else is to be said of them.
        random: whether they are random. random_part: the name of the layer that alone is.
        unsaid: whether nobody says whether they are random: they are as the operator's own code made them.
        missing: weights that the file lacked; unexpected: those of the file that have no place in the model.
        classes: what the weights bring along; may be empty.
        reading: what the source knows of the model's answer.
        inputs: what the model's `forward` is given beside the picture, by name.
        frames: of the clips that it takes; 0 if that is not known. channels: of its pictures, likewise.
        captioned: how its likeness to typed captions is read, "" where it takes none. texts: SHA-256 of what decides
            over its texts: which tokens a caption becomes, and the operator's captions.
    """

    module: nn.Module
    title: str
    preprocessor: Preprocessor
    weights: str
    random: bool = False
    licence: str = ""
    classes: tuple[str, ...] = ()
    reading: Reading = AS_FOUND
    random_part: str = ""
    weights_note: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 0
    channels: int = 0
    captioned: str = ""
    texts: str = ""
    unsaid: bool = False
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


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


def given_weights(module: nn.Module, options: ModelOptions) -> Filled:
    """Put the operator's file into a model; behind a # stands which of its dictionaries."""
    path, _, wanted = options.weights.partition("#")
    return fill(module, checkpoints.read(path), Path(path).name, wanted, allow_head=options.allow_head)


def overridden(own: Preprocessor, options: ModelOptions) -> Preprocessor:
    """The preprocessing with what the operator's flags change of it."""
    told = {
        "size": options.input_size,
        "fit": options.resize,
        "interpolation": options.interpolation,
        "mean": options.mean,
        "std": options.std,
        "order": options.channel_order,
        "range": options.range,
    }
    given = {name for name, value in told.items() if value}
    found = own
    if given & {"size", "fit", "interpolation"}:
        found = _resized(own, options)
    info, steps, rest = found.info, found.steps, found.rest
    if given & {"mean", "std", "range"}:
        mean, std, top = presets.told_normalising(options.mean, options.std, options.range, own.info)
        info = replace(info, mean=mean, std=std, range=top)
    if options.channel_order and options.channel_order != own.info.order:
        info, steps = replace(info, order=options.channel_order), (*steps, swapped)
    assumed = tuple(each for each in own.info.assumed if each not in given)
    info = replace(info, given=tuple(sorted({*own.info.given, *given})), assumed=assumed)
    return Preprocessor(steps, info, rest, untold=own.info if given else None)


def _resized(own: Preprocessor, options: ModelOptions) -> Preprocessor:
    """The same with another size, way to it, or interpolation."""
    info = own.info
    size = options.input_size or (info.crop if any(info.crop) else (224, 224))
    shorter = info.resize if isinstance(info.resize, int) and not options.input_size else None
    if not any(info.crop) and isinstance(info.resize, tuple) and not options.input_size:
        size = info.resize
    if options.resize.isdigit():
        shorter = int(options.resize)
    fit = cast(Fit, options.resize) if options.resize in get_args(Fit) else "crop" if options.resize else info.fit
    way = options.interpolation or info.interpolation
    assumed = "fit" in info.assumed and not options.resize
    made = presets.plain(size, shorter or None, way, info.mean, info.std, fit, info.order, info.range, assumed=assumed)
    return Preprocessor(made.steps, replace(made.info, given=info.given, assumed=info.assumed))


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
