"""The statistics of layers in a training of Lightning's; what needs `lightning`, or `pytorch_lightning`, is here.

    trainer = lightning.Trainer(callbacks=[hs.lightning.LayerStatistics("runs/monday", every=50)])

Gradients are looked at in `on_before_optimizer_step`: unscaled and before they are clipped.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.training.callbacks import Guest
from hookscope.hooks.training.run import settings_of
from hookscope.hooks.training.telling import NO_LOSS
from hookscope.hooks.training.watching import Metric

NAMES = ("lightning.pytorch", "pytorch_lightning")  # one library under two names, whose classes are not the same


def _callback() -> Any:
    """The class of the one that is in use already; of the first that there is, if neither is."""
    for name in sorted(NAMES, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(f"{name}.callbacks").Callback
        except ImportError:
            continue
    raise ImportError("Lightning is not installed: pip install 'hookscope[lightning]'.")


Callback: Any = _callback()


class LayerStatistics(Callback):
    """Writes a feed while a `Trainer` fits, as `hs.follow` does, and logs numbers of layers.

    Arguments:
        folder, every, layers, pinned, pinned_layers, limit_mb, title, alarms: as of `hs.follow`.
        module: what of the LightningModule is followed, by its name in it; "" for all of it. By default all of it where
            it has a `forward` of its own, or several children with weights, else its one child with weights.
        resume: whether it goes on with the run that the folder holds; by default if the training goes on itself, from
            a checkpoint.
        log: whether numbers of layers are logged: True for the norm of each layer's gradient, the ratio of its update
            to its weights, the root mean square of its output, and the share of its dead channels; or other names of
            `training.rows.NAMES`. They go to the Trainer's loggers as "gradient norm/LAYER", at the very step that was
            looked at, whatever `log_every_n_steps` is, and through `log_dict` into `trainer.callback_metrics`.

    A step is a batch in which an optimiser stepped; batches that were accumulated are one. With several optimisers
    each one's gradients are read before its own step. Steps are counted as Lightning's loggers do.

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
        module: str | None = None,
        log: bool | str | Iterable[str] = True,
        alarms: bool | Mapping[str, Literal["on", "off"]] = True,
        limit_mb: float = 500,
        title: str = "",
        resume: bool | None = None,
    ) -> None:
        super().__init__()
        settings = settings_of(folder, every, pinned, pinned_layers, limit_mb, title, alarms, owner="lightning")
        self._guest = Guest(Path(folder), settings, layers, resume, log)
        self._module = module
        self._number, self._updating = 0, False
        self._loss: Tensor | None = None

    def metric(self, name: str) -> Callable[[Metric], Metric]:
        """A number of your own for each layer; see `Following.metric`."""
        return self._guest.metric(name)

    # --- what the Trainer calls

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin."""
        with self._guest.harmless():
            model, parts = self._followed(pl_module, trainer.optimizers)
            plugin = trainer.precision_plugin
            first = _stepped(trainer)
            self._guest.begin(model, trainer.optimizers, getattr(plugin, "scaler", None), first, parts=parts)
            self._loss, self._updating = None, False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remember which step this is."""
        with self._guest.harmless():
            self._number = _stepped(trainer)
            self._guest.keep_up(trainer.optimizers)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Gradients are ready."""
        with self._guest.harmless():
            if self._guest.feed is not None:
                self._guest.keep_up(trainer.optimizers, optimizer)
                self._guest.feed.before_update(optimizer)
                self._updating = True

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The step is done, if an optimiser stepped."""
        with self._guest.harmless():
            loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            if isinstance(loss, Tensor) and loss.numel() == 1:  # its share, where batches are accumulated
                loss = loss.detach().clone()
                self._loss = loss if self._loss is None else self._loss + loss
            feed = self._guest.feed
            if feed is not None and self._updating:
                none = pl_module.automatic_optimization and loss is None
                if not (none and feed.put_off(self._number, NO_LOSS)):
                    feed.step(self._loss, step=self._number)
                self._loss, self._updating = None, False
            new = self._guest.fresh()
        if not self._guest.over and new is not None:
            self._guest.log(lambda: self._log(trainer, pl_module, *new))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End."""
        self._guest.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End, because of this."""
        self._guest.end(type(exception).__name__)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """End, if nothing else did."""
        self._guest.end()

    # --- how

    def _log(self, trainer: Any, module: Any, step: int, numbers: Mapping[str, float]) -> None:
        for logger in trainer.loggers:  # module.log would have them logged at another step, or not at all
            logger.log_metrics(dict(numbers), step=step)
        module.log_dict(dict(numbers), logger=False, on_step=True, on_epoch=False, rank_zero_only=True)

    def _followed(self, module: Any, optimizers: Any) -> tuple[nn.Module, bool]:
        """What is followed, and whether only parts of it are called."""
        if self._module is not None:
            try:
                return module.get_submodule(self._module), False
            except AttributeError:
                there = ", ".join(repr(name) for name, _ in module.named_children())
                raise HooksError(
                    f"The {type(module).__name__} has no module {self._module!r}. It has {there or 'none'}."
                ) from None
        children = [child for child in module.children() if any(True for _ in child.parameters())]
        own = any(True for _ in module.parameters(recurse=False))
        home = next(each.__module__ for each in type(module).__mro__ if "forward" in vars(each))
        whole = not home.startswith((*NAMES, "torch.")) and len(optimizers) < 2
        if not whole and len(children) == 1 and not own:
            return children[0], False
        return module, not whole


def _stepped(trainer: Any) -> int:
    """In how many batches an optimiser has stepped."""
    loop = trainer.fit_loop.epoch_loop
    return int(getattr(loop, "_batches_that_stepped", trainer.global_step))
