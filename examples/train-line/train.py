"""Fits y = 3x - 1 to points by gradient descent, on all workers of a TrainingJob.

Each worker has points of its own; gradients are summed over a socket of the first worker. It needs
nothing but Python. A checkpoint is written every 20 steps and when Trainyard asks for one, by the first worker;
a training that was interrupted goes on from the newest.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import time

RANK = int(os.environ["RANK"])
WORLD_SIZE = int(os.environ["WORLD_SIZE"])
FIRST = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
FOLDER = os.environ["TRAINYARD_CHECKPOINT_PATH"]
HEARTBEAT = os.environ["TRAINYARD_HEARTBEAT_FILE"]


class Peers:
    """Sums lists of numbers over all workers: all send to the first, which sends the sums back."""

    def __init__(self):
        self.files = []
        if RANK == 0:
            with socket.create_server(FIRST) as server:
                for _ in range(WORLD_SIZE - 1):
                    self.files.append(server.accept()[0].makefile("rw"))
            return
        deadline = time.monotonic() + 60
        while True:
            try:
                self.files.append(socket.create_connection(FIRST).makefile("rw"))
                return
            except OSError:  # The first worker is still starting, or has no name yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

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
        file.write(json.dumps(values) + "\n")
        file.flush()

    @staticmethod
    def receive(file):
        line = file.readline()
        if not line:
            raise ConnectionError("another worker is gone")
        return json.loads(line)


def checkpoints():
    """Folders of checkpoints, the oldest first."""
    return sorted(name for name in os.listdir(FOLDER) if name.startswith("step-"))


def newest():
    """The state to go on from; none at the start."""
    # On one machine all workers see one folder; elsewhere each has its own, with what was restored.
    if not checkpoints():
        return None
    with open(os.path.join(FOLDER, checkpoints()[-1], "state.json")) as file:
        return json.load(file)


def write_checkpoint(state):
    """Writes a checkpoint under another name first: what has its own is whole."""
    name = f"step-{state['step']:08}"
    staged, final = os.path.join(FOLDER, f"tmp-{name}"), os.path.join(FOLDER, name)
    shutil.rmtree(staged, ignore_errors=True)
    os.mkdir(staged)
    write(os.path.join(staged, "state.json"), state)
    write(os.path.join(staged, "_SUCCESS"), {})
    if not os.path.exists(final):
        os.rename(staged, final)
    for old in checkpoints()[:-3]:
        shutil.rmtree(os.path.join(FOLDER, old))


def write(path, content):
    """Replaces a file as a whole: who reads it sees the old content or the new one."""
    with open(path + ".new", "w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds that a step takes")
    options = parser.parse_args()

    asked = False

    def ask(*_):
        nonlocal asked
        asked = True

    signal.signal(signal.SIGUSR1, ask)
    # Before workers meet: the first writes new ones as soon as they have.
    state = newest()
    if state:
        print(f"goes on from step {state['step']}", flush=True)
    state = state or {"step": 0, "slope": 0.0, "offset": 0.0}

    peers = Peers()
    while state["step"] < options.steps:
        # The same points in the same step, whatever happened before.
        points = random.Random(state["step"] * WORLD_SIZE + RANK)
        xs = [points.uniform(-1, 1) for _ in range(32)]
        errors = [state["slope"] * x + state["offset"] - (3 * x - 1) for x in xs]
        slope = sum(e * x for e, x in zip(errors, xs)) / len(xs)
        offset = sum(errors) / len(xs)
        loss = sum(e * e for e in errors) / len(xs)
        # Workers agree on whether to save, so that none goes on alone.
        slope, offset, loss, save = peers.sum([slope, offset, loss, int(asked)])
        state["slope"] -= 0.1 * slope / WORLD_SIZE
        state["offset"] -= 0.1 * offset / WORLD_SIZE
        state["step"] += 1
        time.sleep(options.pause)
        if RANK == 0 and (save or state["step"] % 20 == 0):
            write_checkpoint(state)
        if RANK == 0:
            write(HEARTBEAT, {"step": state["step"], "loss": loss / WORLD_SIZE})
            if state["step"] % 20 == 0:
                print(f"step {state['step']} loss {loss / WORLD_SIZE:.6f}", flush=True)
        if save:
            print(f"saved at step {state['step']}, as asked", flush=True)
            return
    if RANK == 0:
        print(f"y = {state['slope']:.3f} x + {state['offset']:.3f}", flush=True)


if __name__ == "__main__":
    main()
