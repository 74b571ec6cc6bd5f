"""The pictures of a check-up as the model is given them, and the same in another way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.asking.texts import say
from hookscope.dashboard.checking.pictures import MOST_REFUSED, Candidate, Drawn, InputRefused, Reader, why_none
from hookscope.dashboard.checking.refusals import Unchecked
from hookscope.dashboard.sets.labels import NOT_KNOWN, match
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import PreparationError, Prepared, open_exact, open_pixels
from hookscope.hooks.doctor.patient import CannotTell
from hookscope.hooks.passes.modes import inspecting

HIGHEST_LABEL = 1_000_000


class NotSo(CannotTell, PreparationError):
    """The pictures cannot be prepared so: a rule may go on without, or cannot tell."""


@dataclass(frozen=True)
class Looked:
    """The pictures that a check-up looks at.

    Attributes:
        model: for which they are prepared. drawn: where they come from.
        chosen: each, in order. files: with its pixels. prepared: as the model wants it. refused: as `Drawn` has it.
    """

    model: LoadedModel
    drawn: Drawn
    chosen: tuple[Candidate, ...]
    files: tuple[Path, ...] = field(repr=False)
    prepared: tuple[Prepared, ...] = field(repr=False)
    refused: tuple[tuple[str, str], ...] = ()

    def batches(self) -> list[Tensor]:
        """float32 (picture, channel, height, width): those of one size that follow each other are one.

        Raises:
            Unchecked: the model fails at a picture.
        """
        batches = _alike([each.tensor for each in self.prepared])
        if _takes_several(self.model, batches):
            return batches
        return [picture for batch in batches for picture in batch.split(1)]

    def otherwise(self, text: str) -> list[Tensor]:
        """The same pictures prepared in another way, as the page writes it.

        Raises:
            NotSo: they cannot be.
        """
        preparation = Preparation.read(text)
        try:
            prepare = self.model.prepare.otherwise(preparation)
            if {*preparation.changed} <= {"values"}:  # the pixels stay
                info = prepare.info
                made: Sequence[Prepared] = [replace(each, mean=info.mean, std=info.std) for each in self.prepared]
            else:
                made = [_prepared(prepare, file) for file in self.files]
        except PreparationError as error:
            raise NotSo(str(error)) from error
        return _alike([each.tensor for each in made])

    def unlabelled(self) -> np.ndarray:
        """What each picture shows, where that is not asked: int64 (picture,), all -1."""
        return np.full(len(self.chosen), NOT_KNOWN, np.int64)

    def labels(self, classes: Sequence[str]) -> np.ndarray:
        """What each picture is said to show, as a class's number: int64 (picture,), -1 where that is not known.

        Numbers that no class has stay what they are: that there are such is a finding.
        """
        groups = list(dict.fromkeys(each.group for each in self.chosen if each.group))
        found = match(groups, classes)
        numbers = [group for group in groups if group.isascii() and group.isdigit() and int(group) < HIGHEST_LABEL]
        if len(numbers) == len(groups) and all(index == NOT_KNOWN for index in found.values()):
            found = {group: int(group) for group in groups}
        return np.array([found.get(each.group, NOT_KNOWN) for each in self.chosen], np.int64)


def look(
    model: LoadedModel, drawn: Drawn, most: int, folder: Path, progress: Callable[[str], None] = lambda doing: None
) -> Looked:
    """Read as many pictures as are wanted, in the order in which they were drawn; what cannot be read is left out.

    Arguments:
        folder: an empty one, for their pixels.

    Raises:
        Unchecked: none can be read.
    """
    chosen: list[Candidate] = []
    files: list[Path] = []
    prepared: list[Prepared] = []
    refused = list(drawn.refused)
    reader = Reader(folder)
    try:
        for candidate in drawn.candidates:
            if len(chosen) == most or len(refused) - len(drawn.refused) == MOST_REFUSED:
                break
            progress(f"Reading picture {len(chosen) + 1} …")
            try:
                file = reader.read(candidate.path)
                prepared.append(_prepared(model.prepare, file))
            except (InputRefused, PreparationError) as error:
                refused.append((candidate.name, str(error)))
                continue
            chosen.append(candidate)
            files.append(file)
    finally:
        reader.close()
    if not chosen:
        raise Unchecked(why_none(drawn, refused))
    return Looked(model, drawn, tuple(chosen), tuple(files), tuple(prepared), tuple(refused))


def _prepared(prepare: Callable[..., Prepared], file: Path) -> Prepared:
    data = file.read_bytes()
    return prepare(open_pixels(data), open_exact(data))


def _alike(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Batches: pictures of one size that follow each other are one."""
    batches: list[list[Tensor]] = []
    for each in pictures:
        if batches and batches[-1][0].shape == each.shape:
            batches[-1].append(each)
        else:
            batches.append([each])
    return [torch.cat(batch) for batch in batches]


def _takes_several(model: LoadedModel, batches: Sequence[Tensor]) -> bool:
    """Whether a model takes two pictures at once.

    Raises:
        Unchecked: it does not take one either.
    """
    several = next((batch for batch in batches if len(batch) > 1), None)
    if several is not None and not _failure(model, several[:2]):
        return True
    if failure := _failure(model, batches[0][:1]):
        raise Unchecked(f"The model loads, and fails at a picture: {failure}.")
    return False


def _failure(model: LoadedModel, pictures: Tensor) -> str:
    """What a model says to pictures that it fails at; "" if it answers."""
    try:
        with inspecting(model.module) as inner:
            inner(pictures.to(model.device))
    except Exception as error:  # the model's code may raise what it likes
        return say(error)
    return ""
