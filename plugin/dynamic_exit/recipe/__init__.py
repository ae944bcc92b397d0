"""The recipe: its stanzas with their keys, defaults and ranges, and how a recipe is read and written.

Nothing here reads data or builds models. The stanza of a pass stands beside the pass, in `passes/`.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .cache import CacheStanza
    from .data import DATA_SOURCES, Columns, DataKind, DataSource, Splits, Text
    from .export import Export
    from .recipe import DynamicExit, Recipe
    from .static_choices import StaticChoice, StaticSearch, list_choices
    from .static_passes import StaticPasses, in_written_order, with_passes
    from .target_registry import TARGETS, TargetKind
    from .tuning import PointGoal, Tuning
    from .yaml_io import parse_recipe, read_recipe, read_stanzas, recipe_text

__all__ = [
    "DATA_SOURCES",
    "TARGETS",
    "CacheStanza",
    "Columns",
    "DataKind",
    "DataSource",
    "DynamicExit",
    "Export",
    "PointGoal",
    "Recipe",
    "Splits",
    "StaticChoice",
    "StaticPasses",
    "StaticSearch",
    "TargetKind",
    "Text",
    "Tuning",
    "in_written_order",
    "list_choices",
    "parse_recipe",
    "read_recipe",
    "read_stanzas",
    "recipe_text",
    "with_passes",
]

# on first use: some stanzas import torch with their passes
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "cache": ("CacheStanza",),
        "data": ("DATA_SOURCES", "Columns", "DataKind", "DataSource", "Splits", "Text"),
        "export": ("Export",),
        "recipe": ("DynamicExit", "Recipe"),
        "static_choices": ("StaticChoice", "StaticSearch", "list_choices"),
        "static_passes": ("StaticPasses", "in_written_order", "with_passes"),
        "target_registry": ("TARGETS", "TargetKind"),
        "tuning": ("PointGoal", "Tuning"),
        "yaml_io": ("parse_recipe", "read_recipe", "read_stanzas", "recipe_text"),
    },
)
