"""What hooks cost over a bare forward pass, and Grad-CAM over a forward pass and a gradient; peers in the same loop."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench import conditions
from bench.options import Options, say
from bench.report import Table, median, median_ratio, milliseconds, times
from dashboard.engine.protocol import ModelOptions
from dashboard.worker.models import LoadedModel, load
from hooks.attribution import grad_cam
from hooks.capture import capture
from hooks.results import GradCam

CONVS = ":Conv2d"
TARGET = 285  # a class; which one makes no difference to the time
BARE, GRADIENT = "the bare forward pass", "a forward pass and the gradient to its input"
GRAD_CAM = "Grad-CAM, **Hookscope**"
PEERS = {"captum": "captum", "pytorch_grad_cam": "grad-cam", "torchcam": "torchcam"}  # by module


@dataclass(frozen=True)
class Subject:
    """A model whose hooks are timed.

    Attributes:
        spec: as the command line names it. late: the layer that Grad-CAM explains.
    """

    spec: str
    title: str
    late: str


SUBJECTS = (
    Subject("torchvision:resnet50@random", "ResNet-50", "layer4"),
    Subject("torchvision:vgg16@random", "VGG-16", "features.29"),
)

Work = Callable[[], object]


@dataclass
class Times:
    """Milliseconds of every piece of work, one per round.

    Attributes:
        wall: by the clock. own: of processor time in the thread that works, which other programs disturb less.
    """

    wall: dict[str, list[float]]
    own: dict[str, list[float]]


def run(options: Options) -> Table:
    """Measure and describe."""
    found: dict[str, Times] = {}
    convs: dict[str, int] = {}
    for subject in SUBJECTS:
        say(f"hooks: {subject.title}")
        model = load(ModelOptions(subject.spec), "cpu")
        convs[subject.title] = sum(isinstance(module, nn.Conv2d) for module in model.module.modules())
        found[subject.title] = in_turns(works(model, subject), options.repeats)
    return table(found, convs, options)


def in_turns(works: Mapping[str, Work], repeats: int) -> Times:
    """Do every piece of work once per round, each round in another order, so that a drift of the machine meets all."""
    names = list(works)
    taken = Times({name: [] for name in names}, {name: [] for name in names})
    for number in range(repeats + 1):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order:
            clock, own = time.perf_counter(), time.thread_time()
            works[name]()
            clock, own = time.perf_counter() - clock, time.thread_time() - own
            if number:
                taken.wall[name].append(clock * 1000)
                taken.own[name].append(own * 1000)
    return taken


def works(model: LoadedModel, subject: Subject) -> dict[str, Work]:
    """Everything that is timed for a model, by its name in the table."""
    module, picture = model.module, model.prepare.noise(0)

    def bare() -> None:
        with torch.no_grad():
            module(picture)

    def captured(statistics_only: bool = False, distribution: bool = True) -> Work:
        def work() -> None:
            with (
                torch.no_grad(),
                capture(module, CONVS, statistics_only=statistics_only, distribution=distribution),
            ):
                module(picture)

        return work

    def gradient() -> None:
        given = picture.detach().clone().requires_grad_()
        torch.autograd.grad(module(given)[0, TARGET], given)

    ours = _ours(model, subject, picture)
    expected = ours()
    found: dict[str, Work] = {
        BARE: bare,
        "capture of all convolutions": captured(),
        "statistics only: moments, extremes, zeros, NaN, Inf": captured(statistics_only=True, distribution=False),
        "statistics only: with quantiles and histogram": captured(statistics_only=True),
        GRADIENT: gradient,
        GRAD_CAM: ours,
    }
    for name, peer in _peers(module, subject.late, picture).items():
        shown = f"Grad-CAM, {PEERS[name]}"
        _compare(expected, peer(), shown)
        found[shown] = peer
    return found


def _ours(model: LoadedModel, subject: Subject, picture: Tensor) -> Callable[[], np.ndarray]:
    def work() -> np.ndarray:
        found: list[GradCam] = []
        grad_cam(model.module, picture, [(subject.late, 0)], TARGET, model.info.layers, found.append)
        return found[0].values

    return work


def _peers(module: nn.Module, late: str, picture: Tensor) -> dict[str, Callable[[], np.ndarray]]:
    """The same map by each peer that is installed; those that are not are left out."""
    makers = {"captum": _captum, "pytorch_grad_cam": _grad_cam, "torchcam": _torchcam}
    found = {}
    for name, make in makers.items():
        try:
            importlib.import_module(name)
        except ImportError:
            say(f"hooks: {PEERS[name]} is not installed, so it is left out")
            continue
        found[name] = make(module, module.get_submodule(late), picture)
    return found


def _captum(module: nn.Module, layer: nn.Module, picture: Tensor) -> Callable[[], np.ndarray]:
    from captum.attr import LayerGradCam

    explain = LayerGradCam(module, layer)
    return lambda: explain.attribute(picture, target=TARGET)[0, 0].detach().numpy()


def _grad_cam(module: nn.Module, layer: nn.Module, picture: Tensor) -> Callable[[], np.ndarray]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    explain = GradCAM(module, [layer])
    return lambda: explain(picture, targets=[ClassifierOutputTarget(TARGET)])[0]


def _torchcam(module: nn.Module, layer: nn.Module, picture: Tensor) -> Callable[[], np.ndarray]:
    from torchcam.methods import GradCAM

    def work() -> np.ndarray:
        with GradCAM(module, layer) as explain:
            return explain(TARGET, module(picture.detach().clone().requires_grad_()))[0][0].numpy()

    return work


def _compare(expected: np.ndarray, found: np.ndarray, name: str) -> None:
    """Say so if a peer's map is not ours; those that scale or resize theirs cannot be compared."""
    if found.shape == expected.shape and found.min() < 0 and not np.allclose(found, expected, atol=1e-5):
        say(f"hooks: {name} finds another map, which differs by up to {np.abs(found - expected).max():.2g}")


def table(found: Mapping[str, Times], convs: Mapping[str, int], options: Options) -> Table:
    """Two columns per model: the median, and the median ratio to what stands first in its half of the table."""
    rows = []
    for name in next(iter(found.values())).wall:
        base = GRADIENT if name.startswith("Grad-CAM") else BARE
        cells = []
        for taken in found.values():
            ratio = median_ratio(taken.wall[name], taken.wall[base])
            own = median_ratio(taken.own[name], taken.own[base])
            cells += [milliseconds(median(taken.wall[name])), "1" if name == base else f"{times(ratio)} ({times(own)})"]
        rows.append([name, *cells])
    columns = [head for title in found for head in (f"{title}, {convs[title]} convolutions", "ratio")]
    notes = [
        f"Medians of {options.repeats} rounds after a warm-up, each round with all of them in another order; ratios",
        "are medians of the rounds', by the clock and, in brackets, by the processor time of the calling thread.",
        "Hooks and the gradient are compared with the bare forward pass, Grad-CAM of a late layer with a forward pass",
        f"and the gradient to its input. One picture of 224 × 224, random weights, {torch.get_num_threads()} threads.",
        conditions.sentence(["torch", *_installed()]),
    ]
    return Table("hooks", ["", *columns], rows, notes)


def _installed() -> Sequence[str]:
    found = []
    for module, package in PEERS.items():
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        found.append(package)
    return found
