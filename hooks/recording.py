"""One recorded forward pass: every call of every module, what it returned, and who wrote over it afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hooks import nested
from hooks.modes import inspecting
from hooks.reasons import Watched, why_not_run
from hooks.registry import hook
from hooks.results import Call, LayerInfo
from hooks.shapes import Layouts

OWNER = "hookscope"
IN_PLACE = "an in-place operation"


def record(
    model: nn.Module, named: Sequence[tuple[Sequence[str], nn.Module]], inputs: tuple[Any, ...]
) -> tuple[LayerInfo, ...]:
    """Run the model once and describe every layer.

    Arguments:
        named: every module with all its names, the first one first, in registration order.
        inputs: the model's positional arguments.
    """
    try:
        # With gradients on, because without them the fused attention kernels run: their parts are never called, and
        # the counter does not know them (ViT-B/16: 11.27 G multiply-adds instead of 17.56).
        run = _run(model, named, inputs, gradients=True)
    except Exception:
        # Some models cannot build a graph, and the counter does not know every tensor type. If it was neither of
        # these, the second attempt raises the model's own error.
        run = _run(model, named, inputs, gradients=False)
    return run.layers()


def _run(
    model: nn.Module, named: Sequence[tuple[Sequence[str], nn.Module]], inputs: tuple[Any, ...], gradients: bool
) -> _Run:
    with contextlib.ExitStack() as stack:
        inner = stack.enter_context(inspecting(model, gradients=gradients))
        run = _Run(inner, named, inputs)
        for names, module in named:
            if isinstance(module, torch.jit.ScriptModule):
                continue
            for kind, function in (("forward_pre", run.begin), ("forward", run.end)):
                stack.enter_context(
                    hook(module, kind, function, layer=names[0], owner=OWNER, purpose="describing")  # type: ignore[arg-type]
                )
        stack.enter_context(_Writes(run))
        if gradients:
            run.counter = stack.enter_context(FlopCounterMode(display=False))
        inner(*nested.private(inputs, requires_grad=gradients))
    return run


@dataclass
class _Output:
    """A call's first output tensor, kept so that its memory is not given to another one."""

    call: Call
    tensor: Tensor | None


@dataclass
class _Layer:
    names: Sequence[str]
    outputs: list[_Output] = field(default_factory=list)
    flops: int = 0


class _Run:
    """What one forward pass did, filled by the hooks."""

    def __init__(self, model: nn.Module, named: Sequence[tuple[Sequence[str], nn.Module]], inputs: tuple[Any, ...]):
        self.model = model
        self.images = nested.images(inputs)
        picture = nested.first(inputs)
        size = (int(picture[1].shape[-2]), int(picture[1].shape[-1])) if picture and picture[1].ndim >= 3 else None
        self.layouts = Layouts(model, self.images, size)
        self.named = {module: _Layer(names) for names, module in named}
        self.parents = {child: module for module in self.named for child in module.children()}
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters() if p.numel()}
        self.used_weights: set[int] = set()
        self.counter: FlopCounterMode | None = None
        self.stack: list[tuple[nn.Module, int]] = []  # the calls under way, with the count of flops when they began
        self.by_storage: dict[int, list[_Output]] = {}
        self.calls = 0

    def begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.stack.append((module, self._flops()))

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        began = self._flops()
        while self.stack:  # calls that ended in an exception which the model caught have no end of their own
            inner, began = self.stack.pop()
            if inner is module:
                break
        layer = self.named[module]
        layer.flops += self._flops() - began
        found = [tensor for _, tensor in nested.tensors(output)]
        call = Call((), (), self.calls, dtype="", outputs=len(found))
        self.calls += 1
        tensor = None
        if found:
            # detached: shares memory, and does not keep the graph
            tensor = found[0].detach()
            layout = self.layouts.infer(module, tensor, [given for _, given in nested.tensors(args)])
            call = replace(
                call,
                shape=tuple(tensor.shape),
                axes=layout.axes,
                dtype=str(tensor.dtype).removeprefix("torch."),
                grid=layout.grid,
                prefix_tokens=layout.prefix_tokens,
            )
        layer.outputs.append(_Output(call, tensor))
        if tensor is not None and tensor.numel() and not tensor.is_meta and tensor.layout == torch.strided:
            self.by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(layer.outputs[-1])

    def written(self, tensor: Tensor) -> None:
        """An operator has written into this tensor: note it at every earlier output that lies there."""
        for output in self.by_storage.get(tensor.untyped_storage().data_ptr(), ()):
            if not output.call.overwritten_by and _overlap(output.tensor, tensor):
                output.call = replace(output.call, overwritten_by=self._who())

    def _who(self) -> str:
        """The layer that is running, if it is one without children: a block's own `out += identity` has no layer."""
        module = self.stack[-1][0] if self.stack else None
        return IN_PLACE if module is None or any(True for _ in module.children()) else self.named[module].names[0]

    def _flops(self) -> int:
        return self.counter.get_total_flops() if self.counter else 0

    def layers(self) -> tuple[LayerInfo, ...]:
        return tuple(self._info(module, layer) for module, layer in self.named.items())

    def _info(self, module: nn.Module, layer: _Layer) -> LayerInfo:
        flops = self._flops_of(module)
        return LayerInfo(
            name=layer.names[0],
            type=getattr(module, "original_name", type(module).__name__),
            parameters=sum(parameter.numel() for parameter in module.parameters()),
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
        return why_not_run(self.model, name, module, named, Watched(self._ran, self._uses_weights))

    def _uses_weights(self, module: nn.Module) -> bool:
        return any(p.numel() and p.untyped_storage().data_ptr() in self.used_weights for p in module.parameters())


class _Writes(TorchDispatchMode):
    """Sees every operator below autograd: which tensors it writes into, and whose weights it reads."""

    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run = run
        self.written: dict[Any, list[tuple[int, str]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for tensor in _strided([*args, *kwargs.values()]):
            storage = tensor.untyped_storage().data_ptr()
            if storage in self.run.weights:
                self.run.used_weights.add(storage)
        for index, name in self._writes_into(func):
            value = args[index] if index < len(args) else kwargs.get(name)
            for tensor in _strided(value):
                self.run.written(tensor)
        return result

    def _writes_into(self, func: Any) -> list[tuple[int, str]]:
        if func not in self.written:
            arguments = func._schema.arguments if func._schema.is_mutable else ()
            self.written[func] = [
                (index, argument.name)
                for index, argument in enumerate(arguments)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
        return self.written[func]


def _strided(value: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided and not leaf.is_meta and not leaf.is_nested:
            yield leaf


def _overlap(first: Tensor | None, second: Tensor) -> bool:
    """Whether two tensors of one storage span common bytes."""
    if first is None:
        return False
    return _span(first)[0] < _span(second)[1] and _span(second)[0] < _span(first)[1]


def _span(tensor: Tensor) -> tuple[int, int]:
    if not tensor.numel():
        return 0, 0
    last = sum((int(length) - 1) * int(stride) for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + (last + 1) * tensor.element_size()
