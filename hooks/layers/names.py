"""Layers by name: which modules a model has, and which of them a pattern means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from hookscope.hooks.errors import LayerNotFound
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.passes.operations import SEPARATOR, split_name

Pattern = str | type[nn.Module]

_SPECIAL = re.compile(r"^[:/]|[*?\[]")  # what makes a pattern more than a name


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every module object of the model once, by its first dotted name, in registration order; "" is the model.

    Wrappers (`torch.compile`, DataParallel) are looked through, and leave no trace in the names.
    """
    return {names[0]: module for module, names in every_name(unwrap(model)).items()}


def aliases(model: nn.Module) -> dict[str, str]:
    """Every name that leads to a module, and the name under which `named_layers` has it."""
    return {name: names[0] for names in every_name(unwrap(model)).values() for name in names}


def first_names(model: nn.Module) -> dict[nn.Module, str]:
    """Every module object of the model, and its first dotted name."""
    return {module: names[0] for module, names in every_name(unwrap(model)).items()}


def first_name(known: Mapping[str, str], name: str) -> str | None:
    """The name under which a layer or an operation is listed, by what `aliases` gives; None if no module has it."""
    if name not in known and (parts := split_name(name)):
        module = known.get(parts[0])
        return None if module is None else module + SEPARATOR + parts[1]
    return known.get(name)


def select(model: nn.Module, patterns: Pattern | Iterable[Pattern]) -> dict[str, nn.Module]:
    """The modules that any of the patterns means, in registration order, each module once; then the operations.

    Arguments:
        patterns: one or several of: a dotted name ("layer4.0.conv1", "" for the model itself); the name of a functional
            operation ("layer4.0/add"; the part before the slash may be a glob: "layer4.*/add"; see
            `passes.operations`); a glob ("layer4.*.conv?", where `*` also passes dots); a regular expression between
            slashes ("/conv[12]$/", searched); a type after a colon (":Conv2d", subclasses included, globs allowed); or
            a class such as `nn.Conv2d`.

    Raises:
        LayerNotFound: a pattern means nothing in this model.
    """
    if isinstance(patterns, str | type):
        patterns = [patterns]
    names = every_name(unwrap(model))
    by_name = {name: module for module, own in names.items() for name in own}
    chosen: set[nn.Module] = set()
    operations: dict[str, nn.Module] = {}
    for pattern in patterns:
        if isinstance(pattern, str) and not _SPECIAL.search(pattern):
            # looked up, because fifty names against every layer take 4 ms
            matched = [by_name[pattern]] if pattern in by_name else []
        else:
            matched = [module for module, own in names.items() if _matches(pattern, module, own)]
        if matched:
            chosen.update(matched)
        elif found := _operations(pattern, names, by_name):
            operations.update(found)
        else:
            raise LayerNotFound(_nothing_matched(unwrap(model), pattern, names))
    return {own[0]: module for module, own in names.items() if module in chosen} | operations


def _operations(
    pattern: Pattern, names: dict[nn.Module, list[str]], by_name: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """The operations that a pattern means, with the modules in which they may happen."""
    parts = split_name(pattern) if isinstance(pattern, str) and not _expression(pattern) else None
    if parts is None or any(character in parts[1] for character in "*?["):
        return {}
    if not _SPECIAL.search(parts[0]):
        module = by_name.get(parts[0])
        return {} if module is None else {names[module][0] + SEPARATOR + parts[1]: module}
    return {own[0] + SEPARATOR + parts[1]: module for module, own in names.items() if _matches(parts[0], module, own)}


def every_name(model: nn.Module) -> dict[nn.Module, list[str]]:
    """All names of every module, in registration order. A compiled child and what it wraps share one name."""
    names: dict[nn.Module, list[str]] = {}
    for raw, module in model.named_modules(remove_duplicate=False):
        if "_orig_mod" in module._modules:
            continue
        name = ".".join(part for part in raw.split(".") if part != "_orig_mod") if "_orig_mod" in raw else raw
        own = names.setdefault(module, [])
        if name not in own:
            own.append(name)
    return names


def _matches(pattern: Pattern, module: nn.Module, names: list[str]) -> bool:
    if not isinstance(pattern, str):
        return isinstance(module, pattern)
    if pattern in names:
        return True
    if pattern.startswith(":"):
        return any(fnmatchcase(kind, pattern[1:]) for kind in _type_names(module))
    if expression := _expression(pattern):
        return any(expression.search(name) for name in names)
    return any(character in pattern for character in "*?[") and any(fnmatchcase(name, pattern) for name in names)


def _expression(pattern: str) -> re.Pattern[str] | None:
    if len(pattern) < 2 or not (pattern.startswith("/") and pattern.endswith("/")):
        return None
    try:
        return re.compile(pattern[1:-1])
    except re.error as error:
        raise LayerNotFound(f"{pattern} is not a regular expression: {error}.") from error


def _type_names(module: nn.Module) -> list[str]:
    return [kind.__name__ for kind in type(module).__mro__ if issubclass(kind, nn.Module) and kind is not nn.Module]


def _nothing_matched(model: nn.Module, pattern: Pattern, names: dict[nn.Module, list[str]]) -> str:
    if not isinstance(pattern, str):
        pattern = f":{pattern.__name__}"
    if pattern.startswith(":"):
        types = list(dict.fromkeys(type(module).__name__ for module in names))
        return not_found(model, f"has no layer of type {pattern[1:]!r}", pattern[1:], types)
    if _expression(pattern) or any(character in pattern for character in "*?["):
        problem = f"{type(model).__name__} has no layer whose name matches {pattern!r}."
        return f"{problem} Names look like {quoted(_examples(names))}."
    return not_found(model, f"has no layer {pattern!r}", pattern, [name for own in names.values() for name in own])


def not_found(model: nn.Module, problem: str, asked: str, candidates: list[str]) -> str:
    """That a model has no such layer, and the names that are near."""
    near = _near(asked, [name for name in candidates if name])
    hint = f"Did you mean {quoted(near)}?" if near else "The layer tree, or `named_layers(model)`, lists the names."
    return f"{type(model).__name__} {problem}. {hint}"


def _near(asked: str, candidates: list[str]) -> list[str]:
    """Names close to the one asked for: beside it first, where the part before the last dot is right."""
    parent, dot, last = asked.rpartition(".")
    beside = {name.removeprefix(parent + dot): name for name in candidates if name.startswith(parent + dot)}
    if dot and (near := difflib.get_close_matches(last, beside, n=3, cutoff=0.5)):
        return [beside[name] for name in near]
    if near := difflib.get_close_matches(asked, candidates, n=3, cutoff=0.6):
        return near
    while parent and parent not in candidates:
        parent = parent.rpartition(".")[0]
    return [name for name in candidates if parent and name.startswith(f"{parent}.")][:3]


def _examples(names: dict[nn.Module, list[str]]) -> list[str]:
    leaves = [own[0] for module, own in names.items() if own[0] and not any(True for _ in module.children())]
    return leaves[:2] + leaves[-1:]


def quoted(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    return ", ".join(repr(name) for name in names)
