"""Models of more than 2 GB: one protobuf cannot hold them, so that weights lie in a file beside the model."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import TensorProto

from .names import inner_graphs

#: Bytes of weights from which a model counts as large; protobuf's own limit is 2**31, names and shapes included.
LIMIT = 1_900_000_000


def is_large(model: onnx.ModelProto, limit: int | None = None) -> bool:
    """Tell whether a model's weights need a file of their own.

    Args:
        model: With its weights in memory.
        limit: Bytes; None is `LIMIT`.
    """
    return sum(_size(tensor) for tensor in _weights(model)) > (LIMIT if limit is None else limit)


def _weights(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield all weights, those inside branches included."""
    for graph in inner_graphs(model.graph):
        yield from graph.initializer


def _size(tensor: TensorProto) -> int:
    return len(tensor.raw_data) or tensor.ByteSize()


def save_model(model: onnx.ModelProto, path: str | Path, limit: int | None = None) -> list[Path]:
    """Write a model, a large one in two files.

    Args:
        model: Is as before afterwards.
        path: The file to write; the weights of a large model go to ``<path>.data``.
        limit: Bytes of weights from which it is large; None is `LIMIT`.

    Returns:
        The files.
    """
    path = Path(path)
    if not is_large(model, limit):
        onnx.save(model, path)
        return [path]
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # onnx would append
    onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    # saving takes the weights out of the model; a graph in memory that points to a file is of no use to others
    onnx.load_external_data_for_model(model, str(path.parent))
    for tensor in _weights(model):
        tensor.ClearField("data_location")
    return [each for each in (path, data) if each.exists()]  # small weights stay in the model


@contextmanager
def for_onnx(model: onnx.ModelProto, limit: int | None = None) -> Iterator[onnx.ModelProto | str]:
    """Give a model in the form in which onnx's checker and onnxruntime can take it.

    Args:
        model: Is as before afterwards.
        limit: Bytes of weights from which it is large; None is `LIMIT`.

    Yields:
        The model, or the path of a temporary file where it is large.
    """
    if not is_large(model, limit):
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(save_model(model, Path(folder) / "model.onnx", limit)[0])
