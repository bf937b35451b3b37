"""An image with Python and a program, made of this machine's Python without a container engine."""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

# Of the standard library; neither is needed to train a line.
LEFT_OUT = {"test", "site-packages", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "__pycache__"}


# Run by the interpreter that the image is to have.
LOOK = """
import importlib, json, os, sys, sysconfig
for name in sys.argv[1:]:
    importlib.import_module(name)
files = {os.path.realpath(at) for it in list(sys.modules.values()) if (at := getattr(it, "__file__", None))}
homes = [at for at in sys.path if os.path.basename(at) in ("site-packages", "dist-packages")]
roots = {(home, file[len(home) + 1:].split("/")[0]) for home in map(os.path.realpath, homes)
         for file in files if file.startswith(home + "/")}
maps = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({
    "binary": os.path.realpath(sys.executable), "version": "python%d.%d" % sys.version_info[:2],
    "library": sysconfig.get_path("stdlib"), "roots": sorted(roots), "maps": sorted(maps),
}))
"""


def write(path, name, files, python=sys.executable, modules=(), trees=()):
    """Writes an archive that `ctr images import` takes: `files` are the program's, by name, in /work.

    The packages are those that importing the modules in that interpreter loads. `trees` are files and
    folders, and where they are to be; programs and libraries among them bring what they need."""
    said = subprocess.run([python, "-c", LOOK, *modules], check=True, capture_output=True, text=True).stdout
    there = json.loads(said.splitlines()[-1])
    version, library = there["version"], pathlib.Path(there["library"])
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        binary = pathlib.Path(there["binary"])
        tar.add(binary, f"usr/local/bin/{version}")
        link(tar, "usr/local/bin/python3", version)
        tar.add(library, f"usr/local/lib/{version}", filter=kept)
        packages = [pathlib.Path(home) / root for home, root in there["roots"]]
        packages += [libraries for root in packages if (libraries := root.with_name(f"{root.name}.libs")).exists()]
        packages += [at for home in {root.parent for root in packages} for at in home.glob("*.dist-info")]
        programs = {binary, *library.glob("lib-dynload/*.so")}
        for package in packages:
            # Debian's Python looks for packages in folders of its own name only.
            add_package(tar, package, f"usr/local/lib/{version}/{package.parent.name}/{package.name}")
            programs |= {it for it in package.rglob("*.so*") if it.is_file()}
        for source, destination in trees:
            tar.add(source, destination, filter=without_caches)
            below = [it for it in (source, *source.rglob("*")) if it.is_file()]
            programs |= {it for it in below if ".so" in it.name or it.parent.name == "bin"}
        there_already = (library, *packages, *(source for source, _ in trees))
        loaded = {pathlib.Path(it) for it in there["maps"]}
        # Of what is mapped only the files' names are known; those that it is linked with go by others.
        shared = loaded | {it.resolve() for it in programs - {binary}} | {it for program in programs | loaded for it in needs(program)}
        shared = {it for it in shared if not any(it.is_relative_to(at) for at in there_already)}
        for file in sorted({it.resolve() for it in shared}):
            tar.add(file, str(file).lstrip("/"))
        for at in sorted(shared):
            if at.resolve() != at:
                link(tar, str(at).lstrip("/"), str(at.resolve()))
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


def add_package(tar, package, destination):
    """Adds a package. Of its links that leave it those to files stay links, for who adds the files too;
    those to folders are left out, which hold headers and tests."""

    def inside(entry):
        source = package / pathlib.PurePosixPath(entry.name).relative_to(destination)
        if entry.issym() and not (file := source.resolve()).is_relative_to(package):
            if not file.is_file():
                return None
            entry.linkname = str(file)
        return without_caches(entry)

    tar.add(package, destination, filter=inside)


def kept(entry):
    parts = set(pathlib.PurePath(entry.name).parts)
    is_left_out = parts & LEFT_OUT or any(part.startswith("config-") for part in parts)
    return None if is_left_out else entry


def without_caches(entry):
    return None if "__pycache__" in entry.name.split("/") else entry


def link(tar, name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def needs(program):
    """Paths of the libraries that a program is linked with, and of the loader."""
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.splitlines()
    words = [word for line in lines for word in line.split()]
    return {pathlib.Path(os.path.normpath(word)) for word in words if word.startswith("/") and ".so" in word}
