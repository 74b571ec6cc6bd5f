"""The seam between the page and whoever runs the model.

`LocalEngine` (local.py) keeps worker processes on this machine; actors on other machines can stand behind the same
few methods. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, Protocol

from hookscope.dashboard.asking.captions import each_of
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.hooks.results.looks import LayerInfo, LiveHook
from hookscope.hooks.results.outputs import AS_FOUND, Form, Found, Output, Reading, as_read, find_reading

LIKENESS = "logits_per_image"  # the output that holds it to captions, as transformers calls it
NOTHING = Found(AS_FOUND, "")
Phase = Literal["idle", "loading", "ready", "computing", "restarting", "failed"]
Fit = Literal["crop", "squash", "pad", "none"]
WAYS = ("size", "fit", "interpolation", "mean", "std", "order", "range")  # what there is to know of a preparation


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its pictures; enough to draw the crop on the original.

    Attributes:
        resize: the length that the shorter side is resized to, or (height, width) if the aspect is not kept; 0 if the
            model itself resizes what it is given.
        crop: (height, width) cut from the centre after resizing; (0, 0) if nothing is cut.
        interpolation: "bilinear", "bicubic", ...
        mean, std: per channel in the order of `order`, for pixels scaled to 0..1.
        fit: "crop" resizes the shorter side and cuts the centre out; "pad" has all of it and black
            around; "squash" gives all of the picture the model's size; "none" leaves it as it is.
        order: of the channels, "rgb" or "bgr". channels: how many there are; 1 is the luminance.
        frames: that a model of clips takes at once; 0 of a model of pictures.
        range: the largest value of a pixel to which the mean and deviation that were told belong, 1 or 255.
        given: which of `WAYS` the operator or the factory told; assumed: which of them nobody told.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: Fit = "crop"
    order: Literal["rgb", "bgr"] = "rgb"
    range: int = 1
    channels: int = 3
    frames: int = 0
    given: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def known(self, way: str) -> str:
        """From where one of `WAYS` is known: "given", "assumed" or "from the weights"."""
        return "given" if way in self.given else "assumed" if way in self.assumed else "from the weights"


@dataclass(frozen=True)
class Attends:
    """Which of two pictures an attention looks at.

    Attributes:
        layer, call: that compute it.
        keys: which of the pictures, 0 and 1, what it looks at comes from. value: the same of what the layer returns.
    """

    layer: str
    call: int
    keys: tuple[int, ...]
    value: tuple[int, ...]

    @property
    def crosses(self) -> bool:
        """Whether it looks from one picture at the other."""
        return len(self.keys) == 1 and len(self.value) == 2


@dataclass(frozen=True, repr=False)
class ModelInfo:
    """What the page shows of a loaded model.

    Attributes:
        spec: as the operator wrote it; `title`: for people, the name that the operator gave it, if any.
        bytes: of its parameters and buffers.
        weights: a sentence about where the weights come from; `random`: they are random, or `random_part`: the layer of
            that name alone is; and every picture says so. unsaid: a factory made the model, and nobody knows it.
        fingerprint: changes whenever the model could answer differently; part of every cache key.
        classes: class names of its answer by index; made up ("class 0") if the model brings none.
        layers: every module in registration order, the model itself ("") first.
        outputs: what it returns. answer: which of these is its answer, and how that is read where nobody says so.
        given_classes: the names that there are, of the answer or of another output that has as many numbers.
        pictures: the names of the two pictures that it takes; () of a model that takes one.
        of_second: the calls, each a layer's name and a number, that see the second of them alone. attending: which of
            them each attention looks at.
        notes: what is to be said of its weights and of its class names, sentences.
        module: the library's fingerprint of its module, by which a stored baseline is known to be of this model.
        captioned: how its likeness to captions is read that somebody types, "softmax" or "sigmoid"; "" if it takes
            none.
    """

    spec: str
    title: str
    parameters: int
    device: str
    weights: str
    random: bool
    licence: str
    fingerprint: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    layers: tuple[LayerInfo, ...]
    outputs: tuple[Output, ...] = ()
    answer: Found = NOTHING
    given_classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    of_second: tuple[tuple[str, int], ...] = ()
    attending: tuple[Attends, ...] = ()
    random_part: str = ""
    bytes: int = 0
    captioned: str = ""
    module: str = ""
    unsaid: bool = False

    def __repr__(self) -> str:
        """Short, and different for whatever could answer differently."""
        return f"ModelInfo({self.spec!r}, {self.fingerprint!r})"

    @cached_property
    def by_name(self) -> dict[str, LayerInfo]:
        """The layers by dotted name."""
        return {layer.name: layer for layer in self.layers}

    @property
    def reservation(self) -> str:
        """What everything that it computed has to say of its weights; "" if nothing."""
        return "random weights" if self.random else "random head" if self.random_part else ""

    def about(self, captions: str) -> ModelInfo:
        """The same model, asked how alike a picture is to each of some captions; itself where it takes none.

        Arguments:
            captions: as `asking.captions.read_captions` has them.
        """
        names = each_of(captions)
        if not names or not self.captioned:
            return self
        others = tuple(each for each in self.outputs if each.path != LIKENESS)
        return replace(
            self,
            fingerprint=hashlib.sha256(f"{self.fingerprint} {captions}".encode()).hexdigest(),
            classes=names,
            given_classes=names,
            outputs=(Output(LIKENESS, (1, len(names)), "vector"), *others),
            answer=Found(Reading(LIKENESS, self.captioned), "the picture's likeness to each of the captions"),
        )

    def compares(self, chosen: Reading = AS_FOUND) -> bool:
        """Whether what is read is the picture's likeness to captions."""
        return bool(self.captioned) and self.found(chosen).reading.output == LIKENESS

    def found(self, chosen: Reading = AS_FOUND) -> Found:
        """How the answer is read if somebody has chosen this of it, both parts told."""
        own = self.answer.reading
        if chosen.output in ("", own.output):
            changed = chosen.reads not in ("", own.reads)
            return Found(Reading(own.output, chosen.reads), "as chosen") if changed else self.answer
        return find_reading(self.outputs, given=chosen)

    def output(self, chosen: Reading = AS_FOUND) -> Output | None:
        """The output that is read, None if there is none."""
        reading = self.found(chosen).reading
        return next((each for each in self.read_as(reading.reads) if each.path == reading.output), None)

    def read_as(self, reads: str) -> tuple[Output, ...]:
        """Its outputs in the forms that such a reading of them has, without those that it makes nothing of."""
        found = (as_read(each, reads) for each in self.outputs)
        return tuple(each for each in found if each.form != "other")

    def form(self, chosen: Reading = AS_FOUND) -> Form:
        """What that is."""
        output = self.output(chosen)
        return "other" if output is None else output.form

    def names(self, chosen: Reading = AS_FOUND) -> tuple[str, ...]:
        """The names of its classes or numbers by index; none of an embedding, or of a picture."""
        output, reading = self.output(chosen), self.found(chosen).reading
        if output is None or reading.reads == "embedding":
            return ()
        fits = not output.raw or output.length == len(self.classes)
        if output.path == self.answer.reading.output and self.classes and fits:
            return self.classes
        if self.given_classes and output.length == len(self.given_classes):
            return self.given_classes
        return made_up(output, reading.reads)


def made_up(output: Output, reads: str) -> tuple[str, ...]:
    """Names for the classes or numbers of an output that has none."""
    if output.form == "pixels" and reads == "values":
        return ()
    if output.length == 1:
        return (output.path.rpartition("/")[2] or "output",)
    kind = "number" if reads == "values" else "class"
    return tuple(f"{kind} {index}" for index in range(output.length))


@dataclass(frozen=True)
class Work:
    """What has become of the units of a model since the server started.

    Attributes:
        taken: given to a worker. answered, failed: by a worker, or with it. stopped: withdrawn after they were taken.
        dropped: withdrawn before, because nobody waited for them any more.
    """

    taken: int = 0
    answered: int = 0
    failed: int = 0
    stopped: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class ModelState:
    """What a model is doing now.

    Attributes:
        phase: where it stands. `sentence`: the same for people, with what to do next where something failed.
        info: the loaded model, or the unloaded one, whose kept answers are good; None before the first load succeeded.
        hooks: hooks live at this moment. `waiting`: units not yet started. `work`: what became of the others.
    """

    phase: Phase
    sentence: str
    info: ModelInfo | None = None
    hooks: tuple[LiveHook, ...] = ()
    waiting: int = 0
    work: Work = Work()


@dataclass(frozen=True)
class Event:
    """One thing that happened to a slot.

    Attributes:
        kind: "started" (the unit's forward began), "partial" (`data` holds what is known of the answer), "progress"
            (`done` of `total` pictures are), "done" (`data` holds the answer), "failed" (`sentence` says why), "end"
            (nothing more will come for this slot; `unit` is None).
        data: for "partial" and "done": the answer, as `results.codec.encode` made it.
        sentence: for "failed": what is wrong and what to do.
        final: for "failed": asking again would give the same; it is a fact about the model, not a fault.
        details: for "failed": type, message and traceback as text, for a log or a "details" fold.
    """

    kind: Literal["started", "partial", "progress", "done", "failed", "end"]
    unit: Unit | None = None
    data: bytes = field(default=b"", repr=False)
    sentence: str = ""
    details: str = ""
    final: bool = False
    done: int = 0
    total: int = 0


class NotThere(Exception):
    """What `fetch` of `Engine.submit` raises where its text is all that is to be said."""


class AllGone(NotThere):
    """The same where nothing else that the question needs is there, either: it fails with this text."""


class Engine(Protocol):
    """Who runs the models. Every method returns at once, but `events`, which waits for news."""

    def open(self, model: str) -> None:
        """Start loading a model, if it is not loaded or loading."""

    def state(self, model: str) -> ModelState:
        """What the model is doing now."""

    def info(self, model: str) -> ModelInfo | None:
        """As in the state. Asked for every unit, so it has to be cheap."""

    def options(self, model: str) -> ModelOptions | None:
        """What the operator said of it; None of a model that is not offered."""

    def submit(self, slot: str, units: Sequence[Unit], fetch: Callable[[str], bytes]) -> None:
        """Ask for units, most urgent first; a unit that someone else already waits for is computed once.

        Arguments:
            slot: where the answers go; a new name for every submission.
            fetch: gives the pixels of an input by its digest, as `inputs.rows` has them, when a worker needs them.
        """

    def events(self, slot: str, since: int, timeout_seconds: float) -> tuple[list[Event], int]:
        """The slot's events from number `since` on, and the next number; waits up to the timeout for one."""

    def cancel(self, slot: str) -> None:
        """Withdraw what the slot still waits for; a unit that nobody waits for any more is stopped or never started."""

    def stop(self, slot: str, units: Sequence[Unit]) -> None:
        """Withdraw only these units, which fail for the slot with a sentence that says so."""

    def close(self) -> None:
        """Stop every worker within two seconds and leave nothing behind."""
