"""Layers written for TensorBoard: scalars, histograms and feature maps. The only module that needs `tensorboard`.

    with Writer("runs/monday") as writer:
        writer.add_diagnostics(diagnostics, step=1)

Histograms are ours and go in as they are: TensorBoard's own would count the values a second time, and drop what is not
finite silently. Maps are scaled by a rule of ours, because TensorBoard clips what lies outside 0..1 (and truncates
instead of rounding): values that are never negative from 0 (black) to the largest (white), others symmetrically with 0
in the middle grey; what is not finite is black.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.hooks.datasets.diagnostics import Diagnostics
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feed_files import Feed
from hookscope.hooks.results.feeds import TITLES, Look, bin_edges
from hookscope.hooks.results.greys import levels as levels
from hookscope.hooks.results.greys import scale as scale
from hookscope.hooks.results.looks import Gradients, Statistics
from hookscope.hooks.results.summaries import LayerSummary
from hookscope.hooks.training.rows import LOGGED, rows

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ImportError("Writing for TensorBoard needs its package: `pip install tensorboard`.") from error

MAPS_LIMIT = 64
SCALARS = ("mean", "std", "min", "max", "zeros", "nan", "inf")
GRADIENT_SCALARS = {"norm": "norm", "rms": "rms", "max_abs": "max abs", "zeros": "zeros", "nan": "nan", "inf": "inf"}


class Writer(contextlib.AbstractContextManager["Writer"]):
    """Writes event files into one folder, which TensorBoard shows as one run.

    Arguments:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._writer: Any = SummaryWriter(str(folder))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write out what is waiting."""
        self._writer.close()

    def add_diagnostics(self, diagnostics: Diagnostics, step: int = 0) -> None:
        """Everything that was collected: outputs and gradients of every layer, and maps of the first kept image."""
        for of in ("output", "gradient"):
            for summary in diagnostics.summaries(of):
                self.add_summary(summary, step)
        for summary in diagnostics.summaries():
            maps = diagnostics.maps(summary.layer, summary.call)
            if maps is not None:
                self.add_maps(tag(summary.layer, summary.call), maps, step)

    def add_summary(self, summary: LayerSummary, step: int = 0) -> None:
        """Scalars and histogram of one layer call; after activation functions also the share of dead channels."""
        name = tag(summary.layer, summary.call)
        group = "output" if summary.of == "output" else "gradient"
        self.add_statistics(name, summary.statistics, step, group=group)
        self._writer.add_scalar(f"{group} norm/{name}", summary.norm, step)
        if summary.activation and summary.of == "output" and summary.fired.size:
            self._writer.add_scalar(f"dead channels/{name}", float((summary.fired == 0).mean()), step)

    def add_statistics(self, name: str, statistics: Statistics, step: int = 0, *, group: str = "output") -> None:
        """Scalars and, where there is one, the histogram of one layer call, under "{group} mean/{name}" and so on."""
        for scalar in SCALARS:
            self._writer.add_scalar(f"{group} {scalar}/{name}", getattr(statistics, scalar), step)
        finite = statistics.count - statistics.nan - statistics.inf
        if finite and statistics.histogram.size:
            # The first limit closes an empty bucket: without it the first bin would reach down to minus infinity.
            self._writer.add_histogram_raw(
                f"{group}/{name}",
                min=statistics.min,
                max=statistics.max,
                num=finite,
                sum=statistics.mean * finite,
                sum_squares=(statistics.mean**2 + statistics.std**2) * finite,
                bucket_limits=statistics.edges.tolist(),
                bucket_counts=[0, *statistics.histogram.tolist()],
                global_step=step,
            )

    def add_gradients(self, found: Gradients, step: int = 0) -> None:
        """What `looks.gradients` found: scalars of each layer with a gradient, under "gradient norm/{layer}" and so on.

        There is no histogram, because only quantiles of the values were kept. Of a call with several tensors those
        after the first are named with their paths, and gradients at inputs with "input".
        """
        named: set[str] = set()
        for layer in found.layers:
            name = tag(layer.layer, layer.call) + (" input" if layer.side == "input" else "")
            name = f"{name} {layer.path}" if name in named else name
            named.add(name)
            for field, word in GRADIENT_SCALARS.items() if not layer.reason else ():
                self._writer.add_scalar(f"gradient {word}/{name}", getattr(layer, field), step)
        of = f"class {found.target}" if found.target >= 0 else "the target"
        self._writer.add_text("gradient", f"of {of}, whose score is {found.score:.6g}", step)

    def add_look(self, look: Look, names: Iterable[str] = LOGGED) -> None:
        """A training's look at its layers, by the same names as for other trackers; see `training.rows`."""
        for name, value in rows(look, names).items():
            self._writer.add_scalar(name, value, look.step, walltime=look.time)

    def add_feed(self, feed: Feed, names: Iterable[str] = LOGGED) -> None:
        """Every look of a feed, with its distributions and the pinned picture's maps where they are kept."""
        for look in feed.looks:
            self.add_look(look, names)
            for group, of_layers in (feed.bins(look.step) or {}).items():
                for layer, counts in of_layers.items():
                    self._add_bins(f"{TITLES[group]}/{layer or 'model'}", counts, look.step)
            found = feed.maps(look.step)
            for layer, values in found.maps.items() if found is not None else ():
                self.add_maps(layer or "model", values, look.step)

    def _add_bins(self, name: str, counts: np.ndarray, step: int) -> None:
        """The distribution of a feed, without the empty bins at either end; its sums are those of the bins' middles."""
        filled = np.flatnonzero(counts)
        if not filled.size:
            return
        first, last = int(filled[0]), int(filled[-1])
        edges = bin_edges()
        ends = np.concatenate([[2 * edges[0]], edges, [2 * edges[-1]]])  # the outermost bins have no end
        limits, kept = ends[first : last + 2], counts[first : last + 1]
        middles = (limits[:-1] + limits[1:]) / 2
        self._writer.add_histogram_raw(
            name,
            min=limits[0],
            max=limits[-1],
            num=int(kept.sum()),
            sum=float(kept @ middles),
            sum_squares=float(kept @ middles**2),
            bucket_limits=limits.tolist(),
            bucket_counts=[0, *kept.tolist()],
            global_step=step,
        )

    def add_maps(self, name: str, values: np.ndarray, step: int = 0, *, limit: int = MAPS_LIMIT) -> None:
        """A layer's channels as a grid of grey pictures, their mean first, all on one scale that is written beside it.

        Arguments:
            values: float (channel, height, width), any range.
            limit: how many channels to draw, from the first.

        Raises:
            HooksError: the values are no maps.
        """
        if values.ndim != 3 or not values.size:
            raise HooksError(f"Maps have the axes (channel, height, width) and at least one value; got {values.shape}.")
        low, high = scale(values)
        drawn = values[:limit]
        # uint8 (channel, 1, height, width): NCHW with every channel as an image of its own
        self._writer.add_images(f"maps/{name}", levels(drawn, low, high)[:, None], step, dataformats="NCHW")
        with np.errstate(invalid="ignore"):
            mean = values.mean(0, dtype=np.float64)
        self._writer.add_images(f"mean map/{name}", levels(mean, *scale(mean))[None, None], step, dataformats="NCHW")
        text = f"{len(drawn)} of {len(values)} channels; black is {low:.6g}, white is {high:.6g}"
        self._writer.add_text(f"maps/{name}", text, step)


def tag(layer: str, call: int) -> str:
    """How a layer call is called in TensorBoard."""
    return (layer or "model") if not call else f"{layer or 'model'} call {call + 1}"
