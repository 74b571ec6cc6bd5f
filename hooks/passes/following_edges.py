"""Follows the boxes of pixels on which values depend through a forward pass, operator by operator.

A `TorchDispatchMode` sees every operator of torch as it runs, with the tensors that it is given. Beside each tensor lie
the edges of its values' boxes (`numbers.edges`), kept by where the values lie in memory, so that views and writing in
place are seen; an operator that has no rule is taken to depend on all that it is given, and is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.numbers import edges as edges_of
from hookscope.hooks.results.receptive import NOTHING

MASKED, LOWEST = -50.0, -1e4  # what a mask adds to hide a position is the first or less; what it writes, the second


class Following(TorchDispatchMode):
    """Follows through every operator of a `with` block on which pixels each value depends (see `results.receptive`).

    Arguments:
        picture: (1, channel, height, width).

    Attributes:
        unknown: the operators without a rule; what they give is taken to depend on all that they are given.
    """

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.unknown: set[str] = set()
        self._ledger = edges_of.Ledger()
        self._ledger.write(*_where(picture), edges_of.edges_of_picture(*picture.shape[2:]))

    def look(self, output: Tensor) -> np.ndarray:
        """The edges of a tensor."""
        found = self._ledger.read(*_where(output))
        return edges_of.constant(output.ndim) if found is None else found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # made of other operators: so arrive those of tensors that were made in inference mode
                if (made := func.decompose(*args, **kwargs)) is not NotImplemented:
                    return made
        step = _Step(func, args, kwargs, self._ledger)
        result = func(*args, **kwargs)
        step.results = _tensors(result)
        if step.depends and torch.Tag.inplace_view not in func.tags:
            self._note(step)
        return result

    def _note(self, step: _Step) -> None:
        try:
            found = step.find()
        except (RuntimeError, TypeError, KeyError, IndexError, ValueError):
            found = None  # an overload of which the rule does not know
        if step.is_view:
            for target, edges in zip(step.results, found or (), strict=False):  # others are found by where they lie
                self._ledger.add(*_where(target)[:2], edges)
            return
        targets = step.results + [each for each in step.written if not any(each is result for result in step.results)]
        if found is None and targets:
            self.unknown.add(step.kind)
        for index, target in enumerate(targets):
            known = found and (found[index] if index < len(found) else target.shape == targets[0].shape and found[0])
            edges = known if isinstance(known, np.ndarray) else step.everything(step.tensors)
            self._ledger.write(*_where(target), edges_of.align(edges, target.ndim))


class _Step:
    """One operator of a pass.

    Attributes:
        kind: its name, the same for its in-place form. given: its arguments by name. tensors: those among them.
        results: the tensors that it returned. depends: whether anything it reads or writes depends on the picture.
    """

    def __init__(self, func: Any, args: Any, kwargs: Any, ledger: edges_of.Ledger) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.kind = func._schema.name.removeprefix("aten::").removesuffix("_")
        declared, returned = func._schema.arguments, func._schema.returns
        self.given = {each.name: each.default_value for each in declared if each.has_default_value()}
        self.given |= dict(zip((each.name for each in declared), args, strict=False)) | kwargs
        written = [each.name for each in declared if each.alias_info is not None and each.alias_info.is_write]
        self.written = _tensors([self.given.get(name) for name in written])
        self.tensors = _tensors([self.given.get(each.name) for each in declared if not each.is_out])
        self.results: list[Tensor] = []
        aliases = [each.alias_info for each in returned if each.alias_info is not None]
        self.is_view = self.kind == "_unsafe_view" or any(not alias.is_write for alias in aliases)
        self._edges = {id(each): ledger.read(*_where(each)) for each in (*self.tensors, *self.written)}
        self.depends = any(each is not None for each in self._edges.values())

    def of(self, tensor: Tensor) -> np.ndarray:
        """A tensor's edges before the operator ran."""
        found = self._edges[id(tensor)]
        return edges_of.constant(tensor.ndim) if found is None else found

    def everything(self, tensors: Sequence[Tensor]) -> np.ndarray:
        """The edges of what depends on all of some tensors, (4,)."""
        several = [self.of(each).reshape(4, -1).min(axis=1) for each in tensors if each.numel()]
        return edges_of.unite([*several, edges_of.constant(0)], 0)

    def find(self) -> list[np.ndarray] | None:
        """The edges of the results, those of the first one at least; None if there is no rule."""
        if (rule := _OF_ALL.get(self.kind)) or (torch.Tag.pointwise in self.func.tags and self.kind not in _OF_FIRST):
            return [rule(self) if rule else _elementwise(self)]
        moves = self.is_view and self.kind not in ("as_strided", "_reshape_alias")  # which name strides of the source's
        rule = _OF_FIRST.get(self.kind, _moved if moves else None)
        if rule is None:
            return None
        made, others = rule(self), self.everything(self.tensors[1:])
        found = made if isinstance(made, list) else [made]
        return found if others[0] == NOTHING else [edges_of.unite([each, others], each.ndim - 1) for each in found]


def _where(tensor: Tensor) -> tuple[StorageWeakRef, Any, int]:
    """A tensor's storage, its place there, and the storage's length."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise ModelNotSupported(
            "The model computes with quantised, sparse or ragged tensors, through which no field can be followed. Open "
            "the model from which it was made."
        )
    storage, size = tensor.untyped_storage(), tensor.element_size()
    place = size, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
    return StorageWeakRef(storage), place, storage.nbytes() // size


def _tensors(value: Any) -> list[Tensor]:
    return [each for each in tree_leaves(value) if isinstance(each, Tensor)]


def _elementwise(step: _Step) -> np.ndarray:
    several, dimensions = [step.of(each) for each in step.tensors], max(each.ndim for each in step.tensors)
    if step.kind in ("mul", "div"):
        return edges_of.multiply(several, dimensions)
    masks = [each for each in step.tensors if each.ndim > 1 and step.everything([each])[0] == NOTHING]
    if step.kind == "add" and masks and (hidden := masks[0] <= MASKED).any() and not hidden.all():
        step.results[0].masked_fill_(hidden, -math.inf)  # what a mask of attention adds is to mean just that
    return edges_of.unite(several, dimensions)


def _moved(step: _Step) -> list[np.ndarray]:
    """What moves values does the same to their edges, to each of the four alone."""
    source = step.tensors[0]
    sides = torch.from_numpy(np.ascontiguousarray(step.of(source))).expand(4, *source.shape)
    args, kwargs = tree_map_only(Tensor, Tensor.cpu, (step.args[1:], step.kwargs))
    if step.kind == "constant_pad_nd":
        args = (args[0], NOTHING)

    def move(side: Tensor) -> list[Tensor]:
        made = side.reshape(args[0]) if step.kind in ("view", "_unsafe_view") else step.func(side, *args, **kwargs)
        return [made] if isinstance(made, Tensor) else list(made)

    return [edges_of.shrink(torch.stack(same).numpy()) for same in zip(*map(move, sides), strict=True)]


def _joined(step: _Step) -> np.ndarray:
    dimensions = step.results[0].ndim
    axis = step.given.get("dim", 0) % dimensions
    # an empty tensor may have one dimension only
    tensors = [each for each in step.tensors if each.ndim == dimensions or step.kind == "stack"]
    several = [step.of(each) for each in tensors]
    if step.kind == "stack":
        return edges_of.join([np.expand_dims(each, axis + 1) for each in several], [1] * len(several), axis)
    return edges_of.join(several, [each.shape[axis] for each in tensors], axis)


def _mixed(step: _Step) -> np.ndarray:
    """What sums, ranks or compares along some axes; along all where none is named."""
    source, named = step.tensors[0], step.given.get("dim")
    axes = [each % source.ndim for each in ([named] if isinstance(named, int) else named or range(source.ndim))]
    found = edges_of.mix(step.of(source), axes)
    return found if step.results[0].ndim == source.ndim else found.squeeze(tuple(axis + 1 for axis in axes))


def _softmaxed(step: _Step) -> np.ndarray:
    hidden = (step.tensors[0] <= LOWEST).cpu().numpy()
    return edges_of.softmax(step.of(step.tensors[0]), step.given["dim"] % hidden.ndim, hidden if hidden.any() else None)


def _normalised(step: _Step) -> np.ndarray:
    source, given = step.tensors[0], step.given
    edges = step.of(source)
    if "normalized_shape" in given:
        return edges_of.mix(edges, range(source.ndim - len(given["normalized_shape"]), source.ndim))
    if "group" in given:
        return edges_of.mix(edges_of.in_groups(edges, 1, given["group"], source.shape[1]), range(2, source.ndim))
    own = given.get("training") or given.get("running_mean", source) is None
    return edges_of.mix(edges, [0, *range(2, source.ndim)]) if own else edges


def _multiplied(step: _Step) -> np.ndarray:
    *added, first, second = (step.of(each) for each in step.tensors)
    return edges_of.unite([edges_of.matrix_product(first, second), *added], step.results[0].ndim)


def _attended(step: _Step) -> np.ndarray:
    query, key, value = (step.given[name] for name in ("query", "key", "value"))
    mask = step.given.get("attn_mask", step.given.get("attn_bias"))
    hidden = torch.zeros(query.shape[-2], key.shape[-2], dtype=torch.bool)
    if step.given.get("is_causal"):
        hidden = ~hidden.tril()
    if mask is not None:
        hidden = (mask <= MASKED if mask.is_floating_point() else ~mask).cpu() | hidden
    bias = edges_of.constant(query.ndim) if mask is None else edges_of.align(step.of(mask), query.ndim)
    seen = hidden.numpy() if hidden.any() else None
    return edges_of.attend(step.of(query), step.of(key), step.of(value), bias, seen)


def _slid(step: _Step, edges: np.ndarray, count: int, seen: Callable[[int, int, int], np.ndarray]) -> np.ndarray:
    """What depends on some positions along each of the last axes; which, says `seen` of (index, length, places)."""
    source, result = step.tensors[0], step.results[0]
    for index in range(count):
        axis = source.ndim - count + index
        edges = edges_of.slide(edges, axis, source.shape[axis], seen(index, source.shape[axis], result.shape[axis]))
    return edges


def _windowed(
    step: _Step, edges: np.ndarray, kernel: Sequence[int], window: Callable[..., np.ndarray] = edges_of.window
) -> np.ndarray:
    given = step.given
    named = kernel, given["stride"] or kernel, given["padding"], given.get("dilation", (1,))
    steps = [(*each, *each[-1:], *each[-1:]) for each in named]  # one number may stand for all axes
    return _slid(step, edges, len(kernel), lambda index, _, places: window(places, *(each[index] for each in steps)))


def _convolved(step: _Step) -> np.ndarray:
    edges = edges_of.in_groups(step.of(step.tensors[0]), 1, step.given["groups"], step.results[0].shape[1])
    window = edges_of.transposed_window if step.given["transposed"] else edges_of.window
    return _windowed(step, edges, step.tensors[1].shape[2:], window)


def _pooled(step: _Step) -> np.ndarray:
    return _windowed(step, step.of(step.tensors[0]), step.given["kernel_size"])


def _pooled_to_size(step: _Step) -> np.ndarray:
    count = len(step.given["output_size"])
    edges = step.of(step.tensors[0])
    return _slid(step, edges, count, lambda _, length, places: edges_of.adaptive_window(places, length))


def _resized(step: _Step) -> np.ndarray:
    """Which positions an interpolation weighs is read from what it makes of each of them alone."""
    given, first = step.given, step.func._schema.arguments[0].name
    scales, rest = [name for name in given if name.startswith("scales")], [1] * (len(given["output_size"]) - 1)

    def seen(index: int, length: int, places: int) -> np.ndarray:
        each = torch.eye(length).reshape(1, length, *rest, length)
        own = {**dict.fromkeys(scales), scales[-1]: given[scales[index]], first: each, "output_size": [*rest, places]}
        weights = step.func(**(given | own)).reshape(length, places).numpy().T
        return np.where(weights != 0, np.arange(length), -1)

    return _slid(step, step.of(step.tensors[0]), len(rest) + 1, seen)


# What the edges of all that an operator is given say, and what those of its first tensor say.
# What the edges of all tensors that an operator is given say, and what those of the first one say.
_RULES: tuple[dict[Callable[[_Step], Any], str], ...] = (
    {
        _elementwise: "_to_copy masked_fill hardswish _prelu_kernel floor_divide log_sigmoid_forward",
        lambda step: step.of(step.tensors[1]): "copy",
        lambda step: step.everything(step.tensors[1:]): """fill zero empty_like zeros_like ones_like full_like rand_like
            randn_like new_empty new_zeros new_ones new_full""",
        _joined: "cat stack",
        _multiplied: "mm bmm addmm baddbmm",
        _attended: """_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention
            _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
            _scaled_dot_product_attention_math""",
        lambda step: step.everything(step.tensors): """_native_multi_head_attention mkldnn_rnn_layer
            _transformer_encoder_layer_fwd""",
    },
    {
        _moved: """_unsafe_view constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
            replication_pad2d replication_pad3d roll flip rot90 repeat index index_select gather pixel_shuffle
            pixel_unshuffle channel_shuffle native_channel_shuffle""",
        _mixed: """mean sum prod amax amin max min argmax argmin any all var std var_mean std_mean median mode sort topk
            kthvalue logsumexp linalg_vector_norm norm cumsum cumprod glu count_nonzero _log_softmax""",
        _softmaxed: "_softmax _safe_softmax",
        _normalised: """native_layer_norm _fused_rms_norm native_group_norm native_batch_norm _native_batch_norm_legit
            _native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm""",
        _convolved: "convolution",
        _resized: """upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
            upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d
            _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa""",
        _pooled: "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d",
        _pooled_to_size: "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d",
    },
)
_OF_ALL, _OF_FIRST = ({name: rule for rule, names in each.items() for name in names.split()} for each in _RULES)
