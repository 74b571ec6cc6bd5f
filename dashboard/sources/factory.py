"""The operator's own models: what `package.module:factory` returns."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from hookscope.dashboard.asking.texts import TITLE_LENGTH, one_line, say
from hookscope.dashboard.engine.base import WAYS
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import presets, weights
from hookscope.dashboard.sources.building import (
    FactoryError,
    ModelNotFound,
    Source,
    arguments_of,
    given_weights,
    near,
    overridden,
    seeded,
)
from hookscope.dashboard.sources.fitting import Filled
from hookscope.dashboard.sources.given import check, checked
from hookscope.dashboard.sources.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessor
from hookscope.hooks.results.outputs import Reading


def own_model(spec: str, options: ModelOptions, progress: weights.Progress) -> Source:
    """The operator's own: what `package.module:factory` returns.

    The factory returns the module, or (module, settings): a dict with any of "input_size" (pixels or (height, width)),
    "resize", "mean", "std", "interpolation", "channel_order", "range", "frames", "channels", "inputs" (what forward's
    other parameters get, by name), "classes", "title", "licence", "weights" (a sentence), "output", "reads".
    """
    place, _, attribute = spec.partition(":")
    folder = os.getcwd()
    if folder not in sys.path and place not in sys.modules:
        sys.path.insert(0, folder)  # only here: our own modules are loaded by now, nothing in the folder shadows them
    progress(f"Calling {spec}.")
    with seeded(options.seed):
        target = _import(place, attribute, folder)
    with seeded(options.seed):  # again: what the module draws while it is imported, it draws only once
        made = _call(spec, target, arguments_of(options))
    module, settings = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module) or not isinstance(settings, Mapping):
        instead = _instead(made)
        raise FactoryError(
            f"{spec} returned {_called(made)}. It has to return a torch.nn.Module, or (module, settings)."
            f"{f' {instead}' if instead else ''}"
        )
    settings = checked(spec, settings)
    if not settings and isinstance(getattr(module, "pretrained_cfg", None), Mapping):
        import timm

        config = timm.data.resolve_data_config({}, model=module)
        for name in ("input_size", "mean", "std"):  # which its author may have changed
            check(spec, name, config[name])
        preprocessor = presets.from_timm(config)
    else:
        preprocessor = _prepared_by(settings)
    preprocessor = overridden(preprocessor, options)
    title = settings.get("title") or one_line(type(module).__name__, TITLE_LENGTH)
    if options.weights:
        filled = given_weights(module, options)
    else:
        filled = Filled(settings.get("weights") or f"As {spec} made them.")
    reading = Reading(settings.get("output", ""), settings.get("reads", ""))
    licence, classes = settings.get("licence", ""), settings.get("classes", ())
    source = Source(module, title, preprocessor, filled.sentence, licence=licence, classes=classes, reading=reading)
    source = replace(source, unsaid=not options.weights, unexpected=filled.unexpected)
    besides = {name: settings[name] for name in ("inputs", "frames", "channels") if name in settings}
    return replace(source, random_part=filled.head, weights_note=filled.note, **besides)


def _prepared_by(settings: Mapping[str, Any]) -> Preprocessor:
    """As the factory's settings say, and where they say nothing as ImageNet's classifiers have it."""
    plain = presets.plain((224, 224), None, "bilinear", IMAGENET_MEAN, IMAGENET_STD, assumed=True)
    resize = settings.get("resize")
    told = ModelOptions(
        input_size=resize if isinstance(resize, tuple) else settings.get("input_size"),
        resize="squash" if isinstance(resize, tuple) else resize or "",
        mean=settings.get("mean"),
        std=settings.get("std"),
        interpolation=settings.get("interpolation", ""),
        channel_order=settings.get("channel_order", ""),
        range=settings.get("range", 0),
    )
    return overridden(Preprocessor(plain.steps, replace(plain.info, assumed=WAYS)), told)


def _called(made: Any) -> str:
    """What a factory returned, by its type; of two things, both."""
    if made is None:
        return "nothing"
    if isinstance(made, type):
        return f"the class {made.__name__}"
    if isinstance(made, tuple) and len(made) == 2:
        return f"({', '.join(type(each).__name__ for each in made)})"
    return type(made).__name__


def _instead(made: Any) -> str:
    """What to return in place of something that is nearly a model; "" where that is not known."""
    first = made[0] if isinstance(made, tuple | list) and made else made
    if isinstance(first, torch.export.ExportedProgram):
        return "A program of torch.export becomes one by its method: return program.module()."
    if isinstance(first, type) and issubclass(first, nn.Module):
        return f"Make one of it: return {first.__name__}(...)."
    if isinstance(first, nn.Module):
        return "Settings are a dictionary, and there is one model."
    if isinstance(first, Mapping) and first and all(isinstance(each, torch.Tensor) for each in first.values()):
        return "These are weights: build the model that they belong to, and name their file by --weights."
    if made is None:
        return "Does it end in: return model?"
    return ""


def _import(place: str, attribute: str, folder: str) -> Any:
    try:
        target: Any = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise ModelNotFound(
                f"There is no module {error.name!r} in {folder} or among the installed packages. "
                "Start from the folder that holds it."
            ) from error
        raise FactoryError(
            f"{place} needs the module {error.name!r}, which is not installed: pip install it.", traceback.format_exc()
        ) from error
    except Exception as error:
        raise FactoryError(
            f"Importing {place} failed: {say(error)}. The terminal shows where.", traceback.format_exc()
        ) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ModelNotFound(f"{place} has no {part!r}. {near(part, _callables(target), '')}")
        target = getattr(target, part)
    return target


def _callables(target: Any) -> list[str]:
    """The names in a module or class that may be meant, first what it defines itself, without what it imports."""
    found = [name for name in dir(target) if name[0] != "_" and callable(getattr(target, name, None))]
    place = getattr(target, "__name__", "")
    own = [name for name in found if getattr(getattr(target, name), "__module__", None) == place]
    return [*own, *(name for name in found if name not in own)]


def _call(spec: str, target: Any, arguments: dict[str, Any]) -> Any:
    if isinstance(target, nn.Module):
        return target
    try:
        return target(**arguments)
    except Exception as error:
        raise FactoryError(f"{spec} failed: {say(error)}. The terminal shows where.", traceback.format_exc()) from error
