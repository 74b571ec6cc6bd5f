"""One function per kind of question: it runs the model under hooks and answers the units of a batch as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hookscope.dashboard.asking.questions import NO_TARGET, TOP, Unit, box_of
from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.worker.detecting import detect
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.errors import Cancelled, LayerNotFound
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.looks.attention import attention_maps, no_attention
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import stream
from hookscope.hooks.looks.gradients import gradients
from hookscope.hooks.looks.inputs import attribute_input
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.looks.targets import Box
from hookscope.hooks.methods import MAPS, METRICS, Rows, function_at
from hookscope.hooks.results.looks import Activation, Prediction
from hookscope.hooks.results.scores import class_scores

OWNER = "page"
PURPOSE = "analysis"
MOST_CHANNELS = 64  # of a layer, of methods that run the model for each: else a card takes minutes


def predict(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the logits, or a detector's boxes, and what the model was given."""
    if model.info.kind == "detector":
        detect(model, task, prepared, owner=OWNER, purpose=PURPOSE)
        return

    def deliver(output: Activation) -> None:
        result = Prediction(class_scores(output), prepared.pixels, prepared.crop, output.milliseconds)
        task.answer("", 0, result)

    _stream(model, task, prepared, [("", 0)], deliver)


def activations(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's output, from inside the forward pass."""
    wanted = _reachable(model, task)
    _stream(model, task, prepared, wanted, lambda result: task.answer(result.layer, result.call, result))


def layer_maps(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's map of the batch's method, for the batch's target."""
    wanted = _reachable(model, task)
    unit = task.units[0]
    row = MAPS[unit.question]
    compute: Callable[..., None]
    if row.rule is None:
        compute = partial(function_at(row.runs), max_channels=MOST_CHANNELS, progress=task.progress)
    else:
        compute = partial(grad_cam, method=row.name)
    task.start()
    with contextlib.suppress(Cancelled):
        compute(
            model.module,
            prepared.tensor.to(model.device),
            wanted,
            _target(unit),
            model.info.layers,
            lambda result: task.answer(result.layer, result.call, result),
            task.fail_layer,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )


def layer_gradients(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the gradient of the batch's target at every layer that has weights."""
    task.start()
    with contextlib.suppress(Cancelled):
        found = gradients(
            model.module,
            prepared.tensor.to(model.device),
            None,
            _target(task.units[0]),
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )
        task.answer("", 0, found)


def input_attributions(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the batch's attribution of its target to the input's pixels."""
    task.start()
    with contextlib.suppress(Cancelled):
        found = attribute_input(
            model.module,
            prepared.tensor.to(model.device),
            task.units[0].question,
            _target(task.units[0]),
            progress=task.progress,
            cancelled=task.cancelled,
        )
        task.answer("", 0, found)


def _target(unit: Unit) -> int | Box | None:
    box = box_of(unit.target)
    return Box(box) if box is not None else None if unit.target in (TOP, NO_TARGET) else unit.target


def attentions(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's attention maps; of a call that computes several, with the first."""
    layers = model.info.layers
    for layer, call in _reachable(model, task):
        if problem := no_attention(layers, layer, call):
            task.fail_layer(layer, call, problem)
    wanted = [(unit.layer, unit.call) for unit in task.open_units()]
    if not wanted:
        return
    task.start()
    with contextlib.suppress(Cancelled):
        attention_maps(
            model.module,
            prepared.tensor.to(model.device),
            wanted,
            layers,
            lambda result: task.answer(result.layer, result.call, result),
            task.fail_layer,
            with_rollout=True,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )


def surveys(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with a few numbers of every layer, from one pass."""
    task.start()
    with contextlib.suppress(Cancelled):
        found = survey(
            model.module,
            prepared.tensor.to(model.device),
            model.info.layers,
            containers=True,
            operations=True,
            metrics=None if task.units[0].target == NO_TARGET else METRICS,
            target=_target(task.units[0]),
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )
        task.answer("", 0, found)


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


def _stream(
    model: LoadedModel,
    task: Task,
    prepared: Prepared,
    wanted: list[tuple[str, int]],
    deliver: Callable[[Activation], None],
) -> None:
    task.start()
    try:
        stream(
            model.module,
            prepared.tensor.to(model.device),
            wanted,
            deliver,
            model.info.layers,
            task.fail_layer,
            still_wanted=task.still_wanted,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )
    except Cancelled:
        pass


@dataclass(frozen=True)
class Handler:
    """What answers a question.

    Attributes:
        name: of the question. answer: runs the model under hooks and answers the task's units as it learns of them; or,
            of a question that takes minutes, yields what is known after each step, the last being the answer.
    """

    name: str
    answer: Callable[[LoadedModel, Task, Prepared], Generator[Any] | None]


HANDLERS = Rows(
    Handler("prediction", predict),
    Handler("activation", activations),
    Handler("attention", attentions),
    Handler("survey", surveys),
    Handler("gradients", layer_gradients),
)


def handler_of(question: str) -> Callable[[LoadedModel, Task, Prepared], Generator[Any] | None]:
    """What answers a question."""
    if question in HANDLERS:
        return HANDLERS[question].answer
    return layer_maps if question in MAPS else input_attributions
