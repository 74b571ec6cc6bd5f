"""Where a card's wall is drawn from, at any later time: units and a view, no arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing import pictures
from hookscope.dashboard.drawing.geometry import WallGeometry, wall_geometry
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.plain_figures import PANEL_GAP
from hookscope.dashboard.page.reading import Reading
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Activation, Prediction

MAX_HEIGHT_PX = 480


ROOMY_HEIGHT_PX = 528  # of a wall of few maps, whose cells would otherwise be smaller than the card has room for


ROOMY_CELL_PX = 64


@dataclass(frozen=True)
class WallSource:
    """Where one card's wall is drawn from, at any later time: units and a view, no arrays.

    Attributes:
        units: the activations by side.
    """

    scene: Scene
    key: str
    units: Mapping[str, Unit]

    def reading(self) -> Reading:
        """The layer's values as they are drawn.

        Raises:
            Gone: some of them are no longer kept.
        """
        found = {side: self.scene.kept(unit, Activation) for side, unit in self.units.items()}
        return self.scene.readings.get(self.scene.walls, found)

    def sprite(self, which: str, geometry: WallGeometry, sides: tuple[str, ...], cell_px: float) -> bytes:
        """The picture of one panel: side "a" or "b", or "difference".

        Arguments:
            sides: whose values were there when the address was made; the others take no part in scale and order.
        """
        reading = WallSource(self.scene, self.key, {s: self.units[s] for s in sides}).reading()
        return draw_panel(self, reading, which, geometry, cell_px)


def draw_panel(source: WallSource, reading: Reading, which: str, geometry: WallGeometry, cell_px: float) -> bytes:
    """Draw one panel's sprite."""
    order = reading.order[: geometry.shown]
    if which == "difference":
        assert reading.difference is not None
        return pictures.sprite(
            reading.difference, order, geometry.columns, reading.difference_scale, DIFFERENCE, cell_px
        )
    if source.scene.walls.overlay:
        pixels = source.scene.kept(source.scene.unit(which, "prediction"), Prediction).pixels
        return pictures.overlay_sprite(
            reading.maps[which], order, geometry.columns, reading.scale, reading.palette, pixels, cell_px
        )
    return pictures.sprite(reading.maps[which], order, geometry.columns, reading.scale, reading.palette, cell_px)


def geometry_for(scene: Scene, shape: tuple[int, int, int]) -> WallGeometry:
    """How a layer of (channel, height, width) is laid out in this page's cards."""
    panels = 3 if len(scene.inputs) == 2 else 1
    panel_px = int(scene.width * (1 - PANEL_GAP * (panels - 1)) / panels)
    fitting = wall_geometry(*shape, panel_px, MAX_HEIGHT_PX, scene.walls.count)
    if fitting.shown == fitting.total and fitting.cell_px >= ROOMY_CELL_PX:
        return wall_geometry(*shape, panel_px, ROOMY_HEIGHT_PX, scene.walls.count)
    return fitting
