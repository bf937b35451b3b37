"""Fills the disk of a pod's checkpoints, and makes room again; for `training_chaos.py`.

    python disk_of_a_pod.py PROCESS full|room [PROCESS …]

as root. PROCESS is one of the pod, whose image has no tools: its mounts are changed from outside. The
first time a small disk of its own, with all that is there, is put in the place of the pod's folder, and
the other processes, which use the folder, stand still meanwhile.
"""

import ctypes
import os
import pathlib
import signal
import sys

FOLDER = pathlib.Path("/opt/trainyard/checkpoints")
CLONE_NEWNS, MS_REMOUNT = 0x20000, 32
ROOM, REST = 256 << 20, 300 << 10
PAGE = 4096

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(size, flags=0):
    check(libc.mount(b"tmpfs", bytes(FOLDER), b"tmpfs", flags, f"size={size},mode=0777".encode()))


def fill(is_ours):
    """Leaves a rest of the disk, which is less than a checkpoint."""
    there = [(path, path.stat()) for path in sorted(FOLDER.rglob("*"))]
    contents = {path: path.read_bytes() for path, _ in there if path.is_file()}
    used = sum((len(it) + PAGE - 1) // PAGE * PAGE for it in contents.values())
    if is_ours:
        mount(used + REST, MS_REMOUNT)
        return
    mount(used + REST)
    for path, _ in there:
        path.write_bytes(contents[path]) if path in contents else path.mkdir()
    # Times of folders too: what changes is looked at anew. The deepest first.
    for path, stat in reversed(there):
        os.chown(path, stat.st_uid, stat.st_gid)
        path.chmod(stat.st_mode & 0o7777)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def main():
    process, what, *users = sys.argv[1:]
    is_ours = f"tmpfs {FOLDER} tmpfs" in pathlib.Path(f"/proc/{process}/mounts").read_text()
    namespace = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY)
    for user in users:
        os.kill(int(user), signal.SIGSTOP)
    try:
        check(libc.setns(namespace, CLONE_NEWNS))
        if what == "full":
            fill(is_ours)
        elif is_ours:
            mount(ROOM, MS_REMOUNT)
    finally:
        for user in users:
            os.kill(int(user), signal.SIGCONT)


if __name__ == "__main__":
    main()
