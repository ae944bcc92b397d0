"""Models that a function of the user builds."""

import fnmatch
import re

from ...core.model_fingerprint import function_fingerprint
from ...core.user_code import function_names, load_function
from ...errors import ModelError, first_line, nearest
from ...passes import ModelKind, ModelSource
from .base import BuiltModel, ModelBuilder


class PythonBuilder(ModelBuilder[ModelSource]):
    """Calls ``file.py:function`` or ``package.module:function`` with the `arguments` of the stanza."""

    def build(self) -> BuiltModel:
        """Build the model; which of its weights are random is not known."""
        factory = load_function(self.source.name)
        try:
            return BuiltModel(factory(**self.source.arguments))
        except (Exception, SystemExit) as error:  # user code may raise anything
            reason = first_line(error)
            raise ModelError(f"model '{self.source.name}' cannot be built: {reason}; check its `arguments`") from error

    def is_pattern(self) -> bool:
        """Whether the function is a pattern; the file is none."""
        return bool(re.search(r"[*?\[][^:]*$", self.source.name)) and super().is_pattern()

    def find_matches(self) -> tuple[list[str], str]:
        """List the functions of the file that match the pattern."""
        file = self.source.name.rpartition(":")[0]
        names = [f"{file}:{name}" for name in function_names(file)]
        return fnmatch.filter(names, self.source.name), nearest(self.source.name, names)

    def fingerprint(self) -> str:
        """Return the fingerprint of the function."""
        return function_fingerprint(self.source.name)


KIND = ModelKind(ModelSource, PythonBuilder)
