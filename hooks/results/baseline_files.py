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
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results import typed
from hookscope.hooks.results.baselines import BaselineNumbers
from hookscope.hooks.results.picture_numbers import PictureNumbers
from hookscope.hooks.results.profiles import STATISTICS
from hookscope.hooks.results.reference import Reference, Told, arrays_of, read_reference

FORMAT = "hookscope baseline 1"
WITH_REFERENCE = "hookscope baseline 2"  # the same, and what a later check is held against
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
LARGEST = 100_000_000  # bytes of the JSON, which has 500 for a layer
ROWS = "layers", "usual", "tensors", "kinds"  # fields that have a line for each
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
        reference: what the model and the pictures were; None where that was not kept.
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
    reference: Told | None = None


def save_baseline(baseline: BaselineNumbers, path: str | os.PathLike[str]) -> None:
    """Write a baseline: the JSON at `path`, the numbers of each picture beside it; whole or not at all.

    Raises:
        HooksError: safetensors is not installed. OSError: the files cannot be written.
    """
    target, numbers, reference = Path(path), baseline.numbers, baseline.reference
    arrays = {"pictures": numbers.pictures.astype(np.int64), "profiles": np.stack(numbers.profiles, 1)}
    arrays |= {
        name: values.astype(np.float32)
        for name, values in (("features", numbers.features), ("energy", numbers.energy))
        if values is not None
    }
    arrays |= {} if reference is None else arrays_of(reference)
    data: bytes = _safetensors().save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    digest = hashlib.sha256(data).hexdigest()
    scores = baseline.leave_one_out(unusual=0)
    written = Written(
        format=FORMAT if reference is None else WITH_REFERENCE,
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
        reference=None if reference is None else reference.told,
    )
    said = {each.name: typed.plain(getattr(written, each.name)) for each in fields_of(written)}
    if reference is None:  # as it was before there were any, so that an earlier version can read it
        del said["reference"]
    _write(target.with_name(written.file), data)
    _write(target, _legible(said).encode())


def read_baseline(path: str | os.PathLike[str], kind: type[Any] = BaselineNumbers, called: str = "") -> Any:
    """Read what `save_baseline` wrote, as a `BaselineNumbers` or a class below it.

    Arguments:
        called: what errors call it, to whom its path is not told; the path by default.

    Raises:
        HooksError: a file is missing, damaged or changed, or safetensors is not installed.
    """
    written = read_written(path, called)
    numbers, reference = _numbers(Path(path), written, called or str(path))
    return kind(numbers, written.k, written.model, written.made, written.versions, reference)


def read_written(path: str | os.PathLike[str], called: str = "") -> Written:
    """What stands in the JSON alone: what the baseline is of.

    Arguments:
        called: see `read_baseline`.

    Raises:
        HooksError: the file is missing or damaged, or of another version.
    """
    target, called = Path(path), called or str(path)
    try:
        if target.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST:,} bytes")
        fields = json.loads(target.read_text(encoding="utf-8"))
        if isinstance(fields, dict) and "format" in fields:
            if fields["format"] not in (FORMAT, WITH_REFERENCE):
                raise HooksError(
                    f"The baseline {called} is of another version ({fields['format']!s:.60}). Fit it again."
                )
            if fields["format"] == FORMAT:
                fields.setdefault("reference", None)
        written: Written = typed.read(Written, {"$type": "Written", "fields": fields})
        if not (
            _NAME.fullmatch(written.file) and written.statistics == STATISTICS and 1 <= written.k < written.pictures
        ):
            raise ValueError("a field has a value that none can have")
    except OSError as error:
        raise HooksError(
            f"The baseline {called} cannot be read ({error.strerror}). Check its name, or fit it again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise HooksError(f"The baseline {called} is no saved one, or it is damaged ({error}). Fit it again.") from error
    return written


def _numbers(target: Path, written: Written, called: str) -> tuple[PictureNumbers, Reference | None]:
    beside = target.with_name(written.file)
    try:
        data = beside.read_bytes()
    except OSError as error:
        raise HooksError(
            f"The baseline {called} has the numbers of its pictures in {beside.name} beside it, and that cannot be "
            f"read ({error.strerror}). Copy both files, or fit it again."
        ) from error
    if hashlib.sha256(data).hexdigest() != written.sha256:
        raise HooksError(
            f"{beside.name} is not what the baseline {called} was saved with: its content has another hash. Copy both "
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
        count, layers, told = written.pictures, len(written.layers), written.reference
        reference = None if told is None else read_reference(told, found, count, layers, len(STATISTICS))
    except (KeyError, ValueError) as error:
        raise HooksError(f"The baseline {called} is no saved one, or it is damaged ({error}). Fit it again.") from error
    features = found["features"] if written.features is not None else None
    by_layer = tuple(np.ascontiguousarray(profiles[:, index]) for index in range(len(written.layers)))
    numbers = PictureNumbers(pictures, written.layers, by_layer, written.features, features, found.get("energy"))
    return numbers, reference


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
    return _lines(fields) + "\n"


def _lines(fields: Mapping[str, Any], indent: str = " ") -> str:
    lines = []
    for name, value in fields.items():
        rows = [json.dumps(row, allow_nan=False) for row in value] if name in ROWS else []
        text = f"[\n{indent} " + f",\n{indent} ".join(rows) + f"\n{indent}]" if rows else ""
        if name in ("reference", "fields") and isinstance(value, Mapping):
            text = _lines(value, indent + " ")
        lines.append(f"{indent}{json.dumps(name)}: {text or json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(lines) + f"\n{indent[:-1]}}}"


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
