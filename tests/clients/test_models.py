"""Every model's outputs equal those of onnxruntime in Python, for both engines."""

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
import tritonclient.http as triton
from tritonclient.utils import np_to_triton_dtype

from conftest import serving

onnxruntime.set_default_logger_severity(3)
RNG = np.random.default_rng(11)


def flowers(rows):
    return {"X": RNG.uniform(0.1, 7, (rows, 4)).astype(np.float32)}


def people(rows):
    return {"X": RNG.normal(0, 0.05, (rows, 10)).astype(np.float32)}


def image(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


# Inputs by model: what a user of it would send, in more than one shape where it is dynamic.
CASES = {
    "simple": [
        {
            "INPUT0": RNG.integers(-9, 9, (rows, 16)).astype(np.int32),
            "INPUT1": RNG.integers(-9, 9, (rows, 16)).astype(np.int32),
        }
        for rows in (1, 5)
    ],
    "total": [{"x": image(3, 2)}],
    "mlp": [{"x": image(1, 64)}, {"x": image(33, 64)}],
    "resnet50": [{"image": image(1, 3, 224, 224)}],
    "iris_logistic": [flowers(1), flowers(7)],
    "iris_pipeline": [flowers(1), flowers(7)],
    "iris_forest": [flowers(1), flowers(7)],
    "iris_named": [flowers(1), flowers(7)],
    "iris_boosting": [flowers(1), flowers(7)],
    "diabetes_forest": [people(1), people(7)],
    "diabetes_boosting": [people(1), people(7)],
    "spam": [{"text": np.array([["win cheap money"], ["lunch at noon"]], dtype=object)}],
    "magika": [{"bytes": RNG.integers(0, 256, (2, 2048)).astype(np.int32)}],
    "ocr_det": [{"x": image(1, 3, 64, 96)}, {"x": image(1, 3, 96, 64)}],
    "ocr_rec": [{"x": image(1, 3, 48, 120)}],
    "ocr_cls": [{"x": image(2, 3, 48, 192)}],
    "silero_vad": [
        {
            "input": image(1, 512),
            "state": np.zeros((2, 1, 128), np.float32),
            "sr": np.array(16000, np.int64),
        }
    ],
}

# What the embedded engine has to serve; of the rest it has to say at load what it lacks.
TRACT_SERVES = {"simple", "total", "mlp", "resnet50", "ocr_cls", "ocr_rec", "ocr_det"}


def expected(path, feed):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = {}
    for declared, value in zip(session.get_outputs(), session.run(None, feed)):
        if isinstance(value, list):
            # A classifier's probabilities: a map from class to probability for each row.
            value = np.array([list(row.values()) for row in value], np.float32)
        found[declared.name] = value
    return found


def served(client, model, feed):
    inputs = []
    for name, array in feed.items():
        inputs.append(triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    answer = client.infer(model, inputs)
    names = [output["name"] for output in answer.get_response()["outputs"]]
    return {name: answer.as_numpy(name) for name in names}


def compare(model, zoo, client, feed):
    wanted = expected(zoo / f"{model}.onnx", feed)
    got = served(client, model, feed)
    assert list(got) == list(wanted)
    for name, want in wanted.items():
        assert got[name].shape == np.shape(want), name
        if want.dtype.kind in "OU":
            assert [one.decode() for one in got[name].flatten()] == list(want.flatten())
        else:
            np.testing.assert_allclose(got[name], want, rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("model", CASES)
def test_onnx_runtime(every_model, zoo, model):
    with triton.InferenceServerClient(every_model.address, network_timeout=300) as client:
        for feed in CASES[model]:
            compare(model, zoo, client, feed)


@pytest.mark.parametrize("model", CASES)
def test_tract(zoo, tmp_path, model):
    try:
        with serving(tmp_path, zoo / f"{model}.onnx", "--engine", "tract") as running:
            with triton.InferenceServerClient(running.address, network_timeout=300) as client:
                for feed in CASES[model]:
                    compare(model, zoo, client, feed)
    except AssertionError as refused:
        # What it cannot load it refuses at start, and says why.
        assert model not in TRACT_SERVES and "the server ended" in str(refused), refused
        assert f"{model}.onnx" in str(refused)


@pytest.mark.parametrize(
    "kind", "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64".split()
)
def test_every_type_keeps_its_bits(every_model, kind):
    dtype = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}.get(
        kind, kind.lower()
    )
    bits = RNG.integers(0, 256, 2 * 5 * np.dtype(dtype).itemsize, dtype=np.uint8)
    array = (bits % 2).astype(bool) if kind == "BOOL" else bits.view(dtype)
    array = array.reshape(2, 5)
    with triton.InferenceServerClient(every_model.address) as client:
        got = served(client, f"identity_{kind.lower()}", {"x": array})["y"]
        assert got.tobytes() == array.tobytes()
        empty = served(client, f"identity_{kind.lower()}", {"x": array[:, :0]})["y"]
        assert empty.shape == (2, 0)


def test_bf16_and_strings(every_model):
    with triton.InferenceServerClient(every_model.address) as client:
        array = np.array([[1.0, -2.5, 3e38]], ml_dtypes.bfloat16)
        tensor = triton.InferInput("x", array.shape, "BF16")
        tensor.set_data_from_numpy(array)
        got = client.infer("identity_bf16", [tensor]).as_numpy("y")
        np.testing.assert_array_equal(got.astype(np.float32), array.astype(np.float32))
        words = np.array([["", "naïve", b"\x00\xff".decode("latin-1")]], dtype=object)
        assert [one.decode() for one in served(client, "identity_bytes", {"x": words})["y"][0]] == [
            "",
            "naïve",
            "\x00ÿ",
        ]
