"""`python -m hookscope check`: what is usually wrong with a model, or with what it is given; for people and for CI.

It ends with 0 where nothing was found, with 1 where something was, and with 2 where it could not be checked, which is
never taken for healthy.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from hookscope.dashboard.asking.texts import one_line, say, text_of
from hookscope.dashboard.checking import reports
from hookscope.dashboard.checking.arguments import STANDARD_OUTPUT, Wanted, read_wanted, report_files
from hookscope.dashboard.checking.refusals import Unchecked
from hookscope.dashboard.checking.reports import Report, unchecked
from hookscope.hooks.errors import HooksError

LONGEST = 2000  # characters of a sentence on stderr
SUMMARY = "GITHUB_STEP_SUMMARY"
TERMINAL = " The terminal shows where."  # what is said where a traceback is printed, too
UNFINISHED = "The check-up began and did not come to its end."


def main(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> int:
    """Check a model as the arguments say, write every report that is asked for, and give the exit code."""
    environ = os.environ if environ is None else environ
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # of a terminal that has few letters
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if list(arguments) == ["--rules"]:
        print(reports.rules_table())
        return 0
    files = report_files(arguments)
    try:
        wanted = read_wanted(arguments, environ, Path.cwd())
        _write(unchecked(wanted.model.name, UNFINISHED), files)  # for whoever reads the files alone
        report = _report(wanted, environ)
    except Unchecked as refused:
        report = unchecked("", str(refused))
    except OSError as error:
        report = unchecked("", f"The current folder cannot be read ({error.strerror}).")
    if report.found.checked:
        _print(reports.as_text(report), sys.stderr if STANDARD_OUTPUT in files else sys.stdout)
    try:
        _write(report, files)
        if STANDARD_OUTPUT in files:
            form = reports.as_json if files[0] == STANDARD_OUTPUT else reports.as_junit
            _print(form(report).rstrip("\n"), sys.stdout)
    except Unchecked as refused:
        report = unchecked("", report.error or str(refused))
    _summarise(report, environ)
    if report.error:
        print(f"hookscope: {one_line(report.error, LONGEST)}", file=sys.stderr)
    return report.code


def _report(wanted: Wanted, environ: Mapping[str, str]) -> Report:
    """What was found; whatever happens, and whatever the model's own code raises, is a sentence."""
    line = _Line(environ)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():  # these are the model's, and no report
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            from hookscope.dashboard.checking.examining import examined  # which takes seconds

            return examined(wanted, line.show)
    except HooksError as error:
        details = getattr(error, "details", "")
        sentence = str(error).replace(TERMINAL, _place(details)) if details else str(error)
    except ModuleNotFoundError as error:
        sentence = f"The module {error.name!r} is not installed: pip install 'hookscope[check]'."
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except SystemExit as error:
        sentence = f"The model's own code ended the program ({text_of(error) or 'sys.exit'}), so nothing was checked."
    except BaseException as error:  # else Python would end with 1, as if something had been found
        sentence = f"The check-up failed: {say(error)}."
    finally:
        line.end()
    return unchecked(wanted.model.name, sentence)


def _print(text: str, stream: TextIO) -> None:
    """Print to whoever still reads; that nobody does, as behind `head`, is no other exit code."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # else Python says so once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _place(traceback: str) -> str:
    """Where in a model's own code an error was raised, from the traceback that is not printed."""
    places = re.findall(r'File "([^"\n]+)", line (\d+), in (\S+)', traceback)
    if not places:
        return ""
    file, line, function = places[-1]
    return f" It was raised in {Path(file).name}, line {line}, in {function}."


class _Line:
    """What is being done, in one line of a terminal that is written anew; nothing where nobody looks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._stream = sys.stderr if sys.stderr is not None and sys.stderr.isatty() and not environ.get("CI") else None
        self._shown = False

    def show(self, doing: str) -> None:
        """Say what is being done."""
        if self._stream is not None:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\033[K{one_line(doing, max(width, 20))}")
            self._stream.flush()
            self._shown = True

    def end(self) -> None:
        """Leave the line empty."""
        if self._stream is not None and self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()


def _write(report: Report, files: tuple[str, str]) -> None:
    """Write the reports that are files; each is whole or as it was.

    Raises:
        Unchecked: one cannot be written.
    """
    for name, form in zip(files, (reports.as_json, reports.as_junit), strict=True):
        if name in ("", STANDARD_OUTPUT):
            continue
        path = Path(name).expanduser()
        try:
            path.write_text(form(report), encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise Unchecked(f"The report {path} cannot be written ({reason}).") from error


def _summarise(report: Report, environ: Mapping[str, str]) -> None:
    """Append to what GitHub shows beside a run; that it cannot be is told, and changes nothing."""
    if not (name := environ.get(SUMMARY, "")):
        return
    try:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(reports.as_markdown(report))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"hookscope: The summary {name} cannot be written ({reason}).", file=sys.stderr)
