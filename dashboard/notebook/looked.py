"""What one picture did in some layers of a model: everything that a notebook's cell shows, as numbers.

Four passes: one that records what each layer is, one for the values, one for the answer, and one with a gradient for
Grad-CAM; a fifth where a layer computes attention. No hook stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.texts import TITLE_LENGTH, one_line, say
from hookscope.dashboard.notebook.given import Told, advice, as_seen
from hookscope.dashboard.notebook.walls import NotShown
from hookscope.hooks.errors import HooksError, titled
from hookscope.hooks.layers.describe import recorded
from hookscope.hooks.layers.names import Pattern, select
from hookscope.hooks.looks.attention import attention_maps
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import stream
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.numbers import compiled
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.results.looks import Activation, AttentionMaps, Call, GradCam, LayerInfo
from hookscope.hooks.results.maps import depth_of, why_no_maps
from hookscope.hooks.results.outputs import Found, Scores, find_reading

MOST_LAYERS = 24  # in one cell, as many as cards on the page
STAGES = 4
LONGEST_TITLE = 200  # characters of a layer's name

Place = tuple[str, int]  # a layer's name and its call


@dataclass(frozen=True, eq=False)
class LayerSeen:
    """One call of one layer.

    Attributes:
        info: what the layer is. call: which of its calls, from 0.
        activation: what it produced, or why that is not known.
        cam, attention: what else it has, or why not; None where there is nothing to be said of it.
    """

    info: LayerInfo
    call: int
    activation: Activation | str
    cam: GradCam | str | None = None
    attention: AttentionMaps | str | None = None

    @property
    def title(self) -> str:
        return one_line(self.info.name, LONGEST_TITLE) or "the model"

    @property
    def key(self) -> str:
        """As the page's address calls it."""
        return key_of(self.info.name, self.call)

    @property
    def described(self) -> Call | None:
        return self.info.calls[self.call] if self.call < len(self.info.calls) else None


@dataclass(frozen=True, eq=False)
class Seen:
    """What the cell shows.

    Attributes:
        model: the class of the model. shape, dtype: of what it was given.
        picture: uint8 (height, width, 3), that as a person sees it. picture_note: a sentence about it.
        scores: the answer, or why there is none. found: how it is read. classes: names, as many as the answer has, or
            none.
        layers: in the model's order. notes: sentences about all of it.
    """

    model: str
    shape: tuple[int, ...]
    dtype: str
    picture: np.ndarray
    picture_note: str
    scores: Scores | str
    found: Found
    classes: tuple[str, ...]
    layers: tuple[LayerSeen, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)

    def class_name(self, index: int) -> str:
        return self.classes[index] if 0 <= index < len(self.classes) else f"class {index}"


def look(
    model: nn.Module,
    tensor: Tensor,
    patterns: Pattern | Iterable[Pattern] | None,
    *,
    classes: Sequence[str] = (),
    target: int | None = None,
    shown_by: tuple[Told, Told] = (None, None),
    said: str = "",
) -> Seen:
    """Look at one picture.

    Arguments:
        tensor: (image = 1, channel, height, width), as the model takes it.
        patterns: which layers, see `layers.names.select`; None for the last layer of each size of maps, four at most.
        classes: names of the answer's classes. target: the class that Grad-CAM explains; None for the first.
        shown_by: mean and std with which the picture was normalised, where that is known. said: what was done to it
            besides, a sentence.

    Raises:
        LayerNotFound: a pattern means nothing. ModelNotSupported: hooks cannot see into this kind of model.
        NotShown: it is more than a cell can show, a choice is none, or the model itself fails.
    """
    names = _texts_of(classes)
    if patterns is not None:
        patterns = _checked(patterns)
        select(model, patterns)  # refused before the model runs
    training = any(module.training for module in unwrap(model).modules())
    picture, picture_note = as_seen(tensor, *shown_by)
    with _faults_told(model, tensor):
        run = recorded(model, tensor)
    found = find_reading(run.outputs, len(names))
    places = _places(model, run.layers, patterns)
    infos = {name: info for info in run.layers for name in (info.name, *info.aliases)}
    activations: dict[Place, Activation | str] = {}
    ran = [place for place in places if infos[place[0]].calls]
    if ran:
        with (
            compiled.only_if_loaded(),
            _faults_told(model, tensor),
        ):  # or the first cell of a session would wait for them
            stream(model, tensor, ran, _keep(activations), run.layers)
    with looking(reading=found.reading):
        scores = _scores(model, tensor)
        check_target(target, 0 if isinstance(scores, str) else len(scores.logits))
        cams = _cams(model, tensor, [p for p in ran if _has_maps(infos[p[0]], p[1])], target, run.layers)
    attended = _attended(model, tensor, [p for p in ran if infos[p[0]].calls[p[1]].heads], run.layers)
    seen = []
    for name, call in places:
        info, place = infos[name], (name, call)
        missing = info.reason_not_run or f"{titled(name)} was not called."
        seen.append(LayerSeen(info, call, activations.get(place, missing), cams.get(place), attended.get(place)))
    length = 0 if isinstance(scores, str) else len(scores.logits)
    notes = (
        ["It was in training mode: what is shown is of evaluation mode, and it is back as it was."] if training else []
    )
    if run.draws:
        notes.append("Its forward pass draws random numbers: what is shown is of one draw, and another would differ.")
    if not places:
        notes.append("No layer of this model has maps. Name some: layers=['...'].")
    if names and len(names) != length:
        notes.append(f"{len(names)} class names were given, and the answer has {length} numbers: they are left out.")
        names = ()
    return Seen(
        one_line(type(unwrap(model)).__name__, TITLE_LENGTH),
        tuple(tensor.shape),
        str(tensor.dtype).removeprefix("torch."),
        picture,
        f"{said} {picture_note}".strip(),
        scores,
        found,
        names,
        tuple(seen),
        tuple(notes),
    )


def check_target(target: Any, classes: int) -> None:
    """Refuse what is no class of the answer's.

    Arguments:
        target: an index, or None for the first class. classes: how many there are; 0 if that is not known.

    Raises:
        NotShown: it is none.
    """
    if isinstance(target, bool | str):
        last = f", 0 to {classes - 1}" if classes else ""
        raise NotShown(f"target= is {one_line(repr(target), 60)}. Give the index of a class{last}, or None.")
    if classes and isinstance(target, int | np.integer) and not 0 <= target < classes:
        raise NotShown(f"There is no class {target}: the model has {classes}, from 0 to {classes - 1}.")


@contextmanager
def _faults_told(model: nn.Module, tensor: Tensor) -> Iterator[None]:
    """What the model's own code raises in this block ends in a sentence, under its traceback."""
    try:
        yield
    except HooksError:
        raise
    except Exception as error:
        raise NotShown(f"The model could not be run on this picture: {say(error)}.{advice(tensor, model)}") from error


def _texts_of(classes: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(map(str, classes))
    except Exception as error:
        raise NotShown(f"classes= are names, one text for each number of the answer: {say(error)}.") from error


def _checked(patterns: Pattern | Iterable[Pattern]) -> list[Pattern]:
    """The patterns one by one, each of a kind that can mean layers."""
    several = [patterns] if isinstance(patterns, str | type) else patterns
    found = list(several) if isinstance(several, Iterable) else [several]
    for each in found:
        if not isinstance(each, str | type):
            raise NotShown(
                f"layers= holds a {type(each).__name__}. Give names, such as 'layer4', patterns, such as 'layer*', or "
                "classes of modules."
            )
    return found


def _places(model: nn.Module, layers: Sequence[LayerInfo], patterns: Pattern | Iterable[Pattern] | None) -> list[Place]:
    """The calls to show: each of every chosen layer, or the last layer with maps of each size."""
    if patterns is None:
        last: dict[tuple[int, ...], Place] = {}
        for info in (each for each in layers if each.name and not each.operation):
            for number, call in enumerate(info.calls):
                if not why_no_maps(call, call.shape):
                    last[_size(call)] = (info.name, number)
        order = {(info.name, n): call.order for info in layers for n, call in enumerate(info.calls)}
        return sorted(last.values(), key=lambda place: order[place])[-STAGES:]
    infos = {name: info for info in layers for name in (info.name, *info.aliases)}
    places = [
        (name, call) for name in select(model, patterns) if name in infos for call in range(len(infos[name].calls) or 1)
    ]
    if len(places) > MOST_LAYERS:
        raise NotShown(
            f"These are {len(places)} layers or calls of them, and at most {MOST_LAYERS} are shown at once: name fewer."
        )
    if not places:
        raise NotShown("No layer was chosen: name some, such as layers=['layer4'].")
    return places


def _size(call: Call) -> tuple[int, ...]:
    sizes = dict(zip(call.axes, call.shape, strict=True))
    return call.grid or (sizes.get("height", 1), sizes.get("width", 1))


def _has_maps(info: LayerInfo, call: int) -> bool:
    described = info.calls[call]
    return not why_no_maps(described, described.shape) and depth_of(described, described.shape) == 1


def _keep(into: dict[Place, Any]) -> Callable[[str, int, Any], None]:
    def deliver(name: str, call: int, found: Any) -> None:
        into[name, call] = str(found) if isinstance(found, HooksError) else found

    return deliver


def _scores(model: nn.Module, tensor: Tensor) -> Scores | str:
    try:
        return predict(model, tensor)
    except HooksError as error:
        return str(error)
    except Exception as error:  # of the model's own code
        return f"The answer could not be computed: {say(error)}."


def _cams(
    model: nn.Module, tensor: Tensor, wanted: Sequence[Place], target: int | None, layers: Sequence[LayerInfo]
) -> dict[Place, GradCam | str]:
    if not wanted:
        return {}
    cams: dict[Place, GradCam | str] = {}
    try:
        for name, call, found in grad_cam(model, tensor, wanted, target, layers):
            _keep(cams)(name, call, found)
    except Exception as error:  # of the model's own code, which here runs with a gradient
        sentence = str(error) if isinstance(error, HooksError) else f"No gradient could be computed: {say(error)}."
        return {place: cams.get(place, sentence) for place in wanted}
    return cams


def _attended(
    model: nn.Module, tensor: Tensor, wanted: Sequence[Place], layers: Sequence[LayerInfo]
) -> dict[Place, AttentionMaps | str]:
    if not wanted:
        return {}
    found: dict[Place, AttentionMaps | str] = {}
    try:
        attention_maps(model, tensor, wanted, layers, _keep(found))
    except HooksError as error:
        return {place: found.get(place, str(error)) for place in wanted}
    return found
