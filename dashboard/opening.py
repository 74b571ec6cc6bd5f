"""`hs.open_model`: a model of the page by its spec, in a program of one's own, with the way its pictures go.

    model = hs.open_model("torchvision:resnet18", weights="mine.pt")
    picture = model.prepare("cat.png", "bgr")
    with model.looking(), hs.capture(model.module, ["layer4"]) as seen:
        model.module(picture)

An entry point outside the web side: what is loaded, and how pictures are prepared, is what a worker of the page has.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.spec import DEFAULT_MODEL, how_written, is_spec, meant_by
from hookscope.dashboard.unopened import NotOpened, read_preparation
from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.capture import stream
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.looks.targets import Likeness
from hookscope.hooks.passes.looking import current, looking
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import Activation, Detections, LayerInfo
from hookscope.hooks.results.outputs import AS_FOUND, Reading, Scores
from hookscope.hooks.results.scores import top_classes

if TYPE_CHECKING:
    from hookscope.dashboard.opened_folders import Pictures
    from hookscope.dashboard.sources.load import LoadedModel
    from hookscope.hooks.results.findings import CheckUp

__all__ = ["NotOpened", "OpenModel", "open_model"]

OPTIONS = tuple(each.name for each in fields(ModelOptions) if each.name != "spec")
LISTED = 5  # classes of an answer
UNREAD = "It is not known how its answer is read."


def open_model(spec: str = DEFAULT_MODEL, *, device: str = "auto", **options: Any) -> OpenModel:
    """Load a model as the page does.

    Arguments:
        spec: "embedded", "torchvision:NAME", "timm:NAME", "hf:FOLDER", or "package.module:factory" of one's own, which
            has to be importable.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        options: what `hookscope`'s flags say of a model, docs/settings.md: weights (a file), labels (a file with the
            classes' names), arguments (a dict, for the factory), seed, input_size (one number or (height, width)),
            resize, interpolation, mean and std (a number or one per channel), channel_order, range, output, reads,
            allow_head, baseline, name.

    Raises:
        NotOpened: there is no such option, or a package is not installed.
        HooksError: why the model cannot be loaded, with what to do.
    """
    found = _read(spec, options)
    try:
        from hookscope.dashboard.sources.load import load
    except ImportError as error:
        name = error.name or error
        raise NotOpened(
            f"Opening a model needs {name}, which is not installed: pip install 'hookscope[check]'."
        ) from None
    return OpenModel(load(found, device))


class OpenModel:
    """A model that was opened, in eval mode.

    Attributes:
        module: the model itself. classes: the names of its answer's classes, by index; () where it has none.
        layers: what `describe` says of it, for looks that take that as `layers` or `described`.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self.module: nn.Module = loaded.module
        self.classes: tuple[str, ...] = loaded.info.names()
        self.layers: tuple[LayerInfo, ...] = loaded.info.layers

    def __repr__(self) -> str:
        return f"OpenModel({self._loaded.info.spec!r}, {len(self.layers)} layers, {len(self.classes)} classes)"

    def describe(self) -> str:
        """What it is, where its weights come from, and how its answer is read, a line each."""
        info = self._loaded.info
        reads = info.answer.reading.reads
        answer = f"Its answer is read as {reads}, {info.answer.why}." if reads else UNREAD
        lines = [f"{info.title}: {info.parameters:,} parameters on {info.device}.", info.weights, answer, *info.notes]
        return "\n".join(filter(None, lines))

    # --- what it is given

    def prepare(self, picture: Any, preparation: str = "") -> Tensor:
        """A picture as the model wants it, float (1, channel, height, width), on the model's device.

        Arguments:
            picture: a file's path, which is read as an upload is (PNG, JPEG, WebP, GIF, BMP, TIFF, .npy, .npz); a PIL
                image; or an array as a .npy holds it.
            preparation: how it is prepared otherwise, as the page's addresses have it: "bgr,unit", "320x240".

        Raises:
            NotOpened: the picture cannot be read, or nothing is called so. HooksError: it cannot be prepared so.
        """
        from hookscope.dashboard.opened_folders import pixels_of

        way = self._loaded.prepare.otherwise(read_preparation(preparation))
        return way(*pixels_of(picture)).tensor.to(self._loaded.device)

    def folder(
        self, folder: str | Path = "", preparation: str = "", *, most: int = 0, in_turns: bool = False, batch: int = 16
    ) -> Pictures:
        """The pictures of a folder, in the page's order, for `sweep`, `Baseline.fit`, `prune_curve`, `check`.

        Gone through, as often as one likes, it gives batches: a tensor, (picture, channel, height, width), and for each
        picture the class that its folder or labels.csv says it shows, -1 for none. Files that cannot be read are left
        out, and named in `.refused`.

        Arguments:
            folder: "" for the built-in photographs. preparation: as `prepare` has it.
            most: how many pictures at most, 0 for all. in_turns: one of each class after the other.
            batch: how many pictures of one size go together.

        Raises:
            NotOpened: it cannot be read.
        """
        from hookscope.dashboard.opened_folders import Pictures

        return Pictures(self._loaded, folder, read_preparation(preparation), most, in_turns, batch)

    @contextlib.contextmanager
    def looking(self, *, output: str = "", reads: str = "", second: Tensor | None = None) -> Iterator[None]:
        """Have the looks of a `with` block read the model's answer as the page does.

        Arguments:
            output: which of its outputs is the answer, by its path, and reads: how that is read, one of
                `methods.READINGS`; "" as it is found.
            second: of a model that takes two pictures, the one beside that which is given.
        """
        read = self._loaded.info.found(Reading(output, reads)).reading
        with looking(reading=read), self._loaded.pair.beside(second):
            yield

    # --- what it says

    def predict(self, picture: Tensor) -> Scores:
        """What it answers: logits, and shares where it is read so.

        Raises:
            TargetNotFound: its output is no list of classes.
        """
        output = self._loaded.info.output(self._reading())
        with looking(reading=self._reading()):
            return predict(self.module, picture, ends_in_shares=output is None or bool(output.ending))

    def detect(self, picture: Tensor) -> Detections:
        """What a detector finds, the boxes in pixels of what it is given.

        Raises:
            NotOpened: its answer is no list of boxes.
        """
        with looking(reading=self._reading()), inspecting(self.module) as module:
            found = detections(module(picture.clone()), tuple(picture.shape[-2:]))  # type: ignore[arg-type]
        if found is None:
            raise NotOpened("This model's answer holds no boxes. Ask it by predict.")
        return found

    def top(self, picture: Tensor, count: int = LISTED) -> list[tuple[str, float]]:
        """The classes that it ranks first, with their shares; of numbers that have no shares, the numbers."""
        found = self.predict(picture)
        values = found.shares if found.shares.size else found.logits
        names = self._loaded.info.names(self._reading())
        ranked = top_classes(values, count)
        return [(names[index] if index < len(names) else f"class {index}", value) for index, value in ranked]

    def activation(self, picture: Tensor, layer: str, call: int = 0) -> Activation:
        """What one call of a layer computes, with its axes and numbers, as the page's cards have it.

        Raises:
            HooksError: there is no such layer, or it does not run.
        """
        found: list[Activation | HooksError] = []
        stream(self.module, picture, [(layer, call)], lambda *each: found.append(each[2]), self.layers)
        (answer,) = found
        if isinstance(answer, HooksError):
            raise answer
        return answer

    def likeness(self, picture: Tensor) -> Likeness:
        """The likeness of an embedding to this picture's, as a target of other looks."""
        return Likeness(torch.from_numpy(self.predict(picture).logits))

    def check(self, pictures: Pictures) -> CheckUp:
        """What is usually wrong with a model, or with what it is given, by the page's rules; see docs/doctor.md.

        `hs.check` is the same for a module of one's own; here it is known, besides, how the model was loaded, and
        pictures are prepared in other ways, too.

        Raises:
            NotOpened: no picture can be read.
        """
        from hookscope.dashboard.opened_folders import check_up

        return check_up(self._loaded, pictures)

    def _reading(self) -> Reading:
        """How the answer is read here: as the `looking` block says, else as it is found."""
        asked = current().reading
        return self._loaded.info.answer.reading if asked == AS_FOUND else asked


def _read(spec: str, options: dict[str, Any]) -> ModelOptions:
    """What is asked for, in the types that the loader takes."""
    if unknown := next((name for name in options if name not in OPTIONS), ""):
        near = difflib.get_close_matches(unknown, OPTIONS, 1) or [", ".join(OPTIONS)]
        raise NotOpened(f"open_model has no option {unknown!r}. Did you mean {near[0]}?")
    if not is_spec(spec):
        raise NotOpened(f"{spec!r} names no model. Write {how_written()}; perhaps {meant_by(spec)}.")
    made = dict(options)
    for name in ("mean", "std"):
        if isinstance(made.get(name), int | float):
            made[name] = (float(made[name]),)
        elif made.get(name) is not None:
            made[name] = tuple(float(each) for each in made[name])
    if (size := made.get("input_size")) is not None:
        made["input_size"] = (size, size) if isinstance(size, int) else tuple(size)
    for name in ("weights", "labels", "baseline", "resize"):
        if name in made:
            made[name] = str(made[name])
    if isinstance(made.get("arguments"), dict):
        made["arguments"] = json.dumps(made["arguments"])
    return ModelOptions(spec=spec, **made)
