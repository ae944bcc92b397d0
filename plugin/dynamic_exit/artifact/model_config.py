"""`config.json` of a dynamic model, known to `AutoConfig`."""

from transformers import AutoConfig, PretrainedConfig

from .manifest import MODEL_TYPE, VERSION, check_format, task_of


class DynamicExitModelConfig(PretrainedConfig):
    """Configuration of a dynamic model.

    Args:
        inputs: One entry for each input: ``{"name", "dtype", "shape"}``, the shape without batch; a free dimension is
            its name.
        preprocessing: By stage, what the file does to the common input; for the record, it is inside the graph.
        stages: The chain's names before the final.
        task: ``image-classification`` or ``text-classification``; None tells by the inputs' names.
        layout: ``single`` (one ONNX file) or ``segments`` (one a stage).
        target: What runs the files: ``onnxruntime``, or ``torch``, whose layout is ``segments``.
        compile: With the target ``torch``: whether the stages are compiled when they are loaded.
        numerics: What the backbone's pieces are in, such as ``float`` or ``int8``; None where it is not said.
        checksums: Of the files with weights, by name in the folder: ``sha256:`` and the digest.
        parts: With the layout ``segments``: which file is what in the chain.
        float_twin: Whether the files, with quantization taken out, answer as the float model did; None where it is not
            known.
        max_tokens: The most tokens of a text that the model takes; None where it is not said, or any number is.
        tokenizer_files: Names in the folder of what the tokenizer consists of.
        format_version: Version of the folder's format (``_version`` in the file).
        **kwargs: What every configuration takes, such as ``id2label``.

    Raises:
        ExportError: A newer version, an unknown layout or an unknown target.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        inputs=None,
        preprocessing=None,
        stages=None,
        task: str | None = None,
        layout: str = "single",
        target: str = "onnxruntime",
        compile: bool = False,
        numerics: str | None = None,
        checksums=None,
        parts=None,
        float_twin=None,
        max_tokens: int | None = None,
        tokenizer_files=None,
        format_version: int = VERSION,
        **kwargs,
    ):
        version = kwargs.pop("_version", format_version)
        check_format(version, layout, target)
        super().__init__(**kwargs)
        self.inputs = inputs or []
        self.preprocessing = preprocessing or {}
        self.stages = stages or []
        self.task = task or task_of(self.inputs)
        self.layout = layout
        self.target, self.compile, self.numerics = target, compile, numerics
        self.checksums = checksums or {}
        self.parts, self.float_twin = parts or {}, float_twin
        self.max_tokens, self.tokenizer_files = max_tokens, tokenizer_files or []
        self.format_version = version

    def to_dict(self):
        """Return the configuration as it is written, with `_version`."""
        values = super().to_dict()
        values["_version"] = values.pop("format_version", VERSION)
        return values


AutoConfig.register(MODEL_TYPE, DynamicExitModelConfig, exist_ok=True)
