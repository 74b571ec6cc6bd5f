"""What each attention of a forward pass looks at, as a number that changes with it: to tell of what it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import first_names
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.attention_calls import Attended, AttentionCalls
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.running import Functions, Stack, following
from hookscope.hooks.results.looks import LayerInfo


def attended_digests(model: nn.Module, inputs: Any, layers: Sequence[LayerInfo]) -> dict[tuple[str, int], int]:
    """By the call that computes it, a digest of the first attention's keys (or of its values): alike for the same bits.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        layers: from `layers.describe.describe`; without an attention among them the model does not run.
    """
    attends = {each.name for each in layers if any(call.heads for call in each.calls)}
    found: dict[tuple[str, int], int] = {}
    if not attends:
        return found

    def note(attended: Attended) -> None:
        found.setdefault((attended.running.name, attended.running.call), _digest(attended.seen))

    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model))
        names = first_names(model)
        followed = {part: names[part] for module in names if names[module] in attends for part in module.modules()}
        running = Stack(followed)
        stack.enter_context(following(followed, running))
        stack.enter_context(Functions(AttentionCalls(running, note).see))
        model(*nested.private(arguments.arguments(inputs), requires_grad=False))
    return found


def _digest(tensor: Tensor) -> int:
    with torch.no_grad():
        return hash(tensor.detach().to("cpu", torch.float64).numpy().tobytes())
