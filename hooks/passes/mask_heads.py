"""What the mask head of torchvision's Mask R-CNN says, before its masks are laid over the picture.

The masks of the answer are shares that were resized and pasted, nearly 1 in the middle of an object, where their
gradient is nearly 0; the logits before have one everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from hookscope.hooks.passes.registry import hook

HEAD = "mask_predictor"  # as torchvision's RoIHeads call it


@contextlib.contextmanager
def watching_masks(model: nn.Module) -> Iterator[list[Tensor]]:
    """Find the logits of the mask heads that run in a `with` block, float (box, class, row, column), in order."""
    found: list[Tensor] = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.append(output)

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            head = getattr(module, HEAD, None)
            if type(module).__name__ == "RoIHeads" and isinstance(head, nn.Module):
                stack.enter_context(hook(head, "forward", look, layer=f"{name}.{HEAD}".lstrip(".")))
        yield found
