"""The operator's own models: what `package.module:factory` returns."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hookscope.dashboard.asking.texts import TITLE_LENGTH, one_line, say
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import checkpoints, preprocessing, weights
from hookscope.dashboard.sources.building import (
    FactoryError,
    ModelNotFound,
    Source,
    arguments_of,
    near,
    overridden,
    seeded,
)
from hookscope.dashboard.sources.given import check, checked
from hookscope.dashboard.sources.preprocessing import IMAGENET_MEAN, IMAGENET_STD


def own_model(spec: str, options: ModelOptions, progress: weights.Progress) -> Source:
    """The operator's own: what `package.module:factory` returns.

    The factory returns the module, or (module, settings): a dict with any of "input_size" (pixels or (height, width)),
    "resize", "mean", "std", "interpolation", "classes", "title", "licence", "weights" (a sentence).
    """
    place, _, attribute = spec.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)  # only here: our own modules are loaded by now, nothing in the folder shadows them
    progress(f"Calling {spec}.")
    with seeded(options.seed):
        target = _import(place, attribute, folder)
    with seeded(options.seed):  # again: what the module draws while it is imported, it draws only once
        made = _call(spec, target, arguments_of(options))
    module, settings = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module) or not isinstance(settings, Mapping):
        raise FactoryError(
            f"{spec} returned {type(made).__name__}. It has to return a torch.nn.Module, or (module, settings)."
        )
    settings = checked(spec, settings)
    if not settings and isinstance(getattr(module, "pretrained_cfg", None), Mapping):
        import timm

        config = timm.data.resolve_data_config({}, model=module)
        for name in ("input_size", "mean", "std"):  # which its author may have changed
            check(spec, name, config[name])
        preprocessor = preprocessing.from_timm(config)
    else:
        preprocessor = preprocessing.plain(
            settings.get("input_size", (224, 224)),
            settings.get("resize"),
            settings.get("interpolation", "bilinear"),
            settings.get("mean", IMAGENET_MEAN),
            settings.get("std", IMAGENET_STD),
        )
    preprocessor = overridden(preprocessor, options)
    title = settings.get("title") or one_line(type(module).__name__, TITLE_LENGTH)
    if options.weights:
        weights.fill(module, checkpoints.read(options.weights), Path(options.weights).name)
        sentence = f"From {Path(options.weights).name}."
    else:
        sentence = settings.get("weights") or f"As {spec} made them."
    licence, classes = settings.get("licence", ""), settings.get("classes", ())
    return Source(module, title, preprocessor, sentence, licence=licence, classes=classes, names_every_class=True)


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
