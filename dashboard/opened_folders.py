"""Files and folders of pictures for a model that `hs.open_model` opened: read, as uploads and sets are, in a child."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.checking.known import known_of
from hookscope.dashboard.inputs.decoder import Decoder, InputRefused, Many
from hookscope.dashboard.inputs.rows import SUFFIX, Exact
from hookscope.dashboard.inputs.samples import PHOTOGRAPHS, SAMPLES
from hookscope.dashboard.places import SAMPLES_FOLDER
from hookscope.dashboard.sets.labels import NOT_KNOWN, match
from hookscope.dashboard.sets.members import Member, SetMissing, in_turns, scan
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import PreparationError, open_exact, open_pixels
from hookscope.dashboard.unopened import NotOpened, read_preparation
from hookscope.hooks.doctor.check import examine, report
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.results.findings import CheckUp, Finding

KEPT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # that a PNG holds as they are
SECONDS = 60.0  # for one picture: nobody waits behind it


def pixels_of(picture: Any) -> tuple[Image.Image, Exact | None]:
    """A picture's pixels, and what they only stand for, as `inputs.rows` has it.

    Raises:
        NotOpened: it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="hookscope-") as made:
        folder = Path(made)
        decoder = Decoder(SECONDS)
        try:
            decoder.decode(_file_of(picture, folder), folder / "decoded")
        except InputRefused as refused:
            named = f" {str(picture)!r}" if isinstance(picture, str | Path) else ""
            raise NotOpened(f"The picture{named} cannot be read. {refused}") from None
        finally:
            decoder.close()
        data = (folder / "decoded").with_suffix(SUFFIX).read_bytes()
    return open_pixels(data), open_exact(data)


def _file_of(picture: Any, folder: Path) -> Path:
    """Where it lies as a file."""
    if isinstance(picture, str | Path):
        if not Path(picture).is_file():
            raise NotOpened(f"There is no file {str(picture)!r}.")
        return Path(picture).resolve()
    if isinstance(picture, Image.Image):
        path = folder / "given.png"
        (picture if picture.mode in KEPT_MODES else picture.convert("RGB")).save(path)
        return path
    if isinstance(picture, np.ndarray):
        path = folder / "given.npy"
        np.save(path, picture, allow_pickle=False)
        return path
    raise NotOpened(f"A picture is a file's path, a PIL image or an array, and this is a {type(picture).__name__}.")


class Pictures:
    """The pictures of a folder, prepared for a model; see `OpenModel.folder`.

    Attributes:
        names: of the files, in order, with the folders that they lie in. labels: int64 (file,), the class that each is
            said to show, -1 where nobody says it, or the model has no such class.
        read: the names of those that were read when it was last gone through, in order. refused: by name, why others
            were left out.
    """

    def __init__(
        self,
        model: LoadedModel,
        folder: str | Path,
        preparation: Preparation,
        most: int = 0,
        turns: bool = False,
        batch: int = 16,
    ) -> None:
        if model.info.pictures or model.info.preprocessing.frames:
            raise NotOpened("This model is given several pictures at once, and a folder's go through one by one.")
        self._model, self._preparation = model, preparation
        self._most, self._batch = most, max(1, batch)
        members, self.refused = _members(folder)
        if turns:
            members = [members[place] for place in in_turns([each.group for each in members])]
        self._members = members
        self.read: list[str] = []
        self.names = tuple(each.place for each in members)
        found = match([*dict.fromkeys(each.group for each in members if each.group)], model.info.classes)
        vector = model.info.form() == "vector"
        labels = [found.get(each.group, NOT_KNOWN) if vector else NOT_KNOWN for each in members]
        self.labels = np.array(labels, np.int64)

    def __iter__(self) -> Iterator[tuple[Tensor, list[int]]]:
        waiting: list[tuple[Tensor, int]] = []
        for tensor, label in self._each():
            if waiting and (len(waiting) == self._batch or waiting[0][0].shape != tensor.shape):
                yield _together(waiting)
                waiting = []
            waiting.append((tensor, label))
        if waiting:
            yield _together(waiting)

    def otherwise(self, preparation: str) -> Pictures:
        """The same pictures, prepared in another way.

        Raises:
            NotOpened: nothing is called so.
        """
        other = object.__new__(Pictures)
        vars(other).update(vars(self))
        other._preparation = read_preparation(preparation)
        return other

    def _each(self) -> Iterator[tuple[Tensor, int]]:
        prepare, done = self._model.prepare.otherwise(self._preparation), 0
        decoder = Decoder(SECONDS)
        self.read = []
        with tempfile.TemporaryDirectory(prefix="hookscope-") as folder:
            child = Many(decoder)
            try:
                for member, label in zip(self._members, self.labels.tolist(), strict=True):
                    if self._most and done == self._most:
                        break
                    assert member.path is not None
                    try:
                        tensor = prepare(*_decoded(child, member.path, Path(folder) / "decoded")).tensor
                    except (InputRefused, PreparationError) as problem:
                        self.refused[member.place] = str(problem)
                        continue
                    done += 1
                    self.read.append(member.place)
                    yield tensor.to(self._model.device), label
            finally:
                child.end()
                decoder.close()


def _decoded(child: Many, source: Path, target: Path) -> tuple[Image.Image, Exact | None]:
    child.decode(source, target)
    data = target.with_suffix(SUFFIX).read_bytes()
    return open_pixels(data), open_exact(data)


def _members(folder: str | Path) -> tuple[list[Member], dict[str, str]]:
    """The files of a folder, and why others are none."""
    if not str(folder):
        samples = [SAMPLES[name] for name in PHOTOGRAPHS]
        return [Member(each.file, path=SAMPLES_FOLDER / each.file) for each in samples], {}
    try:
        found = scan("", Path(folder).name, Path(folder).resolve())
    except SetMissing:
        raise NotOpened(f"The folder {str(folder)!r} cannot be read.") from None
    if not found.members:
        raise NotOpened(f"There is no picture in the folder {str(folder)!r}.")
    return list(found.members), dict(found.refused)


def _together(pictures: list[tuple[Tensor, int]]) -> tuple[Tensor, list[int]]:
    return torch.cat([tensor for tensor, _ in pictures]), [label for _, label in pictures]


def _alike(batches: list[Tensor]) -> list[Tensor]:
    """Those of one size that follow each other are one."""
    found: list[Tensor] = []
    for each in batches:
        if found and found[-1].shape[1:] == each.shape[1:]:
            found[-1] = torch.cat([found[-1], each])
        else:
            found.append(each)
    return found


def check_up(model: LoadedModel, pictures: Pictures) -> CheckUp:
    """What is found by the rules; see `OpenModel.check`.

    Raises:
        NotOpened: no picture can be read.
    """
    began = time.monotonic()
    given = list(pictures)
    if not given:
        why = next(iter(pictures.refused.values()), "")
        raise NotOpened(f"None of these pictures can be read. {why}".rstrip())
    patient = Patient(
        model.module,
        _alike([tensor for tensor, _ in given]),
        np.array([label for _, labels in given for label in labels], np.int64),
        known_of(model),
        otherwise=lambda text: _alike([tensor for tensor, _ in pictures.otherwise(text)]),
        described=model.info.layers,
    )
    patient.found["baseline"] = model.baseline or None
    found = list(examine(patient))
    findings = [each for each in found if isinstance(each, Finding)]
    checked = [each for each in found if not isinstance(each, Finding)]
    return report(patient, findings, checked, time.monotonic() - began)
