"""Models that a function of the user builds."""

import fnmatch

from ...core.user_code import function_names, load_function
from ...errors import ModelError, first_line, nearest
from ...passes import ModelSource
from .base import BuiltModel, ModelBuilder


class PythonBuilder(ModelBuilder):
    """Calls ``file.py:function`` or ``package.module:function`` with the `arguments` of the stanza."""

    def build(self, source: ModelSource) -> BuiltModel:
        """Build a model; which of its weights are random is not known."""
        factory = load_function(source.name)
        try:
            return BuiltModel(factory(**source.arguments))
        except Exception as error:  # user code may raise anything
            reason = first_line(error)
            raise ModelError(f"model '{source.name}' cannot be built: {reason}; check its `arguments`") from error

    def find_matches(self, source: ModelSource) -> tuple[list[str], str]:
        """List the functions of the file that match a pattern."""
        file = source.name.rpartition(":")[0]
        names = [f"{file}:{name}" for name in function_names(file)]
        return fnmatch.filter(names, source.name), nearest(source.name, names)
