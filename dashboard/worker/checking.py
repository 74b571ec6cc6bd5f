"""A check-up of the model over the first pictures of a set, rule after rule."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hookscope.dashboard.asking.questions import CheckUpOf
from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.checking.known import known_of
from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.sources.preprocessing import PreparationError, open_exact, open_pixels
from hookscope.dashboard.worker.reading import Drawn, Reading, read_first
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.doctor.check import OWNER, examine, in_order, report
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.errors import HooksError
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.findings import Checked, CheckUp, CheckUpNow, Finding, sort_findings
from hookscope.hooks.rules import RULES


def check_up(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[CheckUpNow | CheckUp]:
    """Answer with what was found so far after each rule.

    Raises:
        HooksError: no picture can be read, or the model is given several at once.
    """
    asked: CheckUpOf = task.question
    began = time.monotonic()
    reading = read_first(model, task, Drawn(), len(asked.numbers), asked.pictures, asked.numbers)
    task.start()
    numbered = list(reading.numbered())
    if not numbered:
        raise HooksError(f"None of the first pictures of this set can be read. Of one it is said: {reading.refused}")
    numbers = [number for number, _ in numbered]
    shown = dict(zip(asked.numbers, asked.labels, strict=False))
    labels = [shown.get(number, -1) for number in numbers]
    findings: list[Finding] = []
    checked: list[Checked] = []

    def step() -> None:
        """Answer clicks between two passes; not where a rule has left its hooks on the model for the next one."""
        if not live_hooks(OWNER):
            task.progress(len(checked), len(RULES))

    patient = Patient(
        model.module,
        _alike([tensor for _, tensor in numbered]),
        np.array(labels, np.int64),
        known_of(model),
        otherwise=lambda text: _otherwise(model, task, reading, numbers, text),
        step=step,
        described=model.info.layers,
    )

    patient.found["baseline"] = model.baseline if asked.baseline else None

    steps, order = examine(patient), in_order()
    while True:
        with looking(progress=None):  # a rule's own passes are no pictures of the set
            found = next(steps, None)
        if found is None:
            break
        if isinstance(found, Finding):
            findings.append(_numbered(found, numbers))
        else:
            checked.append(found)
        doing = order[len(checked)].name if len(checked) < len(order) else ""
        yield CheckUpNow(sort_findings(findings), tuple(checked), doing)
    yield report(patient, findings, checked, time.monotonic() - began)


def _alike(pictures: list[Tensor]) -> list[Tensor]:
    """Batches: pictures of one size that follow each other are one."""
    batches: list[Tensor] = []
    for picture in pictures:
        if batches and batches[-1].shape[1:] == picture.shape[1:]:
            batches[-1] = torch.cat([batches[-1], picture])
        else:
            batches.append(picture)
    return batches


def _otherwise(model: LoadedModel, task: Task, reading: Reading, numbers: list[int], text: str) -> Iterator[Tensor]:
    """The same pictures prepared in another way.

    Raises:
        HooksError: one cannot be prepared so.
    """
    prepare = model.prepare.otherwise(Preparation.read(text))
    pictures = []
    for number in numbers:
        data = task.read(f"{task.side.input}/{number}")
        try:
            pictures.append(prepare(open_pixels(data), open_exact(data)).tensor.to(model.device))
        except PreparationError as refused:
            raise HooksError(str(refused)) from refused
    yield from _alike(pictures)


def _numbered(finding: Finding, numbers: list[int]) -> Finding:
    """A finding whose picture has its number in the set."""
    return replace(finding, picture=numbers[finding.picture]) if 0 <= finding.picture < len(numbers) else finding
