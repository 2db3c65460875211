"""The page as a real browser sees it: wide and narrow, light and dark, by mouse, by keyboard, on paper."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.launcher.report.browser import Browser, NoBrowserError, ensure_browser
from tests.launcher.report.conftest import Write
from tests.launcher.report.factory import HOSTILE

WIDTHS = (1280, 360)
_FOLDED_OUT = "for (const fold of document.querySelectorAll('details')) fold.open = true"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        program = ensure_browser()
    except NoBrowserError as missing:
        pytest.skip(f"NO BROWSER TESTS WERE RUN: {missing}")
    with Browser(program) as running:
        yield running


@pytest.fixture(params=["rough_run", "broken_sweep"])
def page(request: pytest.FixtureRequest, write: Write) -> Path:
    return Path(write(request.getfixturevalue(request.param))["report"])


@pytest.fixture
def sweep_page(broken_sweep: Path, write: Write) -> Path:
    return Path(write(broken_sweep)["report"])


def box(browser: Browser, chart: int) -> tuple[int, int, int, int]:
    """Where a chart is on the whole page: left, top, right, bottom."""
    found = browser.evaluate(
        f"(() => {{ const b = document.querySelector('[data-chart=\"{chart}\"]').getBoundingClientRect();"
        " return [b.left, b.top + scrollY, b.right, b.bottom + scrollY].map(Math.round); })()"
    )
    left, top, right, bottom = found
    return left, top, right, bottom


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_charts_are_drawn_and_nothing_is_asked_for(browser: Browser, page: Path, width: int, dark: bool):
    browser.open(page, width, dark=dark)
    assert browser.complaints == []
    assert browser.failures == []
    outside = [url for url in browser.requests if not url.startswith("data:")]
    assert outside == [page.as_uri()]
    shot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    assert shot.width == width
    charts = browser.evaluate("document.querySelectorAll('[data-chart]').length")
    assert charts >= 5
    for chart in range(charts):
        region = shot.crop(box(browser, chart))
        colours = region.getcolors(region.width * region.height) or []
        background = max(count for count, _ in colours)
        ink = 1 - background / (region.width * region.height)
        assert ink > 0.004, f"chart {chart} is empty at {width}"
        assert len(colours) > 20, f"chart {chart} has hardly a colour at {width}"
    corner = shot.getpixel((1, 1))
    assert isinstance(corner, tuple)
    assert (sum(corner) < 3 * 60) == dark


@pytest.mark.parametrize("width", WIDTHS)
def test_only_tables_and_the_menu_scroll_sideways(browser: Browser, page: Path, width: int):
    browser.open(page, width)
    browser.evaluate(_FOLDED_OUT)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        browser.evaluate(
            "[...document.querySelectorAll('main *')]"
            ".filter((e) => !e.closest('.scroll') && !e.closest('svg'))"
            ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
            ".map((e) => e.outerHTML.slice(0, 80))"
        )
        == []
    )


def test_a_complaint_would_be_seen(browser: Browser, tmp_path: Path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
        "<script>alert(1)</script><img src='https://example.invalid/x.png'>"
    )
    browser.open(bad, 360)
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)


def test_pointing_at_a_trial_names_it(browser: Browser, sweep_page: Path):
    browser.open(sweep_page, 1280)
    x, y = browser.evaluate(
        "(() => { const line = document.querySelector('[data-chart=\"0\"] .mark-line path');"
        " line.scrollIntoView({ block: 'center', behavior: 'instant' });"
        " const at = line.getPointAtLength(line.getTotalLength() / 2).matrixTransform(line.getScreenCTM());"
        " return [at.x, at.y]; })()"
    )
    browser.hover(x, y)
    text = browser.evaluate(
        "new Promise((done) => { const look = () => {"
        " const tip = document.querySelector('#vg-tooltip-element.visible');"
        " tip ? done(tip.innerText) : requestAnimationFrame(look); }; look(); })"
    )
    assert "trial" in text
    assert "seed=" in text
    assert browser.complaints == []


def test_tables_sort_by_keyboard_and_say_so(browser: Browser, sweep_page: Path):
    browser.open(sweep_page, 1280)
    browser.evaluate("document.querySelector('#leaderboard th:nth-child(2) button').focus()")
    column = (
        "[...document.querySelectorAll('#leaderboard tbody')[0].rows].map((row) => row.cells[1].innerText)"
    )
    state = "document.querySelector('#leaderboard th:nth-child(2)').ariaSort"
    browser.press("Enter")
    assert browser.evaluate(column) == ["1e-05", "0.0001", "0.0003", "0.001"]
    assert browser.evaluate(state) == "ascending"
    browser.press("Enter")
    assert browser.evaluate(column) == ["0.001", "0.0003", "0.0001", "1e-05"]
    assert browser.evaluate(state) == "descending"


def test_what_has_no_number_sorts_last_both_ways(browser: Browser, sweep_page: Path):
    browser.open(sweep_page, 1280)
    browser.evaluate("document.querySelector('#leaderboard th:nth-child(4) button').focus()")
    last = "[...document.querySelectorAll('#leaderboard tbody')[0].rows].at(-1).cells[1].innerText"
    for _ in range(2):
        browser.press("Enter")
        assert browser.evaluate(last) == "1e-05", "the setting without a finished trial"


def test_the_first_tab_skips_to_the_content(browser: Browser, page: Path):
    browser.open(page, 1280)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    browser.press("Enter")
    assert browser.evaluate("document.activeElement.id") == "content"


def test_hostile_text_is_shown_and_not_run(browser: Browser, page: Path):
    browser.open(page, 1280)
    browser.evaluate(_FOLDED_OUT)
    assert HOSTILE in browser.evaluate("document.body.textContent")
    assert browser.evaluate("document.querySelectorAll('[onclick], main b').length") == 0


def test_it_prints_light_on_several_sheets(browser: Browser, page: Path):
    browser.open(page, 1280, dark=True)
    assert browser.pdf().startswith(b"%PDF")
    browser.open(page, 1280, dark=True, media="print")
    shot = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    assert shot.getpixel((1, 1)) == (255, 255, 255)
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
