"""Why a layer did not run in a forward pass, as a sentence; as much as can be known from what was watched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hookscope.hooks.passes.registry import Placed
from hookscope.hooks.results.looks import ELSEWHERE, REMOVED


@dataclass(frozen=True)
class Watched:
    """What is known of a forward pass.

    Attributes:
        ran: whether a module or anything inside it was called; None where nobody looked.
        uses_weights: whether anything read the weights of a module that was not called; None where nobody looked.
        training: whether the pass was made in the model's own mode instead of eval mode.
        unseen: why a module that may have run was not seen, as a sentence; "" if it would have been.
    """

    ran: Callable[[nn.Module], bool | None]
    uses_weights: Callable[[nn.Module], bool | None]
    training: bool = False
    unseen: Callable[[nn.Module], str] = lambda module: ""


def why_not_run(
    model: nn.Module, name: str, module: nn.Module, parent: tuple[str, nn.Module] | None, watched: Watched
) -> str:
    """The reason that a layer was not called, or a sentence that says that it is not known.

    Arguments:
        model: the whole model. parent: name and module of the one that holds `module`; None for the model itself.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return "It is TorchScript, and hooks cannot be registered inside it."
    if is_exported(model):
        return (
            "The model is an exported program: its graph calls operators and not its layers. Open the Python model "
            "that it was made from, or what `torch.export.unflatten` makes of it."
        )
    if type(module).forward is nn.Module.forward:
        return f"{type(module).__name__} only holds other layers and is never called itself."
    if unseen := watched.unseen(module):
        return unseen
    if watched.ran(model) is False:
        return "The model itself did not run."
    if watched.ran(module):
        return "It is not called itself: another module calls its children one by one."
    uses_weights = watched.uses_weights(module)
    if parent is not None and (uses_weights or _reads_weights_of_its_parts(parent[1], module)):
        return f"{type(parent[1]).__name__} uses its weights without calling it."
    if parent is not None and watched.ran(parent[1]) is False:
        return f"Nothing in {parent[0]!r} ran in this forward pass."
    if not watched.training and "aux" in name.lower():
        return (
            "This forward pass did not call it. Auxiliary heads usually run only in training, and the model was in "
            "eval mode."
        )
    if not any(True for _ in module.parameters()):
        return "This forward pass did not call it; why is not known. It has no weights: a function may do its work."
    if uses_weights is None:
        return "This forward pass did not call it; why is not known."
    return "This forward pass did not call it or use its weights; why is not known."


def why_unseen(placed: Placed | None) -> str:
    """Why a hook was not called although its layer may have run, as a sentence; "" if nothing speaks for that."""
    if placed is None:
        return ""
    return REMOVED if placed.removed else ELSEWHERE if placed.elsewhere else ""


def not_called(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    chosen: Collection[str],
    called: Collection[str],
    training: bool,
    placed: Mapping[str, Placed],
) -> dict[str, str]:
    """Of the chosen layers those that were not called, in the order chosen, each with the reason.

    Arguments:
        layers: every module by its first name. called: the names of those chosen, and of the model, that were called.
        training: whether the model was left in its own mode. placed: the hooks, by the name of their layer.
    """
    parents = {child: (name, module) for name, module in layers.items() for child in module.children()}
    ran = {module for name, module in layers.items() if name in called}
    watched = {module for name, module in layers.items() if name in chosen}

    def ran_inside(module: nn.Module) -> bool | None:
        parts = set(module.modules())
        if module is model or parts & ran:
            return bool(ran)
        return False if parts <= watched else None

    names = {module: name for name, module in layers.items()}
    known = Watched(ran_inside, lambda module: None, training, lambda module: why_unseen(placed.get(names[module])))
    return {
        name: why_not_run(model, name, layers[name], parents.get(layers[name]), known)
        if name in layers
        else "No forward pass did it."
        for name in chosen
        if name not in called
    }


def is_exported(model: nn.Module) -> bool:
    """Whether a model is the module of a `torch.export` program, which calls none of the layers that it names."""
    if not isinstance(model, torch.fx.GraphModule):
        return False
    return not any(node.op == "call_module" and node.target != "_guards_fn" for node in model.graph.nodes)


def _reads_weights_of_its_parts(parent: nn.Module, module: nn.Module) -> bool:
    return isinstance(parent, nn.MultiheadAttention) and module is parent._modules.get("out_proj")
