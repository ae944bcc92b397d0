"""Loads a dynamic model with the class of its task."""

import os
from typing import Any, Unpack

from ..artifact.folder import find_folder
from ..artifact.manifest import IMAGES, TEXT
from ..artifact.model_config import DynamicExitModelConfig
from ..errors import InputError
from .base import DynamicExitClassifier
from .image_classification import DynamicExitModelForImageClassification
from .options import LoadingOptions, Place, load_config, split_options
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
        config: DynamicExitModelConfig | Place | None = None,
        export: bool = False,
        *,
        recipe: Any = None,
        operating_point: str | None = None,
        **options: Unpack[LoadingOptions],
    ) -> DynamicExitClassifier:
        """Load a dynamic model with the class that its configuration names.

        Args:
            model_id: A folder that ``dynamic-exit run`` wrote, or the id of a repository on the hub.
            config: Replaces the folder's configuration.
            export: False only: what is compressed first has no configuration that names a class.
            recipe: None only, as for `export`.
            operating_point: Name of the initial point; None is the folder's default.
            **options: As for `DynamicExitClassifier.from_pretrained`.

        Raises:
            InputError: There is no class for the model's task, or `export` or `recipe` came in.
            DynamicExitError: As for `DynamicExitClassifier.from_pretrained`.
        """
        if export or recipe is not None:
            names = " or ".join(each.__name__ for each in _CLASSES.values())
            raise InputError(f"the task is not known before a model is compressed; call from_pretrained of {names}")
        hub, others = split_options(options)
        folder = find_folder(model_id, **hub)
        config = load_config(config, folder, hub.get("subfolder", ""))
        if config.task not in _CLASSES:
            raise InputError(f"'{folder}' is for {config.task}; known are {', '.join(_CLASSES)}")
        return _CLASSES[config.task].from_pretrained(folder, config, operating_point=operating_point, **others)
