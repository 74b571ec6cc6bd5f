"""`hs.follow`: what a person gives, checked, becomes a training that is followed; see `follow` for how."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.training.follow import Following
from hookscope.hooks.training.run import settings_of
from hookscope.hooks.training.weights import inner_optimizers


def follow(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    every: int = 50,
    optimizer: Any = None,
    scaler: Any = None,
    pinned: Any = None,
    pinned_layers: Pattern | Iterable[Pattern] | None = None,
    layers: Pattern | Iterable[Pattern] | None = None,
    limit_mb: float = 500,
    title: str = "",
    alarms: bool | Mapping[str, Literal["on", "off"]] = True,
    resume: bool = False,
    owner: str = "user",
) -> Following:
    """Follow a training; see the module `follow`, docs/feed.md for what is written, docs/examples/training.md.

    Arguments:
        model: what is trained; wrappers are looked through. Whatever is compiled runs eagerly in looked-at steps.
        folder: where it is written, one folder for each run.
        every: how many steps are between two looks. Step 0, the first, is one.
        optimizer: for learning rates and updates, one or several; without it those columns are absent.
        scaler: the `torch.amp.GradScaler`, by whose scale gradients are divided.
        pinned: a batch or a tuple of arguments, whose first picture the model is run on once more at every look (what
            that leaves behind: docs/feed.md); its maps are kept. pinned_layers: of which layers.
        layers: see `layers.names.select`; by default all modules without children, and all that have weights.
            Operations ("layer1.0/relu") can be named too.
        limit_mb: how many megabytes the folder may take. Files of older looks make room; when lines alone take more
            than half, half as many steps are looked at.
        title: what the page calls it; the folder's name by default.
        alarms: whether alarms are told, on the console and in the feed; or by rule ({"dead-channels": "off"}).
        resume: go on with the run that the folder holds, behind its last step.
        owner: what `live_hooks` shows.

    Raises:
        HooksError: a rule or `every` is wrong; or, when the block begins, the folder holds a run already.
        LayerNotFound: a pattern means nothing. ModelNotSupported: hooks cannot see into this kind of model.
    """
    settings = settings_of(folder, every, pinned, pinned_layers, limit_mb, title, alarms, resume, owner)
    return Following(model, Path(folder), settings, layers, inner_optimizers(optimizer), scaler)
