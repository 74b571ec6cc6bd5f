"""What is known of a loaded model beside what it holds, for a check-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hookscope.dashboard.asking.sides import Preparation
from hookscope.hooks.results.findings import Known

if TYPE_CHECKING:
    from hookscope.dashboard.engine.base import Preprocessing
    from hookscope.dashboard.sources.load import LoadedModel

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VALUES = {  # by name of what pixels become: the mean and deviation of a pixel of 0..1
    "symmetric": (0.5, 0.5),
    "unit": (0.0, 1.0),
    "bytes": (0.0, 1 / 255),
    "imagenet": IMAGENET,
}
OF_TEXTS = ("text_", "logit_")  # how the parts of a model are called that captions go through
FOR_CAPTIONS = "It is for captions, and no picture goes through it."


def known_of(model: LoadedModel) -> Known:
    """What the loader knows."""
    info, handed = model.info, model.handed
    ways = info.preprocessing
    return Known(
        title=info.title,
        random=handed.random,
        random_part=info.random_part,
        missing=handed.missing,
        unexpected=handed.unexpected,
        classes=info.given_classes,
        training=handed.training,
        mean=ways.mean,
        std=ways.std,
        assumed=ways.assumed,
        own=told_otherwise(model.prepare.untold, ways),
        size=size_of(model.prepare.untold or ways),
        unused=tuple(
            (layer.name, FOR_CAPTIONS)
            for layer in info.layers
            if not layer.calls and layer.parameters and layer.name.rpartition(".")[2].startswith(OF_TEXTS)
        ),
    )


def told_otherwise(own: Preprocessing | None, told: Preprocessing) -> str:
    """How pictures were prepared before the operator's flags changed it, as a preparation is written; "" where nothing
    of it is known, or can be written so.

    Arguments:
        own: as it was before; None where no flag changed it. told: as it is.
    """
    if own is None:
        return ""
    found: dict[str, str] = {}
    if (own.mean, own.std) != (told.mean, told.std) and not {"mean", "std"} & {*own.assumed}:
        found["values"] = next((name for name, (mean, std) in VALUES.items() if _are(own, mean, std)), "own")
    if own.order != told.order and "order" not in own.assumed:
        found["channels"] = own.order
    if (size := size_of(own)) not in ((0, 0), size_of(told)):
        found["pixels"] = f"{size[0]}x{size[1]}"
    return Preparation(**found).write()  # type: ignore[arg-type]


def size_of(ways: Preprocessing) -> tuple[int, int]:
    """(height, width) of the pictures that a model is given; (0, 0) where nobody knows, or it resizes them itself."""
    if "size" in ways.assumed:
        return 0, 0
    return ways.crop if any(ways.crop) else ways.resize if isinstance(ways.resize, tuple) else (0, 0)


def _are(ways: Preprocessing, mean: object, std: object) -> bool:
    return bool(np.allclose(ways.mean, mean, atol=1e-3) and np.allclose(ways.std, std, rtol=1e-3))  # type: ignore[arg-type]
