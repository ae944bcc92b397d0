"""ONNX files as classifiers, which onnxruntime runs in place of a torch module and which are exported as they are."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from ..errors import CaptureError, ExportError, ModelError, first_line
from ..graph import Classifier
from .export import export_part
from .normalize import INPUT, all_nodes, convert_opset, normalize
from .opset import EXPORTED_FROM, OPSET, operator_version, set_opset
from .part import BATCH, OUTPUT, Part
from .session import open_session

Shapes = Mapping[str, tuple[int, ...]]

#: Largest difference between a sample's logits alone and in a batch, relative to the largest logit.
_TOLERANCE = 1e-3
# domains of the operators that onnxruntime includes
_RUNTIME_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")


class OnnxClassifier(nn.Module):
    """A classifier in an ONNX file as a torch module: one tensor in, logits out, with a free batch and no gradients.

    Args:
        model: The content of the file.
        name: The name of the model in messages.

    Attributes:
        proto: The normalized classifier, with the operator version of the file.
        shipped: The same with the operator version that files have unless a recipe says otherwise.

    Raises:
        ModelError: onnxruntime cannot run it, it is no classifier with one input, or its operators cannot be converted.
    """

    def __init__(self, model: onnx.ModelProto, name: str):
        super().__init__()
        self.name = name
        self.proto = normalize(model, name)
        self.shipped = convert_opset(self.proto, name, OPSET)
        self._session: onnxruntime.InferenceSession | None = None
        _ = self.session  # refuse a model that cannot run
        self.training = False

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """A session of `proto`, opened again after the module is copied."""
        if self._session is None:
            self._session = _open(self.proto, self.name)
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Shape of the input with None for free dimensions; None if unknown."""
        kind = self.proto.graph.input[0].type.tensor_type
        if not kind.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels; None if they are free."""
        height, width = self.shape[2:] if self.shape is not None and len(self.shape) == 4 else (None, None)
        return None if height is None or width is None else (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the model.

        Args:
            x: Samples (N, ...) of any dtype.

        Returns:
            Logits (N, C) float32.

        Raises:
            ModelError: The model takes another shape, or fails.
            CaptureError: The module is being traced; onnxruntime has no graph to cut.
        """
        if torch.compiler.is_exporting() or isinstance(x, fx.Proxy):
            raise CaptureError(f"ONNX model '{self.name}' can be a candidate only; give the backbone as a torch model")
        if self.shape is not None:
            fits = len(self.shape) == x.dim() and all(a in (None, b) for a, b in zip(self.shape, x.shape, strict=True))
            if not fits:
                wanted = ", ".join(str(side or "any") for side in self.shape[1:])
                raise ModelError(
                    f"ONNX model '{self.name}' takes samples of shape [{wanted}]; got {list(x.shape[1:])}; set its "
                    "`preprocessing`"
                )
        try:
            return torch.from_numpy(self.session.run(None, {INPUT: _array(x)})[0]).to(x.device)
        except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
            raise ModelError(
                f"ONNX model '{self.name}' fails on inputs of shape {list(x.shape)} {_where(error)}; leave it out"
            ) from error

    def check(self, x: Tensor) -> None:
        """Refuse a model whose cost is unknown, or whose logits change in a batch or when it is converted.

        Args:
            x: Two samples or more (N, ...), as for ``forward``.

        Raises:
            ModelError: One of the above.
        """
        alone = torch.cat([self(row) for row in x.split(1)])
        try:
            together = torch.from_numpy(_open(self.shipped, self.name).run(None, {INPUT: _array(x)})[0])
        except ModelError:
            raise
        except Exception as error:  # as in forward
            raise ModelError(
                f"ONNX model '{self.name}' runs on one sample but not on {len(x)} {_where(error)}; export it with a "
                "free batch size"
            ) from error
        if together.shape != alone.shape or not _close(together, alone):
            version = operator_version(self.proto)
            when = "in a batch" + f" or with its operators of version {version} converted" * (version != OPSET)
            raise ModelError(
                f"ONNX model '{self.name}' answers samples otherwise {when}; export it with a free batch size and "
                f"opset_version={OPSET}"
            )
        self.own_macs(x[:1])

    def own_macs(self, x: Tensor) -> float:
        """Count the multiply-adds of one call, for all rows together.

        Matrix products and convolutions count, as in ``cost.count_macs``, except inside branches and loops.

        Args:
            x: Samples (N, ...), as for ``forward``.

        Returns:
            Multiply-adds.

        Raises:
            ModelError: The model has no operator that counts.
        """
        held = {tensor.name: tuple(tensor.dims) for tensor in self.proto.graph.initializer}
        counted = [node for node in self.proto.graph.node if node.op_type in _COUNTS]
        wanted = {name for node in counted for name in (*node.input, node.output[0]) if name and name not in held}
        seen = onnx.ModelProto.FromString(self.proto.SerializeToString())
        seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - {INPUT, OUTPUT}))
        options = _silent()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = open_session(seen, options=options)
        values = session.run(None, {INPUT: _array(x)})
        shapes = held | {value.name: array.shape for value, array in zip(session.get_outputs(), values, strict=True)}
        shapes[INPUT] = tuple(x.shape)
        total = sum(_COUNTS[node.op_type](node, shapes) for node in counted)
        if not total:
            raise ModelError(f"ONNX model '{self.name}' has no matrix product or convolution to count")
        return float(total)

    def compose_part(
        self, name: str, module: nn.Module, input_names: Sequence[str], example_inputs: Sequence[Tensor], opset: int
    ) -> Part:
        """Return the part of this model with its preprocessing and class order.

        Args:
            name: Name of the part.
            module: The ``graph.Classifier`` that wraps this model.
            input_names: The name of the input.
            example_inputs: One tensor of two samples or more (N, ...).
            opset: Version of ONNX's operators that the part is to have.

        Returns:
            The part, which returns logits.

        Raises:
            ExportError: The chain has several inputs.
            ModelError: The model has no form in that opset, or answers otherwise there.
        """
        if len(input_names) != 1:
            raise ExportError(
                f"stage '{name}' is an ONNX file of one input; the model has {len(input_names)}, leave it out"
            )
        (example,), (value,) = example_inputs, input_names
        exported = max(opset, EXPORTED_FROM)
        shipped = convert_opset(self.proto, self.name, exported)
        with torch.no_grad():
            classes = module(example[:1]).shape[1]
        classifier = cast(Classifier, module)
        block = _Composition()
        preprocessing = classifier.preprocessing
        if preprocessing is not None and preprocessing(example) is not example:
            before = export_part(name, preprocessing, input_names, "hidden", (example,), opset=exported).proto.graph
            value = block.include(before, "before/", value)
        value = block.add("Cast", [value], "border/number", to=onnx.TensorProto.FLOAT)
        value = block.include(shipped.graph, "model/", value)
        if classifier.class_order is not None:
            order = numpy_helper.from_array(classifier.class_order.numpy(), "border/order")
            block.initializers.append(order)
            value = block.add("Gather", [value, "border/order"], "border/ordered", axis=1)
        block.nodes.append(helper.make_node("Identity", [value], [OUTPUT], name="border/last"))
        kind = helper.np_dtype_to_tensor_dtype(example.numpy().dtype)
        graph = helper.make_graph(
            block.nodes,
            name,
            [helper.make_tensor_value_info(input_names[0], kind, [BATCH, *example.shape[1:]])],
            [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [BATCH, classes])],
            initializer=block.initializers,
        )
        proto = helper.make_model(graph, opset_imports=shipped.opset_import)
        set_opset(proto, opset, name)
        part = Part(name, proto, tuple(input_names), "logits")
        if opset != OPSET:  # `check` has compared the answers with that one
            _check_converted(module(example), part, example, self.name)
        return part


class _Composition:
    """Nodes of a graph that is composed of other graphs."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [f"{output}/value"], name=output, **attributes))
        return f"{output}/value"

    def include(self, graph: onnx.GraphProto, prefix: str, feed: str) -> str:
        """Add the nodes of a graph with one input and return the name of its output."""
        graph = onnx.compose.add_prefix_graph(graph, prefix)
        self.nodes.append(helper.make_node("Identity", [feed], [graph.input[0].name], name=f"{prefix}feed"))
        self.nodes.extend(graph.node)
        self.initializers.extend(graph.initializer)
        return graph.output[0].name


def import_onnx(path: str | Path) -> OnnxClassifier:
    """Read a classifier from an ONNX file.

    Args:
        path: The file; weights in separate files are read as well.

    Returns:
        The model.

    Raises:
        ModelError: The file does not exist, is no ONNX, or holds no classifier that onnxruntime can run.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"ONNX file '{path}' does not exist; check the path")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf and onnx raise their own classes
        raise ModelError(f"file '{path}' cannot be read as ONNX: {first_line(error)}") from error
    if not model.graph.node:
        raise ModelError(f"file '{path}' holds no ONNX model; export it again")
    return OnnxClassifier(model, path.name)


def _open(model: onnx.ModelProto, name: str) -> onnxruntime.InferenceSession:
    try:
        return open_session(model, options=_silent())
    except ExportError as error:
        for _, node in all_nodes(model.graph):
            if node.domain not in _RUNTIME_DOMAINS:
                raise ModelError(
                    f"ONNX model '{name}' uses the operator '{node.domain}.{node.op_type}', which onnxruntime does not "
                    "have; export it without"
                ) from error
        raise ModelError(f"ONNX model '{name}' cannot be used: {first_line(error)}") from error


def _check_converted(answers: Tensor, part: Part, example: Tensor, name: str) -> None:
    converted = _open(part.proto, name).run(None, {part.input_names[0]: example.numpy()})[0]
    if not _close(torch.from_numpy(converted), answers):
        opset = operator_version(part.proto)
        raise ModelError(
            f"ONNX model '{name}' answers otherwise with its operators converted to version {opset}; export it with "
            f"opset_version={opset}"
        )


def _where(error: Exception) -> str:
    """Return the operator in which onnxruntime failed, or its message."""
    found = re.search(r"running (\w+) node. Name:'net/([^']*)'", str(error))
    return f"in {found[1]} '{found[2]}'" if found else f"({first_line(error)})"


def _silent() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, not logged
    return options


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().cpu().float().numpy())


def _close(ours: Tensor, theirs: Tensor) -> bool:
    limit = _TOLERANCE * max(1.0, float(theirs.abs().max()))
    return bool(torch.allclose(ours, theirs, rtol=0.0, atol=limit, equal_nan=True))


def _convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    weight = shapes[node.input[3 if node.op_type == "QLinearConv" else 1]]
    places = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]]
    return places[0] * int(np.prod(places[2:])) * int(np.prod(weight))


def _product(node: onnx.NodeProto, shapes: Shapes) -> int:
    inner = shapes[node.input[0]][-1]
    if any(attribute.name == "transA" and attribute.i for attribute in node.attribute):
        inner = shapes[node.input[0]][-2]
    return int(np.prod(shapes[node.output[0]])) * inner


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    if len(node.input) != 2:
        return 0
    terms = node.attribute[0].s.decode().replace(" ", "").split("->")[0].split(",")
    sides: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        sides |= dict(zip(term, shapes[name], strict=True)) if "..." not in term else {}
    return int(np.prod(list(sides.values()))) if sides else 0


_COUNTS: dict[str, Callable[[onnx.NodeProto, Shapes], int]] = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "QLinearMatMul"), _product),
    "Einsum": _einsum,
}
