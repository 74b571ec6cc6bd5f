"""What `capture` has seen: every call of every chosen layer, and the gradients that can be asked for afterwards."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hookscope.hooks.errors import LayerNotExecuted, LayerNotFound, NoGradient, called, titled
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import aliases, first_name, named_layers
from hookscope.hooks.layers.reasons import not_called
from hookscope.hooks.layers.shapes import channel_axis_by_type
from hookscope.hooks.numbers.elsewhere import lies_there
from hookscope.hooks.numbers.moments import Scratch
from hookscope.hooks.numbers.reductions import Distribution, statistics_later
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.graph import (
    NOT_RECORDED,
    differentiate,
    overwritten_view,
    reason_no_gradient,
    tap,
    why_not_recorded,
)
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.passes.registry import Placed
from hookscope.hooks.passes.running import recomputing
from hookscope.hooks.results.looks import Call, LayerInfo, Statistics

Side = Literal["input", "output"]
Key = str | tuple[str, int] | tuple[str, int, str]
LISTED = 40  # of the records, in the text of all


@dataclass(repr=False)
class Record:
    """One tensor that went into or came out of one call of a layer.

    Attributes:
        layer, call: the layer's dotted name, and which of its calls in the block, from 0.
        side: "output" or "input". path: where the tensor stood in a nested value; "" for a plain tensor. The path of an
            input begins with the argument's position or name.
        value: a copy, as the layer produced or was given it; None with `statistics_only`.
        statistics: with `statistics_only`: its numbers, per channel too where the layer's type, or the recorded
            run that `capture` was given, tells the channel axis. On an accelerator the first look waits for them.
        shape: the tensor's shape.
        gradient: set by `Captured.differentiate`: of the score with respect to this value, by way of everything that
            reads it: at an input that a skip connection reads too, it is more than what flows through the layer. None
            before that, and where nothing connects them.
        reason_no_gradient: why `gradient` is None after `differentiate`, as a sentence.
    """

    layer: str
    call: int
    side: Side
    path: str
    value: Tensor | None
    shape: tuple[int, ...]
    gradient: Tensor | None = None
    reason_no_gradient: str = ""
    _edge: GradientEdge | None = None
    _unrecorded: str = ""
    _watch: tuple[Tensor, int] | None = None  # (a view's memory, its version when it was seen)
    _counted: Statistics | Callable[[], Statistics] | None = None

    @property
    def statistics(self) -> Statistics | None:
        if callable(self._counted):
            self._counted = self._counted()
        return self._counted

    def __repr__(self) -> str:
        call = f", call {self.call}" if self.call else ""
        path = f", {self.path}" if self.path else ""
        return f"Record({self.layer!r}{call}, {self.side}{path}: {self._text})"

    @property
    def _text(self) -> str:
        """Type and shape: all that fits on a line."""
        kind = "statistics of" if self.value is None else str(self.value.dtype).removeprefix("torch.")
        return f"{kind} {self.shape}" + (", with its gradient" if self.gradient is not None else "")


class Captured:
    """The records of a `capture` block.

    `captured["layer4"]` is the record of the only output tensor of the only call, and its `.value` the tensor;
    `captured["layer1.0.relu", 1]` the one of the second call. `keys` and `items` name each output tensor so that it can
    be asked for, `"layer4" in captured` says whether there is any, and iterating goes over all records, inputs too, in
    execution order, as `captured.records` has them.
    """

    def __init__(self, model: nn.Module, layers: tuple[str, ...], recorder: Recorder) -> None:
        self.layers = layers
        self.records = recorder.records
        self._ran = recorder.ran
        self._training = recorder.training
        self._placed = recorder.placed
        self._graph_is_gone = False
        self._model = weakref.ref(unwrap(model))  # a result must not keep the model
        self._title = type(model).__name__

    @property
    def model(self) -> nn.Module | None:
        """The model that was captured, without its wrappers; None once it is gone: a result does not keep it."""
        return self._model()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, key: object) -> bool:
        """Whether an output tensor was recorded for a layer, a call of it, or a path in that call's output."""
        if isinstance(key, Record):
            return any(record is key for record in self.records)
        parts = key if isinstance(key, tuple) else (key,)
        if not 1 <= len(parts) <= 3 or not isinstance(parts[0], str):
            return False
        try:
            return bool(self._found(*parts))
        except LayerNotFound:
            return False

    def keys(self) -> list[Key]:
        """What each output tensor is asked for by, as short as is unambiguous, in execution order.

        The name of a layer; with the number of the call where there are several; with the path where a call has
        several tensors.
        """
        return [key for key, _ in self.items()]

    def items(self) -> list[tuple[Key, Record]]:
        """Every output tensor's key and record, in execution order."""
        outputs = [record for record in self.records if record.side == "output"]
        of_layer = Counter(record.layer for record in outputs)
        of_call = Counter((record.layer, record.call) for record in outputs)

        def key_of(record: Record) -> Key:
            if of_layer[record.layer] == 1:
                return record.layer
            call = (record.layer, record.call)
            return call if of_call[call] == 1 else (*call, record.path)

        return [(key_of(record), record) for record in outputs]

    def __repr__(self) -> str:
        lines = [f"  {key!r}: {record._text}" for key, record in self.items()]
        if len(lines) > LISTED:
            lines[LISTED:] = [f"  … and {len(lines) - LISTED} more"]
        inputs = sum(record.side == "input" for record in self.records)
        lines += [f"  and {inputs} inputs, in `records`"] if inputs else []
        still = [name for name in self.layers if name not in self._ran]
        lines += (
            [f"  not run: {', '.join(map(repr, still[:LISTED]))}{' …' if len(still) > LISTED else ''}"] if still else []
        )
        return "\n".join([f"Captured from {self._title}:", *(lines or ["  nothing"])])

    def _found(self, layer: str, *rest: Any) -> list[Record]:
        """The records of outputs that a key's parts leave."""
        found = self.of(layer)
        if rest:
            found = [record for record in found if record.call == rest[0]]
        if len(rest) > 1:
            found = [record for record in found if record.path == rest[1]]
        return found

    def __getitem__(self, key: Key) -> Record:
        layer, *rest = (key,) if isinstance(key, str) else key
        found = self._found(layer, *rest)
        if not found:
            which = f", call {rest[0]}" if rest else ""
            reason = self.not_run.get(layer, "it was not called (so often), or returned no tensor.")
            raise LayerNotExecuted(f"Nothing was recorded for {called(layer)}{which}: {reason}")
        if len(found) > 1:
            keys = [(record.layer, record.call, record.path) for record in found]
            raise KeyError(f"{len(found)} tensors were recorded for {key!r}. Ask for one of {keys[:6]}.")
        return found[0]

    def of(self, layer: str, side: Side = "output") -> list[Record]:
        """Every record of a layer, in execution order.

        Raises:
            LayerNotFound: the layer was not chosen.
        """
        model = self._model()
        name = layer if layer in self.layers or model is None else first_name(aliases(model), layer)
        if name is None and model is not None:
            Finder(model).find(layer)  # which says what is near
        if name not in self.layers:
            raise LayerNotFound(
                f"{titled(layer)} of {self._title} was not chosen for this capture. Name it in capture(...)."
            )
        return [record for record in self.records if record.layer == name and record.side == side]

    @property
    def not_run(self) -> dict[str, str]:
        """The chosen layers that no forward pass of this block and thread has called, each with the reason.

        The reason is as good as what was watched: choose "*" to learn more about one layer.
        """
        model = self._model()
        if model is None:
            return {name: "The model is gone, so why is not known." for name in self.layers if name not in self._ran}
        return not_called(model, named_layers(model), self.layers, self._ran, self._training, self._placed)

    def differentiate(self, score: Tensor, *, retain_graph: bool = False) -> None:
        """Fill every record's `gradient` with that of `score` with respect to the value the layer produced.

        The values are those before any in-place change; no parameter's `.grad` is touched.

        Arguments:
            score: one number computed from the model's output, e.g. `logits[0, 285]`.
            retain_graph: whether to keep the graph, to ask for another score.

        Without `retain_graph` the records let go of the graph too, and of all the memory that it holds.

        Raises:
            NoGradient: the score, or every record, stands outside the autograd graph, or the graph is gone.
        """
        if self._graph_is_gone:
            raise NoGradient(
                "The graph was given up by the first `differentiate`. Ask for every score but the last one with "
                "`retain_graph=True`."
            )
        open_records = [record for record in self.records if record._edge is not None]
        if not score.requires_grad or not open_records:
            raise NoGradient(
                "No gradient can be computed: the forward pass recorded no graph. Use `capture(..., gradients=True)`, "
                "run the model with gradients on, and if all its weights are frozen give it inputs that require grad."
            )
        edges = [record._edge for record in open_records if record._edge is not None]
        gradients = differentiate(score, edges, retain_graph=retain_graph)
        for record in self.records:
            record.gradient, record.reason_no_gradient = None, record._unrecorded or NOT_RECORDED
        for record, gradient in zip(open_records, gradients, strict=True):
            record.gradient = None if overwritten_view(record._watch) else gradient
            record.reason_no_gradient = "" if record.gradient is not None else reason_no_gradient(record._watch)
        if not retain_graph:
            self._graph_is_gone = True
            for record in open_records:
                record._edge = record._watch = None


class Recorder:
    """Makes the hooks of a `capture` block and collects what they see."""

    def __init__(
        self,
        *,
        gradients: bool,
        statistics_only: bool,
        distribution: Distribution,
        training: bool = False,
        layers: Sequence[LayerInfo] = (),
    ) -> None:
        self.gradients = gradients
        self.training = training
        self.statistics_only = statistics_only
        self.distribution = distribution
        self.described = {name: info.calls for info in layers for name in (info.name, *info.aliases) if info.calls}
        self.scratch = Scratch()
        self.placed: Mapping[str, Placed] = {}  # the hooks, by layer
        self.records: list[Record] = []
        self.ran: set[str] = set()  # layers that were called; one that returns no tensor has no record

    def begin(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        """For the model itself, chosen or not: it was called."""
        self.ran.add("")

    def output_hook(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, output: Any) -> None:
            if not recomputing():
                self.ran.add(layer)
                self._record(layer, next(calls), "output", module, nested.tensors(output))

        return look

    def input_hook(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, kwargs: Any = None) -> None:
            if not recomputing():
                given = [*nested.tensors(args), *nested.tensors(kwargs)]
                self._record(layer, next(calls), "input", module, given)

        return look

    def _record(
        self, layer: str, call: int, side: Side, module: nn.Module, found: Iterable[tuple[str, Tensor]]
    ) -> None:
        for path, tensor in found:
            edge, watch = tap(tensor) if self.gradients else (None, None)
            kept: Tensor | None = None
            counted: Statistics | Callable[[], Statistics] | None = None
            if self.statistics_only:
                seen = self._seen(layer, call, side, path, tensor)
                channel_axis = channel_axis_by_type(module, tensor)
                if seen is not None and "channel" in seen.axes:
                    channel_axis = seen.axes.index("channel")
                later = statistics_later(tensor, channel_axis, distribution=self.distribution, scratch=self.scratch)
                counted = later if lies_there(tensor) else later()
            elif torch.is_inference_mode_enabled():
                with torch.inference_mode(False):  # or the copy could never be used with autograd
                    kept = tensor.detach().clone()
            else:
                kept = tensor.detach().clone()
            shape = tuple(tensor.shape)
            record = Record(layer, call, side, path, kept, shape, _edge=edge, _watch=watch, _counted=counted)
            record._unrecorded = why_not_recorded(tensor) if self.gradients else ""
            self.records.append(record)

    def _seen(self, layer: str, call: int, side: Side, path: str, tensor: Tensor) -> Call | None:
        """The call in the recorded run, whose axes are this tensor's; None if it has none, or was of another tensor."""
        calls = self.described.get(layer, ())
        seen = calls[call % len(calls)] if calls and side == "output" else None  # a block may hold several passes
        return seen if seen is not None and seen.path == path and len(seen.axes) == tensor.ndim else None
