"""What one position attends to: its row of the attention weights, laid out as the picture is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hookscope.hooks.results.looks import AttentionMaps
from hookscope.hooks.results.maps import frame, frame_index

MEAN, ROLLOUT = "mean", "rollout"


@dataclass(frozen=True)
class Query:
    """The position that looks.

    Attributes:
        index: of `weights`' query axis. text: for the person. place: (row, column) on the grid, None if it has none.
    """

    index: int
    text: str
    place: tuple[int, int] | None


def query_of(maps: AttentionMaps, patch: int, moment: int = 0) -> Query:
    """The query that a patch of the grid is; without one, the class token, or the middle where there is none.

    Arguments:
        patch: counted row by row, of a clip over one frame. moment: which frame, see `maps.frame`.
    """
    queries, keys = maps.weights.shape[-2:]
    if queries == 1 and maps.prefix_tokens:
        return Query(0, "the class token", None)
    if maps.grid is None or queries != keys:
        return Query(0, f"query 1 of {queries}", None)
    rows, columns = maps.grid[0] // maps.frames, maps.grid[1]
    if not 0 <= patch < rows * columns:
        if maps.prefix_tokens:
            return Query(0, "the class token", None)
        patch = rows // 2 * columns + columns // 2
    row, column = divmod(patch, columns)
    kind = "position" if is_windowed(maps) else "patch"
    text = f"the {kind} in row {row}, column {column}, counted from 0"
    before = frame_index(maps.frames, moment) * rows * columns
    return Query(maps.prefix_tokens + before + patch, text, (row, column))


def shares_of(maps: AttentionMaps, which: str, index: int, moment: int = 0) -> np.ndarray | None:
    """What each position of the grid is given from one query: float (height, width), 0..1; of a clip in one frame.

    Arguments:
        which: a head's number, `MEAN` or `ROLLOUT`. index: of the query. moment: which frame, see `maps.frame`.

    Returns:
        None if the grid, or the rollout, is not known. Windows are averaged.
    """
    if maps.grid is None:
        return None
    rows = maps.weights[..., index, :]
    rows = rows.mean(0) if is_windowed(maps) else rows  # (head, key)
    if which == ROLLOUT:
        if maps.rollout is None:
            return None
        row = maps.rollout[index]
    else:
        row = rows.mean(0) if which == MEAN else rows[int(which)]
    return np.asarray(frame(row[maps.prefix_tokens :].reshape(maps.grid), maps.frames, moment))


def is_windowed(maps: AttentionMaps) -> bool:
    return maps.axes[0] == "window"
