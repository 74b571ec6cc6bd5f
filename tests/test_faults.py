"""What the model's code may do to its worker, on the real application: told why, others answered, back, nothing left.

Every fault happens for real, in an operator's model that does what the colour of its picture says, and is seen as a
page sees it, over HTTP. The model writes down when it did it, so the times below are from there.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import signal
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import requests
from PIL import Image
from served import SAMPLES, Application, until
from tempo import limit, shared_limit

from bench.client import RETRY, Client
from hookscope.dashboard.engine import supervisor as supervisor_module
from hookscope.dashboard.engine.channel import WorkerEnded
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions

TOLD_SECONDS = 2.0
BACK_SECONDS = 10.0
LIMIT_SECONDS = 3  # of a job
LOAD_LIMIT_SECONDS = 20
ZOO = """
    import ctypes, os, signal, socket, stat, struct, subprocess, sys, threading, time
    import torch
    from torch import nn

    HERE = os.path.dirname(__file__)

    def note():
        with open(os.path.join(HERE, "when"), "w") as file:
            file.write(repr(time.time()))

    class Unprintable(Exception):
        def __init__(self, one, two, three):
            super().__init__()
        def __str__(self):
            raise RuntimeError("no text either")
        def __reduce__(self):
            raise TypeError("not to be rebuilt")

    class Uncatchable(BaseException):
        pass

    def throw(error):
        raise error

    def forever():
        while True:
            time.sleep(1)

    def deaf():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        forever()

    def limited():
        import resource
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, limits[1]))
        try:
            torch.zeros(200_000_000)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)

    def nonsense():
        for number in range(3, 64):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.write(number, struct.pack("!i", 8) + b"nonsense")
            except OSError:
                pass
        forever()

    def forked():
        if os.fork() == 0:
            forever()
        os._exit(3)

    def away():
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        os._exit(3)

    def eat():
        eaten = []
        while True:
            eaten.append(torch.ones(10_000_000))

    ACTIONS = {
        "calm": lambda: None,
        "slow": lambda: time.sleep(30),
        "segfault": lambda: ctypes.string_at(0),
        "abort": os.abort,
        "exit": lambda: os._exit(3),
        "sys.exit": lambda: sys.exit(5),
        "hang with the GIL": lambda: ctypes.PyDLL(None).sleep(1000),
        "deaf": deaf,
        "unprintable": lambda: throw(Unprintable(1, 2, 3)),
        "uncatchable": lambda: throw(Uncatchable("not an Exception")),
        "long": lambda: throw(ValueError("\\udcff <b>" + "x" * 30_000_000)),
        "memory": lambda: torch.empty(2**45),
        "MemoryError": lambda: bytearray(2**60),
        "limit": limited,
        "hang up": lambda: os.closerange(3, 1000),
        "nonsense": nonsense,
        "forked": forked,
        "away": away,
        "chatter": lambda: (print("chatter " * 10_000 + "\\n" * 20_000, flush=True), os._exit(3)),
        "eat": eat,
    }

    def action(x):
        red, green, blue = (round(float(value) * 255) for value in x.detach()[0, :, 0, 0])
        code = red // 10
        known = blue == 77 and red % 10 == 5 and code < len(ACTIONS) and bool((x == x[:, :, :1, :1]).all())
        return list(ACTIONS)[code] if known else "calm"

    class Moody(nn.Module):
        def forward(self, x):
            mood = action(x)
            if mood != "calm":
                note()
            ACTIONS[mood]()
            return x * 1.0

    class Odd(nn.Module):
        def forward(self, x):
            return [threading.Lock(), lambda: None, object()]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.moody, self.odd = Moody(), Odd()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            x = self.moody(x)
            self.odd(x)
            return self.conv(x).mean((2, 3))

    def net():
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return Net(), {"input_size": 16, "mean": (0, 0, 0), "std": (1, 1, 1)}

    def raises():
        note()
        raise RuntimeError("there is no such thing")

    def leaves():
        note()
        sys.exit(6)

    def dies():
        note()
        os._exit(9)

    def hangs():
        note()
        forever()
"""


@dataclass(frozen=True)
class Fault:
    """Something that a model's code does while it computes.

    Attributes:
        action: what the picture commands. said: a pattern of the sentence on the page.
        ends: whether the worker does not outlive it. limit_seconds: what a hang may take.
        by_hand: the signal that the test sends to the worker. slow: much like another one, so not tried every time.
    """

    action: str
    said: str
    ends: bool = True
    limit_seconds: float = 0.0
    by_hand: int = 0
    slow: bool = False


HUNG = rf"said nothing for {LIMIT_SECONDS} s and was stopped while computing"
EXIT_3 = "ended by itself with exit code 3 while computing"
NO_MEMORY = "There was not enough memory for"
FAULTS = (
    Fault("slow", r"was killed \(SIGKILL\); if nobody did that by hand, the machine may have", by_hand=signal.SIGKILL),
    Fault("slow", r"was ended from outside \(SIGTERM\)", by_hand=signal.SIGTERM, slow=True),
    Fault("segfault", r"crashed in native code \(SIGSEGV\)"),
    Fault("abort", r"crashed in native code \(SIGABRT\)", slow=True),
    Fault("exit", EXIT_3, slow=True),
    Fault("sys.exit", "The model failed while .*: SystemExit: 5", ends=False),
    Fault("hang with the GIL", HUNG, limit_seconds=LIMIT_SECONDS),
    Fault("deaf", HUNG, limit_seconds=LIMIT_SECONDS),
    Fault("unprintable", r"The model failed while [a-z ]*: Unprintable", ends=False),
    Fault("uncatchable", r"The model failed while [a-z ]*: Uncatchable: not an Exception", ends=False),
    Fault("long", r"The model failed while [a-z ]*: ValueError: .{9,20}xxx", ends=False),
    Fault("memory", NO_MEMORY, ends=False),
    Fault("MemoryError", NO_MEMORY, ends=False),
    Fault("limit", NO_MEMORY, ends=False),
    Fault("hang up", r"(stopped answering|was killed \(SIGKILL\).*) while computing"),
    Fault("nonsense", r"sent something that cannot be read \(not a message"),
    Fault("forked", EXIT_3),
    Fault("away", EXIT_3),
    Fault("chatter", EXIT_3, slow=True),
)
CODES = re.findall(r'^ {8}"([^"]+)": ', ZOO, re.MULTILINE)
fresh = itertools.count(1)


def picture(action: str) -> bytes:
    """A picture that commands an action; never twice the same, so that its answer is never known."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (10 * CODES.index(action) + 5, next(fresh), 77)).save(buffer, "PNG")
    return buffer.getvalue()


class Faulty(Application):
    """The application with the operator's model, everything that it starts marked, and its output in a file."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.mark = f"FAULTS_{uuid.uuid4().hex}"
        (folder / "tmp").mkdir(parents=True)
        (folder / "zoo.py").write_text(textwrap.dedent(ZOO))
        (folder / "needs.py").write_text("import a_module_that_is_not_there\n")
        (folder / "ends.py").write_text("import sys, zoo\nzoo.note()\nsys.exit(4)\n")
        before = dict(os.environ)
        os.environ |= {self.mark: "1", "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(folder)}
        try:
            super().__init__(folder / "cache", *arguments)
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.server = psutil.Process(self.process.pid)
        self.reader = threading.Thread(target=self._drain)
        self.reader.start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError), (self.folder / "log").open("w") as log:
            for line in self.process.stderr:
                log.write(line[:2000])

    def end(self) -> None:
        """Kill the server, which takes everything along."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def state(self, model: str = "zoo:net") -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.url}state?model={model}", timeout=10).json()
        return found

    def worker(self) -> psutil.Process:
        """The only worker."""
        (found,) = [each for each in self.server.children() if "hookscope.dashboard.worker" in " ".join(each.cmdline())]
        return found

    def ready(self, model: str = "zoo:net", seconds: float = 90) -> None:
        until(lambda: self.state(model)["phase"] == "ready", seconds, f"for {model}: {self.state(model)['sentence']}")

    def upload(self, data: bytes) -> str:
        return str(requests.post(f"{self.url}upload?name=x.png", data=data, timeout=30).json()["key"])

    def when(self) -> float:
        """When the model's code did what it was told."""
        return float(until(lambda: (self.folder / "when").exists() and (self.folder / "when").read_text()))

    def marked(self) -> dict[int, str]:
        """Everything alive that this application started, however it left its parents; the server included."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if self.mark in process.environ():
                    found[process.pid] = " ".join(process.cmdline()[:5])
        return found

    def left(self, workers: int = 1) -> list[str]:
        """What is there beyond the server and so many healthy workers with the grandchild that each starts."""
        found = [f"a zombie {each.pid}" for each in self.server.children(recursive=True) if is_zombie(each)]
        if len(marked := self.marked()) != 1 + 2 * workers:
            found += [f"process {pid}: {command}" for pid, command in marked.items()]
        return found + self.files_left()

    def files_left(self) -> list[str]:
        """Temporary files, and shared memory that any of its processes has or left."""
        found = [str(path) for path in (self.folder / "tmp").glob("*") if not path.name.startswith("torchinductor_")]
        uploads = [path for path in (self.folder / "cache/inputs/incoming").glob("*/*") if path.name != "lock"]
        shared = {path.name for path in Path("/dev/shm").glob("*")} - SHARED_BEFORE
        ours = [name for name in shared if re.search(r"^(psm_|sem\.mp|torch_)", name)]
        return found + list(map(str, uploads)) + ours


SHARED_BEFORE = {path.name for path in Path("/dev/shm").glob("*")}


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Visit(threading.Thread):
    """A page that asks about a picture and one layer, and notes when each part of the answer came."""

    def __init__(self, application: Faulty, picture: bytes, layer: str = "moody", client: Client | None = None) -> None:
        super().__init__(daemon=True)
        self.client = client or Client(application.url, "zoo:net")
        self.key = application.upload(picture) if picture else ""
        self.seen: list[tuple[float, str, str]] = []
        changes = {"a": self.key} if picture else {}
        self.stream = self.client.ask(layers=[layer], **changes)
        self.start()

    def run(self) -> None:
        with contextlib.suppress(ConnectionError):  # some tests kill the server while a page waits
            for message in self.client.messages(self.stream):
                self.seen.append((time.time(), message["part"], json.dumps(message["updates"])))

    def told(self, said: str, seconds: float) -> float:
        """When the sentence came."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for at, _, text in list(self.seen):
                if re.search(said, text):
                    return at
            time.sleep(0.01)
        raise AssertionError(f"no {said!r} in {[text[:600] for _, _, text in self.seen]}")

    def answered(self, seconds: float) -> float:
        """When the whole answer was there, none of it an error."""
        self.join(seconds)
        assert not self.is_alive(), "no answer"
        last = {part: text for _, part, text in self.seen}
        assert not [text for text in last.values() if RETRY in text]
        assert '"bdata"' in last["card 0"]
        return self.seen[-1][0]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    started = Faulty(
        tmp_path_factory.mktemp("faults"), "--model", "zoo:net", "--job-timeout-seconds", str(LIMIT_SECONDS)
    )
    yield started
    started.end()


def patience() -> float:
    """How long a return may take: ten seconds; more, in proportion, where more programs run than there are cores."""
    return max(shared_limit(BACK_SECONDS), BACK_SECONDS * os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def cases() -> Iterator[Any]:
    for fault in FAULTS:
        name = f"{fault.action} {signal.Signals(fault.by_hand).name}" if fault.by_hand else fault.action
        yield pytest.param(fault, id=name, marks=[pytest.mark.slow] if fault.slow else [])


@pytest.mark.parametrize("fault", list(cases()))
def test_told_why_others_answered_back_and_nothing_left(application: Faulty, fault: Fault) -> None:
    application.ready()
    until(lambda: not application.left(), what=f"for order: {application.left()}")
    (application.folder / "when").unlink(missing_ok=True)
    worker = application.worker().pid
    files = application.server.num_fds()
    visit = Visit(application, picture(fault.action))
    happened = application.when()
    queued = Visit(application, picture("calm"))
    if fault.by_hand:
        happened = time.time()
        os.kill(worker, fault.by_hand)
    told = visit.told(fault.said, fault.limit_seconds + 30) - happened
    assert fault.limit_seconds <= told + 0.1 and told < fault.limit_seconds + limit(TOLD_SECONDS)
    visit.join(fault.limit_seconds + limit(TOLD_SECONDS))  # the other questions of that page are not tried one by one
    assert not visit.is_alive()
    back = queued.answered(60) - happened
    print(f"told after {told:.2f} s, another session answered after {back:.2f} s")
    assert back < fault.limit_seconds + patience()
    application.ready(seconds=5)
    assert (application.worker().pid != worker) == fault.ends
    if fault.ends:
        sentence = application.state()["sentence"]
        assert sentence.startswith("Ready. Restarted at ") and re.search(fault.said, sentence)
    until(lambda: not application.left(), 5, f"for nothing to be left: {application.left()}")
    until(lambda: application.server.num_fds() <= files, 5, "for the server's open files to be as before")


def test_a_result_that_cannot_be_sent_is_a_sentence(application: Faulty) -> None:
    application.ready()
    worker = application.worker().pid
    visit = Visit(application, picture("calm"), layer="odd")
    visit.told("odd", 30)
    visit.join(30)
    last = {part: text for _, part, text in visit.seen}
    assert re.search(r"output|tensor", last["card 0"]) and '"bdata"' not in last["card 0"]
    assert application.worker().pid == worker
    Visit(application, picture("calm")).answered(30)


def test_a_worker_that_dies_while_idle_is_said_and_replaced(application: Faulty) -> None:
    application.ready()
    worker = application.worker()
    killed = time.monotonic()
    worker.kill()
    until(lambda: "was killed (SIGKILL)" in application.state()["sentence"], 5)
    assert time.monotonic() - killed < limit(TOLD_SECONDS)
    application.ready()
    assert time.monotonic() - killed < patience()
    assert application.state()["sentence"].startswith("Ready. Restarted at ")
    until(lambda: not application.left(), 5, f"for nothing to be left: {application.left()}")


def test_the_kernel_takes_the_worker_before_the_server(application: Faulty) -> None:
    application.ready()

    def wish(process: psutil.Process) -> int:
        return int(Path(f"/proc/{process.pid}/oom_score_adj").read_text())

    assert wish(application.worker()) >= wish(application.server) + 500
    assert wish(application.worker().children()[0]) == wish(application.worker())  # what it starts, too


def test_what_stopped_the_worker_twice_is_refused_at_once(application: Faulty) -> None:
    application.ready()
    client = Client(application.url, "zoo:net")
    first = Visit(application, picture("exit"), client=client)
    for _ in range(2):
        first.told(EXIT_3, 30)
        first.join(30)
        application.ready()
        client.drawn.clear()
        first = Visit(application, b"", client=client)
    first.told("stopped the worker 2 times in the last ten minutes, so it is refused for another", limit(TOLD_SECONDS))
    Visit(application, picture("calm")).answered(60)


# --- a model that cannot be loaded

LOAD_FAULTS = {
    "zoo:raises": r"^zoo:raises failed: RuntimeError: there is no such thing",
    "needs:net": r"^needs needs the module 'a_module_that_is_not_there', which is not installed",
    "ends:net": r"SystemExit: 4",
    "zoo:leaves": r"SystemExit: 6",
    "zoo:dies": r"ended by itself with exit code 9 while loading the model",
    "zoo:hangs": rf"said nothing for {LOAD_LIMIT_SECONDS} s and was stopped while loading the model",
}


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    models = [argument for model in ("zoo:net", *LOAD_FAULTS) for argument in ("--model", model)]
    timeout = ("--load-timeout-seconds", str(LOAD_LIMIT_SECONDS))
    started = Faulty(tmp_path_factory.mktemp("loader"), *models, *timeout)
    yield started
    started.end()


@pytest.mark.parametrize(
    "model", [pytest.param(model, marks=[pytest.mark.slow] if "hangs" in model else []) for model in LOAD_FAULTS]
)
def test_a_model_that_cannot_be_loaded_says_why_and_leaves_nothing(loader: Faulty, model: str) -> None:
    loader.ready()
    (loader.folder / "when").unlink(missing_ok=True)
    allowed = LOAD_LIMIT_SECONDS if "hangs" in model else 0.0
    until(lambda: re.search(LOAD_FAULTS[model], loader.state(model)["sentence"]), 90, f"for {model}'s reason")
    if model != "needs:net":  # which does nothing of its own
        told = time.time() - loader.when()
        print(f"told after {told:.2f} s")
        assert told < allowed + limit(TOLD_SECONDS)
    until(lambda: loader.state(model)["phase"] == "failed", 60, "for the last attempt")
    assert re.search(LOAD_FAULTS[model], loader.state(model)["sentence"])  # the reason is kept
    until(lambda: not loader.left(), 5, f"for nothing to be left: {loader.left()}")
    Visit(loader, picture("calm")).answered(30)


def test_restarts_wait_longer_each_time_and_never_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def no_worker(*_: object) -> NoReturn:
        raise WorkerEnded("ended by itself with exit code 1")

    def pause(supervisor: supervisor_module.Supervisor, seconds: float) -> None:
        pauses.append(seconds)
        supervisor.phase = "ready"  # as if it had loaded its model before it ended
        if len(pauses) == 8:
            supervisor._shared.closing.set()

    monkeypatch.setattr(supervisor_module.Supervisor, "_pause", pause)
    engine = LocalEngine([ModelOptions("embedded")], start_worker=no_worker)
    engine.open("embedded")
    until(lambda: len(pauses) == 8, 5)
    engine.close()
    assert pauses == sorted(pauses) and pauses[0] == 0 and pauses[1] > 0
    assert max(pauses) + 5 < BACK_SECONDS  # with the start itself


def test_a_load_that_hung_is_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[float] = []

    def hangs(*_: object) -> NoReturn:
        started.append(time.monotonic())
        raise supervisor_module.Hung("said nothing for 300 s and was stopped")

    engine = LocalEngine([ModelOptions("embedded")], start_worker=hangs)
    engine.open("embedded")
    until(lambda: engine.state("embedded").phase == "failed", 5)
    assert len(started) == 1
    assert "said nothing for 300 s and was stopped while loading the model" in engine.state("embedded").sentence
    engine.close()


# --- the server itself is killed


@pytest.mark.parametrize("state", ["loading", "idle", "hang with the GIL"])
def test_a_killed_server_takes_its_worker_and_what_that_started_along(tmp_path: Path, state: str) -> None:
    application = Faulty(tmp_path, "--model", "zoo:net")
    if state == "loading":
        until(lambda: len(application.marked()) == 2)
    else:
        application.ready()
        if state == "hang with the GIL":
            Visit(application, picture(state))
            application.when()
    before = application.marked()
    killed = time.monotonic()
    application.end()
    until(lambda: not application.marked(), 5, f"for {before} to go")
    print(f"all gone after {time.monotonic() - killed:.2f} s")
    assert application.files_left() == []


# --- the default model


def test_the_default_model_is_back_after_kill_9(tmp_path: Path) -> None:
    application = Faulty(tmp_path, "--model", "embedded")
    application.ready("embedded")
    keys = [application.upload((SAMPLES / name).read_bytes()) for name in ("coffee.png", "chelsea.png")]
    pages = [Client(application.url, "embedded") for _ in keys]
    worker = application.worker()
    os.kill(worker.pid, signal.SIGSTOP)  # so that it is in the middle of something
    streams = [page.ask(a=key, layers=["conv_head"]) for page, key in zip(pages, keys, strict=True)]
    until(lambda: application.state("embedded")["phase"] == "computing")
    killed = time.time()
    worker.kill()
    seen = [(time.time(), json.dumps(message["updates"])) for message in pages[0].messages(streams[0])]
    told = min(at for at, text in seen if "was killed (SIGKILL)" in text) - killed
    second = {message["part"]: json.dumps(message["updates"]) for message in pages[1].messages(streams[1])}
    back = time.time() - killed
    print(f"told after {told:.2f} s, another session answered after {back:.2f} s")
    assert told < limit(TOLD_SECONDS) and back < patience()
    assert not any(RETRY in text for text in second.values()) and '"bdata"' in second["card 0"]
    assert len(application.marked()) == 2 and application.files_left() == []
    application.end()
    until(lambda: not application.marked(), 5)


def removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


@pytest.mark.slow  # needs root, for a limit on memory that the kernel enforces
def test_out_of_memory_the_kernel_takes_the_worker_and_it_is_said(tmp_path: Path) -> None:
    group = Path("/sys/fs/cgroup/memory") / f"hookscope-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(1_500_000_000))
    except OSError:
        pytest.skip("memory cannot be limited here")
    application = Faulty(tmp_path, "--model", "zoo:net")
    try:
        for pid in application.marked():
            (group / "cgroup.procs").write_text(str(pid))
        application.ready()
        visit = Visit(application, picture("eat"))
        queued = Visit(application, picture("calm"))
        visit.told("was killed because the machine ran out of memory while computing", 60)
        queued.answered(60)
        assert application.process.poll() is None
    finally:
        application.end()
        until(lambda: removed(group), 10, "for the group to be empty")
