"""Where a card's wall is drawn from, at any later time: units and a view, no maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing import pictures
from hookscope.dashboard.drawing.geometry import WallGeometry, wall_geometry
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.plain_figures import PANEL_GAP
from hookscope.dashboard.page import restoring
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.reading import Reading
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.standing import BY, NOTHING, Standing
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.maps import why_no_maps
from hookscope.hooks.results.restoring import RestoredParts

MAX_HEIGHT_PX = 480


ROOMY_HEIGHT_PX = 528  # of a wall of few maps, whose cells would otherwise be smaller than the card has room for


ROOMY_CELL_PX = 64


def ranked_units(scene: Scene, key: str) -> dict[str, Unit]:
    """What has to be asked by side for the rank that is chosen; nothing for ranks that the activations tell."""
    kind, found = BY.get(scene.walls.rank), scene.call_of(key)
    if kind is None or found is None or why_no_maps(found[1], found[1].shape):
        return {}
    return scene.of_layer(kind, key, explained=True)


def ranked_fields(scene: Scene) -> tuple[str, ...]:
    """The fields of the view that such a rank depends on besides."""
    return EXPLAINED if scene.walls.rank in BY else ()


@dataclass(frozen=True)
class WallSource:
    """Where one card's wall is drawn from, at any later time: units and a view, no maps.

    Attributes:
        units: the activations by side. standing: how the channels stand, as it was known when the wall was drawn.
        restored: what each channel of A brings back in B, as it was known then; None for no such wall.
    """

    scene: Scene
    key: str
    units: Mapping[str, Unit]
    standing: Standing = NOTHING
    restored: RestoredParts | None = None

    def reading(self) -> Reading:
        """The layer's values as they are drawn.

        Raises:
            Gone: some of them are no longer kept.
        """
        found = {side: self.scene.kept(unit, Activation) for side, unit in self.units.items()}
        return self.scene.readings.get(self.scene.walls, found, self.standing)

    def sprite(self, which: str, geometry: WallGeometry, sides: tuple[str, ...], cell_px: float) -> bytes:
        """The picture of one panel: side "a" or "b", "difference" or "restored".

        Arguments:
            sides: whose values were there when the address was made; the others take no part in scale and order.
        """
        reading = replace(self, units={s: self.units[s] for s in sides}).reading()
        return draw_panel(self, reading, which, geometry, cell_px)


def draw_panel(source: WallSource, reading: Reading, which: str, geometry: WallGeometry, cell_px: float) -> bytes:
    """Draw one panel's sprite."""
    if which == restoring.NAME:
        assert reading.difference is not None and source.restored is not None
        maps = restoring.maps_of(reading.difference, source.restored)
        each = restoring.scales_of(maps, source.restored)
        return pictures.sprite(maps, reading.order[: geometry.shown], geometry.columns, each, DIFFERENCE, cell_px)
    if which == "difference":
        assert reading.difference is not None
        return pictures.sprite(
            reading.difference,
            reading.order[: geometry.shown],
            geometry.columns,
            reading.difference_scale,
            DIFFERENCE,
            cell_px,
        )
    order, scale = reading.order_of(which)[: geometry.shown], reading.scale_of[which]
    if source.scene.walls.overlay:
        pixels = source.scene.given(which, second=source.scene.sees_second(source.units[which]))
        return pictures.overlay_sprite(
            reading.maps[which], order, geometry.columns, scale, reading.palette, pixels, cell_px
        )
    return pictures.sprite(reading.maps[which], order, geometry.columns, scale, reading.palette, cell_px)


def places(scene: Scene, key: str) -> int:
    """How many walls stand side by side in a layer's card."""
    if len(scene.walled(key)) < 2:
        return 1
    return 4 if scene.walls.restored and restoring.can_stand(scene, key) else 3


def geometry_of(scene: Scene, key: str, reading: Reading) -> WallGeometry:
    """How a reading's walls are laid out: with room for the side that has the most channels."""
    return geometry_for(scene, key, max((array.shape for array in reading.maps.values()), key=lambda shape: shape[0]))


def geometry_for(scene: Scene, key: str, shape: tuple[int, int, int]) -> WallGeometry:
    """How a layer of (channel, height, width) is laid out in this page's cards."""
    panels = places(scene, key)
    panel_px = int(scene.width * (1 - PANEL_GAP * (panels - 1)) / panels)
    fitting = wall_geometry(*shape, panel_px, MAX_HEIGHT_PX, scene.walls.count)
    if fitting.shown == fitting.total and fitting.cell_px >= ROOMY_CELL_PX:
        return wall_geometry(*shape, panel_px, ROOMY_HEIGHT_PX, scene.walls.count)
    return fitting
