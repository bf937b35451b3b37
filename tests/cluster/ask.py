"""Runs inside the cluster's network: creates each object of a list, which it reads as JSON, and prints
what the API server says to each; nothing if it takes it.

One program for all of them, where kubectl would take a second for each three.
"""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent / "operator"))

from api import Api, ApiError  # noqa: E402  (its folder was added above)


def main(path):
    api = Api()
    said = []
    for document in json.load(sys.stdin):
        try:
            api.call("POST", path, document)
            said.append("")
        except ApiError as error:
            said.append(json.loads(error.body)["message"])
    print(json.dumps(said))


main(sys.argv[1])
