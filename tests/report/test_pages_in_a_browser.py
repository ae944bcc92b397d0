"""The pages as people see them: in Chromium, light and dark, on a phone and on paper."""

import axe
import browser
import numpy as np
import pytest

from dynamic_exit.dashboard import monitor_page
from dynamic_exit.monitoring import Monitor
from dynamic_exit.pipeline import Metrics
from dynamic_exit.report.compare import ComparedRun, comparison_page
from dynamic_exit.report.page import report_page

if why := browser.missing():
    pytest.skip(why, allow_module_level=True)

WIDTHS = (1280, 390)
# milliseconds in which a page is shown, and its bytes at most
OPENS_IN, SIZE = 1_000, 3_000_000
# what sticks out of the page; what scrolls inside a frame of its own does not
STICKS_OUT = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")]
  .filter((each) => !each.parentElement.closest(".scroll, svg, pre, [hidden]") && each.id !== "tip")
  .filter((each) => each.getBoundingClientRect().right > width + 1 || each.getBoundingClientRect().left < -1)
  .map((each) => each.outerHTML.slice(0, 90));
"""
VIOLATIONS = (
    "return axe.run().then((found) => found.violations.map((each) => [each.impact, each.id, each.nodes[0].html]))"
)
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


def of_many_classes(metrics: Metrics) -> Metrics:
    """A run of 1,000 classes with names of all kinds."""
    names = ["<b>bold</b>", "犬", "القطة", LONG, "$x^{$", *(f"class {index}" for index in range(995))]
    rows = [row.model_copy(update={"class_accuracy": [0.9 - 0.001 * place * bool(row.accuracy_drop is not None)
                                                      for place in range(1000)]}) for row in metrics.rows]  # fmt: skip
    update = {"rows": rows, "class_names": names, "class_samples": [5] * 1000, "data_notes": [LONG * 3]}
    return metrics.model_copy(update={**update, "answers": [], "notes": [LONG * 3]})


def moved_page(folder):
    """The page of a monitor that has seen traffic unlike the test samples."""
    monitor = Monitor.read(folder, fallback="backbone")
    point, last = monitor.reference.points[0].name, len(monitor.reference.stages) - 1
    monitor.observe(point, np.full(1000, last), np.full(1000, 0.5, np.float32))
    assert monitor.status().moved
    return monitor_page(LONG, monitor.reference, monitor.status())


@pytest.fixture(scope="module")
def pages(ran, ran_float, tmp_path_factory):
    """The pages by name: of a run, of one with 1,000 classes, of two runs side by side, and of live traffic."""
    folder, points, metrics = tmp_path_factory.mktemp("pages"), ran.result.points, ran.result.metrics
    runs = [ComparedRun(LONG, points, metrics), ComparedRun("float", ran_float.result.points, ran_float.result.metrics)]
    texts = {
        "run": (ran.folder / "report.html").read_text(),
        "classes": report_page(LONG, points, of_many_classes(metrics), recipe="seed: 0\n" + "x" * 500),
        "compare": comparison_page(runs),
        "monitor": moved_page(ran.folder),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def window():
    with browser.open_browser() as window:
        yield window


def open_page(window, path, width=1280, scheme="light"):
    window.resize(width, 900)
    window.prefer(scheme)
    window.requests(), window.log("browser")
    window.open(path)


def test_pages_open_at_once_without_a_request_or_an_error(window, pages):
    for path in pages.values():
        assert path.stat().st_size < SIZE
        opened = []
        for _ in range(5):  # the fastest counts: other work takes the processor at times
            open_page(window, path)
            opened.append(window.run("return performance.getEntriesByType('navigation')[0].loadEventStart"))
            asked = [url for url in window.requests() if not url.startswith("data:")]
            assert asked == [path.resolve().as_uri()]
            assert window.log("browser") == []
        assert 0 < min(opened) < OPENS_IN, path.name


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_page(window, pages, width):
    for path in pages.values():
        open_page(window, path, width)
        assert window.run("return document.documentElement.scrollWidth") == width
        assert window.run(STICKS_OUT) == []


def test_nothing_serious_keeps_people_out(window, pages):
    script = axe.axe_script()
    if script is None:
        pytest.skip("axe-core is not in the cache and npm cannot fetch it")
    looks = [("run", 1280, "light"), ("run", 1280, "dark"), ("run", 390, "light"), ("compare", 1280, "light")]
    looks += [("monitor", 390, "dark")]
    for name, width, scheme in looks:
        open_page(window, pages[name], width, scheme)
        window.run(f"{script}; return 0")
        found = window.run(VIOLATIONS)
        assert [each for each in found if each[0] in ("serious", "critical")] == [], (name, width, scheme)


def test_the_point_is_chosen_by_radio_button_by_mark_and_by_key(window, pages, ran):
    open_page(window, pages["run"])
    shown = "return [...document.querySelectorAll('[data-point]')].filter((e) => !e.hidden).map((e) => e.dataset.point)"
    assert set(window.run(shown)) == {"0"}
    names = ran.result.points.names
    window.run("document.querySelectorAll('input[name=point]')[1].click()")
    assert set(window.run(shown)) == {"1"}
    assert window.run("return document.querySelector('.flow:not([hidden] *)').ariaLabel").endswith(names[1])
    window.run("document.querySelector('[data-choose=\"0\"]').focus()")
    tip = "const tip = document.getElementById('tip'); return tip.hidden ? null : tip.textContent"
    assert window.run(tip).startswith(f"{names[0]}: accuracy ")
    window.press("\ue007")  # Enter
    assert set(window.run(shown)) == {"0"} and window.run("return document.querySelector(':checked').value") == "0"
    window.press("\ue00c")  # Escape
    assert window.run(tip) is None


def test_names_of_classes_are_text(window, pages):
    open_page(window, pages["classes"])
    cells = window.run("return [...document.querySelectorAll('details td:first-child')].map((e) => e.textContent)")
    assert cells[:5] == ["<b>bold</b>", "犬", "القطة", LONG, "$x^{$"] and len(cells) == 1000
    assert (
        window.run("return document.querySelectorAll('section div:not([hidden]) > .scroll tbody td.name').length") == 12
    )


def test_pages_can_be_printed(window, pages):
    for path in pages.values():
        open_page(window, path, scheme="dark")
        assert window.pdf().startswith(b"%PDF")
