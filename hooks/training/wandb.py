"""The numbers of layers in a run of Weights & Biases, by the same names as for other trackers; needs `wandb`.

with wandb.init(mode="offline") as run:
    hs.wandb.log_layers("runs/monday", run=run)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feed_files import Feed, read_feed
from hookscope.hooks.results.feeds import Look
from hookscope.hooks.training.rows import AsTheyCome, check_layers, layers_of, names_of, rows

STEP = "step of the feed"


def log_layers(
    source: Any, *, run: Any = None, log: bool | str | Iterable[str] = True, layers: str | Iterable[str] | None = None
) -> None:
    """Log a feed's numbers of layers, each against its own step, whatever the run's own step is.

    Arguments:
        source: a feed (its folder, or what `hs.read_feed` gave); or what `hs.follow` gave, whose looks are logged from
            now on as they come, in the process that writes.
        run: what `wandb.init` gave; the active one by default.
        log, layers: see `mlflow.log_layers`.

    Raises:
        HooksError: no run is active, this is no feed, or it has no such layer. ImportError: wandb is not installed.
    """
    if getattr(source, "writing", True) is False:
        return  # another process of this training writes the feed, and logs
    if run is None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError("Weights & Biases is not installed: pip install wandb.") from error
        run = wandb.run
    if run is None:
        raise HooksError("No run of Weights & Biases is active. Call it after wandb.init(), or give run=.")
    names, only = names_of(log), layers_of(layers)
    known, coming = set[str](), AsTheyCome(only)

    def log_look(look: Look) -> None:
        for name in {*names, *look.own} - known:
            run.define_metric(f"{name}/*", step_metric=STEP)
            known.add(name)
        run.log({**rows(look, names, only), STEP: look.step})

    if isinstance(source, str | os.PathLike):
        source = read_feed(source)
    if isinstance(source, Feed):
        check_layers(only, source.layers)
        for look in source.looks:
            log_look(look)
    elif callable(getattr(source, "on_look", None)):
        source.on_look(coming.see)
        source.on_look(log_look)
    else:
        raise HooksError(
            f"Layers are logged of a feed or of what hs.follow gave, and this is a {type(source).__name__}."
        )
