"""An activation as feature maps (channel, height, width), or the sentence that says why it has none.

Drawing and Grad-CAM read layouts here, so that both mean the same pixel. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

SPATIAL = {"channel", "height", "width"}


class Described(Protocol):
    """Whatever says how its axes are to be read: an `Activation`, or the `Call` of a recorded run."""

    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def grid(self) -> tuple[int, int] | None: ...
    @property
    def prefix_tokens(self) -> int: ...


class _WithValues(Described, Protocol):
    @property
    def values(self) -> np.ndarray: ...


def maps(activation: _WithValues) -> np.ndarray | None:
    """The activation's values as (channel, height, width), a view where possible; None if it has no maps.

    Tokens become their grid of patches, without the prefix tokens (class token, registers).
    """
    values = activation.values
    if why_no_maps(activation, values.shape):
        return None
    return arrange(values, activation.axes, activation.grid, activation.prefix_tokens)


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
    if "window" in sizes:
        return f"Its output ({written}) is cut into windows, which are not laid out as the image is."
    if set(sizes) == SPATIAL and len(sizes) == _count(described.axes, shape):
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
            return f"Its {sizes['token']} tokens do not fill the {height} x {width} grid of the recorded run."
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
    return values.transpose([axes.index(axis) for axis in ("channel", "height", "width")])


def _count(axes: tuple[str, ...], shape: tuple[int, ...]) -> int:
    """How many axes there are, the image axis of length 1 not counted (the same name twice is not a picture)."""
    return sum((axis, length) != ("image", 1) for axis, length in zip(axes, shape, strict=True))
