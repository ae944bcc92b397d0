"""Draw docs/images/chain.svg from a folder that `dynamic-exit run` wrote.

    python docs/make_figures.py build/quickstart

The same `metrics.json` gives the same bytes. Text stands on filled boxes of its own, so that the picture reads on light
and on dark pages alike.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

IMAGE = Path(__file__).parent / "images" / "chain.svg"
POINT = "accuracy-drop-0.5%"
BOX, GAP, HEIGHT, MARGIN = 158, 34, 62, 8
COLORS = {"input": "#57606a", "saver": "#1a7f64", "exit": "#8250df", "backbone": "#0a58ca"}
LINE = "#8b949e"
FONT = (
    "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif' text-anchor='middle' fill='#ffffff'"
)


def chain_svg(rates: Mapping[str, float]) -> str:
    """Return the picture of a chain.

    Args:
        rates: Stage -> share of the samples that leave there, in the order of the chain, the final last; 0..1.
    """
    boxes = [("input", "input", "every sample", None)]
    whole = "the rest of it" if any(":" in stage for stage in rates) else "the whole model"
    for stage, rate in rates.items():
        kind = "backbone" if stage == "final" else "exit" if ":" in stage else "saver"
        told = {"saver": "tiny model", "exit": f"head at {stage.partition(':')[0]}", "backbone": whole}[kind]
        boxes.append((kind, kind, told, rate))
    width = 2 * MARGIN + len(boxes) * BOX + (len(boxes) - 1) * GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} 168' role='img' "
        f"aria-label='{escape(_summary(rates))}'>",
        f"<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0 8 4 0 8z' fill='{LINE}'/></marker></defs>",
    ]
    for place, (kind, title, told, rate) in enumerate(boxes):
        left = MARGIN + place * (BOX + GAP)
        middle = left + BOX / 2
        parts += [
            f"<rect x='{left}' y='{MARGIN}' width='{BOX}' height='{HEIGHT}' rx='9' fill='{COLORS[kind]}'/>",
            f"<text x='{middle:g}' y='34' font-size='18' font-weight='600' {FONT}>{title}</text>",
            f"<text x='{middle:g}' y='55' font-size='14' {FONT}>{escape(told)}</text>",
        ]
        if place:
            parts.append(_arrow(left - GAP + 2, MARGIN + HEIGHT / 2, left - 2, MARGIN + HEIGHT / 2))
        if rate is not None:
            parts += [
                _arrow(middle, MARGIN + HEIGHT + 2, middle, 112),
                f"<rect x='{middle - 66:g}' y='114' width='132' height='44' rx='22' fill='{COLORS[kind]}'/>",
                f"<text x='{middle:g}' y='142' font-size='17' font-weight='600' {FONT}>{rate:.1%} leave</text>",
            ]
    return "\n".join([*parts, "</svg>", ""])


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"<path d='M{x1:g} {y1:g} {x2:g} {y2:g}' stroke='{LINE}' stroke-width='2.5' marker-end='url(#head)'/>"


def _summary(rates: Mapping[str, float]) -> str:
    """Return the picture in words, for those who do not see it."""
    return "Share of samples that leave at each stage: " + ", ".join(
        f"{stage} {rate:.1%}" for stage, rate in rates.items()
    )


def rates_of(folder: Path, point: str) -> dict[str, float]:
    """Return where the samples leave at one operating point.

    Args:
        folder: As `dynamic-exit run` wrote it.
        point: Name of the operating point.

    Raises:
        SystemExit: There is no such point.
    """
    rows = {row["name"]: row for row in json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["rows"]}
    if point not in rows:
        raise SystemExit(f"{folder} has no operating point '{point}'; choose one of {', '.join(rows)}")
    return rows[point]["exit_rates"]


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder that `dynamic-exit run` wrote")
    parser.add_argument("--point", default=POINT, help="name of the operating point")
    parser.add_argument("--output", type=Path, default=IMAGE, help="SVG to write")
    given = parser.parse_args()
    given.output.write_text(chain_svg(rates_of(given.folder, given.point)), encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
