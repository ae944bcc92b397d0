"""Models of more than 2 GB, which one protobuf cannot hold: their weights are in a file beside the model."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import TensorProto

from .names import inner_graphs

#: Bytes of weights above which a model is large; protobuf's limit is 2**31, with names and shapes.
LIMIT = 1_900_000_000


def is_large(model: onnx.ModelProto, limit: int | None = None) -> bool:
    """Return whether the weights of a model need a separate file.

    Args:
        model: A model with its weights in memory.
        limit: Bytes of weights; None is `LIMIT`.
    """
    return sum(_size(tensor) for tensor in _weights(model)) > (LIMIT if limit is None else limit)


def _weights(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield all weights, including those inside branches."""
    for graph in inner_graphs(model.graph):
        yield from graph.initializer


def _size(tensor: TensorProto) -> int:
    return len(tensor.raw_data) or tensor.ByteSize()


def save_model(model: onnx.ModelProto, path: str | Path, limit: int | None = None) -> list[Path]:
    """Write a model, in two files if it is large.

    Args:
        model: Left unchanged.
        path: The file to write; the weights of a large model go to ``<path>.data``.
        limit: Bytes of weights above which it is large; None is `LIMIT`.

    Returns:
        The written files.
    """
    path = Path(path)
    if not is_large(model, limit):
        onnx.save(model, path)
        return [path]
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # to which onnx would append
    onnx.save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name)
    # saving moves the weights out of the model in memory; load them again
    onnx.load_external_data_for_model(model, str(path.parent))
    for tensor in _weights(model):
        tensor.ClearField("data_location")
    return [each for each in (path, data) if each.exists()]  # small weights are in the model itself


@contextmanager
def for_onnx(model: onnx.ModelProto, limit: int | None = None) -> Iterator[onnx.ModelProto | str]:
    """Yield a model in the form that onnx's checker and onnxruntime accept.

    Args:
        model: Left unchanged.
        limit: Bytes of weights above which it is large; None is `LIMIT`.

    Yields:
        The model; the path of a temporary file if it is large.
    """
    if not is_large(model, limit):
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(save_model(model, Path(folder) / "model.onnx", limit)[0])
