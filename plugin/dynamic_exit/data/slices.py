"""Names of splits with slices."""

import re

from ..errors import DataError


def parse_slice(text: str) -> tuple[str, tuple[float, float] | None]:
    """Parse ``name[10%:50%]`` into the name and the slice's bounds, shares in 0..1.

    Raises:
        DataError: It is no slice.
    """
    match = re.fullmatch(r"(.*?)\[(\d+(?:\.\d+)?%)?:(\d+(?:\.\d+)?%)?\]", text)
    if not match:
        if "[" in text:
            raise DataError(f"split '{text}' has a slice that cannot be read; write it as name[0%:50%]")
        return text, None
    low, high = (
        float(part[:-1]) / 100 if part else default
        for part, default in zip(match.groups()[1:], (0.0, 1.0), strict=True)
    )
    if not 0 <= low <= high <= 1:
        raise DataError(f"split '{text}' must slice upwards within 0% and 100%")
    return match[1], (low, high)
