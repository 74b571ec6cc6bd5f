"""The program: `python app.py`, `python -m hookscope` and, once installed, `hookscope` are one.

hookscope [serve] [OPTIONS]    open the page; `hookscope --help` lists the options
hookscope check [OPTIONS]      what is usually wrong with a model; `hookscope check --help` lists the options
hookscope bench MODEL          what hooks cost on a model of one's own
hookscope mcp --url ADDRESS    what a running page answers, for programs that speak MCP, over stdin and stdout
hookscope settings             the table of all settings, as docs/settings.md holds it
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence


def serve(arguments: Sequence[str]) -> int:
    """Parse the settings, build the application, serve it until a signal comes, and leave nothing behind."""
    from hookscope.dashboard.stopping import end_at_once_on_interrupt
    from hookscope.dashboard.web.dash_environment import hidden

    end_at_once_on_interrupt()  # while the imports run; then `run` stops in its own way
    with hidden():  # Dash reads a part of the environment while it is imported
        from hookscope.dashboard.run import run
    from hookscope.dashboard.settings.parse import parse

    return run(parse(arguments, os.environ))


def bench(arguments: Sequence[str]) -> int:
    """Print what hooks cost on a model; this command and `check` import torch in this process."""
    from hookscope.hooks.bench.command import main as command

    return command(arguments)


def check(arguments: Sequence[str]) -> int:
    """Look for what is usually wrong with a model, and say so by the exit code, too."""
    from hookscope.dashboard.checking.command import main as command

    return command(arguments)


def mcp(arguments: Sequence[str]) -> int:
    """Answer programs that speak MCP with what a running page knows; it needs `hookscope[mcp]`."""
    from hookscope.dashboard.mcp.command import main as command

    return command(arguments, os.environ)


def settings(arguments: Sequence[str]) -> int:
    """Print the table of all settings."""
    from hookscope.dashboard.settings.parse import markdown

    if arguments:
        print(f"`settings` takes no arguments, and got {' '.join(arguments)}.", file=sys.stderr)
        return 2
    print(markdown())
    return 0


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "serve": serve,
    "check": check,
    "bench": bench,
    "mcp": mcp,
    "settings": settings,
}


def main() -> int:
    """Run the command that the first argument names; the page, if it names none."""
    name, *rest = sys.argv[1:] or ["serve"]
    try:
        return COMMANDS[name](rest) if name in COMMANDS else serve(sys.argv[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
