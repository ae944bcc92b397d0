"""onnxruntime sessions that behave like torch modules, so that one loop drives torch and ONNX alike."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ..errors import ExportError, first_line
from .external_data import for_onnx
from .part import Part


def open_session(
    model: onnx.ModelProto | bytes | str,
    threads: int | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    options: onnxruntime.SessionOptions | None = None,
    limit: int | None = None,
) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session.

    Args:
        model: The model, its bytes or the path of its file.
        threads: Threads within an operator; None leaves it to onnxruntime.
        providers: Execution providers in order of preference.
        options: Further options; they are used as they are.
        limit: Bytes of weights from which a model goes through a temporary file; None is `large.LIMIT`.

    Returns:
        The session.

    Raises:
        ExportError: A provider is not there, or onnxruntime refuses the model.
    """
    missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if missing:
        known = ", ".join(onnxruntime.get_available_providers())
        raise ExportError(f"onnxruntime has no provider '{missing[0]}' on this machine; it has {known}")
    if options is None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    if isinstance(model, onnx.ModelProto):
        with for_onnx(model, limit) as form:
            content = form if isinstance(form, str) else form.SerializeToString()
            return _open(content, options, providers)
    return _open(model, options, providers)


def _open(
    model: bytes | str, options: onnxruntime.SessionOptions, providers: Sequence[str]
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises classes of its own that share no base below Exception
        raise ExportError(f"onnxruntime refuses the model: {first_line(error)}") from error


class PartSession(nn.Module):
    """One part, run by onnxruntime: float tensors in, one tensor out, on the CPU.

    Args:
        part: The part.
        threads: Threads within an operator; None leaves it to onnxruntime.
        session: Of the part, where it is open already.

    Attributes:
        width: Size of the last dimension that it gives.
    """

    def __init__(self, part: Part, threads: int | None = None, session: onnxruntime.InferenceSession | None = None):
        super().__init__()
        self.input_names, self.output_kind, self.name = part.input_names, part.output_kind, part.name
        self.width = part.output_shape[-1]
        self._session = session or open_session(part.proto, threads)

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        """Run on numpy arrays, batch first, in the order of `input_names`."""
        return self._session.run(None, dict(zip(self.input_names, arrays, strict=True)))[0]

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run on tensors, batch first, in the order of `input_names`."""
        return torch.from_numpy(self.run(*(tensor.detach().cpu().numpy() for tensor in tensors)))
