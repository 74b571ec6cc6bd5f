"""One pass of a model of which every value is kept: what its modules and functions returned, and where they stand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.axes import hookable
from hookscope.hooks.layers.names import first_names, named_layers
from hookscope.hooks.looks.outputs import Answered, answer
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.graph import differentiate, overwritten_view, tap
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import split_name, tapping
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.parting import Place


@dataclass
class Run:
    """What one pass gave.

    Attributes:
        outputs: every call's first tensor, in execution order, as the module or function returned it. whole: all that
            it returned.
        edges: where the tensors stand in the graph. same: containers that returned what the last
            layer returned, and functions whose value their module returned as its own.
        branches: the addition that a call's output went into.
        began: of a module's call, how many calls had ended when it began: those that ended since are inside it.
    """

    answered: Answered
    outputs: dict[Place, Tensor] = field(default_factory=dict)
    whole: dict[Place, Any] = field(default_factory=dict)
    edges: dict[Place, Any] = field(default_factory=dict)
    same: set[Place] = field(default_factory=set)
    branches: dict[Place, str] = field(default_factory=dict)
    began: dict[Place, int] = field(default_factory=dict)


def seen(model: nn.Module, given: tuple[Any, ...], layers: Sequence[LayerInfo], *, gradients: bool) -> Run:
    """One pass, with copies of what every module and every function returned."""
    run = Run(Answered(None))
    held: list[Tensor] = []  # so that no other tensor gets the id of one
    version = -1  # of the last
    made: dict[int, Place] = {}
    kept_too: list[Tensor] = []
    functions_made: dict[int, tuple[Place, int]] = {}
    under_way: dict[str, list[int]] = {}
    additions = {info.name for info in layers if info.operation and info.type == "add"}

    def begin_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda *_: under_way.setdefault(name, []).append(len(run.whole))

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, output: Any) -> None:
            with torch._C.DisableTorchFunction():
                keep((name, next(calls)), args, output)

        return look

    def keep(place: Place, args: Any, output: Any) -> None:
        found = nested.first(output)
        is_function = split_name(place[0]) is not None
        if is_function:
            if found is None:
                return
            if place[0] in additions:
                for _, tensor in nested.tensors(args):
                    if id(tensor) in made:
                        run.branches.setdefault(made[id(tensor)], place[0])
        else:
            run.began[place] = under_way[place[0]].pop()
        run.whole[place] = nested.map_tensors(output, lambda tensor: tensor.detach().clone())
        if found is None:
            return
        nonlocal version
        tensor, before, version = found[1], version, found[1]._version
        if is_function:
            version = before
            functions_made[id(tensor)] = place, tensor._version
            kept_too.append(tensor)
        elif held and held[-1] is tensor and before == version:
            run.same.add(place)
        else:
            held.append(tensor)
            made[id(tensor)] = place
            function, written = functions_made.get(id(tensor), (None, -1))
            if function is not None and written == version:  # else it was written over, as an in-place ReLU does
                run.same.add(function)
        run.edges[place] = tap(tensor)
        kept = nested.first(run.whole[place])
        assert kept is not None
        run.outputs[place] = kept[1]

    with inspecting(model, gradients=gradients) as inner:
        modules = named_layers(inner)
        functions = {info.name: modules[info.name.rpartition("/")[0]] for info in layers if info.operation}
        chosen = dict(hookable(modules)) | functions
        with contextlib.ExitStack() as stack:
            for name, module in hookable(modules).items():
                stack.enter_context(hook(module, "forward_pre", begin_of(name), layer=name))
            stack.enter_context(tapping(chosen, first_names(inner), hook_of))
            stack.enter_context(cancelling())
            run.answered = answer(inner, *nested.private(given, requires_grad=gradients))
    return run


def gradients_of(score: Tensor, run: Run) -> dict[Place, Tensor]:
    """dM/db of every call that stands in the graph."""
    there = {place: edge for place, (edge, _) in run.edges.items() if edge is not None}
    if not there or not score.requires_grad:
        return {}
    slopes = differentiate(score, list(there.values()))
    return {
        place: slope.detach()
        for place, slope in zip(there, slopes, strict=True)
        if slope is not None and not overwritten_view(run.edges[place][1])
    }
