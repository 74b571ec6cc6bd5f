"""Where the units of a layer look: all that they can depend on, and where that is the whole picture, what they do."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch

from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.worker.sweeping import blank
from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.receptive import effective_extent, receptive_fields
from hookscope.hooks.results.receptive import ReceptiveField

PICTURES = 3  # random ones; with more of them the extent changes by less than a twentieth
SECONDS = 1.0  # after which no other is begun: a click waits for it


def field_of(model: LoadedModel, layer: str, call: int) -> ReceptiveField:
    """The field of a layer's units; where each can depend on the whole picture, with its effective extent.

    Raises:
        HooksError: why there is no field. Without a gradient there is no extent, which is no error.
    """
    picture = blank(model)
    field = receptive_fields(model.module, picture, layer, call, model.info.layers)
    if not field.whole:
        return field
    own = torch.Generator().manual_seed(0)
    random = torch.randn((PICTURES, *picture.shape[1:]), generator=own).to(picture.device)
    with contextlib.suppress(HooksError):
        extent = effective_extent(model.module, random, layer, call, model.info.layers, seconds=SECONDS)
        field = replace(field, effective=extent)
    return field
