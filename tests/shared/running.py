"""Runs programs as people do: to their end, with what they print."""

import subprocess


def run(command, check=True, timeout=120, text=None, **options):
    """`text` is what the program reads on its standard input; nothing if it is none."""
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )
    if check:
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done
