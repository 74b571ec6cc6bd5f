"""What a check-up is asked for: the command line, else the environment, else the project's pyproject.toml."""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hookscope.dashboard.checking.configuration import Configuration, read_configuration
from hookscope.dashboard.checking.refusals import Unchecked
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.parse import add_rows, plainly, read_rows
from hookscope.dashboard.settings.table import TABLE, Settings
from hookscope.dashboard.settings.values import BadValue, image_folder, whole_number
from hookscope.hooks.results.findings import SEVERITIES, Severity

MOST = 32  # pictures that are looked at
MOST_EVER = 1000
OF_A_MODEL = ("models", "allow_head", "device", "threads", "seed")
ROWS = tuple(row for row in TABLE if (row.names or row.name in OF_A_MODEL) and row.name != "baseline")
BELONGING = tuple(row.name for row in ROWS if row.names or row.name == "allow_head")  # to one model, as its weights do
FLAGS = (
    *("--images", "--pictures", "--baseline", "--update-baseline", "--fail-on", "--rule", "--limit"),
    *("--json", "--junit", "--rules"),
)
STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        model: with everything that is said of it. device: where it runs; threads: 0 for torch's own choice.
        images: a set's name and folder; None for the built-in photographs. most: pictures of it that are looked at.
        baseline: a file, which need not be there where it is to be written; update: whether it is.
        fail_on: the mildest severity that fails. rules: by name "off" or a severity; reasons: why they are off.
        limits: by name of a rule, or of one of its limits.
        configuration: the pyproject.toml that was read; None where none says anything.
    """

    model: ModelOptions
    device: str
    threads: int
    images: tuple[str, Path] | None
    most: int
    baseline: Path | None
    update: bool
    fail_on: Severity
    rules: Mapping[str, str]
    reasons: Mapping[str, str]
    limits: Mapping[str, float]
    configuration: Path | None = None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong to whoever called, so that it gets into every report."""

    def error(self, message: str) -> NoReturn:
        raise Unchecked(plainly(message))


def report_files(argv: Sequence[str]) -> tuple[str, str]:
    """Where JSON and JUnit are to be written, also of arguments that cannot be understood; "" for nowhere."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in ("--json", "--junit"):
        parser.add_argument(flag, default="")
    try:
        found, _ = parser.parse_known_args(list(argv))
    except Unchecked:  # one of them has no file behind it
        return "", ""
    return found.json, found.junit


def read_wanted(argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> Wanted:
    """Read what is asked for.

    Arguments:
        folder: in which, or above which, a pyproject.toml may say what the arguments do not.

    Raises:
        Unchecked: why that cannot be, in a sentence. SystemExit: --help was asked for, and printed.
    """
    given, unknown = _parser().parse_known_args(list(argv))
    if unknown:
        raise Unchecked(_why_unknown(unknown[0]))
    if given.rules:
        raise Unchecked("--rules prints the table of all rules, and stands alone.")
    said = read_configuration(folder, ROWS)
    settings = _settings(given, environ, said)
    if len(settings.models) > 1:
        names = ", ".join(settings.names)
        raise Unchecked(
            f"A check-up is of one model, and {len(settings.models)} are named ({names}). Check each alone."
        )
    rules = {**said.rules, **_pairs("--rule", given.rule, "dead-channels=off")}
    limits = {**said.limits, **_pairs("--limit", given.limit, "dead-channels=0.5")}
    if len(given.images) > 1:
        raise Unchecked(f"A check-up is of one folder, and --images names {len(given.images)}. Check each alone.")
    wanted = Wanted(
        model=options_for(settings)[0],
        device=settings.device,
        threads=settings.threads,
        images=_images("".join(given.images) or said.one("images")),
        most=_count(given.pictures or said.one("pictures") or str(MOST)),
        baseline=_file(given.baseline or said.one("baseline")),
        update=given.update_baseline,
        fail_on=_severity(given.fail_on or said.one("fail-on") or "warning"),
        rules={name: _action(text) for name, text in rules.items()},
        reasons={name: _reason(text) for name, text in rules.items() if _reason(text)},
        limits={name: _number(name, text) for name, text in limits.items()},
        configuration=said.path,
    )
    if wanted.update and wanted.baseline is None:
        raise Unchecked("--update-baseline writes the file that --baseline names, and none is named.")
    if wanted.baseline is not None and not wanted.update and _action(rules.get("baseline", "")) != "off":
        _check_there(wanted.baseline)
    if given.json == given.junit == STANDARD_OUTPUT:
        raise Unchecked("--json and --junit cannot both go to the standard output. Give one a file.")
    return wanted


def _parser() -> _Parser:
    parser = _Parser(
        prog="hookscope check",
        description="Look for what is usually wrong with a model, or with what it is given. It ends with 0 if nothing "
        "was found, with 1 if something was, and with 2 if it could not be checked.",
        epilog="What is not said here is looked for in [tool.hookscope.check] of pyproject.toml. docs/doctor.md "
        "explains the rules.",
        allow_abbrev=False,
    )
    add_rows(parser, ROWS)
    pictures = "pictures; class subfolders or a labels.csv say what they show (default: the built-in photographs)"
    parser.add_argument("--images", action="append", default=[], metavar="FOLDER", help=pictures)
    for flag, written, about in (
        ("--pictures", "N", f"how many of them at most, evenly drawn (default: {MOST})"),
        ("--baseline", "FILE", "what the same model gave for the same pictures before"),
        ("--fail-on", "SEVERITY", "error, warning or note: the mildest finding that fails (default: warning)"),
        ("--json", "FILE", "write what was found; - for the standard output"),
        ("--junit", "FILE", "write it as test cases, one for each rule; - for the standard output"),
    ):
        parser.add_argument(flag, metavar=written, default="", help=about)
    parser.add_argument("--update-baseline", action="store_true", help="write the file that --baseline names")
    severity = "what a rule finds is an error, a warning or a note; off, or off: WHY, for a rule that is left out"
    parser.add_argument("--rule", action="append", default=[], metavar="NAME=SEVERITY", help=severity)
    limit = "where a rule draws its line; NAME.WHICH for another line than its first"
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help=limit)
    parser.add_argument("--rules", action="store_true", help="print the table of all rules, and check nothing")
    return parser


def _settings(given: argparse.Namespace, environ: Mapping[str, str], said: Configuration) -> Settings:
    """What is said of the model; what a project says of its own model is not said of another one."""
    written = {
        row.name: (said.texts[key], f"{key} in {said.path}")
        for row in ROWS
        if (key := row.flag.removeprefix("--")) in said.texts
    }
    named = given.models or environ.get("HOOKSCOPE_MODEL", "").split()
    if named and list(named) != list(said.texts.get("model", ())):
        written = {name: each for name, each in written.items() if name not in BELONGING}
    try:
        return Settings(cache_dir=Path(), **read_rows(ROWS, given, environ, written))
    except BadValue as error:
        raise Unchecked(str(error)) from error


def _why_unknown(argument: str) -> str:
    name = argument.split("=")[0]
    if name in {row.flag for row in TABLE}:
        return f"{name} is an option of the page, and a check-up opens none. Leave it out."
    if not name.startswith("-"):
        return f"There is no argument {name!r}: each stands behind its option."
    near = difflib.get_close_matches(name, [*(row.flag for row in ROWS), *FLAGS], 1)
    return f"There is no option {name}." + (f" Did you mean {near[0]}?" if near else "")


def _pairs(flag: str, texts: Sequence[str], example: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise Unchecked(f"{flag} is {text!r}: a name and a value are needed, as in {flag} {example}.")
        found[name.strip()] = value.strip()
    return found


def _action(text: str) -> str:
    """What is to become of a rule: "off", or a severity; anything else the check-up refuses."""
    return text.partition(":")[0].strip()


def _reason(text: str) -> str:
    """Why a rule is off; "" where nobody says."""
    return text.partition(":")[2].strip() if _action(text) == "off" else ""


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Unchecked(f"A limit is a number, and {name} was given {text!r}.")
    return value


def _images(text: str) -> tuple[str, Path] | None:
    try:
        return image_folder(text) if text else None
    except (BadValue, OSError, RuntimeError, ValueError) as error:
        reason = str(error) if isinstance(error, BadValue) else f"that cannot be a folder ({error})."
        raise Unchecked(f"--images is {text!r}: {reason}") from error


def _count(text: str) -> int:
    try:
        return whole_number(1, MOST_EVER)(text)
    except BadValue as error:
        raise Unchecked(f"--pictures is {text!r}: {error}") from error


def _file(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _check_there(path: Path) -> None:
    """A baseline that is to be held against has to be there."""
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise Unchecked(f"There is no baseline {path}. Write one with --update-baseline.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Unchecked(f"The baseline {path} cannot be read ({reason}).") from error


def _severity(text: str) -> Severity:
    for severity in SEVERITIES:
        if severity == text:
            return severity
    raise Unchecked(f"--fail-on is {text!r}: one of {', '.join(SEVERITIES)} is needed.")
