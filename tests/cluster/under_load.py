"""Clients inside the cluster's network until the input ends: under_load.py ADDRESS PATH BODY CLIENTS PAUSE

Prints what `load.Load` has counted, as JSON.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "local"))

from load import Load  # noqa: E402

address, path, body, clients, pause = sys.argv[1:]
right = lambda answer: answer["model_name"]
with Load(address, path, body.encode(), right, int(clients), float(pause)) as load:
    sys.stdin.read()
print(json.dumps({"answered": load.answered, "failures": load.failures[:20], "lost": len(load.failures)}))
