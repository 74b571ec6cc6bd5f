"""What the command line decides for every topic, and how a topic says what it is doing."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How long to measure.

    Attributes:
        repeats: measurements of each time, after one that is thrown away.
        clicks: for the memory's course.
        starts: of the application.
        sessions: people at once, session_clicks: of each. rush: streams opened in one moment.
        give_up_seconds: how long the article's way may take for one figure.
    """

    repeats: int = 7
    clicks: int = 1000
    starts: int = 3
    sessions: int = 50
    session_clicks: int = 30
    rush: int = 400
    give_up_seconds: float = 90.0


QUICK = Options(
    repeats=1, clicks=45, starts=1, sessions=8, session_clicks=10, rush=60, give_up_seconds=40.0
)  # shows that everything works


def say(sentence: str) -> None:
    """Tell the person who waits what is being done; the findings go to stdout, this does not."""
    print(sentence, file=sys.stderr, flush=True)
