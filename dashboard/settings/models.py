"""What the settings say of each model."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.settings.table import TABLE, Settings
from hookscope.dashboard.sources.spec import name_of, spec_of

OPTIONS = {"factory_args": "arguments"}  # fields of `ModelOptions` that are called otherwise than the setting


def options_for(settings: Settings) -> tuple[ModelOptions, ...]:
    """The options of every model, in the order in which they were named."""
    return tuple(_options(settings, model) for model in settings.models)


def _options(settings: Settings, model: str) -> ModelOptions:
    name = name_of(model)
    found: dict[str, Any] = {}
    for row in TABLE:
        if row.names and (given := [value for whose, value in getattr(settings, row.name) if whose == name]):
            arguments = row.name == "factory_args"
            value = json.dumps({key: _literal(text) for key, text in given}) if arguments else given[-1]
            found[OPTIONS.get(row.name, row.name)] = str(value) if isinstance(value, Path) else value
    found |= {"seed": settings.seed, "allow_head": settings.allow_head}
    return ModelOptions(name=name, spec=spec_of(model), **found)


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
