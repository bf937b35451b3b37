"""What a manifest asks for besides replicas: keys, scaling by load, rollouts that look before they leap."""

import threading

from custom import eventually

KEYS = """\
---
apiVersion: v1
kind: Secret
metadata: {name: callers}
stringData: {alice: s3cr3t}
"""


def test_only_callers_with_a_key(custom):
    path = custom.write(spec="access: {apiKeysSecret: callers}", more=KEYS)
    said = custom.up(path)
    assert custom.ask()[0] == 401
    assert custom.ask(headers={"authorization": "Bearer wrong"})[0] == 401
    assert custom.ask(headers={"authorization": "Bearer s3cr3t"})[0] == 200
    assert "s3cr3t" not in said
    # A secret that is not there must not open the door.
    custom.write(spec="access: {apiKeysSecret: nobody}", says="two", more=KEYS)
    eventually(lambda: "nobody" in (custom.service()["lastError"] or ""))
    assert custom.ask()[0] == 401


def test_load_brings_replicas(custom):
    custom.up(custom.write(scaling="{min: 1, max: 3, concurrency: 2}"))
    stop = threading.Event()

    def drive():
        while not stop.is_set():
            assert custom.ask(take="0.2")[0] == 200

    clients = [threading.Thread(target=drive) for _ in range(6)]
    for client in clients:
        client.start()
    try:
        custom.settled(3)
    finally:
        stop.set()
        for client in clients:
            client.join()
    reasons = {one["reason"] for one in custom.events()}
    assert reasons & {"Burst", "DemandRose"}


def test_a_canary_that_fails_is_given_up(custom):
    rollout = "rollout: {strategy: canary, steps: [50], pause: 1s, abort: {errorRate: 5%}}"
    custom.up(custom.write("one", spec=rollout))
    stop, answers = threading.Event(), []

    def drive():
        while not stop.is_set():
            answers.append(custom.ask()[0])

    clients = [threading.Thread(target=drive) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        custom.write("two", spec=rollout, env=["{name: ANSWER_WITH, value: '500'}"])
        eventually(lambda: custom.service()["phase"] == "Aborted", lambda: str(custom.service()))
        assert custom.happened("ErrorRateTooHigh")
        eventually(lambda: set(custom.says() for _ in range(5)) == {"one"})
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert set(answers) == {200, 500}


def test_a_blue_green_rollout_switches_once(custom):
    rollout = "rollout: {strategy: blueGreen, pause: 1s}"
    custom.up(custom.write("one", scaling="{min: 2}", spec=rollout))
    with custom.load(clients=4) as answers:
        custom.write("two", scaling="{min: 2}", spec=rollout)
        eventually(lambda: custom.happened("Switched"))
        custom.settled(2)
    says = [one["says"] for one in answers]
    assert says[0] == "one" and says[-1] == "two"
