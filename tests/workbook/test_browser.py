"""The page in a real browser: drawn, sortable, and without a word on the console."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from differential_runs import write_run

from feasible.workbook.page import write_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    DRIVER is None or BROWSER is None, reason="chromium and chromedriver are not installed"
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--window-size=1280,1000",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, example_run: Path) -> Any:
    browser.get(write_page(example_run).as_uri())
    _wait(browser, "return document.documentElement.dataset.ready === 'true'")
    return browser


def _wait(browser: Any, script: str) -> None:
    deadline = time.monotonic() + 20
    while not browser.execute_script(script):
        assert time.monotonic() < deadline, f"still false: {script}"
        time.sleep(0.05)


def _first_column(browser: Any) -> list[str]:
    script = """return [...document.querySelectorAll("table.comparison tbody th")]
        .map((cell) => cell.querySelector(".method > span").firstChild.textContent.trim())"""
    return browser.execute_script(script)


def test_plots_are_drawn_and_the_console_is_silent(opened: Any):
    count = opened.execute_script("return document.querySelectorAll('.plot[data-drawn] .main-svg').length")
    assert count >= 6
    assert opened.execute_script("return document.querySelectorAll('.plot').length") == 6
    assert opened.execute_script("return document.querySelectorAll('.scatterlayer .point').length") > 0
    assert opened.get_log("browser") == []


def test_the_table_is_complete_and_sorts(opened: Any):
    rows = ["unconstrained", "projection", "penalty, weight 10", "barrier <x>"]
    assert _first_column(opened) == rows
    heading = opened.find_elements("css selector", "table.comparison thead button")[1]
    heading.click()
    assert _first_column(opened) == ["projection", "penalty, weight 10", "unconstrained", "barrier <x>"]
    heading.click()
    assert _first_column(opened) == ["unconstrained", "penalty, weight 10", "projection", "barrier <x>"]
    assert heading.find_element("xpath", "..").get_attribute("aria-sort") == "descending"


def test_the_legend_hides_a_method_in_all_plots(opened: Any):
    visible = (
        """return document.getElementById("experiment-1-tradeoff").data.map((t) => t.visible !== false)"""
    )
    assert opened.execute_script(visible) == [True, True, True]
    button = opened.find_elements("css selector", ".legend button")[1]
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    _wait(opened, visible + "[1] === false")
    button.click()
    _wait(opened, visible + "[1] === true")
    assert opened.get_log("browser") == []


def test_one_method_alone_and_all_again(opened: Any):
    from selenium.webdriver import ActionChains

    pressed = (
        """return [...document.querySelectorAll(".legend button")].map((b) => b.ariaPressed === "true")"""
    )
    button = opened.find_elements("css selector", ".legend button")[1]
    ActionChains(opened).double_click(button).perform()
    assert opened.execute_script(pressed) == [False, True, False]
    ActionChains(opened).double_click(button).perform()
    assert opened.execute_script(pressed) == [True, True, True]


def test_a_phone_scrolls_the_table_not_the_page(opened: Any):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened.refresh()
        _wait(opened, "return document.documentElement.dataset.ready === 'true'")
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_one_choice_of_a_method_is_the_choice_of_all_plots(browser: Any, tmp_path: Path):
    from selenium.webdriver.support.select import Select

    axes = {"x": np.linspace(0, 1, 7), "t": np.linspace(0, 2, 5)}
    browser.get(write_page(write_run(tmp_path / "run", axes)).as_uri())
    _wait(browser, "return document.documentElement.dataset.ready === 'true'")
    shown = """return [...document.getElementById("experiment-1-%s").data]
        .filter((trace) => trace.visible !== false && trace.meta?.variant).map((trace) => trace.meta.variant)"""
    assert browser.execute_script(shown % "solution-error") == ["solve"]  # the best that obeys
    choice = browser.find_element("css selector", ".choice select")
    Select(choice).select_by_value("zero")
    _wait(browser, shown % "solution-error" + "[0] === 'zero'")
    assert set(browser.execute_script(shown % "percentiles-residual")) == {"zero"}
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out_from_the_paper(opened: Any, scheme: str):
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    colours = opened.execute_script(
        """const style = getComputedStyle(document.documentElement);
        return ["paper", "ink", "muted", "accent", "problem"].map((name) =>
            style.getPropertyValue("--" + name).trim())"""
    )
    paper, *inks = (_luminance(colour) for colour in colours)
    for ink in inks:
        lighter, darker = max(paper, ink), min(paper, ink)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def _luminance(colour: str) -> float:
    """Relative luminance of #rrggbb as accessibility guidelines define it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
