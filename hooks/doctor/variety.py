"""How much the pictures differ from each other: of pictures of one kind some of what rules look at is theirs.

Share of the variance that lies between the pictures, measured: 0.2 to 0.5 of any 8 of 13 photographs, 0.01 to 0.12 of 8
handwritten digits, 0.03 to 0.08 of crops of one photograph of a cat, 0.0003 of crops of one photograph of galaxies.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.modules import conv

from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.probe import feeding
from hookscope.hooks.doctor.stored import Stored

ALIKE = 0.1  # share of the variance between pictures, below which they are much alike
ONE_SCENE = 0.01  # below which they are as good as parts of one
ONE_CLASS = 0.9  # share of the pictures
GREY = 0.01  # of the deviation of all values, by which channels of a picture in colour differ
UNLIKE = 1.0  # deviations of the values, by which their mean is another than that of the training
EXPLAINED = 0.9  # of a first BatchNorm's stored means, by the weights before it and one mean of each colour


def between(patient: Patient) -> float:
    """The share of the values' variance that lies between the pictures' means, 0..1, the mean over their channels."""
    known = patient.found.get("variety: between")
    if known is None:
        means = torch.cat([batch.double().mean((2, 3)) for batch in patient.batches])
        squares = torch.cat([batch.double().square().mean((2, 3)) for batch in patient.batches]).mean(0)
        total = (squares - means.mean(0).square()).clamp_min(1e-12)
        known = patient.found["variety: between"] = float((means.var(0, correction=0) / total).mean())
    assert isinstance(known, float)
    return known


def of_one_class(patient: Patient) -> bool:
    """Whether nearly all pictures show the same, by their labels, or by the answers where there are none."""
    answers = patient.seen.answers
    shown = patient.labels[patient.labels >= 0]
    if not len(shown) and answers is not None:
        shown = np.asarray(answers.best[:, 0])
    return bool(len(shown)) and int(np.unique(shown, return_counts=True)[1].max()) >= ONE_CLASS * len(shown)


def in_grey(patient: Patient) -> bool:
    """Whether the pictures have three channels, and no colour in any of them: the same but for a mean and a deviation
    of each channel.
    """
    known = patient.found.get("variety: grey")
    if known is None:
        values = torch.cat([batch.double().transpose(0, 1).flatten(1).cpu() for batch in patient.batches], 1)
        mean, spread = values.mean(1, keepdim=True), values.std(1, correction=0, keepdim=True).clamp_min(1e-12)
        known = patient.found["variety: grey"] = _is_grey((values - mean) / spread)
    return bool(known)


def _is_grey(values: torch.Tensor) -> bool:
    """Of float64 (channel, value)."""
    spread = values.std(1, correction=0).clamp_min(1e-12)
    return len(values) == 3 and bool((values - values.mean(0)).abs().mean() < GREY * spread.mean())


def unlike_the_trainings(patient: Patient, stored: Stored) -> bool:
    """Whether the pictures are of a narrow kind, and the first BatchNorm's means are right whatever they show.

    What a first convolution gives on average is its weights times the mean of each colour. So of as many means as it
    has channels all but three follow from the weights, where nobody has touched them.
    """
    means = _of_the_training(patient, stored)
    if means is None:
        return False
    values = torch.cat([batch.double().transpose(0, 1).flatten(1).cpu() for batch in patient.batches], 1)
    spread = values.std(1, correction=0).clamp_min(1e-12)
    grey = _is_grey(values)
    far = bool(((values.mean(1) - means).abs() > UNLIKE * spread).any())
    return grey or far or between(patient) < ALIKE


def _of_the_training(patient: Patient, stored: Stored) -> torch.Tensor | None:
    """Float64 (channel,): the means of the colours for which a first BatchNorm's stored means are right; None if there
    are none, or if it is not fed by a convolution of the pictures.
    """
    fed = next((each for (name, _), each in feeding(patient).items() if _is_of(name, stored.name)), None)
    source = patient.modules.get(fed.sources[0][0]) if fed is not None and len(fed.sources) == 1 else None
    if not isinstance(source, nn.Conv2d) or source.groups != 1 or isinstance(source, conv._ConvTransposeNd):
        return None
    weight = source.weight.detach().double().cpu()
    if weight.shape[1] != patient.batches[0].shape[1] or len(weight) < 4 * weight.shape[1]:
        return None
    spread = torch.from_numpy(np.sqrt(stored.variance + stored.eps))
    bias = 0.0 if source.bias is None else source.bias.detach().double().cpu()
    wanted = (torch.from_numpy(stored.mean) - bias) / spread
    sums = weight.sum((2, 3)) / spread[:, None]
    means = torch.linalg.lstsq(sums, wanted[:, None]).solution[:, 0]
    left = (wanted - sums @ means).square().sum()
    return means if float(left) < (1 - EXPLAINED) * float(wanted.square().sum()) else None


def _is_of(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}/")
