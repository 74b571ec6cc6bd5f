"""Looks at all pictures as a baseline does, writes what was seen into one, and reads one for a model."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hookscope.hooks.datasets.collecting import OfLayers, Place
from hookscope.hooks.datasets.collectors import answers, features
from hookscope.hooks.datasets.layer_batch import LayerBatch
from hookscope.hooks.datasets.profiles import profiles
from hookscope.hooks.datasets.sweeping import Sweeping
from hookscope.hooks.doctor.baseline.marks import digest_of_text, pictures_of, weights_of
from hookscope.hooks.doctor.patient import AT_ONCE, Patient
from hookscope.hooks.errors import HooksError, TargetNotFound, called
from hookscope.hooks.layers.fingerprint import fingerprint
from hookscope.hooks.layers.penultimate import penultimate
from hookscope.hooks.looks.outputs import Answered, choose
from hookscope.hooks.results.baseline_files import read_written
from hookscope.hooks.results.baselines import choose_k
from hookscope.hooks.results.picture_numbers import PictureNumbers, numbers_of
from hookscope.hooks.results.reference import Reference, Told

if TYPE_CHECKING:
    from hookscope.hooks.datasets.baseline import Baseline

REPEATS = 3  # of each number of threads
LONGEST = 200  # characters of how a module prints itself
WRITE = "Write one of this model with `hookscope check --update-baseline`."


@dataclass(frozen=True)
class Seen:
    """What all pictures gave.

    Attributes:
        numbers: of each picture, at every layer without children.
        means: float64 (channel,) of each layer's call, over all pictures and positions; empty where it is not known.
        answers: float64 (class,), the mean answer; empty where there are no classes. first: int64 (picture,), the
            first class of each; -1 where there is none.
    """

    numbers: PictureNumbers
    means: tuple[np.ndarray, ...]
    answers: np.ndarray
    first: np.ndarray


class _Means(OfLayers):
    """Sums up every channel of every layer, and every class of the answers."""

    def __init__(self) -> None:
        super().__init__(None)
        self.sums: dict[Place, np.ndarray] = {}
        self.counts: dict[Place, int] = {}
        self.answers: list[np.ndarray] = []
        self.first: list[np.ndarray] = []
        self._pictures = 0

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """See `Collector`."""
        self._pictures = len(pictures)

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        if batch.rows is None or not batch.rows.values.numel():
            return
        place, own = (batch.layer, batch.call), batch.rows.numbers[..., 0].sum(0)
        if place in self.sums and len(self.sums[place]) != len(own):
            own = np.full(len(self.sums[place]), np.nan)
        self.sums[place] = self.sums.get(place, 0.0) + own
        self.counts[place] = self.counts.get(place, 0) + len(batch.pictures)

    def end(self, answered: Answered) -> None:
        """See `Collector`."""
        try:
            logits = choose(answered, self._pictures).logits.detach()
        except TargetNotFound:
            logits = torch.zeros(self._pictures, 0)
        rows = logits.double().cpu().flatten(2).mean(2) if logits.ndim > 2 else logits.double().cpu()
        self.answers.append(rows.numpy())
        self.first.append(rows.numpy().argmax(1) if rows.shape[1] else np.full(len(rows), -1))

    def found(self) -> dict[str, Any]:
        """See `Collector`."""
        return {}

    def seen(self, numbers: PictureNumbers) -> Seen:
        """What was found, beside the numbers of each picture."""
        none = np.zeros(0)
        means = tuple(self.sums[each] / self.counts[each] if each in self.sums else none for each in numbers.places)
        classes = {rows.shape[1] for rows in self.answers}
        answers = np.concatenate(self.answers).mean(0) if len(classes) == 1 else none
        return Seen(numbers, means, answers, np.concatenate(self.first).astype(np.int64))


def look_at_all(patient: Patient) -> Seen:
    """Show a patient's pictures to it, in the way in which baselines are made and held against.

    Raises:
        HooksError: no layer without children gave numbers of each picture.
    """
    means = _Means()
    place = penultimate(patient.layers)
    wanted = [profiles(), answers(), means, *([] if place is None else [features(place[0])])]
    return means.seen(numbers_of(_sweep(patient, wanted)))


def _sweep(patient: Patient, wanted: list[Any]) -> Any:
    run = Sweeping(patient.model, wanted, described=patient.layers)
    number = 0
    for batch in patient.batches:
        for part in batch.split(AT_ONCE):
            run.add(part, np.arange(number, number + len(part)))
            number += len(part)
            patient.step()
    return run.found()


# --- writing


def make_baseline(patient: Patient) -> Baseline:
    """A baseline of a patient and its pictures, with what a later check is held against.

    All pictures are shown three times in one of torch's threads, and three times in as many as there are now (two, if
    that is one): how far these passes part is what may differ later. The number of threads is the process's, and is put
    back.

    Raises:
        HooksError: there are fewer than 8 pictures, or no layer gives numbers of each.
    """
    from hookscope.hooks.datasets.baseline import Baseline, versions_now  # here: it reads baselines for the patient

    k = choose_k(patient.pictures, None)
    now = torch.get_num_threads()
    threads = (1, max(now, 2))
    seen = look_at_all(patient)
    least = [values.copy() for values in seen.numbers.profiles]
    most = [values.copy() for values in seen.numbers.profiles]
    for count in threads:
        with _threads(count):
            for _ in range(REPEATS):
                again = numbers_of(_sweep(patient, [profiles()]))
                if again.places != seen.numbers.places:
                    raise HooksError(
                        "The model runs other layers each time that it is shown the same pictures, so a baseline of "
                        "it would say nothing. Make it repeat itself, e.g. with torch.manual_seed."
                    )
                for own, low, high in zip(again.profiles, least, most, strict=True):
                    np.minimum(low, own, out=low)
                    np.maximum(high, own, out=high)
    with np.errstate(invalid="ignore"):
        spread = np.stack(
            [np.nan_to_num(high - low, nan=0.0).max(0) for low, high in zip(least, most, strict=True)]
        ).astype(np.float32)
    weights = list(weights_of(patient.inner))
    pictures = pictures_of(patient.batches)
    told = Told(
        repeats=REPEATS * len(threads) + 1,
        threads=threads,
        device=patient.device.type,
        size=pictures.size,
        mean=tuple(map(float, pictures.mean)),
        std=tuple(map(float, pictures.std)),
        pictures=pictures.digests,
        kinds=tuple(kind_of(patient, place) for place in seen.numbers.places),
        channels=tuple(map(len, seen.means)),
        classes=tuple(map(digest_of_text, patient.known.classes)),
        tensors=tuple(weight.stored() for weight in weights),
    )
    with np.errstate(over="ignore"):
        reference = Reference(
            told,
            spread,
            pictures.small.astype(np.float32),
            seen.answers.astype(np.float32),
            seen.first,
            np.concatenate([*seen.means, np.zeros(0)]).astype(np.float32),
            np.concatenate([*(weight.sample for weight in weights), np.zeros(0, np.float32)]),
            np.concatenate([*(weight.rows for weight in weights), np.zeros(0, np.uint32)]).astype(np.uint32),
        )
    made = datetime.date.today().isoformat()
    return Baseline(seen.numbers, k, fingerprint(patient.inner), made, versions_now(), reference)


def write_baseline(patient: Patient, path: str | os.PathLike[str]) -> Baseline:
    """Write a baseline of a patient and its pictures: what `--update-baseline` does.

    The numbers that an earlier one at the same place kept beside it are removed, unless another one there has them.

    Raises:
        HooksError: there are fewer than 8 pictures, or the files cannot be written.
    """
    target = Path(path)
    before = _file_of(target)
    made = make_baseline(patient)
    try:
        made.save(target)
    except OSError as error:
        raise HooksError(
            f"The baseline cannot be written to {path} ({error.strerror}). Name a file in a folder that is there and "
            "may be written to."
        ) from error
    if before and before != _file_of(target):
        with contextlib.suppress(OSError):
            others = (other.read_bytes() for other in target.parent.glob("*.json"))
            if not any(before.encode() in text for text in others):
                target.with_name(before).unlink()
    return made


def kind_of(patient: Patient, place: Place) -> str:
    """How a layer's module prints itself: with its type and its settings."""
    module = patient.modules.get(place[0])
    return "" if module is None else " ".join(repr(module).split())[:LONGEST]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _file_of(path: Path) -> str:
    """The file beside a baseline; "" if there is none."""
    try:
        return read_written(path).file
    except HooksError:
        return ""


# --- reading


def read_baseline_for(patient: Patient, given: Any) -> Baseline:
    """The baseline of a patient, from its file or as it is.

    Other weights are what it is for; another architecture is not.

    Arguments:
        given: a path, or a baseline.

    Raises:
        HooksError: it cannot be read, or it is of another model: layers or shapes differ.
    """
    from hookscope.hooks.datasets.baseline import Baseline

    if isinstance(given, str | os.PathLike):
        which, baseline = f"The baseline {os.fspath(given)}", Baseline.read(given)
    elif isinstance(given, Baseline):
        which, baseline = "This baseline", given
    else:
        raise HooksError(f"A baseline is an hs.Baseline, or the path of one, and not of type {type(given).__name__}.")
    if difference := _another_model(patient, baseline):
        raise HooksError(f"{which} is of another model: {difference}. Give this model's. {WRITE}")
    return baseline


def _another_model(patient: Patient, baseline: Baseline) -> str:
    """What tells that a baseline is of another model; "" if nothing does."""
    lacking = [layer for layer, _ in baseline.layers if layer not in patient.modules]
    if lacking:
        return f"it knows {called(lacking[0])}, which this model lacks ({len(set(lacking))} such layers)"
    if baseline.reference is None:
        return ""
    known = {each.name: each.shape for each in baseline.reference.told.tensors}
    own = {name: _shape(value) for name, value in patient.inner.state_dict().items()}
    for name in known:
        if name not in own:
            return f"it knows the weight {name}, which this model lacks"
        if own[name] is not None and known[name] != own[name]:
            shapes = [" × ".join(map(str, shape)) or "one number" for shape in (known[name], own[name] or ())]
            return f"{name} is {shapes[0]} there and {shapes[1]} here"
    added = [name for name in own if name not in known]
    return f"this model has the weight {added[0]}, which it does not know" if added else ""


def _shape(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, torch.Tensor):
        return None
    return (*value.shape, 2) if value.is_complex() else tuple(value.shape)
