"""Registers with Neural Compressor and transformers as soon as those are imported."""

from .import_hook import after_import

#: The module of Neural Compressor whose import registers the algorithms for torch models.
TARGET = "neural_compressor.torch.quantization"
_AUTO_CLASSES = "transformers.models.auto"


def install() -> None:
    """Register now with what is imported already, else right after its import.

    Raises:
        PassError: Neural Compressor is imported and too old, or already has an algorithm with the name of a pass.
    """
    after_import(TARGET, _register)
    after_import(f"{_AUTO_CLASSES}.configuration_auto", _register_config)
    after_import(f"{_AUTO_CLASSES}.modeling_auto", _register_models)
    after_import(f"{_AUTO_CLASSES}.image_processing_auto", _register_image_processor)


def _register() -> None:
    # where that package is itself what imports Neural Compressor, this does nothing: it registers at its own end
    import dynamic_exit.integrations.neural_compressor  # noqa: F401


def _register_config() -> None:
    from .transformers import register_config

    register_config()


def _register_models() -> None:
    from .transformers import register_models

    register_models()


def _register_image_processor() -> None:
    from .transformers import register_image_processor

    register_image_processor()
