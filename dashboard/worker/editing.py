"""The edits of a side, on its model while a task of that side runs: the one place where every handler has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hookscope.dashboard.asking.edits import MOST
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.causes.patching import PLAIN, Around
from hookscope.hooks.edits import edit
from hookscope.hooks.errors import EditNotPossible, LayerNotExecuted
from hookscope.hooks.results.edits import Level, Scale


@contextlib.contextmanager
def editing(model: LoadedModel, task: Task) -> Iterator[None]:
    """Have the task's edits on the model in a `with` block, but where `task.plain` takes them off for a while.

    Raises:
        EditNotPossible, LayerNotFound, LayerNotExecuted: one of them cannot be; then none is, and there is no answer.
    """
    edits = task.side.edits
    if not edits:
        yield
        return
    _check(edits)
    try:
        with edit(model.module, edits, layers=model.info.layers) as made:
            task.plain = made.lifted
            yield
    except LayerNotExecuted:
        task.take_back()  # it was computed, and of the model as it is
        raise
    finally:
        task.plain = contextlib.nullcontext


def around_sides(other: LoadedModel, task: Task) -> Around:
    """What a question about two sides enters around the runs of each: A's edits are on already, and none of B's.

    Arguments:
        other: the model of the second side.
    """
    edits = task.question.against.edits
    if not edits and not task.side.edits:
        return PLAIN
    _check(edits)

    @contextlib.contextmanager
    def of_second() -> Iterator[None]:
        with task.plain(), edit(other.module, edits, layers=other.info.layers) if edits else contextlib.nullcontext():
            yield

    return PLAIN[0], of_second


def _check(edits: tuple[Scale | Level, ...]) -> None:
    if len(edits) > MOST:
        raise EditNotPossible(
            f"These are {len(edits)} edits, and the page makes at most {MOST} of a side. Take some back, above; "
            "`hs.edit` makes more."
        )
