"""Weights on their way into a model: which of a file's dictionaries, behind which prefix, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn

from hookscope.dashboard.sources.checkpoints import Sets
from hookscope.dashboard.sources.file_kinds import WeightsError

NAMED_KEYS = 4
AVERAGED = ("ema", "averag", "teacher", "shadow", "swa")  # in the names of weights that are not those that were trained
_MAGNITUDE = ("weight_g", "parametrizations.weight.original0")
_DIRECTION = ("weight_v", "parametrizations.weight.original1")


@dataclass(frozen=True)
class Filled:
    """What became of a file.

    Attributes:
        sentence: where the weights come from. note: what was left out, and what else there was.
        head: the layer that kept its random weights, because the file's is of another shape; "" if there is none.
        unexpected: weights of the file that have no place in the model, in a load that was allowed in part.
    """

    sentence: str
    note: str = ""
    head: str = ""
    unexpected: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Candidate:
    """The tensors of one dictionary whose names begin with a prefix, without it.

    Attributes:
        name: for people, the dictionary's place and the prefix; "" for all of a file as it is.
        beside: the names in the dictionary that do not begin so.
    """

    name: str
    tensors: Mapping[str, Tensor]
    beside: tuple[str, ...]


@dataclass(frozen=True)
class _Fit:
    """How a candidate's tensors fit a module."""

    candidate: _Candidate
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]  # the names of those of another shape
    kinds: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every one of the model's weights is there, and nothing else behind the same prefix."""
        return not (self.missing or self.unexpected or self.shapes or self.kinds)

    @property
    def order(self) -> tuple[object, ...]:
        """The better fits first: whole ones, then the trained before the averaged, then the longer prefix."""
        averaged = any(word in self.candidate.name.lower() for word in AVERAGED)
        wrong = len(self.missing) + len(self.shapes) + len(self.kinds)
        return not self.whole, wrong, averaged, len(self.unexpected), len(self.candidate.beside)


def fill(module: nn.Module, sets: Sets, source: str, wanted: str = "", *, allow_head: bool = False) -> Filled:
    """Put the weights of a file into the module, all that it has.

    Arguments:
        sets: what `checkpoints.read` found. source: the file's name.
        wanted: the name of the dictionary to take, "" for the one that fits best.
        allow_head: keep random weights in a last layer whose shape is another in the file.

    Raises:
        WeightsError: names the weights that are missing, or of another shape.
    """
    expected = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    fits = [_fit(each, expected) for each in _candidates(sets, expected)]
    fits.sort(key=lambda fit: fit.order)
    if wanted:
        fits = _named(fits, wanted, source)
    best = fits[0]
    head = "" if best.whole else _head(best, module, expected)
    if not best.whole and not (head and allow_head):
        raise WeightsError(_refusal(best, module, expected, head, source))
    kept = {name: best.candidate.tensors[name] for name in expected if name in best.candidate.tensors}
    module.load_state_dict({name: kept[name] for name in kept if name not in best.shapes}, strict=False)
    others = [fit.candidate.name for fit in fits[1:] if fit.whole] if best.whole else []
    return Filled(_sentence(best, head, source), _note(best, others, source), head, best.unexpected)


def _candidates(sets: Sets, expected: Mapping[str, Tensor]) -> list[_Candidate]:
    found = []
    for place, tensors in sets.items():
        folded = _folded(tensors, expected)
        prefixes = _prefixes(folded, expected)
        for prefix in prefixes:
            longer = tuple(each for each in prefixes if len(each) > len(prefix))
            # a first weight of a usual name stands within blocks, too: these are the model's own
            longer = tuple(
                each for each in longer if not any(map(str.startswith, expected, repeat(each.removeprefix(prefix))))
            )
            own = {name for name in folded if name.startswith(prefix) and not (longer and name.startswith(longer))}
            inner = {name.removeprefix(prefix): value for name, value in folded.items() if name in own}
            beside = tuple(name for name in folded if name not in own)
            found.append(_Candidate(".".join(filter(None, [place, prefix.rstrip(".")])), inner, beside))
    return found


def _prefixes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What may stand before every one of the model's names: "" first, then as one of the names says it."""
    found = {"": None}
    for name in list(expected)[:1] + list(expected)[-1:]:
        found |= dict.fromkeys(key.removesuffix(name) for key in tensors if key.endswith(f".{name}"))
    return list(found)


def _fit(candidate: _Candidate, expected: Mapping[str, Tensor]) -> _Fit:
    tensors = candidate.tensors
    # Tied weights are one tensor under several names, of which .safetensors keep one.
    there = {(value.data_ptr(), value.shape) for name, value in expected.items() if name in tensors and value.numel()}
    missing = [
        name
        for name, value in expected.items()
        if name not in tensors
        and not name.endswith("num_batches_tracked")
        and (value.data_ptr(), value.shape) not in there
    ]
    pairs = [(name, tensors[name], value) for name, value in expected.items() if name in tensors]
    return _Fit(
        candidate,
        tuple(missing),
        tuple(name for name in tensors if name not in expected),
        tuple(name for name, given, value in pairs if given.shape != value.shape),
        tuple(name for name, given, value in pairs if value.is_floating_point() and not given.is_floating_point()),
    )


def _named(fits: list[_Fit], wanted: str, source: str) -> list[_Fit]:
    found = [fit for fit in fits if fit.candidate.name in (wanted, wanted.rstrip("."))]
    if not found:
        names = ", ".join(dict.fromkeys(fit.candidate.name for fit in fits if fit.candidate.name)) or "no names"
        raise WeightsError(f"{source} holds no {wanted!r}, but {names}. Choose one of these behind the #.")
    return [*found, *(fit for fit in fits if fit not in found)]


# --- what pruning and weight normalisation leave behind


def _folded(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with pruned and normalised weights multiplied out, where the model has them so."""
    found = dict(tensors)
    apart = any(name.endswith(("_orig", *_MAGNITUDE)) for name in expected)
    for name in [] if apart else list(tensors):
        if name.endswith("_orig") and (mask := tensors.get(name.removesuffix("_orig") + "_mask")) is not None:
            whole = name.removesuffix("_orig")
            if tensors[name].shape == mask.shape:
                found[whole] = found.pop(name) * found.pop(f"{whole}_mask")
        for magnitude, direction in zip(_MAGNITUDE, _DIRECTION, strict=True):
            stem = name.removesuffix(magnitude)
            if stem != name and (along := tensors.get(stem + direction)) is not None:
                found[f"{stem}weight"] = _normed(found.pop(name), along)
                del found[stem + direction]
    return found


def _normed(magnitude: Tensor, direction: Tensor) -> Tensor:
    """A weight of this direction, (output, ...) mostly, with this magnitude along the axis that it has one for."""
    rest = [axis for axis in range(direction.ndim) if magnitude.ndim <= axis or magnitude.shape[axis] == 1]
    return direction * (magnitude / torch.linalg.vector_norm(direction, dim=rest, keepdim=True))


# --- what is said


def _head(fit: _Fit, module: nn.Module, expected: Mapping[str, Tensor]) -> str:
    """The last layer, if all that is wrong is that it has another number of outputs in the file; else ""."""
    owners = {name.rpartition(".")[0] for name in fit.shapes}
    if len(owners) != 1 or fit.missing or fit.kinds:
        return ""
    (owner,) = owners
    pairs = [(fit.candidate.tensors[name].shape, expected[name].shape) for name in fit.shapes]
    layer = dict(module.named_modules()).get(owner)
    same = all(given[1:] == wanted[1:] and len(given) == len(wanted) for given, wanted in pairs)
    return owner if same and isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) else ""


def _refusal(fit: _Fit, module: nn.Module, expected: Mapping[str, Tensor], head: str, source: str) -> str:
    shapes = [
        f"{name} is {_shape(fit.candidate.tensors[name])} in the file and {_shape(expected[name])} in the model"
        for name in fit.shapes
    ]
    if head:
        count = fit.candidate.tensors[fit.shapes[0]].shape[0]
        return (
            f"The weights in {source} fit {type(module).__name__} but for its last layer: {_some(shapes)}. Build the "
            f"model with {count} outputs (of a library's model: --factory-arg num_classes={count}), or start with "
            f"--allow-head: then {head} keeps random weights."
        )
    dtypes = {name: (str(fit.candidate.tensors[name].dtype)[6:], str(expected[name].dtype)[6:]) for name in fit.kinds}
    kinds = [f"{name} is {given} in the file and {wanted} in the model" for name, (given, wanted) in dtypes.items()]
    problems = [
        f"{len(fit.missing)} missing ({_some(fit.missing)})" if fit.missing else "",
        f"{len(fit.unexpected)} without a place in the model ({_some(fit.unexpected)})" if fit.unexpected else "",
        f"{len(shapes)} of another shape ({_some(shapes)})" if shapes else "",
        f"{len(kinds)} of another kind ({_some(kinds)})" if kinds else "",
    ]
    place = f" (taken from {fit.candidate.name!r})" if fit.candidate.name else ""
    return (
        f"The weights in {source}{place} do not fit {type(module).__name__}: {'; '.join(filter(None, problems))}. "
        "Check that the file belongs to this model, and the model's arguments."
    )


def _sentence(fit: _Fit, head: str, source: str) -> str:
    place = f" ({fit.candidate.name})" if fit.candidate.name else ""
    return f"From {source}{place}{f', but for {head}, which is random' if head else ''}."


def _note(fit: _Fit, others: Sequence[str], source: str) -> str:
    out = fit.candidate.beside
    other = next((each for each in others if any(word in each.lower() for word in AVERAGED)), "") or "".join(others[:1])
    parts = [
        f"{len(out):,} left out: {_some(out)}." if out else "",
        f"The file holds {other} too: --weights {source}#{other} shows it." if other else "",
    ]
    return " ".join(filter(None, parts))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_KEYS]) + (", ..." if len(names) > NAMED_KEYS else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
