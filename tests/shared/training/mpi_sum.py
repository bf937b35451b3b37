"""Sums over all ranks of Open MPI again and again, and says so if the sums are right.

By ctypes: mpirun and its library are all that is needed. With the checkpoint's signal at any rank, all
leave together after the same step. Arguments: steps, and seconds between them, of the first attempt;
later ones take one step.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import socket
import sys
import time

steps, pause = int(sys.argv[1]), float(sys.argv[2])
if os.environ["TRAINYARD_ATTEMPT"] != "1":
    steps = 1
asked = False


def ask(*_):
    global asked
    asked = True


signal.signal(signal.SIGUSR1, ask)
mpi = ctypes.CDLL(str(pathlib.Path(shutil.which("mpirun")).parent.parent / "lib/libmpi.so.40"), ctypes.RTLD_GLOBAL)


def of_mpi(name):
    """What a name of `mpi.h` stands for: the address of an object of the library."""
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, f"ompi_mpi_{name}")))


def over_all(value, operation):
    given, result = ctypes.c_long(value), ctypes.c_long()
    failed = mpi.MPI_Allreduce(
        ctypes.byref(given), ctypes.byref(result), 1, of_mpi("long"), of_mpi(f"op_{operation}"), of_mpi("comm_world")
    )
    assert not failed
    return result.value


def number(name):
    value = ctypes.c_int()
    assert not getattr(mpi, name)(of_mpi("comm_world"), ctypes.byref(value))
    return value.value


assert not mpi.MPI_Init(None, None)
rank, size = number("MPI_Comm_rank"), number("MPI_Comm_size")
where = f"{os.environ['TRAINYARD_WORKER']} of {os.environ['TRAINYARD_WORKERS']}"
print(f"rank {rank} of {size} is at worker {where} on {socket.gethostname()}", flush=True)
for step in range(steps):
    assert over_all(rank + 1, "sum") == size * (size + 1) // 2
    if over_all(int(asked), "max"):
        print(f"rank {rank} saves after step {step}", flush=True)
        break
    if rank == 0 and step == 0:
        pathlib.Path(os.environ["TRAINYARD_HEARTBEAT_FILE"]).write_text('{"step": 0}')
        print("the first step is done", flush=True)
    time.sleep(pause)
else:
    if rank == 0:
        print(f"summed over {size} ranks, {size * (size + 1) // 2}", flush=True)
assert not mpi.MPI_Finalize()
