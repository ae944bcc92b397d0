"""The model card of a written folder: metadata that the Hugging Face hub reads, and a page that users read."""

from .model_card import dataset_name, model_card

__all__ = ["dataset_name", "model_card"]
