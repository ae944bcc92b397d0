import pytest
import tiny


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The files of a tiny recipe; tests change copies."""
    folder = tmp_path_factory.mktemp("built")
    tiny.build(folder)
    return folder
