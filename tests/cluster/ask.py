"""Runs inside the cluster's network: creates each object of a list, which it reads as JSON, and prints
what the API server says to each; nothing if it takes it.

One program for all of them, where kubectl would take a second for each three.
"""

import base64
import http.client
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import urllib.parse


def main(path):
    config = json.loads(subprocess.check_output(["kubectl", "config", "view", "--raw", "--minify", "--flatten", "-o", "json"]))
    user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
    with tempfile.TemporaryDirectory() as folder:
        def file(name, data):
            place = pathlib.Path(folder) / name
            place.write_bytes(base64.b64decode(data))
            os.chmod(place, 0o600)
            return place

        context = ssl.create_default_context(cafile=file("ca", cluster["certificate-authority-data"]))
        context.load_cert_chain(file("certificate", user["client-certificate-data"]), file("key", user["client-key-data"]))
    client = http.client.HTTPSConnection(urllib.parse.urlsplit(cluster["server"]).netloc, context=context, timeout=30)
    said = []
    for document in json.load(sys.stdin):
        client.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
        answer = client.getresponse()
        body = json.loads(answer.read())
        said.append("" if answer.status < 300 else body["message"])
    print(json.dumps(said))


main(sys.argv[1])
