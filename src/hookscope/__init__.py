"""See inside a vision model: `import hookscope as hs`.

    with hs.capture(model, ["layer4"]) as seen:
        model(picture)
    seen["layer4"].value                       # float (image, channel, height, width)

What stands here is what most people need, each name explained where it is defined; everything else has one address in
`hookscope.hooks`. The page is `hookscope.dashboard`, and is started by `hookscope` or `python -m hookscope`; `show` and
`panel` are of the page, too, for notebooks and for applications of one's own, and `open_model`, for programs.

Nothing is imported before it is used: `import hookscope` takes no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookscope.dashboard.notebook.panel import panel as panel
    from hookscope.dashboard.opening import open_model as open_model
    from hookscope.dashboard.show import show as show
    from hookscope.hooks.causes.effects import effects as effects
    from hookscope.hooks.causes.likeness import likeness as likeness
    from hookscope.hooks.causes.parting import parting as parting
    from hookscope.hooks.causes.parting import parting_calibration as parting_calibration
    from hookscope.hooks.causes.restoring import restore as restore
    from hookscope.hooks.causes.restoring import restore_parts as restore_parts
    from hookscope.hooks.datasets.baseline import Baseline as Baseline
    from hookscope.hooks.datasets.collectors import answers as answers
    from hookscope.hooks.datasets.collectors import features as features
    from hookscope.hooks.datasets.collectors import statistics as statistics
    from hookscope.hooks.datasets.comparison import compare as compare
    from hookscope.hooks.datasets.comparison import ranked_channels as ranked_channels
    from hookscope.hooks.datasets.diagnostics import Diagnostics as Diagnostics
    from hookscope.hooks.datasets.galleries import top as top
    from hookscope.hooks.datasets.gaps import gap as gap
    from hookscope.hooks.datasets.importance import importance as importance
    from hookscope.hooks.datasets.information import information as information
    from hookscope.hooks.datasets.information import information_flow as information_flow
    from hookscope.hooks.datasets.levels import levels as levels
    from hookscope.hooks.datasets.profiles import profiles as profiles
    from hookscope.hooks.datasets.pruning import prune_curve as prune_curve
    from hookscope.hooks.datasets.sweeping import sweep as sweep
    from hookscope.hooks.datasets.vectors import vectors as vectors
    from hookscope.hooks.doctor.check import assert_healthy as assert_healthy
    from hookscope.hooks.doctor.check import check as check
    from hookscope.hooks.edits import edit as edit
    from hookscope.hooks.edits import patch as patch
    from hookscope.hooks.edits import replace as replace
    from hookscope.hooks.errors import HooksError as HooksError
    from hookscope.hooks.layers.describe import describe as describe
    from hookscope.hooks.layers.names import select as select
    from hookscope.hooks.looks.attention import attention_maps as attention_maps
    from hookscope.hooks.looks.attention import rollout as rollout
    from hookscope.hooks.looks.cam import layer_map as layer_map
    from hookscope.hooks.looks.capture import Numbers as Numbers
    from hookscope.hooks.looks.capture import capture as capture
    from hookscope.hooks.looks.capture import stream as stream
    from hookscope.hooks.looks.gradients import gradients as gradients
    from hookscope.hooks.looks.inputs import attribute_input as attribute_input
    from hookscope.hooks.looks.survey import survey as survey
    from hookscope.hooks.looks.targets import Mask as Mask
    from hookscope.hooks.passes.looking import looking as looking
    from hookscope.hooks.passes.registry import live_hooks as live_hooks
    from hookscope.hooks.results.anomalies import find_anomalies as find_anomalies
    from hookscope.hooks.results.edits import level as level
    from hookscope.hooks.results.edits import mute as mute
    from hookscope.hooks.results.edits import scale as scale
    from hookscope.hooks.results.embedding import embed as embed
    from hookscope.hooks.results.feed_files import read_feed as read_feed
    from hookscope.hooks.results.information import bottlenecks as bottlenecks
    from hookscope.hooks.results.sweeps import read_sweep as read_sweep
    from hookscope.hooks.results.targets import Against as Against
    from hookscope.hooks.results.targets import Box as Box
    from hookscope.hooks.results.telling import tell_apart as tell_apart
    from hookscope.hooks.training import huggingface as huggingface
    from hookscope.hooks.training import lightning as lightning
    from hookscope.hooks.training import mlflow as mlflow
    from hookscope.hooks.training import wandb as wandb
    from hookscope.hooks.training.starting import follow as follow

# name -> the module below hookscope.hooks that defines it
_HOME = {
    "Against": "results.targets",
    "Baseline": "datasets.baseline",
    "Box": "results.targets",
    "Diagnostics": "datasets.diagnostics",
    "HooksError": "errors",
    "Mask": "looks.targets",
    "Numbers": "looks.capture",
    "answers": "datasets.collectors",
    "assert_healthy": "doctor.check",
    "attention_maps": "looks.attention",
    "attribute_input": "looks.inputs",
    "bottlenecks": "results.information",
    "capture": "looks.capture",
    "check": "doctor.check",
    "compare": "datasets.comparison",
    "describe": "layers.describe",
    "edit": "edits",
    "effects": "causes.effects",
    "embed": "results.embedding",
    "features": "datasets.collectors",
    "find_anomalies": "results.anomalies",
    "follow": "training.starting",
    "gap": "datasets.gaps",
    "gradients": "looks.gradients",
    "importance": "datasets.importance",
    "information": "datasets.information",
    "information_flow": "datasets.information",
    "layer_map": "looks.cam",
    "level": "results.edits",
    "levels": "datasets.levels",
    "likeness": "causes.likeness",
    "live_hooks": "passes.registry",
    "looking": "passes.looking",
    "mute": "results.edits",
    "parting": "causes.parting",
    "parting_calibration": "causes.parting",
    "patch": "edits",
    "profiles": "datasets.profiles",
    "prune_curve": "datasets.pruning",
    "ranked_channels": "datasets.comparison",
    "read_feed": "results.feed_files",
    "read_sweep": "results.sweeps",
    "replace": "edits",
    "restore": "causes.restoring",
    "restore_parts": "causes.restoring",
    "rollout": "looks.attention",
    "scale": "results.edits",
    "select": "layers.names",
    "statistics": "datasets.collectors",
    "stream": "looks.capture",
    "survey": "looks.survey",
    "sweep": "datasets.sweeping",
    "tell_apart": "results.telling",
    "top": "datasets.galleries",
    "vectors": "datasets.vectors",
}

# name -> the module below hookscope.dashboard: what is shown of a model in a notebook, or in a page of one's own; and
# how a program has the models that the page has
_SHOWN_BY = {
    "open_model": "opening",
    "panel": "notebook.panel",
    "show": "show",
}

# modules below hookscope.hooks for another library each, which is imported only with them; and so not by
# `from hookscope import *`
_MODULES = {
    "huggingface": "training.huggingface",
    "lightning": "training.lightning",
    "mlflow": "training.mlflow",
    "wandb": "training.wandb",
}

__all__ = list(_HOME | _SHOWN_BY)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return importlib.import_module(f"hookscope.hooks.{_MODULES[name]}")
    if name not in __all__:
        raise AttributeError(f"module 'hookscope' has no attribute {name!r}; it has {', '.join(__all__)}")
    place = f"hooks.{_HOME[name]}" if name in _HOME else f"dashboard.{_SHOWN_BY[name]}"
    return getattr(importlib.import_module(f"hookscope.{place}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
