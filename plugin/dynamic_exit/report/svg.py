"""Pictures of matplotlib as SVG in a page: in the page's colors, with text as text, and marks that can be reached."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Colors of plots, each a name of the page's style sheet: it knows what they are in the light, in the dark, on paper.
COLORS = {name: f"#0000{index:02x}" for index, name in enumerate(("ink", "muted", "line", "paper", *"abcdef"), start=1)}
#: Of the page's palette, which people of any color vision tell apart; `a` is its accent.
PALETTE = tuple(COLORS[name] for name in "abcdef")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # each figure says which it has
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "text.parse_math": False,  # names may hold dollars
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.edgecolor": COLORS["muted"],
    "axes.labelcolor": COLORS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": COLORS["line"],
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 1.1,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 0.9,
    "lines.solid_capstyle": "round",
}
# of which SVG is made
_POINTS_PER_INCH = 72
_MARK = "mark:"
_VARIABLES = {color: f"var(--{name})" for name, color in COLORS.items()}


@dataclass(frozen=True)
class Mark:
    """Something in a plot that tells what it is when it is pointed at, or reached with the keyboard.

    Attributes:
        text: What it tells.
        point: Index of the operating point that it chooses; None if it chooses none.
    """

    text: str
    point: int | None = None


@contextmanager
def plot_style(name: str) -> Iterator[None]:
    """Draw in the style of the page.

    Args:
        name: Unique in the page: identifiers in the picture depend on it.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that its own font lacks; the browser has others
        yield


def mark_id(index: int) -> str:
    """Return the `gid` of an artist that is the mark of this index."""
    return f"{_MARK}{index}"


def figure_svg(figure: Figure, title: str, marks: Mapping[int, Mark] | None = None) -> str:
    """Return a figure as an element `svg`.

    Args:
        figure: Drawn in `plot_style`, which must still hold.
        title: What it shows, for those who do not see it.
        marks: By the index of `mark_id`.
    """
    FigureCanvasSVG(figure)
    layout = figure.get_layout_engine()
    if layout is not None:
        # before anything is written, or matplotlib draws all of it a first time to do this
        figure.dpi = _POINTS_PER_INCH
        layout.execute(figure)
        figure.set_layout_engine(None)
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
        each.attrib = {key.rpartition("}")[2]: value for key, value in each.attrib.items()}
    for child in [each for each in root if each.tag == "metadata"]:
        root.remove(child)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "group", "aria-label": title}
    used = set(re.findall(r"#([\w-]+)", " ".join(value for each in root.iter() for value in each.attrib.values())))
    for each in root.iter():
        name = each.attrib.get("id", "")
        if name.startswith(_MARK):
            _make_reachable(each, (marks or {})[int(name.removeprefix(_MARK))])
        if name and name not in used:
            del each.attrib["id"]
    for group in root.iter("defs"):  # matplotlib's rule is for all elements of the page
        for rule in group.findall("style"):
            group.remove(rule)
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)
    text = re.sub(r"#0000[0-9a-f]{2}", lambda found: _VARIABLES.get(found[0], found[0]), text)
    return re.sub(r"\n\s*", "\n", text)


def _make_reachable(group: ElementTree.Element, mark: Mark) -> None:
    group.attrib |= {"class": "mark", "tabindex": "0", "aria-label": mark.text}
    group.attrib["role"] = "img" if mark.point is None else "button"
    if mark.point is not None:
        group.attrib["data-choose"] = str(mark.point)
