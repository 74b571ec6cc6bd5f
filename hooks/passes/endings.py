"""What stood before the last softmax or sigmoid of a forward pass: the logits that a target's gradient needs.

A share that is nearly 1 has a gradient that is nearly 0, so a model that ends in a softmax is explained by the numbers
that go into it. They are found by watching the functions that run, in modules or outside of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from hookscope.hooks.passes.operations import function_name, unwatched
from hookscope.hooks.passes.running import Functions
from hookscope.hooks.results.outputs import Ending

_ENDINGS: dict[str, Ending] = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "expit": "sigmoid",
}
# What leaves every number what it is, so that it may as well be done to the logits.
_CARRIED_NAMES = """
    squeeze unsqueeze view reshape flatten unflatten getitem select narrow contiguous clone permute transpose movedim
"""
_CARRIED = frozenset(_CARRIED_NAMES.split())
_CAST = frozenset(("float", "double", "half", "bfloat16", "to", "type", "cpu"))  # which the logits need not be


@dataclass(frozen=True)
class Ended:
    """A tensor that came of a softmax or sigmoid.

    Attributes:
        kind: of which. before: what stood before it, of the same shape, in the same graph.
    """

    kind: Ending
    before: Tensor


class Endings:
    """The tensors of a pass that came of a softmax or sigmoid, as long as they are alive."""

    def __init__(self) -> None:
        self._found: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Ended | None:
        """What a tensor came of, if it came of a softmax or sigmoid and nothing changed it since."""
        found: Ended | None = self._found.get(tensor)
        return found

    def see(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Look at a functional call after it returned."""
        given = args[0] if args else kwargs.get("input")
        if not isinstance(result, Tensor) or not isinstance(given, Tensor):
            return
        name = function_name(function).removeprefix("special_")
        with torch._C.DisableTorchFunction():  # what is done here is none of the model's functions
            self._note(name, function, (given, *args[1:]), kwargs, result)

    def _note(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
    ) -> None:
        given: Tensor = args[0]
        kind = _ENDINGS.get(name)
        if kind:
            before = _inverted(kind, result) if result is given else given
            self._found[result] = Ended(kind, before)
            return
        known = self.of(given)
        if result is given:  # written in place: it is something else by now
            self._found.pop(given, None)
        elif known is not None and name == "exp" and known.kind == "log_softmax":
            self._found[result] = Ended("softmax", known.before)
        elif known is not None and name in _CAST:
            self._found[result] = known
        elif known is not None and name in _CARRIED:
            rest = {key: value for key, value in kwargs.items() if key != "input"}
            self._found[result] = Ended(known.kind, function(known.before, *args[1:], **rest))


def _inverted(kind: Ending, result: Tensor) -> Tensor:
    """The numbers before one that was written in place, as far as they can be told from the shares."""
    if kind == "sigmoid":
        return torch.logit(result)
    return result if kind == "log_softmax" else result.log()


@contextlib.contextmanager
def watching_endings(model: nn.Module) -> Iterator[Endings]:
    """Find the endings of the passes in a `with` block.

    torch's attention runs unwatched, and so by the kernels that it takes otherwise: its softmax is no answer.
    """
    endings = Endings()
    modules = {module: name for name, module in model.named_modules()}
    with unwatched(modules), Functions(endings.see):
        yield endings
