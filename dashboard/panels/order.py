"""The order of all panels: everything that the page shows, most urgent first."""

from __future__ import annotations

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels import attributions, detail, export, gradients, inputs, tree
from hookscope.dashboard.panels.card import cards


def parts(scene: Scene, mounted: int, prefix: str) -> list[Part]:
    """Everything the page shows, most urgent first; what stands behind another tab waits until that is chosen."""
    if scene.view.tab == "gradients":
        below = [gradients.part(scene), tree.part(scene)]
    else:  # attributions of the input take seconds, so they come last
        below = [*cards.parts(scene, mounted), *detail.parts(scene), tree.part(scene), attributions.part(scene)]
    return [*inputs.parts(scene), *below, export.part(scene, prefix)]
