"""Worker processes that are killed, crash, hang, fail to load and are closed: what the person is told, what is left.

The model is a small one of our own, because it has to misbehave: what it does depends on the colour of the picture.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from checkout import SOURCE
from inline_app import until
from PIL import Image
from tempo import limit
from units import rows_of, unit_of

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine import queue as queue_module
from hookscope.dashboard.engine.base import Event
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.engine.process import describe_exit, environment
from hookscope.dashboard.engine.supervisor import Supervisor
from hookscope.dashboard.worker.in_thread import WorkerThread

COLOURS = {
    "calm": (200, 100, 0),
    "slow": (0, 255, 0),
    "crash": (255, 255, 255),
    "hang": (0, 0, 0),
    "raise": (255, 0, 0),
}
LIMIT_SECONDS = 4.0
ZOO = """
    import ctypes, subprocess, sys, time
    import torch
    from torch import nn

    class Moody(nn.Module):
        def forward(self, x):
            print("a moody line", flush=True)
            red, green, blue = (float(value) for value in x.detach()[0, :, 0, 0])
            if min(red, green, blue) == 1.0:
                ctypes.string_at(0)
            if max(red, green, blue) == -1.0:
                time.sleep(1000)
            if (red, green, blue) == (1.0, -1.0, -1.0):
                raise ValueError("red is not my colour")
            return x

    class Nap(nn.Module):
        def forward(self, x):
            if x[0, 1, 0, 0] == 1.0 and x[0, 0, 0, 0] == -1.0:
                time.sleep(0.1)
            return x

    def net(classes=4, child=False):
        if child:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        naps = [Nap() for _ in range(100)]
        model = nn.Sequential(Moody(), *naps, nn.Conv2d(3, classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return model, {"input_size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def broken():
        raise RuntimeError("there is no such thing")

    def dies():
        import os
        os._exit(9)
"""


def picture(colour: str) -> bytes:
    return rows_of(Image.new("RGB", (40, 40), COLOURS[colour.split()[0]]))


def unit(layer: str, colour: str, model: str = "zoo:net") -> Unit:
    return unit_of(model, colour, "activation", layer)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The operator's current directory, with a factory in it and nothing of ours."""
    before = Path.cwd()
    path = tmp_path_factory.mktemp("operator")
    (path / "zoo.py").write_text(textwrap.dedent(ZOO))
    os.chdir(path)
    yield path
    os.chdir(before)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    models = [ModelOptions(spec) for spec in ("zoo:net", "zoo:broken", "zoo:dies")]
    engine = LocalEngine(models, device="cpu", job_timeout_seconds=LIMIT_SECONDS)
    engine.open("zoo:net")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def threaded(folder: Path) -> Iterator[LocalEngine]:
    """The same with its worker in a thread of this process."""
    models = [ModelOptions(spec) for spec in ("zoo:net", "zoo:broken")]
    engine = LocalEngine(models, device="cpu", start_worker=WorkerThread)
    path = list(sys.path)
    engine.open("zoo:net")
    yield engine
    engine.close()
    sys.path[:] = path
    del sys.modules["zoo"]


@pytest.fixture(params=["process", "thread"])
def either(request: pytest.FixtureRequest) -> LocalEngine:
    """What an engine promises holds wherever its workers run."""
    engine: LocalEngine = request.getfixturevalue("engine" if request.param == "process" else "threaded")
    wait_for(lambda: engine.state("zoo:net").phase == "ready", 60)
    return engine


@pytest.fixture
def ready(engine: LocalEngine) -> LocalEngine:
    wait_for(lambda: engine.state("zoo:net").phase == "ready", 60)
    return engine


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    """How long it took."""
    begun = time.monotonic()
    while not condition():
        took = time.monotonic() - begun
        assert took < seconds or took < limit(seconds), "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begun


class Ask:
    """A submission and what has happened to it so far."""

    def __init__(self, engine: LocalEngine, *units: Unit, fetch: Callable[[str], bytes] = picture) -> None:
        self.engine = engine
        self.slot = f"slot {time.monotonic_ns()} {os.urandom(4).hex()}"
        self.events: list[Event] = []
        engine.submit(self.slot, units, fetch)

    def until(self, kind: str, seconds: float = 30) -> list[Event]:
        deadline = time.monotonic() + seconds
        while not any(event.kind == kind for event in self.events):
            news, _ = self.engine.events(self.slot, len(self.events), max(0.0, deadline - time.monotonic()))
            assert news or time.monotonic() < deadline, f"no {kind} within {seconds} s"
            self.events += news
        return self.events

    def kinds(self) -> list[str]:
        return [event.kind for event in self.until("end")]


def test_a_factory_in_the_current_directory_opens_and_answers(either: LocalEngine) -> None:
    info = either.state("zoo:net").info
    assert info and info.spec == "zoo:net" and info.classes == ("class 0", "class 1", "class 2", "class 3")
    assert Ask(either, unit("101", "calm")).kinds() == ["started", "done", "end"]


def test_what_two_slots_ask_is_computed_once(either: LocalEngine) -> None:
    busy = Ask(either, unit("20", "slow"))
    busy.until("started")
    same = [Ask(either, unit("10", "slow again")) for _ in range(4)]
    events = [ask.until("end") for ask in same]
    assert all([event.kind for event in each] == ["started", "done", "end"] for each in events)
    answers = {event.data for each in events for event in each if event.kind == "done"}
    assert len(answers) == 1  # the milliseconds in it would differ if it had been computed twice


def test_cancel_stops_the_running_forward_and_starts_the_next(either: LocalEngine) -> None:
    long = Ask(either, unit("101", "slow cancel"))  # 10 s
    long.until("started")
    waiting = Ask(either, unit("100", "slow never started"))
    either.cancel(waiting.slot)
    begun = time.monotonic()
    either.cancel(long.slot)
    assert Ask(either, unit("101", "calm cancel")).kinds() == ["started", "done", "end"]
    assert time.monotonic() - begun < limit(3)
    assert long.kinds() == ["started", "end"]
    assert waiting.kinds() == ["end"]


def test_withdrawing_one_of_two_layers_stops_the_forward_at_the_other(either: LocalEngine) -> None:
    deep = Ask(either, unit("5", "slow part"), unit("100", "slow part"))
    deep.until("done")
    early = Ask(either, unit("100", "slow part"))
    assert early.until("started")
    either.cancel(deep.slot)
    either.cancel(early.slot)
    assert Ask(either, unit("1", "calm part")).kinds() == ["started", "done", "end"]


def test_an_exception_of_the_model_is_a_sentence_with_its_traceback(
    either: LocalEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    ask = Ask(either, unit("3", "raise"))
    assert ask.kinds() == ["started", "failed", "end"]
    failed = ask.events[1]
    assert failed.sentence.startswith("The model failed while computing the activation of '3': ")
    assert failed.sentence.endswith(": ValueError: red is not my colour. The terminal shows where in its code.")
    assert "zoo.py" in failed.details and "Traceback" in failed.details
    assert "zoo.py" in capfd.readouterr().err  # where the operator looks for it: on the server's own stderr
    assert either.state("zoo:net").hooks == ()
    assert Ask(either, unit("3", "calm")).kinds() == ["started", "done", "end"]


def test_a_thread_says_why_a_model_does_not_load_and_leaves_torch_as_it_was(threaded: LocalEngine) -> None:
    threads = torch.get_num_threads()
    threaded.open("zoo:broken")
    wait_for(lambda: threaded.state("zoo:broken").phase == "failed", 30)
    assert threaded.state("zoo:broken").sentence.startswith("zoo:broken failed: RuntimeError: there is no such thing.")
    assert threaded.pids("zoo:net") == [] and torch.get_num_threads() == threads


def test_a_thread_ends_in_the_middle_of_a_forward_pass() -> None:
    engine = LocalEngine([ModelOptions("zoo:net")], device="cpu", start_worker=WorkerThread)
    before = threading.active_count()
    long = Ask(engine, unit("101", "slow kill"))  # 10 s
    long.until("started", 60)
    begun = time.monotonic()
    engine.close()
    assert [event.kind for event in long.until("end")][-2:] == ["failed", "end"]
    wait_for(lambda: threading.active_count() <= before, 5)
    assert time.monotonic() - begun < limit(2)


def test_close_while_a_worker_is_being_started_ends_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler runs in the middle of whatever the main thread does, also of starting a thread."""
    engine = LocalEngine()
    interrupted: list[Supervisor] = []
    start = Supervisor.start

    def interrupt(supervisor: Supervisor) -> None:
        interrupted.append(supervisor)
        engine.close()
        raise SystemExit(0)

    monkeypatch.setattr(Supervisor, "start", interrupt)
    with pytest.raises(SystemExit):
        engine.open("embedded")
    start(interrupted[0])  # the thread that was on its way
    until(lambda: not any(each.name.startswith("default worker") for each in threading.enumerate()))
    assert interrupted[0].pid is None


def test_a_worker_has_its_share_of_threads_which_do_not_spin_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert environment(3)["OMP_NUM_THREADS"] == "3" and environment(3)["GOMP_SPINCOUNT"] == "2000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert environment(3)["GOMP_SPINCOUNT"] == "7"  # the operator knows better


def test_killed_in_a_job_the_waiting_are_told_and_the_others_answered(ready: LocalEngine) -> None:
    (pid,) = ready.pids("zoo:net")
    victim = Ask(ready, unit("101", "slow kill"))
    victim.until("started")
    queued = Ask(ready, unit("101", "calm after the kill"))
    os.kill(pid, signal.SIGKILL)
    told = wait_for(lambda: victim.until("end")[-1].kind == "end", 5)
    assert told < limit(2)
    failed = victim.events[-2]
    assert failed.kind == "failed"
    assert failed.sentence.startswith(
        "The worker was killed (SIGKILL); if nobody did that by hand, the machine may have run"
    )
    assert "while computing 101. Choose a smaller layer or image" in failed.sentence
    begun = time.monotonic()
    assert queued.kinds() == ["started", "done", "end"]
    print(f"told after {told:.3f} s, back after {time.monotonic() - begun:.1f} s")
    wait_for(lambda: ready.state("zoo:net").phase == "ready", 5)
    state = ready.state("zoo:net")
    assert state.sentence.startswith("Ready. Restarted at ") and "killed (SIGKILL)" in state.sentence and state.info
    assert not psutil.pid_exists(pid)
    for supervisor in ready._supervisors["zoo:net"]:
        supervisor._told_until = 0.0  # the five minutes are over
    wait_for(lambda: ready.state("zoo:net").sentence == "Ready.", 5)


def test_a_hang_is_ended_at_its_limit(ready: LocalEngine) -> None:
    begun = time.monotonic()
    ask = Ask(ready, unit("101", "hang"))
    assert ask.kinds() == ["started", "failed", "end"]
    assert LIMIT_SECONDS <= time.monotonic() - begun < LIMIT_SECONDS + limit(2)
    assert f"said nothing for {LIMIT_SECONDS:g} s and was stopped" in ask.events[1].sentence


def test_a_worker_waits_while_nobody_reads_its_answers_and_loses_none(
    ready: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred answers of 12 KB, with room for one: the others wait in the worker, which is not taken to hang."""
    monkeypatch.setattr(queue_module, "KEPT_BYTES", 10_000)
    units = [unit(str(number), "calm wait") for number in range(101)]
    began = time.monotonic()
    asked = Ask(ready, *units)
    wait_for(ready._queue.full, 30)
    answers = ready._queue._slots[asked.slot].events
    while time.monotonic() - began < LIMIT_SECONDS + 1:
        assert sum(event.kind == "done" for event in answers) <= 2
        time.sleep(0.05)
    assert ready.state("zoo:net").phase == "computing"
    found: list[Event] = []
    while not found or found[-1].kind != "end":
        news, _ = ready.events(asked.slot, len(found), 30)
        assert news
        found += news
        assert ready._queue._kept() < 100_000
    assert [event.unit for event in found if event.kind == "done"] == units


def test_a_stopped_worker_does_not_block_the_server(ready: LocalEngine) -> None:
    (pid,) = ready.pids("zoo:net")
    os.kill(pid, signal.SIGSTOP)
    big = os.urandom(4_000_000)
    ask = Ask(ready, unit("101", "calm stopped"), fetch=lambda digest: big)
    assert ready.state("zoo:net").phase in ("ready", "computing")
    assert ask.kinds() == ["failed", "end"]
    assert not psutil.pid_exists(pid)


def test_what_crashed_the_worker_twice_is_refused(ready: LocalEngine, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        ask = Ask(ready, unit("2", "crash"))
        assert ask.kinds() == ["started", "failed", "end"]
        assert "The worker crashed in native code (SIGSEGV) while computing 2." in ask.events[1].sentence
        assert "Segmentation fault" in ask.events[1].details and "zoo.py" in ask.events[1].details
    assert "Segmentation fault" in capfd.readouterr().err  # also on the server's own stderr
    refused = Ask(ready, unit("2", "crash"))
    assert refused.kinds() == ["failed", "end"]
    assert "stopped the worker 2 times in the last ten minutes, so it is refused" in refused.events[0].sentence
    assert Ask(ready, unit("2", "calm")).kinds() == ["started", "done", "end"]


def test_a_model_that_cannot_be_loaded_says_why(engine: LocalEngine, capfd: pytest.CaptureFixture[str]) -> None:
    ask = Ask(engine, unit("", "calm", "zoo:broken"))
    assert ask.kinds() == ["failed", "end"]
    assert (
        ask.events[0].sentence == "zoo:broken failed: RuntimeError: there is no such thing. The terminal shows where."
    )
    assert "zoo.py" in ask.events[0].details
    wait_for(lambda: "zoo.py" in capfd.readouterr().err, 5)
    state = engine.state("zoo:broken")
    assert state.phase == "failed" and state.sentence == ask.events[0].sentence
    later = Ask(engine, unit("0", "calm", "zoo:broken"))  # at once, without another attempt
    assert later.until("end", 1)[0].kind == "failed"
    engine.open("zoo:broken")
    assert engine.state("zoo:broken").phase == "loading"
    wait_for(lambda: engine.state("zoo:broken").phase == "failed", 60)


def test_a_worker_that_dies_while_loading_is_given_up_after_some_attempts(engine: LocalEngine) -> None:
    ask = Ask(engine, unit("", "calm", "zoo:dies"))
    assert [event.kind for event in ask.until("end", 60)] == ["failed", "end"]
    assert "ended by itself with exit code 9 while loading the model" in ask.events[0].sentence


def test_a_model_that_was_not_offered_is_refused(engine: LocalEngine) -> None:
    ask = Ask(engine, unit("", "calm", "os:system"))
    assert ask.kinds() == ["failed", "end"]
    assert ask.events[0].sentence.startswith(
        "This server was not started with the model 'os:system'. It offers zoo:net"
    )
    engine.open("os:system")
    assert engine.state("os:system").phase == "failed" and engine.pids("os:system") == []


def test_a_model_is_idle_until_it_is_opened(folder: Path) -> None:
    engine = LocalEngine([ModelOptions("zoo:net")])
    assert engine.state("zoo:net").phase == "idle" and engine.pids("zoo:net") == []
    engine.close()
    engine.close()


def test_closing_leaves_nothing_and_takes_under_two_seconds(folder: Path) -> None:
    """Two workers, one in the middle of a forward pass, one with a child of its own; and a reader that waits."""
    me = psutil.Process()
    gc.collect()  # what earlier tests left open is not counted as ours, nor against it
    files, threads = me.num_fds(), set(threading.enumerate())
    children = {child.pid for child in me.children(recursive=True)}
    engine = LocalEngine([ModelOptions("zoo:net", arguments='{"child": true}')], workers=2, device="cpu")
    ask = Ask(engine, unit("101", "slow close"))
    ask.until("started", 60)
    waited: list[list[Event]] = []
    reader = threading.Thread(target=lambda: waited.append(engine.events(ask.slot, 1, 30)[0]))
    reader.start()
    wait_for(lambda: len({child.pid for child in me.children(recursive=True)} - children) >= 4, 60)
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < limit(2)
    reader.join(2)
    assert [event.kind for event in waited[0]] == ["failed", "end"]
    assert "The server is stopping" in waited[0][0].sentence
    left = {child.pid for child in me.children(recursive=True)} - children
    assert not left
    assert me.num_fds() <= files
    assert not set(threading.enumerate()) - threads


def test_the_worker_ends_when_the_server_is_killed(folder: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from hookscope.dashboard.engine.local import LocalEngine\n"
        "from hookscope.dashboard.engine.protocol import ModelOptions\n"
        'engine = LocalEngine([ModelOptions("zoo:net")]); engine.open("zoo:net")\n'
        'while not engine.pids("zoo:net"): time.sleep(0.01)\n'
        'print(*engine.pids("zoo:net"), "torch" in sys.modules, flush=True); time.sleep(600)\n'
    )
    server = subprocess.Popen([sys.executable, "-c", script, str(SOURCE)], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    pid, torch_imported = server.stdout.readline().split()
    assert torch_imported == "False"
    assert psutil.pid_exists(int(pid))
    server.kill()
    server.wait()
    server.stdout.close()
    wait_for(lambda: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE, 5)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "stopped answering"),
        (3, "ended by itself with exit code 3"),
        (70, "had to end after an error of the GPU, which only a new process gets over"),
        (-9, "was killed (SIGKILL); if nobody did that by hand, the machine may have run out of memory"),
        (-11, "crashed in native code (SIGSEGV)"),
        (-15, "was ended from outside (SIGTERM)"),
    ],
)
def test_how_a_process_ended_in_words(code: int | None, text: str) -> None:
    assert describe_exit(code) == text


def test_a_kill_for_memory_is_said_plainly() -> None:
    assert describe_exit(-9, out_of_memory=True) == "was killed because the machine ran out of memory"
