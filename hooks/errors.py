"""Everything that `hooks` refuses, as sentences.

The text of each error is written for the person who asked: what is wrong, where, and what to do next.

    HooksError
    ├── LayerNotFound      no layer of that name; names what is near
    ├── LayerNotExecuted   the layer is there and this forward never called it
    ├── NoSpatialAxes      a map was asked of a layer that has no height and width
    ├── TargetNotFound     the class index does not exist in the model's output
    ├── NoGradient         nothing connects the target to the layer
    ├── NoAttention        the layer's own code computes no attention, or none that can be shown so
    ├── EditNotPossible    a layer's output cannot be changed as it was asked
    └── ModelNotSupported  hooks cannot see into this kind of model
    StopForward            (BaseException) private: everything asked for has been seen
    Cancelled              (BaseException) private: nobody waits for the answer any more
"""

from __future__ import annotations


class HooksError(Exception):
    """Base of every refusal; `str(error)` is a sentence for the person who asked."""


class LayerNotFound(HooksError):
    """No layer has this name."""


class LayerNotExecuted(HooksError):
    """The layer exists, and this forward pass did not call it (so often)."""


class NoSpatialAxes(HooksError):
    """The layer's activation has no height and width to draw a map on."""


class TargetNotFound(HooksError):
    """The class index is not one of the model's outputs."""


class NoGradient(HooksError):
    """No path of the autograd graph leads from the target to the layer."""


class NoAttention(HooksError):
    """The layer computes no attention itself, or none of the kind asked for."""


class EditNotPossible(HooksError, ValueError):
    """A layer's output cannot be changed so: it has no such channel, or cannot have such a value."""


class ModelNotSupported(HooksError):
    """Hooks cannot be registered on, or do not fire in, this kind of model."""


class StopForward(BaseException):
    """Ends a forward pass early.

    Derives from `BaseException`, so that a model's own `except Exception` cannot swallow it.
    """


class Cancelled(BaseException):
    """Ends a forward pass whose answer nobody waits for any more; a `BaseException` for the same reason."""


def titled(name: str) -> str:
    """A layer at the beginning of a sentence: "Layer 'conv1'", and "The model" for the one that has no name."""
    return f"Layer {name!r}" if name else "The model"


def called(name: str) -> str:
    """A layer inside a sentence."""
    return f"layer {name!r}" if name else "the model"
