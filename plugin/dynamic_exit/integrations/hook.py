"""Registers the passes with Neural Compressor as soon as that is imported."""

from ..core.import_hook import after_import

#: The module of Neural Compressor whose import registers the algorithms for torch models.
TARGET = "neural_compressor.torch.quantization"


def install() -> None:
    """Register the passes now if Neural Compressor is imported already, else right after its import.

    Raises:
        PassError: Neural Compressor is imported and too old, or already has an algorithm with the name of a pass.
    """
    after_import(TARGET, _register)


def _register() -> None:
    # where that package is itself what imports Neural Compressor, this does nothing: it registers at its own end
    import dynamic_exit.integrations.neural_compressor  # noqa: F401
