"""The default model with a fault planted in it, at a layer that a test knows: what a person brings to a check-up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from doctor_models import default_model
from torch import Tensor, nn
from torch.nn import functional

DEAD = ("blocks.4.1.bn1", tuple(range(3, 300, 9)))  # a BatchNorm and its act, and which of its 672 channels
FORGOTTEN = "blocks.3.1.conv_pw"
BROKEN = "blocks.2.1.bn3"
DROPPED = "blocks.5"


def dead() -> nn.Module:
    """Some channels of a layer can never fire."""
    model = default_model()
    norm = model.get_submodule(DEAD[0])
    with torch.no_grad():
        norm.bias[list(DEAD[1])] = -40.0  # type: ignore[index]
    return model


def forgotten() -> nn.Module:
    """One layer was left as it was made."""
    model = default_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model.get_submodule(FORGOTTEN).reset_parameters()  # type: ignore[operator]
    return model


def broken() -> nn.Module:
    """One layer divides by the root of a negative variance."""
    model = default_model()
    norm = model.get_submodule(BROKEN)
    with torch.no_grad():
        norm.running_var[2] = -5.0  # type: ignore[index]
    return model


class _Dropping(nn.Sequential):
    """Drops values whatever its mode is."""

    def forward(self, values: Tensor) -> Tensor:
        return functional.dropout(super().forward(values), 0.2)  # training is True unless somebody says otherwise


def dropping() -> nn.Module:
    """A dropout as a function that nobody turned off."""
    model = default_model()
    blocks = model.get_submodule("blocks")
    blocks[5] = _Dropping(*blocks[5])  # type: ignore[index, operator, misc]
    return model


class _Slow(nn.Sequential):
    """Takes its time, so that it can be stopped and killed meanwhile."""

    def forward(self, values: Tensor) -> Tensor:
        time.sleep(0.5)
        return super().forward(values)


def slow() -> nn.Module:
    """A model whose check-up takes long; the process that runs it is written down."""
    Path(os.environ["FAULTY_PID"]).write_text(str(os.getpid()))
    return _Slow(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
