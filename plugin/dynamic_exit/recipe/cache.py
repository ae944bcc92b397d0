"""The stanza `dynamic_exit.cache`."""

from pydantic import Field

from ..core.cache import Cache, open_cache
from ..passes import Stanza
from ..passes.stanza import RecipePath


class CacheStanza(Stanza):
    """Where exported parts and results for saver candidates are cached between runs."""

    directory: RecipePath | None = Field(
        None, description="null: $DYNAMIC_EXIT_CACHE, else dynamic_exit in $XDG_CACHE_HOME or in ~/.cache"
    )
    enabled: bool = Field(True, description="false: nothing is kept")

    def open(self) -> Cache:
        """Open the cache."""
        return open_cache(self.directory, self.enabled)
