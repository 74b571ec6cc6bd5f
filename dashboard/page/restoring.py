"""What comes back of the one side's answer with parts of its layers in the other's run: what is asked, how drawn."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

from hookscope.dashboard.asking.questions import RestoredPartsOf, Unit
from hookscope.dashboard.drawing.ranking import mean_map
from hookscope.dashboard.drawing.scales import Scale
from hookscope.dashboard.page import matching
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.hooks.results.maps import why_no_maps
from hookscope.hooks.results.parting import of_one_architecture
from hookscope.hooks.results.restoring import RestoredParts

RANK = "back"
NAME = "restored"  # of the wall, beside "a", "b" and "difference"


def parts_unit(
    scene: Scene, giver: str, taker: str, key: str, by: Literal["channels", "positions"] = "channels"
) -> Unit:
    """The unit that asks what comes back with each part of a layer of the giver's in the taker's run."""
    question = RestoredPartsOf(scene.answering(taker), key, by, scene.target(giver), scene.target(taker))
    return scene.unit(giver, question)


def can_stand(scene: Scene, key: str) -> bool:
    """Whether a card may have this wall: both sides are there, and their values are maps."""
    found = scene.call_of(key)
    both = {*SIDES} <= {*scene.inputs} and set(scene.walled(key)) == {*SIDES}
    return both and found is not None and not why_no_maps(found[1], found[1].shape)


def can_be_answered(scene: Scene, key: str = "") -> bool:
    """Whether there is an answer to such a question, as far as that is known before it is asked.

    Arguments:
        key: of the layer; "" for whether there is any.
    """
    if {*SIDES} != {*scene.inputs} or any(scene.info_of(side).pictures for side in SIDES):
        return False
    one, other = (scene.info_of(side) for side in SIDES)
    reads = [scene.info_of(side).found(scene.reading(side)).reading for side in SIDES]
    if reads[0].reads == "embedding":
        return False
    if not scene.two_models:
        return True
    outputs = [scene.info_of(side).output(scene.reading(side)) for side in SIDES]
    lengths = [output.length if output else 0 for output in outputs]
    alike = reads[0] == reads[1] and lengths[0] == lengths[1] > 0 and scene.classes("a") == scene.classes("b")
    return alike and of_one_architecture(one.layers, other.layers) and (not key or _fits(scene, key))


def _fits(scene: Scene, key: str) -> bool:
    """Whether a layer of that name has values of the same sizes on both sides."""
    calls = [matching.call_of(scene.info_of(side), key) for side in SIDES]
    return len({found[1].shape if found else None for found in calls}) == 1


def unit_of(scene: Scene, key: str) -> Unit | None:
    """What has to be asked for a card's fourth wall, or for that rank; None where nobody wants it, or there is none."""
    wanted = scene.walls.restored or scene.walls.rank == RANK
    return parts_unit(scene, "a", "b", key) if wanted and can_stand(scene, key) else None


def ranking_unit(scene: Scene, unit: Unit | None) -> Unit | None:
    """The same where the walls are ranked by it."""
    return unit if scene.walls.rank == RANK else None


def signature(parts: RestoredParts | None) -> str:
    """Another for whatever is known otherwise; "" for nothing."""
    return "" if parts is None else hashlib.sha256(parts.best.tobytes()).hexdigest()[:16]


def maps_of(difference: np.ndarray, parts: RestoredParts) -> np.ndarray:
    """What is drawn in the cells: where A's values differ from B's, in the strength of what that brings back.

    Arguments:
        difference: float32 (channel, height, width), B - A.

    Returns:
        float32 (channel, height, width): |B - A| over the channel's largest, times the channel's share.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(difference)
        apart = np.where(np.isfinite(apart), apart, 0)
        most = apart.max((1, 2), keepdims=True, initial=0)
        shape = np.where(most > 0, apart / most, 0)
    shares = np.nan_to_num(parts.best, nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(shape * shares[:, None, None], np.float32)


def scale_of(parts: RestoredParts) -> Scale:
    """Of every channel: the full colour is the largest share."""
    largest = float(np.max(np.abs(np.nan_to_num(parts.best)), initial=0))
    return Scale(-largest, largest, "diverging")


def scales_of(maps: np.ndarray, parts: RestoredParts) -> tuple[Scale, ...]:
    """The same for each of the channels, and last another for their mean map."""
    mean = float(np.abs(mean_map(maps)).max(initial=0))
    return (*[scale_of(parts)] * len(maps), Scale(-mean, mean, "diverging"))
