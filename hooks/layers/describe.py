"""What a recorded run says of a model's layers: their calls, their axes, and why some did not run."""

from __future__ import annotations

from torch import Tensor, nn

from hookscope.hooks.layers.names import every_name
from hookscope.hooks.layers.recording import record
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.results.looks import LayerInfo


def describe(model: nn.Module, *inputs: Tensor) -> tuple[LayerInfo, ...]:
    """What every layer is and did in one recorded forward pass.

    The modules come in registration order, the model itself ("") first; then the functional operations (`operation` is
    true) in execution order. An operation whose value is the output of a module without children is not listed again.

    Arguments:
        inputs: the model's positional arguments, e.g. float32 (image, channel, height, width).

    Raises:
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    named = [(names, module) for module, names in every_name(unwrap(model)).items()]
    return record(model, named, inputs)
