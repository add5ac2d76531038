"""The page as a person sees it: plots are drawn, the table sorts and filters, buttons copy, nothing is requested."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.report.states import STATES
from tests.tuner.samples import experiment, result, search
from tuner.report import View, page

COMMANDS = {
    number: f"python -m toy --name='it''s <{number}>' --lr=\"{number}\"" for number in range(40)
}
Opener = Callable[..., Any]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        page([View(search(40), experiment(["x"]), commands=COMMANDS)]), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1200, "dark")])
def test_draws_every_plot_without_an_error(
    window: Opener, written: Path, width: int, scheme: str
) -> None:
    opened = window(width, scheme)
    opened.show(written)
    drawn = opened.page.locator(".plot[data-drawn] .main-svg:first-child")
    assert drawn.count() == opened.page.locator(".plot").count() >= 10
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
        "the page scrolls sideways"
    )
    ink = opened.page.evaluate("getComputedStyle(document.querySelector('.xtitle')).fill")
    assert ink == ("rgb(31, 35, 40)" if scheme == "light" else "rgb(230, 237, 243)")
    assert opened.faults == []


def column(opened: Any, index: int) -> list[str]:
    rows = "[...document.querySelectorAll('.trials tbody tr:not([hidden])')]"
    cells: list[str] = opened.page.evaluate(f"{rows}.map(row => row.cells[{index}].textContent)")
    return cells


def test_table_sorts_by_a_column(window: Opener, written: Path) -> None:
    opened = window()
    opened.page.goto(written.as_uri())
    heading = opened.page.locator("th button", has_text=re.compile("^fd$"))
    heading.click()
    values = column(opened, 2)
    numbers = [float(value) for value in values if value]
    assert numbers == sorted(numbers)
    assert values[len(numbers) :] == [""] * (40 - len(numbers))  # failed trials are last
    heading.click()
    assert [float(value) for value in column(opened, 2) if value] == numbers[::-1]
    opened.page.locator("th button", has_text=re.compile("^trial$")).click()
    assert column(opened, 0) == [str(number) for number in range(40)]
    assert opened.faults == []


def test_table_filters_by_words_and_bounds(window: Opener, written: Path) -> None:
    opened = window()
    opened.page.goto(written.as_uri())
    search_field = opened.page.get_by_label("Filter the trials")
    search_field.fill("succeeded fd < 3 beta1=0.5")
    kept = column(opened, 2)
    assert 0 < len(kept) < 20
    assert all(float(value) < 3 for value in kept)
    assert set(column(opened, 6)) == {"0.5"}
    assert opened.page.locator(".count").inner_text() == f"{len(kept)} of 40 trials"
    search_field.fill("Failed")
    assert set(column(opened, 1)) == {"Failed"}
    search_field.fill("")
    assert len(column(opened, 0)) == 40
    assert opened.faults == []


def test_selects_a_trial_everywhere(window: Opener, written: Path) -> None:
    opened = window()
    opened.show(written)
    page = opened.page
    row = page.locator(".trials tbody tr").nth(17)
    number = int(row.get_attribute("data-n"))
    row.locator("button.pick").focus()
    page.keyboard.press("Enter")
    panel = page.locator(".detail")
    assert panel.locator("h2").inner_text().startswith(f"Trial {number}")
    assert row.get_attribute("aria-selected") == "true"
    rings = "document.querySelector('#plot0 .canvas').data.filter(t => t.marker?.symbol === 'circle-open').length"
    page.locator("#plot0 .plot").scroll_into_view_if_needed()
    opened.until(f"{rings} === 1")
    panel.get_by_text("copy: train this").click()
    page.get_by_text("copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == COMMANDS[number]
    page.keyboard.press("Escape")
    opened.until(f"{rings} === 0")
    assert panel.count() == 0
    # a click on a point selects its trial; the star is the best one's
    star = page.locator("#plot0 .scatterlayer .trace").last.locator("path.point").bounding_box()
    page.mouse.move(star["x"] + star["width"] / 2, star["y"] + star["height"] / 2)
    page.locator("#plot0 .hovertext").wait_for()
    page.mouse.down()
    page.mouse.up()
    assert panel.locator("h2").inner_text().endswith(", the best")
    assert opened.faults == []


def test_hover_shows_score_and_all_parameters(window: Opener, written: Path) -> None:
    opened = window()
    opened.show(written)
    texts = opened.page.evaluate("document.querySelector('#plot0 .canvas').data.at(-1).text")
    assert len(texts) == 1
    for shown in ("(best)", "fd ", "lr ", "bs ", "loss ", "beta1 ", "Succeeded"):
        assert shown in texts[0]
    assert "<script" not in texts[0]


def test_switches_the_scale_of_the_objective(window: Opener, written: Path) -> None:
    opened = window()
    opened.show(written)
    page, kind = opened.page, "document.querySelector('#plot0 .canvas').layout.yaxis.type"
    before = page.evaluate(kind)
    page.locator("button.scale").click()
    page.locator("#plot0 .plot").scroll_into_view_if_needed()
    opened.until(f"{kind} !== '{before}'")
    assert {before, page.evaluate(kind)} == {"linear", "log"}
    assert opened.faults == []


def test_table_shows_the_chosen_columns(window: Opener, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    trials = [replace(t, metrics=t.metrics | {"kid": t.number / 7}) for t in search(60).trials]
    path.write_text(page([View(result(*trials), experiment(["x"]))]), encoding="utf-8")
    opened = window()
    opened.page.goto(path.as_uri())
    heading = opened.page.locator("th", has_text="kid")
    assert not heading.is_visible()
    opened.page.locator(".columns summary").click()
    opened.page.get_by_label("kid").check()
    assert heading.is_visible()
    assert len(column(opened, 0)) == 50
    opened.page.get_by_text("Show all 60").click()
    assert len(column(opened, 0)) == 60
    assert opened.faults == []


# The lowest contrast of the visible texts with what is behind them, and which text has it (WCAG 2.2,
# 1.4.3). Images and plots are left out; their palette has its own test.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const known = new Map();
  const light = (colour) => {
    if (!known.has(colour)) {
      const parts = [...rgba(colour)].slice(0, 3).map((part) => part / 255);
      const [r, g, b] = parts.map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
      known.set(colour, 0.2126 * r + 0.7152 * g + 0.0722 * b);
    }
    return known.get(colour);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] > 250) return colour;
    }
    return "white";
  };
  let worst = [21, ""];
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let count = 0; texts.nextNode() && count < 1500; ) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || element.closest("script, style, .plot") || !element.checkVisibility()) continue;
    count++;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, texts.currentNode.textContent];
  }
  return worst;
}"""
# Controls that the Tab key does not reach, and buttons without a name.
UNREACHABLE = """() => [...document.querySelectorAll("button, a, input, summary")].filter((each) =>
  each.checkVisibility() && (each.tabIndex < 0 || !(each.textContent.trim() || each.ariaLabel || each.labels?.length))).length"""


@pytest.mark.parametrize("state", STATES)
def test_every_state_fits_and_can_be_read(window: Opener, tmp_path: Path, state: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(STATES[state]()), encoding="utf-8")
    assert path.stat().st_size < 2_500_000
    opened = window(1200, "light")
    opened.show(path)
    for width, scheme in ((1200, "light"), (400, "dark")):
        opened.page.set_viewport_size({"width": width, "height": 900})
        opened.page.emulate_media(color_scheme=scheme)
        overflow = opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"the page scrolls sideways at {width}"
        ratio, text = opened.page.evaluate(CONTRAST)
        assert ratio >= 4.5, f"{text!r} has the contrast {ratio:.2f} in {scheme}"
        assert opened.page.evaluate(UNREACHABLE) == 0
    assert opened.faults == []


def test_several_studies_unfold(window: Opener, tmp_path: Path) -> None:
    first = View(search(20), experiment(["x"]))
    other = View(replace(search(30), name="other"), experiment(["x"]), engine="katib")
    path = tmp_path / "both.html"
    path.write_text(page([first, other]), encoding="utf-8")
    opened = window()
    opened.show(path)
    assert opened.page.locator(".plot[data-drawn]").count() == 3
    opened.page.get_by_text("other (katib): minimise fd").click()
    opened.page.locator("#s1-plot0").scroll_into_view_if_needed()
    opened.page.locator("#s1-plot0 .plot[data-drawn] .main-svg").first.wait_for()
    assert opened.faults == []
