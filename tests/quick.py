"""`make quick`: the tests that need no process, no browser and no library's model.

What a test needs is read from the source: its names and those of its fixtures are followed through the files of tests/
and bench/ to what they import. There is no list of tests to keep, so a new one is on the right side by itself; one
whose need cannot be read runs, which costs time and nothing else.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFTEST = ROOT / "tests" / "conftest.py"
# What starts a process, drives a browser, or builds a model of a library; with what stands for it by another name.
NEEDS = (
    "subprocess",
    "multiprocessing",
    "psutil",
    "playwright",
    "torchvision",
    "timm",
    "transformers",
    "captum",
    "hookscope.dashboard.engine.local",
    "hookscope.dashboard.inputs.decoder",
    "hookscope.dashboard.sources.load",
    ".receive",  # of the pictures' store: each upload is decoded in a process of its own
    "exec",  # documents, which say what they like
)
PATHS = ("/upload", "upload?")  # what is posted there is decoded, too
FIXTURE = "(fixture)"

Use = tuple[str, str]  # a name, and what is read of it: ("crowd", "rush"), ("limit", ""), ("page", FIXTURE)


class Uses(ast.NodeVisitor):
    """What the code of a statement uses."""

    def __init__(self, node: ast.AST) -> None:
        self.found: set[Use] = set()
        self.visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """`a.b` is b of a, and some `.b`."""
        self.found.add((f".{node.attr}", ""))
        if isinstance(node.value, ast.Name):
            self.found.add((node.value.id, node.attr))
        else:
            self.visit(node.value)

    def visit_Name(self, node: ast.Name) -> None:
        self.found.add((node.id, ""))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and any(path in node.value[:100] for path in PATHS):
            self.found.add((".receive", ""))


class File:
    """A file's outermost names: what each uses, and from where the imported ones come."""

    def __init__(self, path: Path) -> None:
        self.uses: dict[str, set[Use]] = {}
        self.imports: dict[str, Use] = {}
        self.around = {"pytestmark"}  # what every test goes through and none asks for by name
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name.partition(".")[0]] = (alias.name, "")
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (node.module or "", alias.name)
        for statement in tree.body:
            for name in _defined(statement):
                self.uses.setdefault(name, set()).update(Uses(statement).found)
            if isinstance(statement, ast.FunctionDef) and _asks(statement):
                self.uses[statement.name] |= {(each.arg, FIXTURE) for each in statement.args.args}
                if any("autouse" in ast.unparse(each) for each in statement.decorator_list):
                    self.around.add(statement.name)


def _asks(function: ast.FunctionDef) -> bool:
    """Whether its arguments' names are those of fixtures."""
    return function.name.startswith("test_") or any("fixture" in ast.unparse(each) for each in function.decorator_list)


def _defined(node: ast.stmt) -> Iterator[str]:
    """The names that an outermost statement gives a meaning, those below an `if` or a `try` included."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


@functools.cache
def read(path: Path) -> File:
    """A file, read once."""
    return File(path)


@functools.cache
def place(module: str) -> Path | None:
    """Where a module of the tests or of the bench lies."""
    parts = module.split(".")
    path = ROOT.joinpath(*(["tests"] if parts[0] != "bench" else []), *parts).with_suffix(".py")
    return path if module and path.is_file() else None


def need(path: Path, test: str) -> str:
    """What a test needs that takes long, the first that is found; "" for nothing."""
    waiting = [(path, name, "") for name in (test, *read(path).around)]
    seen = set[tuple[Path, str, str]]()
    while waiting:
        if (current := waiting.pop()) in seen:
            continue
        seen.add(current)
        path, name, member = current
        file = read(path)
        if name in file.uses:
            waiting += [(path, *used) for used in file.uses[name]]
        elif name in file.imports:
            module, imported = file.imports[name]
            whole = ".".join(filter(None, (module, imported, member)))
            if found := _told(whole):
                return found
            for known, rest in ((module, imported), (f"{module}.{imported}", member)):
                if rest and (there := place(known)):
                    waiting.append((there, rest, ""))
        elif found := _told(name):
            return found
        elif member == FIXTURE and path != CONFTEST:
            waiting.append((CONFTEST, name, ""))
    return ""


def _told(name: str) -> str:
    return next((each for each in NEEDS if f"{name}.".startswith(f"{each}.")), "")


class Quick:
    """The plugin: leaves out what needs more."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """A file that has nothing for us is not even imported."""
        if not collection_path.match("test_*.py"):
            return None
        tests = [name for name in read(collection_path).uses if name.startswith("test_")]
        return all(need(collection_path, name) for name in tests) or None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what needs none of it."""
        out = [item for item in items if need(item.path, getattr(item, "originalname", item.name))]
        if out:
            config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item not in set(out)]


def pytest_configure(config: pytest.Config) -> None:
    """Begin: `-p tests.quick`."""
    config.pluginmanager.register(Quick(), "quick-tests")
