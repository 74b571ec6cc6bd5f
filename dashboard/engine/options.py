"""What the operator says of one model: everything that its worker needs to load it."""

from __future__ import annotations

from dataclasses import dataclass

from hookscope.dashboard.sources.spec import DEFAULT_MODEL


@dataclass(frozen=True)
class ModelOptions:
    """A model as the operator asked for it; everything else about it the worker finds out.

    Attributes:
        spec: see `sources.spec`.
        weights: a file with the weights, "" for the spec's own. labels: a file with class names, "" for the spec's own.
        arguments: what the factory (or torchvision's or timm's builder) is called with, as JSON: `{"num_classes": 10}`.
        seed: of random weights and of the noise picture with which the layers are described.
        input_size: (height, width) in pixels; resize: length of the shorter side before the crop; mean, std: per
            channel for pixels in 0..1; interpolation: "bilinear", "bicubic", ... None or "" means the model's own.
    """

    spec: str = DEFAULT_MODEL
    weights: str = ""
    labels: str = ""
    arguments: str = "{}"
    seed: int = 0
    input_size: tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    interpolation: str = ""
