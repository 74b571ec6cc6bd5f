"""Which line of the model's code made the first value that is not finite: found by running a step's batch once more.

The run is `doctor.producers`': every functional call is looked at, and the one whose inputs are finite and whose output
is not is named; what comes of that value is not. Nothing of the run is kept in the model, as far as is known of it: see
`passes.traces`.
"""

from __future__ import annotations

import contextlib
import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hookscope.hooks.doctor.producers import Producer, Tracker
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import locked, preserve
from hookscope.hooks.passes.operations import is_whole
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.passes.running import following
from hookscope.hooks.passes.traces import without_traces
from hookscope.hooks.training.passes import Autocast
from hookscope.hooks.training.watching import PURPOSE

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent.parent), str(Path(__file__).resolve().parent.parent)
LINE_LIMIT = 160  # characters of a source line that are told


@dataclass(frozen=True)
class Made:
    """A call that made values that are not finite.

    Attributes:
        layer: where, as `layers.describe` names it. nan, inf: how many it made. weight: which weight of it was not
            finite already, "" if none was.
        place: the file's name, the line's number and the function. line: the source line; "" where it is not known.
    """

    layer: str
    nan: int
    inf: int
    weight: str
    place: str
    line: str


class _Telling(Tracker):
    """Remembers, too, which line of the model's own code a producer stands in."""

    def __init__(self, model: nn.Module, pictures: int) -> None:
        super().__init__(model, 0, pictures, {})
        self.lines_of: dict[tuple[str, int], tuple[str, str]] = {}

    def _produced(self, layer: str, call: int, *rest: Any, **more: Any) -> int:
        self.lines_of.setdefault((layer, call), _source())
        return super()._produced(layer, call, *rest, **more)


def find_producer(
    model: nn.Module, given: tuple[tuple[Any, ...], dict[str, Any]], autocast: Autocast, pictures: int, owner: str
) -> Made | None:
    """Run a step's batch once more, and name the first call that makes values that are not finite; None if none does.

    Arguments:
        model: unwrapped, in the mode in which it trains. given: its arguments.
    """
    names, args = first_names(model), nested.private(given, requires_grad=False)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(without_traces(model))
        tracker = _Telling(model, pictures)  # made here, or it would wait with the others
        stack.enter_context(preserve(model))
        stack.enter_context(looking(owner=owner, purpose=PURPOSE))
        stack.enter_context(torch.no_grad())
        stack.enter_context(autocast.again())
        for module, name in names.items():
            if isinstance(module, nn.SyncBatchNorm):
                module.training = False  # other processes do not run along
            if is_whole(module):
                stack.enter_context(hook(module, "forward", tracker.look, layer=name))
        stack.enter_context(following(names, tracker.stack))
        with tracker:
            output = model(*args[0], **args[1])
        tracker.end(output)
    producers = list(tracker.producers.values())
    if not producers:
        return None
    first = next((each for each in producers if each.reached), producers[0])
    return _made(first, tracker.lines_of.get((first.layer, first.call), ("", "")))


def _made(producer: Producer, source: tuple[str, str]) -> Made:
    weight = f"{producer.owner}.{producer.weight}".strip(".") if producer.weight else ""
    return Made(producer.layer, producer.nan, producer.inf, weight, *source)


def _source() -> tuple[str, str]:
    """The innermost line that is neither torch's nor ours: where it is, and its text."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if not file.startswith((_TORCH, *_OURS)) and not file.startswith("<"):
            text = linecache.getline(file, frame.f_lineno).strip()[:LINE_LIMIT]
            return f"{Path(file).name}, line {frame.f_lineno}, in {code.co_name}", text
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "", ""
