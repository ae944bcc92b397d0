"""ONNX files as classifiers: run by onnxruntime in the place of a torch module, shipped as they are."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, fx, nn

from ..errors import CaptureError, ExportError, ModelError, first_line
from .export import export_part
from .normalize import INPUT, all_nodes, convert_opset, normalize, operator_version
from .part import BATCH, IR_VERSION, OPSET, OUTPUT, Part
from .session import open_session

#: Largest difference between a sample's logits alone and in a batch, relative to the largest logit.
_TOLERANCE = 1e-3
# whose operators onnxruntime brings along
_RUNTIME_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")


class OnnxClassifier(nn.Module):
    """A classifier in an ONNX file as a torch module: one tensor in, logits out, batch free, no gradients.

    Args:
        model: The file's content.
        name: Whom messages speak of.

    Attributes:
        proto: The classifier with one float32 input and one output of logits, in the file's own operator version.
        shipped: The same in the version that every part of a dynamic file has.

    Raises:
        ModelError: onnxruntime cannot run it, it is no classifier of one input, or its version cannot be converted.
    """

    def __init__(self, model: onnx.ModelProto, name: str):
        super().__init__()
        self.name = name
        self.proto = normalize(model, name)
        self.shipped = convert_opset(self.proto, name)
        self._session: onnxruntime.InferenceSession | None = None
        _ = self.session  # so that a model that cannot run is refused here
        self.training = False

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """Runs `proto`; opened again after a copy."""
        if self._session is None:
            self._session = _open(self.proto, self.name)
        return self._session

    def __getstate__(self):
        return {**self.__dict__, "_session": None}

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Shape of the input, None for what is free, or None where the file does not say."""
        kind = self.proto.graph.input[0].type.tensor_type
        if not kind.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width in pixels, or None where they are free."""
        size = self.shape[2:] if self.shape is not None and len(self.shape) == 4 else ()
        return size if len(size) == 2 and None not in size else None

    def forward(self, x: Tensor) -> Tensor:
        """Run the file.

        Args:
            x: (N, ...), any numbers.

        Returns:
            (N, C) float32 logits.

        Raises:
            ModelError: The file takes another shape, or fails.
            CaptureError: It is being traced: onnxruntime leaves no graph to cut.
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
        except Exception as error:  # onnxruntime raises classes of its own that share no base below Exception
            raise ModelError(
                f"ONNX model '{self.name}' fails on inputs of shape {list(x.shape)} {_where(error)}; leave it out"
            ) from error

    def check(self, x: Tensor) -> None:
        """Refuse a file whose cost is unknown, or that answers in a batch or once converted otherwise than it should.

        Args:
            x: (N, ...), as ``forward`` takes it, N of two or more.

        Raises:
            ModelError: It does.
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

        Matrix products and convolutions count, as in ``cost.count_macs``; those inside branches and loops do not.

        Args:
            x: (N, ...), as ``forward`` takes it.

        Returns:
            Multiply-adds.

        Raises:
            ModelError: The file holds nothing that can be counted.
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
        self, name: str, module: nn.Module, input_names: Sequence[str], example_inputs: Sequence[Tensor]
    ) -> Part:
        """Put the file together with its preprocessing and the order of its classes.

        Args:
            name: What the part is called.
            module: The ``graph.Classifier`` around this model.
            input_names: The name of the input.
            example_inputs: One tensor, (N, ...), N of two or more.

        Returns:
            The part, which gives logits.

        Raises:
            ExportError: It takes several inputs, or is not valid ONNX.
        """
        if len(input_names) != 1:
            raise ExportError(
                f"stage '{name}' is an ONNX file of one input; the model has {len(input_names)}, leave it out"
            )
        (example,), (value,) = example_inputs, input_names
        with torch.no_grad():
            classes = module(example[:1]).shape[1]
        block = _Block()
        preprocessing = module.preprocessing
        if preprocessing is not None and preprocessing(example) is not example:
            before = export_part(name, preprocessing, input_names, "hidden", (example,)).proto.graph
            value = block.include(before, "before/", value)
        value = block.add("Cast", [value], "border/number", to=onnx.TensorProto.FLOAT)
        value = block.include(self.shipped.graph, "model/", value)
        if module.class_order is not None:
            order = numpy_helper.from_array(module.class_order.numpy(), "border/order")
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
        proto = helper.make_model(graph, opset_imports=self.shipped.opset_import)
        proto.ir_version = max(self.shipped.ir_version, IR_VERSION)
        return Part(name, proto, tuple(input_names), "logits")


class _Block:
    """Nodes of a graph that is put together out of others."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [f"{output}/value"], name=output, **attributes))
        return f"{output}/value"

    def include(self, graph: onnx.GraphProto, prefix: str, feed: str) -> str:
        """Copy the nodes of a graph of one input in and return the name of its output."""
        graph = onnx.compose.add_prefix_graph(graph, prefix)
        self.nodes.append(helper.make_node("Identity", [feed], [graph.input[0].name], name=f"{prefix}feed"))
        self.nodes.extend(graph.node)
        self.initializers.extend(graph.initializer)
        return graph.output[0].name


def import_onnx(path: str | Path) -> OnnxClassifier:
    """Read a classifier out of an ONNX file.

    Args:
        path: The file; weights that it keeps in other files are read with it.

    Returns:
        The model.

    Raises:
        ModelError: There is no such file, it is no ONNX, or no classifier that onnxruntime can run.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"ONNX file '{path}' does not exist; check the path")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, onnx and the disk raise classes of their own
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


def _where(error: Exception) -> str:
    """Name the operator that onnxruntime failed in, or say what it says."""
    found = re.search(r"running (\w+) node. Name:'net/([^']*)'", str(error))
    return f"in {found[1]} '{found[2]}'" if found else f"({first_line(error)})"


def _silent() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    return options


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().cpu().float().numpy())


def _close(ours: Tensor, theirs: Tensor) -> bool:
    limit = _TOLERANCE * max(1.0, float(theirs.abs().max()))
    return bool(torch.allclose(ours, theirs, rtol=0.0, atol=limit, equal_nan=True))


def _convolution(node: onnx.NodeProto, shapes: dict) -> int:
    weight = shapes[node.input[3 if node.op_type == "QLinearConv" else 1]]
    places = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]]
    return places[0] * int(np.prod(places[2:])) * int(np.prod(weight))


def _product(node: onnx.NodeProto, shapes: dict) -> int:
    inner = shapes[node.input[0]][-1]
    if any(attribute.name == "transA" and attribute.i for attribute in node.attribute):
        inner = shapes[node.input[0]][-2]
    return int(np.prod(shapes[node.output[0]])) * inner


def _einsum(node: onnx.NodeProto, shapes: dict) -> int:
    if len(node.input) != 2:
        return 0
    terms = node.attribute[0].s.decode().replace(" ", "").split("->")[0].split(",")
    sides = {}
    for term, name in zip(terms, node.input, strict=True):
        sides |= dict(zip(term, shapes[name], strict=True)) if "..." not in term else {}
    return int(np.prod(list(sides.values()))) if sides else 0


_COUNTS = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose"), _convolution),
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "QLinearMatMul"), _product),
    "Einsum": _einsum,
}
