"""What bad requests get: the protocol's own shape and status, naming what was expected and what came."""

import json
import socket

import pytest

GOOD = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
INFER = "/v2/models/identity_fp32/infer"


def changed(**members):
    return {"inputs": [{**GOOD, **members}]}


@pytest.mark.parametrize(
    "body, says",
    [
        ({}, ["inputs"]),
        ({"inputs": []}, ["x"]),
        (changed(name="y"), ["y", "x"]),
        (changed(datatype="FP31"), ["FP31"]),
        (changed(datatype="INT64"), ["FP32", "INT64"]),
        (changed(shape=[2]), ["x"]),
        (changed(shape=[1, 3]), ["3", "2"]),
        (changed(shape=[1, -2]), ["-2"]),
        (changed(shape=[2**62, 2**62]), ["x"]),
        (changed(data=[1, "two"]), ["x"]),
        (changed(data=[[1, 2, 3]]), ["3", "2"]),
        ({"inputs": [GOOD, GOOD]}, ["x"]),
        ({"inputs": [GOOD, {**GOOD, "name": "z"}]}, ["z"]),
        ({"inputs": [GOOD], "outputs": [{"name": "nosuch"}]}, ["nosuch", "y"]),
        ({"inputs": GOOD}, ["inputs"]),
    ],
)
def test_requests_that_do_not_fit(every_model, body, says):
    status, answer = every_model.json(INFER, body)
    assert status == 400 and list(answer) == ["error"], answer
    for word in says:
        assert word in answer["error"], answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"inputs":[{"name":"\xff\xfe"}]}',
        b'{"inputs":[]}x',
        b'{"id":"\\ud800","inputs":[]}',
    ],
)
def test_bytes_that_are_no_request(every_model, body):
    status, answer = every_model.json(INFER, body, method="POST")
    assert status == 400 and isinstance(answer["error"], str)


@pytest.mark.parametrize("length", ["-1", "x", "99999", "4294967296", "18446744073709551616"])
def test_a_header_length_that_lies(every_model, length):
    body = json.dumps({"inputs": [{**GOOD, "parameters": {"binary_data_size": 8}}]}).encode()
    status, answer = every_model.json(INFER, body, {"Inference-Header-Content-Length": length})
    assert status == 400 and isinstance(answer["error"], str)


@pytest.mark.parametrize("size", [7, 9, 2**31, 2**63])
def test_a_binary_size_that_lies(every_model, size):
    tensor = {key: value for key, value in GOOD.items() if key != "data"}
    header = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    status, answer = every_model.json(INFER, header + bytes(8), headers)
    assert status == 400 and "x" in answer["error"]


def test_a_body_declared_too_large_is_refused_unread(every_model):
    host, port = every_model.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2147483648\r\n\r\n" % INFER.encode()
        )
        head = peer.recv(65536)
    assert head.split()[1] in (b"400", b"413")
    assert b"error" in head


@pytest.mark.parametrize(
    "path, status",
    [
        ("/v2/models/nosuch/infer", 404),
        ("/v2/models/identity_fp32/versions/9/infer", 404),
        ("/v2/models/identity_fp32/versions/x/infer", 404),
        ("/v2/models/..%2f..%2fetc/infer", 404),
        ("/v2/repository/models/..%2fetc/load", 400),
        ("/v1/models/identity_fp32/labels/canary:predict", 404),
        ("/nothing", 404),
    ],
)
def test_paths_that_name_nothing(every_model, path, status):
    got, answer = every_model.json(path, {"inputs": [GOOD], "instances": [[1, 2]]})
    assert got in (status, 400 if "repository" in path else status), answer
    assert isinstance(answer["error"], str)


def test_wrong_method(every_model):
    status, answer = every_model.json(INFER)
    assert status == 405 and answer["error"] == "Method Not Allowed"


def test_the_server_still_answers(every_model):
    assert every_model.json(INFER, {"inputs": [GOOD]})[0] == 200
