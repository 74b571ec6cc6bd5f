"""Loads a model: builds it, puts it on its device, runs it once to describe its layers, and names what it is."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from hookscope.dashboard.asking.layer_keys import MAX_NAME_LENGTH
from hookscope.dashboard.asking.texts import SENTENCE_LENGTH, TITLE_LENGTH, one_line, shorten, unshowable
from hookscope.dashboard.engine.base import ModelInfo, ModelKind
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import weights
from hookscope.dashboard.sources.build import build
from hookscope.dashboard.sources.building import Source
from hookscope.dashboard.sources.classes import class_names
from hookscope.dashboard.sources.own_code import code_digest
from hookscope.dashboard.sources.preprocessing import Prepared, Preprocessor
from hookscope.dashboard.sources.spec import title_of
from hookscope.hooks.errors import HooksError, ModelNotSupported
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.detections import detects
from hookscope.hooks.results.looks import LayerInfo

__all__ = ["DeviceError", "LoadedModel", "Prepared", "choose_device", "load"]

CALLS = 1000  # Python's own limit, for what is not the model's modules
CALLS_PER_LEVEL = 12
DEEPEST = 1000  # levels
TRUSTED_PACKAGES = ("torch", "torchvision", "timm")  # their versions stand for their code


class DeviceError(HooksError):
    """There is no such device here."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers: on its device, in eval mode."""

    module: nn.Module
    info: ModelInfo
    device: torch.device
    prepare: Preprocessor


def load(
    options: ModelOptions, device: str = "auto", progress: Callable[[str], None] = lambda sentence: None
) -> LoadedModel:
    """Load the model that the options name.

    Arguments:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        progress: told what is being done, in sentences.

    Raises:
        HooksError: why it cannot be loaded, with what to do.
    """
    place = choose_device(device)
    name = title_of(options.spec)
    progress(f"Loading {name} …")
    source = build(options, progress)
    module = source.module
    make_room(module)
    module = module.to(place)
    for each in module.modules():
        each.training = False
    progress("Describing the layers …")
    layers = tuple(map(_labelled, describe(module, source.preprocessor.noise(options.seed).to(place))))
    kind = kind_of(layers)
    count = detector_classes(module) or len(source.classes) if kind == "detector" else class_count(layers)
    strict = source.names_every_class
    classes = class_names(count, source.classes, options.labels, strict=strict) if count else ()
    info = ModelInfo(
        spec=options.spec,
        title=one_line(source.title, TITLE_LENGTH),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        device=str(place),
        weights=source.weights,
        random=source.random,
        licence=source.licence,
        fingerprint=fingerprint(options, source, place),
        classes=classes,
        preprocessing=source.preprocessor.info,
        layers=layers,
        kind=kind,
    )
    return LoadedModel(module, info, place, source.preprocessor)


def make_room(module: nn.Module) -> None:
    """Raise Python's limit of nested calls for a model whose modules lie deep in each other.

    Hooks take more calls per level than the model alone: 200 levels run without them and stopped with them. It is for
    this process only, whose main thread has 8 MB for calls; what is nested deeper ends in Python's own RecursionError.
    """
    depth, level = 0, {module}
    while level and depth < DEEPEST:
        depth, level = depth + 1, {child for each in level for child in each._modules.values() if child is not None}
    sys.setrecursionlimit(max(sys.getrecursionlimit(), CALLS + CALLS_PER_LEVEL * depth))


def _labelled(layer: LayerInfo) -> LayerInfo:
    """What the recorded run says of a layer, with a type's name that fits into a row.

    Raises:
        ModelNotSupported: its own name is none that a tree, an address and a file can hold; it is not cut, because it
            is what the layer is asked for by.
    """
    for name in (layer.name, *layer.aliases):
        if len(name) > MAX_NAME_LENGTH:
            raise ModelNotSupported(
                f"A layer of this model has a name of {len(name)} characters ({shorten(name, TITLE_LENGTH)!r}), and "
                f"{MAX_NAME_LENGTH} fit into an address. Give its modules shorter names."
            )
        if found := unshowable(name):
            raise ModelNotSupported(
                f"The layer {shorten(name, TITLE_LENGTH)!r} has the character {found} in its name, which cannot be "
                "shown. Give it another name."
            )
    reason = shorten(layer.reason_not_run, MAX_NAME_LENGTH + SENTENCE_LENGTH)
    return replace(layer, type=one_line(layer.type, TITLE_LENGTH), reason_not_run=reason)


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes the first of CUDA, MPS, CPU that is there.

    Raises:
        DeviceError: it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device. Choose auto, cpu, cuda, cuda:0 or mps.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"There is no device {name} here: {count} CUDA devices were found. Start with --device auto."
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("There is no MPS device here. Start with --device auto.")
    return device


def kind_of(layers: tuple[LayerInfo, ...]) -> ModelKind:
    """What the model answers, as its recorded run shows."""
    if detects(layers):
        return "detector"
    calls = layers[0].calls if layers else ()
    pixels = bool(calls) and len(calls[-1].shape) == 4 and calls[-1].axes[1] == "channel"
    return "segmenter" if pixels else "classifier"


def detector_classes(module: nn.Module) -> int:
    """How many classes a detector of torchvision tells apart, the background included; 0 if it is of another kind."""
    for part in module.modules():
        for name in ("num_classes", "num_columns"):  # of RetinaNet's and FCOS's head, of SSD's
            if isinstance(count := getattr(part, name, None), int):
                return count
        if isinstance(scores := getattr(part, "cls_score", None), nn.Linear):  # Faster, Mask and Keypoint R-CNN's
            return scores.out_features
    return 0


def class_count(layers: tuple[LayerInfo, ...]) -> int:
    """How many classes the model answers: the length of its output's axis after the image axis."""
    calls = layers[0].calls if layers else ()
    return calls[-1].shape[1] if calls and len(calls[-1].shape) >= 2 else 0


def fingerprint(options: ModelOptions, source: Source, device: torch.device) -> str:
    """SHA-256 over everything that may change an answer: weights, code, versions, preprocessing, device type."""
    parts = {
        "spec": options.spec,
        "arguments": options.arguments,
        "weights": weights.digest(source.module),
        "preprocessing": asdict(source.preprocessor.info),
        "device": device.type,
        "hookscope": code_digest(),
        "versions": {name: _version(name) for name in TRUSTED_PACKAGES},
        "modules": _own_code(source.module),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    module = sys.modules.get(package)
    return str(getattr(module, "__version__", None) or importlib.metadata.version(package))


def _own_code(module: nn.Module) -> str:
    """SHA-256 of the files that define the operator's own modules: weights do not identify a forward's code."""
    hasher = hashlib.sha256()
    kinds = {type(each) for each in module.modules()}
    own = {kind for kind in kinds if kind.__module__.split(".")[0] not in TRUSTED_PACKAGES}
    for kind in sorted(own, key=lambda kind: (kind.__module__, kind.__qualname__)):
        hasher.update(f"{kind.__module__}.{kind.__qualname__};".encode())
        try:
            hasher.update(Path(inspect.getsourcefile(kind) or "").read_bytes())
        except (OSError, TypeError):  # made in a shell, or compiled
            pass
    return hasher.hexdigest()
