"""The configuration of a dynamic model (`config.json`) as transformers reads it, registered with `AutoConfig`."""

from typing import Any, Self

from .manifest import MODEL_TYPE, VERSION, InputSpec, Manifest, check_format, infer_task, parse_manifest
from .transformers_models import import_models

import_models()

from transformers import AutoConfig, PretrainedConfig  # noqa: E402  # the models first


class DynamicExitModelConfig(PretrainedConfig):
    """Configuration of a dynamic model. `manifest` says what its keys, of this version or an older one, mean.

    Args:
        inputs: The model's inputs.
        preprocessing: Stage name -> its preprocessing; for information only, it is part of the graph.
        chain: The parts of the model, as `chain.ChainSpec`.
        default: Name of the initial operating point.
        task: ``image-classification`` or ``text-classification``; None infers it from the inputs.
        layout: ``single`` (one ONNX file) or ``segments`` (one file per part).
        target: Runtime of the files, such as ``onnxruntime``.
        format_version: Version of the folder format (``_version`` in the file).
        **kwargs: Further keys of `Manifest`, such as ``files`` and ``checksums``, and arguments of every configuration,
            such as ``id2label``.

    Raises:
        ExportError: A newer version, an unknown layout or an unknown target.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        inputs: list[InputSpec] | None = None,
        preprocessing: dict[str, dict[str, Any]] | None = None,
        chain: dict[str, Any] | None = None,
        default: str | None = None,
        task: str | None = None,
        layout: str = "single",
        target: str = "onnxruntime",
        format_version: int = VERSION,
        **kwargs: Any,
    ):
        version = kwargs.pop("_version", format_version)
        check_format(version, layout, target)
        super().__init__(**kwargs)
        self.inputs, self.preprocessing = inputs or [], preprocessing or {}
        self.chain, self.default = chain, default
        self.task = task or infer_task(self.inputs)
        self.layout, self.target, self.format_version = layout, target, version

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the configuration that says of a folder what a manifest says."""
        names = dict(enumerate(manifest.labels))
        values = {**manifest.to_json(), "id2label": names, "label2id": {name: index for index, name in names.items()}}
        return cls(**values)

    @property
    def manifest(self) -> Manifest:
        """What the configuration says of the folder.

        Raises:
            ExportError: It breaks the format.
        """
        return parse_manifest(self.to_dict())

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what is written: class names too where they are those that transformers gives by itself."""
        names = {str(index): name for index, name in (self.id2label or {}).items()}
        return {**super().to_diff_dict(), "id2label": names}

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, with `_version`."""
        values: dict[str, Any] = super().to_dict()
        values["_version"] = values.pop("format_version", VERSION)
        return values


AutoConfig.register(MODEL_TYPE, DynamicExitModelConfig, exist_ok=True)
