"""An activation as feature maps (channel, height, width), or the sentence that says why it has none.

Drawing and Grad-CAM read layouts here, so that both mean the same pixel. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

SPATIAL = {"channel", "height", "width"}
DEPTH = "depth"  # frames of a clip, slices of a volume


class Described(Protocol):
    """Whatever says how its axes are to be read: an `Activation`, or the `Call` of a recorded run."""

    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def grid(self) -> tuple[int, int] | None: ...
    @property
    def prefix_tokens(self) -> int: ...
    @property
    def frames(self) -> int: ...


class _WithShape(Described, Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


class _WithValues(Described, Protocol):
    @property
    def values(self) -> np.ndarray: ...


def maps(activation: _WithValues) -> np.ndarray | None:
    """The activation's values as (channel, height, width), a view where possible; None if it has no maps.

    Tokens become their grid of patches, without the prefix tokens (class token, registers). Frames and slices lie below
    each other, so the height is that of all; `frame` takes one out.
    """
    values = activation.values
    if why_no_maps(activation, values.shape):
        return None
    return arrange(values, activation.axes, activation.grid, activation.prefix_tokens)


def depth_of(described: Described, shape: tuple[int, ...]) -> int:
    """How many frames or slices lie below each other in the maps of an output of this shape; 1 for a picture."""
    return shape[described.axes.index(DEPTH)] if DEPTH in described.axes else described.frames


def plane_of(described: _WithShape) -> tuple[int, int]:
    """(rows, columns) of the positions of an output that has maps, of a clip those of one frame; else (1, 1)."""
    if described.grid is not None:
        rows, columns = described.grid
        return rows // described.frames, columns
    sizes = dict(zip(described.axes, described.shape, strict=True))
    return sizes.get("height", 1), sizes.get("width", 1)


def frame(array: np.ndarray, depth: int, moment: int, axis: int = -2) -> np.ndarray:
    """One of the frames that lie below each other: a view.

    Arguments:
        depth: how many there are. moment: which, in thousandths of the way from the first to the last, so that layers
            of other depths are shown at the same time. axis: that of the height.

    >>> frame(np.arange(6).reshape(6, 1), 3, 500).tolist()
    [[2], [3]]
    """
    if depth == 1:
        return array
    axis %= array.ndim
    height = array.shape[axis] // depth
    start = frame_index(depth, moment) * height
    return array[(slice(None),) * axis + (slice(start, start + height),)]


def frame_index(depth: int, moment: int) -> int:
    """Which of so many frames is shown at a moment, from 0."""
    return min(moment * depth // 1000, depth - 1)


def reason_no_maps(activation: _WithValues) -> str:
    """Why `maps` gives None, as a sentence; "" if it gives maps."""
    return why_no_maps(activation, activation.values.shape)


def why_no_maps(described: Described, shape: tuple[int, ...]) -> str:
    """The same for a recorded `Call` and its shape, before there are values; image axes of length 1 do not matter."""
    sizes = {axis: length for axis, length in zip(described.axes, shape, strict=True) if (axis, length) != ("image", 1)}
    written = " x ".join(str(length) for length in shape) or "a single number"
    if len(described.axes) == 0:
        return "Its output is a single number, without height and width."
    if sizes.get("image", 1) > 1:
        return f"Its output holds {sizes['image']} images; ask for one image at a time."
    if "constant" in sizes:
        return f"Its output ({written}) comes from the weights alone, whatever the picture, so it has no map."
    if "window" in sizes:
        return f"Its output ({written}) is cut into windows, which are not laid out as the image is."
    if set(sizes) - {DEPTH} == SPATIAL and len(sizes) == _count(described.axes, shape):
        if 0 in sizes.values():
            return f"Its output ({written}) is empty."
        if sizes["height"] == sizes["width"] == 1:
            return "Its output has one position only (1 x 1), so there is one number per channel and no map."
        return ""
    if set(sizes) == {"token", "channel"}:
        if described.grid is None:
            return f"Its output ({written}) is a list of tokens, and how they lie on the image is not known."
        height, width = described.grid
        if height * width + described.prefix_tokens != sizes["token"]:
            times = f"{described.frames} x {height // described.frames}" if described.frames > 1 else str(height)
            return f"Its {sizes['token']} tokens do not fill the {times} x {width} grid of the recorded run."
        return ""
    if set(sizes) <= {"feature", "channel"}:
        return "Its output has one number per feature, without height and width."
    return f"What the axes of its output ({written}) mean is not known, so no map is drawn from it."


def arrange(values: np.ndarray, axes: tuple[str, ...], grid: tuple[int, int] | None, prefix_tokens: int) -> np.ndarray:
    """Values of any array of these axes as (channel, height, width); `why_no_maps` has said that they can be."""
    dropped = tuple(index for index, axis in enumerate(axes) if axis == "image")
    values = values.squeeze(dropped) if dropped else values
    axes = tuple(axis for axis in axes if axis != "image")
    if "token" in axes and grid is not None:
        tokens = np.moveaxis(values, axes.index("token"), 0)[prefix_tokens:]
        return np.moveaxis(tokens.reshape(*grid, -1), -1, 0)
    if DEPTH in axes:
        stacked = values.transpose([axes.index(axis) for axis in ("channel", DEPTH, "height", "width")])
        return stacked.reshape(stacked.shape[0], -1, stacked.shape[3])
    return values.transpose([axes.index(axis) for axis in ("channel", "height", "width")])


def _count(axes: tuple[str, ...], shape: tuple[int, ...]) -> int:
    """How many axes there are, the image axis of length 1 not counted (the same name twice is not a picture)."""
    return sum((axis, length) != ("image", 1) for axis, length in zip(axes, shape, strict=True))
