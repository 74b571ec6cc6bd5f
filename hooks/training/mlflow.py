"""The numbers and maps of layers in an MLflow run. The only module that needs `mlflow`.

    with mlflow.start_run():
        hs.mlflow.log_layers("runs/monday")          # a feed: metrics of every step that was looked at, and maps

    with mlflow.start_run(), hs.follow(model, "runs/monday", optimizer=optimizer, pinned=pictures) as feed:
        hs.mlflow.log_layers(feed)                   # from now on: metrics at every look, maps at some, and at the end

Everything is handed over at once and waits for the store, so that nothing is lost when the process ends.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feed_files import Feed, read_feed
from hookscope.hooks.results.feeds import Look
from hookscope.hooks.results.greys import grid, levels, scale
from hookscope.hooks.training.rows import AsTheyCome, check_layers, layers_of, names_of, rows

BATCH = 1_000  # metrics that MLflow takes at once
LONGEST = 200  # characters of a key; images have it in a file's name
ENLARGED = 256  # pixels, up to which small maps are enlarged
NARROWEST = 64  # how many times as long as wide a picture may be: MLflow makes small copies, whose sides may not be 0
CHANNELS = 64
FIGURE = "gradient norm"
NUMBERS = ("mean", "std", "min", "max", "zeros", "nan", "inf")  # as for TensorBoard


def log_layers(
    source: Any,
    *,
    run_id: str | None = None,
    log: bool | str | Iterable[str] = True,
    layers: str | Iterable[str] | None = None,
    maps: int = 4,
    figure: bool = True,
    step: int = 0,
    client: Any = None,
) -> None:
    """Log what is known of layers.

    Arguments:
        source: a feed (its folder, or what `hs.read_feed` gave), of which everything is logged; what `hs.follow` gave,
            whose looks are logged from now on as they come, in the process that writes; what `hs.capture` gave; or a
            `Diagnostics`.
        run_id: of which run; the active one by default.
        log: which numbers of a feed, see `training.rows`; by default "gradient norm", "update ratio", "activation rms"
            and "dead channels". A metric's key is the number's name and the layer, "gradient norm/layer1.0".
        layers: only these, or this one.
        maps: of how many steps the pinned picture's maps are logged, spread over the run, the last among them; of
            other sources any number above 0 means that maps are: of what `hs.follow` gave at the first look, whenever
            there are twice as many, and at the last. They are pictures of 8 bits, on a scale that stands in their key.
        figure: whether a feed's norms of gradients are drawn, layers over steps; it needs matplotlib. While a feed is
            written, it is drawn anew whenever maps are logged.
        step: at which what is no feed is logged.
        client: an `mlflow.MlflowClient`; by default one for the store that is set.

    Raises:
        HooksError: no run is active, or there is nothing of this kind, or of such a layer, to log.
        ImportError: MLflow is not installed.
    """
    names, only = names_of(log), layers_of(layers)
    if getattr(source, "writing", True) is False:
        return  # another process of this training writes the feed, and logs
    logger = _Logger(run_id, client)
    if isinstance(source, str | os.PathLike):
        source = read_feed(source)
    if isinstance(source, Feed):
        check_layers(only, source.layers)
        _log_feed(logger, source, names, only, maps, figure)
    elif callable(getattr(source, "on_look", None)):
        live = _Live(logger, source.path, names, only, bool(maps), figure)
        source.on_look(AsTheyCome(only).see)
        source.on_look(live.log, live.end)
    elif callable(getattr(source, "summaries", None)):
        check_layers(only, (each.layer for of in ("output", "gradient") for each in source.summaries(of)))
        _log_diagnostics(logger, source, only, bool(maps), step)
    elif hasattr(source, "records"):
        check_layers(only, (record.layer for _, record in source.items()))
        _log_captured(logger, source, only, bool(maps), step)
    else:
        raise HooksError(
            f"Layers are logged of a feed, of what hs.follow or hs.capture gave, or of a Diagnostics, and this is a "
            f"{type(source).__name__}."
        )
    logger.flush()


Metrics = Iterator[tuple[str, float, int, int]]


class _Logger:
    """One run of MLflow's."""

    def __init__(self, run_id: str | None, client: Any) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise ImportError("MLflow is not installed: pip install 'hookscope[mlflow]'.") from error
        active = mlflow.active_run()
        if run_id is None and active is None:
            raise HooksError("No MLflow run is active. Call it within mlflow.start_run(), or give run_id=.")
        self._mlflow = mlflow
        self._client = client if client is not None else mlflow.MlflowClient()
        self._run: str = run_id if run_id is not None else active.info.run_id
        self._key = Keys()

    def metrics(self, found: Metrics) -> None:
        """Numbers as (name, value, step, milliseconds since 1970)."""
        waiting = [
            self._mlflow.entities.Metric(self._key(name), value, when, step) for name, value, step, when in found
        ]
        for start in range(0, len(waiting), BATCH):
            self._client.log_batch(self._run, metrics=waiting[start : start + BATCH], synchronous=True)

    def maps(self, name: str, values: np.ndarray, step: int) -> None:
        """A layer's maps, float (channel, height, width)."""
        low, high = scale(values)
        shown = values[:CHANNELS]
        key = self._key(f"maps/{name} black {low:.4g} white {high:.4g}")
        picture = enlarged(grid(levels(shown, low, high)))
        # uint8: MLflow stretches floats outside 0..1 between their smallest and largest
        self._client.log_image(self._run, picture, key=key, step=step, synchronous=True)

    def figure(self, figure: Any, name: str) -> None:
        """A figure of matplotlib's."""
        self._client.log_figure(self._run, figure, f"hookscope/{self._key(name)}.png")

    def flush(self) -> None:
        """Wait for what others have queued for this run's metrics, too."""
        self._mlflow.flush_async_logging()


class Keys:
    """Keys that MLflow takes of any name: letters, digits and `_-. /`, each its own.

    >>> key = Keys()
    >>> key("gradient norm/layer1.0/add:2"), key("a?"), key("a!"), key("../x")
    ('gradient norm/layer1.0/add_2', 'a_', 'a_ 2', '_/x')
    """

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        if name not in self._of:
            key = first = _cleaned(name)
            number = 1
            while key in self._taken:
                number += 1
                key = f"{first} {number}"
            self._taken.add(key)
            self._of[name] = key
        return self._of[name]


def _cleaned(name: str) -> str:
    parts = [re.sub(r"[^A-Za-z0-9_\-. ]", "_", part).strip() for part in name.split("/")]
    key = "/".join("_" if not part.strip(".") else part for part in parts)
    if len(key) > LONGEST:
        key = f"{key[: LONGEST - 11]} {hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:10]}"
    return key


def enlarged(picture: np.ndarray) -> np.ndarray:
    """Uint8 (height, width): each pixel as a square of several, while that stays small; and none too narrow."""
    height, width = picture.shape
    times = max(1, ENLARGED // max(height, width))
    down = max(times, -(-width * times // NARROWEST) // height)
    across = max(times, -(-height * times // NARROWEST) // width)
    return picture.repeat(down, 0).repeat(across, 1)


def _of_look(look: Look, names: tuple[str, ...], layers: tuple[str, ...] | None) -> Metrics:
    when = int(look.time * 1000)
    yield from ((name, value, look.step, when) for name, value in rows(look, names, layers).items())


def _log_feed(
    logger: _Logger, feed: Feed, names: tuple[str, ...], layers: tuple[str, ...] | None, maps: int, figure: bool
) -> None:
    logger.metrics(each for look in feed.looks for each in _of_look(look, names, layers))
    places: Any = np.linspace(len(feed.steps) - 1, 0, max(maps, 0)).round().astype(int) if feed.run.pinned else []
    steps = sorted({int(feed.steps[place]) for place in places if len(feed.steps)})
    _log_pictures(logger, feed, layers, steps, figure)


def _log_pictures(
    logger: _Logger, feed: Feed, layers: tuple[str, ...] | None, steps: Iterable[int], figure: bool
) -> None:
    """Log the maps of some steps, and the figure of all."""
    for step in steps:
        found = feed.maps(step)  # None where they made room
        for layer, values in found.maps.items() if found is not None else ():
            if layers is None or layer in layers:
                logger.maps(layer or "model", values, step)
    if figure and len(feed.looks) > 1:
        drawn = _norms_drawn(feed, layers)
        if drawn is not None:
            logger.figure(drawn, FIGURE)


class _Live:
    """Logs a feed that is being written: numbers of every look, maps and the figure of a few."""

    def __init__(
        self,
        logger: _Logger,
        path: os.PathLike[str],
        names: tuple[str, ...],
        layers: tuple[str, ...] | None,
        maps: bool,
        figure: bool,
    ) -> None:
        self._logger, self._path, self._names, self._layers = logger, path, names, layers
        self._maps, self._figure = maps, figure
        self._feed: Feed | None = None
        self._seen, self._due, self._drawn = 0, 1, 0  # looks

    def log(self, look: Look) -> None:
        """A look was written."""
        self._logger.metrics(_of_look(look, self._names, self._layers))
        self._seen += 1
        if self._seen == self._due:
            self._due *= 2
            self._draw()

    def end(self) -> None:
        """The feed is over."""
        if self._drawn != self._seen:
            self._draw()
        self._logger.flush()

    def _draw(self) -> None:
        self._drawn = self._seen
        feed = self._feed = self._feed or read_feed(self._path)
        feed.poll()
        newest = [look.step for look in feed.looks[-1:] if self._maps]
        _log_pictures(self._logger, feed, self._layers, newest, self._figure)


def _norms_drawn(feed: Feed, layers: tuple[str, ...] | None) -> Any:
    """The norms of the layers' gradients over the steps, as a figure; None without matplotlib, or without gradients."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    norms = feed.column("g", "norm")
    shown = [
        place
        for place, layer in enumerate(feed.layers)
        if (layers is None or layer in layers) and np.isfinite(norms[:, place]).any()
    ]
    if not shown:
        return None
    figure = Figure(figsize=(9, min(1.5 + 0.22 * len(shown), 40)), layout="constrained")
    axes = figure.subplots()
    with np.errstate(divide="ignore"):
        drawn = axes.imshow(np.log10(norms[:, shown].T), aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(shown)), [feed.layers[place] or "model" for place in shown], fontsize=7)
    places = np.unique(np.linspace(0, len(feed.steps) - 1, 6).round().astype(int))
    axes.set_xticks(places, [f"{feed.steps[place]:,}" for place in places])
    axes.set_xlabel("step")
    figure.colorbar(drawn, label="norm of the gradient, power of ten")
    return figure


def _log_diagnostics(logger: _Logger, source: Any, layers: tuple[str, ...] | None, maps: bool, step: int) -> None:
    now = int(time.time() * 1000)

    def found() -> Metrics:
        for of in ("output", "gradient"):
            for each in source.summaries(of):
                if layers is None or each.layer in layers:
                    name = _called(each.layer, each.call)
                    numbers = {**_numbers(each.statistics), "norm": each.norm}
                    yield from ((f"{of} {key}/{name}", value, step, now) for key, value in numbers.items())
                    if each.activation and of == "output" and each.fired.size:
                        yield f"dead channels/{name}", float((each.fired == 0).mean()), step, now

    logger.metrics(found())
    for each in source.summaries() if maps else ():
        if layers is None or each.layer in layers:
            values = source.maps(each.layer, each.call)
            if values is not None:
                logger.maps(_called(each.layer, each.call), values, step)


def _log_captured(logger: _Logger, source: Any, layers: tuple[str, ...] | None, maps: bool, step: int) -> None:
    now = int(time.time() * 1000)
    kept = [(key, record) for key, record in source.items() if layers is None or record.layer in layers]

    def named(key: Any, record: Any) -> str:
        path = f" {record.path}" if isinstance(key, tuple) and len(key) > 2 and record.path else ""
        return _called(record.layer, record.call) + path

    def found() -> Metrics:
        for key, record in kept:
            numbers = _numbers(record.statistics) if record.value is None else _numbers_of(_array(record.value))
            yield from ((f"output {name}/{named(key, record)}", value, step, now) for name, value in numbers.items())

    logger.metrics(found())
    for key, record in kept if maps else ():
        if record.value is not None and record.value.ndim == 4 and record.value.numel():
            logger.maps(named(key, record), _array(record.value[0]), step)


def _array(value: Any) -> np.ndarray:
    found: np.ndarray = value.detach().cpu().double().numpy()
    return found


def _numbers_of(values: np.ndarray) -> Mapping[str, float]:
    """The same numbers, of the values themselves: moments and extremes of those that are finite."""
    finite = values[np.isfinite(values)]
    moments = (finite.mean(), finite.std(), finite.min(), finite.max()) if finite.size else (np.nan,) * 4
    counts = float((values == 0).mean()) if values.size else 0.0, np.isnan(values).sum(), np.isinf(values).sum()
    return dict(zip(NUMBERS, map(float, (*moments, *counts)), strict=True))


def _numbers(statistics: Any) -> Mapping[str, float]:
    return {name: float(getattr(statistics, name)) for name in NUMBERS}


def _called(layer: str, call: int) -> str:
    return (layer or "model") + (f" call {call + 1}" if call else "")
