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
import functools
import math
import os
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.names import Pattern, first_names
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import check_supported, forced_eager, unwrap
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.feed_lines import LARGEST_STEP
from hookscope.hooks.results.feeds import Given, Look
from hookscope.hooks.training import telling
from hookscope.hooks.training.alarms import Alarms
from hookscope.hooks.training.between import MOST, Between
from hookscope.hooks.training.layouts import choose
from hookscope.hooks.training.looks import Step, numbers_of
from hookscope.hooks.training.loose import loosely
from hookscope.hooks.training.pinned import Pinned
from hookscope.hooks.training.resuming import others_than_before
from hookscope.hooks.training.rows import own_name
from hookscope.hooks.training.rules import silenced
from hookscope.hooks.training.run import Settings, info_of, is_first_process
from hookscope.hooks.training.telling import Teller
from hookscope.hooks.training.watching import PURPOSE, Memory, Metric, Watching
from hookscope.hooks.training.weights import Scale, inner_optimizers, own_weights, read_moment, scale_of, weights_of
from hookscope.hooks.training.writer import Folder, Lines, as_given, as_line


class Following:
    """What `follow` gives: a training that is followed for the length of a `with` block, or from `open` to `close`.

    One that nobody closed ends when nobody has it any more: nothing else keeps it, neither the model nor an optimiser.

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
        self._every_layer, self._patterns = layers is None, layers
        self._layers = choose(inner, layers)
        self._model = weakref.ref(inner)
        self._settings, self._optimizers, self._scaler = settings, optimizers, scaler
        self._folder = Folder(folder, settings.limit_bytes)
        self._lines = Lines(self._folder)
        self._pinned: Pinned | None = None
        self._alarms = Alarms(settings.silenced)
        self._memory = Memory()
        self._teller = Teller()
        self._between = Between()
        self._open = False
        self._armed: Step | None = None  # waits for the forward pass of the next step
        self._pending: Step | None = None  # was looked at, and waits for its update
        self._hooks = contextlib.ExitStack()  # on the model
        self._updates: list[Any] = []  # handles on the optimisers
        self._next, self._number = 0, 0
        self._stride = 1  # from one step's number to the next, as the person counts
        self._broken, self._slower = False, 1
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

    def __del__(self) -> None:
        mine = getattr(self, "_mine", None) == (os.getpid(), id(self))  # and not that of a copy, or of a fork
        if not mine or not self._open or sys.is_finalizing():
            return
        self._pinned = None  # whatever thread this is, somebody may be running the model
        with contextlib.suppress(Exception):
            self.close(telling.DROPPED)

    def open(self, first: int | None = None) -> None:
        """Begin: make the folder, and wait for the first step.

        Arguments:
            first: its number; by default that behind the last which the folder holds.

        Raises:
            HooksError: the folder holds a run already, or that of another model; or it cannot be written.
        """
        if not self.writing or self._open:
            return
        model, settings = self._alive(), self._settings
        if settings.pinned is not None:
            self._pinned = Pinned(model, settings.pinned, settings.pinned_layers)
        own = own_weights(self._layers, self._every_layer, first_names(model))
        info = info_of(model, own, self._layers, self._optimizers, settings, self._scaler is not None)
        fits = functools.partial(others_than_before, model, own)
        last, self._number, notes = self._folder.open(info, settings.resume, fits)
        self._next = first if first is not None else 0 if last is None else last + 1
        self._open, self._mine, self.path = True, (os.getpid(), id(self)), self._folder.path
        self._teller.say(*notes)
        self._teller.say(*self._lines.write({"begin": time.time(), "step": self._next, "process": os.getpid()}))
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
        given = as_given(self._given())
        self._teller.say(
            *self._lines.write({"end": time.time(), "step": self._next, "stopped_by": stopped_by, **given})
        )
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

    def put_off(self, step: int, why: str) -> bool:
        """Look at the step that comes instead of this one, if this one had no gradient; gives whether it does so."""
        armed = self._armed
        if armed is None or armed.moment is None or armed.moment.has_gradients():
            return False
        self._disarm()
        self._armed, self._next = None, step + 1
        self._teller.say(why)
        self._guarded(self._arm)
        return True

    def uses(self, optimizers: Iterable[torch.optim.Optimizer]) -> bool:
        """Whether these are among the optimisers that are followed."""
        return {*map(id, optimizers)} <= {*map(id, self._optimizers)}

    def use(self, optimizers: tuple[torch.optim.Optimizer, ...]) -> None:
        """From now on these are the optimisers, where they are others than those that were given."""
        if self._open and [*map(id, optimizers)] != [*map(id, self._optimizers)]:
            self._take_off_updates()
            self._optimizers = optimizers
            if self._armed is not None:
                self._armed.waiting = {id(each) for each in optimizers}
                self._guarded(self._watch_updates)
            self._teller.say(telling.OTHER_OPTIMIZERS)

    def metric(self, name: str) -> Callable[[Metric], Metric]:
        """A number of your own for each layer: `@feed.metric("energy")` above a function of (layer, value).

        The value is a copy of the layer's output, detached: of several calls in a forward pass the first's. What the
        function gives becomes a float, of several passes the mean weighted by pictures; None is no number. Random state
        is put back. Its first failure switches it off, and is told once.

        Raises:
            HooksError: it has no name, or that of a number that every look has.
        """

        def add(function: Metric) -> Metric:
            self._memory.metrics[own_name(name)] = function
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
        if self._pending is not None and self._scaler is None and not self._pending.updated:
            self._teller.say(telling.NO_UPDATE)
        self._finish()  # of the look before, whose update did not come
        now = self._next if number is None else int(number)
        if not 0 <= now <= LARGEST_STEP:
            raise ValueError(f"step={now}: steps are counted from 0, and have 12 digits at most")
        self._stride = max(now - self._next + 1, 1) if number is not None and self._number else 1
        self._next = now + 1
        try:
            value = self._between.keep(now, loss, scalars)
        except TypeError as error:
            loss = value = None
            self._teller.say(telling.NO_NUMBER.format(kind=error))
        self._teller.say(*self._between.take_refused())
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
        step.watching.say_what_is_missing()
        scale = scale_of(self._scaler, self._optimizers)
        late = step.moment is not None and not step.announced
        if step.moment is None:
            late = scale.updated_since(step.scale) or scale.stepped > 0  # an update that nobody saw: it was left out
            step.skipped = late and (scale.fell_since(step.scale) or bool(self._optimizers))
            self._read_weights(step, scale.behind_the_update(step.skipped and not self._optimizers) if late else scale)
        if late:
            self._teller.say(telling.OWN_PASSES if step.early and step.watching.passes else telling.AFTER_THE_UPDATE)
        assert step.moment is not None
        if not step.moment.has_gradients() and any(each.wants for each in step.moment.layers):
            self._teller.say(telling.NO_GRADIENTS)
        step.cost += time.perf_counter() - begun
        step.repeat_if_broken(self._alive(), self._settings.owner, value)
        self._pending = step
        if not self._optimizers or step.moment.updated or step.announced or late:
            self._finish()

    def _read_before(self, optimizer: Any) -> None:
        step = self._armed
        assert step is not None
        begun = time.perf_counter()
        first, step.announced = not step.announced, True
        inner = inner_optimizers(optimizer)
        if step.moment is None or (first and step.early):
            self._read_weights(step, scale_of(self._scaler, self._optimizers or inner))
        elif not {id(each) for each in inner} <= step.read:  # those that evaluate the loss again come again
            step.moment.read_again(inner, self._scaler, self._memory.scratch, halves=step.halves)
        step.read |= {id(each) for each in inner}
        step.cost += time.perf_counter() - begun

    def _read_weights(self, step: Step, scale: Scale) -> None:
        model = self._alive()
        step.halves = step.watching.autocast.halves or any(each.dtype is torch.float16 for each in model.parameters())
        own = own_weights(self._layers, self._every_layer, first_names(model))
        step.moment = read_moment(own, scale, self._optimizers, self._memory.scratch, halves=step.halves)
        step.behind, step.early = scale, False
        if self._optimizers:
            step.moment.keep()

    # --- an update

    def _before_update(self, optimizer: Any, args: tuple[Any, ...], more: Mapping[str, Any]) -> None:
        """A step of the optimiser begins. Where nobody has called `step` by now, this is the moment to look."""
        step = self._pending or self._armed
        if step is None or (step.moment is not None and id(optimizer) not in step.waiting):
            return
        moment = step.moment
        if moment is not None:  # its weights may have been frozen while another one's were trained
            self._guarded(lambda: moment.keep(weights_of((optimizer,))))
            return
        early = not step.watching.passes
        if early and not any(map(callable, (*args[1:], more.get("closure")))):  # by which it runs the model itself
            return
        begun = time.perf_counter()
        self._guarded(lambda: self._read_weights(step, scale_of(self._scaler, self._optimizers)))
        step.early = early
        step.cost += time.perf_counter() - begun

    def _after_update(self, optimizer: Any, *rest: Any) -> None:
        step = self._pending or self._armed
        if step is None or step.moment is None or id(optimizer) not in step.waiting:
            return
        step.waiting.discard(id(optimizer))
        found = getattr(optimizer, "found_inf", None)
        if found is not None and float(found) > 0:  # a fused one, which leaves the weights as they are then
            step.skipped = True
            return
        begun = time.perf_counter()
        self._guarded(lambda: self._see_update(step, optimizer))
        step.cost += time.perf_counter() - begun
        if step is self._pending and not step.waiting:
            self._guarded(self._finish)

    def _see_update(self, step: Step, optimizer: torch.optim.Optimizer) -> None:
        moment = step.moment
        assert moment is not None
        if step.early and not step.announced:
            moment.read_again((optimizer,), self._scaler, self._memory.scratch, halves=step.halves)
        moment.see_update(weights_of((optimizer,)))
        if not step.waiting:
            moment.see_update(moment.weights() - weights_of(self._optimizers))  # those that were forgotten

    # --- hooks

    def _arm_if_due(self) -> None:
        every = self._settings.every * self._slower
        coming = self._next + self._stride - 1
        if self._armed is None and (coming % every == 0 or coming // every > (self._next - 1) // every):
            self._arm()

    def _arm(self) -> None:
        """Wait for the next step's forward pass."""
        if self._armed is not None:
            return
        model = self._alive()
        self._layers = self._memory.renew(self._layers, model, self._patterns, self._teller.say)
        watching = Watching(model, self._layers, self._memory, self._teller.say, self._settings.owner)
        self._hooks = contextlib.ExitStack()
        self._hooks.enter_context(forced_eager())
        self._hooks.enter_context(watching.armed())
        self._armed = Step(watching, {id(each) for each in self._optimizers})
        if self._scaler is not None:
            with looking(owner=self._settings.owner, purpose=PURPOSE):
                self._hooks.enter_context(hook(model, "forward_pre", loosely(self._see_scale), layer=""))
        self._watch_updates()

    def _see_scale(self, *given: Any) -> None:
        """A pass begins: what the scaler does by then."""
        if self._armed is not None and torch.is_grad_enabled():
            self._armed.scale = scale_of(self._scaler, self._optimizers)

    def _disarm(self) -> None:
        self._hooks.close()

    def _watch_updates(self) -> None:
        for optimizer in self._optimizers if not self._updates else ():
            self._updates.append(optimizer.register_step_pre_hook(loosely(self._before_update)))
            self._updates.append(optimizer.register_step_post_hook(loosely(self._after_update)))

    def _take_off_updates(self) -> None:
        for handle in self._updates:
            handle.remove()
        self._updates = []

    # --- what comes of it

    def _finish(self) -> None:
        """Write the look that waits."""
        step, self._pending = self._pending, None
        if step is None:
            return
        begun = time.perf_counter()
        model = self._alive()
        step.see_skip(scale_of(self._scaler, self._optimizers))
        given = self._given()
        looked = numbers_of(step, model, self._alarms, given, self._scaler is not None, self._settings.owner)
        look = looked.look(self._number, time.time(), self._teller.take_notes())
        maps = self._pinned.look(model, self._settings.owner, self._teller.say) if self._pinned is not None else {}
        self._number += 1
        if self._armed is None:
            self._take_off_updates()
        look = looked.costing(look, step.cost + step.watching.cost + time.perf_counter() - begun)
        self._teller.say(*self._lines.write(as_line(look), look, looked.bins, maps))
        self.latest = look
        self._teller.tell(look)
        self._broken = step.loss is not None and not math.isfinite(look.loss)
        if self._folder.lines_are_full:
            self._slower *= 2
            self._folder.allow_more_lines()
            self._teller.say(telling.FEWER_LOOKS)

    def _given(self) -> Given:
        """What the steps since the last look were given: not of all, once lines take up the room."""
        return self._between.take(self._settings.every if self._slower > 1 else MOST)

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
