"""Activations while a model runs: `capture` for a `with` block of one's own, `stream` for one forward pass run here.

with capture(model, ["layer4", ":Conv2d"]) as seen:
    model(image)
seen["layer4"].value        # the tensor as the layer produced it
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.looks.delivery import Delivery
from hookscope.hooks.looks.records import Captured, Recorder
from hookscope.hooks.numbers.reductions import Distribution
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import check_supported, eager, evaluate, inspecting, locked, preserve, unwrap
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.looks import Activation, LayerInfo

Detail = Literal["exact", "approximate", "plain"]
DISTRIBUTIONS: Mapping[Detail, Distribution] = {"exact": True, "approximate": "approximate", "plain": False}


@dataclass(frozen=True)
class Numbers:
    """What is kept of a value in its place: the numbers of `results.looks.Statistics`.

    Attributes:
        detail: "exact" has quantiles and a histogram, and costs several times what the others cost; "approximate" reads
            them from bins, for about as much again; "plain" has none.
        layers: what `layers.describe.describe` said of this model. With it every output with a channel axis has numbers
            per channel, operations' and transformers' too; without it only convolutions and batch normalisations have
            them, because no tensor says which of its axes that is.
    """

    detail: Detail = "exact"
    layers: Sequence[LayerInfo] = ()


@contextlib.contextmanager
def capture(
    model: nn.Module,
    patterns: Pattern | Iterable[Pattern],
    *,
    inputs: bool = False,
    gradients: bool = False,
    numbers: Numbers | Detail | None = None,
    training: bool = False,
) -> Iterator[Captured]:
    """Record what layers produce during the forward passes of a `with` block; readable during and after it.

    Every call of a layer is kept, in execution order; nested outputs are flattened. What is kept was copied inside the
    hook, because the next layer may overwrite it (AlexNet's `features.0` is followed by an in-place ReLU). Only forward
    passes of this thread are recorded; `Captured.not_run` lists the chosen layers that none of them called, and why.
    The hooks are gone when the block ends, however it ends. Functional operations ("layer1.0/add", see
    `passes.operations`) are layers too; only when one is chosen are functions watched at all.

    Arguments:
        patterns: which layers; see `layers.names.select`.
        inputs: also record what each layer is given, positional and keyword arguments; with `gradients`, each input has
            a gradient too. Modules only: an operation has no hook before it.
        gradients: also remember where each value stands in the autograd graph, so that `Captured.differentiate` can be
            asked for exact gradients; the forward pass then has to record one.
        numbers: keep these numbers and no tensors: kilobytes instead of megabytes. A text is `Numbers` of that detail.
        training: leave the model in the mode it is in, for hooks on a training step. Otherwise it is in eval mode in
            the block, and its flags, buffers and random state are put back after it.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> with capture(net, ["0"]) as seen, torch.no_grad():
    ...     output = net(torch.zeros(1, 3, 8, 8))
    >>> seen["0"].value.shape
    torch.Size([1, 4, 6, 6])

    Raises:
        LayerNotFound: a pattern means nothing; nothing has been registered then.
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    chosen = select(model, patterns)
    kept = Numbers(numbers) if isinstance(numbers, str) else numbers
    recorder = Recorder(
        gradients=gradients,
        statistics_only=kept is not None,
        distribution=DISTRIBUTIONS[kept.detail] if kept else True,
        training=training,
        layers=kept.layers if kept else (),
    )
    with contextlib.ExitStack() as stack:
        check_supported(unwrap(model), gradients=gradients)
        stack.enter_context(locked(model))
        stack.enter_context(eager(model))
        if not training:
            stack.enter_context(preserve(unwrap(model)))
            evaluate(unwrap(model))
        begin = hook(unwrap(model), "forward_pre", recorder.begin, layer="")
        names, hookable = first_names(model), _hookable(chosen)
        for name, module in hookable.items():
            if inputs and names[module] == name:
                before = recorder.input_hook(name)
                stack.enter_context(hook(module, "forward_pre", before, layer=name))
        looks = tapping(hookable, names, recorder.output_hook)
        recorder.placed = {"": stack.enter_context(begin), **stack.enter_context(looks)}
        yield Captured(model, tuple(chosen), recorder)


def _hookable(chosen: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Without the parts that are TorchScript, unless nothing else was asked for: then registering says so."""
    found = {name: module for name, module in chosen.items() if not isinstance(module, torch.jit.ScriptModule)}
    return found or chosen


def stream(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]],
    deliver: Callable[[str, int, Activation | HooksError], None],
    layers: Sequence[LayerInfo],
    still_wanted: Callable[[str, int], bool] | None = None,
) -> None:
    """Run one forward pass and deliver each wanted activation at the moment its layer has it.

    The pass is stopped as soon as nothing more is wanted of it. It calls back instead of yielding, because a value
    can be handed out in the middle of a hook by a call alone: it is on its way while the model goes on.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments; they are copied.
        wanted: (layer name, 0-based call).
        deliver: gets the name and call that were asked, and the activation, inside the hook, in execution order; or, at
            the end, why there is none.
        layers: what `layers.describe.describe` said of this model; gives the axes, and which calls will come.
        still_wanted: asked before work is spent on an answer.

    >>> from hookscope.hooks.layers.describe import describe
    >>> net, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8)
    >>> stream(net, image, [("1", 0)], lambda *found: print(found[0], found[2].values.shape), describe(net, image))
    1 (4, 6, 6)

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
    """
    run = Delivery(model, wanted, deliver, layers, still_wanted)
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model))
        run.placed = stack.enter_context(tapping(run.modules, first_names(model), run.hook_of))
        stack.enter_context(cancelling())
        run.forward(model, nested.private(arguments.arguments(inputs), requires_grad=False))
    run.finish()
