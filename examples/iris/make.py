"""Makes model.onnx: logistic regression on Fisher's iris, as skl2onnx exports it by default.

    pip install scikit-learn skl2onnx
    python make.py
"""

from pathlib import Path

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

flowers = load_iris()
model = LogisticRegression(max_iter=1000).fit(flowers.data, flowers.target_names[flowers.target])
onnx = to_onnx(
    model,
    name="iris",
    # Sepal length and width, petal length and width, in cm; any number of flowers at once.
    initial_types=[("input", FloatTensorType([None, 4]))],
    target_opset={"": 17, "ai.onnx.ml": 3},
)
Path(__file__).with_name("model.onnx").write_bytes(onnx.SerializeToString())
