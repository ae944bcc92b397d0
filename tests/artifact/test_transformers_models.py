import importlib
import sys
from pathlib import Path

import transformers
import transformers.models
from transformers.utils import import_utils

from dynamic_exit.artifact.transformers_models import import_models, without_prefix

PLACE = Path(transformers.__file__).parent / "models"
READ = import_utils.define_import_structure


def test_the_names_are_those_that_the_package_reads_itself():
    found = without_prefix(READ(PLACE, prefix="models"))
    assert found == READ(str(PLACE / "__init__.py"))
    assert sum(len(names) for modules in found.values() for names in modules.values()) > 1000


def test_the_models_read_no_file_again_and_the_reader_is_back(monkeypatch):
    asked = []

    def read(path, *arguments, **options):
        asked.append((Path(path), options))
        return READ(path, *arguments, **options)

    monkeypatch.setattr(import_utils, "define_import_structure", read)
    monkeypatch.setattr(transformers, "models", transformers.models)  # the import below sets it
    monkeypatch.delitem(sys.modules, "transformers.models")
    import_models()
    assert asked == [(PLACE, {"prefix": "models"})]
    assert import_utils.define_import_structure is read
    anew = sys.modules["transformers.models"]
    assert set(dir(anew)) >= {"BertConfig", "ViTForImageClassification", "auto"}


def test_where_they_are_imported_or_cannot_be_read_so_nothing_happens(monkeypatch):
    before = importlib.import_module("transformers.models")
    import_models()
    monkeypatch.delattr(import_utils, "define_import_structure")
    import_models()
    assert sys.modules["transformers.models"] is before
