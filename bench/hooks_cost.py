"""What hooks cost over a bare forward pass, and Grad-CAM over a forward pass and a gradient; peers in the same loop."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.hooks.bench.cost import GRAD_CAM, costs, our_map, rows
from hookscope.hooks.bench.timing import Times, Work, in_turns
from hookscope.hooks.causes.parting import parting
from hookscope.hooks.layers.names import select

CONVS = ":Conv2d"
TARGET = 285  # a class; which one makes no difference to the time
OURS = f"{GRAD_CAM}, **Hookscope**"
PARTING = "A against B at every layer and function: both sides together"
PEERS = {  # by module
    "captum": "captum",
    "pytorch_grad_cam": "grad-cam",
    "torchcam": "torchcam",
    "torchlens": "torchlens (every operation)",
}


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


def run(options: Options) -> Table:
    """Measure and describe."""
    found: dict[str, tuple[Times, Times]] = {}
    convs: dict[str, int] = {}
    threads = torch.get_num_threads()
    for subject in SUBJECTS:
        say(f"hooks: {subject.title}")
        model = load(ModelOptions(subject.spec), "cpu")
        convs[subject.title] = sum(isinstance(module, nn.Conv2d) for module in model.module.modules())
        work = works(model, subject)
        together = in_turns(work, options.repeats)
        torch.set_num_threads(1)
        try:
            found[subject.title] = together, in_turns(work, options.repeats)
        finally:
            torch.set_num_threads(threads)
    return table(found, convs, options)


def works(model: LoadedModel, subject: Subject) -> dict[str, Work]:
    """Everything that is timed for a model, by its name in the table: what `python app.py bench` times, and peers."""
    module, picture, layers = model.module, model.prepare.noise(0), model.info.layers
    found = costs(module, picture, list(select(module, CONVS)), layers, subject.late, TARGET)
    found = {name: work for name, work in found.items() if name != GRAD_CAM}
    found |= _peers_of_capture(module, picture)
    found[PARTING] = lambda: parting(module, picture, -picture, layers=layers, distributions="none")

    def ours() -> np.ndarray:
        return our_map(module, picture, subject.late, layers, TARGET).values

    found[OURS] = ours
    expected = ours()
    for name, peer in _peers(module, subject.late, picture).items():
        shown = f"{GRAD_CAM}, {PEERS[name]}"
        _compare(expected, peer(), shown)
        found[shown] = peer
    return found


def _peers_of_capture(module: nn.Module, picture: Tensor) -> dict[str, Work]:
    """All convolutions' outputs by those peers that capture layers."""
    convs = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]

    def by_captum() -> object:
        from captum.attr import LayerActivation

        with torch.no_grad():
            return LayerActivation(module, convs).attribute(picture)

    def by_torchlens() -> object:
        import torchlens

        with torch.no_grad():
            return torchlens.trace(module, picture)

    found: dict[str, Work] = {}
    for name, work in (("captum", by_captum), ("torchlens", by_torchlens)):
        if _there(name):
            found[f"capture, {PEERS[name]}"] = work
    return found


def _peers(module: nn.Module, late: str, picture: Tensor) -> dict[str, Callable[[], np.ndarray]]:
    """The same map by each peer that is installed; those that are not are left out."""
    makers = {"captum": _captum, "pytorch_grad_cam": _grad_cam, "torchcam": _torchcam}
    found = {}
    for name, make in makers.items():
        if _there(name):
            found[name] = make(module, module.get_submodule(late), picture)
    return found


def _there(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        say(f"hooks: {PEERS[name]} is not installed, so it is left out")
        return False
    return True


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


def table(found: Mapping[str, tuple[Times, Times]], convs: Mapping[str, int], options: Options) -> Table:
    """Per model the median, and the median ratio to what stands first in its half of the table; then with one thread.

    Arguments:
        found: by the model's title, the times with all threads and those with one.
    """
    cells = [
        [[*line, ratio] for line, (*_, ratio) in zip(rows(together), rows(alone), strict=True)]
        for together, alone in found.values()
    ]
    body = [[line[0][0], *(cell for name, *rest in line for cell in rest)] for line in zip(*cells, strict=True)]
    columns = [head for title in found for head in (f"{title}, {convs[title]} convolutions", "ratio", "one thread")]
    notes = [
        f"Medians of {options.repeats} rounds after a warm-up, each round with all of them in another order; ratios",
        "are medians of the rounds', by the clock and, in brackets, by the processor time of the calling thread.",
        "Hooks and the gradient are compared with the bare forward pass, Grad-CAM of a late layer and the gradients",
        "with a forward pass and the gradient to its input. One picture of 224 × 224, random weights,",
        f"{torch.get_num_threads()} threads, and in the last column of each model one: reductions gain less from a",
        "second thread than convolutions do.",
        conditions.sentence(["torch", *_installed()]),
    ]
    return Table("hooks", ["", *columns], body, notes)


def _installed() -> Sequence[str]:
    found = []
    for module, package in PEERS.items():
        try:
            importlib.import_module(module)
        except ImportError:
            continue
        found.append(package.partition(" ")[0])
    return found
