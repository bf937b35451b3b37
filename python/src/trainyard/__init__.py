"""What a program that trains under Trainyard may tell and ask its agent.

Import it early and in the main thread: from then on the process handles the signal by which the
agent asks for a checkpoint. Outside of Trainyard every function works and does nothing.
"""

import atexit
import json
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, Optional

__all__ = ["checkpoint_path", "report", "restore_path", "should_checkpoint", "should_stop"]

# Seconds between two writes of the heartbeat: the agent looks no oftener, and steps may be short.
_REPORT_EVERY = 0.1

_asked = threading.Event()
# Whether the program was told of a checkpoint after which it may leave.
_stops = threading.Event()
# Whether it tells such checkpoints apart from others.
_asks_whether_to_stop = False


def should_checkpoint() -> bool:
    """Whether the agent has asked for a checkpoint since the last call that said so.

    It asks before it ends the workers, for an interruption of the machine among others
    (`should_stop()`), and, in a job with `checkpoint.interval`, again and again as the training goes
    on: that it tells to programs alone that call `should_stop()` as well, since others may leave
    whenever they have saved. Ranks are asked one after another, and some are not asked at all: let
    them agree, by a sum or a maximum over all, before they save.
    """
    wanted = _asks_whether_to_stop and _request.is_new()
    if _asked.is_set():
        _asked.clear()
        _stops.set()
        return True
    return wanted


def should_stop() -> bool:
    """Whether the last checkpoint was asked for because the workers are about to be ended.

    A program that has saved it may leave. Ask after `should_checkpoint()`, and let ranks agree on both.
    """
    global _asks_whether_to_stop
    _asks_whether_to_stop = True
    return _stops.is_set()


def report(step: int, loss: Optional[Any] = None) -> None:
    """Says that `step` is done, and its loss, which may be a number or a tensor of one.

    The agent computes steps/s and goodput from it, and takes it for a sign of life where the job
    has `progress.timeout`. Steps that follow within a tenth of a second are told together. Of
    several processes of a worker, the first alone is heard.
    """
    _reporter.report(step, loss)


def checkpoint_path() -> Optional[Path]:
    """The job's folder for checkpoints; none if it has no `checkpoint.path`."""
    return _path("TRAINYARD_CHECKPOINT_PATH")


def restore_path() -> Optional[Path]:
    """The newest good checkpoint of the job's store, as it was when the program started.

    None at the first start, and where the job has no `checkpoint.uri`: look into
    `checkpoint_path()` there.
    """
    return _path("TRAINYARD_RESTORE_PATH")


def _path(name: str) -> Optional[Path]:
    value = os.environ.get(name)
    return Path(value) if value else None


def _local_rank() -> str:
    # What a launcher such as torchrun says comes first: the agent has started only that.
    names = ("OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK", "TRAINYARD_LOCAL_RANK")
    return next((os.environ[name] for name in names if name in os.environ), "0")


class _Request:
    """The file that the agent writes anew each time that it wants a checkpoint while the training goes on."""

    def __init__(self) -> None:
        self._file = os.environ.get("TRAINYARD_CHECKPOINT_REQUEST_FILE")
        self._seen = None

    def is_new(self) -> bool:
        if not self._file:
            return False
        try:
            written = os.stat(self._file).st_mtime_ns
        except OSError:
            # It has not been asked yet.
            return False
        is_new = written != self._seen
        self._seen = written
        return is_new


class _Reporter:
    def __init__(self) -> None:
        file = os.environ.get("TRAINYARD_HEARTBEAT_FILE")
        is_first = _local_rank() == "0"
        self._file = file if file and is_first else None
        self._lock = threading.Lock()
        self._pending = None
        self._written = -math.inf
        # A process forked off, such as a data loader's, reports nothing.
        self._process = os.getpid()

    def report(self, step: int, loss: Optional[Any]) -> None:
        if self._file is None or self._process != os.getpid():
            return
        with self._lock:
            self._pending = (step, loss)
            if time.monotonic() - self._written >= _REPORT_EVERY:
                self._write()

    def flush(self) -> None:
        with self._lock:
            if self._pending is not None and self._process == os.getpid():
                self._write()

    def _write(self) -> None:
        step, loss = self._pending
        self._pending = None
        beat = {"step": int(step)}
        if loss is not None and math.isfinite(number := float(loss)):
            beat["loss"] = number
        # The agent must never read half of it. A full disk must not end a training.
        staged = f"{self._file}.{self._process}"
        try:
            with open(staged, "w") as file:
                json.dump(beat, file)
            os.replace(staged, self._file)
        except OSError:
            pass
        self._written = time.monotonic()


def _listen() -> None:
    name = os.environ.get("TRAINYARD_CHECKPOINT_SIGNAL")
    number = getattr(signal, name, None) if name else None
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    # What the program handles by itself stays so.
    if signal.getsignal(number) is signal.SIG_DFL:
        signal.signal(number, lambda *_: _asked.set())


_request = _Request()
_reporter = _Reporter()
atexit.register(_reporter.flush)
_listen()
