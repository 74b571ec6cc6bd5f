"""What an address of the API is about, looked up: the model, the pictures, a layer, and the units that ask for them.

The view is the page's own, so that a program and a page that ask the same share one answer.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import flask

from hookscope.dashboard.answers.parts import result_of
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.captions import LONGEST, MOST, each_of, read_captions
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.sides import ASPECTS, LONGEST_SIDE, OWN_WAY, Preparation
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.inputs.axes import WAYS
from hookscope.dashboard.inputs.samples import SAMPLES
from hookscope.dashboard.inputs.store import SAMPLE_PREFIX
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.web.api.answers import Later, Refused
from hookscope.dashboard.web.api.asking import Asker, Desk
from hookscope.dashboard.web.api.parameters import Given
from hookscope.hooks.results.looks import Call, LayerInfo

LONGEST_WAIT_SECONDS = 60
WAIT_SECONDS = 20
LOAD_LOOK_SECONDS = 0.05
WIDTH_PX = 800  # of a wall, which nothing here draws
NEAR = 3
COMPUTED = "It is being computed. Ask the same again for more of it."
NO_PICTURE = "There is no picture under this key. Give a sample's key, such as sample-coffee, or the key of an upload."
ONE_PICTURE = "This model takes one picture. Leave the second one out."
NO_CAPTIONS = "This model compares a picture with no captions. Leave them out."
WRONG_CAPTIONS = (
    f"Captions are texts, each on a line of its own: {MOST} at most, of {LONGEST} characters at most, no two the same."
)
EMPTY_LAYER = "The parameter layer is empty. Name a layer; the model itself is (model)."
NO_LAYER = "This model has no layer of that name. The address api/v1/layers lists the names."
PREPARATIONS = {  # the words of prepare, by what they are about
    **{aspect: [name for name in names if name != OWN_WAY] for aspect, names in ASPECTS.items()},
    "pixels": [f"HEIGHTxWIDTH, such as 320x320, each from 1 to {LONGEST_SIDE:,}"],
    "axes": list(WAYS),  # of an array that may be read in two ways
    "painted": ["box.FILL.LEFT.TOP.RIGHT.BOTTOM, such as box.grey.12.30.80.90, in pixels of the picture"],
}
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Office:
    """What every address answers with.

    Attributes:
        names: of the models that are offered. prefix: the path that the page is served under.
    """

    service: Service
    gallery: Gallery
    readings: Readings
    desk: Desk
    names: Sequence[str]
    prefix: str


@dataclass(frozen=True)
class Asked:
    """One request: what it gives, and who asks.

    Attributes:
        address: its own, below the page's, with everything that was given.
    """

    office: Office
    given: Given
    asker: Asker
    path: str

    @classmethod
    def read(cls, office: Office, request: flask.Request, allowed: Sequence[str]) -> Asked:
        """What was asked.

        Raises:
            Refused: a parameter is wrong.
        """
        given = Given(request, allowed)
        seconds = given.whole("wait", WAIT_SECONDS, 0, LONGEST_WAIT_SECONDS) if "wait" in allowed else 0
        caller = request.headers.get("X-Hookscope-Caller", "")[:64] or request.remote_addr or "somebody"
        gone = request.environ.get("waitress.client_disconnected", lambda: False)
        asker = Asker(caller, given.text("slot", "")[:64], time.monotonic() + seconds, gone)
        return cls(office, given, asker, request.path)

    # --- models

    def model_name(self, parameter: str = "model") -> str:
        """The model that is named, or the first one.

        Raises:
            Refused: it is not offered.
        """
        name = self.given.text(parameter, self.office.names[0])
        if name not in self.office.names:
            sentence = "This server does not offer that model. The address api/v1/models lists those that it does."
            raise Refused(sentence, 404, offered=self.office.names[:20])
        return name

    def info(self, name: str) -> ModelInfo:
        """A loaded model; one that is not is loaded.

        Raises:
            Later: it is not there yet. Refused: it cannot be loaded.
        """
        service = self.office.service
        if (found := service.state(name).info) is not None:
            return found
        service.engine.open(name)
        with self.office.desk.loading(self.asker):
            while True:
                state = service.state(name)
                if state.info is not None:
                    return state.info
                if state.phase == "failed":
                    raise Refused(state.sentence, 503, model=name)
                if self.asker.left_seconds <= 0 or self.asker.gone():
                    raise Later("The model is being loaded. Ask the same again.", {"phase": state.phase})
                time.sleep(LOAD_LOOK_SECONDS)

    # --- pictures

    def input_key(self, parameter: str = "input") -> str:
        """The key of a picture that is here.

        Raises:
            Refused: there is none.
        """
        key = self.given.text(parameter)
        if self.office.service.inputs.get(key) is None:
            raise Refused(NO_PICTURE, 404, samples=[SAMPLE_PREFIX + name for name in SAMPLES])
        return key

    def second_key(self, parameter: str, model: str) -> str:
        """The key of the picture beside one, for a model that takes two; "" for the same picture.

        Raises:
            Later: as `info`. Refused: there is none, or the model takes one.
        """
        if parameter not in self.given.texts:
            return ""
        key = self.input_key(parameter)
        if not self.info(model).pictures:
            raise Refused(ONE_PICTURE, model=model)
        return key

    def captions(self, parameter: str, model: str) -> str:
        """The captions that a picture is compared with, a line each; "" for the model's own.

        Raises:
            Later: as `info`. Refused: they are none, or the model takes none.
        """
        if parameter not in self.given.texts:
            return ""
        text = self.given.text(parameter)
        lines = text.replace("\r\n", "\n").strip().split("\n")
        found = read_captions(text)
        if len(each_of(found)) != len(lines) or max(map(len, lines)) > LONGEST:
            raise Refused(WRONG_CAPTIONS)
        if not self.info(model).captioned:
            raise Refused(NO_CAPTIONS, model=model)
        return found

    def preparation(self, parameter: str) -> str:
        """In what a picture is prepared otherwise, as the page writes it.

        Raises:
            Refused: it names something that there is not.
        """
        text = self.given.text(parameter, "")
        names = [name for name in text.split(",") if name not in ("", OWN_WAY)]
        written = Preparation.read(text).write()
        if sorted(names) != sorted(filter(None, written.split(","))):
            sentence = f"The parameter {parameter} names a preparation that there is not, or two of one kind."
            raise Refused(sentence, asked=text, words=PREPARATIONS)
        return written

    def scene(self, **fields: Any) -> Scene:
        """A view with these fields, looked up; its models are loaded first.

        Raises:
            Later, Refused: as `info`.
        """
        office = self.office
        view = View.from_dict(fields)
        infos: Mapping[str, ModelInfo] = {
            name: self.info(name) for name in dict.fromkeys((view.model_of("a"), view.model_of("b")))
        }
        return Scene.build(view, infos, office.service, office.gallery, office.readings, WIDTH_PX)

    def one_side(self) -> Scene:
        """A model and a picture, as `model`, `input`, `second`, `captions` and `prepare` name them."""
        model, key, prepared = self.model_name(), self.input_key(), self.preparation("prepare")
        second, captions = self.second_key("second", model), self.captions("captions", model)
        return self.scene(model=model, a=key, second_a=second, captions=captions, prepare_a=prepared)

    # --- layers

    def layer_call(self, info: ModelInfo) -> tuple[LayerInfo, int, Call]:
        """The layer and the call that are named.

        Raises:
            Refused: there is no such layer or call, or it did not run.
        """
        name = self.given.text("layer")
        if not name:
            raise Refused(EMPTY_LAYER)
        call = self.given.whole("call", 0, 0, 10**6)
        plain, number = parse_key(name)  # as the page and `layers` write it: "(model)", or with a call behind it
        layer = info.by_name.get(plain)
        if layer is not None and name.endswith(f":{number}"):
            if "call" in self.given.texts and call != number:
                raise Refused(f"The parameter layer names call {number}, and the parameter call another. Give one.")
            call = number
        elif layer is None:
            layer = info.by_name.get(name)
        if layer is None:
            near = difflib.get_close_matches(name[:200], [*info.by_name], NEAR, 0.5)
            raise Refused(NO_LAYER, 404, asked=name, near=near)
        if not layer.calls:
            raise Refused(
                "This layer did not run, so it has no numbers.", 404, layer=layer.name, why=layer.reason_not_run
            )
        if call >= len(layer.calls):
            times = "once" if len(layer.calls) == 1 else f"{len(layer.calls)} times"
            sentence = f"This layer is called {times}, and calls are counted from 0. Give a lower call."
            raise Refused(sentence, 404, layer=layer.name)
        return layer, call, layer.calls[call]

    # --- answers

    def results(self, *units: Unit, known: Callable[[Answers], Any] = lambda answers: None) -> Answers:
        """The answers to some units, all of them results.

        Arguments:
            known: what is told of them while they are not all there.

        Raises:
            Later: not all are there. Refused: one cannot be answered.
        """
        answers, whole = self.office.desk.ask(self.asker, units)
        for unit in units:
            failure = answers[unit].result if unit in answers else None
            if isinstance(failure, Failure):
                raise Refused(failure.sentence, 422 if failure.final else 503)
        if not whole:
            done, total = next(iter(answers.progress.values()), (0, 0))
            raise Later(COMPUTED, known(answers), done, total)
        return answers

    def result(
        self, unit: Unit, kind: type[ResultT], known: Callable[[Answers], Any] = lambda answers: None
    ) -> ResultT:
        """The answer to one unit.

        Raises:
            Later, Refused: as `results`.
        """
        found: ResultT | None = result_of(self.results(unit, known=known), unit, kind)
        if found is None:
            raise Refused("The worker answered something else. Ask again.", 503)
        return found


def pictured(scene: Scene) -> dict[str, Any]:
    """Which picture an answer is of, and what it was given with."""
    view = scene.view
    return {
        "input": view.a,
        "second": view.second_a or None,
        "captions": each_of(view.captions) or None,
        "prepare": view.prepare_a.write() or None,
    }


def about(info: ModelInfo, name: str) -> dict[str, Any]:
    """Which model an answer is of, and what is to be said of its weights."""
    return {
        "model": name,
        "title": info.title,
        "weights": info.weights,
        "random": None if info.unsaid and not info.random else info.random,
        "reservation": info.reservation or None,
    }
