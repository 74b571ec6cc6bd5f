"""Forward passes of one model on one picture, in each of which channels of a layer are muted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.causes.muting import Muter
from hookscope.hooks.errors import HooksError, LayerNotExecuted, called, titled
from hookscope.hooks.layers.reasons import why_unseen
from hookscope.hooks.looks.outputs import Answered, answer
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting

Groups = Sequence[Sequence[int]]  # of each copy of the picture the channels that are muted in it


@dataclass(frozen=True)
class Trials:
    """What runs the model. After each pass it is handed back; each draws the same random numbers.

    Attributes:
        inputs: the model's positional arguments, of one image. state: torch's random state at the beginning.
        watched: as `looks.outputs.answer` has it.
    """

    model: nn.Module
    inputs: tuple[Any, ...]
    state: Tensor
    watched: bool = True

    def plain(self) -> Answered:
        """The model's answer as it is."""
        return self._run(self.inputs)

    def one(self, muter: Muter, channels: Sequence[int]) -> Answered:
        """The answer where some channels are muted."""
        return self._muted(muter, [channels], self.inputs)

    def from_the_layer(self, muter: Muter, groups: Groups) -> Answered:
        """The answers to as many copies of the picture as there are groups, which begin at the layer's output."""
        return self._muted(muter, groups, self.inputs, expands=True)

    def from_the_input(self, muter: Muter, groups: Groups) -> Answered:
        """The same, of copies that begin at the input."""
        (picture,) = self.inputs
        return self._muted(muter, groups, (picture.expand(len(groups), *picture.shape[1:]),))

    def _muted(self, muter: Muter, groups: Groups, inputs: tuple[Any, ...], *, expands: bool = False) -> Answered:
        muter.groups, muter.expands = groups, expands
        with muter.muting_in_pass():
            answered = self._run(inputs)
        if not muter.fired:
            if unseen := why_unseen(muter.placed):
                raise LayerNotExecuted(f"{titled(muter.layer)} was not seen in this forward pass. {unseen}")
            raise LayerNotExecuted(
                f"{titled(muter.layer)} was not called (so often) for this input. Choose another layer or call."
            )
        return answered

    def _run(self, inputs: tuple[Any, ...]) -> Answered:
        with inspecting(self.model) as inner, cancelling():
            torch.set_rng_state(self.state)
            return answer(inner, *nested.private(inputs, requires_grad=False), watched=self.watched)


def one_picture(inputs: tuple[Any, ...]) -> bool:
    """Whether the model is given one picture and nothing else, which can be given several times."""
    return len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4 and inputs[0].shape[0] == 1


def refuse_if_changed(layer: str, plain: float, unchanged: float, tolerance: float) -> None:
    """Refuse a layer whose output, handed on as it was, does not give the plain answer.

    Raises:
        HooksError: it does not.
    """
    if not abs(unchanged - plain) <= tolerance:
        raise HooksError(
            f"No effect of {called(layer)} can be measured: with its output handed on as it was, what is "
            f"explained is {unchanged:.6g} in place of {plain:.6g}. It may stand after the numbers that are explained, "
            "which are those before a last softmax or sigmoid. Choose a layer before it."
        )
