"""Kept until the folder is written with `hub.processor` alone."""

from ..hub.processor import write_image_processor

__all__ = ["write_image_processor"]
