"""The interactive views in a real browser: a JupyterLab of its own, Chromium without a network, and what a reader does.

Every test fails if the page asks any other computer for anything. Two settings, both environment variables:

    COURSE_BROWSER=all            runs every notebook of the course in the browser, not only two, and solves three
                                  exercises of each as a student (half an hour)
    COURSE_SCREENSHOTS=folder     keeps the screenshots there, to be looked at
"""

import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import BrowserContext, FrameLocator, Locator, Page, expect, sync_playwright

import course
from course_lib.coursework import editions, notebooks
from tests.notebook_tools import METADATA, NOTEBOOKS, ROOT
from tests.test_viz_explorers import EXPLORERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this computer: the views were not tested")

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
PATIENCE = 30_000  # milliseconds that anything may take on a busy machine


class Server(NamedTuple):
    root: Path
    address: str
    token: str

    def request(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self.address}/{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab with its own settings and folder; the notebooks in it are copies."""
    root = tmp_path_factory.mktemp("course")
    (root / "notebooks").mkdir()
    shutil.copytree(ROOT / "data", root / "data")
    own = {f"JUPYTER_{kind}_DIR": str(root / "jupyter" / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    token = secrets.token_hex(16)
    # "none": all cells are in the page, not only those that a reader would see without scrolling
    settings = course.LAB_SETTINGS | {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
    for name, values in settings.items():
        package, _, plugin = name.partition(":")
        file = root / "jupyter/config/lab/user-settings" / package / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"]
    started = Server(root, f"http://127.0.0.1:{port}", token)
    environment = os.environ | own | {"JUPYTER_TOKEN": token, "IPYTHONDIR": str(root / "jupyter" / "ipython")}
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
        try:
            for _ in range(240):
                try:
                    started.request("GET", "api/status")
                    break
                except OSError:
                    assert process.poll() is None, (root / "server.log").read_text()
                    time.sleep(0.25)
            yield started
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def foreign() -> list[str]:
    """What the pages have asked other computers for."""
    return []


@pytest.fixture(scope="module")
def context(foreign: list[str]) -> Iterator[BrowserContext]:
    def note(request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            foreign.append(request.url)

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        made = browser.new_context(viewport={"width": 1300, "height": 1000})
        made.on("request", note)
        made.on("page", lambda page: page.on("websocket", note))
        yield made
        browser.close()


@pytest.fixture(autouse=True)
def no_network(foreign: list[str]) -> Iterator[None]:
    yield
    assert foreign == []


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("COURSE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# ------------------------------------------------------------------------------------------- a tab with a notebook


class Tab:
    """A page with one notebook; it collects what went wrong in it."""

    def __init__(self, context: BrowserContext, cells: Iterable[str] = ()) -> None:
        self.cells = list(cells)  # their names
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors: list[str] = []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, server: Server, path: str) -> None:
        self.page.goto(f"{server.address}/{path}?reset&token={server.token}")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()

    def run_all(self, timeout: float = 2 * PATIENCE) -> None:
        # Sent before the kernel is there, "run all" would do nothing, for ever.
        self.page.wait_for_function(
            "() => { const kernel = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;"
            " return kernel?.status === 'idle' && kernel.connectionStatus === 'connected'; }"
        )
        self.command("notebook:run-all-cells", timeout)

    def command(self, name: str, timeout: float = PATIENCE, **arguments: Any) -> None:
        """Let JupyterLab carry out one of its commands, and wait until it is done."""
        self.page.evaluate(
            "([name, given]) => { window.done = false;"
            " window.jupyterapp.commands.execute(name, given).then(() => { window.done = true; }); }",
            [name, arguments],
        )
        self.page.wait_for_function("window.done", timeout=timeout)

    def type(self, index: int, text: str) -> None:
        """Write into a cell, by its number among all cells, and run it."""
        self.page.evaluate(
            "([index, text]) => { const cells = window.jupyterapp.shell.currentWidget.content;"
            " if (text) cells.widgets[index].model.sharedModel.setSource(text); cells.activeCellIndex = index; }",
            [index, text],
        )
        self.command("notebook:run-cell", timeout=4 * PATIENCE)

    def output(self, name: str) -> Locator:
        """What the cell with this name shows."""
        return self.page.locator(".jp-CodeCell").nth(self.cells.index(name)).locator(".jp-Cell-outputWrapper")

    def frame(self, name: str) -> FrameLocator:
        return self.output(name).frame_locator("iframe")

    def error_outputs(self) -> list[str]:
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        return self.page.locator(", ".join(f'[data-mime-type="{kind}"]' for kind in kinds)).all_text_contents()


# ----------------------------------------------------------------------------------------- a notebook with every view

# Every Chinese token looks at the first English word; only 吃, number 2 of 4, looks at "fish", number 4 of 6. The
# lengths differ and the link is not symmetric: a swapped axis or a shifted label could not pass.
SET_UP = """
import json, statistics, sys, time
import torch
from course_lib.checkpoints import load_model
from course_lib.models import ModelConfig, Seq2Seq
from course_lib.tokenizers import WordTokenizer, load_tokenizer
from course_lib.viz.attention import head_view, model_view, neuron_view
from course_lib.viz.plots import setup
sys.path.insert(0, ROOT)
from tests.test_viz_attention import Spaces, hugging_face
from tests.test_viz_explorers import EXPLORERS, settings

class Planted(Seq2Seq):
    def attention(self, source, target):
        maps = super().attention(source, target)
        for weights in maps.cross:  # (1, heads, query, key)
            weights.zero_()
            weights[:, :, :, 0] = 1
            weights[:, :, 2, 0], weights[:, :, 2, 4] = 0, 1
        return maps

setup(seed=0)
words = WordTokenizer.train(["the cat eats a fish", "猫吃鱼"])
config = ModelConfig(words.vocab_size, d_model=24, n_heads=3, n_encoder_layers=2, n_decoder_layers=2, d_ff=16)
planted = Planted(config)
stories = load_model("../data/checkpoints/microworld-stories-en-causal.safetensors")
town = load_tokenizer("../data/checkpoints/microworld-stories-en-tokenizer.json")
"""
BEGINNING = "Victor was at the airport. He"
READ, WRITTEN = ["the", "cat", "eats", "a", "fish", "<eos>"], ["<bos>", "猫", "吃", "鱼"]
VIEWS = {
    "head view": 'head_view(planted, words, "the cat eats a fish", "猫吃鱼")',
    "head view again": 'head_view(planted, words, "the cat eats a fish", "猫吃鱼")',
    "model view": 'model_view(planted, words, "the cat eats a fish", "猫吃鱼")',
    "neuron view": f"neuron_view(stories, town, {BEGINNING!r})",
    "head view of a trained model": f"head_view(stories, town, {BEGINNING!r})",
    "head view of Hugging Face's model": 'head_view(hugging_face("bert"), Spaces(), "a bird can dance")',
}
# From a new value of a control to the message with the new picture, for every explorer.
TIMES = """
def milliseconds(explorer):
    control, times = next(iter(explorer.controls.values())), []
    for value in (settings(control) * 6)[:11]:
        start = time.perf_counter()
        control.value = value
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)

print(json.dumps({name: milliseconds(make()) for name, make in EXPLORERS.items()}))
"""
CELLS = {
    "set-up": f"ROOT = {str(ROOT)!r}{SET_UP}",
    **VIEWS,
    **{name: f"EXPLORERS[{name!r}]()" for name in EXPLORERS},
    "times": TIMES,
}


def write(path: Path, names: Iterable[str]) -> None:
    """Write a notebook of these cells, not yet run."""
    cells = [nbformat.v4.new_code_cell(CELLS[name]) for name in names]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), path)


@pytest.fixture(scope="module")
def tab(server: Server, context: BrowserContext) -> Tab:
    """The notebook with every view, run in JupyterLab and saved."""
    write(server.root / "notebooks" / "views.ipynb", CELLS)
    made = Tab(context, CELLS)
    made.open(server, "lab/tree/notebooks/views.ipynb")
    made.run_all()
    for frame in made.page.locator("iframe").all():
        frame.content_frame.locator("#vis > svg").wait_for()
    made.command("docmanager:save")
    return made


def test_every_view_is_drawn_without_an_error(tab: Tab, screenshots: Path) -> None:
    assert tab.error_outputs() == []
    assert tab.errors == []
    for name in VIEWS:
        frame = tab.frame(name)
        assert frame.locator("#vis > svg text").count() > 0
        box, room = frame.locator("body").bounding_box(), tab.output(name).locator("iframe").bounding_box()
        assert box and room and box["width"] <= room["width"] and box["height"] <= room["height"]
    for name in EXPLORERS:
        picture = tab.output(name).locator(".course-panel svg")
        assert picture.is_visible()
        assert tab.output(name).locator(".course-panel [role=status]").inner_text()
        assert not tab.output(name).locator(".course-still").is_visible()  # the same picture twice would confuse
        for slider in tab.output(name).locator(".noUi-target").all():
            box = slider.bounding_box()
            assert box and box["width"] > 100, f"{name} has a slider without room to slide"
    for name in (*VIEWS, *EXPLORERS):
        tab.output(name).screenshot(path=screenshots / f"{name}.png")
    for name in ("model view", "neuron view"):  # what BertViz draws beyond the edge would be cut off
        edges = (
            tab.frame(name)
            .locator("#vis > svg *")
            .evaluate_all("parts => parts.map(part => part.getBoundingClientRect().right / innerWidth)")
        )
        assert max(edges) <= 1


def lines(frame: FrameLocator) -> list[tuple[int, int]]:
    """The lines that a reader sees in a head view, as (number of the left token, number of the right one)."""
    return frame.locator("#attention line").evaluate_all(
        """lines => lines.filter(e => getComputedStyle(e).visibility == "visible" && +e.getAttribute("stroke-opacity"))
            .map(e => [+e.getAttribute("left-token-index"), +e.getAttribute("right-token-index")])"""
    )


def test_hovering_a_token_shows_its_line_between_the_right_words(tab: Tab, screenshots: Path) -> None:
    frame, heads = tab.frame("head view"), 3
    frame.locator("#filter").select_option(label="Cross")
    left, right = (frame.locator(f"#{side} text") for side in ("left", "right"))
    assert (left.all_text_contents(), right.all_text_contents()) == (WRITTEN, READ)
    assert sorted(map(tuple, lines(frame))) == sorted([(0, 0), (1, 0), (2, 4), (3, 0)] * heads)
    left.nth(2).hover()  # 吃
    assert lines(frame) == [[2, 4]] * heads
    tab.output("head view").locator("iframe").screenshot(path=screenshots / "head view, hovered.png")
    # The line is drawn from the word 吃 to the word "fish": at their heights, beside them.
    line = frame.locator('#attention line[visibility="visible"][right-token-index="4"]').first.bounding_box()
    start, end = left.nth(2).bounding_box(), right.nth(4).bounding_box()
    assert line and start and end
    assert start["x"] + start["width"] < line["x"] < line["x"] + line["width"] < end["x"] + 1
    assert start["y"] < line["y"] < start["y"] + start["height"]
    assert end["y"] < line["y"] + line["height"] < end["y"] + end["height"]
    right.nth(4).hover()  # and back, from "fish"
    assert lines(frame) == [[2, 4]] * heads
    right.nth(1).hover()  # nobody looks at "cat"
    assert lines(frame) == []
    tab.page.mouse.move(5, 5)
    # The second view of the notebook is a view of its own: it still shows what it showed.
    assert tab.frame("head view again").locator("#left text").all_text_contents() == READ


def test_the_head_view_of_a_causal_model_looks_back(tab: Tab, screenshots: Path) -> None:
    frame = tab.frame("head view of a trained model")
    frame.locator("#left text").nth(7).hover()  # "He"
    assert {left for left, _ in lines(frame)} == {7}
    box = tab.output("head view of a trained model").locator("iframe").bounding_box()
    assert box
    tab.page.screenshot(path=screenshots / "head view, trained.png", clip={**box, "width": 380})
    frame.locator("#left text").nth(2).hover()  # "was": nothing that comes later
    assert {right for _, right in lines(frame)} <= {0, 1, 2}


def test_the_model_view_opens_a_head(tab: Tab) -> None:
    frame = tab.frame("model view")
    frame.locator("#filter").select_option(label="Cross")
    assert frame.locator("#vis > svg > text").all_text_contents() == ["Heads", "0", "1", "2", "Layers", "0", "1"]
    frame.locator("#attn_background_1_1").click(force=True)  # layer 1, head 1; what takes the click lies over it
    assert frame.locator("text.detail").text_content() == "Layer 1, Head 1"
    assert frame.locator(".detail text").all_text_contents() == [*WRITTEN, *READ]


def test_the_neuron_view_opens_to_queries_and_keys(tab: Tab, screenshots: Path) -> None:
    frame = tab.frame("neuron view")
    tokens = ["<bos>", "Victor", "was", "at", "the", "airport", ".", "He"]
    assert frame.locator("#collapsed #leftText text").all_text_contents() == tokens
    token = frame.locator("#collapsed #leftText g").nth(7)  # "He"
    token.hover()
    token.locator("rect").last.click()  # +
    token = frame.locator("#expanded #leftText g").nth(7)
    token.hover()
    headings = frame.locator("#expanded #heading > text:not(#placeholder)").all_text_contents()
    assert headings == ["Query q", "Key k ", "q × k (elementwise)", "q ∙ k", "Softmax"]
    expect(frame.locator("#expanded #placeholder")).to_have_css("opacity", "0")  # "No token selected"
    tab.output("neuron view").locator("iframe").screenshot(path=screenshots / "neuron view, open.png")
    edges = frame.locator("#expanded #rightText text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().right / innerWidth)"
    )
    assert len(edges) == len(tokens) and max(edges) < 1


def test_a_slider_moves_by_keyboard_and_the_picture_follows(tab: Tab, screenshots: Path) -> None:
    panel = tab.output("masks").locator(".course-panel")
    picture, sentence = panel.locator("svg"), panel.locator("[role=status]")
    before = picture.inner_html(), sentence.inner_text()
    assert "4 real queries" in before[1]
    slider = panel.get_by_role("slider")
    slider.focus()
    expect(slider).to_have_accessible_name("real tokens")
    tab.page.keyboard.press("ArrowRight")
    expect(sentence).to_contain_text("5 real queries")
    assert picture.inner_html() != before[0]
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Tab")  # past the readout of the slider, to the causal mask
    tab.page.keyboard.press("Space")
    expect(sentence).not_to_contain_text(" 0% to later words")
    panel.screenshot(path=screenshots / "masks, moved by keyboard.png")


# What a reader sees of an explorer in each frame that the browser paints: pictures, and how high it all is.
WATCH = """panel => {
    const seen = window.seen = [];
    const look = () => {
        if (window.seen != seen) return;
        seen.push([panel.querySelectorAll("svg").length, Math.round(panel.getBoundingClientRect().height)]);
        requestAnimationFrame(look);
    };
    look();
}"""


def test_pictures_do_not_flicker_while_a_slider_moves(tab: Tab) -> None:
    moved = 0
    for name in EXPLORERS:
        panel = tab.output(name).locator(".course-panel")
        slider = panel.get_by_role("slider")
        if slider.count() == 0:
            continue
        slider.first.focus()
        tab.page.keyboard.press("Home")
        tab.page.wait_for_timeout(200)
        before = panel.locator("svg").first.inner_html()
        panel.evaluate(WATCH)
        for _ in range(6):
            tab.page.keyboard.press("ArrowRight")
        tab.page.wait_for_timeout(500)
        seen = tab.page.evaluate("() => { const seen = window.seen; window.seen = null; return seen; }")
        pictures, heights = zip(*seen, strict=True)
        assert len(pictures) > 5
        assert set(pictures) == {pictures[0]}, f"{name}: the picture was gone for a moment"
        # A tree has a row for each beam, and so grows with them.
        assert len(set(heights)) == 1 or name == "beam_tree", (
            f"{name}: the page jumps, heights of {sorted(set(heights))} pixels"
        )
        moved += panel.locator("svg").first.inner_html() != before
    assert moved >= 8


def test_the_page_around_a_view_hears_the_wheel(tab: Tab) -> None:
    """VS Code scrolls by what its page hears; a frame that kept the wheel to itself would stop the reader there."""
    tab.output("head view").locator("iframe").hover()
    tab.page.evaluate(
        "() => { window.heard = 0; addEventListener('wheel', e => { window.heard += e.deltaY; }, {once: true}); }"
    )
    tab.page.mouse.wheel(0, 7)
    tab.page.wait_for_function("window.heard == 7")


def test_a_callback_takes_less_than_a_tenth_of_a_second(tab: Tab) -> None:
    times = json.loads(tab.output("times").inner_text())
    assert set(times) == set(EXPLORERS)
    assert max(times.values()) < 100, times


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of a colour as the browser writes it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# The colour of a text, and that of what is painted under its middle.
COLOURS = """text => {
    text.scrollIntoView({block: "center"});
    const {left, top, width, height} = text.getBoundingClientRect();
    for (const e of document.elementsFromPoint(left + width / 2, top + height / 2)) {
        const style = getComputedStyle(e);
        const colour = e.tagName == "rect" ? style.fill : e.ownerSVGElement ? "none" : style.backgroundColor;
        if (colour != "none" && colour != "rgba(0, 0, 0, 0)")
            return [getComputedStyle(text)[text.ownerSVGElement ? "fill" : "color"], colour];
    }
}"""


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_texts_stand_out_in_both_themes(tab: Tab, screenshots: Path, theme: str) -> None:
    tab.command("apputils:change-theme", theme=theme)
    expect(tab.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
    texts = []
    for name in ("masks", "temperature"):
        panel = tab.output(name).locator(".course-panel")
        texts += panel.locator("svg text, [role=status], strong, label.widget-label, .widget-readout").all()
        panel.screenshot(path=screenshots / f"{name}, {theme}.png")
    texts += tab.output("head view").locator("em").all()
    texts += [text for name in VIEWS for text in tab.frame(name).locator("#left text, label, select").all()]
    assert len(texts) > 60
    for text in texts:
        ink, paper = text.evaluate(COLOURS)
        dark, light = sorted((luminance(ink), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text.text_content()!r}: {ink} on {paper}"


# --------------------------------------------------------------------------------------------- opened again, exported


@pytest.mark.parametrize("kernel", [False, True])
def test_opened_again_the_static_form_is_there(
    kernel: bool, tab: Tab, server: Server, context: BrowserContext, screenshots: Path
) -> None:
    again = Tab(context, CELLS)
    # The saved notebook, trusted since it was run here; a new kernel knows nothing of its widgets.
    shutil.copy(server.root / "notebooks" / "views.ipynb", server.root / "notebooks" / f"again, {kernel}.ipynb")
    if not kernel:
        again.page.route("**/api/sessions*", lambda r: r.abort() if r.request.method == "POST" else r.continue_())
    again.open(server, f"lab/tree/notebooks/again, {kernel}.ipynb")
    if kernel:
        expect(again.page.get_by_text("model not found")).to_have_count(len(EXPLORERS))
    else:
        for answer in ("accept", "reject"):  # "Error Starting Kernel: OK", "Select Kernel: No Kernel"
            again.page.locator(f".jp-Dialog .jp-mod-{answer}").click()
    expect(again.page.locator(".course-still")).to_have_count(len(EXPLORERS))
    for name in VIEWS:
        again.frame(name).locator("#vis > svg").wait_for()
    for name in EXPLORERS:
        still = again.output(name).locator(".course-still")
        assert still.locator("img").evaluate("image => image.naturalWidth") > 200
        assert still.locator("em").inner_text() == still.locator("img").get_attribute("alt")
    assert again.page.get_by_text("model not found").locator("visible=true").count() == 0
    again.output("masks").screenshot(path=screenshots / "masks, opened again.png")
    again.page.close()


def test_untrusted_the_plain_picture_is_there(server: Server, tab: Tab, context: BrowserContext) -> None:
    notebook = nbformat.read(server.root / "notebooks" / "views.ipynb", as_version=4)
    notebook.cells[0].source += "\n# from somewhere else"
    nbformat.write(notebook, server.root / "notebooks" / "untrusted.ipynb")
    other = Tab(context, CELLS)
    other.open(server, "lab/tree/notebooks/untrusted.ipynb")
    for name in VIEWS:
        assert other.output(name).locator("iframe").count() == 0
        assert other.output(name).locator("img").evaluate("image => image.naturalWidth") > 200
        assert "mean of the heads" in other.output(name).locator("em").inner_text()
    for name in EXPLORERS:
        assert other.output(name).locator(".course-still img").evaluate("image => image.naturalWidth") > 200
    assert other.page.get_by_text("model not found").locator("visible=true").count() == 0
    other.page.close()


def test_exported_to_html_the_views_work(
    server: Server, tab: Tab, context: BrowserContext, foreign: list[str], screenshots: Path
) -> None:
    exporter = HTMLExporter()
    page, _ = exporter.from_filename(str(server.root / "notebooks" / "views.ipynb"))
    file = server.root / "views.html"
    file.write_text(page, encoding="utf-8")
    exported = Tab(context)
    exported.page.goto(file.as_uri(), wait_until="commit")
    for frame in exported.page.locator("iframe").all():
        frame.content_frame.locator("#vis > svg").wait_for()
    left = exported.page.locator("iframe").first.content_frame.locator("#left text")
    assert left.all_text_contents() == READ
    assert exported.page.locator(".course-still img").count() == len(EXPLORERS)
    exported.page.locator("iframe").nth(2).screenshot(path=screenshots / "model view, exported.png")
    exported.page.close()
    # The page that nbconvert makes asks for these; no view needs them, and none has come.
    assert set(foreign) <= {exporter.require_js_url, exporter.jquery_url, exporter.mathjax_url}
    foreign.clear()


def test_notebook_7_shows_the_same(server: Server, context: BrowserContext, screenshots: Path) -> None:
    if not importlib.util.find_spec("notebook"):
        pytest.skip("Jupyter Notebook 7 is not installed: it was not tested")
    names = ["set-up", "head view", "neuron view", "masks"]
    write(server.root / "notebooks" / "seven.ipynb", names)
    other = Tab(context, names)
    other.open(server, "notebooks/notebooks/seven.ipynb")
    other.run_all()
    panel = other.output("masks").locator(".course-panel")
    panel.get_by_role("slider").focus()
    other.page.keyboard.press("ArrowRight")
    expect(panel.locator("[role=status]")).to_contain_text("5 real queries")
    for name in ("head view", "neuron view"):
        other.frame(name).locator("#vis > svg").wait_for()
    assert other.error_outputs() == []  # what its own plugins report to the console is not of the views
    other.page.screenshot(path=screenshots / "Notebook 7.png")
    other.page.close()


# ------------------------------------------------------------------------------------------------ the real notebooks

ALWAYS = ("00_start_here", "04_2_softmax_and_cross_entropy")  # the second has explorers


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebook_runs_in_jupyterlab(
    path: Path, server: Server, context: BrowserContext, screenshots: Path
) -> None:
    if path.stem not in ALWAYS and os.environ.get("COURSE_BROWSER") != "all":
        pytest.skip("only with COURSE_BROWSER=all")
    shutil.copy(path, server.root / "notebooks")
    run = Tab(context)
    run.open(server, f"lab/tree/notebooks/{path.name}")
    run.run_all(timeout=15 * 60_000)
    assert run.error_outputs() == []
    assert run.errors == []
    for i, frame in enumerate(run.page.locator("iframe").all()):
        frame.content_frame.locator("#vis > svg").wait_for()
        token = frame.content_frame.locator("#left text").nth(2)
        if token.count():  # a head view
            token.hover()
        frame.screenshot(path=screenshots / f"{path.stem}, view {i}.png")
    for i, panel in enumerate(run.page.locator(".course-panel").all()):
        assert panel.locator("svg").is_visible() and panel.locator("[role=status]").inner_text()
        panel.screenshot(path=screenshots / f"{path.stem}, explorer {i}.png")
    run.page.close()
    for session in server.request("GET", "api/sessions"):
        server.request("DELETE", f"api/sessions/{session['id']}")


# --------------------------------------------------------------------------------------------- as a student works


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_student_solves_exercises(server: Server, context: BrowserContext, screenshots: Path, path: Path) -> None:
    """The stub fails politely, the answer passes, and the saved notebook knows it."""
    if path.stem not in ALWAYS and os.environ.get("COURSE_BROWSER") != "all":
        pytest.skip("only with COURSE_BROWSER=all")
    student = server.root / "student"
    editions.release(student)
    book, solved = notebooks.read(student / path.name), list(notebooks.exercises(notebooks.read(path)))[:3]
    places = {cell["id"]: i for i, cell in enumerate(book["cells"])}
    tab = Tab(context)
    tab.open(server, f"lab/tree/student/{path.name}")
    tab.run_all(timeout=15 * 60_000)  # up to the first test, which fails
    for number, exercise in enumerate(solved):
        test = tab.page.locator(".jp-Notebook .jp-Cell").nth(places[exercise.test["id"]])
        if number:
            tab.type(places[exercise.answer["id"]], "")
            tab.type(places[exercise.test["id"]], "")
        told = test.locator(".jp-Cell-outputWrapper")
        expect(told).to_contain_text(f"✗ {exercise.number}: not written yet")
        expect(told).not_to_contain_text("Traceback")
        test.screenshot(path=screenshots / f"{path.stem}, exercise {exercise.number}, not written.png")
        tab.type(places[exercise.answer["id"]], notebooks.source(exercise.answer))
        tab.type(places[exercise.test["id"]], "")
        expect(told).to_contain_text(f"{exercise.number} passed")
        expect(told).not_to_contain_text("✗")
    tab.command("docmanager:save")
    assert [e.number for e in notebooks.exercises(notebooks.read(student / path.name)) if e.passed] == [
        exercise.number for exercise in solved
    ]
    tab.page.close()
    for session in server.request("GET", "api/sessions"):
        server.request("DELETE", f"api/sessions/{session['id']}")
