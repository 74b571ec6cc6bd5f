"""Whether weights are still as they were made: told from the values alone.

What an initialisation draws are independent numbers of one distribution: uniform, normal, or normal with its ends cut
off. So every filter, every input channel and every place of the kernel gets the same share of them, neighbours know
nothing of each other, and no direction is stronger than chance makes it. Training changes all of that, and moves a few
weights beyond the ends. Orthogonal weights are more even than independent ones, and pass. The scale is not asked for:
everybody has one of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

Verdict = Literal["initial", "trained", "fixed", "unknown"]
LEAST = 200  # values, of fewer nothing can be told
FEW = 1000  # values, up to which an initialisation is told only if its bound is PyTorch's own, or the bias says so too
TINY = 1e-4  # biases below it are drawn to be next to nothing
UNLIKELY = 1e-6
MOST = 10_000  # values that are sorted
MOST_SUMMED = 100_000  # values that are added up by rows and columns
STEPS = 25  # of the search for the strongest direction
SPARSE = 0.3  # share of zeros, from which on weights are made by something else than drawing or training
REPEATED = 0.2  # share of different values, below which they are
TRAINED, UNSURE = 6.5, 4.5  # standard deviations from what independent draws give: beyond, and up to which it is none
MANY = 10  # layers that are as they were made, beside which normalisations alone do not say that a model is trained
CUT = 2.0  # deviations, at which normal distributions are customarily cut off


@dataclass(frozen=True)
class Drawn:
    """A distribution from which weights are drawn, with deviation 1.

    Attributes:
        name: for people. fourth: its fourth moment. end: the largest value that there is, infinite where none is.
    """

    name: str
    fourth: float
    end: float

    def below(self, values: Tensor) -> Tensor:
        """The share of it below each value."""
        if self.name == "uniform":
            return ((values / self.end + 1) / 2).clamp(0, 1)
        if math.isinf(self.end):
            return torch.special.ndtr(values)
        low = _normal_below(-CUT)
        return ((torch.special.ndtr(values * (CUT / self.end)) - low) / (1 - 2 * low)).clamp(0, 1)


def _normal_below(value: float) -> float:
    return (1 + math.erf(value / math.sqrt(2))) / 2


def _cut_off() -> Drawn:
    """The normal distribution without what lies beyond `CUT` of its own deviations."""
    kept = 1 - 2 * _normal_below(-CUT)
    edge = 2 * math.exp(-CUT * CUT / 2) / math.sqrt(2 * math.pi) / kept
    second = 1 - CUT * edge
    fourth = 3 * second - CUT**3 * edge
    return Drawn("truncated normal", fourth / second**2, CUT / math.sqrt(second))


FAMILIES = (Drawn("uniform", 1.8, math.sqrt(3)), _cut_off(), Drawn("normal", 3.0, math.inf))


@dataclass(frozen=True)
class Look:
    """What the values of one tensor say.

    Attributes:
        verdict: "initial", "trained", "fixed" (constants, tables and filters that nobody draws or trains), or
            "unknown".
        size: how many values it has. family: the distribution that is most like it. spread: their deviation from 0.
        largest: their largest magnitude.
        uneven: how many times as much its rows or columns differ from each other as independent draws do; NaN where
            that was not looked at.
        doubt: standard deviations by which it misses what independent draws give, the largest over all tests.
        constant: the one value that it has; NaN where there are several.
    """

    verdict: Verdict
    size: int
    family: str = ""
    spread: float = math.nan
    largest: float = math.nan
    uneven: float = math.nan
    doubt: float = math.nan
    constant: float = math.nan
    tests: dict[str, float] = field(default_factory=dict, compare=False)


def look_at(tensor: Tensor) -> Look:
    """Tell of one tensor of weights, (output, ...), whether it is as an initialisation draws it."""
    size = tensor.numel()
    if not size or not tensor.is_floating_point() or tensor.is_meta or tensor.layout != torch.strided:
        return Look("unknown", size)
    with torch.no_grad():
        values = _blocks(tensor.detach())
        first = float(values[0, 0, 0])
        if bool((values == first).all()):
            return Look("fixed", size, constant=first)
        spread = float(values.square().mean().sqrt())
        if not math.isfinite(spread) or not spread:
            return Look("unknown", size)
        return _told(values / spread, size, spread, tensor.detach())


def _told(values: Tensor, size: int, spread: float, tensor: Tensor) -> Look:
    """Of values whose mean square is 1, (row, column, place)."""
    some = values.flatten()
    if len(some) > MOST:
        some = some[:: -(-len(some) // MOST)]
    some = some.sort().values
    count = len(some)
    largest = float(values.abs().max())
    known = Look("unknown", size, spread=spread, largest=largest * spread)
    if size < LEAST:
        return known
    different = 1 + int((some[1:] != some[:-1]).sum())
    if float((some == 0).float().mean()) > SPARSE or (different < REPEATED * count and some.dtype != torch.bfloat16):
        return Look("fixed", size, spread=spread, largest=largest * spread)
    misses = [max(_misfit(some, largest, each), _beyond_ends(values, largest, each)) for each in FAMILIES]
    best = min(range(len(FAMILIES)), key=lambda number: misses[number])
    # among those that are about as good the one with the longer tails, or unequal rows would be seen where none are
    close = max(misses[best] + 1, UNSURE / 2)
    fourth = max(
        each.fourth for each, miss in zip(FAMILIES, misses, strict=True) if miss < close or miss == misses[best]
    )
    tests, uneven = _structure(values, fourth)
    tests["distribution"] = misses[best]
    doubt = max(tests.values())
    if doubt < UNSURE:
        doubt = max(doubt, _strongest(values))
        if min(tests.values()) < -UNSURE and not _orthogonal(tensor):  # more even than draws are
            doubt = max(doubt, UNSURE)
    verdict: Verdict = "trained" if doubt > TRAINED else "initial" if doubt < UNSURE else "unknown"
    return Look(verdict, size, FAMILIES[best].name, spread, largest * spread, uneven, doubt, tests=tests)


def _blocks(tensor: Tensor) -> Tensor:
    """float32 (row, column, place of the kernel), on the CPU, of a tensor of any shape; of a large one every n-th."""
    shape = [length for length in tensor.shape if length != 1] or [1]
    if tensor.ndim > 2 and tensor.shape[1] == 1:  # a depthwise convolution's: what is left is the kernel
        values = tensor.reshape(tensor.shape[0], 1, -1)
    else:
        values = tensor.reshape(shape[0], shape[1] if len(shape) > 1 else 1, -1)
    while values.numel() > MOST_SUMMED:
        rows, columns, places = values.shape
        longest = max(rows, columns, places)
        if longest == rows:
            values = values[::2]
        elif longest == columns:
            values = values[:, ::2]
        else:
            values = values[:, :, ::2]
    return values.to("cpu", torch.float32)


def _misfit(some: Tensor, largest: float, family: Drawn) -> float:
    """How unlikely a family is for sorted values whose deviation from 0 is 1, as deviations of a normal distribution.

    By the test of Kolmogorov and Smirnov. A uniform distribution is fitted by its largest value, which
    is far surer than its deviation.
    """
    count = len(some)
    scaled = some * (family.end / largest) if family.name == "uniform" else some
    places = (torch.arange(count) + 0.5) / count
    most = float((family.below(scaled) - places).abs().max()) * math.sqrt(count)
    return math.sqrt(max(0.0, 4 * most * most - 2 * math.log(2)))


def _beyond_ends(values: Tensor, largest: float, family: Drawn) -> float:
    """By how many standard deviations the largest value is beyond the family's end, and never below 0.

    Of a normal distribution: how unlikely it is that so many values have none smaller, as deviations of a normal one.
    """
    count = values.numel()
    if math.isinf(family.end):
        log_chance = math.log(count) - largest * largest / 2 - math.log(largest * math.sqrt(math.pi / 2))
        return math.sqrt(max(0.0, -2 * log_chance))
    error = math.sqrt((family.fourth - 1) / 4 / count)  # of the deviation by which the values were divided
    return max(0.0, (largest / family.end - 1) / error)


def _structure(values: Tensor, fourth: float) -> tuple[dict[str, float], float]:
    """Standard deviations by which sums over rows, columns and places miss those of independent draws.

    Also how many times as much their squares differ as those of independent draws do, the largest.
    """
    rows, columns, places = values.shape
    squares = values.square()
    found: dict[str, float] = {}
    uneven = math.nan
    axes = {"rows": (rows, (1, 2)), "columns": (columns, (0, 2)), "places": (places, (0, 1))}
    for name, (number, others) in axes.items():
        if number < 4:
            continue
        each = values.numel() / number
        sums = squares.sum(others)
        variance = float((sums - sums.mean()).square().sum()) / (each * (fourth - 1))
        # sums of few squares have long tails of their own
        found[f"{name}' squares"] = _as_normal(variance, number - 1) / math.sqrt(1 + 6 / each)
        found[f"{name}' sums"] = _as_normal(float(values.sum(others).square().sum()) / each, number)
        if name != "places":
            ratio = math.sqrt(variance / (number - 1))
            uneven = ratio if math.isnan(uneven) else max(uneven, ratio)
    found["mean"] = abs(float(values.sum())) / math.sqrt(values.numel())
    if places > 1:
        together = values[..., 1:] * values[..., :-1]
        found["neighbours"] = abs(float(together.sum())) / math.sqrt(together.numel())
    return found, uneven


def _as_normal(chi_square: float, freedom: int) -> float:
    """A chi-square as deviations of a normal distribution (Wilson and Hilferty, 1931)."""
    spread = 2 / (9 * freedom)
    return float(((chi_square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


def _orthogonal(tensor: Tensor) -> bool:
    """Whether the rows of a weight, or its columns where there are more rows, are orthogonal and of one length."""
    matrix = tensor.flatten(1)
    matrix = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)[:32].to("cpu", torch.float32)
    product = matrix @ matrix.T
    off = product - torch.eye(len(product)) * product.diagonal().mean()
    return float(off.abs().max()) < 1e-2 * float(product.diagonal().mean())


def _strongest(values: Tensor) -> float:
    """By how much the strongest direction of the matrix is above what independent draws have, in their spread.

    What they have is the law of Tracy and Widom, as Johnstone (2001) scales it: mean -1.2, deviation 1.3.
    """
    matrix = values.flatten(1)
    if matrix.shape[1] < 4 or matrix.shape[0] < 4:
        return 0.0
    short, long = sorted(matrix.shape)
    own = torch.Generator().manual_seed(0)
    direction = torch.randn(matrix.shape[1], generator=own)
    strength = 0.0
    for _ in range(STEPS):
        direction = direction / direction.norm()
        along = matrix @ direction
        strength = float(along.square().sum())
        direction = matrix.T @ along
    roots = math.sqrt(long - 1) + math.sqrt(short)
    scale = roots * (1 / math.sqrt(long - 1) + 1 / math.sqrt(short)) ** (1 / 3)
    return (strength - roots**2) / scale


# --- layers


@dataclass(frozen=True)
class Judged:
    """What the values of one layer say.

    Attributes:
        name: of the layer. verdict: as `Look` has it. why: what shows that it is initial, for a sentence.
        norm: whether it is a normalisation. unseen: whether its stored statistics are those of no picture.
        exact: whether its largest weight lies where an initialisation in use ends. moved: whether its biases are none
            that are drawn. zero: whether they are all 0. nothing: whether all of its weights are, too.
        frozen: whether its weights are not to be trained, and others of the model are.
        uneven, doubt: as `Look` has it, of its largest weight. effect: the largest of its tests, whichever sign, for
            each root of the number of values, so that it does not grow with the layer.
        size: how many weights it has. largest: how many values its largest weight has.
        telling: whether it may say that a model is trained: tables and tokens are made in many ways.
        of_pictures: whether it is a convolution of so few channels as pictures have.
        unsure: whether little beside a bias of 0 says that it is initial.
    """

    name: str
    verdict: Verdict
    why: str = ""
    norm: bool = False
    unseen: bool = False
    exact: bool = False
    moved: bool = False
    zero: bool = False
    nothing: bool = False
    frozen: bool = False
    uneven: float = math.nan
    doubt: float = math.nan
    effect: float = math.nan
    size: int = 0
    largest: int = 0
    telling: bool = True
    of_pictures: bool = False
    unsure: bool = False


def all_initial(model: nn.Module) -> bool:
    """Whether no weight of the model looks trained, and at least one as it was made.

    What cannot be told says nothing: constants, fixed tables and filters, layers of fewer than 200 values.
    """
    found = False
    others: list[Verdict] = []
    layers = list(judge_layers(model))
    weights = [each for each in layers if each.telling and not each.norm]
    drawn = sum(each.verdict == "initial" and not each.moved for each in weights)
    # some draw what their normalisations hold, too: then the weights decide
    if drawn >= MANY and not any(each.verdict == "trained" or each.moved for each in weights):
        return True
    for judged in layers:
        if not judged.telling:
            others.append(judged.verdict)
        elif judged.verdict == "trained" or (judged.moved and judged.verdict == "initial"):
            return False
        found = found or (judged.verdict == "initial" and not judged.norm)
    return found or ("initial" in others and "trained" not in others)


def judge_layers(model: nn.Module) -> Iterator[Judged]:
    """Of each layer that has weights of its own what they say, in registration order; weights that are shared once."""
    trainable = any(each.requires_grad for each in model.parameters())
    seen: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        own = [(key, each) for key, each in module.named_parameters(recurse=False) if id(each) not in seen]
        seen.update(id(each) for _, each in own)
        frozen = trainable and bool(own) and not any(each.requires_grad for _, each in own)
        owner = name.partition(".parametrizations")[0]
        if is_norm(module):
            yield _judge_norm(owner, module, frozen)
        elif any(each.ndim > 1 for _, each in own):
            yield _judge_weights(owner, module, own, frozen)


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises by statistics, with a scale and an offset for each channel."""
    known = nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm
    if isinstance(module, known):
        return True
    holds = any(_vector(module, name) is not None for name in ("weight", "running_mean"))
    return "Norm" in type(module).__name__ and holds and all(p.ndim == 1 for p in module.parameters(recurse=False))


def _judge_norm(name: str, module: nn.Module, frozen: bool) -> Judged:
    weight, bias = _vector(module, "weight"), _vector(module, "bias")
    mean, variance = _vector(module, "running_mean"), _vector(module, "running_var")
    affine = [each for each in (weight, bias) if each is not None]
    judged = Judged(name, "unknown", norm=True, frozen=frozen, size=sum(map(len, affine)))
    start = (weight is None or _is(weight, 1.0) or _is(weight, 0.0)) and (bias is None or _is(bias, 0.0))
    parts = [("stored mean", mean), ("stored variance", variance)] if _is(mean, 0.0) and _is(variance, 1.0) else []
    unseen = bool(parts)
    parts += [("weight", weight), ("bias", bias)] if start else []
    stands = join_words([f"{each} {float(values[0]):g}" for each, values in parts if values is not None])
    why = f"it has {stands} in every channel{'' if start else ', although its weight and bias are trained'}"
    if unseen or (start and affine):
        # where it has seen pictures, a scale of 1 may be how it was to stay
        return replace(judged, verdict="initial" if unseen or mean is None else "fixed", why=why, unseen=unseen)
    # some draw theirs, as GANs from normal(1, 0.02); a training would move the biases, too
    drawn = weight is not None and (_is(bias, 0.0) or (bias is None and abs(float(weight.std()) - 0.02) < 0.005))
    return judged if drawn or not affine else replace(judged, verdict="trained")


def join_words(words: list[str]) -> str:
    """ "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _vector(module: nn.Module, name: str) -> Tensor | None:
    found: Any = getattr(module, name, None)
    if not isinstance(found, Tensor) or found.is_meta or not found.numel():
        return None
    return found.detach().flatten()


def _is(values: Tensor | None, one: float) -> bool:
    return values is not None and bool((values == one).all())


def _judge_weights(name: str, module: nn.Module, own: list[tuple[str, nn.Parameter]], frozen: bool) -> Judged:
    looks = [(key, look_at(each), each) for key, each in own if each.ndim > 1 and each.numel() > max(each.shape)]
    if not looks:  # lengths, tokens and scales
        return Judged(name, "unknown", frozen=frozen, size=sum(each.numel() for _, each in own), telling=False)
    key, look, tensor = max(looks, key=lambda each: each[1].size)
    telling = not isinstance(module, nn.Embedding) and any(part in key for part in ("weight", "kernel", "original"))
    biases = [each.detach().float().cpu() for name, each in own if each.ndim == 1]
    bound = 1 / math.sqrt(max(1, tensor[0].numel()))  # what PyTorch's own layers draw weights and biases within
    effect = max(map(abs, look.tests.values()), default=math.nan) / math.sqrt(max(1, min(look.size, MOST_SUMMED)))
    judged = Judged(
        name,
        look.verdict,
        f"its {look.size:,} weights are like independent draws of a {look.family} distribution "
        f"({f'±{look.largest:.3g}' if look.family == 'uniform' else f'deviation {look.spread:.3g}'})",
        exact=_ends_exactly(look, tensor, bound),
        moved=any(_moved(each, bound) for each in biases),
        zero=bool(biases) and all(_is(each, 0.0) for each in biases),
        frozen=frozen,
        uneven=look.uneven,
        doubt=look.doubt,
        effect=effect,
        size=sum(each.numel() for _, each in own),
        largest=look.size,
        telling=telling,
        of_pictures=isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels <= 4,
    )
    if any(each.verdict == "trained" for _, each, _ in looks):
        return replace(judged, verdict="trained")
    if look.constant == 0 and len(looks) == 1 and (judged.zero or not biases):
        return replace(
            judged, nothing=True, why=f"its {look.size:,} weights{' and its bias' if biases else ''} are all 0"
        )
    return judged


def _ends_exactly(look: Look, tensor: Tensor, own: float) -> bool:
    """Whether the largest weight lies just below the end of an initialisation in use: a little training moves it on."""
    if look.verdict != "initial":
        return False
    inputs, outputs = max(1, tensor[0].numel()), max(1, tensor.numel() // max(1, tensor.shape[1]))
    ends = [own]
    if look.size >= FEW:
        scales = (1 / inputs, 1 / outputs, 2 / (inputs + outputs), 2 / inputs, 2 / outputs)
        ends += [math.sqrt(3 * scale) for scale in scales] + [1 / math.sqrt(outputs)]
    near = 12 / look.size
    if look.family == "truncated normal" and look.size >= FEW:
        kept = FAMILIES[1].end / CUT  # what cutting makes of the deviation, the other way round
        ends = [CUT * each for each in (0.01, 0.02, 0.05, *(math.sqrt(scale) for scale in scales))]
        ends += [end * kept for end in ends[3:]]
        near = 60 / look.size  # few values are drawn there
    elif look.family != "uniform":
        return False
    return any(end * (1 - near) < look.largest <= end * 1.00001 for end in ends)


def _moved(bias: Tensor, bound: float) -> bool:
    """Whether biases are none that are drawn: no constant, hardly any numbers at all, or uniform within the bound."""
    count, largest = len(bias), float(bias.abs().max()) if len(bias) else 0.0
    if len(bias.unique()) <= 4 or largest < TINY:
        return False
    if largest > bound * 1.00001:
        return True
    small = -count * math.log(largest / bound)  # how unlikely it is that all of them are so small
    ordered = bias.sort().values / bound * FAMILIES[0].end
    return small > -math.log(UNLIKELY) or _misfit(ordered, FAMILIES[0].end, FAMILIES[0]) > UNSURE
