"""What a view asks for and a saved file of it does not show."""

from __future__ import annotations

from hookscope.dashboard.page.scene import SIDES, Scene


def sides_left_out(scene: Scene) -> list[str]:
    """A sentence for each side that has a picture and whose model is not there."""
    found = []
    for side in SIDES:
        model = scene.view.model_of(side)
        if getattr(scene.view, side) and model not in scene.infos:
            failed = scene.service.state(model).phase == "failed"
            why = "cannot be loaded" if failed else "was not loaded yet: save it again once it is"
            found.append(f"{side.upper()} is left out, because its model, {model}, {why}.")
    return found
