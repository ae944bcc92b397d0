"""The import of transformers' models, whose names transformers reads from all of its files, twice."""

import sys
from pathlib import Path
from typing import Any


def import_models() -> None:
    """Import `transformers.models` with the names that `transformers` itself has found: a third of both imports."""
    import transformers

    tools, place = sys.modules.get("transformers.utils.import_utils"), Path(transformers.__file__).parent / "models"
    read = getattr(tools, "define_import_structure", None)
    if "transformers.models" in sys.modules or read is None:
        return

    def find(path: Any, *arguments: Any, **options: Any) -> Any:
        if Path(path) != place / "__init__.py" or arguments or options:
            return read(path, *arguments, **options)
        # as `transformers` asked, so that the answer is at hand
        return without_prefix(read(place, prefix="models"))

    tools.__dict__["define_import_structure"] = find
    try:
        import transformers.models  # noqa: F401
    finally:
        tools.__dict__["define_import_structure"] = read


def without_prefix(found: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Return the names below ``models.`` as that package itself calls its modules, by what they require."""
    inside = {
        needs: {name.removeprefix("models."): kept for name, kept in modules.items() if name.startswith("models.")}
        for needs, modules in found.items()
    }
    return {needs: modules for needs, modules in inside.items() if modules}
