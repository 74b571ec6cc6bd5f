"""Short marks of weights and pictures, by which a baseline knows them again: digests, rows, and small pictures."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvTransposeNd

from hookscope.hooks.results.reference import DIGEST, SIDE, StoredTensor


@dataclass(frozen=True)
class Weight:
    """One weight or buffer as it is now.

    Attributes:
        name: in the model's state. layer: the module that holds it. dtype: as "float32".
        values: float32, float64 or whole numbers, of its own shape. axis: see `StoredTensor`.
    """

    name: str
    layer: str
    dtype: str
    values: np.ndarray
    axis: int

    @property
    def digest(self) -> str:
        """Of its values, whatever their dtype."""
        return digest_of_array(self.values)

    @property
    def rows(self) -> np.ndarray:
        """Uint32 (row,): a digest of each row."""
        return np.array([zlib.crc32(row) for row in self.each_row()], np.uint32)

    @property
    def sample(self) -> np.ndarray:
        """Float32 (value,): a few values, evenly spread."""
        flat = self.values.reshape(-1)
        count = min(StoredTensor("", "", self.values.shape, "").sample, flat.size)
        places = np.linspace(0, flat.size - 1, count).astype(np.int64) if count else np.zeros(0, np.int64)
        with np.errstate(over="ignore"):
            return flat[places].astype(np.float32)

    def each_row(self) -> np.ndarray:
        """(row, value): the values of each output channel, without gaps."""
        if self.axis < 0:
            return np.zeros((0, 0), self.values.dtype)
        moved = np.moveaxis(self.values, self.axis, 0)
        return np.ascontiguousarray(moved.reshape(len(moved), -1))

    def stored(self) -> StoredTensor:
        """What is kept of it beside rows and sample."""
        rounded = ("", "")
        if self.values.dtype.kind == "f":
            tensor = torch.from_numpy(self.values)
            rounded = (
                digest_of_array(tensor.to(torch.bfloat16).to(tensor.dtype).numpy()),
                digest_of_array(tensor.to(torch.float16).to(tensor.dtype).numpy()),
            )
        shape = tuple(int(side) for side in self.values.shape)
        return StoredTensor(self.name, self.dtype, shape, self.digest, *rounded, axis=self.axis)


def weights_of(model: nn.Module) -> Iterator[Weight]:
    """Every tensor of a model's state, in its order; what is no tensor there counts by how it is written."""
    modules = dict(model.named_modules())
    for name, value in model.state_dict().items():
        layer = name.rpartition(".")[0]
        while layer and layer not in modules:  # a packed part of a quantised layer
            layer = layer.rpartition(".")[0]
        yield _weight(name, layer, value, modules.get(layer))


def _weight(name: str, layer: str, value: Any, module: nn.Module | None) -> Weight:
    if not isinstance(value, Tensor):
        written = hashlib.sha256(repr(value).encode()).digest()
        return Weight(name, layer, type(value).__name__, np.frombuffer(written, np.uint8), -1)
    dtype = str(value.dtype).removeprefix("torch.")
    tensor = value.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    elif tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        tensor = tensor.float()
    values = np.ascontiguousarray(tensor.cpu().numpy()).reshape(tuple(tensor.shape))
    axis = -1 if not values.ndim else 0
    if isinstance(module, _ConvTransposeNd) and values.ndim > 1:
        axis = 1 if module.groups == 1 else -1
    return Weight(name, layer, dtype, values, axis)


def digest_of_array(values: np.ndarray) -> str:
    """A short digest of values and their shape; -0 and 0 are two values."""
    hasher = hashlib.sha256(repr(values.shape).encode())
    if values.size:
        hasher.update(memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
    return hasher.hexdigest()[:DIGEST]


def digest_of_text(text: str) -> str:
    """A short digest of a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]


# --- pictures


@dataclass(frozen=True)
class Pictures:
    """What was given, in short.

    Attributes:
        digests: of each picture. size: (channel, height, width) of the first; sizes: whether all are of that size.
        mean, std: float64 (channel,), of all values. small: float32 (picture, channel, 8, 8).
    """

    digests: tuple[str, ...]
    size: tuple[int, int, int]
    mean: np.ndarray
    std: np.ndarray
    small: np.ndarray


def pictures_of(batches: Sequence[Tensor]) -> Pictures:
    """What pictures are: float (picture, channel, height, width), those of a batch of one size."""
    digests: list[str] = []
    small, count = [], 0
    total = squares = np.zeros(batches[0].shape[1])
    for batch in batches:
        given = batch.detach().float().cpu()
        digests += [digest_of_array(picture.contiguous().numpy()) for picture in given]
        small.append(functional.adaptive_avg_pool2d(given, SIDE).numpy())
        wide = given.double().transpose(0, 1).flatten(1)
        count += wide.shape[1]
        total = total + wide.sum(1).numpy()
        squares = squares + (wide**2).sum(1).numpy()
    mean = np.asarray(total) / count
    std = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 0))
    size = tuple(int(side) for side in batches[0].shape[1:])
    return Pictures(tuple(digests), (size[0], size[1], size[2]), mean, std, np.concatenate(small))


# --- what became of weights


@dataclass(frozen=True)
class Change:
    """How one tensor differs from the baseline's.

    Attributes:
        name, layer: whose. how: "bfloat16" or "float16", rounded to that; "zeroed", some rows are 0 now; "rows", some
            rows are others; "order", the same rows in another order; "scaled", all of it by one factor; "moved", all
            of it, and it is still alike; "replaced", nothing of it is left; "buffer", a statistic of a BatchNorm.
        rows: which are others. among: of how many. order: of "order", which of the baseline's rows each one is.
        by: of "scaled" the factor, of "moved" how far the few kept values are, as a share of their norm; of "replaced"
            the cosine with what was.
    """

    name: str
    layer: str
    how: str
    rows: tuple[int, ...] = ()
    among: int = 0
    order: tuple[int, ...] = ()
    by: float = 0.0


STATISTICS = "running_mean", "running_var", "num_batches_tracked"
ALIKE = 0.5  # cosine below which nothing is left of a tensor


def change_of(now: Weight, stored: StoredTensor, rows: np.ndarray, sample: np.ndarray) -> Change | None:
    """How a tensor differs from the baseline's; None if it does not.

    Arguments:
        rows, sample: the baseline's.
    """
    digest = now.digest
    if digest == stored.digest:
        return None
    if digest in (stored.bfloat16, stored.float16):
        return Change(now.name, now.layer, "bfloat16" if digest == stored.bfloat16 else "float16")
    if now.name.rpartition(".")[2] in STATISTICS:
        return Change(now.name, now.layer, "buffer")
    own, count = now.rows, len(rows)
    other = tuple(int(row) for row in np.flatnonzero(own != rows))
    if count > 1 and other and len(set(rows.tolist())) > 1 and (np.sort(own) == np.sort(rows)).all():
        return Change(now.name, now.layer, "order", other, count, match_rows(own, rows))
    values = now.each_row()
    if other and not values[list(other)].any() and (len(other) < count or count == 1):
        return Change(now.name, now.layer, "zeroed", other, count)
    if len(other) <= count / 2 and other:
        return Change(now.name, now.layer, "rows", other, count)
    return _as_a_whole(now, sample, other, count)


def _as_a_whole(now: Weight, sample: np.ndarray, rows: tuple[int, ...], count: int) -> Change:
    was, new = sample.astype(np.float64), now.sample.astype(np.float64)
    if now.values.dtype.kind != "f" or not was.any() or not np.isfinite(new).all() or not np.isfinite(was).all():
        return Change(now.name, now.layer, "replaced" if now.values.ndim > 1 else "moved", rows, count, by=np.nan)
    norms = float(np.linalg.norm(was)) * float(np.linalg.norm(new))
    cosine = float(was @ new) / max(norms, 1e-300)
    factor = float(was @ new / (was @ was))
    if np.allclose(new, factor * was, rtol=1e-5, atol=0) and abs(factor) > 0:
        return Change(now.name, now.layer, "scaled", rows, count, by=factor)
    constant = now.values.size > 1 and not np.ptp(new) and bool(np.ptp(was))
    if cosine < ALIKE or constant:
        return Change(now.name, now.layer, "replaced", rows, count, by=cosine)
    far = float(np.linalg.norm(new - was) / np.linalg.norm(was))
    return Change(now.name, now.layer, "moved", rows, count, by=far)


def match_rows(now: np.ndarray, stored: np.ndarray) -> tuple[int, ...]:
    """Of each row now, which of the stored ones it is; equal ones keep their place where they can.

    >>> match_rows(np.array([7, 5, 5, 9]), np.array([9, 5, 5, 7]))
    (3, 1, 2, 0)
    """
    free: dict[int, list[int]] = {}
    for place, value in enumerate(stored.tolist()):
        if now[place] != value:
            free.setdefault(value, []).append(place)
    return tuple(place if value == stored[place] else free[value].pop(0) for place, value in enumerate(now.tolist()))


def swapped(order: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (now, then) of an order that are not in their place."""
    return [(place, was) for place, was in enumerate(order) if place != was]


def by_layer(changes: Sequence[Change]) -> Mapping[str, list[Change]]:
    """The changes of each layer, in their order."""
    found: dict[str, list[Change]] = {}
    for each in changes:
        found.setdefault(each.layer, []).append(each)
    return found
