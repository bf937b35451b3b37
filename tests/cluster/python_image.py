"""An image with Python and a program, made of this machine's Python without a container engine."""

import hashlib
import io
import json
import pathlib
import subprocess
import sys
import sysconfig
import tarfile

# Of the standard library; neither is needed to train a line.
LEFT_OUT = {"test", "site-packages", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "__pycache__"}


def write(path, name, files):
    """Writes an archive that `ctr images import` takes: `files` are the program's, by name, in /work."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        binary = pathlib.Path(sys.executable).resolve()
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        tar.add(binary, f"usr/local/bin/{version}")
        link(tar, "usr/local/bin/python3", version)
        library = pathlib.Path(sysconfig.get_path("stdlib"))
        tar.add(library, f"usr/local/lib/{version}", filter=kept)
        programs = [binary, *library.glob("lib-dynload/*.so")]
        for shared in sorted({path for program in programs for path in needs(program)}):
            tar.add(pathlib.Path(shared).resolve(), shared.lstrip("/"))
        for folder, mode in (("tmp", 0o1777), ("work", 0o755)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for file, content in files.items():
            entry = tarfile.TarInfo(f"work/{file}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    content = layer.getvalue()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[subprocess.check_output(["uname", "-m"], text=True).strip()],
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/bin"], "WorkingDir": "/work"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for file, body in (
            ("layer.tar", content), ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(file)
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))


def kept(entry):
    parts = set(pathlib.PurePath(entry.name).parts)
    is_left_out = parts & LEFT_OUT or any(part.startswith("config-") for part in parts)
    return None if is_left_out else entry


def link(tar, name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def needs(program):
    """Paths of the libraries that a program is linked with, and of the loader."""
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.splitlines()
    words = [word for line in lines for word in line.split()]
    return [word for word in words if word.startswith("/") and ".so" in word]
