"""The page as a person sees it: plots are drawn, the table sorts and filters, buttons copy, nothing is requested."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tuner.samples import experiment, search
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


def test_button_copies_the_row_s_command(window: Opener, written: Path) -> None:
    opened = window()
    opened.page.goto(written.as_uri())
    opened.page.locator(".trials tbody tr").nth(17).locator("button.copy").click()
    opened.page.get_by_text("copied", exact=True).wait_for()
    assert opened.page.evaluate("navigator.clipboard.readText()") == COMMANDS[17]
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
    opened.page.locator("#s1-plot0 .plot[data-drawn] .main-svg").first.wait_for()
    assert opened.faults == []
