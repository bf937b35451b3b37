"""The operator's own suite, which runs inside the cluster's network: `operator/`."""

import os
import pathlib
import sys

SUITE = pathlib.Path(__file__).parent / "operator"


def test_operator(cluster, image):
    cluster.kubectl("get", "nodes")
    done = cluster.exec(
        "env", f"TRAINYARD_BIN={os.environ['TRAINYARD_BIN']}", f"TRAINYARD_TEST_IMAGE={image}",
        sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--durations", "12", str(SUITE),
        check=False, timeout=2400,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
