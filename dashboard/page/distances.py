"""The units that tell how far A and B are apart, and with what that is compared."""

from __future__ import annotations

from hookscope.dashboard.asking.questions import CalibrationOf, PartingOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.page.scene import SIDES, Scene


def parting_of(scene: Scene) -> Unit | None:
    """How far A and B are apart at every layer; None while one of them is missing."""
    return scene.unit("a", PartingOf(scene.side("b"))) if {*SIDES} <= {*scene.inputs} else None


def usual(scene: Scene) -> Unit:
    """How far any two photographs are apart in A's model."""
    pictures, files = scene.service.inputs.photographs()
    return Unit(Side(scene.view.model_of("a"), pictures[0]), CalibrationOf(pictures, files))


def distances(scene: Scene) -> dict[str, Unit]:
    """Both, by name; two models of one picture are compared with nothing."""
    unit = parting_of(scene)
    if unit is None:
        return {}
    return {"parting": unit} if scene.two_models else {"parting": unit, "usual": usual(scene)}
