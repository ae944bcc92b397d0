import json
from pathlib import Path

import numpy as np
import pytest

import dynamic_exit
from dynamic_exit.core.user_modules import is_user_file


def test_what_a_user_wrote_is_told_from_libraries_and_this_package(tmp_path):
    own = sorted(Path(dynamic_exit.__file__).parent.rglob("*.py"))
    assert len(own) > 100
    assert not [path for path in own if is_user_file(str(path))]
    assert not is_user_file(json.__file__) and not is_user_file(np.__file__) and not is_user_file(pytest.__file__)
    assert is_user_file(str(tmp_path / "model.py"))
