"""onnxruntime sessions of files and bytes, without onnx or torch."""

from collections.abc import Mapping, Sequence

import onnxruntime

from ..errors import ExportError, InputError, first_line
from .links import without_links

CPU = "CPUExecutionProvider"
#: Name of an execution provider, or its name and its options.
Provider = str | tuple[str, Mapping[str, str]]


def open_file(
    model: bytes | str,
    threads: int | None = None,
    providers: Sequence[Provider] = (CPU,),
    options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    """Open an onnxruntime session.

    Args:
        model: The bytes of a model, or the path of its file.
        threads: Threads within an operator; None leaves it to onnxruntime.
        providers: Execution providers in order of preference.
        options: Further options; onnxruntime's warnings are kept quiet unless they set a level of their own.

    Returns:
        The session.

    Raises:
        InputError: A provider is not available.
        ExportError: onnxruntime refuses the model.
    """
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    missing = [name for name in names if name not in onnxruntime.get_available_providers()]
    if missing:
        known = ", ".join(onnxruntime.get_available_providers())
        raise InputError(f"onnxruntime has no provider '{missing[0]}' on this machine; it has {known}")
    level = (options := options or onnxruntime.SessionOptions()).log_severity_level
    options.log_severity_level = 3 if level < 0 else level  # by itself onnxruntime warns of inputs with defaults
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        if isinstance(model, bytes):
            return onnxruntime.InferenceSession(model, options, providers=list(providers))
        with without_links(model) as path:
            return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # onnxruntime raises its own classes, which share no base but Exception
        raise ExportError(f"onnxruntime refuses the model: {first_line(error)}") from error
    finally:
        options.log_severity_level = level
