"""The report in a browser: no error, no request, every picture; the gallery sorts, filters and opens faces."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.common.paths import Paths
from pipeline.inference.ensemble import model_points
from pipeline.inference.predictions import Predictions
from tests.conftest import succeed

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")]
FACES = 18  # of the workplace's train part


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, workplace: tuple) -> Iterator[object]:
    """The report of the tiny competition, on a phone; whatever goes wrong in it fails the test."""
    page, wrong = browser.new_page(viewport={"width": 390, "height": 844}), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("data:", "file:///")) or wrong.append(request.url))
    page.goto((workplace[0] / "reports" / "index.html").as_uri())
    page.wait_for_selector(".face")
    yield page
    assert not wrong
    page.close()


def errors(page) -> list[float]:
    """Those in the captions, in the order of the gallery."""
    captions = page.eval_on_selector_all(".face", """cards => cards
        .map(card => [new DOMMatrix(card.style.transform), card.firstChild.nextSibling.textContent])
        .sort(([a], [b]) => a.f - b.f || a.e - b.e).map(([, text]) => text)""")
    return [float(caption.split("%")[0]) for caption in captions if "%" in caption]


def test_page_fits_a_phone_and_shows_every_picture(page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for details in page.locator("details").all():
        details.locator("summary").click()
    widths = "all => Promise.all(all.map(one => one.decode().then(() => one.width)))"
    pictures = page.eval_on_selector_all("img", widths)
    assert len(pictures) >= 4 and min(pictures) > 100
    assert page.locator("svg").count() == 5


def test_page_in_the_dark_is_dark(page) -> None:
    page.emulate_media(color_scheme="dark")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, paper.removeprefix("rgb(").removesuffix(")").split(","))) < 60


def test_gallery_draws_only_what_is_in_sight(page, workplace: tuple) -> None:
    assert 4 <= page.locator(".face").count() < FACES
    seen = set()
    for _ in range(20):
        seen |= set(page.eval_on_selector_all(".face", "cards => cards.map(card => card.title)"))
        page.evaluate("document.querySelector('#gallery').scrollTop += 200")
        page.wait_for_timeout(50)
    assert set(pd.read_csv(workplace[0] / "data" / "crops" / "train" / "faces.csv").image) <= seen


def test_gallery_sorts_and_filters(page, workplace: tuple) -> None:
    assert errors(page) == sorted(errors(page), reverse=True)
    page.select_option("select[name=sort]", "-error")
    assert errors(page) == sorted(errors(page)) and len(errors(page)) > 3
    page.select_option("select[name=fold]", "3")
    folds = pd.read_csv(workplace[0] / "data" / "folds.csv").fold
    assert page.text_content("#count").startswith(f"{(folds == 3).sum()} of ")
    page.fill("input[name=error]", "1e6")
    assert page.text_content("#count").startswith("0 of ") and page.locator(".face").count() == 0


def test_gallery_layers_change_what_is_drawn(page) -> None:
    pixels = "canvas => canvas.toDataURL()"
    page.wait_for_timeout(300)
    drawn = [page.locator(".face canvas").first.evaluate(pixels)]
    for layer in ("truth", "ensemble", "resnet", "unet", "lines"):
        page.locator(f"#layers input[value={layer}]").click()
        drawn.append(page.locator(".face canvas").first.evaluate(pixels))
    assert len(set(drawn)) == 6 and page.locator("#layers input").count() == 5


def test_page_against_another_model_sorts_by_change(page, workplace: tuple, monkeypatch) -> None:
    monkeypatch.chdir(workplace[0])
    assert "reports/against.html: " in succeed("report", "--against", ":unet")
    assert "against" not in Path("reports/index.html").read_text()
    page.goto(Path("reports/against.html").absolute().as_uri())
    page.wait_for_selector(".face")
    assert page.locator("#layers input[value='.:unet']").is_checked()
    assert page.locator("#scores h3").text_content() == "ensemble − unet"
    truth = np.load("data/crops/train/keypoints.npy")
    means = [np.nanmean(np.linalg.norm(points - truth, axis=-1), axis=1) for points in (
        Predictions.load(Path("ensemble/oof.npz")).by_face().points,
        model_points(Paths(), "unet", [0, 3], "oof"))]
    images = pd.read_csv("data/crops/train/faces.csv").image
    change = (means[0] - means[1]) / np.linalg.norm(truth[:, 45] - truth[:, 36], axis=-1)
    for order, face in (("change", change.argmax()), ("-change", change.argmin())):
        page.select_option("select[name=sort]", order)
        first = page.locator(".face[style*='translate(0px, 0px)']")
        assert first.get_attribute("title") == images[face]
        assert f"{100 * change[face]:+.2f}% · fold" in first.text_content()
    page.locator(".face").first.click()
    assert page.locator("dialog tr", has_text="change").count() == 1
    page.keyboard.press("Escape")


def test_face_opens_and_goes_on_to_the_next(page) -> None:
    first = page.locator(".face").first.get_attribute("title")
    page.locator(".face").first.click()
    dialog = page.locator("dialog")
    assert dialog.locator("h3").text_content() == first
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h3").text_content() != first
    box = dialog.locator("canvas").bounding_box()
    for step in range(60):
        page.mouse.move(box["x"] + box["width"] * step / 60, box["y"] + box["height"] / 2)
    assert dialog.locator(".hint").text_content().startswith("Point ")
    link = dialog.locator("a").evaluate("link => link.href").removeprefix("file://")
    assert Path(link).is_file()
    page.keyboard.press("Escape")
    assert not dialog.is_visible() and page.locator("#shown #layers").count() == 1


def test_table_sorts_by_a_click(page) -> None:
    table = page.locator("#scores table").first
    for direction in ("descending", "ascending"):
        table.locator("th").nth(1).click()
        assert table.locator("th").nth(1).get_attribute("aria-sort") == direction
        values = [float(text) for text in table.locator("td:nth-child(2)").all_text_contents()]
        assert values == sorted(values, reverse=direction == "descending") and len(values) == 4
