"""One recorded forward pass: every call of every module, what it returned, and who wrote over it afterwards."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from hookscope.hooks.layers.packed import count_learnt
from hookscope.hooks.layers.reasons import Watched, why_not_run, why_unseen
from hookscope.hooks.layers.shapes import Layout, Layouts
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.attention_calls import Attended, AttentionCalls, by_windows, over_channels
from hookscope.hooks.passes.detected import by_picture
from hookscope.hooks.passes.endings import Endings
from hookscope.hooks.passes.from_weights import Constants
from hookscope.hooks.passes.modes import inspecting, random_digest
from hookscope.hooks.passes.operations import SEPARATOR, Namer
from hookscope.hooks.passes.raw_rows import are_scores, rows
from hookscope.hooks.passes.registry import Placed, hook
from hookscope.hooks.passes.running import Functions, Running, Stack
from hookscope.hooks.passes.writes import Writes, overlap
from hookscope.hooks.results import raw_boxes
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.outputs import Output, form_of

OWNER = "hookscope"
IN_PLACE = "an in-place operation"
ROUNDED = 1e-3  # by which a sum of shares, or a length, may miss 1: half precision has three digits


@dataclass(frozen=True)
class Recorded:
    """What one run of a model showed.

    Attributes:
        layers: see `layers.describe.describe`. outputs: every floating tensor that the model returned.
        returned: what it returned where that is no floating tensor, in words; "" where one is.
        draws: whether its pass has drawn random numbers.
    """

    layers: tuple[LayerInfo, ...]
    outputs: tuple[Output, ...]
    returned: str = ""
    draws: bool = False


def record(
    model: nn.Module,
    named: Sequence[tuple[Sequence[str], nn.Module]],
    inputs: tuple[Any, ...],
    training: bool = False,
) -> Recorded:
    """Run the model once and describe every layer, and what it returned.

    Arguments:
        named: every module with all its names, the first one first, in registration order.
        inputs: the model's positional arguments.
        training: in the mode that it is in, see `passes.modes.inspecting`.
    """
    try:
        # With gradients on, because without them the fused attention kernels run: their parts are never called, and
        # the counter does not know them (ViT-B/16: 11.27 G multiply-adds instead of 17.56).
        run = _run(model, named, inputs, gradients=True, training=training)
    except Exception:
        # Some models cannot build a graph, and the counter does not know every tensor type. If it was neither of
        # these, the second attempt raises the model's own error.
        run = _run(model, named, inputs, gradients=False, training=training)
    return Recorded(run.layers(), run.outputs, run.other, run.draws)


def _run(
    model: nn.Module,
    named: Sequence[tuple[Sequence[str], nn.Module]],
    inputs: tuple[Any, ...],
    gradients: bool,
    training: bool,
) -> _Run:
    with contextlib.ExitStack() as stack:
        inner = stack.enter_context(inspecting(model, gradients=gradients, training=training))
        run = _Run(inner, named, inputs)
        functions = Functions(run.see)
        begin, end = functions.unseeing(run.begin), functions.unseeing(run.end)
        for names, module in named:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for kind, function in (("forward_pre", begin), ("forward", end)):
                placed = hook(
                    module,
                    kind,  # type: ignore[arg-type]
                    function,
                    layer=names[0],
                    owner=OWNER,
                    purpose="describing",
                    always=kind == "forward",
                )
                run.placed[module] = stack.enter_context(placed)  # the forward hook's, which comes second
        stack.enter_context(functions)
        stack.enter_context(Writes(functions.unseeing(run.written), functions.unseeing(run.read)))
        if gradients:
            run.counter = FlopCounterMode(display=False)
            run.counter.mod_tracker = _WholeRun()  # type: ignore[assignment]
            stack.enter_context(run.counter)
        before = random_digest()
        value = inner(*nested.private(inputs, requires_grad=gradients))
        run.draws = random_digest() != before
        run.outputs = run.returned(value)
        run.other = "" if run.outputs else in_words(value)
    return run


class _WholeRun:
    """In place of the counter's own tracker of modules, which hooks each of them and takes a third of the run's time.

    What each module did is known here from when it began and ended.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


@dataclass
class _Output:
    """A call's first output tensor, kept so that its memory is not given to another one."""

    call: Call
    tensor: Tensor | None


@dataclass
class _Layer:
    """A module, or an operation: then with its function's name as type."""

    names: Sequence[str]
    outputs: list[_Output] = field(default_factory=list)
    flops: int = 0
    type: str = ""


class _Run:
    """What one forward pass did, filled by the hooks."""

    def __init__(self, model: nn.Module, named: Sequence[tuple[Sequence[str], nn.Module]], inputs: tuple[Any, ...]):
        self.model = model
        self.images = arguments.images(inputs)
        picture = nested.first(inputs)
        plane = picture is not None and picture[1].ndim >= 3
        self.size = (int(picture[1].shape[-2]), int(picture[1].shape[-1])) if picture and plane else None
        self.layouts = Layouts(model, self.images, self.size)
        self.named = {module: _Layer(names) for names, module in named}
        self.placed: dict[nn.Module, Placed] = {}
        self.by_name = {layer.names[0]: layer for layer in self.named.values()}
        self.parents = {child: module for module in self.named for child in module.children()}
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters() if p.numel()}
        self.used_weights: set[int] = set()
        self.constants = Constants(model)
        self.counter: FlopCounterMode | None = None
        self.stack = Stack({module: names[0] for names, module in named})
        self.flops: dict[Running, int] = {}  # the count when a call began
        self.attentions: dict[Running, Attended] = {}  # the first of each call
        self.namer = Namer(self.stack)
        self.attention = AttentionCalls(self.stack, self.attended)
        self.operations: dict[str, _Layer] = {}
        self.results: dict[Running, list[tuple[Tensor, _Layer]]] = {}  # what modules without children have computed
        self.by_storage: dict[int, list[_Output]] = {}
        self.calls = 0
        self.endings = Endings()
        self.functions = 0  # that have run
        self.born: Any = WeakTensorKeyDictionary()  # what they returned: how many had run before
        self.outputs: tuple[Output, ...] = ()
        self.other = ""
        self.draws = False

    def begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.flops[self.stack.begin(module)] = self._flops()

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        running = self.stack.end(module)
        if running is not None and running.raised:
            self.results.pop(running, None)
            return
        layer = self.named[module]
        attended = None
        if running is not None:
            layer.flops += self._flops() - self.flops[running]
            attended = self.attentions.get(running)
            self._drop_output(running, output)
        found = list(nested.tensors(output))
        given = [tensor for _, tensor in nested.tensors(args)]
        ended = self._output(found, lambda tensor: self.layouts.infer(module, tensor, given))
        if attended is not None and over_channels(attended, ended.call):
            ended.call = replace(ended.call, channel_heads=attended.heads)
        elif attended is not None:
            ended.call = replace(ended.call, heads=1 if by_windows(attended.shape, ended.call) else attended.heads)
        layer.outputs.append(ended)

    def see(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """A functional call: it may be attention, and it may be an operation of its own."""
        self.attention.see(function, args, kwargs, result)
        self.endings.see(function, args, kwargs, result)
        self.functions += 1
        for _, tensor in nested.tensors(result):
            self.born[tensor] = self.functions
        operation = self.namer.operation(function, args, kwargs, result)
        constant = self.constants.follow(function, args, kwargs, result)
        if operation is None or constant:
            return
        found = list(nested.tensors(result))
        given = [tensor for _, tensor in nested.tensors(operation.args)]
        layer = self.operations.setdefault(operation.name, _Layer([operation.name], type=operation.function))
        layer.outputs.append(
            self._output(found, lambda tensor: self.layouts.infer_operation(operation.function, tensor, given))
        )
        if not any(True for _ in operation.running.module.children()):
            self.results.setdefault(operation.running, []).append((found[0][1], layer))

    def _drop_output(self, running: Running, output: Any) -> None:
        """An operation whose value is its module's output is that layer, and not listed a second time."""
        returned = nested.first(output)
        for tensor, layer in self.results.pop(running, ()):
            if returned is not None and tensor is returned[1]:
                layer.outputs.pop()

    def attended(self, attended: Attended) -> None:
        self.attentions.setdefault(attended.running, attended)

    def _output(self, found: Sequence[tuple[str, Tensor]], infer: Callable[[Tensor], Layout]) -> _Output:
        """A call that has just ended, remembered with the memory of its first tensor."""
        call = Call((), (), self.calls, dtype="", outputs=len(found))
        self.calls += 1
        tensor = None
        if found:
            # detached: shares memory, and does not keep the graph
            tensor = found[0][1].detach()
            layout = self.layouts.constant(tensor) if self.constants.holds(tensor) else infer(tensor)
            call = replace(
                call,
                shape=tuple(tensor.shape),
                axes=layout.axes,
                dtype=str(tensor.dtype).removeprefix("torch."),
                grid=layout.grid,
                prefix_tokens=layout.prefix_tokens,
                frames=layout.frames,
                path=found[0][0],
            )
        output = _Output(call, tensor)
        if tensor is not None and tensor.layout == torch.strided and (place := nested.memory(tensor)):
            self.by_storage.setdefault(place, []).append(output)
        return output

    def written(self, tensor: Tensor) -> None:
        """An operator has written into this tensor: note it at every earlier output that lies there."""
        place = tensor.untyped_storage().data_ptr()
        left = []  # what is noted once is not looked at again, or each of 1,000 in-place ReLUs finds all before it
        for output in self.by_storage.get(place, ()):
            if overlap(output.tensor, tensor):
                output.call = replace(output.call, overwritten_by=self._who())
            else:
                left.append(output)
        if place in self.by_storage:
            self.by_storage[place] = left

    def read(self, tensor: Tensor) -> None:
        """An operator takes this tensor: it may be a weight."""
        storage = tensor.untyped_storage().data_ptr()
        if storage in self.weights:
            self.used_weights.add(storage)

    def _who(self) -> str:
        """The layer that is running, if it is one without children: a block's own `out += identity` has no layer."""
        running = self.stack.innermost
        return IN_PLACE if running is None or any(True for _ in running.module.children()) else running.name

    def _flops(self) -> int:
        return self.counter.get_total_flops() if self.counter else 0

    def returned(self, value: Any) -> tuple[Output, ...]:
        """What the model returned."""
        found = nested.tensors(by_picture(value))
        return tuple(self._returned(path, tensor) for path, tensor in found if tensor.is_floating_point())

    def _returned(self, path: str, tensor: Tensor) -> Output:
        shape = tuple(tensor.shape)
        form = form_of(path, shape, self.images)
        ended = self.endings.of(tensor)
        stride = self.size[0] / shape[2] if self.size and form == "pixels" else math.nan
        unit, shares = _norms(tensor) if form == "vector" and len(shape) > 1 else (False, False)
        ending = ended.kind if ended else ""
        per_cell = raw_boxes.boxes_per_cell(shape, self.size) if form == "other" else 0
        if per_cell and are_scores(rows(tensor.detach())[:, raw_boxes.BOX :]):
            form = "raw boxes"
        return Output(path, shape, form, ending, self.born.get(tensor, 0), stride, unit, shares, per_cell)

    def layers(self) -> tuple[LayerInfo, ...]:
        self._renumber()
        modules = [self._info(module, layer) for module, layer in self.named.items()]
        operations = [
            LayerInfo(
                name=layer.names[0],
                type=layer.type,
                parameters=0,
                multiply_adds=None,
                calls=tuple(output.call for output in layer.outputs),
                leaf=True,
                aliases=tuple(self._operation_aliases(layer.names[0])),
                operation=True,
            )
            for layer in self.operations.values()
            if layer.outputs
        ]
        return (*modules, *operations)

    def _operation_aliases(self, name: str) -> list[str]:
        module, _, operation = name.rpartition(SEPARATOR)
        layer = self.by_name[module]
        return [alias + SEPARATOR + operation for alias in layer.names[1:]]

    def _renumber(self) -> None:
        """Count the calls that are listed without gaps, in the order in which they ended."""
        listed = [output for layer in (*self.named.values(), *self.operations.values()) for output in layer.outputs]
        for order, output in enumerate(sorted(listed, key=lambda output: output.call.order)):
            output.call = replace(output.call, order=order)

    def _info(self, module: nn.Module, layer: _Layer) -> LayerInfo:
        flops = self._flops_of(module)
        return LayerInfo(
            name=layer.names[0],
            type=getattr(module, "original_name", type(module).__name__),
            parameters=count_learnt(module),
            multiply_adds=None if flops is None else flops // 2 // self.images,
            calls=tuple(output.call for output in layer.outputs),
            leaf=not any(True for _ in module.children()),
            reason_not_run="" if layer.outputs else self._reason(module, layer.names[0]),
            aliases=tuple(layer.names[1:]),
        )

    def _flops_of(self, module: nn.Module) -> int | None:
        if self.counter is None:
            return None
        if self.named[module].outputs:
            return self.named[module].flops
        parts = [self._flops_of(child) for child in module.children() if child in self.named]
        known = [part for part in parts if part is not None]
        return sum(known) if known else None  # a list of layers is never called: what its children did

    def _ran(self, module: nn.Module) -> bool:
        return any(self.named[part].outputs for part in module.modules() if part in self.named)

    def _reason(self, module: nn.Module, name: str) -> str:
        parent = self.parents.get(module)
        named = None if parent is None else (self.named[parent].names[0], parent)
        return why_not_run(self.model, name, module, named, Watched(self._ran, self._uses_weights, unseen=self._unseen))

    def _unseen(self, module: nn.Module) -> str:
        return why_unseen(self.placed.get(module))

    def _uses_weights(self, module: nn.Module) -> bool:
        return any(p.numel() and p.untyped_storage().data_ptr() in self.used_weights for p in module.parameters())


def in_words(value: Any) -> str:
    """What a model returned that holds no floating tensor."""
    tensors = [each for _, each in nested.tensors(value)]
    if any(each.is_complex() for each in tensors):
        return "complex numbers"
    if any(each.dtype == torch.bool for each in tensors):
        return "yes or no (bool)"
    if tensors:
        return "whole numbers"
    return "nothing" if value is None else f"{type(value).__module__}.{type(value).__qualname__}"


def _norms(tensor: Tensor) -> tuple[bool, bool]:
    """Whether the numbers of each image have length 1, and whether they are shares that add up to 1."""
    numbers = tensor.detach().cpu().double().flatten(1)
    lengths, sums = (numbers.norm(dim=1) - 1).abs(), (numbers.sum(1) - 1).abs()
    return bool((lengths < ROUNDED).all()), bool((sums < ROUNDED).all() and (numbers >= 0).all())
