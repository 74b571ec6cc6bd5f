"""What is asked for the tab "Findings": a check-up of the model over some pictures of a set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hookscope.dashboard.asking.questions import CheckUpOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.sets.members import in_turns
from hookscope.dashboard.sets.store import REFERENCE
from hookscope.dashboard.sets.sweeps import Progress
from hookscope.hooks.results.outputs import AS_FOUND

PICTURES = 32  # that are looked at
TRIED = 2  # times as many pictures, some of which may not be readable


@dataclass(frozen=True)
class Asked:
    """A check-up.

    Attributes:
        looked: the set and the model. unit: what is asked.
    """

    looked: Looked
    unit: Unit

    @property
    def reference(self) -> bool:
        """Whether nobody has chosen a set, and the built-in photographs serve."""
        return not self.looked.scene.view.set_a


def ask(scene: Scene) -> Asked | str:
    """The check-up of the view's set, or of the built-in photographs; a sentence, where there is none."""
    looked = look_at(scene, scene.view.set_a or REFERENCE)
    if isinstance(looked, str):
        return looked
    total = len(looked.pictures.members)
    if not total:
        return "There is no picture in this set that can be used. Choose another one."
    looked = replace(looked, scene=scene.only("side", "set_a", "model", "model_b"), progress=Progress(), found=None)
    reading = scene.reading(scene.view.side)
    read = AS_FOUND if looked.info.found(reading) == looked.info.answer else reading
    numbers = in_turns([member.group for member in looked.pictures.members])[: TRIED * PICTURES]
    labels = tuple(int(looked.labels[number]) for number in numbers) if looked.labelled else ()
    question = CheckUpOf(min(PICTURES, total), tuple(numbers), labels, _baseline(looked))
    return Asked(looked, Unit(replace(Side(looked.model, looked.pictures.version), reading=read), question))


def _baseline(looked: Looked) -> str:
    """By what the model's stored baseline is known; "" if it has none."""
    sweeps = looked.scene.service.sweeps
    found = sweeps.baselines.about(looked.model) if sweeps is not None else None
    return "" if found is None else repr(found)
