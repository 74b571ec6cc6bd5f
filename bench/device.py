"""`make test-device`: whether what the looks say holds on the accelerator that is there, and what hooks cost on it.

Each check compares what the library says on the accelerator with torch's own words there, taken by hand, and with the
same look on the processor. It installs nothing and needs torch and numpy; checks that need more name what is missing.
Nothing here chooses, resets or configures the accelerator.

    make test-device PYTHON=/path/to/python3
    python -m bench.device --device cuda:1
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import hookscope as hs
from hookscope.dashboard.worker.out_of_memory import is_want_of_memory
from hookscope.hooks.bench.cost import bench
from hookscope.hooks.methods import INPUTS, MAPS
from hookscope.hooks.numbers.reductions import statistics
from hookscope.hooks.results.looks import QUANTILE_LEVELS

LIMIT_SECONDS = 7 * 60  # no check is begun later than this
CLOSE = 1e-3  # of the largest value: how far two processors may be apart after some layers of float32
ROUNDING = 1e-5  # of the largest value: the same arithmetic on one processor in another order
HALF = 1e-2  # of a gradient's norm: what half precision may change
NOTHING = "Nothing to run: torch sees no accelerator here (CUDA, MPS or XPU)."


class Small(nn.Module):
    """Convolutions of which one is overwritten in place and one is used twice, attention, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, picture: Tensor) -> Tensor:
        maps = self.act(self.norm(self.first(picture)))
        maps = maps + functional.gelu(self.twice(self.twice(maps)))
        tokens = functional.avg_pool2d(maps, 4).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(tokens.mean(1))


class Recurrent(nn.Module):
    """A recurrent layer over the rows of a picture: cuDNN refuses its gradient in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.LSTM(48, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, picture: Tensor) -> Tensor:
        return self.head(self.rows(picture.transpose(1, 2).flatten(2))[0][:, -1])


@dataclass(frozen=True)
class Subject:
    """A network on the accelerator with its picture, and both once more on the processor."""

    device: torch.device
    model: nn.Module
    picture: Tensor
    there: nn.Module  # on the processor
    there_picture: Tensor


def subject(device: torch.device, make: Callable[[], nn.Module] = Small, size: int = 16, seed: int = 0) -> Subject:
    """A network of fixed random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().eval()
        picture = torch.randn(1, 3, size, size)
    return Subject(device, copy.deepcopy(model).to(device), picture.to(device), model, picture)


def near(found: Any, expected: Any, limit: float, what: str) -> float:
    """The largest difference, as a share of the largest expected value.

    Raises:
        AssertionError: it is above the limit, or one of both has values that are not finite.
    """
    found, expected = (np.asarray(_plain(each), np.float64) for each in (found, expected))
    assert found.shape == expected.shape, f"{what}: {found.shape} instead of {expected.shape}"
    assert np.isfinite(found).all() and np.isfinite(expected).all(), f"{what}: there are values that are not finite"
    apart = float(np.abs(found - expected).max(initial=0) / max(float(np.abs(expected).max(initial=0)), 1e-12))
    assert apart <= limit, f"{what}: {apart:.1e} of the largest value apart, where {limit:.0e} is allowed"
    return apart


def _plain(value: Any) -> Any:
    return value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value


def capture(device: torch.device) -> str:
    """Every layer's output is the one that a bare hook sees, bit for bit, before it is overwritten."""
    made = subject(device)
    seen_by_hand: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        handles = [
            module.register_forward_hook(
                lambda _, __, output, name=name: seen_by_hand.setdefault(name, []).append(output.clone())
            )
            for name, module in made.model.named_modules()
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.ReLU | nn.Linear) and "attention" not in name
        ]
        made.model(made.picture)
    for handle in handles:
        handle.remove()
    with torch.no_grad(), hs.capture(made.model, list(seen_by_hand)) as seen:
        made.model(made.picture)
    for name, outputs in seen_by_hand.items():
        for call, output in enumerate(outputs):
            value = seen[name, call].value
            assert value is not None and torch.equal(value, output), f"{name}, call {call}, is another tensor"
    assert float(seen["norm"].value.min()) < 0, "the value after the ReLU was kept for the one before it"
    assert len(seen_by_hand["twice"]) == 2
    return f"{sum(map(len, seen_by_hand.values()))} outputs, equal to the bit"


def numbers(device: torch.device) -> str:
    """Statistics of tensors on the accelerator are numpy's in float64."""
    generator = torch.Generator().manual_seed(1)
    worst, count = 0.0, 0
    for shape in ((1, 8, 40, 40), (2, 300, 7, 7), (1, 5, 3)):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            values = torch.randn(shape, generator=generator).relu().to(dtype)
            values[0, 0] = values[0, 0].masked_fill(
                torch.arange(values[0, 0].numel()).view_as(values[0, 0]) == 1, torch.nan
            )
            exact = values.double().numpy()
            finite = exact[np.isfinite(exact)]
            found = statistics(values.to(device), 1)
            assert (found.min, found.max, found.nan) == (finite.min(), finite.max(), 1)
            assert found.zeros == (finite == 0).mean(), "zeros were counted wrong"
            for name, number in (("mean", finite.mean()), ("std", finite.std())):
                worst = max(worst, near(getattr(found, name), number, 1e-6, name))
            near(found.quantiles, np.quantile(finite, QUANTILE_LEVELS), 1e-12, "quantiles")
            near(found.channels["mean"], np.nanmean(np.moveaxis(exact, 1, 0).reshape(shape[1], -1), 1), 1e-6, "means")
            count += 1
    return f"{count} tensors, means and deviations within {worst:.0e}{_without_waiting(device)}"


def _without_waiting(device: torch.device) -> str:
    """That nothing waits for numbers before they are read, where torch can tell."""
    if device.type != "cuda":
        return ""
    made, names = subject(device), ["first", "norm", "twice", "head"]
    for again in (False, True):  # constants are sent to the device when they are first needed
        with torch.no_grad(), hs.capture(made.model, names, numbers="exact") as seen:
            torch.cuda.set_sync_debug_mode("error" if again else "default")
            try:
                made.model(made.picture)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert all(record.statistics is not None and record.statistics.std > 0 for record in seen.records)
    return f"; nothing waits for those of {len(seen.records)} layers"


def maps(device: torch.device) -> str:
    """Grad-CAM is the one by hand there; every other kind is the processor's."""
    made = subject(device)
    leaf: list[Tensor] = []
    handle = made.model.act.register_forward_hook(lambda _, __, output: leaf.append(output))
    logits = made.model(made.picture)
    handle.remove()
    (slope,) = torch.autograd.grad(logits[0, 2], leaf[0])
    expected = (slope.mean((2, 3), keepdim=True) * leaf[0]).sum(1)[0]  # with its signs
    worst = near(hs.layer_map(made.model, made.picture, "act", 2).values, expected, ROUNDING, "Grad-CAM by hand")
    for method in MAPS:
        both = [
            hs.layer_map(model, picture, "act", 2, method).values
            for model, picture in ((made.model, made.picture), (made.there, made.there_picture))
        ]
        near(*both, CLOSE, method)
    return f"Grad-CAM by hand within {worst:.0e}; {len(MAPS)} kinds as on the processor"


def attention(device: torch.device) -> str:
    """Attention weights are those of the projections by hand, and each row sums to 1."""
    made = subject(device)
    tokens: list[Tensor] = []
    handle = made.model.attention.register_forward_pre_hook(lambda _, given: tokens.append(given[0]))
    with torch.no_grad():
        made.model(made.picture)
        handle.remove()
        projected = functional.linear(tokens[0], made.model.attention.in_proj_weight, made.model.attention.in_proj_bias)
        query, key, _ = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in projected.chunk(3, -1))
        expected = (query @ key.mT / 2).softmax(-1)[0]
    (found,) = hs.attention_maps(made.model, made.picture)
    worst = near(found.weights, expected, ROUNDING, "weights")
    near(found.weights.sum(-1), np.ones(found.weights.shape[:-1]), ROUNDING, "sums of rows")
    return f"{found.weights.shape[0]} heads within {worst:.0e}"


def gradients(device: torch.device) -> str:
    """Gradients at layers are autograd's by hand, and as on the processor."""
    made = subject(device)
    leaf: list[Tensor] = []
    handle = made.model.twice.register_forward_hook(lambda _, __, output: leaf.append(output))
    logits = made.model(made.picture)
    handle.remove()
    (expected,) = torch.autograd.grad(logits[0, 1], leaf[-1])
    pair = ((made.model, made.picture), (made.there, made.there_picture))
    found, there = (hs.gradients(model, picture, target=1).layers for model, picture in pair)
    (last,) = (layer for layer in found if (layer.layer, layer.call) == ("twice", 1))
    worst = near(last.norm, expected.double().norm(), ROUNDING, "a gradient's norm by hand")
    near([layer.norm for layer in found], [layer.norm for layer in there], CLOSE, "gradients at layers")
    return f"by hand within {worst:.0e}; {len(found)} layers as on the processor"


def training(device: torch.device) -> str:
    """Gradients of a feed under mixed precision are those of float32, unscaled, with plain and fused updates."""
    worst = 0.0
    ways = [(dtype, fused) for dtype in (torch.float16, torch.bfloat16) for fused in (False, True)]
    for dtype, fused in ways:
        made = subject(device)
        model, twin = made.model.train(), copy.deepcopy(made.model).train()
        pictures, classes = made.picture.repeat(8, 1, 1, 1), torch.arange(8, device=device) % 5
        pictures = pictures * torch.linspace(0.5, 1.5, 8, device=device)[:, None, None, None]
        scaler = torch.amp.GradScaler(device.type, init_scale=65_536.0) if dtype == torch.float16 else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused)
        with tempfile.TemporaryDirectory() as folder:
            with hs.follow(model, f"{folder}/run", every=1, optimizer=optimizer, scaler=scaler) as feed:
                with torch.autocast(device.type, dtype=dtype):
                    loss = functional.cross_entropy(model(pictures).float(), classes)
                (scaler.scale(loss) if scaler else loss).backward()
                feed.step(loss=loss)
                scaler.step(optimizer) if scaler else optimizer.step()
            (look,) = hs.read_feed(f"{folder}/run").looks
        functional.cross_entropy(twin(pictures), classes).backward()
        for layer in ("first", "twice", "head"):
            parts = [each.grad for each in getattr(twin, layer).parameters() if each.grad is not None]
            expected = torch.cat([each.flatten() for each in parts]).double().norm()
            worst = max(worst, near(look.of(layer)["g", "norm"], expected, HALF, f"{layer} in {dtype}, fused {fused}"))
            assert look.of(layer)["u", "ratio"] > 0, f"{layer}: no update was seen"
    return f"{len(ways)} ways within {worst:.0e} of float32"


def attributions(device: torch.device) -> str:
    """Attributions of the input are autograd's by hand, and the processor's."""
    made = subject(device)
    given = made.picture.clone().requires_grad_()
    (expected,) = torch.autograd.grad(made.model(given)[0, 1], given)
    found = hs.attribute_input(made.model, made.picture, "saliency", 1)
    worst = near(found.values, expected.abs().amax(1)[0], ROUNDING, "saliency by hand")
    pair = ((made.model, made.picture), (made.there, made.there_picture))
    for method in INPUTS:
        near(*(hs.attribute_input(model, picture, method, 1).values for model, picture in pair), CLOSE, method)
    return f"saliency within {worst:.0e}; {len(INPUTS)} kinds as on the processor"


def recurrent(device: torch.device) -> str:
    """A recurrent layer's gradient in evaluation mode, which cuDNN refuses, is the processor's, or a sentence."""
    made = subject(device, Recurrent)

    def norms(model: nn.Module, picture: Tensor) -> list[float]:
        layers = hs.gradients(model, picture, target=1).layers
        return [layer.norm for layer in layers if not layer.reason]  # the score does not depend on the last states

    expected = norms(made.there, made.there_picture)
    try:
        found = norms(made.model, made.picture)
    except hs.HooksError as error:
        return f"refused: {error}"
    return f"as on the processor within {near(found, expected, CLOSE, 'gradients'):.0e}"


def causes(device: torch.device) -> str:
    """A muted channel, the way two pictures part, what comes back, and likeness: by hand, and as on the processor."""
    made = subject(device)

    def without(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.cat([output[:, :3], torch.zeros_like(output[:, 3:4]), output[:, 4:]], 1)

    handle = made.model.act.register_forward_hook(without)
    with torch.no_grad():
        expected = made.model(made.picture)
        handle.remove()
        plain = made.model(made.picture)
        with hs.edit(made.model, [hs.mute("act", 3)]):
            found = made.model(made.picture)
    near(found, expected, ROUNDING, "a muted channel")
    assert not torch.equal(found, plain), "muting changed nothing"
    effect = hs.effects(made.model, made.picture, "act", 1).measured[3]
    near(effect, (expected - plain)[0, 1], CLOSE, "the effect of a muted channel")
    pair = ((made.model, made.picture), (made.there, made.there_picture))
    distances = [
        [call.distance for call in hs.parting(model, picture, picture.flip(-1)).calls] for model, picture in pair
    ]
    near(*distances, CLOSE, "distances")
    return f"muting by hand; {len(distances[0])} distances as on the processor"


def memory(device: torch.device) -> str:
    """Fifty looks leave nothing behind."""
    made = subject(device)

    def look() -> None:
        hs.layer_map(made.model, made.picture, "act", 2)
        hs.gradients(made.model, made.picture, target=1)

    taken = _allocated(device)
    for _ in range(5):
        look()
    before = taken()
    for _ in range(50):
        look()
    after = taken()
    assert after <= before * 1.02 + 1024, f"{before:,} bytes became {after:,}"
    assert not hs.live_hooks(made.model), "a hook is left on the model"
    return f"{before:,} bytes before, {after:,} after"


def too_large(device: torch.device) -> str:
    """Out of memory is a sentence that leaves the model as it was, and the next look works."""
    made = subject(device)
    hooks = len(hs.live_hooks(made.model))
    try:
        with torch.no_grad(), hs.capture(made.model, ["first"]):
            made.model(torch.empty(1, 3, 2**20, 2**20, device=device))
    except (RuntimeError, hs.HooksError) as error:
        said = str(error).splitlines()[0]
        assert is_want_of_memory(error), f"the page would not know what this is: {said}"
    else:
        raise AssertionError("a picture of 12 TB was taken")
    assert len(hs.live_hooks(made.model)) == hooks
    hs.layer_map(made.model, made.picture, "act", 2)
    return f"known as such: {said[:80]}"


def cost(device: torch.device) -> str:
    """What hooks cost: a table, of ResNet-50 where torchvision is there."""
    if importlib.util.find_spec("torchvision") is None:
        raise ModuleNotFoundError("torchvision")
    from torchvision.models import resnet50

    model = resnet50(weights=None).eval().to(device)
    return "\n\n" + bench(model, torch.randn(1, 3, 224, 224, device=device), repeats=7)


CHECKS: dict[str, Callable[[torch.device], str]] = {
    "capture": capture,
    "statistics": numbers,
    "maps": maps,
    "attention": attention,
    "gradients": gradients,
    "a training in mixed precision": training,
    "attributions": attributions,
    "a recurrent layer's gradient": recurrent,
    "causes": causes,
    "memory": memory,
    "out of memory": too_large,
    "what hooks cost": cost,
}


def _allocated(device: torch.device) -> Callable[[], int]:
    """How to ask for the bytes that tensors on a device take; on the processor nobody counts them."""
    if device.type == "mps":
        return torch.mps.current_allocated_memory
    if device.type == "cpu":
        return lambda: 0
    return lambda: torch.get_device_module(device).memory_allocated(device)


def _missing(error: BaseException | None) -> str | None:
    """The package for want of which an error was raised, or the one that it came from; None if that was not why."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return error.name or str(error)
        error = error.__cause__
    return None


def run(device: torch.device, names: Sequence[str] = ()) -> Iterator[tuple[str, bool, str, float]]:
    """Each check's name, whether it holds, what was seen, and how many seconds it took."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # 10 bits would not be comparable
    begun = time.monotonic()
    for name in names or CHECKS:
        start = time.monotonic()
        if start - begun > LIMIT_SECONDS:
            yield name, True, f"not begun: {LIMIT_SECONDS} s are over", 0.0
            continue
        try:
            holds, said = True, CHECKS[name](device)
        except Exception as error:
            missing = _missing(error)
            holds, said = missing is not None, f"not run: it needs {missing}"
            if missing is None:
                traceback.print_exc()
                said = f"{type(error).__name__}: {error}"
        yield name, holds, said, time.monotonic() - start


def main(arguments: Sequence[str]) -> int:
    """Run the checks and print what they ran on; 0 if all hold or there is nothing to run on, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.device", description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="cuda, cuda:N, mps, xpu or cpu (the accelerator that torch sees)")
    given = parser.parse_args(arguments)
    if not given.device and not torch.accelerator.is_available():
        print(NOTHING)
        return 0
    device = torch.device(given.device or torch.accelerator.current_accelerator())
    name = torch.get_device_module(device).get_device_name(device) if device.type in ("cuda", "xpu") else device.type
    print(f"On {name}, torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}.", flush=True)
    wrong = 0
    for check, holds, said, seconds in run(device):
        wrong += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {check} ({seconds:.1f} s): {said}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
