"""What ends the program: a signal, wherever in the code it arrives."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

AGAIN_SECONDS = 1.0


class Stop(list[Callable[[], None]]):
    """What a signal ends, and whether it may now."""

    def __init__(self) -> None:
        super().__init__()
        self._waits: list[Callable[[], None]] | None = None  # what came meanwhile

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let a signal wait for the end of a `with` block: what is made there is then known to who clears it away."""
        self._waits = []
        try:
            yield
        finally:
            came, self._waits = self._waits, None
            for each in came[:1]:
                each()

    def postpones(self, leave: Callable[[], None]) -> bool:
        """Whether a signal has to wait; what it does is then done later."""
        if self._waits is None:
            return False
        self._waits.append(leave)
        return True


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """As long as this lasts, SIGTERM or SIGINT ends what is in the list that it gives, and then the program.

    Another signal is ignored. The end is a SystemExit, and Python drops an exception that happens to be raised in a
    callback of the garbage collector, of a weak reference or of the import lock. So it is raised anew each second
    until this is left.
    """
    stop = Stop()

    def leave(*_: object) -> None:
        if stop.postpones(leave):
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        for each in stop:
            each()
        end()

    def end(*_: object) -> None:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_at_once_on_interrupt() -> None:
    """Have Ctrl+C end the program without a word, for as long as there is nothing to clear away.

    A KeyboardInterrupt would be dropped where it arrives in a callback of the import lock, and the program would go on.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
