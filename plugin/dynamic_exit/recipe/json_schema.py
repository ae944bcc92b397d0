"""The JSON schema of recipes, by which editors complete and check them."""

import json
from typing import Any

from ..passes import MODEL_SOURCES, ModelSource, Stanza
from ..passes.tiny_saver.makers import MAKERS, MakerStanza
from .data import DATA_SOURCES, DataSource
from .export import Export
from .recipe import Recipe
from .static_passes import with_passes
from .target_registry import TARGETS


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, with the keys of every registered pass, source, target and maker."""
    schema = with_passes(Recipe).model_json_schema()
    definitions = schema["$defs"]
    kinds: tuple[tuple[type[Stanza], list[type[Stanza]]], ...] = (
        (ModelSource, [item.stanza for item in MODEL_SOURCES.registered().values()]),
        (DataSource, [item.stanza for item in DATA_SOURCES.registered().values()]),
        (Export, [item.stanza for item in TARGETS.registered().values()]),
        (MakerStanza, [item.Options for item in MAKERS.registered().values()]),
    )
    for base, stanzas in kinds:
        properties = definitions[base.__name__]["properties"]
        for stanza in stanzas:
            further = stanza.model_json_schema()
            for name, each in further.get("$defs", {}).items():
                definitions.setdefault(name, each)
            for name, field in further["properties"].items():
                properties.setdefault(name, field)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """Return the schema as JSON."""
    return json.dumps(recipe_schema(), indent=2) + "\n"
