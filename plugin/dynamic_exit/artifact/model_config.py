"""The configuration of a dynamic model (`config.json`), registered with `AutoConfig`."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from .manifest import MODEL_TYPE, VERSION, InputSpec, check_format, infer_task


class DynamicExitModelConfig(PretrainedConfig):
    """Configuration of a dynamic model.

    Args:
        inputs: The model's inputs.
        preprocessing: Stage name -> its preprocessing; for information only, it is part of the graph.
        stages: Names of the stages before the final one.
        task: ``image-classification`` or ``text-classification``; None infers it from the inputs.
        layout: ``single`` (one ONNX file) or ``segments`` (one file per stage).
        target: Runtime of the files: ``onnxruntime``, or ``torch`` with the layout ``segments``.
        compile: For the target ``torch``: whether stages are compiled when they are loaded.
        numerics: Numerics of the backbone, such as ``float`` or ``int8``; None if unknown.
        checksums: File name -> ``sha256:`` and the digest, of the files with weights.
        parts: For the layout ``segments``: the files of the chain, and its `fuse` and `default`.
        float_twin: Whether the dequantized files answer like the float model; None if unknown.
        max_tokens: Maximum number of tokens that the model takes; None if unlimited or unknown.
        tokenizer_files: Names of the tokenizer's files in the folder.
        format_version: Version of the folder format (``_version`` in the file).
        **kwargs: Arguments of every configuration, such as ``id2label``.

    Raises:
        ExportError: A newer version, an unknown layout or an unknown target.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        inputs: list[InputSpec] | None = None,
        preprocessing: dict[str, dict[str, Any]] | None = None,
        stages: list[str] | None = None,
        task: str | None = None,
        layout: str = "single",
        target: str = "onnxruntime",
        compile: bool = False,
        numerics: str | None = None,
        checksums: dict[str, str] | None = None,
        parts: dict[str, Any] | None = None,
        float_twin: bool | None = None,
        max_tokens: int | None = None,
        tokenizer_files: list[str] | None = None,
        format_version: int = VERSION,
        **kwargs: Any,
    ):
        version = kwargs.pop("_version", format_version)
        check_format(version, layout, target)
        super().__init__(**kwargs)
        self.inputs = inputs or []
        self.preprocessing = preprocessing or {}
        self.stages = stages or []
        self.task = task or infer_task(self.inputs)
        self.layout = layout
        self.target, self.compile, self.numerics = target, compile, numerics
        self.checksums = checksums or {}
        self.parts, self.float_twin = parts or {}, float_twin
        self.max_tokens, self.tokenizer_files = max_tokens, tokenizer_files or []
        self.format_version = version

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file, with `_version`."""
        values: dict[str, Any] = super().to_dict()
        values["_version"] = values.pop("format_version", VERSION)
        return values


AutoConfig.register(MODEL_TYPE, DynamicExitModelConfig, exist_ok=True)
