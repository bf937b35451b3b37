"""Clients inside the cluster's network until the input ends: under_load.py ADDRESS PATH BODY CLIENTS PAUSE [HOST]

Prints twice a second, and at the end, what `load.Load` has counted, as a line of JSON.
"""

import json
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "local"))

from load import Load  # noqa: E402


def who(answer):
    """What tells answers apart: the model's name, or all of a server's own word."""
    return answer if isinstance(answer, str) else answer["model_name"]


def counted(load):
    failures = list(load.failures)
    return json.dumps(
        {
            "at": time.time(), "answered": load.answered, "seen": dict(load.seen),
            "failures": failures[:20], "lost": len(failures),
        }
    )


address, path, body, clients, pause = sys.argv[1:6]
host = sys.argv[6] if len(sys.argv) > 6 else None
ended = threading.Event()


def tell(load):
    while not ended.wait(0.5):
        print(counted(load), flush=True)


with Load(address, path, body.encode(), who, int(clients), float(pause), host) as load:
    teller = threading.Thread(target=tell, args=(load,))
    teller.start()
    sys.stdin.read()
    ended.set()
    teller.join()
print(counted(load), flush=True)
