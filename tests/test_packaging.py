"""What is installed and shipped: requirements, the wheel, the image's files, and make's sentences."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from installed import copy_checkout, install_wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PAGE = ("requirements.txt", "requirements-fast.txt")  # what `make run` installs
REQUIREMENTS = (
    *PAGE,
    "requirements-check.txt",
    "requirements-hf.txt",
    "requirements-hf-trainer.txt",
    "requirements-lightning.txt",
    "requirements-mcp.txt",
    "requirements-notebook.txt",
    "requirements-tsne.txt",
    "requirements-dev.txt",
)
INSTALLED_NAMES = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def requirements(name: str) -> dict[str, Requirement]:
    """The lines of a requirements file by canonical name."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def pins() -> dict[str, str]:
    """The exact versions of constraints.txt."""
    return {
        name: str(requirement.specifier).removeprefix("==")
        for name, requirement in requirements("constraints.txt").items()
    }


def is_wanted_here(requirement: Requirement, extras: Iterable[str] = ()) -> bool:
    """Whether pip installs it on this platform, for a package that is asked for with these extras."""
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": each}) for each in ("", *extras))


def third_party(*folders: str) -> set[str]:
    """The packages, as pip names them, that the code below some folders imports anywhere."""
    paths = [
        path
        for folder in folders
        for path in ([ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py"))
    ]
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    local = {"app", "hookscope", "tests", "bench", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    names = {name for name in found if name not in sys.stdlib_module_names and name not in local}
    return {canonicalize_name(INSTALLED_NAMES.get(name, name)) for name in names}


def test_everything_that_the_application_imports_is_required() -> None:
    # These come with a requirement that promises them: Werkzeug is Flask's, and huggingface_hub is timm's.
    promised = {"werkzeug", "huggingface-hub"}
    # each imported by the one module that needs it
    optional = {"captum", "tensorboard", "lightning", "mcp", "mlflow", "transformers", "opentsne"}
    optional |= {"wandb", "accelerate", "matplotlib"}  # the Trainer of transformers and mlflow bring the last two
    named = {name for file in PAGE for name in requirements(file)}
    missing = third_party("app.py", "hooks", "dashboard") - named - promised - optional
    assert not missing


def test_everything_that_tests_and_benchmarks_import_is_required() -> None:
    named = {name for file in REQUIREMENTS for name in requirements(file)}
    promised = {"werkzeug", "packaging", "requests", "tokenizers"}  # Flask's, pytest's, Dash's, transformers'
    peers = {"torchcam", "pytorch-grad-cam"}  # measured beside ours where somebody has them
    peers |= {"nnsight"}  # in an environment of its own, to make the values that are stored anew
    assert not third_party("tests", "bench") - named - promised - peers


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_has_a_tested_version_in_its_range(name: str) -> None:
    for canonical, requirement in requirements(name).items():
        assert requirement.specifier.contains(pins()[canonical]), requirement


def test_what_requirements_bring_along_has_a_tested_version_too() -> None:
    named = [each for file in REQUIREMENTS for each in requirements(file).values()]
    waiting = [requirement for requirement in named if is_wanted_here(requirement)]
    everywhere = len(waiting) == len(named)
    seen: set[str] = set()
    followed: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if re.match(r"nvidia-|cuda-|triton", name) or (name, extras) in followed:
            continue  # torch fixes these itself, and only on some platforms
        seen.add(name)
        followed.add((name, extras))
        brought = [Requirement(text) for text in importlib.metadata.requires(name) or []]
        waiting += [each for each in brought if is_wanted_here(each, extras)]
    assert seen <= set(pins()), f"constraints.txt lacks {seen - set(pins())}"
    if everywhere:  # what is not wanted here is not installed, and cannot be asked what it brings
        assert set(pins()) <= seen, f"constraints.txt has what nothing needs: {set(pins()) - seen}"


@pytest.mark.parametrize("name", [*REQUIREMENTS, "constraints.txt", "pyproject.toml", "Makefile", "Dockerfile"])
def test_files_that_are_named_are_there(name: str) -> None:
    """A comment outlives the file that it sends its reader to."""
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:hooks|dashboard|assets|bench|docs|tests)/[\w./-]*\w\.\w+", text))
    assert not [path for path in named if not (ROOT / path).exists()]


def test_platforms_packages_are_not_pinned() -> None:
    assert not [name for name in pins() if re.match(r"nvidia-|cuda-|triton", name)]


def test_the_library_alone_needs_torch_and_numpy_within_the_pages_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = requirements("requirements.txt")
    core = [Requirement(text) for text in project["dependencies"]]
    assert sorted(requirement.name for requirement in core) == ["numpy", "torch"]
    assert all(requirement.specifier == page[requirement.name].specifier for requirement in core)


def test_every_package_is_in_the_wheels_list() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {
        ".".join(("hookscope", *path.parent.relative_to(ROOT).parts))
        for name in ("hooks", "dashboard")
        for path in (ROOT / name).rglob("*.py")
    }
    assert listed == there | {"hookscope", "hookscope.assets"}


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else, built from a copy of the sources."""
    return install_wheel(copy_checkout(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("site"))


def test_the_wheel_adds_one_name(wheel_folder: Path) -> None:
    (metadata,) = importlib.metadata.distributions(path=[str(wheel_folder)])
    added = {"hookscope", f"hookscope-{metadata.version}.dist-info", "bin"}
    assert {path.name for path in wheel_folder.iterdir()} == added
    assert [path.name for path in (wheel_folder / "bin").iterdir()] == ["hookscope"]
    assert {path.name for path in (wheel_folder / "hookscope").iterdir()} - {"__pycache__"} == {
        *("__init__.py", "__main__.py", "hooks", "dashboard", "assets")
    }
    assert not [path for path in wheel_folder.rglob("*") if path.is_symlink()]


def test_the_wheel_gives_hooks_without_the_page(wheel_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, hookscope.hooks.results.looks as r; "
        "print(r.__file__, [m for m in ('torch', 'dash', 'PIL') if m in sys.modules])"
    )
    environ = {**os.environ, "PYTHONPATH": str(wheel_folder)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == f"{wheel_folder / 'hookscope' / 'hooks' / 'results' / 'looks.py'} []"


def test_the_wheel_names_the_page_as_an_extra(wheel_folder: Path) -> None:
    (metadata,) = importlib.metadata.distributions(path=[str(wheel_folder)])
    needed = [Requirement(text) for text in metadata.requires or []]
    plain = {entry.name for entry in needed if entry.marker is None or entry.marker.evaluate({"extra": ""})}
    page = {
        canonicalize_name(entry.name) for entry in needed if entry.marker and entry.marker.evaluate({"extra": "page"})
    }
    assert plain == {"torch", "numpy"}
    assert page == {name for file in PAGE for name in requirements(file)}
    assert metadata.metadata["License-Expression"] == "MIT"


def test_the_wheel_has_the_assets_where_the_page_looks(wheel_folder: Path, tmp_path: Path) -> None:
    there = {path.relative_to(ROOT / "assets") for path in (ROOT / "assets").rglob("*") if path.is_file()}
    packed = wheel_folder / "hookscope" / "assets"
    assert {path.relative_to(packed) for path in packed.rglob("*") if path.is_file()} == there
    code = "from hookscope.dashboard.places import ASSETS; print(ASSETS)"
    environ = {**os.environ, "PYTHONPATH": str(wheel_folder)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == str(packed)


# The image: no engine is needed to see what it would hold.


def dockerfile() -> list[list[str]]:
    """The Dockerfile's instructions, each split at blanks."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip()]


def test_the_image_runs_as_a_user_that_is_not_root_and_checks_its_health() -> None:
    words = [line[0] for line in dockerfile()]
    assert ["USER", "hookscope"] in dockerfile()
    assert words.index("USER") < words.index("ENTRYPOINT") and "HEALTHCHECK" in words
    check = next(" ".join(line) for line in dockerfile() if line[0] == "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    compile(command[2], "health check", "exec")
    assert "/healthz" in command[2]


def test_what_the_image_copies_is_enough_to_start(tmp_path: Path) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for _, *sources, target in [line for line in dockerfile() if line[0] == "COPY"]:
        for source in sources:
            assert source in kept, f".dockerignore keeps {source} from the image"
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, tmp_path / target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    ran = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0 and "--model" in ran.stdout, ran.stderr
    names = [sys.executable, "-c", "import sys; sys.path.insert(0, 'src'); import hookscope.dashboard.run"]
    subprocess.run(names, cwd=tmp_path, capture_output=True, timeout=120, check=True)


# make, in a folder with a space in its name and with only what the test gives it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds the Makefile, and beside it `bin` with the few programs that the Makefile's lines use."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    place = tmp_path / "another name"
    place.mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("make", "sh", "rm", "touch", "echo", "env"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    others = (f"requirements-{name}.txt" for name in ("oracles", "mlflow", "watchers"))
    for name in ("Makefile", *REQUIREMENTS, *others, "constraints.txt"):
        shutil.copy(ROOT / name, place / name)
    return place


def program(folder: Path, name: str, script: str) -> None:
    """Put a small shell script on the folder's search path."""
    path = folder.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": str(folder.parent / "bin"), "HOME": str(folder.parent)}
    command = [str(shutil.which("make")), "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_make_without_python_says_what_is_needed(folder: Path) -> None:
    ran = make(folder, "run")
    assert ran.returncode != 0 and "needs Python 3.11 or later" in ran.stderr


def test_make_passes_over_a_python_that_is_too_old(folder: Path) -> None:
    program(folder, "python3", "exit 1")  # as the version check ends under an older Python
    assert "needs Python 3.11 or later" in make(folder, "run").stderr


def test_make_without_the_venv_module_names_the_package_and_leaves_nothing(folder: Path) -> None:
    # A Python in which `import ensurepip` fails, as on Debian without python3-venv; all else is the real one.
    program(folder, "python3", f'case "$2" in *ensurepip*) exit 1;; esac; exec "{sys.executable}" "$@"')
    ran = make(folder, "run")
    assert ran.returncode != 0 and "python3-venv" in ran.stderr
    assert not (folder / ".venv").exists()


def test_make_says_when_the_installation_fails_and_tries_again_next_time(folder: Path) -> None:
    (folder / "requirements.txt").write_text("./no-such-package\n")
    program(folder, "python3", f'exec "{sys.executable}" "$@"')
    for _ in range(2):
        ran = make(folder, "run")
        assert ran.returncode != 0 and "The installation failed" in ran.stderr
    assert not (folder / ".venv" / "installed-page").exists()


def test_make_run_installs_once_and_hands_over_options_and_signals(folder: Path) -> None:
    program(folder, "python3", f'exec "{sys.executable}" "$@"')
    (folder / "requirements.txt").write_text("")
    (folder / "app.py").write_text("import os, sys\nprint(sys.argv[1:], sys.prefix, os.getppid())\n")
    first = make(folder, "run", 'ARGS=--model "a b" --port 8060')
    assert first.returncode == 0, first.stderr
    assert "['--model', 'a b', '--port', '8060']" in first.stdout and str(folder / ".venv") in first.stdout
    assert "Installing PyTorch" in first.stdout
    assert "Installing" not in make(folder, "run").stdout
    os.utime(folder / "constraints.txt", (2**33, 2**33))
    assert "Installing" in make(folder, "run").stdout


def test_make_test_checks_all_of_it(folder: Path) -> None:
    lines = make(folder, "--dry-run", "test").stdout
    order = ["requirements.txt", "requirements-dev.txt", "find_chromium", "ruff check", "ruff format", "mypy", "pytest"]
    assert [lines.index(word) for word in order] == sorted(lines.index(word) for word in order)


def test_make_test_slow_looks_for_both_browsers_first(folder: Path) -> None:
    lines = make(folder, "--dry-run", "test-slow").stdout
    order = ["requirements-dev.txt", "find_chromium", "find_firefox", "pytest -m slow"]
    assert [lines.index(word) for word in order] == sorted(lines.index(word) for word in order)


def test_ci_runs_make_test() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script and os.access(ROOT / ".ci" / "run", os.X_OK)
