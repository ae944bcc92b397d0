"""What every source of data provides: a function that returns the samples of a split."""

from collections.abc import Callable, Mapping

from numpy.typing import ArrayLike

#: Inputs and labels of one split: one array (N, ...), or several by name, and N labels that are numbers or names.
Samples = tuple[ArrayLike | Mapping[str, ArrayLike], ArrayLike]
#: Returns the samples of a split by its name.
SplitReader = Callable[[str], Samples]
