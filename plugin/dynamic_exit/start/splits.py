"""Which samples are trained, calibrated and tested on: the splits that data have, or parts that are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import DataError

KEYS = ("train", "calibration", "test")
# what the splits of data sets are called
_NAMES = {
    "train": ("train", "training"),
    "calibration": ("calibration", "calib", "validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_NAMES = frozenset(name for names in _NAMES.values() for name in names)
# fewer samples a class cannot be parted in three
_LEAST_PER_CLASS = 5


@dataclass(frozen=True)
class ChosenSplits:
    """The splits of a recipe.

    Attributes:
        names: Key of the recipe -> name of the split, with a slice where parts are drawn.
        counts: Key of the recipe -> number of samples, about; empty if unknown.
        drawn: Whether some are drawn by the recipe's seed.
    """

    names: Mapping[str, str]
    counts: Mapping[str, int] = field(default_factory=dict)
    drawn: bool = False

    @property
    def described(self) -> str:
        """One phrase on the splits with their sizes."""
        sizes = [f"{self.counts[key]} {key}" if key in self.counts else f"{key} '{self.names[key]}'" for key in KEYS]
        origin = "drawn by the seed, alike by class" if self.drawn else "as the data have them"
        return f"{', '.join(sizes)} ({origin})"


def is_split_name(name: str) -> bool:
    """Whether a folder, a file or an array is called as splits are."""
    return name.lower() in SPLIT_NAMES


def choose_splits(sizes: Mapping[str, int | None], where: str) -> ChosenSplits:
    """Choose the three splits of a recipe among those that data have.

    Args:
        sizes: Name of each split, empty for data without splits -> number of its samples, None if unknown.
        where: The data, for messages.

    Raises:
        DataError: The splits are called otherwise than splits are.
    """
    found = {key: [name for name in sizes if name.lower() in _NAMES[key]] for key in KEYS}
    named = {key: names[0] for key, names in found.items() if names}
    if len(named) == len(KEYS):
        return _chosen(named, sizes)
    if "train" in named and len(named) == 2:
        other = next(name for key, name in named.items() if key != "train")
        return _chosen({**named, "calibration": f"{other}[:50%]", "test": f"{other}[50%:]"}, sizes, drawn=True)
    if len(sizes) == 1:
        (name,) = sizes
        parts = zip(KEYS, ("[:60%]", "[60%:80%]", "[80%:]"), strict=True)
        return _chosen({key: f"{name}{part}" for key, part in parts}, sizes, drawn=True)
    raise DataError(
        f"{where} has the splits {', '.join(sizes)}, of which it is not plain what each is for; give "
        "--splits train=NAME,calibration=NAME,test=NAME"
    )


def read_splits(text: str, sizes: Mapping[str, int | None]) -> ChosenSplits:
    """Read the splits that the user names.

    Args:
        text: As ``train=a,calibration=b[:50%],test=b[50%:]``.
        sizes: As for `choose_splits`.

    Raises:
        DataError: One is missing, or something else is named.
    """
    names = dict(part.partition("=")[::2] for part in text.split(","))
    if {*names} != {*KEYS} or not all(names.values()):
        raise DataError(f"--splits takes train=NAME,calibration=NAME,test=NAME; got '{text}'")
    return _chosen(names, sizes, drawn=any("[" in name for name in names.values()))


def _chosen(names: Mapping[str, str], sizes: Mapping[str, int | None], drawn: bool = False) -> ChosenSplits:
    counts = {}
    for key in KEYS:
        name, _, part = names[key].partition("[")
        low, _, high = part.rstrip("]").replace("%", "").partition(":")
        size = sizes.get(name)
        if size is not None:
            counts[key] = int(float(high or 100) * size / 100) - int(float(low or 0) * size / 100)
    return ChosenSplits({key: names[key] for key in KEYS}, counts, drawn)


def check_counts(counts: Mapping[str, int], drawn: bool, where: str) -> list[str]:
    """Refuse data that cannot be parted, or that no classifier is for.

    Args:
        counts: Class -> number of samples.
        drawn: Whether splits are drawn from them.
        where: The data, for messages.

    Returns:
        Notes on classes with few samples.

    Raises:
        DataError: There is one class, or there are too few samples.
    """
    if len(counts) < 2:
        only = f"one class, '{next(iter(counts))}'" if counts else "no classes"
        raise DataError(f"{where} holds {only}; a classifier needs samples of two classes at least")
    if not drawn:
        return []
    if sum(counts.values()) < _LEAST_PER_CLASS * len(counts):
        raise DataError(
            f"{where} holds {sum(counts.values())} samples of {len(counts)} classes, too few to draw three splits "
            f"from; give {_LEAST_PER_CLASS} of each class at least, or splits of your own by --splits"
        )
    few = [name for name, count in counts.items() if count < _LEAST_PER_CLASS]
    return [f"fewer than {_LEAST_PER_CLASS} samples, so that not every split has one: {', '.join(few)}"] if few else []
