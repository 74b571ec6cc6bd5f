"""The shape of the code, read from its imports: which way the arrows point, and that the web side has no torch."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ENVIRON, ROOT

HEAVY = {"torch", "torchvision", "timm", "captum"}
LONGEST_MODULE_LINES = 450

# program -> web -> panels, exports -> page -> answers -> drawing, engine -> asking -> results
LEVELS = (
    ("hookscope.dashboard.show", "hookscope.dashboard.notebook"),
    ("app", "hookscope.__main__", "hookscope.dashboard.run", "hookscope.dashboard.checking"),
    ("hookscope.dashboard.web",),
    ("hookscope.dashboard.panels", "hookscope.dashboard.exports"),
    ("hookscope.dashboard.page",),
    ("hookscope.dashboard.answers",),
    ("hookscope.dashboard.drawing", "hookscope.dashboard.engine"),
    ("hookscope.dashboard.asking",),
    ("hookscope.dashboard.sources.spec",),
    ("hookscope.hooks.methods",),
    ("hookscope.hooks.results", "hookscope.hooks.errors"),
)
# what runs in a process of its own, and may import torch there; what a spec is, the server reads, too
READ_BY_ALL = ("hookscope.dashboard.sources", "hookscope.dashboard.sources.spec")
CHILDREN = (
    "hookscope.dashboard.checking",  # a command of its own, of which the worker reads a part
    "hookscope.dashboard.show",  # an entry point in the process that holds the model, as all that is for notebooks
    "hookscope.dashboard.notebook",
    "hookscope.dashboard.opening",  # an entry point for programs, which load the models that the page has
    "hookscope.dashboard.opened_folders",
    "hookscope.dashboard.worker",
    "hookscope.dashboard.sources",
    "hookscope.dashboard.exports.tensorboard_writer",
)


def files() -> dict[str, Path]:
    """Every module of the application by its dotted name."""
    found = {"app": ROOT / "app.py"}
    for path in sorted((ROOT / "src" / "hookscope").glob("*.py")):
        found["hookscope" if path.stem == "__init__" else f"hookscope.{path.stem}"] = path
    for package in ("hooks", "dashboard"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = ("hookscope", *path.relative_to(ROOT).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, module: str) -> Iterator[str]:
    """The dotted names that a module imports anywhere in its text, but for type checking only."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


FILES = files()
IMPORTS = {name: set(imported(path, name)) for name, path in FILES.items()}
OURS = {name: {other for other in names if other in FILES and other != name} for name, names in IMPORTS.items()}


def parents(name: str) -> set[str]:
    """The packages around a module: importing it runs their `__init__` first."""
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))} & FILES.keys()


@functools.cache
def reachable(name: str) -> frozenset[str]:
    """Every module of ours that is there after `name` was imported, itself included."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        if (current := waiting.pop()) not in seen:
            seen.add(current)
            waiting += OURS[current] | parents(current)
    return frozenset(seen)


def level(name: str) -> int | None:
    """How far down the arrows a module stands; None where it has no fixed place."""
    return next(
        (n for n, row in enumerate(LEVELS) if any(name == part or name.startswith(part + ".") for part in row)), None
    )


def web_side() -> list[str]:
    """The modules that run in the server's process; the program's other commands come in when they are chosen."""
    return [name for name in FILES if is_in(name, "hookscope.dashboard") and not in_a_child(name)]


def in_a_child(name: str) -> bool:
    return name not in READ_BY_ALL and any(is_in(name, child) for child in CHILDREN)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_there_is_something_to_look_at() -> None:
    assert {
        "hookscope.hooks.results.looks",
        "hookscope.dashboard.asking.questions",
        "hookscope.dashboard.engine.base",
    } <= FILES.keys()
    assert "hookscope.hooks.results.looks" in OURS["hookscope.dashboard.engine.base"]
    assert level("hookscope.dashboard.engine.base") == 6 and level("hookscope.dashboard.settings.parse") is None


@pytest.mark.parametrize("name", FILES)
def test_no_module_imports_itself_in_a_circle(name: str) -> None:
    circle = {other for other in OURS[name] if name in reachable(other)}
    assert not circle, f"{name} imports {', '.join(circle)}, and comes back from there"


@pytest.mark.parametrize("name", [name for name in FILES if is_in(name, "hookscope.hooks")])
def test_the_library_never_imports_the_page(name: str) -> None:
    assert not [other for other in IMPORTS[name] if is_in(other, "hookscope.dashboard") or is_in(other, "app")]


@pytest.mark.parametrize("name", web_side())
def test_the_web_side_never_imports_torch(name: str) -> None:
    for other in reachable(name):
        assert not in_a_child(other), f"{name} reaches {other}"
        heavy = {module for module in IMPORTS[other] if module.split(".")[0] in HEAVY}
        assert not heavy, f"{name} reaches {other}, which imports {', '.join(heavy)}"


@pytest.mark.parametrize(
    "name",
    [
        "hookscope.hooks.errors",
        "hookscope.hooks.methods",
        "hookscope.hooks.results.looks",
        "hookscope.hooks.results.summaries",
        "hookscope.hooks.results.codec",
        "hookscope.hooks.results.anomalies",
    ],
)
def test_results_are_read_without_torch(name: str) -> None:
    assert not {module for other in reachable(name) for module in IMPORTS[other] if module.split(".")[0] in HEAVY}


@pytest.mark.parametrize("name", [name for name in FILES if level(name) is not None])
def test_the_arrows_point_one_way(name: str) -> None:
    own = level(name)
    for other in reachable(name):
        theirs = level(other)
        assert theirs is None or own is None or theirs >= own, f"{name} reaches up to {other}"


@pytest.mark.parametrize("name", FILES)
def test_a_module_stays_readable(name: str) -> None:
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_MODULE_LINES, f"{name} has {lines} lines: which of its purposes could stand alone?"


@pytest.mark.parametrize("name", FILES)
def test_a_module_opens_with_what_it_is_for(name: str) -> None:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, f"{name} has no docstring"


@pytest.mark.parametrize("name", FILES)
def test_everything_is_imported_by_the_one_name_that_is_installed(name: str) -> None:
    """The folders at the top of a checkout are no packages of these names: a person's own may be called the same."""
    assert not [
        other for other in IMPORTS[name] if other.split(".")[0] in ("hooks", "dashboard", "assets", "tests", "bench")
    ]


@pytest.mark.parametrize("name", ["hookscope.dashboard.run", "hookscope.__main__", "hookscope", "app"])
def test_a_fresh_interpreter_imports_the_web_side_without_torch(name: str) -> None:
    code = f"import sys, {name}; print([module for module in {sorted(HEAVY)} if module in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRON, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"
