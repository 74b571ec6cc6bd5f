"""What the operator decided: `parse` reads the command line and the environment into a frozen `Settings`.

`Settings` and their table are in `table.py`; `python app.py settings` prints it as `docs/settings.md` holds it. A
flag wins over its variable, a variable over the default, and an empty variable counts as not set.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hookscope.dashboard.settings import values
from hookscope.dashboard.settings.checkpoints import with_checkpoints
from hookscope.dashboard.settings.table import TABLE, Setting, Settings
from hookscope.dashboard.settings.values import BadValue
from hookscope.dashboard.sources.spec import DEFAULT_MODEL, is_own, name_of


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read the settings; a bad one is told in a sentence on stderr, and the program ends with exit code 2."""
    parser = Parser(
        prog=program(),
        description="Open trained PyTorch vision models in the browser and look inside them.",
        epilog="A flag wins over its environment variable. Variables that may hold several values separate them with "
        "commas or spaces.",
        allow_abbrev=False,  # --mode for --model would work until a second flag begins the same way
    )
    add_rows(parser, TABLE)
    arguments, unknown = parser.parse_known_args(list(argv))
    if unknown:
        parser.error(_unknown(unknown[0]))
    given: dict[str, Any] = {"cache_dir": default_cache_dir(environ)}
    try:
        return _checked(Settings(**given | read_rows(TABLE, arguments, environ)))
    except BadValue as error:
        parser.error(str(error))


def read_rows(
    rows: Sequence[Setting],
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    written: Mapping[str, tuple[Sequence[str], str]] | None = None,
) -> dict[str, Any]:
    """What was given for some rows of the table, as `Settings` takes it; those of which nothing was said are left out.

    Arguments:
        rows: the models' own row before those that are about a model.
        arguments: of a parser with these rows. written: for a setting that neither says, by name: what is written
            elsewhere, and where.

    Raises:
        BadValue: a value cannot be what was written.
    """
    given: dict[str, Any] = {}
    for setting in rows:
        texts, source = _texts(setting, arguments, environ)
        if not texts and written and setting.name in written:
            texts, source = list(written[setting.name][0]), written[setting.name][1]
        if texts and setting.names:
            names = [name_of(model) for model in given.get("models", Settings.models)]
            given[setting.name] = tuple(_of_a_model(setting, text, source, names) for text in texts)
        elif texts:
            parsed = [_value(setting, text, source) for text in texts]
            given[setting.name] = tuple(dict.fromkeys(parsed)) if setting.repeatable else parsed[-1]
    return given


def program() -> str:
    """How the person started this program, as they would write it again."""
    started = Path(sys.argv[0])
    return "hookscope" if "hookscope" in (started.name, started.parent.name) else "python app.py"


def default_cache_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """The user's cache folder on this platform, with our name below it."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    if platform == "darwin":
        return home / "Library" / "Caches" / "hookscope"
    base = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return (base if base.is_absolute() else home / ".cache") / "hookscope"  # the XDG rule: relative paths are ignored


def markdown() -> str:
    """The settings as a table for the documentation."""
    lines = ["| flag | variable | default | unit | what it does |", "| --- | --- | --- | --- | --- |"]
    for setting in TABLE:
        flag = f"`{setting.flag} {setting.written}`" if setting.written else f"`{setting.flag}`"
        repeat = " (may be given several times)" if setting.listed else " (for each model)" if setting.names else ""
        lines.append(
            f"| {flag} | `{setting.variable}` | {setting.shown_default} | {setting.unit} | {setting.help}{repeat} |"
        )
    return "\n".join(lines)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        print(f"hookscope: {plainly(message)} See {self.prog} --help.", file=sys.stderr)
        raise SystemExit(2)


def plainly(message: str) -> str:
    """A sentence for argparse's own words, which are "argument --port: expected one argument" and the like."""
    if found := re.fullmatch(r"argument (--[\w-]+).*: expected one argument", message):
        return f"{found[1]} needs a value."
    if found := re.fullmatch(r"argument (--[\w-]+).*: ignored explicit argument .*", message):
        return f"{found[1]} takes no value."
    return message


def add_rows(parser: argparse.ArgumentParser, rows: Iterable[Setting]) -> None:
    """Have a parser know some rows of the table."""
    for setting in rows:
        unit = f" {setting.unit}" if setting.unit and not setting.default_text else ""
        extra = f", {setting.unit}" if setting.unit and setting.default_text else ""
        about = f"{setting.help}{extra} (default: {setting.shown_default}{unit}; {setting.variable})"
        about = about.replace("%", "%%")
        if setting.is_switch:
            parser.add_argument(setting.flag, dest=setting.name, action="store_const", const="yes", help=about)
        else:
            action = "append" if setting.repeatable else "store"
            parser.add_argument(setting.flag, dest=setting.name, metavar=setting.written, action=action, help=about)


def _texts(setting: Setting, arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[list[str], str]:
    """What was written for a setting, and where: on the command line, else in the environment."""
    flag = getattr(arguments, setting.name)
    if flag is not None:
        return (flag if setting.repeatable else [flag]), setting.flag
    text = environ.get(setting.variable, "").strip()
    separated = re.split(r"[,\s]+", text.strip(", ")) if setting.listed else [text]
    return [part for part in separated if part], setting.variable


def _value(setting: Setting, text: str, source: str) -> object:
    try:
        return setting.read(text.strip())
    except BadValue as error:
        shown = "" if setting.secret else f" is {text!r}"
        hint = ""
        if source == "HOOKSCOPE_PORT" and text.startswith("tcp://"):
            hint = " Kubernetes sets this variable for a service of the same name; give --port."
        raise BadValue(f"{source}{shown}: {error}{hint}") from error


def _of_a_model(setting: Setting, text: str, source: str, names: Sequence[str]) -> tuple[str, object]:
    """A value and the model that it is about: the one named before it, or else the only one that can be meant."""
    for name in sorted(names, key=len, reverse=True):
        if text.startswith(name + setting.names):
            return name, _value(setting, text.removeprefix(name + setting.names), source)
    value = _value(setting, text, source)
    if names == [DEFAULT_MODEL] and not (setting.of_any or setting.prepares):
        raise BadValue(f"{source} is meant for a model of your own: name it with --model.")
    own = [name for name in names if is_own(name) and not setting.of_any] or names
    if len(own) > 1:
        example = f"{setting.flag} {own[0]}{setting.names}{text}"
        raise BadValue(f"{source} could be meant for {' or '.join(own)}: write whose it is, as in {example}.")
    return own[0], value


def _unknown(argument: str) -> str:
    name = argument.split("=")[0]
    near = difflib.get_close_matches(name, [setting.flag for setting in TABLE], 1)
    return f"There is no option {name}." + (f" Did you mean {near[0]}?" if near else "")


def _checked(settings: Settings) -> Settings:
    """Hold the settings against each other, and make the token where one is needed."""
    twice = [name for name in settings.names if settings.names.count(name) > 1]
    if twice:
        raise BadValue(f"Two models are called {twice[0]}: give one of them another name, as in --model old=SPEC.")
    runs = [name for name, _ in settings.feeds]
    if again := [name for name in runs if runs.count(name) > 1]:
        raise BadValue(f"Two runs are called {again[0]}: give one of them another name, as in --feed tuesday=FOLDER.")
    settings = with_checkpoints(settings)
    exposed = not values.is_loopback(settings.host)
    if exposed and not settings.token and not settings.behind_auth_proxy:
        return dataclasses.replace(settings, token=secrets.token_urlsafe(24))
    return settings
