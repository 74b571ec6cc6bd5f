"""Which forward passes of a looked-at step belong to it: those that its gradients came from.

What passes have made is kept apart until that is known. A pass through whose output no gradient went, though one went
through others', is left out; and one whose gradients were thrown away before the next began, as those are that a
generator's step leaves in its discriminator. Only the graph of the pass is asked, by a hook that ends with it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hookscope.hooks.passes import nested
from hookscope.hooks.training.reading import Reading

NODES = 64  # of the graph, at which an output's tensors were made, that are asked

Later = Callable[[], Reading]


@dataclass(frozen=True)
class Autocast:
    """In which precision a pass computed: the devices' types with autocast on, and their dtypes."""

    kinds: tuple[tuple[str, torch.dtype], ...] = ()

    @staticmethod
    def now(device: str) -> Autocast:
        """As it is in this thread."""
        kinds = dict.fromkeys((device, "cpu"))
        return Autocast(
            tuple((kind, torch.get_autocast_dtype(kind)) for kind in kinds if torch.is_autocast_enabled(kind))
        )

    @contextlib.contextmanager
    def again(self) -> Any:
        """Compute as then."""
        with contextlib.ExitStack() as stack:
            for kind, dtype in self.kinds:
                stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
            yield

    @property
    def halves(self) -> bool:
        """Whether in float16."""
        return any(dtype is torch.float16 for _, dtype in self.kinds)


@dataclass(eq=False)
class Pass:
    """One forward pass, or all that parts of a model did in a step.

    Attributes:
        training: whether the model was in training mode. wants: whether any of its weights wanted a gradient.
        inputs: how many pictures it had. given: its arguments; None once there is a newer pass.
        classes: how many numbers it answered for each picture; 0 where that is not what it answered.
        ended: whether it came to its end. hooked: whether its graph will tell. reached: whether a gradient went
            through its output. learnt: the weights whose gradients it was added to, with the marks they had then.
        thrown: whether these gradients were thrown away since.
        readings: of each (layer, call). own: of each (metric, layer) the values, each with the pictures it counts for.
    """

    training: bool = True
    wants: bool = True
    inputs: int = 0
    given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    autocast: Autocast = field(default_factory=Autocast)
    classes: int = 0
    ended: bool = False
    hooked: bool = False
    reached: bool = False
    thrown: bool = False
    learnt: list[tuple[nn.Parameter, Any]] = field(default_factory=list)
    readings: dict[tuple[str, int], list[Later]] = field(default_factory=dict)
    own: dict[tuple[str, str], list[tuple[float, int]]] = field(default_factory=dict)
    handled: BaseException | None = field(default_factory=lambda: sys.exc_info()[1])
    _before: list[tuple[nn.Parameter, Any]] = field(default_factory=list)
    _queued: bool = False
    _tell: Callable[[], None] = lambda: None

    def begin(self, model: nn.Module) -> None:
        """The model begins."""
        self.training = model.training
        self._before = [(each, _mark(each)) for each in model.parameters() if each.requires_grad]
        self.wants = bool(self._before)

    def end(self, output: Any, tell: Callable[[], None]) -> None:
        """The model has returned this: have the graph tell when a gradient goes through it.

        Arguments:
            tell: is called then, before any gradient is added to.
        """
        self._tell = tell
        nodes = {id(tensor.grad_fn): tensor.grad_fn for _, tensor in nested.tensors(output) if tensor.grad_fn}
        pass_ = weakref.ref(self)  # a loss may be kept with its graph

        def reached(gradients: Any) -> None:
            there = pass_()
            if there is not None:
                there._reach()

        for node in list(nodes.values())[:NODES]:
            node.register_prehook(reached)
            self.hooked = True

    def _reach(self) -> None:
        if not self._queued:
            self._tell()
            self._queued = True
            torch.autograd.Variable._execution_engine.queue_callback(self._see_gradients)
        self.reached, self.thrown = True, False

    def _see_gradients(self) -> None:
        """A backward pass is over: see whether gradients were added up in it, or only asked for."""
        self._queued = False
        marks = [(weight, _mark(weight), before) for weight, before in self._before]
        self.learnt = [(weight, mark) for weight, mark, before in marks if mark not in (None, before)] or self.learnt

    def see_if_thrown(self, is_nothing: Callable[[nn.Parameter], bool]) -> None:
        """See whether the gradients that it gave are there no more.

        Arguments:
            is_nothing: whether a weight has no gradient, or only zeros.
        """
        if self.learnt and not self.thrown and all(_mark(weight) != mark for weight, mark in self.learnt):
            self.thrown = all(is_nothing(weight) for weight, _ in self.learnt)


def see_what_was_thrown(passes: Iterable[Pass]) -> None:
    """At the begin of a pass, and of a backward pass: gradients are set to zero before the one or the other."""
    is_nothing = functools.cache(_is_nothing)  # on a device each answer is waited for
    for each in passes:
        each.see_if_thrown(is_nothing)


def that_belong(passes: Iterable[Pass]) -> list[Pass]:
    """Those that came to their end and belong to the step; where nothing tells them apart, all."""
    found = [each for each in passes if each.ended]
    for tells in (lambda each: each.training, lambda each: each.wants, lambda each: not each.thrown):
        found = [each for each in found if tells(each)] or found
    if any(each.reached for each in found):
        found = [each for each in found if each.reached or not each.hooked]
    return found


def _mark(weight: nn.Parameter) -> Any:
    """What changes when a gradient is added to, replaced or set to zero; None where there is none."""
    gradient = weight.grad
    return None if gradient is None else (id(gradient), gradient._version)


def _is_nothing(weight: nn.Parameter) -> bool:
    gradient: Any = weight.grad
    if gradient is None:
        return True
    local = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return not bool((local.coalesce().values() if local.is_sparse else local).any())
