"""Loads a model: builds it, puts it on its device, runs it once to describe its layers, and names what it is."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from hookscope.dashboard.asking.captions import each_of
from hookscope.dashboard.asking.layer_keys import MAX_NAME_LENGTH
from hookscope.dashboard.asking.texts import SENTENCE_LENGTH, TITLE_LENGTH, one_line, shorten, unshowable
from hookscope.dashboard.engine.base import ModelInfo, Preprocessing, made_up
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources import entrance as entrances
from hookscope.dashboard.sources import weights
from hookscope.dashboard.sources.build import build
from hookscope.dashboard.sources.building import Source
from hookscope.dashboard.sources.classes import class_names, given_names
from hookscope.dashboard.sources.entrance import Entering, Entrance
from hookscope.dashboard.sources.hugging_face_answers import WithTexts
from hookscope.dashboard.sources.own_code import code_digest
from hookscope.dashboard.sources.preprocessing import Prepared, Preprocessor
from hookscope.dashboard.sources.spec import title_of
from hookscope.dashboard.sources.two_pictures import Pair, attending, seeing_the_second
from hookscope.dashboard.sources.unfit import explained
from hookscope.hooks.errors import HooksError, ModelNotSupported
from hookscope.hooks.layers.describe import recorded
from hookscope.hooks.layers.fingerprint import digest_of
from hookscope.hooks.layers.fingerprint import fingerprint as fingerprint_of
from hookscope.hooks.layers.packed import count_learnt
from hookscope.hooks.layers.recording import Recorded
from hookscope.hooks.layers.shapes import NCHW, NHWC
from hookscope.hooks.passes.modes import check_supported, unwrap
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import DEPTH
from hookscope.hooks.results.outputs import Found, Output, Reading, as_read, find_reading
from hookscope.hooks.results.raw_boxes import RAW, could_be

__all__ = ["DeviceError", "LoadedModel", "Prepared", "choose_device", "load"]

CALLS = 1000  # Python's own limit, for what is not the model's modules
CALLS_PER_LEVEL = 12
DEEPEST = 1000  # levels
TRUSTED_PACKAGES = ("torch", "torchvision", "timm", "transformers")  # their versions stand for their code


class DeviceError(HooksError):
    """There is no such device here."""


@dataclass(frozen=True)
class Handed:
    """What a model was when it was handed over.

    Attributes:
        random, missing, unexpected: of its weights, as `hooks.results.findings.Known` has it.
        training: modules that were in training mode although the model was not.
    """

    random: bool | None = None
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    training: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers: on its device, in eval mode; what it was before, and the file of its stored baseline.

    Attributes:
        entering: what puts pictures into it; None where it takes them by itself.
    """

    module: nn.Module
    info: ModelInfo
    device: torch.device
    prepare: Preprocessor
    pair: Pair = field(default_factory=Pair)
    handed: Handed = Handed()
    baseline: str = ""
    entering: Entering | None = None

    @contextlib.contextmanager
    def about(self, captions: str) -> Iterator[LoadedModel]:
        """The model as it answers about typed captions, in the block; it is about its own ones after it.

        Arguments:
            captions: as `asking.captions.read_captions` has them; "" for its own.
        """
        with contextlib.nullcontext() if self.entering is None else self.entering.placed():
            if not isinstance(self.module, WithTexts):
                yield self
                return
            with self.module.comparing(each_of(captions)):
                yield replace(self, info=self.info.about(captions))


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
    name = title_of(f"{options.name}={options.spec}")
    progress(f"Loading {name} …")
    source = build(options, progress)
    module = source.module
    check_supported(unwrap(module))  # before anything is done with it: a run would fill lazy layers
    make_room(module)
    module = module.to(place)
    handed = _handed_over(module, source)
    for each in module.modules():
        each.training = False
    progress("Describing the layers …")
    entrance, entering, prepare = enter(module, source)
    try:
        info = _described(module, options, source, place, entrance, prepare)
    except BaseException:
        entering.remove()
        raise
    return LoadedModel(module, info, place, prepare, entrance.pair, handed, options.baseline, entering)


def _described(
    module: nn.Module,
    options: ModelOptions,
    source: Source,
    place: torch.device,
    entrance: Entrance,
    prepare: Preprocessor,
) -> ModelInfo:
    """What the page has to know of a model that takes pictures by now, from a run of it.

    Raises:
        HooksError: it does not run, or cannot be read so.
    """
    noise = prepare.noise(options.seed).to(place)
    try:
        run = recorded(module, noise)
    except HooksError:
        raise
    except Exception as error:
        told = entrances.doubt(error, entrance) if entrance.others else explained(error, module, entrance, noise)
        raise told from error
    if entrance.frames:  # which lie below each other
        run = replace(run, outputs=tuple(replace(each, stride=each.stride / entrance.frames) for each in run.outputs))
    layers = tuple(_framed(_labelled(layer), entrance) for layer in run.layers)
    given, whose = given_names(source.classes, options.labels)
    answer = find_answer(run.outputs, len(given), source.reading, options)
    made_up_names = _made_up(module, run.outputs, answer, given)
    elsewhere = len(made_up_names) != len(given) and any(each.length == len(given) for each in run.outputs)
    named = class_names(made_up_names, () if elsewhere else given, whose)
    values = weights.digest(module)
    return ModelInfo(
        spec=options.spec,
        title=one_line(source.title if options.name == options.spec else options.name, TITLE_LENGTH),
        parameters=count_learnt(module),
        device=str(place),
        weights=source.weights,
        random=source.random,
        random_part=source.random_part,
        unsaid=source.unsaid,
        licence=source.licence,
        fingerprint=fingerprint(options, source, place, values),
        classes=named.names,
        preprocessing=prepare.info,
        layers=layers,
        outputs=run.outputs,
        answer=answer,
        given_classes=given,
        notes=tuple(
            filter(None, [source.weights_note, named.note, entrance.note, _said_of(prepare.info), _said_of_run(run)])
        ),
        pictures=entrance.pictures,
        of_second=seeing_the_second(module, entrance.pair, layers, noise) if entrance.pictures else (),
        attending=attending(module, entrance.pair, layers, noise) if entrance.pictures else (),
        captioned=source.captioned,
        module=fingerprint_of(module, values if weights.are_all(module) else ""),
        bytes=sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers())),
    )


def _handed_over(module: nn.Module, source: Source) -> Handed:
    inner = unwrap(module)
    left = () if inner.training else tuple(name for name, each in inner.named_modules() if each.training)
    return Handed(None if source.unsaid else source.random, source.missing, source.unexpected, left)


def enter(module: nn.Module, source: Source) -> tuple[Entrance, Entering, Preprocessor]:
    """Find how pictures get into a model, have it take them so, and prepare them with as many channels as it wants."""
    entrance = entrances.arguments_for(module, source.inputs)
    info = source.preprocessor.info
    noise = source.preprocessor.noise(0)
    entrance = entrances.found(
        module, entrance, (noise.shape[2], noise.shape[3]), source.channels or info.channels, source.frames
    )
    prepare = source.preprocessor.for_channels(source.channels or entrance.channels).for_frames(entrance.frames)
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    entrance = entrances.fitted(unwrap(module), entrance, prepare.noise(0).to(device))
    return entrance, Entering(module, entrance), prepare


def _said_of(info: Preprocessing) -> str:
    """What is to be said of how pictures are prepared; "" for nothing."""
    said = []
    if info.channels == 1:
        said.append("The model takes one channel: pictures are made grey.")
    if info.frames:
        said.append(
            f"It takes clips of {info.frames} frames: a GIF's are spread evenly, and a still picture is all of them."
        )
    if info.range == 255 and "range" not in info.given:
        said.append("Its mean is above 1, so it is taken as of pixels of 0 to 255.")
    if "fit" in info.assumed and info.resize:
        said.append(f"Nobody said how its pictures get their size. Assumed: {_fitted(info)}.")
    return " ".join(said)


def _fitted(info: Preprocessing) -> str:
    """How pictures get their size where nobody said it."""
    height, width = info.crop if any(info.crop) else info.resize if isinstance(info.resize, tuple) else (0, 0)
    if info.fit == "squash":
        return f"squashed to {width} x {height}, the proportions not kept"
    if info.fit == "pad":
        return f"all of a picture within {width} x {height}, with black around"
    return (
        f"the shorter side resized to {info.resize}, the centre of {width} x {height} cut out; "
        "a picture of that size as it is"
    )


INSTEAD = {  # of what a model returns that is nothing to read
    "whole numbers": "such as the index of the highest class: return what they were chosen from",
    "yes or no (bool)": "which has no gradient: return what was compared",
    "complex numbers": "which are no one number each: return their magnitude or their real part",
    "nothing": "so its forward has no return",
    "numpy.ndarray": "which came from a tensor: return the tensor",
}


def _said_of_run(run: Recorded) -> str:
    """What is to be said of a run that draws random numbers, or returns what cannot be read; "" for nothing."""
    said = []
    if run.draws:
        said.append(
            "Its forward pass draws random numbers (noise, dropout or a mask): all that is shown is of one draw, and "
            "another would answer otherwise."
        )
    if run.returned:
        instead = INSTEAD.get(run.returned, "in which no tensor is found: return a tensor, or several in a dictionary")
        said.append(f"It returns {run.returned}, {instead}.")
    return " ".join(said)


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


def _framed(layer: LayerInfo, entrance: Entrance) -> LayerInfo:
    """Of a model that looks at each frame of a clip as at an image, the first axis is that of the frames."""
    if not entrance.frames_first:
        return layer

    def named(call: Call) -> Call:
        of_frames = (
            call.axes[1:] in (NCHW[1:], NHWC[1:]) and call.axes[0] == "axis" and call.shape[0] == entrance.frames
        )
        return replace(call, axes=(DEPTH, *call.axes[1:])) if of_frames else call

    return replace(layer, calls=tuple(map(named, layer.calls)))


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


class OutputError(HooksError):
    """The model has no such output, or it cannot be read so."""


def find_answer(outputs: Sequence[Output], classes: int, known: Reading, options: ModelOptions) -> Found:
    """Which of the outputs is the answer and how it is read: by the operator, by the source, or as it is found.

    Raises:
        OutputError: the operator, or the factory, names an output that is not there, or reads one number as classes.
    """
    given = Reading(options.output or known.output, options.reads or known.reads)
    if given.output and not any(each.path == given.output for each in outputs):
        names = ", ".join(repr(each.path) for each in outputs if each.path)
        has = f"has {names}. Choose one of these" if names else "returns a single tensor. Leave the name out"
        raise OutputError(f"The model has no output {given.output!r}: it {has}.")
    found = find_reading(outputs, classes, given)
    output = next((each for each in outputs if each.path == found.reading.output), None)
    if given.reads == "softmax" and output is not None and output.length == 1:
        raise OutputError(
            "The model's answer is one number, and the softmax of one number is always 1. Read it as sigmoid (yes or "
            "no) or as values."
        )
    if found.reading.reads in RAW and (output is None or not could_be(output.shape, found.reading.reads)):
        shapes = ", ".join(each.title for each in outputs)
        raise OutputError(
            f"The model's answer cannot be read as {found.reading.reads}: it is {shapes}, and raw boxes are "
            f"(1, numbers, boxes) or (1, boxes, numbers), with more than {RAW[found.reading.reads]} numbers each."
        )
    return found


def _made_up(module: nn.Module, outputs: Sequence[Output], answer: Found, given: Sequence[str]) -> Sequence[str]:
    """A name for every class of the answer."""
    read = [as_read(each, answer.reading.reads) for each in outputs]
    output = next((each for each in read if each.path == answer.reading.output and each.form != "other"), None)
    if output is None or answer.reading.reads == "embedding":
        return ()
    if output.form == "boxes" and not output.raw:
        return [f"class {index}" for index in range(detector_classes(module) or len(given))]
    return made_up(output, answer.reading.reads)


def detector_classes(module: nn.Module) -> int:
    """How many classes a detector of torchvision tells apart, the background included; 0 if it is of another kind."""
    for part in module.modules():
        for name in ("num_classes", "num_columns"):  # of RetinaNet's and FCOS's head, of SSD's
            if isinstance(count := getattr(part, name, None), int):
                return count
        if isinstance(scores := getattr(part, "cls_score", None), nn.Linear):  # Faster, Mask and Keypoint R-CNN's
            return scores.out_features
    return 0


def fingerprint(options: ModelOptions, source: Source, device: torch.device, values: str) -> str:
    """SHA-256 over everything that may change an answer: weights, code, versions, preprocessing, device type.

    Arguments:
        values: the digest of the weights.
    """
    parts = {
        "spec": options.spec,
        "arguments": options.arguments,
        "weights": values,
        "preprocessing": asdict(source.preprocessor.info),
        "inputs": digest_of(source.inputs),
        "random": source.random_part,
        "texts": source.texts,
        "reading": [asdict(source.reading), options.output, options.reads],
        "device": device.type,
        "hookscope": code_digest(),
        "versions": {name: _version(name) for name in TRUSTED_PACKAGES},
        "modules": _own_code(source.module),
        "layers": fingerprint_of(source.module, values),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    """As installed, whether or not this process has imported it: what it loaded before says nothing of this model."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


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
