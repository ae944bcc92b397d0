"""Dynamic models in transformers' auto classes, and so in its pipelines; each function registers with one of them."""

from .auto_classes import register_config, register_image_processor, register_models

__all__ = ["register_config", "register_image_processor", "register_models"]
