"""A baseline as files: JSON that a person can read, and beside it the numbers of each picture; numpy only, no pickle.

    line-4.json                          what it is of, and what is usual at each layer
    baseline-<hash>.safetensors          float32 and int64 tensors; named by the hash of its content

The hash stands in the JSON, too, and is checked: what was changed afterwards, or belongs to another baseline, is not
read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results import typed
from hookscope.hooks.results.baselines import BaselineNumbers
from hookscope.hooks.results.picture_numbers import PictureNumbers
from hookscope.hooks.results.profiles import STATISTICS

FORMAT = "hookscope baseline 1"
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_NAME = re.compile(r"baseline-[0-9a-f]{16}\.safetensors")

Quantiles = tuple[float, ...]


@dataclass(frozen=True)
class Written:
    """What stands in the JSON.

    Attributes:
        format: `FORMAT`. made, versions, model, k: see `BaselineNumbers`. pictures: how many.
        file, sha256: where the numbers of each picture are, beside it, and their hash.
        features: the layer and call of the features, None if there are none.
        statistics, levels: what the numbers below are of. layers: each layer and call, in execution order.
        usual: of each layer and statistic, the quantiles over the pictures, at `levels`; NaN where it did not run.
        distance, energy: the quantiles of these scores, each picture held against the others; () if there are none.
    """

    format: str
    made: str
    versions: Mapping[str, str]
    model: str
    pictures: int
    k: int
    file: str
    sha256: str
    features: tuple[str, int] | None
    statistics: tuple[str, ...]
    levels: Quantiles
    layers: tuple[tuple[str, int], ...]
    usual: tuple[tuple[Quantiles, ...], ...]
    distance: Quantiles
    energy: Quantiles


def save_baseline(baseline: BaselineNumbers, path: str | os.PathLike[str]) -> None:
    """Write a baseline: the JSON at `path`, the numbers of each picture beside it; whole or not at all.

    Raises:
        HooksError: safetensors is not installed.
    """
    target, numbers = Path(path), baseline.numbers
    arrays = {"pictures": numbers.pictures.astype(np.int64), "profiles": np.stack(numbers.profiles, 1)}
    arrays |= {
        name: values.astype(np.float32)
        for name, values in (("features", numbers.features), ("energy", numbers.energy))
        if values is not None
    }
    data: bytes = _safetensors().save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    digest = hashlib.sha256(data).hexdigest()
    scores = baseline.leave_one_out(unusual=0)
    written = Written(
        format=FORMAT,
        made=baseline.made,
        versions=dict(baseline.versions),
        model=baseline.model,
        pictures=len(baseline),
        k=baseline.k,
        file=f"baseline-{digest[:16]}.safetensors",
        sha256=digest,
        features=numbers.feature_place,
        statistics=STATISTICS,
        levels=LEVELS,
        layers=numbers.places,
        usual=tuple(tuple(_quantiles(column) for column in values.T) for values in numbers.profiles),
        distance=() if scores.distance is None else _quantiles(scores.distance),
        energy=() if numbers.energy is None else _quantiles(numbers.energy),
    )
    _write(target.with_name(written.file), data)
    _write(target, _legible(typed.plain(asdict(written))).encode())


def read_baseline(path: str | os.PathLike[str], kind: type[Any] = BaselineNumbers) -> Any:
    """Read what `save_baseline` wrote, as a `BaselineNumbers` or a class below it.

    Raises:
        HooksError: a file is missing, damaged or changed, or safetensors is not installed.
    """
    target = Path(path)
    try:
        fields = json.loads(target.read_text(encoding="utf-8"))
        written: Written = typed.read(Written, {"$type": "Written", "fields": fields})
    except OSError as error:
        raise HooksError(
            f"The baseline {target} cannot be read ({error.strerror}). Check its name, or fit it again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise HooksError(f"{target} is no saved baseline, or it is damaged ({error}). Fit it again.") from error
    if written.format != FORMAT or written.statistics != STATISTICS or not _NAME.fullmatch(written.file):
        raise HooksError(f"{target} is a baseline of another version ({written.format}). Fit it again.")
    return kind(_numbers(target, written), written.k, written.model, written.made, written.versions)


def _numbers(target: Path, written: Written) -> PictureNumbers:
    beside = target.with_name(written.file)
    try:
        data = beside.read_bytes()
    except OSError as error:
        raise HooksError(
            f"The baseline {target} has the numbers of its pictures in {beside.name} beside it, and that cannot be "
            f"read ({error.strerror}). Copy both files, or fit it again."
        ) from error
    if hashlib.sha256(data).hexdigest() != written.sha256:
        raise HooksError(
            f"{beside} is not what the baseline {target.name} was saved with: its content has another hash. Copy both "
            "files anew, or fit it again."
        )
    found: dict[str, np.ndarray] = _safetensors().load(data)
    try:
        pictures, profiles = found["pictures"], found["profiles"]
        _expect(pictures, np.int64, written.pictures)
        _expect(profiles, np.float32, written.pictures, len(written.layers), len(STATISTICS))
        if written.features is not None:
            _expect(found["features"], np.float32, written.pictures, None)
        if "energy" in found:
            _expect(found["energy"], np.float32, written.pictures)
    except (KeyError, ValueError) as error:
        raise HooksError(f"{target} is no saved baseline, or it is damaged ({error}). Fit it again.") from error
    features = found["features"] if written.features is not None else None
    by_layer = tuple(np.ascontiguousarray(profiles[:, index]) for index in range(len(written.layers)))
    return PictureNumbers(pictures, written.layers, by_layer, written.features, features, found.get("energy"))


def _expect(values: np.ndarray, dtype: type[Any], *shape: int | None) -> None:
    fits = len(shape) == values.ndim and all(
        size is None or size == own for size, own in zip(shape, values.shape, strict=True)
    )
    if values.dtype != dtype or not fits:
        raise ValueError(f"{values.dtype} of shape {values.shape}")


def _quantiles(values: np.ndarray) -> Quantiles:
    """At `LEVELS`, of what is finite."""
    there = values[np.isfinite(values)].astype(np.float64)
    return (
        tuple(float(f"{value:.7g}") for value in np.quantile(there, LEVELS))
        if there.size
        else (float("nan"),) * len(LEVELS)
    )


def _legible(fields: Mapping[str, Any]) -> str:
    """JSON with a line for each field, and for each row of those that have rows."""
    lines = []
    for name, value in fields.items():
        rows = [json.dumps(row, allow_nan=False) for row in value] if name in ("layers", "usual") else []
        text = "[\n  " + ",\n  ".join(rows) + "\n ]" if rows else json.dumps(value, allow_nan=False)
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _safetensors() -> ModuleType:
    try:  # here and not above: `pip install` of the library alone does not bring it
        import safetensors.numpy
    except ImportError as error:
        raise HooksError(
            "Baselines are kept in safetensors files, and that is not installed: pip install safetensors."
        ) from error
    found: ModuleType = safetensors.numpy
    return found
