"""What a check-up looks at: a model, pictures as it is given them, and what is known of both.

What several rules need is found once: how the layers ran, what they gave over all pictures. A rule that needs more runs
the model itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.collectors import AnswersCollector, StatisticsCollector
from hookscope.hooks.datasets.labelled import read_batches
from hookscope.hooks.datasets.sweeping import Sweeping
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import select
from hookscope.hooks.passes.modes import inspecting, unwrap
from hookscope.hooks.results.findings import KNOW_NOTHING, Known
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.sweeps import Sweep
from hookscope.hooks.rules import RULES

AT_ONCE = 8  # pictures of a pass
Prepare = Callable[[str], Iterable[Tensor]]


class CannotTell(Exception):
    """A rule cannot say whether there is something to find; the text says why, as a sentence."""


@dataclass
class Patient:
    """See above.

    Arguments:
        model: as its owner holds it: its modules' modes are looked at, and left as they are.
        batches: float (picture, channel, height, width), as the model is given them; pictures of one size each.
        labels: int64 (picture,), -1 where there is none.
        known: what whoever loaded it knows.
        otherwise: the same pictures prepared in another way, which the page's text for it names ("unit", "bgr",
            "320x320"); None where only numbers can be changed afterwards.
        limits: of rules, other than their own: "dead-channels" or "preprocessing.gain" -> number.
        step: called between two passes: the page answers clicks there.
        described: what `layers.describe.describe` said of the model.
    """

    model: nn.Module
    batches: Sequence[Tensor]
    labels: np.ndarray
    known: Known = KNOW_NOTHING
    otherwise: Prepare | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    step: Callable[[], None] = lambda: None
    described: Sequence[LayerInfo] | None = None
    found: dict[str, object] = field(default_factory=dict)  # what rules tell each other

    # --- what it is

    @property
    def pictures(self) -> int:
        """How many there are."""
        return sum(map(len, self.batches))

    @functools.cached_property
    def inner(self) -> nn.Module:
        """The module that does the work."""
        return unwrap(self.model)

    @functools.cached_property
    def device(self) -> torch.device:
        """Where its weights are."""
        tensor = next(iter(self.inner.parameters()), next(iter(self.inner.buffers()), None))
        return torch.device("cpu") if tensor is None else tensor.device

    @functools.cached_property
    def layers(self) -> tuple[LayerInfo, ...]:
        """What a recorded run says of every layer and operation."""
        if self.described is not None:
            return tuple(self.described)
        return describe(self.model, self.batches[0][:1].to(self.device))

    @functools.cached_property
    def by_name(self) -> dict[str, LayerInfo]:
        """The layers and operations by name."""
        return {layer.name: layer for layer in self.layers}

    @functools.cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The modules by their first name; "" is the model itself."""
        return dict(self.inner.named_modules())

    @functools.cached_property
    def random(self) -> bool:
        """Whether nothing of it is trained, as far as anybody can tell."""
        from hookscope.hooks.doctor.initial import all_initial

        return all_initial(self.inner) if self.known.random is None else self.known.random

    def limit(self, rule: str, which: str = "") -> float:
        """One of a rule's limits: its first, or the one of that name."""
        limits = RULES[rule].limits
        name = which or next(iter(limits))
        main = name == next(iter(limits))
        return self.limits.get(f"{rule}.{name}", self.limits.get(rule, limits[name]) if main else limits[name])

    # --- what it does

    def need(self, pictures: int, what: str) -> None:
        """Have a rule that needs more pictures say so.

        Raises:
            CannotTell: there are fewer.
        """
        if self.pictures < pictures:
            raise CannotTell(f"{what} needs at least {pictures} different pictures, and there are {self.pictures}.")

    def runs(self, batches: Iterable[Tensor] | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """The model, in the state in which it is looked at, and one batch after the other on its device."""
        for batch in self.batches if batches is None else batches:
            for part in batch.split(AT_ONCE):
                with inspecting(self.model) as inner:
                    yield inner, part.to(self.device)
                self.step()

    @functools.cached_property
    def seen(self) -> Sweep:
        """Statistics of every layer without children and of every operation over all pictures, and the answers."""
        names = [
            layer.name for layer in self.layers if layer.calls and (layer.operation or (layer.leaf and layer.name))
        ] or list(select(self.model, "*"))
        run = Sweeping(
            self.model, [StatisticsCollector(names, 0.0, 64), AnswersCollector(beyond=True)], described=self.layers
        )
        number = 0
        for batch in self.batches:
            for part in batch.split(AT_ONCE):
                run.add(part, np.arange(number, number + len(part)), self.labels[number : number + len(part)])
                number += len(part)
                self.step()
        return run.found()


def read_patient(
    model: nn.Module,
    images: Tensor | Iterable[object],
    *,
    labels: Sequence[int] | np.ndarray | None = None,
    most: int = 0,
    **more: object,
) -> Patient:
    """A patient from what a caller has.

    Arguments:
        images: float (picture, channel, height, width), or one without the first axis; or batches, as `sweep` takes
            them. labels: one whole number per picture, -1 for none.
        most: pictures that are looked at; 0 for all.

    Raises:
        HooksError: there is no picture, or a label is missing.
    """
    if isinstance(images, Tensor):
        images = [images if images.ndim == 4 else images[None]]
    batches, told = [], []
    count = 0
    for batch in read_batches(images):
        batches.append(batch.pictures.contiguous())  # of channels that lie last every layer would be copied
        told.append(np.full(len(batch.pictures), -1) if batch.labels is None else batch.labels)
        count += len(batch.pictures)
        if most and count >= most:
            break
    if not count:
        raise HooksError("There was no picture to look at: every batch is empty. Give at least one picture.")
    of_pictures = np.concatenate(told).astype(np.int64) if labels is None else np.asarray(labels, np.int64)
    if len(of_pictures) != count and not most:
        raise HooksError(
            f"There are {count} pictures and {len(of_pictures)} labels. Give one per picture, -1 for none."
        )
    return Patient(model, batches, of_pictures[:count], **more)  # type: ignore[arg-type]
