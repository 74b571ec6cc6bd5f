"""What hooks cost on a model of one's own: each way of looking timed against the forward pass without it.

python app.py bench torchvision:resnet50
python app.py bench package.module:factory --input-size 320x240 --layers ":Conv2d"
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.bench.build import load, noise
from hookscope.hooks.bench.timing import Times, Work, in_turns, median, milliseconds, table
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import Pattern, select
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.records import Record
from hookscope.hooks.numbers.compiled import kernels
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.modes import eager, evaluate, preserve, unwrap
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.looks import Call, GradCam, LayerInfo

BARE, GRADIENT = "the bare forward pass", "a forward pass and the gradient to its input"
GRADIENTS, GRAD_CAM = "gradients at all layers, with statistics", "Grad-CAM"
WITHOUT_NUMBA = "Without numba, which makes statistics faster: pip install 'hookscope[fast]'."
TARGET = 0  # a class; which one makes no difference to the time


def bench(
    model: nn.Module, picture: Tensor, patterns: Pattern | Iterable[Pattern] | None = None, *, repeats: int = 7
) -> str:
    """A Markdown table of what hooks cost on a model.

    Arguments:
        picture: one input, e.g. float32 (image, channel, height, width).
        patterns: the layers that are looked at, see `layers.names.select`; every layer without children by default.
        repeats: rounds after one that is not counted.

    Raises:
        LayerNotFound: a pattern means nothing.
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    with preserve(unwrap(model)), eager(model):
        evaluate(unwrap(model))
        layers = describe(model, picture)
        chosen = [info.name for info in layers if info.leaf and info.calls] if patterns is None else patterns
        names = list(select(model, chosen))
        late = late_layer(model, picture, layers)
        taken = in_turns(costs(model, picture, names, layers, late), repeats)
    head = f"{type(unwrap(model)).__name__}, {len(names)} layers"
    notes = [
        f"Medians of {repeats} rounds after a warm-up, each round in another order. Ratios by the clock and, in",
        f"brackets, by the processor time of the calling thread. Input {_size(picture)}, {torch.get_num_threads()}",
        f"threads, torch {torch.__version__}.",
        *([] if kernels() else [WITHOUT_NUMBA]),
        f"Gradients are compared with {GRADIENT}" + (f", and so is Grad-CAM of {late!r}." if late else "."),
    ]
    return f"{table(['', head, 'ratio'], rows(taken))}\n\n{' '.join(notes)}"


def rows(taken: Times) -> list[list[str]]:
    """A row per piece of work: its name, its median, and its ratio to what it is compared with."""
    found = []
    for name in taken.wall:
        base = GRADIENT if name.startswith((GRAD_CAM, GRADIENTS)) else BARE
        ratio = "1" if name == base else taken.ratio(name, base)
        found.append([name, milliseconds(median(taken.wall[name])), ratio])
    return found


def costs(
    model: nn.Module,
    picture: Tensor,
    names: list[str],
    layers: tuple[LayerInfo, ...] = (),
    late: str | None = None,
    target: int = TARGET,
) -> dict[str, Work]:
    """Everything that is timed, by its name in the table.

    Arguments:
        names: the layers that are looked at.
        layers, late: what `describe` said, and the layer that Grad-CAM explains; without one it is left out.
    """

    def settle(records: Iterable[Record] = ()) -> None:
        """An accelerator is only told what to do: have it done, and the numbers of these records read."""
        for record in records:
            _ = record.statistics
        if picture.device.type != "cpu":
            torch.accelerator.synchronize(picture.device)

    def bare() -> None:
        with torch.no_grad():
            model(picture)
        settle()

    def idle() -> None:
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for name, module in select(model, names).items():
                stack.enter_context(hook(module, "forward", _nothing, layer=name, owner="bench", purpose="monitoring"))
            model(picture)
        settle()

    def captured(**options: Any) -> Work:
        def work() -> None:
            with torch.no_grad(), capture(model, names, **options) as seen:
                model(picture)
            settle(seen)

        return work

    def gradient() -> None:
        given = _leaf(picture)
        torch.autograd.grad(_score(model(given)), given)
        settle()

    def gradients() -> None:
        with capture(model, names, gradients=True, numbers="plain") as seen:
            output = model(_leaf(picture))
        seen.differentiate(_score(output))
        settle(seen)

    works: dict[str, Work] = {
        BARE: bare,
        "hooks that do nothing": idle,
        "capture": captured(),
        "statistics only: moments, extremes, zeros, NaN, Inf": captured(numbers="plain"),
        "statistics only: with histogram, quantiles from it": captured(numbers="approximate"),
        "statistics only: with exact quantiles and histogram": captured(numbers="exact"),
    }
    if not _frozen_output(model, picture):
        works |= {GRADIENT: gradient, GRADIENTS: gradients}
    if late is not None:
        works[GRAD_CAM] = lambda: our_map(model, picture, late, layers, target)
    return works


def our_map(model: nn.Module, picture: Tensor, late: str, layers: tuple[LayerInfo, ...], target: int) -> GradCam:
    """Grad-CAM of one layer."""
    ((_, _, found),) = grad_cam(model, picture, [(late, 0)], target, layers)
    if isinstance(found, HooksError):
        raise found
    return found


def late_layer(model: nn.Module, picture: Tensor, layers: tuple[LayerInfo, ...]) -> str | None:
    """The last layer, in execution order, of which Grad-CAM can make a map; None if none has one.

    It is looked for among the last few: a model that is no classifier has none, and should not be asked at all layers.
    """
    spatial = [
        (info.calls[0].order, info.name)
        for info in layers
        if len(info.calls) == 1 and {"height", "width"} <= set(info.calls[0].axes) and _height(info.calls[0]) > 1
    ]
    for _, name in sorted(spatial, reverse=True)[:6]:
        try:
            our_map(model, picture, name, layers, TARGET)
        except HooksError:
            continue
        return name
    return None


def _height(call: Call) -> int:
    return call.shape[call.axes.index("height")]


def run(spec: str, size: tuple[int, int], patterns: list[Pattern] | None, repeats: int) -> str:
    """What the command prints.

    Raises:
        HooksError: the model cannot be built, is not supported, or does not accept such an input.
    """
    model, picture = load(spec), noise(size)
    evaluate(unwrap(model))
    try:
        with torch.no_grad():
            model(picture)
    except Exception as error:
        raise HooksError(
            f"{spec} does not accept a picture of {size[0]} × {size[1]} ({type(error).__name__}: {error}). "
            "Try another --input-size."
        ) from error
    return bench(model, picture, patterns, repeats=repeats)


def _nothing(*given: object) -> None:
    return None


def _leaf(picture: Tensor) -> Tensor:
    return picture.detach().clone().requires_grad_()


def _score(output: Any) -> Tensor:
    """One number that depends on the whole answer."""
    parts = [t.sum() for _, t in nested.tensors(output) if t.is_floating_point() and t.requires_grad]
    return torch.stack(parts).sum()


def _frozen_output(model: nn.Module, picture: Tensor) -> bool:
    """Whether the model's answer has no graph, so that there is no gradient to time."""
    return not any(tensor.requires_grad for _, tensor in nested.tensors(model(_leaf(picture))))


def _size(picture: Tensor) -> str:
    return " × ".join(map(str, picture.shape[-2:]))
