"""One function per kind of question: it runs the model under hooks and answers the units of a batch as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import (
    ActivationOf,
    AttentionOf,
    CalibrationOf,
    CheckUpOf,
    ClassMap,
    EffectsOf,
    FieldOf,
    GradientsOf,
    GramsOf,
    InputMap,
    PartingOf,
    PredictionOf,
    PrunableOf,
    PruningOf,
    RestoredOf,
    RestoredPartsOf,
    SharesOf,
    SurveyOf,
    SweepOf,
    Unit,
    WeightsOf,
)
from hookscope.dashboard.asking.targets import Target
from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.worker.checking import check_up
from hookscope.dashboard.worker.detecting import detect
from hookscope.dashboard.worker.editing import around_sides
from hookscope.dashboard.worker.fields import field_of
from hookscope.dashboard.worker.pruning import measure_pruning, prunable_layers
from hookscope.dashboard.worker.sweeping import sweep_set
from hookscope.dashboard.worker.task import Task
from hookscope.dashboard.worker.wrapping import how_to_wrap
from hookscope.hooks.causes.effects import effects_as_measured
from hookscope.hooks.causes.likeness import layer_grams
from hookscope.hooks.causes.parting import parting, partings_of_pairs
from hookscope.hooks.causes.restoring import restore, restore_parts
from hookscope.hooks.causes.shares import channel_shares
from hookscope.hooks.errors import HooksError, LayerNotFound, TargetNotFound
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.looks.attention import attention_maps, no_attention
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import stream
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import WINDOW, Sampling, attribute_input
from hookscope.hooks.looks.prediction import predict
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.looks.targets import Likeness
from hookscope.hooks.looks.weights import weights
from hookscope.hooks.methods import MAPS, METRICS, Rows, function_at
from hookscope.hooks.results.effects import Effects
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.targets import Against, Box, Class, Like, Own

PASS_SECONDS = 0.3  # of a pass that measures several channels: a click waits for it
TOGETHER = 10  # of the strongest channels, muted at once
UNLIKE_ANSWERS = (
    "The models of A and of B do not answer the same classes in the same way, so there is no one number that could "
    "come back. Choose two models of the same classes, such as two checkpoints, or A's model for B too."
)
ONE_PICTURE = (
    "Where A and B part is asked of models that take one picture; this one takes two. Its layers can be compared in "
    "their cards."
)
MOST_CHANNELS = 64  # of a layer, of methods that run the model for each: else a card takes minutes


Answering = Callable[[LoadedModel, Task, Prepared], Generator[Any] | None]
AnsweringT = TypeVar("AnsweringT", bound=Answering)


@dataclass(frozen=True)
class Handler:
    """What answers a kind of question; see `answers`."""

    kind: type[Any]
    answer: Answering

    @property
    def name(self) -> str:
        """The kind's."""
        return self.kind.__name__


HANDLERS: Rows[Handler] = Rows()


def answers(kind: type[Any]) -> Callable[[AnsweringT], AnsweringT]:
    """Have a function answer a kind of question.

    It runs the model under hooks and answers the task's units as it learns of them; or, of a question that takes
    minutes, yields what is known after each step, the last being the answer.
    """

    def add(function: AnsweringT) -> AnsweringT:
        HANDLERS.add(Handler(kind, function))
        return function

    return add


def handler_of(unit: Unit) -> Answering:
    """What answers a unit."""
    return HANDLERS[unit.row.name].answer


@answers(PredictionOf)
def prediction(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the model's scores, or a detector's boxes, and what the model was given."""
    chosen = task.side.reading
    output = model.info.output(chosen)
    if output is not None and output.form == "boxes":
        detect(model, task, prepared)
        return
    task.start()
    began = time.perf_counter()
    scores, note = None, ""
    try:
        ends = output is None or bool(output.ending)
        scores = predict(model.module, prepared.tensor.to(model.device), ends_in_shares=ends)
    except TargetNotFound:
        told = f"{_answer_of(model)} Its layers can be looked at all the same."
        note = f"{told} {how_to_wrap(model.info.outputs)}".rstrip()
    milliseconds = (time.perf_counter() - began) * 1000
    shown = task.question.shown
    pixels, second = prepared.seen_as(shown), None if task.second is None else task.second.seen_as(shown)
    task.answer("", 0, Prediction(scores, pixels, prepared.crop, milliseconds, note=note, second=second))


def _answer_of(model: LoadedModel) -> str:
    shapes = [" x ".join(map(str, each.shape)) for each in model.info.outputs]
    if len(shapes) == 1:
        return f"The model answers a tensor of {shapes[0]} numbers, which is no list of classes."
    if not shapes:
        return "The model returns no tensor of real numbers, so there is no answer to read."
    several = f"{'; '.join(shapes[:4])}{' ...' if len(shapes) > 4 else ''}"
    return f"The model answers {len(shapes)} tensors ({several}), which is no list of classes."


@answers(ActivationOf)
def activations(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's output, from inside the forward pass."""
    wanted = _reachable(model, task)
    task.start()
    stream(model.module, prepared.tensor.to(model.device), wanted, task.tell, model.info.layers, task.still_wanted)


@answers(ClassMap)
def layer_maps(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's map of the batch's method, for the batch's target."""
    wanted = _reachable(model, task)
    asked: ClassMap = task.question
    row = MAPS[asked.method]
    compute: Callable[..., Iterator[tuple[str, int, Any]]]
    if row.rule is None:
        compute = partial(function_at(row.runs), max_channels=MOST_CHANNELS)
    else:
        compute = partial(grad_cam, method=row.name)
    if row.rule is None and model.info.preprocessing.frames:
        raise HooksError(
            f"{row.title} hides parts of one picture, and this model is given a clip of many. Choose Grad-CAM."
        )
    task.start()
    target = _target(model, task)
    given = prepared.tensor.to(model.device)
    seconds = [place for place in wanted if task.second is not None and place in model.info.of_second]
    if firsts := [place for place in wanted if place not in seconds]:
        for result in compute(model.module, given, firsts, target, model.info.layers):
            task.tell(*result)
    if seconds and task.second is not None:  # what they see is the second picture, so that is what is masked or blurred
        with model.pair.beside(given, turned=True):
            second = task.second.tensor.to(model.device)
            for result in compute(model.module, second, seconds, target, model.info.layers):
                task.tell(*result)


@answers(SharesOf)
def shares(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each channel's share in the batch's target, of every layer from one gradient."""
    wanted = _reachable(model, task)
    task.start()
    given, layers = prepared.tensor.to(model.device), model.info.layers
    for found in channel_shares(model.module, given, wanted, _target(model, task), layers):
        task.tell(*found)


@answers(EffectsOf)
def measured_effects(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[Effects]:
    """Yield the effects of one layer's channels after the other as they are measured, the strongest first."""
    wanted = _reachable(model, task)
    task.start()
    given, layers, target = prepared.tensor.to(model.device), model.info.layers, _target(model, task)
    for place in wanted:
        try:
            yield from effects_as_measured(
                model.module, given, place, target, layers, together=TOGETHER, pass_seconds=PASS_SECONDS
            )
        except HooksError as problem:
            task.tell(*place, problem)


@answers(GradientsOf)
def layer_gradients(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the gradient of the batch's target at every layer that has weights."""
    task.start()
    task.tell("", 0, gradients(model.module, prepared.tensor.to(model.device), None, _target(model, task)))


@answers(InputMap)
def input_attributions(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the batch's attribution of its target to the input's pixels."""
    task.start()
    asked: InputMap = task.question
    given, target = prepared.tensor.to(model.device), _target(model, task)
    sampling = _within_frames(given.shape[2], model.info.preprocessing.frames)
    if not asked.picture or task.second is None:
        task.tell("", 0, attribute_input(model.module, given, asked.method, target, sampling))
        return
    with model.pair.beside(given, turned=True):
        second = task.second.tensor.to(model.device)
        task.tell("", 0, attribute_input(model.module, second, asked.method, target, sampling))


def _within_frames(height: int, frames: int) -> Sampling | None:
    """Windows of occlusion that end where a frame of a clip ends, below each other as these lie; None of a picture."""
    if not frames:
        return None
    side = height // frames
    window = min((each for each in range(1, side + 1) if side % each == 0), key=lambda each: abs(each - side // WINDOW))
    return Sampling(window=window, stride=window)


@answers(AttentionOf)
def attentions(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's attention maps; of a call that computes several, with the first."""
    layers = model.info.layers
    for layer, call in _reachable(model, task):
        if problem := no_attention(layers, layer, call):
            task.tell(layer, call, problem)
    wanted = [(unit.layer, unit.call) for unit in task.open_units()]
    if wanted:
        task.start()
        # what reaches a position through all layers is of one picture: no product leads through two branches
        rollout = not model.info.pictures
        attention_maps(model.module, prepared.tensor.to(model.device), wanted, layers, task.tell, with_rollout=rollout)


@answers(SurveyOf)
def surveys(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with a few numbers of every layer, from one pass."""
    task.start()
    asked: SurveyOf = task.question
    found = survey(
        model.module,
        prepared.tensor.to(model.device),
        model.info.layers,
        metrics=None if asked.target is None else METRICS,
        target=None if asked.target is None else _target(model, task),
        also=("containers", "operations"),
    )
    task.tell("", 0, found)


@answers(PartingOf)
def partings(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with how far the two sides are apart at every layer, from one pass of each."""
    other = _other(model, task)
    task.start()
    assert task.against is not None
    found = parting(
        model.module,
        prepared.tensor.to(model.device),
        task.against.tensor.to(other.device),
        None if task.partner is None else other.module,
        layers=model.info.layers,
        layers_b=other.info.layers,
        distributions="unlike",
        around=around_sides(other, task),
    )
    task.tell("", 0, found)


@answers(CalibrationOf)
def calibrations(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[Any]:
    """Answer with how far different photographs are apart at every layer, pair by pair."""
    if model.info.pictures:
        raise HooksError(ONE_PICTURE)
    task.start()
    asked: CalibrationOf = task.question
    given = [task.fetch(replace(task.side, input=each)).tensor.to(model.device) for each in asked.pictures]
    yield from partings_of_pairs(model.module, given, layers=model.info.layers, known=task.done_before())


@answers(RestoredOf)
def restorations(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[Any]:
    """Answer with what comes back at every layer, the strongest by the estimate first."""
    yield from _restoring(model, task, prepared, restore)


@answers(RestoredPartsOf)
def restored_parts(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[Any]:
    """Answer with what comes back at one layer's channels or positions."""
    asked: RestoredPartsOf = task.question
    layer, call = parse_key(asked.place)
    yield from _restoring(model, task, prepared, partial(restore_parts, layer=layer, call=call, by=asked.by))


def _restoring(
    model: LoadedModel, task: Task, prepared: Prepared, look: Callable[..., Iterator[Any]]
) -> Generator[Any]:
    """What one of the library's looks tells of A's values in B's run: `task.side` is A, `task.against` is B."""
    asked: RestoredOf | RestoredPartsOf = task.question
    other = _other(model, task)
    if task.partner is not None and not _answer_the_same(model, other, task):
        raise HooksError(UNLIKE_ANSWERS)
    task.start()
    assert task.against is not None
    yield from look(
        other.module,
        prepared.tensor.to(model.device),
        task.against.tensor.to(other.device),
        layers=other.info.layers,
        model_a=None if task.partner is None else model.module,
        target=_comparable(asked.target),
        target_b=_comparable(asked.target_b),
        around=around_sides(other, task),
    )


def _answer_the_same(model: LoadedModel, other: LoadedModel, task: Task) -> bool:
    """Whether the two sides' models answer the same classes, read in the same way."""
    reading, against = task.side.reading, task.question.against.reading
    one, another = model.info.output(reading), other.info.output(against)
    if one is None or another is None or one.length != another.length:
        return False
    if model.info.names(reading) != other.info.names(against):
        return False
    return model.info.found(reading).reading == other.info.found(against).reading


def _comparable(target: Target) -> Own | Class | Box | Against:
    """What is compared between two sides, if it is a number of each one's answer.

    Raises:
        HooksError: it is the likeness of the two.
    """
    if isinstance(target, Like):
        raise HooksError(
            "The answer is an embedding, which has no classes whose difference could come back. Where A and B part can "
            "be seen all the same."
        )
    return target


def _other(model: LoadedModel, task: Task) -> LoadedModel:
    """The other side's model.

    Raises:
        HooksError: it is not there, or the question cannot be asked of these two.
    """
    name = task.units[0].other_model
    if model.info.pictures or (task.partner is not None and task.partner.info.pictures):
        raise HooksError(ONE_PICTURE)
    if name and task.partner is None:
        raise HooksError(f"The model {name!r} is not loaded, so nothing can be compared with it. Choose it again.")
    return task.partner or model


@answers(WeightsOf)
def layer_weights(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's own parameters; no hook, and no pass."""
    task.start()
    for unit in task.open_units():
        try:
            task.tell(unit.layer, 0, weights(model.module, unit.layer))
        except HooksError as problem:
            task.tell(unit.layer, 0, problem)


@answers(GramsOf)
def likeness(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with how alike each layer finds each two pictures; a pass per picture."""
    asked: GramsOf = task.question
    if model.info.pictures or model.info.preprocessing.frames:
        raise HooksError("The likeness of layers is over single pictures, and this model is given several at once.")
    images = [task.fetch(replace(task.side, input=digest)).tensor.to(model.device) for digest in asked.pictures]
    task.start()
    task.tell("", 0, layer_grams(model.module, images, None, model.info.layers))


@answers(FieldOf)
def fields(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with where the units of each layer look; a pass for each."""
    for layer, call in _reachable(model, task):
        task.start()
        try:
            task.tell(layer, call, field_of(model, layer, call))
        except HooksError as problem:
            task.tell(layer, call, problem)


@answers(SweepOf)
def sweeps(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[Any]:
    """Answer with what the model does over a part of a set, and over all before it."""
    yield from sweep_set(model, task)


answers(PrunableOf)(prunable_layers)
answers(PruningOf)(measure_pruning)
answers(CheckUpOf)(check_up)


def _target(model: LoadedModel, task: Task) -> Any:
    """What the batch explains; a likeness as that to the other picture's embedding, which is computed here."""
    target = task.question.target
    if not isinstance(target, Like) or task.other is None:
        return target
    with task.plain(), model.pair.beside(None if task.beside_other is None else task.beside_other.tensor):
        scores = predict(model.module, task.other.tensor.to(model.device))
    return Likeness(torch.from_numpy(scores.logits))


def _reachable(model: LoadedModel, task: Task) -> list[tuple[str, int]]:
    """What the batch asks for; a layer that does not exist or never runs fails by itself and not the batch."""
    finder = Finder(model.module, model.info.layers)
    for unit in task.open_units():
        try:
            finder.find(unit.layer)
        except LayerNotFound as error:
            task.fail(unit, error)
        else:
            if problem := finder.not_executed(unit.layer, unit.call):
                task.fail(unit, problem)
    return [(unit.layer, unit.call) for unit in task.open_units()]
