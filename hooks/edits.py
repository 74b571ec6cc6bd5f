"""Changes to what layers compute while a model runs: mute, scale, level, replace, patch.

    with edit(model, [mute("layer4", 5), scale("layer3", 7, 2.0)]):
        changed = model(picture)

Whatever looks at the model in the block, by this library or by hooks of one's own that are put on in it, sees the
changed values. After it the model is as it was, bit by bit, however the block ends.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import EditNotPossible, LayerNotExecuted, called, titled
from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import first_names, named_layers
from hookscope.hooks.layers.reasons import not_called
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import check_supported, eager, unwrap
from hookscope.hooks.passes.operations import Changing, Namer, naming
from hookscope.hooks.passes.registry import Placed, hook, others_waiting
from hookscope.hooks.passes.running import Stack, recomputing
from hookscope.hooks.results.edits import MOST_EDITS, Edit, Level, Replace, Scale
from hookscope.hooks.results.looks import Call, LayerInfo

PURPOSE = "edit"


@contextlib.contextmanager
def edit(model: nn.Module, edits: Sequence[Edit], *, layers: Sequence[LayerInfo] = ()) -> Iterator[Editing]:
    """Change what layers compute in the forward passes of a `with` block, in this thread.

    What is changed is the layer's value as it is read: a copy of what the layer returned is changed and handed on in
    its place. So a layer behind it that works in place (a `ReLU(inplace=True)`) reads the changed value and writes over
    the copy, never over the value that was given to `replace` or `patch`. A layer that works in place itself hands its
    change to everything that holds the tensor; only while autograd records, when that would spoil the gradient, to
    those alone that take what it returned. Of a layer that returns several tensors it is the first, which is the one
    that `capture` and the page show as its value. All pictures of a batch are changed alike.

    Several edits of one layer act in the order in which they are listed. Functional operations ("layer1.0/add") are
    layers too. Where a module runs often in a pass, `call` chooses one of its calls; passes are those of the model
    itself.

    Arguments:
        edits: at most `MOST_EDITS`, see `results.edits`.
        layers: what `layers.describe.describe` said of this model: which axis of a layer holds its channels. Without it
            the first pass of the block is run once more to learn that, unless no edit needs to know.

    Raises:
        LayerNotFound: a name is wrong; nothing has been registered then.
        LayerNotExecuted: no pass of the block ran the layer, or called it so often; raised after the block, or, where
            `layers` says so already, before it.
        EditNotPossible: there is no such channel, or the layer cannot have such a value.
        ModelNotSupported: hooks cannot see into this kind of model.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten())
    >>> with edit(net, [Scale("0", 1, 0.0)]), torch.no_grad():
    ...     net(torch.ones(1, 1, 1, 1))[0, 1]
    tensor(0.)
    """
    editing = Editing(model, edits, layers)
    with eager(model):
        editing.begin()
        try:
            yield editing
        finally:
            editing.end()
    editing.complain()


def replace(layer: str, channel: int | None, value: Any, *, call: int | None = None) -> Replace:
    """Set a channel, or with None a layer, to a value.

    Arguments:
        value: a number; an array or a tensor, see `results.edits.Replace`.
    """
    return Replace(layer, channel, _plain(value), call)


def patch(layer: str, seen: Any, channel: int | None = None, *, call: int | None = None) -> Replace:
    """Set a layer, or one of its channels, to what it computed elsewhere: for another picture, in another model.

    Arguments:
        seen: what `capture` gave, in which the layer was chosen; or a record of it, a tensor or an array.

    >>> net, picture = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten()), torch.ones(1, 1, 1, 1)
    >>> patch("0", net[0](picture)).value.shape
    (1, 2, 1, 1)
    """
    if hasattr(seen, "records"):
        seen = seen[layer] if call is None else seen[layer, call]
    value = getattr(seen, "value", seen)
    if value is None:
        raise EditNotPossible("Numbers were captured and no tensors: capture without `numbers` to patch with it.")
    return Replace(layer, channel, _plain(value), call)


def _plain(value: Any) -> float | np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return np.array((value.float() if value.dtype == torch.bfloat16 else value).numpy())
    return float(value) if isinstance(value, int | float) else np.array(value)


class Editing:
    """The edits of one `edit` block.

    Arguments: those of `edit`.
    """

    def __init__(self, model: nn.Module, edits: Sequence[Edit], layers: Sequence[LayerInfo]) -> None:
        if len(edits) > MOST_EDITS:
            raise EditNotPossible(f"These are {len(edits)} edits, and at most {MOST_EDITS} are made at once.")
        self._model = unwrap(model)
        check_supported(self._model)
        self._names = first_names(self._model)
        self._edits: dict[str, list[Edit]] = {}  # by the layer's first name, in the order in which they act
        self._modules: dict[str, nn.Module] = {}
        finder = Finder(self._model, layers)
        for each in edits:
            name, module = finder.find(each.layer)
            if problem := finder.not_executed(name, each.call or 0):
                raise problem
            self._edits.setdefault(name, []).append(each)
            self._modules[name] = module
        self._axes = Axes(layers)
        self._known = bool(layers) or not any(self._asks_for_axes(name) for name in self._edits)
        self._check(layers)
        self._calls: Counter[str] = Counter()  # of the pass that runs
        self._most: Counter[str] = Counter()  # in any pass
        self._made: set[int] = set()  # ids of those edits that were made
        self._begun = self._completed = 0
        self._failure: Exception | None = None
        self._placed: dict[str, Placed] = {}
        self._live = contextlib.ExitStack()

    def _asks_for_axes(self, name: str) -> bool:
        if isinstance(self._modules[name], nn.modules.conv._ConvNd):
            return False
        return any(each.channel is not None or isinstance(each, Level) for each in self._edits[name])

    def _check(self, layers: Sequence[LayerInfo]) -> None:
        """Refuse at once a channel of which a recorded run says that it is not there."""
        infos = {info.name: info for info in layers}
        for name, edits in self._edits.items():
            for each in edits if name in infos else ():
                calls = infos[name].calls
                for call in calls if each.call is None else calls[each.call : each.call + 1]:
                    _check_call(each, call)

    # --- hooks

    def begin(self) -> None:
        """Put the hooks on."""
        with contextlib.ExitStack() as stack:
            modules = {name: module for name, module in self._modules.items() if self._names.get(module) == name}
            operations = {name: module for name, module in self._modules.items() if name not in modules}
            stack.enter_context(hook(self._model, "forward_pre", self._begin_pass, layer="", purpose=PURPOSE))
            for name, module in modules.items():
                change = self._hook_of(name)
                placed = hook(module, "forward", change, layer=name, purpose=PURPOSE, changes=True)
                self._placed[name] = stack.enter_context(placed)
            if operations:
                namer = Namer(Stack(self._names))
                stack.enter_context(naming(operations, self._names, namer))
                stack.enter_context(Changing(namer, {name: self._hook_of(name) for name in operations}))
            stack.enter_context(hook(self._model, "forward", self._end_pass, layer="", purpose=PURPOSE))
            self._live = stack.pop_all()

    def end(self) -> None:
        """Take the hooks off."""
        self._live.close()

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Have the model be as it is for the length of a `with` block; between two passes only."""
        self.end()
        try:
            yield
        finally:
            self.begin()

    def _begin_pass(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        self._calls.clear()
        self._begun += 1
        if not self._known:
            if kwargs:
                raise EditNotPossible(
                    "Which axis of a layer holds its channels is learned from a pass with positional arguments, and "
                    "this one has named ones. Give `layers=describe(model, ...)` to `edit`."
                )
            with others_waiting():
                self._axes = Axes(describe(self._model, *args))
            self._known = True

    def _end_pass(self, module: nn.Module, args: Any, output: Any) -> None:
        self._completed += 1

    def _hook_of(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def change(module: nn.Module, args: Any, output: Any) -> Any:
            try:
                return self._change(name, module, args, output)
            except EditNotPossible as error:
                self._failure = error  # kept, because a model may catch what its layers raise
                raise

        return change

    def _change(self, name: str, module: nn.Module, args: Any, output: Any) -> Any:
        if recomputing():  # by checkpointing, which runs a call again
            call = self._most[name] - 1
            if call and any(each.call is not None for each in self._edits[name]):
                raise EditNotPossible(
                    f"{titled(name)} runs often and is run again by checkpointing, where its calls cannot be told "
                    "apart. Edit all of its calls, or turn checkpointing off."
                )
        else:
            call = self._calls[name]
            self._calls[name] += 1
            self._most[name] = max(self._most[name], self._calls[name])
        edits = [each for each in self._edits[name] if each.call in (None, call)]
        if not edits:
            return None
        found = nested.first(output)
        if found is None:
            raise EditNotPossible(f"{titled(name)} returned no tensor, so there is nothing to edit.")
        tensor = found[1]
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.layout != torch.strided:
            kind = str(tensor.dtype if tensor.layout == torch.strided else tensor.layout).removeprefix("torch.")
            raise EditNotPossible(
                f"{titled(name)} returns {kind} values, which cannot be edited. Choose a layer of floating numbers."
            )
        edited = tensor.clone()
        for each in edits:
            _Place(name, self._axes, call, module, edited).write(each)
            self._made.add(id(each))
        if _is_in_place(module, args, output) and not torch.is_grad_enabled():
            return tensor.copy_(edited)
        return _put(name, output, tensor, edited)

    # --- what did not come

    def complain(self) -> None:
        """Refuse, after the block, an edit that changed nothing.

        Raises:
            LayerNotExecuted: no pass called the layer, or called it so often.
        """
        if self._failure is not None:
            raise self._failure
        if self._begun > self._completed:
            return  # somebody ended a pass early: what would have come is not known
        for name, edits in self._edits.items():
            for each in edits:
                if id(each) not in self._made:
                    raise self._why_not(name, each)

    def _why_not(self, name: str, each: Edit) -> LayerNotExecuted:
        if times := self._most[name]:
            so_often = "once" if times == 1 else f"{times} times"
            return LayerNotExecuted(
                f"{titled(name)} was called {so_often} in a pass, so there was no call {(each.call or 0) + 1} to edit."
            )
        ran = ["", *(other for other in self._most)] if self._begun else list(self._most)
        layers = named_layers(self._model)
        reasons = not_called(self._model, layers, [name], ran, self._model.training, self._placed)
        return LayerNotExecuted(f"{titled(name)} was not run, so the edit changed nothing. {reasons[name]}")


class _Place:
    """One call's value, a copy of the layer's own, into which edits are written."""

    def __init__(self, name: str, axes: Axes, call: int, module: nn.Module, values: Tensor) -> None:
        self.name, self.values = name, values
        self.channel_axis = axes.channel(name, call, values, module)
        self.image_axis = axes.image(name, call, values)
        if self.channel_axis is None and call:  # more calls than the recorded run had
            self.channel_axis, self.image_axis = axes.channel(name, 0, values, module), axes.image(name, 0, values)
        if self.image_axis is None and self.channel_axis == 1 and isinstance(module, nn.modules.conv._ConvNd):
            self.image_axis = 0

    def write(self, each: Edit) -> None:
        """Carry an edit out."""
        part = self.values if each.channel is None else self._channel(each.channel)
        if isinstance(each, Scale):
            part.zero_() if each.gain == 0 else part.mul_(each.gain)
        elif isinstance(each, Level):
            self._level(part, whole=each.channel is None)
        else:
            self._replace(each, part)

    def _channel(self, channel: int) -> Tensor:
        if self.channel_axis is None:
            raise EditNotPossible(
                f"Which axis of the output of {called(self.name)} holds its channels is not known, so only the whole "
                "layer can be edited."
            )
        _check_channel(self.name, channel, self.values.shape[self.channel_axis])
        return self.values.narrow(self.channel_axis, channel, 1)

    def _level(self, part: Tensor, *, whole: bool) -> None:
        axes = [axis for axis in range(part.ndim) if axis not in (self.channel_axis, self.image_axis)]
        if (whole and self.channel_axis is None) or not any(part.shape[axis] > 1 for axis in axes):
            raise EditNotPossible(
                f"{titled(self.name)} has no positions over which a channel's mean could be taken: it has one number "
                "per channel, or how its values lie is not known. Mute or scale it."
            )
        wide = part if part.dtype in (torch.float64, torch.complex128) or part.is_complex() else part.float()
        part.copy_(wide.mean(axes, keepdim=True).to(part.dtype).expand_as(part))

    def _replace(self, each: Replace, part: Tensor) -> None:
        value = torch.as_tensor(each.value).to(part.device)
        if value.is_complex() and not part.is_complex():
            raise EditNotPossible(f"{titled(self.name)} holds real numbers, and the value for it is complex.")
        if each.channel is not None and self.channel_axis is not None:
            axis = self.channel_axis
            if value.ndim == part.ndim:
                is_of_layer = value.shape[axis] == self.values.shape[axis]
                value = (value.narrow(axis, each.channel, 1) if is_of_layer else value).squeeze(axis)
            part = part.squeeze(axis)
        try:
            value = value.to(part.dtype).expand_as(part)
        except RuntimeError as error:
            has, wanted = (" x ".join(map(str, each.shape)) or "1" for each in (value, part))
            raise EditNotPossible(
                f"The value for {called(self.name)} is of {has} numbers, and what is to be replaced is {wanted}: give "
                "one number, or an array of that shape."
            ) from error
        part.copy_(value)


def _check_call(each: Edit, call: Call) -> None:
    """Refuse a channel that a recorded call does not have."""
    axis = next((call.axes.index(name) for name in ("channel", "feature") if name in call.axes), None)
    if each.channel is not None and axis is not None:
        _check_channel(each.layer, each.channel, call.shape[axis])


def _check_channel(name: str, channel: int, count: int) -> None:
    if channel >= count:
        raise EditNotPossible(f"{titled(name)} has {count} channels, counted from 0, so there is no channel {channel}.")


def _is_in_place(module: nn.Module, args: Any, output: Any) -> bool:
    """Whether a layer has written its value over what it was given."""
    return bool(getattr(module, "inplace", False)) and any(output is given for given in args)


def _put(name: str, output: Any, tensor: Tensor, edited: Tensor) -> Any:
    """A layer's output with a tensor in it changed for another."""
    found = []

    def change(each: Tensor) -> Tensor:
        if each is not tensor:
            return each
        found.append(each)
        return edited

    changed = nested.map_tensors(output, change)
    if not found:
        raise EditNotPossible(
            f"{titled(name)} returns its value inside a {type(output).__name__}, which cannot be put together anew. "
            "Edit a layer inside it or behind it."
        )
    return changed
