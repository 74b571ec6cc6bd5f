"""Whether the border of a layer's maps tells of the padding, and not of the picture.

The step from the outermost ring of positions to the one inside it, in deviations of the layer's own values further
inside, median over the channels. Zeros around a picture make a step in every network; measured in conv layers over 8
pictures it was at most 0.57 in EfficientNet-Lite0, 1 and 2, 0.36 in small networks trained on digits, and 0.58 in the
20 models with random weights of tests/healthy_models.py. A BatchNorm whose bias is 20 too large before a padded
convolution makes one of 8, padding with 5 instead of 0 one of 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hookscope.hooks.doctor.chain import Chain, drawn_of_filters
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.probe import Place
from hookscope.hooks.results.findings import Finding, Maps

SHOWN = 6  # maps
SIDE = 32  # of a map that is shown, at most
VARIES = 1e-4  # of a channel's magnitude: what varies less is rounding


def padding_artefact(patient: Patient) -> Iterator[Finding]:
    """See `rules.RULES`; only where the step comes up, and not in the layers that are fed with it."""
    limit = patient.limit("padding-artefact")
    chain, findings, looked = Chain(patient), [], 0
    stepped: set[Place] = set()
    for place, found in drawn_of_filters(patient).items():
        if found.maps is None:
            continue
        looked += 1
        total = found.maps.total.double() / found.maps.count
        steps = _steps(total, found.maps.squares / found.maps.count)
        known = steps[np.isfinite(steps)]
        value = float(np.median(known)) if known.size else 0.0
        if value <= limit:
            continue
        if not stepped:  # the first: those after it are fed with its border
            findings.append(_finding(chain, place, total, steps, value, limit))
        stepped.add(place)
    patient.found["padding-artefact: looked at"] = f"{looked:,} layers with maps, over 8 pictures."
    if len(stepped) > 1 and findings:
        layers = "1 layer after it has" if len(stepped) == 2 else f"{len(stepped) - 1:,} layers after it have"
        findings = [replace(findings[0], sentence=f"{findings[0].sentence[:-1]}, and {layers} such a border, too.")]
    yield from findings


def _steps(mean: torch.Tensor, squares: torch.Tensor) -> np.ndarray:
    """Float64 (channel,): the step of each; NaN of one that does not vary inside.

    Arguments:
        mean: (channel, height, width), over pictures. squares: (channel,), the sum of those of
            the values inside of one picture.
    """
    inside = mean[:, 1:-1, 1:-1]
    positions = inside[0].numel()
    deviation = (squares / positions - inside.mean((1, 2)) ** 2).clamp_min(0).sqrt()
    step = (_ring(mean).mean(1) - _ring(inside).mean(1)).abs()
    varies = deviation > VARIES * mean.abs().amax((1, 2))
    found: np.ndarray = torch.where(varies, step / deviation, torch.nan).numpy()
    return found


def _ring(maps: torch.Tensor) -> torch.Tensor:
    """(channel, position): the outermost positions."""
    sides = [maps[:, 0], maps[:, -1], maps[:, 1:-1, 0], maps[:, 1:-1, -1]]
    return torch.cat(sides, 1)


def _finding(chain: Chain, place: Place, mean: torch.Tensor, steps: np.ndarray, value: float, limit: float) -> Finding:
    order = np.argsort(-np.nan_to_num(steps))[:SHOWN]
    shown = mean[torch.from_numpy(order.copy())]
    if max(shown.shape[1:]) > SIDE:
        shown = functional.adaptive_max_pool2d(shown, tuple(min(SIDE, side) for side in shown.shape[1:]))
    channels = np.flatnonzero(np.nan_to_num(steps) > limit)
    return Finding(
        "padding-artefact",
        "warning",
        f"Along the border of {place[0]}'s maps the median channel's mean is {value:.3g} deviations off the positions "
        f"beside it (limit {limit:g}){_padding(chain, place)}.",
        why="What the border says comes of the padding and not of the picture, and later layers take it for content.",
        advice=f"Look at what {place[0]} is given: a bias far from 0 makes zeros an edge; pad as in training "
        "(`padding_mode`), or with the input's usual value.",
        layer=place[0],
        call=place[1],
        channels=tuple(map(int, channels)),
        value=value,
        limit=limit,
        excess=max(1.0, value / limit) if limit else value + 1,
        evidence=Maps(
            "mean over 8 pictures of the channels with the largest steps",
            tuple(f"channel {channel}: {steps[channel]:.3g}" for channel in order),
            shown.float().numpy(),
        ),
        among=len(steps),
    )


def _padding(chain: Chain, place: Place) -> str:
    fed = chain.feeding.get(place)
    if fed is None or fed.function or not isinstance(fed.module, nn.Conv2d):
        return ""
    padding = fed.module.padding
    if padding in ((0, 0), "valid"):
        return "; it pads nothing itself"
    return f"; it pads {padding if isinstance(padding, str) else padding[0]} by {fed.module.padding_mode}"
