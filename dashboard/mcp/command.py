"""`python -m hookscope mcp --url ADDRESS`: what a running page answers, over MCP on stdin and stdout."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
from collections.abc import Mapping, Sequence

from hookscope.dashboard.mcp.client import Client

NOT_INSTALLED = "The command mcp needs the package mcp: pip install 'hookscope[mcp]'."


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until stdin is closed; returns the process's exit code."""
    given = _parser().parse_args(list(arguments))
    try:
        client = Client(given.url, given.token or environ.get("HOOKSCOPE_TOKEN", ""))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if importlib.util.find_spec("mcp") is None:
        print(NOT_INSTALLED, file=sys.stderr)
        return 2
    from hookscope.dashboard.mcp.server import serve

    asyncio.run(serve(client))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hookscope mcp",
        description="Answer programs that speak MCP with what a running page knows: numbers and maps of every layer. "
        "No tool takes a path, writes or runs code. docs/api.md describes the questions.",
        allow_abbrev=False,
    )
    parser.add_argument("--url", required=True, metavar="ADDRESS", help="of the running page, as it was printed")
    parser.add_argument("--token", default="", help="of the page, if it asks for one (default: HOOKSCOPE_TOKEN)")
    return parser
