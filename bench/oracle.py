"""One model against the zero-leaf oracle: every leaf module's output and gradient, by `capture` and without it.

The oracle's hooks give back `output + zeros`. That sum is fresh memory, so nothing written in place afterwards reaches
the output itself, and the gradient with respect to the zeros is the one at the output. The price is a forward pass that
is not the model's own; `capture` does without, so the two are independent of each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import named_layers
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.records import Record
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import evaluate

TOLERANCE = 1e-4  # of a layer's largest value: what sums in another order may differ by
NOISE = 1e-5  # of the largest gradient anywhere: below it, a gradient that should be 0 is rounding
Key = tuple[str, int, str]  # layer, call, path


@dataclass(frozen=True)
class Verdict:
    """What comparing every leaf of one model found.

    Attributes:
        leaves: leaf modules that ran. never: leaf modules that did not, with the reason for each.
        tensors: how many outputs were compared, every call of every leaf.
        gradients: how many of them had a gradient to compare.
        wrong: layers whose output or gradient is not the oracle's, each with what was found; empty is the claim.
        unavailable: layers whose gradient `capture` declares unavailable, with its reason, although there is one.
        aliases: layers that give back the very tensor they were given and whose gradient differs from the oracle's
            for that reason: theirs is that of the tensor, over all who use it, not of the path through the layer.
        rounded: how many outputs equal the oracle's up to rounding only. Where a layer gives back a slice or a turned
            view, the oracle's sum lies otherwise in memory, and the layers after it sum in another order.
        error: the largest difference of a right gradient, in units of the layer's largest.
        same_output: whether the model's output was bit-identical with hooks on.
    """

    leaves: int
    never: dict[str, str]
    tensors: int
    gradients: int
    wrong: list[str]
    unavailable: list[str]
    aliases: list[str]
    rounded: int
    error: float
    same_output: bool


def judge(model: nn.Module, inputs: tuple[Any, ...], seed: int = 0) -> Verdict:
    """Compare `capture` with the oracle at every leaf module.

    Arguments:
        inputs: the model's positional arguments.
        seed: of the random weights with which the outputs are added up to one score, so that no two positions matter
            alike and nothing cancels.
    """
    evaluate(model)
    leaves = {name: module for name, module in named_layers(model).items() if not any(True for _ in module.children())}
    bare = model(*nested.private(inputs, requires_grad=True))
    expected = _Oracle(leaves)
    with expected.watching():
        out = model(*nested.private(inputs, requires_grad=True))
    expected.differentiate(_score(out, seed))
    with capture(model, list(leaves), gradients=True) as seen:
        hooked = model(*nested.private(inputs, requires_grad=True))
    same = all(torch.equal(a, b) for a, b in zip(_values(bare), _values(hooked), strict=True))
    seen.differentiate(_score(hooked, seed))
    return _compare({_key(record): record for record in seen}, expected, seen.not_run, len(leaves), same)


def give_values(model: nn.Module, seed: int = 0) -> None:
    """Fill weights that are all alike with random ones around what they were.

    Many models start with layers that contribute nothing (torchvision's ViT with a head of zeros, residual branches
    scaled by 0 or 1e-6); everything before them would have gradient 0, and a comparison of zeros proves nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if (
                parameter.numel()
                and parameter.is_floating_point()
                and bool((parameter == parameter.flatten()[0]).all())
            ):
                centre = float(parameter.flatten()[0])
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_((centre if centre > 0.01 else 0.1) * (1 + 0.2 * noise) if parameter.ndim else parameter)


@dataclass
class _Oracle:
    """Outputs, gradients and whether each output is the very tensor the layer was given."""

    leaves: dict[str, nn.Module]
    outputs: dict[Key, Tensor] = field(default_factory=dict)
    zeros: dict[Key, Tensor] = field(default_factory=dict)
    gradients: dict[Key, Tensor | None] = field(default_factory=dict)
    given_back: set[Key] = field(default_factory=set)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name, module in self.leaves.items():
                stack.enter_context(module.register_forward_hook(self._hook(name)))
            yield

    def _hook(self, name: str) -> Any:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, output: Any) -> Any:
            call = next(calls)
            given = {id(tensor) for _, tensor in nested.tensors(args)}
            keys = {id(tensor): (name, call, path) for path, tensor in nested.tensors(output)}
            self.outputs |= {(name, call, path): tensor.detach() for path, tensor in nested.tensors(output)}
            self.given_back |= {key for number, key in keys.items() if number in given}

            def add(tensor: Tensor) -> Tensor:
                if not tensor.requires_grad:
                    return tensor
                self.zeros[keys[id(tensor)]] = torch.zeros_like(tensor, requires_grad=True)
                return tensor + self.zeros[keys[id(tensor)]]

            return nested.map_tensors(output, add)

        return look

    def differentiate(self, score: Tensor) -> None:
        found = torch.autograd.grad(score, list(self.zeros.values()), allow_unused=True)
        self.gradients = dict(zip(self.zeros, found, strict=True))


def _compare(
    seen: dict[Key, Record], expected: _Oracle, never: dict[str, str], leaves: int, same_output: bool
) -> Verdict:
    wrong = [f"{_title(key)}: seen by one of the two only" for key in seen.keys() ^ expected.outputs.keys()]
    unavailable, aliases, error, gradients, rounded = [], [], 0.0, 0, 0
    largest = max((_largest(slope) for slope in expected.gradients.values()), default=0.0)
    for key in seen.keys() & expected.outputs.keys():
        record, true = seen[key], expected.outputs[key]
        if record.value is None or record.value.shape != true.shape or _difference(record.value, true) > TOLERANCE:
            wrong.append(f"{_title(key)}: another output")
        elif not torch.equal(record.value.nan_to_num(), true.nan_to_num()):
            rounded += 1
        slope, found = expected.gradients.get(key), record.gradient
        if key not in expected.zeros or (slope is None and found is None):
            continue  # no graph, or inside an object that the oracle cannot replace (a detector's list of images)
        gradients += 1
        difference = _difference(found, slope, NOISE * largest)
        if difference <= TOLERANCE:
            error = max(error, difference)
        elif found is None and "view" in record.reason_no_gradient:
            unavailable.append(_title(key))
        elif key in expected.given_back:
            aliases.append(_title(key))
        else:
            wrong.append(f"{_title(key)}: another gradient, by {difference:.2g} of the largest")
    return Verdict(
        leaves=leaves - len(never),
        never=never,
        tensors=len(seen),
        gradients=gradients,
        wrong=sorted(wrong),
        unavailable=sorted(unavailable),
        aliases=sorted(aliases),
        rounded=rounded,
        error=error,
        same_output=same_output,
    )


def _difference(found: Tensor | None, true: Tensor | None, floor: float = 0.0) -> float:
    """The largest difference in units of the largest true value, or of `floor`; a missing gradient counts as zeros."""
    if found is None or true is None:
        apart, scale = _largest(found) + _largest(true), floor
    else:
        apart, scale = _largest(found.nan_to_num().float() - true.nan_to_num().float()), max(_largest(true), floor)
    return apart / scale if scale else float(apart > 0)


def _largest(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None or not tensor.numel() else float(tensor.detach().float().abs().max())


def _key(record: Record) -> Key:
    return record.layer, record.call, record.path


def _title(key: Key) -> str:
    layer, call, path = key
    return layer + (f" call {call + 1}" if call else "") + (f" [{path}]" if path else "")


def _values(output: Any) -> list[Tensor]:
    return [tensor for _, tensor in nested.tensors(output) if tensor.is_floating_point()]


def _score(output: Any, seed: int) -> Tensor:
    """All floating outputs, each value weighted at random, as one number."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        (tensor * torch.randn(tensor.shape, generator=generator)).sum()
        for tensor in _values(output)
        if tensor.requires_grad and tensor.numel()
    ]
    if not parts:
        raise ValueError("The model's output holds nothing that depends on its weights or its input.")
    return torch.stack(parts).sum()
