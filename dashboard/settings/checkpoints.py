"""The checkpoints of a run as models: what `--feed NAME=FOLDER` and `--model NAME=SPEC` of one name offer together."""

from __future__ import annotations

import dataclasses
from typing import Any

from hookscope.dashboard.feeds.checkpoints import checkpoints_in, model_name, spread
from hookscope.dashboard.settings.table import TABLE, Settings
from hookscope.dashboard.sources.spec import name_of, spec_of

OF_ITS_OWN = ("weights", "baseline")  # what is not taken over from the model that the run is called after


def with_checkpoints(settings: Settings) -> Settings:
    """The same with a model "NAME@STEP" for every checkpoint that lies in the folder of a run called like a model.

    All that was said of that model holds for these, but for its weights.
    """
    specs = {name_of(model): spec_of(model) for model in settings.models}
    models = list(settings.models)
    more: dict[str, list[Any]] = {row.name: list(getattr(settings, row.name)) for row in TABLE if row.names}
    for name, folder in settings.feeds:
        if name not in specs:
            continue
        for each in spread(checkpoints_in(folder)):
            called = model_name(name, each.step)
            if called in specs:
                continue
            models.append(f"{called}={specs[name]}")
            for row, values in more.items():
                if row not in OF_ITS_OWN:
                    values += [(called, value) for whose, value in getattr(settings, row) if whose == name]
            more["weights"].append((called, str(folder / each.name)))
    given: dict[str, Any] = {row: tuple(values) for row, values in more.items()}
    return dataclasses.replace(settings, models=tuple(models), **given)
