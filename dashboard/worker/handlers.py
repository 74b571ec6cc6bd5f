"""One function per kind of question: it runs the model under hooks and answers the units of a batch as they come."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Mapping

import numpy as np
import torch

from dashboard.engine import base, protocol
from dashboard.jobs import NO_TARGET, TOP, Question, Unit
from dashboard.worker.building import say, text_of
from dashboard.worker.models import LoadedModel, Prepared
from hooks.attention import attention_maps, no_attention
from hooks.attribution import grad_cam
from hooks.capture import stream
from hooks.codec import encode
from hooks.errors import Cancelled, HooksError, LayerNotFound
from hooks.layers import find, not_executed
from hooks.registry import live_hooks
from hooks.results import Activation, AttentionMaps, GradCam, Prediction, Survey
from hooks.survey import survey

OWNER = "page"
PURPOSE = "analysis"
DETAILS = 20_000  # characters of a traceback; a message in it may be of any length
ABSENT = 1e-9  # the share of a class that a segmenter sees nowhere
DOING: Mapping[Question, str] = {
    "prediction": "predicting",
    "activation": "computing the activation",
    "gradcam": "computing Grad-CAM",
    "attention": "computing the attention",
    "survey": "surveying every layer",
}


class NoPrediction(HooksError):
    """The model's output is not a list of class scores."""


class Task:
    """A batch of units that is being answered.

    Arguments:
        send: to the server. withdrawn: the units that nobody waits for any more, at this moment.
    """

    def __init__(
        self,
        run: protocol.Run,
        send: Callable[[protocol.FromWorker], None],
        withdrawn: Callable[[], frozenset[Unit]],
    ) -> None:
        self.units = run.units
        self._number = run.task
        self._send = send
        self._withdrawn = withdrawn
        self._settled: set[Unit] = set()
        self._hooks: tuple[base.LiveHook, ...] = ()
        self._asked = 0
        self._held: protocol.Answer | None = None

    def open_units(self) -> list[Unit]:
        """The units that somebody still waits for."""
        withdrawn = self._withdrawn()
        return [unit for unit in self.units if unit not in self._settled and unit not in withdrawn]

    def start(self) -> None:
        """The forward pass begins."""
        for unit in self.open_units():
            self._send(protocol.Started(self._number, unit))

    def cancelled(self) -> bool:
        """Whether nobody waits for any of it; asked before every module, so also the place to see the hooks."""
        self._asked += 1
        if self._asked == 2:  # the first time is before the hook that asks is registered itself
            self.hooks_changed()
        return bool(self._withdrawn()) and not self.open_units()

    def still_wanted(self, layer: str, call: int) -> bool:
        """Whether somebody waits for this call of this layer."""
        return bool(self._about(layer, call))

    def answer(self, layer: str, call: int, result: Activation | AttentionMaps | GradCam | Prediction | Survey) -> None:
        """Send the result to whoever asked about this call of this layer.

        The last answer is held back until `finish`: when it arrives, the hooks are gone.
        """
        for unit in self._about(layer, call):
            self._settled.add(unit)
            message = protocol.Answer(self._number, unit, encode(result))
            if self.open_units():
                self._send(message)
            else:
                self._held = message

    def fail(self, unit: Unit, error: BaseException) -> None:
        """Send why there is no answer."""
        self._settled.add(unit)
        if isinstance(error, HooksError):
            self._send(protocol.Failed(self._number, unit, str(error), final=True))
        else:
            self._send(protocol.Failed(self._number, unit, sentence_for(error, unit), details_of(error)))

    def fail_layer(self, layer: str, call: int, error: HooksError) -> None:
        """Send why there is no answer for this call of this layer."""
        for unit in self._about(layer, call):
            self.fail(unit, error)

    def fail_rest(self, error: BaseException) -> None:
        """Send to every unit without an answer why there is none."""
        for unit in self.open_units():
            self.fail(unit, error)

    def finish(self) -> None:
        """Say that the hooks are gone, and then the last answer."""
        self.hooks_changed()
        if self._held is not None:
            self._send(self._held)

    def _about(self, layer: str, call: int) -> list[Unit]:
        return [unit for unit in self.open_units() if (unit.layer, unit.call) == (layer, call)]

    def hooks_changed(self) -> None:
        """Tell the server which hooks are on the model, if that is news."""
        hooks = tuple(base.LiveHook(live.layer, live.kind, live.owner, live.purpose) for live in live_hooks())
        if hooks != self._hooks:
            self._hooks = hooks
            self._send(protocol.HooksLive(hooks))


def details_of(error: BaseException) -> str:
    """An exception with its traceback; of a very long one the beginning and the end."""
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= DETAILS else f"{text[: DETAILS // 2]}\n...\n{text[-DETAILS // 2 :]}"


def sentence_for(error: BaseException, unit: Unit) -> str:
    """What went wrong in the model's own code, for the person who asked."""
    where = f" of {unit.layer!r}" if unit.layer else ""
    text = text_of(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return (
            f"There was not enough memory for {DOING[unit.question]}{where}. "
            "Choose fewer layers at once, close other programs, or start with --device cpu."
        )
    return f"The model failed while {DOING[unit.question]}{where}: {say(error)}. The terminal shows where in its code."


def predict(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the logits and what the model was given."""

    def deliver(output: Activation) -> None:
        result = Prediction(class_scores(output), prepared.pixels, prepared.crop, output.milliseconds)
        task.answer("", 0, result)

    _stream(model, task, prepared, [("", 0)], deliver)


def class_scores(output: Activation) -> np.ndarray:
    """float32 (class,) from the model's output.

    Of a segmenter's (class, height, width) it is the logarithm of each class's share of the positions, so that softmax
    gives the shares and the first class is the one that Grad-CAM explains by itself.

    Raises:
        NoPrediction: the output has another form.
    """
    values = output.values
    if values.ndim == 1:
        return values
    if values.ndim == 3 and output.axes[:1] == ("channel",):
        counts = np.bincount(values.argmax(0).ravel(), minlength=len(values))
        shares: np.ndarray = np.log(np.maximum(counts / counts.sum(), ABSENT)).astype(np.float32)
        return shares
    raise NoPrediction(
        f"The model answers a tensor of {' x '.join(map(str, values.shape))} numbers, which is no list of class "
        "scores, so there are no top classes. Its layers can be looked at all the same."
    )


def activations(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's output, from inside the forward pass."""
    wanted = _reachable(model, task)
    _stream(model, task, prepared, wanted, lambda result: task.answer(result.layer, result.call, result))


def gradcams(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with each layer's Grad-CAM map for the batch's target."""
    wanted = _reachable(model, task)
    target = task.units[0].target
    task.start()
    try:
        grad_cam(
            model.module,
            prepared.tensor.to(model.device),
            wanted,
            None if target == TOP else target,
            model.info.layers,
            lambda result: task.answer(result.layer, result.call, result),
            task.fail_layer,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )
    except Cancelled:
        pass


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
            with_rollout=True,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )


def surveys(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with a few numbers of every layer, from one pass."""
    target = task.units[0].target
    task.start()
    with contextlib.suppress(Cancelled):
        found = survey(
            model.module,
            prepared.tensor.to(model.device),
            model.info.layers,
            containers=True,
            gradient=target != NO_TARGET,
            target=None if target in (TOP, NO_TARGET) else target,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )
        task.answer("", 0, found)


def _reachable(model: LoadedModel, task: Task) -> list[tuple[str, int]]:
    """What the batch asks for; a layer that does not exist or never runs fails by itself and not the batch."""
    for unit in task.open_units():
        try:
            find(model.module, unit.layer)
        except LayerNotFound as error:
            task.fail(unit, error)
        else:
            if problem := not_executed(model.info.layers, unit.layer, unit.call):
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
            still_wanted=task.still_wanted,
            cancelled=task.cancelled,
            owner=OWNER,
            purpose=PURPOSE,
        )
    except Cancelled:
        pass


HANDLERS: Mapping[Question, Callable[[LoadedModel, Task, Prepared], None]] = {
    "prediction": predict,
    "activation": activations,
    "gradcam": gradcams,
    "attention": attentions,
    "survey": surveys,
}
