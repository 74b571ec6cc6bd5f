"""One object that collects what layers compute over one batch or many: statistics, dead channels, gradients, features.

    diagnostics = Diagnostics(model, [":Conv2d", ":ReLU"])
    for batch in batches:
        diagnostics.run(batch)           # or: with diagnostics.watch(): model(batch)
    diagnostics.summary("layer4.1.relu").statistics.std
    diagnostics.dead_channels()
    diagnostics.compare(other)           # a second object that saw other inputs

Numbers are reduced inside the hook and merged exactly; no activation is kept that was not asked for, no hook outlives
its block, and the model is held by a weak reference only.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hookscope.hooks.datasets.comparison import compare
from hookscope.hooks.datasets.summarising import summarise
from hookscope.hooks.errors import HooksError, LayerNotExecuted, NoGradient, TargetNotFound
from hookscope.hooks.layers.axes import Axes, leaves
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.graph import NOT_RECORDED, differentiate, overwritten_view, tap
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import check_supported, eager, evaluate, inspecting, locked, preserve, unwrap
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.passes.running import recomputing
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.merging import complete, merge_summaries
from hookscope.hooks.results.summaries import DeadChannel, LayerShift, LayerSummary

Of = Literal["output", "gradient"]
Key = tuple[str, int, Of]
Score = Callable[[Any], Tensor]
Watched = tuple[Tensor, int] | None


class Diagnostics:
    """Collects statistics of layers over every input that it is shown.

    Arguments:
        model: held weakly: drop it and it is gone.
        layers: see `layers.names.select`; by default every module without children. Functional operations
            ("layer1.0/relu") can be named too.
        gradients: also summarise the gradient of a score with respect to each layer's output.
        features: of how many inputs to keep the activations themselves, the first that come; 0 keeps none.
        threshold: a channel fires where the magnitude of a value is above it. 0 is right after ReLU; GELU, SiLU and
            Hardswish saturate near 0 and not at it, so take e.g. 0.01 there.
        owner, purpose: what `passes.registry.live_hooks` shows.

    What each axis means is learnt from the first image of the first batch, which is therefore run once more; and once
    more in training mode, where training is watched, because some layers run only there, and some otherwise.

    Raises:
        LayerNotFound: a pattern means nothing.
        ModelNotSupported: hooks cannot see into this kind of model.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Pattern | Iterable[Pattern] | None = None,
        *,
        gradients: bool = False,
        features: int = 0,
        threshold: float = 0.0,
        owner: str = "user",
        purpose: str = "diagnostic",
    ) -> None:
        check_supported(unwrap(model))
        chosen = select(model, "*" if layers is None else layers)
        if layers is None:
            chosen = leaves(chosen)
        self.layers = tuple(chosen)
        self.gradients = gradients
        self.threshold = threshold
        self.owner = owner
        self.purpose = purpose
        self._model = weakref.ref(model)
        self._title = type(unwrap(model)).__name__
        self._keep = features
        self._axes: Axes | None = None
        self._axes_in_training: Axes | None = None
        self._layers: tuple[LayerInfo, ...] = ()
        self._summaries: dict[Key, LayerSummary] = {}
        self._features: dict[tuple[str, int], tuple[Tensor, ...]] = {}

    @contextlib.contextmanager
    def watch(self, *, training: bool = False) -> Iterator[Watch]:
        """Add every forward pass of the model in the block; a block that ends in an exception adds nothing.

        Arguments:
            training: leave the model in the mode it is in. Otherwise it is in eval mode in the block, and handed back
                as it was.
        """
        model = self._alive()
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(model))
            stack.enter_context(eager(model))
            if not training:
                stack.enter_context(preserve(unwrap(model)))
                evaluate(unwrap(model))
            yield stack.enter_context(self._hooked(model, lenient=True))

    def run(self, inputs: Any, target: int | Score | None = None) -> Any:
        """Show it one batch; gives the model's output.

        Arguments:
            inputs: the model's argument, or a tuple of positional arguments; they are copied.
            target: with `gradients`: a class index, whose logits are summed over the images; a function from the
                model's output to one number; or None for each image's own first class.

        Raises:
            TargetNotFound: there is no such class in the output.
        """
        model = self._alive()
        with inspecting(model, gradients=self.gradients) as inner, self._hooked(model) as step:
            output = inner(*nested.private(arguments.arguments(inputs), requires_grad=self.gradients))
            if self.gradients:
                step.differentiate(target(output) if callable(target) else _class_score(output, target))
        return nested.map_tensors(output, Tensor.detach)

    def summaries(self, of: Of = "output") -> tuple[LayerSummary, ...]:
        """What was collected, in the order in which the layers ran; of the outputs, or of their gradients."""
        return tuple(self._complete(key) for key in self._summaries if key[2] == of)

    def summary(self, layer: str, call: int = 0, of: Of = "output") -> LayerSummary:
        """What was collected of one call of a layer.

        Raises:
            LayerNotExecuted: it was not chosen, or not called yet.
        """
        if (layer, call, of) not in self._summaries:
            known = ", ".join(repr(key[0]) for key in list(self._summaries)[:4]) or "nothing yet"
            raise LayerNotExecuted(
                f"Nothing was collected of the {of} of layer {layer!r}, call {call}. There is: {known}."
            )
        return self._complete((layer, call, of))

    def features(self, layer: str, call: int = 0) -> Tensor:
        """The kept activations of a layer, joined along the image axis.

        Raises:
            LayerNotExecuted: none were kept. HooksError: they are of pictures of several sizes.
        """
        kept = self._features.get((layer, call))
        if not kept:
            raise LayerNotExecuted(
                f"No features of layer {layer!r}, call {call}, were kept. Use `Diagnostics(..., features=8)`."
            )
        axis = self._axes.image(layer, call, kept[0]) if self._axes else None
        if len({(*part.shape[: axis or 0], *part.shape[(axis or 0) + 1 :]) for part in kept}) > 1:
            sizes = ", ".join(dict.fromkeys(" x ".join(map(str, part.shape)) for part in kept))
            raise HooksError(
                f"The kept features of layer {layer!r} are of pictures of several sizes ({sizes}), so they are no one "
                "tensor. Show it pictures of one size, or keep features of fewer."
            )
        return torch.cat(kept, axis or 0)

    def maps(self, layer: str, call: int = 0) -> np.ndarray | None:
        """The feature maps of the first kept image, float32 (channel, height, width); None where there are none."""
        kept = self._features.get((layer, call))
        return self._axes.maps(layer, call, kept[0]) if kept and self._axes else None

    def dead_channels(
        self, layers: Pattern | Iterable[Pattern] | None = None, *, share: float = 0.0
    ) -> tuple[DeadChannel, ...]:
        """The channels that fired in no input, in the order of the layers.

        Arguments:
            layers: where to look; by default after the activation functions, because a negative value before one is
                no sign of death.
            share: also list channels that fired in up to this share of the inputs, 0..1.
        """
        names = None if layers is None else set(select(self._alive(), layers))
        return tuple(
            channel
            for summary in self.summaries()
            if (summary.activation if names is None else summary.layer in names)
            for channel in _dead(summary, share)
        )

    def compare(self, other: Diagnostics) -> tuple[LayerShift, ...]:
        """How far the other object's inputs part from this one's at each layer, the furthest first.

        Raises:
            HooksError: the two have no layer in common.
        """
        return compare(self.summaries(), other.summaries())

    def reset(self) -> None:
        """Forget everything that was collected."""
        self._summaries, self._features = {}, {}

    def _complete(self, key: Key) -> LayerSummary:
        """With quantiles and histogram, which are made when somebody looks, and not in every step of a training."""
        found = self._summaries[key]
        if not found.statistics.approximate:
            found = self._summaries[key] = complete(found)
        return found

    def _alive(self) -> nn.Module:
        model = self._model()
        if model is None:
            raise HooksError(f"The {self._title} that this Diagnostics looks at is gone: keep a reference to it.")
        return model

    @contextlib.contextmanager
    def _hooked(self, model: nn.Module, *, lenient: bool = False) -> Iterator[Watch]:
        step = Watch(self, lenient)
        with contextlib.ExitStack() as stack:
            with looking(owner=self.owner, purpose=self.purpose):
                stack.enter_context(hook(unwrap(model), "forward_pre", step.begin, layer=""))
                stack.enter_context(tapping(select(model, self.layers), first_names(model), step.look))
            yield step
        self._summaries, self._features = step.summaries, step.kept


class Watch:
    """What one `with diagnostics.watch()` block adds.

    Arguments:
        lenient: whether the forward passes are somebody else's, whose steps must not fail because they are watched:
            then it stops watching where it fails itself, and warns once.
    """

    def __init__(self, diagnostics: Diagnostics, lenient: bool = False) -> None:
        self._diagnostics = diagnostics
        self._lenient = lenient
        self._over = False
        self.summaries = dict(diagnostics._summaries)
        self.kept = dict(diagnostics._features)
        self._calls: dict[str, int] = {}
        self._edges: dict[tuple[str, int], tuple[nn.Module, GradientEdge, Watched]] = {}
        self._learning = False
        self._axes = diagnostics._axes or Axes(())

    def begin(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        """Before each forward pass: count the calls anew, and learn once what the axes mean."""
        if self._learning or self._over or recomputing():
            return
        with self._harmless():
            self._begin(module, args, kwargs)

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not self._lenient:
                raise
            self._over = True
            warnings.warn(
                f"Hookscope stopped watching {self._diagnostics._title}, and the step goes on: "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )

    def _begin(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._calls.clear()
        self._edges.clear()
        diagnostics, training = self._diagnostics, any(each.training for each in module.modules())
        if diagnostics._axes is None:
            diagnostics._layers = self._described(module, args, kwargs)
            diagnostics._axes = Axes(diagnostics._layers)
        if training and diagnostics._axes_in_training is None:
            there: tuple[LayerInfo, ...] = ()
            with contextlib.suppress(Exception):  # one image may not do for it; then it is not known
                there = self._described(module, args, kwargs, training=True)
            diagnostics._axes_in_training = Axes(there, diagnostics._layers)
            diagnostics._axes = Axes(diagnostics._layers, there)
        self._axes = (diagnostics._axes_in_training if training else None) or diagnostics._axes

    def _described(self, module: nn.Module, args: Any, kwargs: Any, *, training: bool = False) -> tuple[LayerInfo, ...]:
        """What a run of the first image says; nothing of keyword arguments, where the layers' types have to do."""
        self._learning = True
        try:
            return () if kwargs else describe(module, *arguments.first_image(args), training=training)
        finally:
            self._learning = False

    def look(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        """The hook of one layer."""

        def look(module: nn.Module, args: Any, output: Any) -> None:
            if not (self._learning or self._over or recomputing()):
                with self._harmless():
                    self._look(layer, module, output)

        return look

    def _look(self, layer: str, module: nn.Module, output: Any) -> None:
        found = nested.first(output)
        if found is None:
            return
        call = self._calls.get(layer, 0)
        self._calls[layer] = call + 1
        self._add(layer, call, module, "output", found[1])
        self._keep(layer, call, found[1])
        if self._diagnostics.gradients:
            edge, watch = tap(found[1])
            if edge is not None:
                self._edges[layer, call] = (module, edge, watch)

    def differentiate(self, score: Tensor) -> None:
        """Add the gradient of a score, one number computed from the last forward pass's output, at every layer.

        Raises:
            NoGradient: the score, or every layer, stands outside the autograd graph.
        """
        if not score.requires_grad or not self._edges:
            raise NoGradient(
                f"{NOT_RECORDED} Make the object with `gradients=True`, run the model with gradients on, and if all "
                "its weights are frozen give it inputs that require grad."
            )
        gradients = differentiate(score, [edge for _, edge, _ in self._edges.values()])
        for ((layer, call), (module, _, watch)), gradient in zip(self._edges.items(), gradients, strict=True):
            if gradient is not None and not overwritten_view(watch):
                self._add(layer, call, module, "gradient", gradient)
        self._edges.clear()

    def _add(self, layer: str, call: int, module: nn.Module, of: Of, tensor: Tensor) -> None:
        new = summarise(layer, call, module, of, tensor, self._axes, self._diagnostics.threshold)
        old = self.summaries.get((layer, call, of))
        self.summaries[layer, call, of] = new if old is None else merge_summaries(old, new)

    def _keep(self, layer: str, call: int, tensor: Tensor) -> None:
        diagnostics = self._diagnostics
        axis = self._axes.image(layer, call, tensor)
        kept = self.kept.get((layer, call), ())
        missing = diagnostics._keep - sum(1 if axis is None else part.shape[axis] for part in kept)
        if missing > 0:
            part = tensor.detach()
            if axis is not None:
                part = part.narrow(axis, 0, min(missing, part.shape[axis]))
            with torch.inference_mode(False):
                self.kept[layer, call] = (*kept, part.clone())


def _dead(summary: LayerSummary, share: float) -> Iterator[DeadChannel]:
    channels = summary.statistics.channels
    for channel in np.flatnonzero(summary.fired <= share * summary.inputs):
        largest = max(abs(float(channels["min"][channel])), abs(float(channels["max"][channel])))
        fired = int(summary.fired[channel])
        yield DeadChannel(summary.layer, summary.call, int(channel), fired, summary.inputs, largest)


def _class_score(output: Any, target: int | None) -> Tensor:
    found = nested.first(output)
    logits = None if found is None else found[1]
    if logits is None or logits.ndim != 2 or not logits.is_floating_point():
        raise TargetNotFound(
            "The model's output is not one logit per class and image. Give `run` a function that makes one number of "
            "it."
        )
    if target is None:
        return logits.amax(1).sum()
    if not 0 <= target < logits.shape[1]:
        raise TargetNotFound(
            f"There is no class {target}: the model has {logits.shape[1]}, from 0 to {logits.shape[1] - 1}."
        )
    return logits[:, target].sum()
