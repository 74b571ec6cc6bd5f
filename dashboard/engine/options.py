"""What the operator says of one model: everything that its worker needs to load it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hookscope.dashboard.sources.spec import DEFAULT_MODEL


@dataclass(frozen=True)
class ModelOptions:
    """A model as the operator asked for it; everything else about it the worker finds out.

    Attributes:
        spec: see `sources.spec`. name: what the operator calls it; the spec, if that is not told.
        weights: a file with the weights, or a folder of them, and behind a # which of its dictionaries; "" for the
            spec's own. allow_head: keep a last layer random whose shape is another there.
        labels: a file with class names, "" for the spec's own.
        arguments: what the factory (or torchvision's or timm's builder) is called with, as JSON: `{"num_classes": 10}`.
        seed: of random weights and of the noise picture with which the layers are described.
        input_size: (height, width) in pixels; resize: the length of the shorter side before the crop, or "squash",
            "crop", "pad" or "none"; interpolation: "bilinear", "bicubic", ...; mean, std: per channel, of pixels in
            0..1 or by `range` (or a mean above 1) in 0..255; channel_order: "rgb" or "bgr". None, 0 or "" means the
            model's own.
        baseline: the file of a stored baseline, "" for none; it changes nothing of what the model answers.
        output: the path of the output that is its answer; reads: one of `methods.READINGS`. "" means as it is found.
    """

    spec: str = DEFAULT_MODEL
    name: str = ""
    weights: str = ""
    labels: str = ""
    arguments: str = "{}"
    seed: int = 0
    input_size: tuple[int, int] | None = None
    resize: str = ""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = ""
    channel_order: Literal["", "rgb", "bgr"] = ""
    range: int = 0
    output: str = ""
    reads: str = ""
    allow_head: bool = False
    baseline: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.spec)
