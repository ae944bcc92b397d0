"""What a part says of itself."""

import pytest
from onnx import helper

from dynamic_exit.onnx.part import Part


@pytest.mark.parametrize(
    ("ir_version", "operators", "oldest"),
    [
        (8, {"": 17}, (1, 15)),
        (9, {"": 19}, (1, 16)),
        (9, {"ai.onnx": 20}, (1, 17)),
        (10, {"": 20}, (1, 18)),
        (10, {"": 21}, (1, 18)),
        (9, {"": 19, "ai.onnx.ml": 5}, (1, 18)),
        (10, {"com.microsoft": 1}, (1, 18)),
        (11, {"": 20}, (1, 23)),
        (12, {"": 20}, (1, 24)),
        (14, {"": 20}, ()),
        (10, {"": 22}, ()),
    ],
)
def test_the_oldest_runtime_follows_from_format_and_operators(ir_version, operators, oldest):
    graph = helper.make_graph([], "net", [], [])
    imports = [helper.make_opsetid(domain, version) for domain, version in operators.items()]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    assert Part("saver", proto, ("x",), "logits").oldest_runtime == oldest
