"""Runs of an edited side begin at its edits while these are tried one after the other, as by a slider that is dragged.

What lies before the first edited layer is kept of one side and one layer at a time, once its edits have changed: to
mute a channel by a click costs nothing more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from hookscope.dashboard.asking.questions import ActivationOf, ClassMap, PredictionOf
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.causes.beginning import Prefix, prefix_of, single_call
from hookscope.hooks.methods import MAPS
from hookscope.hooks.results.outputs import AS_FOUND
from hookscope.hooks.results.targets import Like


class Kept:
    """What was computed before the edits of the side that was asked about last."""

    def __init__(self) -> None:
        self._about: tuple[Side, frozenset[tuple[str, int]]] | None = None
        self._edits: Any = ()
        self._built = False
        self._prefix: Prefix | None = None

    @contextlib.contextmanager
    def beginning_at_edits(self, model: LoadedModel, task: Task, prepared: Prepared) -> Iterator[None]:
        """Have the runs of a `with` block begin at the task's edits, where that gives the same; those are on already.

        Raises:
            Cancelled: nobody waits any more.
        """
        prefix = self._prefix_for(model, task, prepared)
        if prefix is None or not _reaches(prefix, model, task):
            yield
            return
        with prefix.replayed():
            yield
        if not prefix.intact:
            self._prefix = None

    def _prefix_for(self, model: LoadedModel, task: Task, prepared: Prepared) -> Prefix | None:
        side = task.side
        if not side.edits or side.second or side.captions or model.info.pictures:
            return None
        places = frozenset((each.layer, each.call or 0) for each in side.edits)
        about = replace(side, edits=(), reading=AS_FOUND), places
        if about != self._about:
            self._about, self._edits, self._built, self._prefix = about, side.edits, False, None
        elif not self._built and side.edits != self._edits and isinstance(task.question, PredictionOf):
            with task.plain():
                given = (prepared.tensor.to(model.device),)
                self._prefix = prefix_of(model.module, given, sorted(places), model.info.layers)
            self._built = True
        return self._prefix


def _reaches(prefix: Prefix, model: LoadedModel, task: Task) -> bool:
    """Whether a question is about nothing that lies before the edits."""
    asked = task.question
    if isinstance(asked, PredictionOf):
        return True
    if isinstance(asked, ClassMap):
        fused = any(isinstance(part, nn.MultiheadAttention) for part in model.module.modules())
        # torch's attention takes other kernels where autograd records, and so gives other bits
        if MAPS[asked.method].rule is None or isinstance(asked.target, Like) or fused:
            return False
    elif not isinstance(asked, ActivationOf):
        return False
    calls = [single_call(model.info.layers, unit.layer, unit.call) for unit in task.units]
    return all(call is not None and call.order >= prefix.order for call in calls)
