"""A scene: the view with everything it names looked up, as the panels need it to describe their parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.answers import Failure
from hookscope.dashboard.asking.edits import PageEdit, read_edits, words_of
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import QUESTIONS, PredictionOf, Unit
from hookscope.dashboard.asking.sides import OWN_WAY, Preparation, Side
from hookscope.dashboard.asking.targets import Other, Target, part_of
from hookscope.dashboard.drawing.pictures import picture_png
from hookscope.dashboard.engine.base import Attends, ModelInfo
from hookscope.dashboard.inputs import colours
from hookscope.dashboard.inputs.store import Input
from hookscope.dashboard.page import matching
from hookscope.dashboard.page.explaining import Explaining, alone, call_number, name_target
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.previews import find, preview, shown
from hookscope.dashboard.page.reading import Readings, Walls
from hookscope.dashboard.page.view import View
from hookscope.hooks.methods import READINGS
from hookscope.hooks.results.looks import Call, LayerInfo, Prediction
from hookscope.hooks.results.maps import depth_of, frame
from hookscope.hooks.results.outputs import AS_FOUND, Form, Reading
from hookscope.hooks.results.targets import OWN, Against, Box, Like

SIDES = ("a", "b")
ABOUT_SIDES = (
    *("model", "model_b", "second_a", "second_b", "prepare_a", "prepare_b", "shown_a", "shown_b"),
    *("edits_a", "edits_b"),
    *("reading", "reading_b", "captions", "captions_b", "moment", "matched"),
)
ResultT = TypeVar("ResultT")


class Gone(Exception):
    """The values behind a picture are no longer kept; the page has to ask for them again."""


@dataclass(frozen=True)
class Scene:
    """What one page shows: the view, the loaded models, and the inputs that are still there.

    Attributes:
        infos: by name, the models of A and B that are loaded.
        inputs: by side, "a" before "b"; a side without an input, or whose model is not there, is missing.
        awaited: sides that have an input and whose model is on its way.
        gallery: gives addresses to pictures and files. readings: the newest layers' arithmetic.
        width: of a card's wall, A, B and B - A together, in CSS pixels.
        mounted: how many cards the page has. prefix: the path that it is served under.
        offered: the models that can be chosen, as the operator wrote them. own_sets: keys of the browser's.
    """

    view: View
    infos: Mapping[str, ModelInfo]
    inputs: dict[str, Input]
    service: Service = field(repr=False)
    gallery: Gallery = field(repr=False)
    readings: Readings = field(repr=False)
    width: int = 800
    mounted: int = 0
    prefix: str = "/"
    awaited: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()
    own_sets: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        view: View,
        infos: Mapping[str, ModelInfo],
        service: Service,
        gallery: Gallery,
        readings: Readings,
        width: int,
    ) -> Scene:
        """Look up a view's inputs.

        Arguments:
            infos: those of its models that are loaded, by name; at least one.
        """
        found = {side: find(service.inputs, getattr(view, side)) for side in SIDES}
        inputs = {
            side: item.read_for(infos[model].preprocessing.channels, getattr(view, f"prepare_{side}").axes)
            for side, item in found.items()
            if item and (model := view.model_of(side)) in infos
        }
        awaited = [side for side in found if found[side] and side not in inputs]
        coming = tuple(side for side in awaited if service.state(view.model_of(side)).phase != "failed")
        return cls(view, infos, inputs, service, gallery, readings, width, awaited=coming)

    def only(self, *names: str, sides: Sequence[str] = SIDES, width: bool = False) -> Scene:
        """This scene with nothing chosen but what is named: what a part shows, so that it cannot draw from more.

        Arguments:
            names: fields of the view, its own or of the panels' states. sides: whose inputs are kept.
            width: whether a wall's width is, too.
        """
        view = self.view.only(*ABOUT_SIDES, *names)
        inputs = {side: given for side, given in self.inputs.items() if side in sides}
        return replace(self, view=view, inputs=inputs, width=self.width if width else 0, mounted=0, prefix="")

    # --- the models

    @property
    def info(self) -> ModelInfo:
        """The model that the header and the tree are about."""
        there = self.view.model_of(self.view.side) in self.infos
        return self.info_of(self.view.side) if there else next(iter(self.infos.values()))

    def info_of(self, side: str) -> ModelInfo:
        """A side's model, asked about the side's captions; for a side whose model is there."""
        return self.infos[self.view.model_of(side)].about(self.captions(side))

    @property
    def two_models(self) -> bool:
        """Whether A and B are there, each in a model of its own."""
        return len({self.view.model_of(side) for side in self.inputs}) == 2

    @property
    def models(self) -> dict[str, ModelInfo]:
        """The models that are looked at, by the side that names them first."""
        found = {side: self.info_of(side) for side in self.inputs} or {self.view.side: self.info}
        return found if self.two_models else dict(list(found.items())[:1])

    @property
    def random(self) -> dict[str, ModelInfo]:
        """Those of them with random weights, by what has to be said: "random weights", or what is random, or whose."""
        found = {side: info for side, info in self.models.items() if info.reservation}
        if len(found) < len(self.models):
            return {f"{side.upper()}: {info.reservation}": info for side, info in found.items()}
        first = next(iter(found.values()))
        return {first.reservation: first}

    def label(self, side: str) -> str:
        """What a side is, in words: its picture, and its model and preparation where they are not the usual ones."""
        if side not in self.inputs:
            return ""
        second = self.second(side)
        pictures = f"{self.inputs[side].name} + {second.name}" if second else self.inputs[side].name
        parts = [pictures, self.info_of(side).title if self.two_models else "", self.prepared(side)]
        parts += [f"edited: {text}"] if (text := words_of(self.edits(side))) else []
        return " · ".join(filter(None, parts))

    def prepared(self, side: str) -> str:
        """In what a side's picture is prepared otherwise than its model wants, in words; "" if in nothing."""
        return self.side(side).preparation.text

    def edits(self, side: str) -> tuple[PageEdit, ...]:
        """What is changed of what a side's model computes."""
        return read_edits(getattr(self.view, f"edits_{side}"))

    @property
    def own_classes(self) -> bool:
        """Whether B's model answers other classes than A's, so that each is explained by a target of its own."""
        if any(self.view.model_of(side) not in self.infos for side in SIDES):
            return False
        a, b = ((self.classes(side), self.form(side)) for side in SIDES)
        return a != b

    def reading_field(self, side: str) -> str:
        """The field of the view that says how a side's answer is read."""
        return "reading_b" if side == "b" and self.view.model_b else "reading"

    def reading(self, side: str) -> Reading:
        """What a person has chosen of that."""
        chosen: Reading = getattr(self.view, self.reading_field(side))
        return chosen

    def captions_field(self, side: str) -> str:
        """The field of the view that holds a side's captions."""
        return "captions_b" if side == "b" and self.view.model_b else "captions"

    def captions(self, side: str) -> str:
        """With which captions a side's picture is compared, if its model does that; "" for the model's own."""
        chosen: str = getattr(self.view, self.captions_field(side))
        return chosen if chosen and self.infos[self.view.model_of(side)].captioned else ""

    def form(self, side: str) -> Form:
        """What a side's model answers."""
        return self.info_of(side).form(self.reading(side))

    def classes(self, side: str) -> tuple[str, ...]:
        """The names of what it answers, by index."""
        return self.info_of(side).names(self.reading(side))

    def key_in(self, key: str, side: str) -> str:
        """The key that a layer's has in a side's model; "" if that has no such layer, and none in its place.

        A layer that the model does not have is the one that stands where it does in the other's: chosen by a person, or
        by depth and stride. Names that both have are taken for the same.
        """
        info = self.infos[self.view.model_of(side)]
        other = self.infos.get(self.view.model_of("b" if side == "a" else "a"), info)
        return matching.in_place_of(key, info, other, matching.pairs_of(self.view.matched).get(key, ""))

    def call_of(self, key: str, side: str = "") -> tuple[LayerInfo, Call] | None:
        """The layer and the recorded call that a layer's key names, in a side's model; None if it has no such call.

        Arguments:
            side: where the layer may be the one in its place; "" for the first model that has the layer itself.
        """
        if side:
            return matching.call_of(self.info_of(side), there) if (there := self.key_in(key, side)) else None
        models = {id(info): info for info in (*map(self.info_of, self.inputs), self.info)}  # a hash reads every layer
        return next(filter(None, (matching.call_of(info, key) for info in models.values())), None)

    def walled(self, key: str) -> tuple[str, ...]:
        """The sides that a layer has a wall of, or will have as far as is known: those whose model has it."""
        return tuple(
            side for side in SIDES if side in self.awaited or (side in self.inputs and self.call_of(key, side))
        )

    # --- what is asked

    @property
    def walls(self) -> Walls:
        """How every wall is drawn."""
        return self.view.of(Walls)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Which side has which picture, by name: part of whatever a drawing says of its inputs."""
        return tuple((side, self.label(side)) for side in self.inputs)

    def side(self, side: str) -> Side:
        """What is asked about on a side that has an input."""
        preparation: Preparation = getattr(self.view, f"prepare_{side}")
        second = self.second(side)
        if not self.inputs[side].axes and not (second and second.axes):  # chosen of an array that was here before
            preparation = replace(preparation, axes="own")
        digest = second.digest if second else ""
        return Side(
            self.view.model_of(side), self.inputs[side].digest, preparation, second=digest, edits=self.edits(side)
        )

    def second(self, side: str) -> Input | None:
        """Of a side whose model takes two pictures, the one beside its input; None for the same, or a lost one."""
        info = self.info_of(side)
        found = find(self.service.inputs, getattr(self.view, f"second_{side}")) if info.pictures else None
        axes = getattr(self.view, f"prepare_{side}").axes
        return found.read_for(info.preprocessing.channels, axes) if found else None

    def answering(self, side: str) -> Side:
        """The same, for what is asked about the model's answer."""
        reading, found = self.reading(side), self.info_of(side)
        read = AS_FOUND if found.found(reading) == found.answer else reading
        return replace(self.side(side), reading=read, captions=self.captions(side))

    def target(self, side: str) -> Target:
        """What is explained of a side."""
        target: Target = getattr(self.view, self.target_field(side))
        if target == OWN and (likeness := self._likeness(side)):
            return likeness
        other: Other = getattr(self.view, self.against_field(side))
        return target if other is None else Against(target, other)

    def aim(self, side: str) -> Target:
        """The same without what it is held against."""
        return alone(self.target(side))

    def _likeness(self, side: str) -> Like | None:
        """Of an embedding, which has no first class: how alike it is to the other side's, in the same model."""
        other = "b" if side == "a" else "a"
        if not {side, other} <= {*self.inputs} or self.view.model_of("a") != self.view.model_of("b"):
            return None
        if self.info_of(side).found(self.reading(side)).reading.reads != "embedding":
            return None
        return Like(self.inputs[other].digest, self.side(other).preparation.write(), self.side(other).second)

    def target_field(self, side: str) -> str:
        """The field of the view that holds it."""
        return "target_b" if side == "b" and (self.own_classes or self.apart) else "target"

    def against_field(self, side: str) -> str:
        """The field of the view that holds what it is held against."""
        return self.target_field(side).replace("target", "against")

    @property
    def apart(self) -> bool:
        """Whether somebody has B explain a target of its own."""
        return len(self.inputs) == 2 and self.view.of(Explaining).apart

    def unit(self, side: str, question: Any) -> Unit:
        """The unit that asks a question about one side."""
        row = QUESTIONS[type(question).__name__]
        about = self.answering(side) if row.reads_answer else self.side(side)
        return Unit(about if row.runs_model else replace(about, edits=()), question)

    def shown(self, side: str) -> colours.Three:
        """Which channels of a side's picture are seen as red, green and blue."""
        return shown(self.view, side, self.inputs[side])

    def prediction(self, side: str) -> Unit:
        """The unit that asks what a side's model answers, and for the picture that it was given."""
        return self.unit(side, PredictionOf(colours.write(self.shown(side), self.inputs[side].channels)))

    def predictions(self) -> dict[str, Unit]:
        """What every side's model answers."""
        return {side: self.prediction(side) for side in self.inputs}

    def of_layer(self, kind: Callable[..., Any], key: str, *, explained: bool = False, **more: Any) -> dict[str, Unit]:
        """A question about a layer, for every side whose model has it.

        Arguments:
            kind: of the question, called with layer, call and `more`. explained: and with the side's target.
        """
        found = {}
        for side in self.inputs:
            if self.call_of(key, side):
                name, call = parse_key(self.key_in(key, side))
                target = {"target": self.target(side)} if explained else {}
                found[side] = self.unit(side, kind(name, call, **more, **target))
        return found

    def picture(self, shows: tuple[object, ...], draw: Callable[[], bytes], media_type: str = "image/png") -> str:
        """The address of a picture that is drawn when a browser asks for it."""
        return self.gallery.add((self._fingerprints, *shows), draw, media_type)

    def file(self, shows: tuple[object, ...], draw: Callable[[], bytes], media_type: str, file_name: str) -> str:
        """The address of a file that a browser saves under a name."""
        return self.gallery.add((self._fingerprints, *shows), draw, media_type, file_name)

    @property
    def _fingerprints(self) -> tuple[str, ...]:
        return tuple(info.fingerprint for info in self.infos.values())

    def kept(self, unit: Unit, kind: type[ResultT]) -> ResultT:
        """A unit's result, for a picture that is drawn later than its figure.

        Raises:
            Gone: it is no longer kept.
        """
        result = self.service.value(unit)
        if not isinstance(result, kind):
            raise Gone("These values are no longer kept. Choose the layer again.")
        return result

    def sees_second(self, unit: Unit) -> bool:
        """Whether a unit is about a call that sees the second of two pictures alone: its maps lie over that."""
        return bool(unit.side.second) and (unit.layer, unit.call) in self.infos[unit.model].of_second

    def attends(self, unit: Unit) -> Attends | None:
        """Which of two pictures a unit's attention looks at; None where there is one picture."""
        found = self.infos[unit.model].attending if unit.side.second else ()
        return next((each for each in found if (each.layer, each.call) == (unit.layer, unit.call)), None)

    def depth(self, unit: Unit) -> int:
        """How many frames or slices lie below each other in the maps of the layer's call that is asked about."""
        layer = self.infos[unit.model].by_name.get(unit.layer)
        if layer is None or unit.call >= len(layer.calls):
            return 1
        call = layer.calls[unit.call]
        return depth_of(call, call.shape)

    def seen(self, side: str, *, second: bool = False) -> str:
        """The address of what the network saw of an input, or of the second picture beside it."""
        unit = self.prediction(side)
        shows = ("seen", unit, second, self.walls.moment if self.frames(unit.model) > 1 else 0)
        return self.picture(shows, lambda: picture_png(self.given(side, second=second)))

    def given(self, side: str, *, second: bool = False) -> np.ndarray:
        """The same as pixels, uint8 (height, width, 3); of a clip the frame that is shown.

        Raises:
            Gone: it is no longer kept.
        """
        prediction = self.kept(self.prediction(side), Prediction)
        return self.frame_of(self.view.model_of(side), prediction, second=second)

    def frame_of(self, model: str, prediction: Prediction, *, second: bool = False) -> np.ndarray:
        """What a model saw of an input, or of the second one: uint8 (height, width, 3), of a clip the frame shown."""
        pixels = prediction.second if second else prediction.pixels
        if pixels is None:
            raise Gone("The second picture is no longer kept. Choose the layer again.")
        return frame(pixels, self.frames(model), self.walls.moment, axis=0)

    def frames(self, model: str) -> int:
        """How many frames lie below each other in what a model is given; 1 of a model of pictures."""
        return max(self.infos[model].preprocessing.frames, 1)

    def whole(self, side: str, *, second: bool = False) -> str:
        """The address of a small copy of an input, or of the second picture beside it."""
        beside = self.second(side) if second else None
        given = beside or self.inputs[side]
        painting = OWN_WAY if second else self.side(side).preparation.painted
        return preview(self.service.inputs, self.gallery, given, shown(self.view, side, given), painting)

    def explained(self, side: str) -> str:
        """What the number that is explained of a side is called."""
        return call_number(self.called(side), self.target(side))

    def called(self, side: str) -> str:
        """What the number of a target of a side is called that is not held against another."""
        info, chosen, target = self.info_of(side), self.reading(side), self.aim(side)
        if isinstance(target, Box) and target.part != "score":
            return part_of(target)
        if isinstance(target, Like):
            return "likeness"
        output, reads = info.output(chosen), info.found(chosen).reading.reads
        if output is None or output.form == "boxes":
            return "score" if output else "number"
        if output.form == "pixels":
            return "mean" if reads == "values" else "sum of logits"
        if reads == "probabilities" and not output.ending:
            return "probability"
        return READINGS[reads].called or "value"

    def explained_name(self, side: str, index: int, against: int = -1) -> str:
        """What is explained of a side, by name: a class, or "mask of box 3 (cat)", or a class against another."""
        named, other = partial(self.class_name, side), "B" if side == "a" else "A"
        name = name_target(self.target(side), index, against, named, self.called(side), other)
        return f"caption: {name}" if self.info_of(side).compares(self.reading(side)) else name

    def class_name(self, side: str, index: int) -> str:
        """A class's name in a side's model, or its number where that has fewer names than outputs."""
        names = self.classes(side)
        return names[index] if index < len(names) else f"class {index}"

    def worded(self, side: str, failure: Failure) -> Failure:
        """A failure that calls classes by number, with their names behind the numbers where the model has names."""
        names = self.classes(side)

        def named(number: re.Match[str]) -> str:
            index = int(number[1])
            return f"{number[0]} (“{names[index]}”)" if index < len(names) else number[0]

        return replace(failure, sentence=re.sub(r"\bclass (\d{1,6})\b", named, failure.sentence))


def loaded(view: View, service: Service) -> dict[str, ModelInfo]:
    """Those of a view's models that are loaded, by name, A's first."""
    found = {name: service.state(name).info for name in dict.fromkeys(map(view.model_of, SIDES))}
    return {name: info for name, info in found.items() if info}
