"""Where trained weights come from: what their own model card says."""

from pathlib import Path
from typing import NamedTuple

import yaml


class Origin(NamedTuple):
    """Where trained weights come from, as model cards say it; empty where it is not known.

    Attributes:
        license: Identifier of the licence.
        license_name: Its name, if it is none that the hub knows.
        license_link: Where it stands.
        base_model: Name of the model on the hub.
    """

    license: str = ""
    license_name: str = ""
    license_link: str = ""
    base_model: str = ""


def read_origin(name: str) -> Origin:
    """Return what the card of a model says of its licence, and its name on the hub.

    Args:
        name: A folder, or a name on the hub, whose card counts if it is on this machine already.
    """
    from huggingface_hub import try_to_load_from_cache

    card, on_hub = Path(name, "README.md"), not Path(name).is_dir()
    if on_hub:
        found = try_to_load_from_cache(name, "README.md")
        card = Path(found) if isinstance(found, str) else card
    try:
        text = card.read_text(encoding="utf-8")
        front = yaml.safe_load(text.split("---", 2)[1]) if text.startswith("---") else {}
    except (OSError, UnicodeDecodeError, IndexError, yaml.YAMLError):  # a card that cannot be read says nothing
        front = {}
    said = front if isinstance(front, dict) else {}
    keys = ("license", "license_name", "license_link")
    terms = {key: said[key] for key in keys if isinstance(said.get(key), str)}
    return Origin(**terms, base_model=name if on_hub else "")
