"""What the command line says about its models, model by model."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.spec import is_own


def options_for(
    models: Sequence[str],
    *,
    weights: Path | str | None = None,
    labels: Path | str | None = None,
    factory_args: Sequence[tuple[str, str]] = (),
    input_size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    interpolation: str | None = None,
    seed: int = 0,
) -> tuple[ModelOptions, ...]:
    """What the command line says about its models, model by model.

    Weights, labels, arguments and preprocessing describe the operator's own model: the `package.module:factory`, or
    the only model there is.

    Raises:
        ValueError: they could describe several of the models; a sentence.
    """
    own = [spec for spec in models if is_own(spec)] or list(models)
    described: Mapping[str, Any] = {
        "weights": str(weights or ""),
        "labels": str(labels or ""),
        "arguments": json.dumps({name: _literal(value) for name, value in factory_args}),
        "input_size": input_size,
        "mean": mean,
        "std": std,
        "interpolation": interpolation or "",
    }
    given = weights or labels or factory_args or input_size or mean or std or interpolation
    if given and len(own) > 1:
        raise ValueError(
            f"Weights, labels, arguments and preprocessing can describe one model, and {len(own)} could be meant: "
            f"{', '.join(own)}. Start one server for each."
        )
    return tuple(
        ModelOptions(spec=spec, seed=seed, **described) if given and spec in own else ModelOptions(spec=spec, seed=seed)
        for spec in models
    )


def _literal(text: str) -> Any:
    """The value that a person means who writes 10, 0.5, true, none or a word."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
        json.dumps(value)
        return value
    except (ValueError, SyntaxError, TypeError):
        return text
