"""What a recorded run says of a model's layers: their calls, their axes, and why some did not run."""

from __future__ import annotations

from torch import Tensor, nn

from hookscope.hooks.layers.names import every_name
from hookscope.hooks.layers.recording import Recorded, record
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.results.looks import LayerInfo


def describe(model: nn.Module, *inputs: Tensor, training: bool = False) -> tuple[LayerInfo, ...]:
    """What every layer is and did in one recorded forward pass.

    The modules come in registration order, the model itself ("") first; then the functional operations (`operation` is
    true) in execution order. An operation whose value is the output of a module without children is not listed again.

    Arguments:
        inputs: the model's positional arguments, e.g. float32 (image, channel, height, width).
        training: run it in the mode that it is in, but for batch normalisations; else in evaluation mode.

    Raises:
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    return recorded(model, *inputs, training=training).layers


def recorded(model: nn.Module, *inputs: Tensor, training: bool = False) -> Recorded:
    """The same, and what the model returned.

    Raises:
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    named = [(names, module) for module, names in every_name(unwrap(model)).items()]
    return record(model, named, inputs, training)
