"""Follows a training: every so many steps the numbers of all layers, written into a folder that is read while it runs.

    with hs.follow(model, "runs/monday", every=50, optimizer=optimizer) as feed:
        for pictures, classes in batches:
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            feed.step(loss=loss)
            optimizer.step()
            optimizer.zero_grad()

`feed.step` stands behind the backward pass and before the gradients are clipped, used and thrown away. Between two
steps that are looked at nothing is on the model, and a step costs a few microseconds.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.axes import leaves
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.passes.modes import check_supported, eager, unwrap
from hookscope.hooks.results.feeds import Look
from hookscope.hooks.training.alarms import Alarms
from hookscope.hooks.training.between import Between
from hookscope.hooks.training.looks import Step, numbers_of
from hookscope.hooks.training.pinned import Pinned
from hookscope.hooks.training.rules import silenced
from hookscope.hooks.training.run import Settings, info_of, is_first_process, settings_of
from hookscope.hooks.training.telling import (
    AFTER_THE_UPDATE,
    FEWER_LOOKS,
    NO_GRADIENTS,
    NO_NUMBER,
    NOT_SEEN,
    ONLY_PARTS,
    Teller,
)
from hookscope.hooks.training.watching import Memory, Metric, Watching
from hookscope.hooks.training.weights import inner_optimizers, own_weights, read_moment
from hookscope.hooks.training.writer import Folder, as_given, as_line

WAITING = 20  # lines that could not be written and are kept


def follow(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    every: int = 50,
    optimizer: Any = None,
    scaler: Any = None,
    pinned: Any = None,
    pinned_layers: Pattern | Iterable[Pattern] | None = None,
    layers: Pattern | Iterable[Pattern] | None = None,
    limit_mb: float = 500,
    title: str = "",
    alarms: bool | Mapping[str, Literal["on", "off"]] = True,
    resume: bool = False,
    owner: str = "user",
) -> Following:
    """Follow a training; see the module for how, docs/feed.md for what is written and docs/examples/training.md.

    Arguments:
        model: what is trained. Wrappers (`torch.compile`, DistributedDataParallel) are looked through; of a compiled
            model give the wrapper, whose looked-at steps then run eagerly.
        folder: where it is written, one folder for each run.
        every: how many steps are between two looks. Step 0, the first, is one.
        optimizer: for learning rates and updates, one or several; without it those columns are absent.
        scaler: the `torch.amp.GradScaler`, by whose scale gradients are divided.
        pinned: a batch or a tuple of arguments, whose first picture is shown to the model at every look; its maps are
            kept. pinned_layers: of which layers.
        layers: see `layers.names.select`; by default all modules without children, and all that have weights.
            Operations ("layer1.0/relu") can be named too.
        limit_mb: how many megabytes the folder may take. Files of older looks make room; when lines alone take more
            than half, half as many steps are looked at.
        title: what the page calls it; the folder's name by default.
        alarms: whether alarms are told, on the console and in the feed; or by rule ({"dead-channels": "off"}).
        resume: go on with the run that the folder holds, behind its last step.
        owner: what `live_hooks` shows.

    Raises:
        HooksError: a rule or `every` is wrong; or, when the block begins, the folder holds a run already.
        LayerNotFound: a pattern means nothing. ModelNotSupported: hooks cannot see into this kind of model.
    """
    settings = settings_of(folder, every, pinned, pinned_layers, limit_mb, title, alarms, resume, owner)
    return Following(model, Path(folder), settings, layers, inner_optimizers(optimizer), scaler)


class Following:
    """What `follow` gives: a training that is followed for the length of a `with` block, or from `open` to `close`.

    Attributes:
        writing: whether anything is written here: only in the first process of a distributed training.
        latest: the newest look, None before there is one. path: of the folder.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        settings: Settings,
        layers: Pattern | Iterable[Pattern] | None,
        optimizers: tuple[torch.optim.Optimizer, ...],
        scaler: Any,
    ) -> None:
        inner = unwrap(model)
        check_supported(inner)
        chosen = select(model, "*" if layers is None else layers)
        self._every_layer = layers is None
        self._layers = leaves(chosen) if layers is None else dict(chosen)
        self._model, self._wrapped = weakref.ref(inner), weakref.ref(model)
        self._settings, self._optimizers, self._scaler = settings, optimizers, scaler
        self._folder = Folder(folder, settings.limit_bytes)
        self._pinned: Pinned | None = None
        self._alarms = Alarms(settings.silenced)
        self._memory = Memory()
        self._teller = Teller()
        self._between = Between()
        self._unwritten: list[Mapping[str, Any]] = []
        self._open = False
        self._armed: Step | None = None  # waits for the forward pass of the next step
        self._pending: Step | None = None  # was looked at, and waits for its update
        self._hooks = contextlib.ExitStack()  # on the model
        self._updates: list[Any] = []  # handles on the optimisers
        self._next, self._number = 0, 0
        self._broken = self._seen_forward = False
        self._slower = 1
        self.writing = is_first_process()
        self.latest: Look | None = None
        self.path = folder

    # --- what a training calls

    def __enter__(self) -> Following:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close("" if kind is None else kind.__name__)

    def open(self, first: int | None = None) -> None:
        """Begin: make the folder, and wait for the first step.

        Arguments:
            first: its number; by default that behind the last which the folder holds.

        Raises:
            HooksError: the folder holds a run already, or another process writes there.
        """
        if not self.writing or self._open:
            return
        model, settings = self._alive(), self._settings
        if settings.pinned is not None:
            self._pinned = Pinned(model, settings.pinned, settings.pinned_layers)
        own = own_weights(self._layers, self._every_layer, first_names(model))
        info = info_of(model, own, self._layers, self._optimizers, settings, self._scaler is not None)
        try:
            last, self._number = self._folder.open(info, settings.resume)
        except OSError as error:
            raise HooksError(
                f"The folder {self._folder.path.name} cannot be written ({error.strerror}). Choose another one, or "
                "make room."
            ) from error
        self._next = first if first is not None else 0 if last is None else last + 1
        self._open = True
        self._write({"begin": time.time(), "step": self._next, "process": os.getpid()})
        self._guarded(self._arm_if_due)

    def close(self, stopped_by: str = "") -> None:
        """End: take everything off the model, and write that the run is over.

        Arguments:
            stopped_by: the name of the exception that ended it; "" where it came to its end.
        """
        if not self._open:
            return
        self._open = False
        self._guarded(self._finish)
        self._disarm()
        self._armed = None
        self._take_off_updates()
        given = as_given(self._between.take())
        self._write({"end": time.time(), "step": self._next, "stopped_by": stopped_by, **given})
        self._folder.close()
        self._teller.end()

    def step(self, loss: Any = None, *, step: int | None = None, **scalars: Any) -> None:
        """One step of the training is done but for its update. It never raises, whatever it finds.

        Arguments:
            loss: of the step, a tensor or a number. step: its number, where it is not one more than the last.
            scalars: numbers of your own, as an accuracy; of every step that is given some, looked at or not.
        """
        if self._open:
            self._guarded(lambda: self._step(loss, step, scalars))

    @property
    def looking(self) -> bool:
        """Whether the step that comes is looked at."""
        return self._armed is not None

    def watch_parts(self) -> None:
        """Watch the layers from the beginning of a step on: the model itself is not called, but its parts."""
        self._memory.direct = True

    def before_update(self, optimizer: Any) -> None:
        """The gradients of one optimiser's weights are ready; `step` comes when every update of the step is done.

        For trainings with several optimisers, whose gradients are never ready together. It never raises.
        """
        if self._armed is not None:
            self._guarded(lambda: self._read_before(optimizer))

    def metric(self, name: str) -> Callable[[Metric], Metric]:
        """A number of your own for each layer: `@feed.metric("energy")` above a function of (layer, value).

        The value is the layer's output in the looked-at step, detached. What the function gives becomes a float; None
        is no number. Its first failure switches it off, and is told once.
        """

        def add(function: Metric) -> Metric:
            self._memory.metrics[name] = function
            if self._armed is not None:
                self._armed.watching.own.setdefault(name, {})
            return function

        return add

    def silence(self, rule: str) -> None:
        """Tell no more alarms of a rule.

        Raises:
            HooksError: there is no such rule.
        """
        self._alarms.off |= silenced({rule: "off"})

    def on_look(self, function: Callable[[Look], None], at_end: Callable[[], None] = lambda: None) -> None:
        """Have a function called with every look that was written, and one at the end; what fails is called no more."""
        self._teller.listeners.append((function, at_end))

    # --- a step

    def _step(self, loss: Any, number: int | None, scalars: Mapping[str, Any]) -> None:
        self._finish()  # of the look before, whose update did not come
        now = self._next if number is None else int(number)
        self._next = now + 1
        try:
            value = self._between.keep(now, loss, scalars)
        except TypeError as error:
            loss = value = None
            self._teller.say(NO_NUMBER.format(kind=error))
        if self._armed is not None:
            self._look_at(now, loss, value)
        elif value is not None and not math.isfinite(value) and not self._broken:
            self._broken = True  # the next step is looked at, wherever it is
            self._arm()
        self._arm_if_due()

    def _look_at(self, now: int, loss: Any, value: float | None) -> None:
        step, self._armed = self._armed, None
        assert step is not None
        begun = time.perf_counter()
        self._disarm()
        step.number, step.loss = now, loss
        self._say_what_was_not_seen(step)
        if step.moment is None:
            self._read_weights(step)
        elif step.announced:
            step.see_what_came(self._optimizers)
        else:
            self._teller.say(AFTER_THE_UPDATE)
        assert step.moment is not None
        if not step.moment.has_gradients() and any(each.wants for each in step.moment.layers):
            self._teller.say(NO_GRADIENTS)
        step.cost += time.perf_counter() - begun
        step.repeat_if_broken(self._alive(), self._settings.owner, value)
        self._pending = step
        if not self._optimizers or step.moment.updated or step.announced:
            self._finish()

    def _read_before(self, optimizer: Any) -> None:
        step = self._armed
        assert step is not None
        begun = time.perf_counter()
        step.announced = True
        if step.moment is None:
            self._read_weights(step)
        else:
            step.moment.read_again(inner_optimizers(optimizer), self._scaler, self._memory.scratch, halves=step.halves)
        step.cost += time.perf_counter() - begun

    def _read_weights(self, step: Step, *, within: bool = False) -> None:
        model = self._alive()
        fused = within and bool(self._optimizers) and hasattr(self._optimizers[0], "grad_scale")
        step.halves = step.watching.autocast.halves or any(each.dtype is torch.float16 for each in model.parameters())
        own = own_weights(self._layers, self._every_layer, first_names(model))
        step.moment = read_moment(
            own, self._scaler, self._optimizers, self._memory.scratch, halves=step.halves, fused=fused
        )
        if self._optimizers:
            step.moment.keep()

    # --- an update

    def _before_update(self, optimizer: Any, *rest: Any) -> None:
        """A step of the optimiser begins. Where nobody has called `step` by now, this is the moment to look."""
        step = self._armed
        if self._pending is None and step is not None and step.watching.passes and step.moment is None:
            begun = time.perf_counter()
            self._guarded(lambda: self._read_weights(step, within=True))
            step.cost += time.perf_counter() - begun

    def _after_update(self, optimizer: Any, *rest: Any) -> None:
        step = self._pending or self._armed
        if step is None or step.moment is None or step.moment.updated:
            return
        step.waiting.discard(id(optimizer))
        if step.announced:
            return  # they are told together
        found = getattr(optimizer, "found_inf", None)
        if found is not None and float(found) > 0:  # a fused one, which leaves the weights as they are then
            return
        if not step.waiting:
            begun = time.perf_counter()
            self._guarded(step.moment.see_update)
            step.cost += time.perf_counter() - begun
            if step is self._pending:
                self._guarded(self._finish)

    # --- hooks

    def _arm_if_due(self) -> None:
        if self._armed is None and self._next % (self._settings.every * self._slower) == 0:
            self._arm()

    def _arm(self) -> None:
        """Wait for the next step's forward pass."""
        if self._armed is not None:
            return
        model, wrapped = self._alive(), self._wrapped()
        watching = Watching(model, self._layers, self._memory, self._teller.say, self._settings.owner)
        self._hooks = contextlib.ExitStack()
        self._hooks.enter_context(eager(wrapped if wrapped is not None else model))
        self._hooks.enter_context(watching.armed())
        self._armed = Step(watching, waiting={id(each) for each in self._optimizers})
        for optimizer in self._optimizers if not self._updates else ():
            self._updates.append(optimizer.register_step_pre_hook(self._before_update))
            self._updates.append(optimizer.register_step_post_hook(self._after_update))

    def _disarm(self) -> None:
        self._hooks.close()

    def _take_off_updates(self) -> None:
        for handle in self._updates:
            handle.remove()
        self._updates = []

    def _say_what_was_not_seen(self, step: Step) -> None:
        if step.watching.passes:
            self._seen_forward = True
        elif not self._memory.direct and not self._seen_forward:
            self._memory.direct = True
            self._teller.say(ONLY_PARTS)
        else:
            self._teller.say(NOT_SEEN)

    # --- what comes of it

    def _finish(self) -> None:
        """Write the look that waits."""
        step, self._pending = self._pending, None
        if step is None:
            return
        begun = time.perf_counter()
        model = self._alive()
        given = self._between.take()
        looked = numbers_of(step, model, self._alarms, given, self._scaler is not None, self._settings.owner)
        look = looked.look(self._number, time.time(), self._teller.take_notes())
        maps = self._pinned.look(model, self._settings.owner) if self._pinned is not None else {}
        self._number += 1
        if self._armed is None:
            self._take_off_updates()
        look = looked.costing(look, step.cost + step.watching.cost + time.perf_counter() - begun)
        self._write(as_line(look), look, looked.bins, maps)
        self.latest = look
        self._teller.tell(look)
        self._broken = step.loss is not None and not math.isfinite(look.loss)
        if self._folder.lines_are_full:
            self._slower *= 2
            self._folder.allow_more_lines()
            self._teller.say(FEWER_LOOKS)

    def _write(
        self,
        line: Mapping[str, Any],
        look: Look | None = None,
        bins: Mapping[str, np.ndarray] | None = None,
        maps: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write what can be written; what fails is told once, and tried again at the next look."""
        self._unwritten = [*self._unwritten, line][-WAITING:]
        try:
            while self._unwritten:
                self._folder.append(self._unwritten[0])
                del self._unwritten[0]
            if look is not None:
                for kind, arrays in (("bins", bins), ("maps", maps)):
                    if arrays:
                        self._folder.keep(kind, look, arrays, {})
                self._folder.thin()
        except OSError as error:
            self._teller.say(
                f"The feed {self._folder.path.name} cannot be written ({error.strerror}). The training goes on, and it "
                "is tried again at the next look."
            )

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever fails here must not fail the training."""
        try:
            work()
        except Exception as error:
            self._armed = self._pending = None
            for undo in (self._disarm, self._take_off_updates):
                with contextlib.suppress(Exception):
                    undo()
            self._teller.say(
                f"Hookscope could not look at a step ({type(error).__name__}: {error!s:.200}), and the training goes "
                "on."
            )

    def _alive(self) -> nn.Module:
        model = self._model()
        if model is None:
            raise HooksError("The model that is followed is gone: keep a reference to it.")
        return model
