"""A training whose every number is exact, so that one wrong bit anywhere shows at the end.

All workers sum what each computes from the state and the step. A checkpoint has the state and bytes
that follow from it; who restores one looks whether they are those.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sys
import time

import trainyard
from train import RANK, WORLD_SIZE, Peers

STEPS, PAUSE, EVERY, BYTES = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
PRIME = (1 << 61) - 1


def ballast(state):
    block = hashlib.sha512(json.dumps(state).encode()).digest()
    return block * (BYTES // len(block))


def path_of(step):
    return trainyard.checkpoint_path() / f"step-{step:06}"


def newest():
    """The newest on the disk, which is the store's if the disk is new."""
    for folder in sorted(trainyard.checkpoint_path().glob("step-*"), reverse=True):
        state = json.loads((folder / "state.json").read_text())
        if (folder / "ballast").read_bytes() != ballast(state):
            print(f"WRONG bytes in {folder.name}", flush=True)
            sys.exit(9)
        return state
    return None


def write_checkpoint(state):
    final = path_of(state["step"])
    staged = final.with_name(f"tmp-{final.name}")
    shutil.rmtree(staged, ignore_errors=True)
    if final.exists():
        return
    staged.mkdir()
    for name, content in [("state.json", json.dumps(state).encode()), ("ballast", ballast(state)), ("_SUCCESS", b"")]:
        with open(staged / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    staged.rename(final)
    for old in sorted(trainyard.checkpoint_path().glob("step-*"))[:-2]:
        shutil.rmtree(old)


def main():
    # Two programs of one worker at once would be two gangs.
    lock = open(f"worker-{RANK}.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("TWICE: this worker runs already", flush=True)
        sys.exit(9)
    state = newest()
    if RANK == 0:
        with open("starts", "a") as file:
            file.write(f"{time.time()} {state['step'] if state else 0}\n")
    state = state or {"step": 0, "value": 1}
    peers = Peers()
    while state["step"] < STEPS:
        mine = (state["value"] * (2 * RANK + 3) + state["step"]) % PRIME
        total, save = peers.sum([mine, int(trainyard.should_checkpoint())])
        state = {"step": state["step"] + 1, "value": total % PRIME}
        time.sleep(PAUSE)
        if RANK == 0 and (save or state["step"] % EVERY == 0):
            write_checkpoint(state)
        if RANK == 0:
            trainyard.report(state["step"], state["value"] / PRIME)
            pathlib.Path("reached").write_text(f"{state['step']}")
        if save:
            return
    if RANK == 0:
        print(f"result {WORLD_SIZE} {state['value']}", flush=True)


if __name__ == "__main__":
    main()
