import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Nothing that a test makes goes into the user's cache, or comes from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNAMIC_EXIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
