"""Parts of a dynamic ONNX file, each a small model of its own."""

from dataclasses import dataclass, replace

import onnx
import onnxruntime

#: Name of the free batch dimension in every file.
BATCH = "batch"
#: Name of the one output of every part; the hidden state may be both an input and the output of a segment.
OUTPUT = "output"
# what versions of onnxruntime were seen to take at most: IR, operators and ai.onnx.ml operators
_RUNTIMES = {
    (1, 15): (8, 18, 3),
    (1, 16): (9, 19, 3),
    (1, 17): (9, 20, 4),
    (1, 18): (10, 21, 5),
    (1, 23): (11, 21, 5),
    (1, 24): (13, 21, 5),
}


@dataclass(frozen=True)
class Part:
    """A saver, segment, tap or exit head as an ONNX model.

    Attributes:
        name: Unique among the parts of a file.
        proto: The model; the names of its inputs are `input_names`, that of its one output is `output`.
        input_names: Names of the inputs: ``hidden`` is the output of the previous segment, any other name an input of
            the model.
        output_kind: What it returns: ``hidden``, ``logits`` or ``memory``.
    """

    name: str
    proto: onnx.ModelProto
    input_names: tuple[str, ...]
    output_kind: str

    def with_proto(self, proto: onnx.ModelProto) -> "Part":
        """Return the part with another model."""
        return replace(self, proto=proto)

    @property
    def content(self) -> bytes:
        """The serialized model."""
        return self.proto.SerializeToString()

    @property
    def size(self) -> int:
        """Bytes of `content`."""
        return self.proto.ByteSize()

    @property
    def runtime(self) -> str:
        """Name and version of the runtime."""
        return f"onnxruntime {onnxruntime.__version__}"

    @property
    def oldest_runtime(self) -> tuple[int, ...]:
        """The first version of onnxruntime that takes the model; empty if it is newer than those known."""
        operators = {each.domain or "ai.onnx": each.version for each in self.proto.opset_import}
        needs = (self.proto.ir_version, operators.get("ai.onnx", 1), operators.get("ai.onnx.ml", 1))
        taking = (
            version
            for version, takes in _RUNTIMES.items()
            if all(need <= most for need, most in zip(needs, takes, strict=True))
        )
        return next(taking, ())

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Shape of the output without the batch; a free dimension is its name."""
        dims = self.proto.graph.output[0].type.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims)[1:]
