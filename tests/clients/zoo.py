"""The models that the suites serve: made by script, or taken from packages that carry them.

`zoo(folder)` fills a folder once and returns it. Nothing here is random between runs.
"""

import hashlib
import importlib.util
import pathlib
import shutil

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17)]

# The file inside each installed package, by the name under which it is served.
FROM_PACKAGES = {
    "magika": ("magika", "models/standard_v3_3/model.onnx"),
    "ocr_det": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx"),
    "ocr_rec": ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx"),
    "ocr_cls": ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "silero_vad": ("silero_vad", "data/silero_vad.onnx"),
}

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(folder, name, graph, opset=OPSET):
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def value(name, element, shape):
    return helper.make_tensor_value_info(name, element, shape)


def identities(folder):
    """One model per data type that returns its input, of any batch and length."""
    for name, element in TYPES.items():
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "identity",
            [value("x", element, ["batch", "n"])],
            [value("y", element, ["batch", "n"])],
        )
        save(folder, f"identity_{name.lower()}", graph)


def sum_difference(folder, offset=0, path=None):
    """Two inputs and two outputs, as the simple model of Triton's examples."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["sum"]),
        helper.make_node("Add", ["sum", "offset"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    both = ["batch", 16]
    graph = helper.make_graph(
        nodes,
        "simple",
        [value("INPUT0", TensorProto.INT32, both), value("INPUT1", TensorProto.INT32, both)],
        [value("OUTPUT0", TensorProto.INT32, both), value("OUTPUT1", TensorProto.INT32, both)],
        [numpy_helper.from_array(np.array([offset], np.int32), "offset")],
    )
    return save(path or folder, "model" if path else "simple", graph)


def scalar(folder):
    """No batch dimension and a fixed shape: must never be batched."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        "total",
        [value("x", TensorProto.FLOAT, [3, 2])],
        [value("y", TensorProto.FLOAT, [])],
    )
    save(folder, "total", graph)


def mlp(folder, name="mlp", width=256, layers=4):
    rng = np.random.default_rng(7)
    nodes, weights, last, size = [], [], "x", 64
    for index in range(layers):
        out = 10 if index == layers - 1 else width
        weights.append(
            numpy_helper.from_array(
                (rng.standard_normal((size, out)) / np.sqrt(size)).astype(np.float32), f"w{index}"
            )
        )
        weights.append(numpy_helper.from_array(np.zeros(out, np.float32), f"b{index}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"b{index}"], [f"h{index}"]))
        last, size = f"h{index}", out
        if index < layers - 1:
            nodes.append(helper.make_node("Relu", [last], [f"r{index}"]))
            last = f"r{index}"
    nodes.append(helper.make_node("Softmax", [last], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        name,
        [value("x", TensorProto.FLOAT, ["batch", 64])],
        [value("probabilities", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    save(folder, name, graph)


def resnet50(folder):
    """ResNet-50's layers (He et al. 2015, table 1) with random weights: its shape, not its skill."""
    rng = np.random.default_rng(50)
    nodes, weights = [], []

    def conv(source, cin, cout, kernel, stride, relu=True):
        name = f"conv{len(weights)}"
        scale = np.sqrt(2.0 / (cin * kernel * kernel))
        weight = (rng.standard_normal((cout, cin, kernel, kernel)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{name}.w"))
        weights.append(numpy_helper.from_array(np.zeros(cout, np.float32), f"{name}.b"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}.w", f"{name}.b"],
                [name],
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[kernel // 2] * 4,
            )
        )
        if not relu:
            return name
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        return f"{name}.relu"

    last = conv("image", 3, 64, 7, 2)
    nodes.append(
        helper.make_node(
            "MaxPool", [last], ["pool"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4
        )
    )
    last, channels = "pool", 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            inner = conv(last, channels, width, 1, 1)
            inner = conv(inner, width, width, 3, stride)
            inner = conv(inner, width, 4 * width, 1, 1, relu=False)
            skip = conv(last, channels, 4 * width, 1, stride, relu=False) if block == 0 else last
            # Halving keeps random activations finite through 16 residual blocks.
            joined = f"join{stage}.{block}"
            nodes.append(helper.make_node("Add", [inner, skip], [joined]))
            nodes.append(helper.make_node("Mul", [joined, "half"], [f"{joined}.half"]))
            nodes.append(helper.make_node("Relu", [f"{joined}.half"], [f"{joined}.relu"]))
            last, channels = f"{joined}.relu", 4 * width
    weights.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["average"]))
    nodes.append(helper.make_node("Flatten", ["average"], ["features"]))
    head = (rng.standard_normal((2048, 1000)) / np.sqrt(2048)).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "head.w"))
    weights.append(numpy_helper.from_array(np.zeros(1000, np.float32), "head.b"))
    nodes.append(helper.make_node("Gemm", ["features", "head.w", "head.b"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [value("image", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [value("logits", TensorProto.FLOAT, ["batch", 1000])],
        weights,
    )
    save(folder, "resnet50", graph)


def scikit_learn(folder):
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.datasets import load_diabetes, load_iris
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    flowers, kinds = load_iris(return_X_y=True)
    names = load_iris().target_names[kinds]
    people, progress = load_diabetes(return_X_y=True)

    def export(name, model, columns, **options):
        onx = to_onnx(
            model,
            initial_types=[("X", FloatTensorType([None, columns]))],
            target_opset={"": 17, "ai.onnx.ml": 3},
            **options,
        )
        (folder / f"{name}.onnx").write_bytes(onx.SerializeToString())

    export("iris_logistic", LogisticRegression(max_iter=500).fit(flowers, kinds), 4)
    scaled = make_pipeline(StandardScaler(), SVC(probability=True, random_state=1))
    export("iris_pipeline", scaled.fit(flowers, kinds), 4)
    forest = RandomForestClassifier(n_estimators=30, random_state=1)
    export("iris_forest", forest.fit(flowers, kinds), 4)
    # Class labels that are strings.
    export("iris_named", RandomForestClassifier(5, random_state=1).fit(flowers, names), 4)
    boosted = GradientBoostingClassifier(n_estimators=20, random_state=1)
    export("iris_boosting", boosted.fit(flowers, kinds), 4)
    regressor = RandomForestRegressor(n_estimators=30, random_state=1)
    export("diabetes_forest", regressor.fit(people, progress), 10)
    histogram = HistGradientBoostingRegressor(max_iter=30, random_state=1)
    export("diabetes_boosting", histogram.fit(people, progress), 10)

    texts = ["cheap pills now", "meeting at noon", "win money now", "lunch with the team"] * 5
    spam = [1, 0, 1, 0] * 5
    words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, spam)
    onx = to_onnx(
        words,
        initial_types=[("text", StringTensorType([None, 1]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
        # The exporter's default locale, en_US, is not on every machine.
        options={TfidfVectorizer: {"tokenexp": r"[a-zA-Z]+", "locale": "C"}},
    )
    (folder / "spam.onnx").write_bytes(onx.SerializeToString())


def from_packages(folder):
    for name, (package, inside) in FROM_PACKAGES.items():
        found = importlib.util.find_spec(package)
        root = pathlib.Path(found.submodule_search_locations[0])
        shutil.copy(root / inside, folder / f"{name}.onnx")


def zoo(cache):
    """The folder of models, made on first use."""
    key = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()[:16]
    folder = pathlib.Path(cache) / "test-models" / key
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    identities(folder)
    sum_difference(folder)
    scalar(folder)
    mlp(folder)
    # Two million weights: large enough that a run is work, small enough for a laptop.
    mlp(folder, "mlp_wide", width=1024)
    resnet50(folder)
    scikit_learn(folder)
    from_packages(folder)
    (folder / "complete").touch()
    return folder


if __name__ == "__main__":
    import sys

    print(zoo(sys.argv[1]))
