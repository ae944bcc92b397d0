"""Loads a dynamic model with the class of its task."""

import os
from typing import Unpack

import onnxruntime

from ..artifact.folder import HubOptions, find_folder, read_config
from ..artifact.manifest import IMAGES, TEXT
from ..errors import ExportError
from .base import DynamicExitClassifier
from .image_classification import DynamicExitModelForImageClassification
from .sequence_classification import DynamicExitModelForSequenceClassification

_CLASSES: dict[str, type[DynamicExitClassifier]] = {
    IMAGES: DynamicExitModelForImageClassification,
    TEXT: DynamicExitModelForSequenceClassification,
}


class AutoDynamicExitModel:
    """Loads a dynamic model without naming its class, as transformers' auto classes do; it has no instances."""

    def __init__(self) -> None:
        raise TypeError("AutoDynamicExitModel has no instances; call AutoDynamicExitModel.from_pretrained(folder)")

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | os.PathLike[str],
        *,
        operating_point: str | None = None,
        provider: str | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        compile: bool | None = None,
        **hub: Unpack[HubOptions],
    ) -> DynamicExitClassifier:
        """Load a dynamic model with the class that its configuration names.

        Args:
            model_id: A folder that ``dynamic-exit run`` wrote, or the id of a repository on the hub.
            operating_point: Name of the initial point; None is the folder's default.
            provider: Execution provider of onnxruntime; None is ``CPUExecutionProvider``.
            session_options: Further options of onnxruntime.
            compile: For the target ``torch``: whether to compile the stages; None as the folder says.
            **hub: ``revision``, ``token``, ``subfolder``, ``cache_dir``, ``force_download`` and ``local_files_only``.

        Raises:
            ExportError: As for `DynamicExitClassifier.from_pretrained`, or there is no class for the model's task.
            OperatingPointError: The operating point is unknown.
        """
        folder = find_folder(model_id, **hub)
        config = read_config(folder)
        if config.task not in _CLASSES:
            raise ExportError(f"'{folder}' is for {config.task}; known are {', '.join(_CLASSES)}")
        return _CLASSES[config.task].from_pretrained(
            folder,
            config,
            operating_point=operating_point,
            provider=provider,
            session_options=session_options,
            compile=compile,
        )
