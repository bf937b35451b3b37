"""Sixty-four clients inside the cluster's network until the input ends: python under_load.py ADDRESS PATH BODY

Prints what `load.Load` has counted, as JSON.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "local"))

from load import Load  # noqa: E402

address, path, body = sys.argv[1:]
with Load(address, path, body.encode(), lambda answer: answer["model_name"]) as load:
    sys.stdin.read()
print(json.dumps({"answered": load.answered, "failures": load.failures[:20], "lost": len(load.failures)}))
