"""Where the frameworks of training are, on this machine."""

import functools
import os
import shutil
import subprocess
import sys

import pytest


@functools.cache
def python_with(module):
    """An interpreter that has a module: this one, or the system's (Debian's python3-torch)."""
    named = os.environ.get(f"TRAINYARD_TEST_{module.upper()}_PYTHON")
    for python in [named, sys.executable, "/usr/bin/python3"]:
        if python and shutil.which(python):
            if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
                return python
    pytest.skip(f"no Python here has {module}")
