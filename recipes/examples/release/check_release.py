"""Compare a new model with the last release: `python check_release.py model/metrics.json last_release.json`.

Ends with exit code 3 where an operating point of the last release is missing, or is worse than it was: its accuracy by
more than two standard errors, its cost by more than a tenth. `--keep` makes the new figures those of the last release.
"""

import argparse
import json
import math
import sys
from pathlib import Path

# what one run differs from another by, without any change
STANDARD_ERRORS, COST_TOLERANCE = 2.0, 1.1


def figures(metrics: dict) -> dict[str, dict[str, float]]:
    """Return what a release is held against, by operating point."""
    kept = ("accuracy", "accuracy_standard_error", "cost_ratio")
    return {
        row["name"]: {key: row[key] for key in kept} for row in metrics["rows"] if row.get("accuracy_drop") is not None
    }


def faults(new: dict[str, dict[str, float]], last: dict[str, dict[str, float]]) -> list[str]:
    """Return a sentence for each figure that has become worse."""
    found = []
    for name, before in last.items():
        now = new.get(name)
        if now is None:
            found.append(f"{name}: the operating point is gone")
            continue
        error = math.hypot(now["accuracy_standard_error"], before["accuracy_standard_error"])
        if now["accuracy"] < before["accuracy"] - STANDARD_ERRORS * error:
            found.append(f"{name}: accuracy {now['accuracy']:.2%}, {before['accuracy']:.2%} in the last release")
        if now["cost_ratio"] > COST_TOLERANCE * before["cost_ratio"]:
            found.append(f"{name}: cost {now['cost_ratio']:.3f}, {before['cost_ratio']:.3f} in the last release")
    return found


def main() -> int:
    """Compare, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path, help="metrics.json of the new model")
    parser.add_argument("last", type=Path, help="figures of the last release")
    parser.add_argument("--keep", action="store_true", help="write the new figures there")
    given = parser.parse_args()
    new = figures(json.loads(given.metrics.read_text()))
    if given.keep:
        given.last.write_text(json.dumps(new, indent=2) + "\n")
        return 0
    found = faults(new, json.loads(given.last.read_text()))
    for line in found or [f"no figure of {len(new)} operating points is worse than in the last release"]:
        print(line, file=sys.stderr if found else sys.stdout)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main())
