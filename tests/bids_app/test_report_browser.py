"""Pages in a real browser without a network: clean console, quick with 1,000 people, usable."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bids_app import report
from tests.bids_app.test_report import HOSTILE, PNG, add_run, failure, read_spec

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
PARTICIPANTS = 300
COLUMNS = 32

# Filters, sorts and flags a stage's table as a person would, and takes the time of each, in ms.
USE_TABLE = """
    const entry = performance.getEntriesByType('navigation')[0];
    told.parsed = entry.domContentLoadedEventEnd - entry.startTime;
    document.body.offsetHeight;
    told.open = performance.now();
    const table = document.querySelector('#scans table');
    const visible = () => [...table.tBodies[0].rows].filter((r) => !r.hidden).length;
    told.rows = [table.tBodies[0].rows.length, visible()];
    const search = document.querySelector('#scans input[type=search]');
    let before = performance.now();
    search.value = 'sub-0123'; search.dispatchEvent(new Event('input'));
    document.body.offsetHeight;
    told.filter = performance.now() - before;
    told.shown = visible();
    search.value = ''; search.dispatchEvent(new Event('input'));
    before = performance.now();
    const headings = [...table.querySelectorAll('th button')];
    const heading = headings.find((b) => b.textContent === 'measure 3');
    heading.click(); heading.click(); document.body.offsetHeight;
    told.sort = performance.now() - before;
    told.first = table.tBodies[0].rows[0].cells[0].textContent;
    document.querySelector('#scans button.fail').click();
    told.failed = visible();
"""

# Elements beyond the right edge that no scrollable box of their own holds.
FIND_WIDE = """
    addEventListener('load', () => {
      const isBox = (e) => getComputedStyle(e).overflowX !== 'visible';
      const scrolls = (e) => e && (isBox(e) || scrolls(e.parentElement));
      const out = [...document.querySelectorAll('main *, header *, footer *')].filter(
        (e) => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement));
      const told = {width: document.documentElement.scrollWidth, seen: innerWidth,
                    out: out.slice(0, 5).map((e) => e.tagName)};
      parent.postMessage(JSON.stringify(told), '*');
    });
"""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium on PATH to open pages with")


def browse(page: Path, profile: Path, *, is_timed: bool = False) -> tuple[str, str]:
    """Open a page with no network; return the document as it is then, and what the console said.

    Waiting is done on a clock that jumps, except where time is measured.
    """
    clock = [] if is_timed else ["--virtual-time-budget=5000"]
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={profile}", "--enable-logging=stderr", "--timeout=20000"),
            *(*clock, "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, "\n".join(x for x in done.stderr.splitlines() if "CONSOLE" in x)


def ask(page: Path, script: str, profile: Path, *, is_timed: bool = False) -> dict:
    """Run a script of ours at the end of a page, of which the policy was taken out for that."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name(f"asked-{page.name}")
    told = f"const told = {{}}; {script}; document.title = JSON.stringify(told);"
    code = f"addEventListener('load', async () => {{ {told} }});"
    copy.write_text(text.replace("</body>", f"<script>{code}</script></body>"))
    document, console = browse(copy, profile, is_timed=is_timed)
    assert console == ""
    title = re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1]
    return json.loads(title.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def look_narrow(page: Path, profile: Path, width: int = 390) -> dict:
    """Lay a page out as wide as a phone; tell its width and what sticks out at the right.

    A window cannot be so narrow, a frame within one can.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    inner = page.with_name(f"inner-{page.name}")
    inner.write_text(text.replace("</body>", f"<script>{FIND_WIDE}</script></body>"))
    outer = page.with_name(f"outer-{page.name}")
    outer.write_text(
        f'<iframe src="{inner.name}" style="width:{width}px;height:800px;border:0"></iframe>'
        "<script>addEventListener('message', (e) => { document.title = e.data; });</script>"
    )
    document, console = browse(outer, profile)
    assert console == ""
    return json.loads(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1])


def write_study(folder: Path, participants: int) -> tuple[Path, float]:
    """Write the derivatives of a study, some of whom failed, and its pages; time the pages in s."""
    out = folder / "out"
    root = out / "brainstages-toy"
    labels = [f"{number:04d}" for number in range(participants)]
    columns = ["filename", "qc", "note", *(f"measure_{i}" for i in range(COLUMNS - 3))]
    for number, label in enumerate(labels):
        figures = root / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        for desc in ("mask", "maskBefore", "arm"):
            (figures / f"sub-{label}_desc-{desc}_T1w.png").write_bytes(PNG)
        values = [f"{number * 0.37 + i:.4f}" for i in range(COLUMNS - 3)]
        flag = "fail" if number % 100 == 0 else "pass"
        row = [f"anat/sub-{label}_T1w.nii.gz", flag, HOSTILE, *values]
        text = "\t".join(columns) + "\n" + "\t".join(row) + "\n"
        (root / f"sub-{label}" / f"sub-{label}_scans.tsv").write_text(text)
    (root / "desc-audit_metrics.tsv").write_text(
        "item\tvalue\tci_low\tci_high\nx\t0.5\t0.1\t0.9\ny\t0.3\t0.2\t0.4\n"
    )
    add_run(
        out,
        1,
        participants=dict.fromkeys(labels, "done"),
        failures=[failure(label, HOSTILE) for label in labels[:10]],
    )
    spec = read_spec(folder)
    started = time.perf_counter()
    assert report.write(out, [spec], {"toy": root}, labels) == []
    return out, time.perf_counter() - started


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 300 participants, more than a table shows at once, and a browser profile."""
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, PARTICIPANTS)[0], folder / "profile"


@pytest.mark.parametrize("page", ["brainstages.html", "sub-0000.html", "brainstages-toy/toy.html"])
def test_the_console_stays_clean_and_hostile_text_does_nothing(study, page):
    document, console = browse(study[0] / page, study[1])
    assert console == ""
    assert "<main" in document
    assert "<img src=x" not in document.replace("&lt;img src=x", "")


def test_large_tables_are_filtered_and_sorted(study):
    told = ask(study[0] / "brainstages-toy" / "toy.html", USE_TABLE, study[1])
    assert told["rows"] == [PARTICIPANTS, 200]
    assert (told["shown"], told["first"], told["failed"]) == (1, "sub-0299", 3)


def test_ratings_are_kept_and_saved_as_a_table(study):
    first = ask(
        study[0] / "sub-0001.html",
        """
        localStorage.clear();
        document.dispatchEvent(new KeyboardEvent('keydown', {key: '3', bubbles: true}));
        writeRating('sub-0001', 'toy', {note: 'tab\\there'});
        told.pressed = document.querySelector('.rate [aria-pressed=true]').textContent;
        told.text = ratingsAsText();
        loadRatings('participant_id\\tstage\\trating\\tnote\\trated\\nsub-0002\\ttoy\\tgood\\tn/a\\tx\\n');
        told.all = allRatings().map((r) => r.participant_id + r.rating);
        """,
        study[1],
    )
    assert first["pressed"] == "bad"
    lines = first["text"].splitlines()
    assert lines[0].split("\t") == ["participant_id", "stage", "rating", "note", "rated"]
    assert lines[1].split("\t")[:4] == ["sub-0001", "toy", "bad", "tab here"]
    assert first["all"] == ["sub-0001bad", "sub-0002good"]


def test_figures_are_compared_and_enlarged(study):
    told = ask(
        study[0] / "sub-0003.html",
        """
        const range = document.querySelector('.compare input');
        range.value = 20; range.dispatchEvent(new Event('input'));
        told.clip = document.querySelector('.compare .after').style.clipPath;
        told.first = [...document.querySelectorAll('.compare')].every(
            (c) => c.querySelector('input').defaultValue === '100');
        document.querySelector('.enlarge-both').click();
        await new Promise((done) => setTimeout(done, 300));
        told.after = view.image.src.includes('desc-mask_');
        showOther();
        told.before = view.image.src.includes('desc-maskBefore');
        told.kept = view.scale;
        showOther();
        told.again = view.image.src.includes('desc-mask_') && told.kept === view.scale;
        zoom.close();
        document.querySelector('.enlarge').click();
        told.alone = document.querySelector('[data-zoom=other]').hidden;
        await new Promise((done) => setTimeout(done, 300));
        told.open = document.getElementById('zoom').open;
        const scale = view.scale;
        document.querySelector('[data-zoom=in]').click();
        told.larger = view.scale / scale;
        """,
        study[1],
    )
    assert "80%" in told["clip"]
    assert told["open"] is True
    assert told["larger"] == pytest.approx(1.4)
    # What the picture is about is seen whole at first; enlarged, both are there.
    assert told["first"] and told["after"] and told["before"] and told["again"] and told["alone"]


@pytest.mark.parametrize("page", ["brainstages.html", "sub-0000.html", "brainstages-toy/toy.html"])
def test_nothing_sticks_out_on_a_phone(study, page):
    told = look_narrow(study[0] / page, study[1])
    assert (told["seen"], told["out"]) == (390, [])
    assert told["width"] <= 390


def test_what_sticks_out_on_a_phone_is_found(study):
    page = study[0] / "wide.html"
    page.write_text('<main><p><b style="display:block;width:600px">wide</b></p></main></body>')
    told = look_narrow(page, study[1])
    assert (told["width"] > 600, told["out"]) == (True, ["B"])
