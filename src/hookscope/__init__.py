"""See inside a vision model: `import hookscope as hs`.

    with hs.capture(model, ["layer4"]) as seen:
        model(picture)
    seen["layer4"].value                       # float (image, channel, height, width)

What stands here is what most people need, each name explained where it is defined; everything else has one address in
`hookscope.hooks`. The page is `hookscope.dashboard`, and is started by `hookscope` or `python -m hookscope`.

Nothing is imported before it is used: `import hookscope` takes no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookscope.hooks.datasets.comparison import compare, ranked_channels
    from hookscope.hooks.datasets.diagnostics import Diagnostics
    from hookscope.hooks.datasets.information import bottlenecks, information_flow
    from hookscope.hooks.errors import HooksError
    from hookscope.hooks.layers.describe import describe
    from hookscope.hooks.layers.names import select
    from hookscope.hooks.looks.attention import attention_maps, rollout
    from hookscope.hooks.looks.cam import layer_map
    from hookscope.hooks.looks.capture import capture, stream
    from hookscope.hooks.looks.gradients import gradients
    from hookscope.hooks.looks.inputs import attribute_input
    from hookscope.hooks.looks.survey import survey
    from hookscope.hooks.looks.targets import Box, Mask
    from hookscope.hooks.passes.registry import live_hooks
    from hookscope.hooks.results.anomalies import find_anomalies

# name -> the module below hookscope.hooks that defines it
_HOME = {
    "Box": "looks.targets",
    "Diagnostics": "datasets.diagnostics",
    "HooksError": "errors",
    "Mask": "looks.targets",
    "attention_maps": "looks.attention",
    "attribute_input": "looks.inputs",
    "bottlenecks": "datasets.information",
    "capture": "looks.capture",
    "compare": "datasets.comparison",
    "describe": "layers.describe",
    "find_anomalies": "results.anomalies",
    "gradients": "looks.gradients",
    "information_flow": "datasets.information",
    "layer_map": "looks.cam",
    "live_hooks": "passes.registry",
    "ranked_channels": "datasets.comparison",
    "rollout": "looks.attention",
    "select": "layers.names",
    "stream": "looks.capture",
    "survey": "looks.survey",
}

__all__ = [
    "Box",
    "Diagnostics",
    "HooksError",
    "Mask",
    "attention_maps",
    "attribute_input",
    "bottlenecks",
    "capture",
    "compare",
    "describe",
    "find_anomalies",
    "gradients",
    "information_flow",
    "layer_map",
    "live_hooks",
    "ranked_channels",
    "rollout",
    "select",
    "stream",
    "survey",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'hookscope' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"hookscope.hooks.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
