"""A scene: the view with everything it names looked up, as the panels need it to describe their parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.answers import Failure
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import NO_TARGET, TOP, Unit, question_of
from hookscope.dashboard.drawing.pictures import picture_png
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.inputs.store import Input, InputStore
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings, Walls
from hookscope.dashboard.page.view import View
from hookscope.hooks.results.looks import Call, LayerInfo, Prediction

SIDES = ("a", "b")
ResultT = TypeVar("ResultT")


class Gone(Exception):
    """The values behind a picture are no longer kept; the page has to ask for them again."""


@dataclass(frozen=True)
class Scene:
    """What one page shows: the view, the loaded model, and the inputs that are still there.

    Attributes:
        inputs: by side, "a" before "b"; a side without an input is missing.
        gallery: gives addresses to pictures and files. readings: the newest layers' arithmetic.
        width: of a card's wall, A, B and B - A together, in CSS pixels.
        mounted: how many cards the page has. prefix: the path that it is served under.
    """

    view: View
    info: ModelInfo
    inputs: dict[str, Input]
    service: Service = field(repr=False)
    gallery: Gallery = field(repr=False)
    readings: Readings = field(repr=False)
    width: int = 800
    mounted: int = 0
    prefix: str = "/"

    @classmethod
    def build(
        cls, view: View, info: ModelInfo, service: Service, gallery: Gallery, readings: Readings, width: int
    ) -> Scene:
        """Look up a view's inputs."""
        found = {side: find(service.inputs, getattr(view, side)) for side in SIDES}
        inputs = {side: item for side, item in found.items() if item}
        return cls(view, info, inputs, service, gallery, readings, width)

    def only(self, *names: str, sides: Sequence[str] = SIDES, width: bool = False) -> Scene:
        """This scene with nothing chosen but what is named: what a part shows, so that it cannot draw from more.

        Arguments:
            names: fields of the view, its own or of the panels' states. sides: whose inputs are kept.
            width: whether a wall's width is, too.
        """
        view = self.view.only("model", *names)
        inputs = {side: given for side, given in self.inputs.items() if side in sides}
        return replace(self, view=view, inputs=inputs, width=self.width if width else 0, mounted=0, prefix="")

    @property
    def walls(self) -> Walls:
        """How every wall is drawn."""
        return self.view.of(Walls)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Which side has which picture, by name: part of whatever a drawing says of its inputs."""
        return tuple((side, given.name) for side, given in self.inputs.items())

    @property
    def layers(self) -> dict[str, LayerInfo]:
        """The model's layers by dotted name."""
        return self.info.by_name

    def call_of(self, key: str) -> tuple[LayerInfo, Call] | None:
        """The layer and the recorded call that a layer's key names; None if there is no such call."""
        name, call = parse_key(key)
        layer = self.layers.get(name)
        return (layer, layer.calls[call]) if layer and call < len(layer.calls) else None

    def unit(self, side: str, question: str, key: str = "", *, explained: bool = True, settings: str = "") -> Unit:
        """The unit that asks a question about one side's input.

        Arguments:
            explained: of a survey, whether it is about the target too. settings: what else the question names.
        """
        name, call = parse_key(key)
        about_target = explained and question_of(question).explained and self.view.target is not None
        target = self.view.target if about_target and self.view.target is not None else TOP
        target = target if explained else NO_TARGET
        return Unit(self.view.model, self.inputs[side].digest, question, name, call, target, settings)

    def units(self, question: str, key: str = "") -> dict[str, Unit]:
        """The same for every side that has an input."""
        return {side: self.unit(side, question, key) for side in self.inputs}

    def picture(self, shows: tuple[object, ...], draw: Callable[[], bytes], media_type: str = "image/png") -> str:
        """The address of a picture that is drawn when a browser asks for it."""
        return self.gallery.add((self.info.fingerprint, *shows), draw, media_type)

    def file(self, shows: tuple[object, ...], draw: Callable[[], bytes], media_type: str, file_name: str) -> str:
        """The address of a file that a browser saves under a name."""
        return self.gallery.add((self.info.fingerprint, *shows), draw, media_type, file_name)

    def kept(self, unit: Unit, kind: type[ResultT]) -> ResultT:
        """A unit's result, for a picture that is drawn later than its figure.

        Raises:
            Gone: it is no longer kept.
        """
        result = self.service.value(unit)
        if not isinstance(result, kind):
            raise Gone("These values are no longer kept. Choose the layer again.")
        return result

    def seen(self, side: str) -> str:
        """The address of what the network saw of an input."""
        unit = self.unit(side, "prediction")
        return self.picture(("seen", unit), lambda: picture_png(self.kept(unit, Prediction).pixels))

    def whole(self, side: str) -> str:
        """The address of a small copy of an input."""
        return preview(self.service.inputs, self.gallery, self.inputs[side])

    @property
    def explained(self) -> str:
        """What the number that is explained is called."""
        return {"classifier": "logit", "segmenter": "sum of logits", "detector": "score"}[self.info.kind]

    def class_name(self, index: int) -> str:
        """A class's name, or its number where the model has fewer names than outputs."""
        return self.info.classes[index] if index < len(self.info.classes) else f"class {index}"

    def worded(self, failure: Failure) -> Failure:
        """A failure that calls classes by number, with their names behind the numbers where the model has names."""

        def named(number: re.Match[str]) -> str:
            index = int(number[1])
            name = self.class_name(index) if index < len(self.info.classes) else number[0]
            return number[0] if name == number[0] else f"{number[0]} (“{name}”)"

        return replace(failure, sentence=re.sub(r"\bclass (\d{1,6})\b", named, failure.sentence))


def preview(store: InputStore, gallery: Gallery, given: Input) -> str:
    """The address of a small copy of an input, which is there before the model is."""
    return gallery.add(("preview", given.key), partial(store.preview, given.key), "image/jpeg")


def find(inputs: InputStore, key: str) -> Input | None:
    """The input of a key, None for no key or one that is gone."""
    return inputs.get(key) if key else None
