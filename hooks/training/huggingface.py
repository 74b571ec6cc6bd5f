"""The statistics of layers in a training of transformers' `Trainer`. The only module that needs `transformers` for it.

    trainer = Trainer(model, arguments, callbacks=[hs.huggingface.LayerStatistics("runs/monday", every=50)])

The Trainer clips gradients before any of its events, `on_pre_optimizer_step` included, and does so by default
(`max_grad_norm=1.0`). So gradients are looked at when the backward pass ends, by hooks on the weights, which are there
only in the steps that are looked at.

No event says that a training was ended by an exception. So methods of the Trainer are watched while it trains, see
`_Outermost`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.training.callbacks import Guest
from hookscope.hooks.training.loose import loosely
from hookscope.hooks.training.run import settings_of
from hookscope.hooks.training.watching import PURPOSE, Metric

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError("The package transformers is not installed: pip install 'hookscope[hf-trainer]'.") from error

OWNER = "transformers"
CLIPPED = (
    "The backward pass could not be seen to end, so gradients are as the Trainer uses them: clipped, if max_grad_norm "
    "is above 0."
)


class LayerStatistics(TrainerCallback):
    """Writes a feed while a `Trainer` trains, as `hs.follow` does, and logs numbers of layers.

    Arguments:
        folder, every, layers, pinned, pinned_layers, limit_mb, title, alarms: as of `hs.follow`.
        resume: whether it goes on with the run that the folder holds; by default if the training goes on itself, from
            a checkpoint.
        log: what is logged, as of `lightning.LayerStatistics`: by default the norm of each layer's gradient, the ratio
            of its update to its weights, the root mean square of its output, and the share of its dead channels. They
            stand in `trainer.state.log_history`, as "gradient norm/LAYER" beside "step"; call `report_to(trainer)`,
            and the Trainer's own reporters (TensorBoard, MLflow, ...) have them, too.

    A step is an update of the weights; batches that were accumulated are one. The Trainer gives a callback no loss, so
    the loss is what the model itself answered as one, in the steps that are looked at, by its share in what was
    minimised; without one (labels smoothed, or `compute_loss_func`) there is none.

    Raises:
        HooksError: a number or a name is wrong. Whatever goes wrong later is told once, and the training goes on.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int = 50,
        *,
        layers: Pattern | Iterable[Pattern] | None = None,
        pinned: Any = None,
        pinned_layers: Pattern | Iterable[Pattern] | None = None,
        log: bool | str | Iterable[str] = True,
        alarms: bool | Mapping[str, Literal["on", "off"]] = True,
        limit_mb: float = 500,
        title: str = "",
        resume: bool | None = None,
    ) -> None:
        settings = settings_of(folder, every, pinned, pinned_layers, limit_mb, title, alarms, owner=OWNER)
        self._guest = Guest(Path(folder), settings, layers, resume, log)
        self._hooks = contextlib.ExitStack()  # in a step that is looked at
        self._looked: int | None = None  # a step that was looked at already
        self._number = 0
        self._loss: Tensor | None = None
        self._scaler: Any = None
        self._queued = False
        self._trainer: Any = None
        self._outermost: _Outermost | None = None
        self._no_memory = False  # by which the last try ended

    def metric(self, name: str) -> Callable[[Metric], Metric]:
        """A number of your own for each layer; see `Following.metric`."""
        return self._guest.metric(name)

    def report_to(self, trainer: Any) -> None:
        """Have the numbers logged by `trainer.log`, so that all its reporters have them."""
        self._trainer = trainer

    # --- what the Trainer calls

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Begin."""
        with self._guest.harmless():
            self._scaler = getattr(given["optimizer"], "scaler", None)
            self._looked = self._loss = None
            again, self._no_memory = self._no_memory and bool(args.auto_find_batch_size), False
            first = int(state.global_step)
            self._guest.begin(given["model"], given["optimizer"], self._scaler, first, again=again)
            self._put_back()
            trainer = _trainer_of(self)
            if trainer is not None and self._guest.feed is not None:
                self._outermost = _Outermost.of(trainer)
                self._outermost.tell(self._failed)

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Wait for the end of the backward pass, if this step is looked at."""
        with self._guest.harmless():
            self._number, self._loss = int(state.global_step), None
            now = None if self._outermost is None else self._outermost.optimizer
            self._guest.keep_up(given["optimizer"] if now is None else now)
            if self._guest.feed is not None and self._guest.feed.looking:
                self._watch(unwrap(given["model"]))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The last moment, if the end of the backward pass was not seen."""
        with self._guest.harmless():
            self._hooks.close()
            feed = self._guest.feed
            if feed is not None and self._looked != self._number:
                if feed.looking and args.max_grad_norm:
                    self._guest.say(CLIPPED)
                self._look()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Log what was found."""
        new = None
        with self._guest.harmless():
            self._hooks.close()
            new = self._guest.fresh()
        if new is not None and state.is_world_process_zero:
            self._guest.log(lambda: self._log(state, control, *new))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """End."""
        self._hooks.close()
        self._put_back()
        self._guest.end()

    # --- how

    def _failed(self, error: BaseException | None) -> None:
        """End, because of this; or because the training has ended, where no event said so."""
        self._hooks.close()
        self._put_back()
        self._no_memory = self._guest.feed is not None and _lacks_memory(error)
        self._guest.end("" if error is None else type(error).__name__)

    def _put_back(self) -> None:
        watched, self._outermost = self._outermost, None
        if watched is not None:
            watched.leave(self._failed)

    def _watch(self, model: nn.Module) -> None:
        self._hooks.close()
        self._hooks = contextlib.ExitStack()
        self._queued = False
        begun = loosely(self._during_backward)
        for weight in model.parameters():
            if weight.requires_grad and weight.is_leaf:
                self._hooks.callback(weight.register_post_accumulate_grad_hook(begun).remove)
        with looking(owner=OWNER, purpose=PURPOSE):
            self._hooks.enter_context(hook(model, "forward", loosely(self._answered), layer=""))

    def _answered(self, module: nn.Module, args: Any, output: Any) -> None:
        """Take the loss that the model answers, by the gradient that it gets: its share in what is minimised."""
        with self._guest.harmless():
            loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
            if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad and torch.is_grad_enabled():
                value = loss.detach().clone()

                def take(share: Tensor) -> None:
                    more = value.float() * share.float()
                    self._loss = more if self._loss is None else self._loss + more

                loss.register_hook(take)

    def _during_backward(self, weight: Tensor) -> None:
        """The first weight has its gradient: be called when all have."""
        if self._queued:
            return
        self._queued = True
        with self._guest.harmless():
            queue = torch.autograd.Variable._execution_engine.queue_callback
            # twice, so that it comes behind what a wrapper that adds gradients up over processes has queued
            queue(lambda: queue(self._after_backward))

    def _after_backward(self) -> None:
        self._queued = False
        with self._guest.harmless():
            if self._guest.feed is not None and _is_last_batch():
                self._hooks.close()
                self._look()

    def _look(self) -> None:
        feed, self._looked = self._guest.feed, self._number
        if feed is None:
            return
        scale = 1.0 if self._scaler is None else float(self._scaler.get_scale())
        feed.step(None if self._loss is None else self._loss / scale, step=self._number)

    def _log(self, state: Any, control: Any, step: int, numbers: Mapping[str, float]) -> None:
        if self._trainer is None:
            state.log_history.append({**numbers, "epoch": state.epoch, "step": step})
            return
        wanted = control.should_log  # which logging resets
        self._trainer.log(dict(numbers))
        control.should_log = wanted


def _is_last_batch() -> bool:
    """Whether the batch whose backward pass has ended is the last that is accumulated."""
    from accelerate.state import GradientState  # the Trainer needs it

    return bool(GradientState().sync_gradients)


class _Outermost:
    """Watches methods of a Trainer while it trains, to be told when one is left by an exception.

    The training's own loop has begun when the first event comes, and cannot be watched itself. Whatever it calls can:
    an exception that leaves the outermost of these calls ends the training; one that leaves an inner call may yet be
    caught by what called it. What is not called through them, Ctrl+C between two calls for one, is noticed later: see
    `callbacks.Guest`.

    Where a training is over in good order, those are told, too, of whom the Trainer no longer knows.
    """

    NAMES = ("_run_epoch", "_finalize_training", "_evaluate", "training_step")

    def __init__(self, trainer: Any) -> None:
        self._told: list[weakref.WeakMethod[Callable[[BaseException | None], None]]] = []
        self._trainer = weakref.ref(trainer)
        self._depth = 0
        self._places: list[tuple[weakref.ref[Any], str, Any, bool]] = []
        for owner, name in (*((trainer, name) for name in self.NAMES), (trainer.callback_handler, "call_event")):
            if callable(getattr(owner, name, None)):
                self._watch(owner, name)

    @classmethod
    def of(cls, trainer: Any) -> _Outermost:
        """That which is on a Trainer already, for somebody else; a new one otherwise."""
        there = vars(trainer.callback_handler).get("call_event")
        known = getattr(there, "hookscope_outermost", None)
        return known if isinstance(known, cls) else cls(trainer)

    @property
    def optimizer(self) -> Any:
        """The one that the Trainer has now; the events name the one that it had in the beginning."""
        return getattr(self._trainer(), "optimizer", None)

    def _watch(self, owner: Any, name: str) -> None:
        method, own = getattr(owner, name), name in vars(owner)

        @functools.wraps(method)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            try:
                answer = method(*args, **kwargs)
                if self._depth == 1 and name == "_finalize_training":
                    self._tell(None)
                return answer
            except BaseException as error:
                if self._depth == 1:
                    self._tell(error)
                raise
            finally:
                self._depth -= 1

        watched.hookscope_outermost = self  # type: ignore[attr-defined]
        setattr(owner, name, watched)
        self._places.append((weakref.ref(owner), name, method if own else None, own))

    def tell(self, method: Callable[[BaseException | None], None]) -> None:
        """Have a method called with the exception; as long as there is who it belongs to."""
        self._told.append(weakref.WeakMethod(method, lambda gone: self.leave()))

    def _tell(self, error: BaseException | None) -> None:
        for method in [known() for known in self._told]:
            if method is not None:
                with contextlib.suppress(Exception):
                    method(error)

    def leave(self, method: Callable[[BaseException | None], None] | None = None) -> None:
        """Tell this one no more; with the last one the Trainer's methods are its own again."""
        self._told = [known for known in self._told if known() not in (None, method)]
        if self._told:
            return
        for known, name, before, own in self._places:
            owner = known()
            there = None if owner is None else vars(owner).get(name)
            if getattr(there, "hookscope_outermost", None) is self:  # nobody has put another one there since
                if own:
                    setattr(owner, name, before)
                else:
                    delattr(owner, name)
        self._places = []


def _trainer_of(callback: LayerStatistics) -> Any:
    """The Trainer whose event is being handled, which no event names; None where it is no Trainer of transformers."""
    from transformers import Trainer

    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames else None
        if isinstance(owner, Trainer) and callback in owner.callback_handler.callbacks:
            return owner
        frame = frame.f_back
    return None


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether a Trainer tries again with fewer pictures after this, if it was asked to."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, Exception) and bool(should_reduce_batch_size(error))
