"""The seam between the page and whoever runs the model.

`LocalEngine` (local.py) keeps worker processes on this machine; actors on other machines can stand behind the same
few methods. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from hookscope.dashboard.asking.questions import Unit
from hookscope.hooks.results.looks import LayerInfo, LiveHook

ModelKind = Literal["classifier", "segmenter", "detector"]
Phase = Literal["idle", "loading", "ready", "computing", "restarting", "failed"]


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its pictures; enough to draw the crop on the original.

    Attributes:
        resize: the length that the shorter side is resized to, or (height, width) if the aspect is not kept; 0 if the
            model itself resizes what it is given.
        crop: (height, width) cut from the centre after resizing; (0, 0) if nothing is cut.
        interpolation: "bilinear", "bicubic", ...
        mean, std: per channel (red, green, blue), for pixels scaled to 0..1.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, repr=False)
class ModelInfo:
    """What the page shows of a loaded model.

    Attributes:
        spec: as the operator wrote it; `title`: for people.
        weights: a sentence about where the weights come from; `random`: they are random, and every picture says so.
        fingerprint: changes whenever the model could answer differently; part of every cache key.
        classes: class names by index; made up ("class 0") if the model brings none.
        layers: every module in registration order, the model itself ("") first.
        kind: what it answers: a logit per class, a class per pixel, or boxes. What is neither of these is a classifier
            without classes.
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
    kind: ModelKind = "classifier"

    def __repr__(self) -> str:
        """Short, and different for whatever could answer differently."""
        return f"ModelInfo({self.spec!r}, {self.fingerprint!r})"

    @cached_property
    def by_name(self) -> dict[str, LayerInfo]:
        """The layers by dotted name."""
        return {layer.name: layer for layer in self.layers}


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
        info: the loaded model; None before the first load succeeded.
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
        kind: "started" (the unit's forward began), "partial" (`data` holds what is known of the answer), "done" (`data`
            holds the answer), "failed" (`sentence` says why), "end" (nothing more will come for this slot; `unit` is
            None).
        data: for "partial" and "done": the answer, as `results.codec.encode` made it.
        sentence: for "failed": what is wrong and what to do.
        final: for "failed": asking again would give the same; it is a fact about the model, not a fault.
        details: for "failed": type, message and traceback as text, for a log or a "details" fold.
    """

    kind: Literal["started", "partial", "done", "failed", "end"]
    unit: Unit | None = None
    data: bytes = field(default=b"", repr=False)
    sentence: str = ""
    details: str = ""
    final: bool = False


class Engine(Protocol):
    """Who runs the models. Every method returns at once, but `events`, which waits for news."""

    def open(self, model: str) -> None:
        """Start loading a model, if it is not loaded or loading."""

    def state(self, model: str) -> ModelState:
        """What the model is doing now."""

    def info(self, model: str) -> ModelInfo | None:
        """The loaded model; None before the first load succeeded. Asked for every unit, so it has to be cheap."""

    def submit(self, slot: str, units: Sequence[Unit], fetch: Callable[[str], bytes]) -> None:
        """Ask for units, most urgent first; a unit that someone else already waits for is computed once.

        Arguments:
            slot: where the answers go; a new name for every submission.
            fetch: gives the PNG bytes of an input by its digest, when a worker needs them.
        """

    def events(self, slot: str, since: int, timeout_seconds: float) -> tuple[list[Event], int]:
        """The slot's events from number `since` on, and the next number; waits up to the timeout for one."""

    def cancel(self, slot: str) -> None:
        """Withdraw what the slot still waits for; a unit that nobody waits for any more is stopped or never started."""

    def close(self) -> None:
        """Stop every worker within two seconds and leave nothing behind."""
