"""What the callbacks of training frameworks share: a feed that begins and ends with the framework's training.

Whatever fails here is told once and ends the looking; the training goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.training.follow import Following
from hookscope.hooks.training.rows import names_of, rows
from hookscope.hooks.training.run import Settings
from hookscope.hooks.training.telling import Teller
from hookscope.hooks.training.watching import Metric
from hookscope.hooks.training.weights import inner_optimizers

NEXT = "the beginning of the next training"  # reads on behind "The run was ended by"


class Guest:
    """A feed inside somebody else's loop.

    Arguments:
        folder, settings, layers: as of `follow`. resume: whether a training goes on with the run that the folder holds;
            None where its first step says so. log: what is logged, see `rows.names_of`.

    A training that ends without saying so is over when the next one begins, or when nobody has this any more.

    Attributes:
        feed: once the training has begun; None before, and when it is over. over: whether something has failed.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        layers: Pattern | Iterable[Pattern] | None,
        resume: bool | None,
        log: bool | str | Iterable[str],
    ) -> None:
        self.names = names_of(log)
        self.feed: Following | None = None
        self.over = False
        self._folder, self._settings, self._layers, self._resume = folder, settings, layers, resume
        self._metrics: dict[str, Metric] = {}
        self._teller = Teller()
        self._told = -1  # the last look that was handed out

    def metric(self, name: str) -> Callable[[Metric], Metric]:
        """See `Following.metric`."""

        def add(function: Metric) -> Metric:
            self._metrics[name] = function
            if self.feed is not None:
                self.feed.metric(name)(function)
            return function

        return add

    def begin(
        self,
        model: nn.Module,
        optimizers: Any,
        scaler: Any,
        first: int,
        *,
        parts: bool = False,
        again: bool = False,
    ) -> None:
        """The training begins; one before it that never said that it ended has ended by this.

        Arguments:
            first: the number of its first step; above 0 it goes on with an earlier one. parts: whether only parts of
                the model are called. again: whether it tries once more what has failed in the same folder.
        """
        self.end(NEXT)
        resume = again or (first > 0 if self._resume is None else self._resume)
        settings = dataclasses.replace(self._settings, resume=resume)
        with self.harmless():
            self.over, self._told = False, -1
            feed = Following(model, self._folder, settings, self._layers, inner_optimizers(optimizers), scaler)
            for name, function in self._metrics.items():
                feed.metric(name)(function)
            if parts:
                feed.watch_parts()
            feed.open(first)
            self.feed = feed

    def keep_up(self, optimizers: Any, one: Any = None) -> None:
        """These are the optimisers now, whichever there were before; unless `one`, which is used now, is of those."""
        if self.feed is not None and (one is None or not self.feed.uses(inner_optimizers(one))):
            self.feed.use(inner_optimizers(optimizers))

    def fresh(self) -> tuple[int, dict[str, float]] | None:
        """The newest look's step and what is logged of it, once; None where there is nothing new."""
        look = None if self.feed is None else self.feed.latest
        if look is None or look.number == self._told or not self.names:
            return None
        self._told = look.number
        return look.step, rows(look, self.names)

    def end(self, stopped_by: str = "") -> None:
        """The training is over."""
        feed, self.feed = self.feed, None
        with self.harmless():
            if feed is not None:
                feed.close(stopped_by)

    @contextlib.contextmanager
    def harmless(self) -> Iterator[None]:
        """What fails in this block ends the looking, and nothing else."""
        try:
            yield
        except Exception as error:
            self.over = True
            self._teller.say(
                f"Hookscope looks at this training no more ({type(error).__name__}: {error!s:.300}), and the training "
                "goes on."
            )
            feed, self.feed = self.feed, None
            with contextlib.suppress(Exception):
                if feed is not None:
                    feed.close(type(error).__name__)

    def say(self, sentence: str) -> None:
        """Tell something once."""
        self._teller.say(sentence)

    def log(self, log: Callable[[], None]) -> None:
        """Hand numbers to somebody; what fails there ends the logging, and the feed goes on."""
        try:
            log()
        except Exception as error:
            self.names = ()
            self._teller.say(
                f"The layers' numbers could not be logged ({type(error).__name__}: {error!s:.300}), and are not logged "
                "any more; the feed has them, and the training goes on."
            )
