"""onnxruntime sessions, and parts that run in them as torch modules do."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from .external_data import for_onnx
from .inference import CPU, Provider, open_file
from .part import Part


def open_session(
    model: onnx.ModelProto | bytes | str,
    threads: int | None = None,
    providers: Sequence[Provider] = (CPU,),
    options: onnxruntime.SessionOptions | None = None,
    limit: int | None = None,
) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session.

    Args:
        model: The model, its bytes or the path of its file.
        threads: Threads within an operator; None leaves it to onnxruntime.
        providers: Execution providers in order of preference.
        options: Further options, used as they are.
        limit: Bytes of weights above which a model goes through a temporary file; None is `external_data.LIMIT`.

    Returns:
        The session.

    Raises:
        InputError: A provider is not available.
        ExportError: onnxruntime refuses the model.
    """
    if isinstance(model, onnx.ModelProto):
        with for_onnx(model, limit) as form:
            return open_file(form if isinstance(form, str) else form.SerializeToString(), threads, providers, options)
    return open_file(model, threads, providers, options)


class PartSession(nn.Module):
    """A part that onnxruntime runs on the CPU, as a torch module with the same inputs and output.

    Args:
        part: The part.
        threads: Threads within an operator; None leaves it to onnxruntime.
        session: A session of the part, if one is open already.

    Attributes:
        width: Size of the last dimension of the output.
        session: The session.
    """

    def __init__(self, part: Part, threads: int | None = None, session: onnxruntime.InferenceSession | None = None):
        super().__init__()
        self.input_names, self.output_kind, self.name = part.input_names, part.output_kind, part.name
        self.width = part.output_shape[-1]
        self.session = session or open_session(part.proto, threads)

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        """Run the part on numpy arrays, batch first, in the order of `input_names`."""
        return self.session.run(None, dict(zip(self.input_names, arrays, strict=True)))[0]

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the part on tensors, batch first, in the order of `input_names`."""
        return torch.from_numpy(self.run(*(tensor.detach().cpu().numpy() for tensor in tensors)))
