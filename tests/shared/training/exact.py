"""A training whose every number is exact, so that one wrong bit shows, and that tells all it does.

All ranks sum what each computes from the state and the step; the first one's state holds for all, as in
trainings that broadcast their weights. A checkpoint has the state and bytes that follow from it. Every
start, step and end is told to NOTES (HOST:PORT) in a datagram, which nobody has to hear.

Arguments: steps, seconds of a step, steps between two checkpoints (0: only when asked), bytes of a checkpoint.
"""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import time
import uuid

STEPS, PAUSE, EVERY, BYTES = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
RANK, WORLD_SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
FIRST = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
FOLDER = pathlib.Path(os.environ["TRAINYARD_CHECKPOINT_PATH"])
HEARTBEAT = os.environ.get("TRAINYARD_HEARTBEAT_FILE")
REQUEST = os.environ.get("TRAINYARD_CHECKPOINT_REQUEST_FILE")
HOST, _, PORT = os.environ["NOTES"].rpartition(":")
PRIME = (1 << 61) - 1
# Without one, a rank waits for ever for another one whose machine is gone.
TIMEOUT = 30

who = {"job": os.environ["JOB"], "rank": RANK, "attempt": os.environ.get("TRAINYARD_ATTEMPT", ""), "life": uuid.uuid4().hex}
notes = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked = False


def note(what, **more):
    try:
        notes.sendto(json.dumps({**who, "at": time.time(), "what": what, **more}).encode(), (HOST, int(PORT)))
    except OSError:  # Its node is cut off.
        pass


def ask(*_):
    global asked
    asked = True


class Request:
    """The file that changes when a checkpoint is wanted, and the training to go on."""

    def __init__(self):
        self.seen = None

    def is_new(self):
        try:
            before, self.seen = self.seen, os.stat(REQUEST).st_mtime_ns if REQUEST else None
        except FileNotFoundError:
            return False
        return before != self.seen


class Peers:
    """Sums lists of numbers over all ranks: all send to the first, which sends the sums back."""

    def __init__(self):
        deadline = time.monotonic() + TIMEOUT
        if RANK == 0:
            with socket.create_server(("", FIRST[1])) as server:
                server.settimeout(TIMEOUT)
                sockets = [server.accept()[0] for _ in range(WORLD_SIZE - 1)]
        else:
            sockets = [self.connect(deadline)]
        for it in sockets:
            it.settimeout(TIMEOUT)
        self.files = [(it.makefile("r"), it.makefile("w")) for it in sockets]

    @staticmethod
    def connect(deadline):
        while True:
            try:
                return socket.create_connection(FIRST, timeout=5)
            except OSError:  # The first one still starts, or has no name yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def sum(self, values):
        if RANK > 0:
            self.send(self.files[0], values)
            return self.receive(self.files[0])
        for file in self.files:
            values = [a + b for a, b in zip(values, self.receive(file))]
        for file in self.files:
            self.send(file, values)
        return values

    @staticmethod
    def send(file, values):
        file[1].write(json.dumps(values) + "\n")
        file[1].flush()

    @staticmethod
    def receive(file):
        line = file[0].readline()
        if not line:
            raise ConnectionError("another rank is gone")
        return json.loads(line)


def ballast(state):
    block = hashlib.sha512(json.dumps(state).encode()).digest()
    return block * (BYTES // len(block))


def newest():
    for folder in sorted(FOLDER.glob("step-*"), reverse=True):
        state = json.loads((folder / "state.json").read_text())
        if (folder / "ballast").read_bytes() != ballast(state):
            note("wrong", step=state["step"])
            sys.exit(f"wrong bytes in {folder}")
        return state
    return {"step": 0, "value": 1}


def write_checkpoint(state):
    """A disk that is full costs this checkpoint, and not the training."""
    final = FOLDER / f"step-{state['step']:06}"
    staged = final.with_name(f"tmp-{final.name}")
    if final.exists():
        return
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        for name, content in [("state.json", json.dumps(state).encode()), ("ballast", ballast(state)), ("_SUCCESS", b"")]:
            with open(staged / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        staged.rename(final)
    except OSError as error:
        note("not saved", step=state["step"], error=str(error))
        return
    note("saved", step=state["step"])
    for old in sorted(FOLDER.glob("step-*"))[:-2]:
        shutil.rmtree(old, ignore_errors=True)


def main():
    signal.signal(signal.SIGUSR1, ask)
    FOLDER.mkdir(parents=True, exist_ok=True)
    state = newest()
    note("begins", step=state["step"])
    peers = Peers()
    step, value = peers.sum([state["step"], state["value"]] if RANK == 0 else [0, 0])
    note("together", step=step, world=WORLD_SIZE)
    request = Request()
    while step < STEPS:
        mine = (value * (2 * RANK + 3) + step) % PRIME
        total, stop, save = peers.sum([mine, int(asked), int(request.is_new())])
        step, value = step + 1, total % PRIME
        time.sleep(PAUSE)
        if RANK == 0:
            note("step", step=step)
            if stop or save or EVERY and step % EVERY == 0:
                write_checkpoint({"step": step, "value": value})
            if HEARTBEAT:
                pathlib.Path(HEARTBEAT).write_text(json.dumps({"step": step}))
        if stop:
            return
    note("over", step=step, value=value)
    print(f"result {value}", flush=True)


if __name__ == "__main__":
    main()
