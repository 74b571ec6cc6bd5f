"""What each axis of an activation means, worked out call by call while a forward pass is recorded.

No tensor says whether it is NCHW or NHWC. What is known: a convolution's output is NCHW; a linear layer or a LayerNorm
over one axis has its channels last; a permutation moves the axes of its input; anything else is laid out as the tensor
it got or, failing that, as the most recent output of the same shape. Where that leaves a doubt, an axis is called
"axis", and nothing draws a map from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from hookscope.hooks.passes.nested import memory

NCHW = ("image", "channel", "height", "width")
NHWC = ("image", "height", "width", "channel")
NCDHW = ("image", "channel", "depth", "height", "width")
NDHWC = ("image", "depth", "height", "width", "channel")
PREFIX_TOKENS_LIMIT = 8  # class token, distillation token, registers

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.dropout.Dropout2d,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.Upsample,
)


_MIXING = {
    *("matmul", "mm", "bmm", "baddbmm", "addbmm", "einsum", "tensordot", "outer", "kron", "cdist", "cov", "corrcoef"),
    *("softmax", "log_softmax", "scaled_dot_product_attention"),
}


_JOINING = {"cat", "concat", "concatenate"}


@dataclass(frozen=True)
class Layout:
    """The meaning of one tensor's axes; see `results.looks.Call` for the fields."""

    axes: tuple[str, ...]
    grid: tuple[int, int] | None = None
    prefix_tokens: int = 0
    frames: int = 1


class Layouts:
    """Infers the layout of every call's output, in the order in which the calls end.

    Every tensor that is passed to `infer` must stay alive as long as this object: tensors are recognised by where they
    lie in memory.

    Arguments:
        model: may say how many prefix tokens it has (timm's `num_prefix_tokens`).
        images: how many images the forward pass is given. size: their (height, width), if known.
    """

    def __init__(self, model: nn.Module, images: int, size: tuple[int, int] | None) -> None:
        self.images = images
        self.size = size
        prefix = getattr(model, "num_prefix_tokens", None)
        self.prefixes = (prefix, 0) if isinstance(prefix, int) else tuple(range(PREFIX_TOKENS_LIMIT + 1))
        # each once, the most recent last, with its frames, which lie below each other
        self.grids: dict[tuple[int, int], int] = {}
        self.by_memory: dict[tuple[object, ...], Layout] = {}
        self.by_shape: dict[tuple[int, ...], Layout] = {}
        self.by_leading: dict[tuple[int, ...], Layout] = {}  # channels-last layouts by shape[:-1]

    def infer(self, module: nn.Module, output: Tensor, inputs: Sequence[Tensor]) -> Layout:
        """The layout of a call's first output tensor; remembers it for the calls that follow."""
        shape = tuple(output.shape)
        layout = self._known(output) or self._of(module, shape, inputs)
        return self._keep(output, layout)

    def infer_operation(self, function: str, output: Tensor, inputs: Sequence[Tensor]) -> Layout:
        """The layout of a functional operation's first output tensor; remembers it too.

        Arguments:
            function: the operation, e.g. "add". inputs: every tensor that it was given.
        """
        shape = tuple(output.shape)
        same = [self._source([given]) for given in inputs if tuple(given.shape) == shape]
        layout = next((known for known in same if known is not None), None)
        if layout is None and function in _JOINING and self._ends_in_other_tokens(shape, inputs):
            layout = Layout(("image", "token", "channel"))
        elif layout is None and len(shape) == 2:
            layout = Layout((self._first(shape), "feature"))
        elif layout is None and (function in _MIXING or len(shape) < 2):
            layout = Layout((self._first(shape), *("axis",) * (len(shape) - 1)) if shape else ())
        elif layout is None and (function.endswith("2d") or function == "interpolate"):
            layout = Layout(self._channels_first(shape))
        elif layout is None and function == "flatten" and len(shape) == 3 and self._was_of_channels(inputs, shape[1]):
            layout = Layout((self._first(shape), "channel", "axis"))
        elif layout is None and function == "linear":
            layout = self._channels_last(shape, self._source(inputs))
        elif layout is None:
            alike = [self._source([given]) for given in inputs if given.ndim == len(shape) > 3]
            known = next((each for each in alike if each is not None and each.axes in (NCHW, NHWC, NCDHW, NDHWC)), None)
            layout = self.by_shape.get(shape) or known or self._guess(shape)
            if shape and layout.axes[0] == "image" and shape[0] != self.images:  # regions of an image, as roi_align's
                layout = Layout(("axis", *layout.axes[1:]))
        return self._keep(output, layout)

    def constant(self, output: Tensor) -> Layout:
        """The layout of what comes from the weights alone, which lies nowhere on the picture whatever its shape."""
        axes = ("constant", *("axis",) * (output.ndim - 1)) if output.ndim else ()
        self.by_memory[_memory(output)] = layout = Layout(axes)
        return layout

    def _keep(self, output: Tensor, layout: Layout) -> Layout:
        shape = tuple(output.shape)
        self.by_memory[_memory(output)] = self.by_shape[shape] = layout
        if layout.axes and layout.axes[-1] == "channel":
            self.by_leading[shape[:-1]] = layout
        # MViT folds its heads into the axis of the images where it pools a clip's tokens by a convolution
        of_heads = layout.axes == ("axis", *NCDHW[1:]) and self._is_volume(shape[2:])
        if layout.axes in (NCHW, NHWC, NCDHW, NDHWC) or of_heads:
            where = layout.axes.index("height")
            depth = shape[where - 1] if "depth" in layout.axes else 1
            grid = (depth * shape[where], shape[where + 1])
            self.grids.pop(grid, None)
            self.grids[grid] = depth
        return layout

    def _of(self, module: nn.Module, shape: tuple[int, ...], inputs: Sequence[Tensor]) -> Layout:
        if len(shape) < 2:
            return Layout(("axis",) * len(shape))
        if len(shape) == 2:
            return Layout((self._first(shape), "feature"))
        source = self._source(inputs)
        if is_channels_first(module):
            return Layout(self._channels_first(shape))
        if order := _permutation(module, len(shape)):
            return self._permuted(source, order, shape)
        if is_reordering(module):
            self.grids.clear()  # from here on tokens do not lie row by row, whatever their number
            return Layout(("image", "token", "channel"))
        if type(module).__name__ == "WindowPartition" and len(shape) == 4:  # torchvision's MaxViT
            return Layout((self._first(shape), "window", "token", "channel"))
        if _is_channels_last(module):
            return self._channels_last(shape, source)
        if source and inputs and tuple(inputs[0].shape) == shape and not any(True for _ in module.children()):
            return source
        return self.by_shape.get(shape) or self._guess(shape)

    def _source(self, inputs: Sequence[Tensor]) -> Layout | None:
        if not inputs:
            return None
        return self._known(inputs[0]) or self.by_shape.get(tuple(inputs[0].shape))

    def _known(self, tensor: Tensor) -> Layout | None:
        """What is known of a tensor; that it comes from the weights alone says nothing of what is made with it."""
        layout = self.by_memory.get(_memory(tensor))
        return None if layout is None or layout.axes[:1] == ("constant",) else layout

    def _first(self, shape: tuple[int, ...]) -> str:
        return "image" if shape[0] == self.images else "axis"

    def _ends_in_other_tokens(self, shape: tuple[int, ...], parts: Sequence[Tensor]) -> bool:
        """Whether patches were joined with tokens that come after them, as YOLOS has its detections.

        By their number these would pass for tokens before the patches, and every patch would be drawn elsewhere.
        """
        if len(shape) != 3 or any(part.ndim != 3 for part in parts) or sum(part.shape[1] for part in parts) != shape[1]:
            return False
        counts = [part.shape[1] for part in parts]
        most = max(counts)
        is_grid = any(height * width == most for height, width in self.grids)
        return is_grid and counts.index(most) < len(counts) - 1

    def _channels_first(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        rest = {3: ("axis",), 4: ("height", "width"), 5: ("depth", "height", "width")}.get(len(shape))
        if rest is None:
            return (self._first(shape), "channel", *("axis",) * (len(shape) - 2))
        return (self._first(shape), "channel", *rest)

    def _channels_last(self, shape: tuple[int, ...], source: Layout | None) -> Layout:
        near = source if source and len(source.axes) == len(shape) and source.axes[-1] == "channel" else None
        near = near or self.by_leading.get(shape[:-1])
        if near:
            return near
        if len(shape) == 3:
            return self._tokens(shape)
        if len(shape) == 4 and self._is_grid(shape[1:3]) and shape[0] == self.images:
            return Layout(NHWC)
        if len(shape) == 5 and self._is_volume(shape[1:4]) and shape[0] == self.images:
            return Layout(NDHWC)
        first = "window" if self._is_windows(shape) else self._first(shape)
        return Layout((first, *("axis",) * (len(shape) - 2), "channel"))

    def _tokens(self, shape: tuple[int, ...]) -> Layout:
        """Layout of (image, token, channel), or of what looks like it."""
        if shape[0] == self.images:
            axes, tokens = ("image", "token", "channel"), shape[1]
        elif shape[1] == self.images:
            axes, tokens = ("token", "image", "channel"), shape[0]
        elif self._is_windows(shape):
            return Layout(("window", "token", "channel"))
        else:
            return Layout(("axis", "axis", "channel"))
        for prefix in self.prefixes:
            for height, width in reversed(self.grids):
                if height * width > prefix and height * width + prefix == tokens:
                    return Layout(axes, (height, width), prefix, self.grids[height, width])
        return Layout(axes)

    def _guess(self, shape: tuple[int, ...]) -> Layout:
        if len(shape) == 3:
            return self._tokens(shape)
        if len(shape) == 4 and shape[0] == self.images and not self._is_of_pairs(shape[2:]):
            if self._is_grid(shape[2:]):
                return Layout(NCHW)
            if self._is_grid(shape[1:3]):
                return Layout(NHWC)
        return Layout((self._first(shape), *("axis",) * (len(shape) - 1)))

    def _permuted(self, source: Layout | None, order: Sequence[int], shape: tuple[int, ...]) -> Layout:
        if source is None or len(source.axes) != len(order):
            return self._guess(shape)
        return replace(source, axes=tuple(source.axes[index] for index in order))

    def _was_of_channels(self, inputs: Sequence[Tensor], channels: int) -> bool:
        source = self._source(inputs)
        return source is not None and source.axes in (NCHW, NCDHW) and inputs[0].shape[1] == channels

    def _is_of_pairs(self, sides: tuple[int, ...]) -> bool:
        """Whether both sides are as long as a grid has positions: a number per pair of them, such as an attention."""
        return sides[0] == sides[1] and any(height * width == sides[0] for height, width in self.grids)

    def _is_windows(self, shape: tuple[int, ...]) -> bool:
        """Whether (window, ..., channel) holds as many positions as a grid seen before: that grid, cut into windows."""
        positions = math.prod(shape[:-1])
        return shape[0] > self.images and any(self.images * h * w == positions for h, w in self.grids)

    def _is_volume(self, sides: tuple[int, ...]) -> bool:
        """Whether (frames, height, width) is a volume seen before, or what is left of one when it is pooled."""
        known = [(depth, rows // depth, columns) for (rows, columns), depth in self.grids.items() if depth > 1]
        return any(
            sides[0] in (volume[0], -(-volume[0] // part))
            and all(side == -(-whole // part) for side, whole in zip(sides[1:], volume[1:], strict=True))
            for volume in known
            for part in (1, 2, 4)
        )

    def _is_grid(self, sides: Sequence[int]) -> bool:
        """Whether (height, width) has the picture's own proportions, to within rounding."""
        if self.size is None:
            return sides[0] == sides[1]
        height, width = self.size
        return abs(sides[0] * width - sides[1] * height) <= 1.5 * max(height, width) and sides[0] <= 2 * height


def _memory(tensor: Tensor) -> tuple[object, ...]:
    if not memory(tensor):
        return (id(tensor),)
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def is_reordering(module: nn.Module) -> bool:
    """Whether a layer puts tokens into an order of its own: Hiera's, in which each unit's tokens stand together."""
    return type(module).__name__ == "Unroll"


def is_channels_first(module: nn.Module) -> bool:
    """Whether a layer of this type has its channels on the second axis."""
    name = type(module).__name__
    # e.g. LayerNorm2d, which is a LayerNorm by class and normalises the second axis
    if isinstance(module, _CHANNELS_FIRST) or name.endswith(("2d", "2dSame")):
        return True
    return name.endswith("Norm") and getattr(module, "data_format", "") == "channels_first"


def channel_axis_by_type(module: nn.Module, tensor: Tensor) -> int | None:
    """The axis of the channels of what a convolution or a normalisation gives, by its type alone; None for others.

    A picture without an image axis has its channels first. By name, because quantised convolutions are classes of
    their own that share no base with the others.
    """
    kinds = {kind.__name__ for kind in type(module).__mro__}
    if tensor.ndim < 3 or not kinds & {"_ConvNd", "_NormBase"}:
        return None
    plane = len(getattr(module, "kernel_size", ())) if "_ConvNd" in kinds else tensor.ndim - 2
    return tensor.ndim - plane - 1


def _is_channels_last(module: nn.Module) -> bool:
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return len(module.normalized_shape) == 1
    if type(module).__name__.endswith(("LayerNorm", "RMSNorm")):  # other packages' own, with a weight per channel
        weight = getattr(module, "weight", None)
        return isinstance(weight, Tensor) and weight.ndim == 1
    return isinstance(module, nn.Linear)


def _permutation(module: nn.Module, axes: int) -> list[int] | None:
    """The axes' new order, for the two modules of torchvision that do nothing else."""
    dims = getattr(module, "dims", ())
    if type(module).__name__ == "Permute" and len(dims) == axes:
        return [int(axis) % axes for axis in dims]
    first, second = getattr(module, "a", None), getattr(module, "b", None)
    if type(module).__name__ == "SwapAxes" and isinstance(first, int) and isinstance(second, int):
        order = list(range(axes))
        order[first], order[second] = order[second], order[first]
        return order
    return None
