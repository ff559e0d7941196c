"""Pages: failures first, captions from the spec, hostile text harmless, nothing from a network."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import specs
from bids_app import report, report_pages, report_results, report_runs, report_site
from bids_app.errors import Exit
from bids_app.report_spread import find_strips
from bids_app.report_tables import make_table
from specs.reading import read_yaml
from specs.schema import Spec, parse_spec

SPEC = """
name: toy
version: "1"
summary: A toy <b>stage</b>.
image: toy
references: ["Doe J (2001). On <toys>. Toy J 1:2."]
steps:
  draw:
    summary: Draws.
    level: participant
    over: [sub]
    inputs: {image: {from: raw, query: {suffix: T1w}, help: x}}
    outputs:
      arms:
        bids: {datatype: figures, desc: "{arm}", suffix: T1w, extension: .png}
        metadata: {Description: One arm.}
      mask:
        bids: {datatype: figures, desc: mask, suffix: T1w, extension: .png}
        metadata: {Description: The outline.}
  judge:
    summary: Judges.
    level: group
    over: []
    inputs: {image: {from: raw, query: {suffix: T1w}, many: true, help: x}}
    outputs:
      audit: {bids: {desc: audit, suffix: metrics, extension: .tsv}, metadata: {Description: Good?}}
      grid: {path: "figures/desc-{arm}_grid.png", help: A grid.}
"""
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
PNG = (
    b"\x89PNG\r\n\x1a\n"
    + b"\x00\x00\x00\x0dIHDR"
    + b"\x00\x00\x00\x40\x00\x00\x00\x20"
    + b"\x00" * 8
)
PAGES = [
    "brainstages.html", "sub-01.html", "brainstages-toy/toy.html", "brainstages-toy/sub-01.html",
]  # fmt: skip


class Page(HTMLParser):
    """Collect what a page would load, link to, or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.styled = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.handlers += [name for name in given if name.startswith("on")]
        self.styled += "style" in given
        self.loaded += [given[name] or "" for name in ("src",) if name in given]
        self.linked += [given["href"] or ""] if "href" in given else []


def weigh(page: Path) -> int:
    """Add up the bytes of a page and of every picture on it."""
    text = page.read_text("utf-8")
    pictures = {(page.parent / source) for source in Page(text).loaded}
    return len(text.encode()) + sum(path.stat().st_size for path in pictures)


def read_spec(folder: Path) -> Spec:
    """Read the toy stage."""
    path = folder / "spec.yaml"
    path.write_text(SPEC)
    return parse_spec(read_yaml(path), file=path)


def add_run(out: Path, number: int, **told: object) -> Path:
    """Write what a run leaves."""
    folder = out / "logs" / f"run-20260101T00000{number}-abc"
    folder.mkdir(parents=True)
    status = {
        "run": folder.name,
        "levels": ["participant", "group"],
        "stages": ["toy"],
        "recipe": "sex-slices",
        "synthetic": False,
        "exit_code": 1,
        "reason": "x",
        "seconds": 1,
        "failures": [],
        "participants": {"01": "failed", "02": "done"},
        "jobs": {"done": 1, "skipped": 0, "blocked": 0, "failed": 0},
    } | told
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "app.log").write_text("log")
    (folder / "config.toml").write_text('bids_dir = "/data/lab/study"\nreports_only = false\n')
    return folder


def failure(participant: str, reason: str, step: str = "draw", code: int = 65) -> dict[str, object]:
    """Describe a failed job as status.json does."""
    return {
        "participant": participant,
        "stage": "toy",
        "step": step,
        "reason": reason,
        "exit_code": code,
        "job": f"toy.{step}",
        "traceback": "Traceback <em>",
        "log": HOSTILE,
    }


def rebuild(out: Path) -> list[str]:
    """Write the toy site's pages again."""
    return report.write(
        out, [read_spec(out.parent)], {"toy": out / "brainstages-toy"}, ["01", "02"]
    )


@pytest.fixture
def site(tmp_path):
    """A stage's dataset with two participants, figures, scans and a failed run."""
    out = tmp_path / "out"
    root = out / "brainstages-toy"
    for label in ("01", "02"):
        figures = root / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        for desc in ("armB2", "mask", "maskBefore"):
            (figures / f"sub-{label}_desc-{desc}_T1w.png").write_bytes(PNG)
        scans = root / f"sub-{label}" / f"sub-{label}_scans.tsv"
        scans.write_text(f"filename\tqc\tnote\nanat/x.nii.gz\tfail\t{HOSTILE}\n")
    (root / "figures").mkdir()
    (root / "figures" / "desc-mask_T1w.png").write_bytes(PNG)
    (root / "figures" / "desc-big_grid.png").write_bytes(PNG)
    (root / "desc-audit_metrics.tsv").write_text(
        "item\tvalue\tci_low\tci_high\tn\tbaseline\nauc\t0.81234567\t0.7\t0.9\t92\t0.5\n"
    )
    (root / "plans").mkdir()
    (root / "plans" / "audit.json").write_text(json.dumps({"Headline": "All is <well>."}))
    (root / "logs" / "jobs").mkdir(parents=True)
    for label in ("01", "02"):
        record = {
            "outputs": ["x"],
            "Parameters": {"width": {"Value": 2.0, "Units": "mm"}, "arm": f"arm{label}"},
            "Seed": 3,
            "LibraryVersions": {"brainstages toy": "1", "numpy": "2.3"},
        }
        path = root / "logs" / "jobs" / f"toy.draw.sub-{label}.json"
        path.write_text(json.dumps(record))
    add_run(out, 1, failures=[failure("01", "old news")])
    add_run(out, 2, failures=[failure("01", f"4D <image> {HOSTILE}")])
    assert rebuild(out) == []
    return out


def test_captions_come_from_the_spec_in_its_order(site):
    page = (site / "brainstages-toy/sub-01.html").read_text()
    assert page.index("One arm.") < page.index("The outline.")
    assert 'src="./sub-01/figures/sub-01_desc-armB2_T1w.png"' in page
    assert 'width="64" height="32"' in page


def test_a_name_of_its_own_wins_over_a_template(site):
    figures = report_results.stage_figures(site / "brainstages-toy", read_spec(site.parent))
    assert [f.caption for f in figures] == ["The outline.", "A grid."]


def test_a_figure_that_no_spec_describes_is_shown_last_and_said_to_be(site):
    path = site / "brainstages-toy/sub-01/figures/stray.png"
    path.write_bytes(PNG)
    spec = read_spec(site.parent)
    figures = report_results.participant_figures(site / "brainstages-toy", "01", spec)
    assert figures[-1].caption == "stray.png (not described by the stage's spec)"


def test_before_and_after_become_one_figure_with_a_slider(site):
    spec = read_spec(site.parent)
    figures = report_results.participant_figures(site / "brainstages-toy", "01", spec)
    pairs = {Path(f.path).name: Path(f.before).name for f in figures}
    assert pairs == {
        "sub-01_desc-armB2_T1w.png": "",
        "sub-01_desc-mask_T1w.png": "sub-01_desc-maskBefore_T1w.png",
    }
    page = (site / "sub-01.html").read_text()
    assert page.count('class="compare"') == 1


def test_one_page_has_a_participants_stages_and_each_dataset_its_own(site):
    whole = (site / "sub-01.html").read_text()
    assert 'src="brainstages-toy/sub-01/figures/sub-01_desc-armB2_T1w.png"' in whole
    assert 'href="sub-02.html"' in whole
    assert 'href="../sub-01.html"' in (site / "brainstages-toy/sub-01.html").read_text()


def test_the_latest_failures_stand_first_and_only_where_they_belong(site):
    page = (site / "sub-01.html").read_text()
    assert "old news" not in page
    assert page.index("4D &lt;image&gt;") < page.index("<figure")
    assert report_runs.REMEDIES[Exit.DATA] in page
    assert "What failed" not in (site / "sub-02.html").read_text()
    start = (site / "brainstages.html").read_text()
    assert start.index("What failed") < start.index("Stages</h2>")
    assert "old news" not in start


def test_each_exit_code_has_a_remedy():
    assert set(report_runs.REMEDIES) == set(Exit) - {Exit.OK}


@pytest.mark.parametrize(
    ("later", "stands"),
    [
        ({}, False),
        ({"stages": ["other"]}, True),
        ({"participants": {"02": "done"}}, True),
        ({"levels": ["group"]}, True),
    ],
)
def test_a_failure_stands_until_a_run_deals_with_it(site, later, stands):
    add_run(site, 3, **later)
    runs = report_runs.read_runs(site)
    standing = report_runs.standing_failures(runs, {"toy": read_spec(site.parent)})
    assert bool(standing) is stands


def test_rebuilding_pages_hides_neither_failures_nor_published_numbers(site):
    folder = add_run(site, 3, recipe="", participants={"01": "done"})
    (folder / "config.toml").write_text("reports_only = true\n")
    rebuild(site)
    assert "4D &lt;image&gt;" in (site / "brainstages.html").read_text()
    assert report_results.published_numbers(report_runs.read_runs(site), "toy")


def test_many_failures_of_one_kind_are_told_once(site):
    add_run(
        site, 3, failures=[failure(f"{i:02d}", "same reason") for i in range(1, 41)],
        participants={f"{i:02d}": "failed" for i in range(1, 41)},
    )  # fmt: skip
    rebuild(site)
    page = (site / "brainstages.html").read_text()
    assert page.count("same reason") == 1
    assert "and 20 more" in page


def test_reasons_that_differ_by_path_alone_are_told_once(site):
    reasons = {
        f"{i:02d}": f"/data/my study/sub-{i:02d}/anat/sub-{i:02d}_T1w.nii.gz: 4D image, expected 3D"
        for i in range(1, 31)
    }
    other = [failure("31", "/data/my study/sub-31/anat/x.nii.gz: the file is truncated")]
    add_run(
        site, 3, failures=[*other, *(failure(label, text) for label, text in reasons.items())],
        participants=dict.fromkeys([*reasons, "31"], "failed"),
    )  # fmt: skip
    rebuild(site)
    page = (site / "brainstages.html").read_text()
    told = page[page.index("What failed") : page.index("Stages</h2>")]
    assert told.count("<article>") == 2
    assert told.index("4D image") < told.index("the file is truncated")  # the most frequent first
    assert "and the same of 29 more" in told
    for text in reasons.values():  # none is lost
        assert told.count(text) == 1


def test_a_stage_that_found_nothing_to_do_says_what_it_lacks(site):
    root = site.parent / "out" / "brainstages-toy"
    shutil.rmtree(root)
    (root / "logs" / "jobs").mkdir(parents=True)
    (root / "logs" / "jobs" / "toy.judge.json").write_text(json.dumps({"outputs": []}))
    rebuild(site)
    assert "Nothing was written" in (site / "brainstages.html").read_text()
    page = (root / "toy.html").read_text()
    assert "<b>judge</b> reads from raw: x" in page


def test_a_stage_with_results_is_not_called_idle(site):
    assert "Nothing was written" not in (site / "brainstages.html").read_text()
    assert "Nothing was written" not in (site / "brainstages-toy/toy.html").read_text()


def test_a_card_counts_scans_by_their_quality_the_worst_first(site):
    scans = site / "brainstages-toy" / "sub-01" / "sub-01_scans.tsv"
    scans.write_text("filename\tqc\na.nii.gz\tpass\nb.nii.gz\twarn\n")
    rebuild(site)
    card = (site / "brainstages.html").read_text()
    flags = re.findall(r'<span class="(\w+)">(\d) \1</span>', card)
    assert flags == [("fail", "1"), ("warn", "1"), ("pass", "1")]


def test_in_tables_of_scans_what_judges_stands_in_front(site):
    page = (site / "brainstages-toy/toy.html").read_text()
    scans = page[page.index('id="scans"') :]
    assert re.findall(r"<th[^>]*>([^<]+)</th>", scans)[:3] == ["participant id", "qc", "filename"]


def test_stages_that_others_need_come_first(tmp_path):
    roots = {name: tmp_path / f"brainstages-{name}" for name in specs.names()}
    for name, root in roots.items():
        (root / "logs" / "jobs").mkdir(parents=True)
        (root / "logs" / "jobs" / f"{name}.x.json").write_text("{}")
    site = report_site.survey(tmp_path, [], roots, [])
    names = [spec.name for spec in site.stages]
    assert names[0] == "preprocessing"
    for place, name in enumerate(names):
        needed = specs.load(name).sources & set(names) - {name}
        assert needed <= set(names[:place]), name


def test_participants_are_linked_though_all_logs_are_lost(site):
    shutil.rmtree(site / "logs")
    rebuild(site)
    page = (site / "brainstages.html").read_text()
    assert '<a href="sub-01.html">sub-01</a>' in page
    assert '<a href="sub-02.html">sub-02</a>' in page


def test_what_is_not_real_is_said_inside_every_figure(site):
    page = (site / "sub-01.html").read_text()
    assert "unreal" not in page[page.index("<figure") :]
    add_run(site, 3, synthetic=True)
    rebuild(site)
    for name in PAGES:
        figures = re.findall(r"<figure.*?</figure>", (site / name).read_text(), re.DOTALL)
        assert bool(figures) is (name != "brainstages.html")
        for figure in figures:
            assert '<span class="unreal">synthetic data</span>' in figure


def test_published_columns_are_left_out_of_tables_about_made_up_data(site):
    table = site / "brainstages-toy" / "desc-audit_metrics.tsv"
    table.write_text("item\tvalue\tpublished_error\nauc\t0.8\t28.41\n")
    rebuild(site)
    assert "28.41" in (site / "brainstages-toy/toy.html").read_text()
    add_run(site, 3, synthetic=True)
    rebuild(site)
    page = (site / "brainstages-toy/toy.html").read_text()
    assert "28.41" not in page
    assert "published error" not in page


def test_true_by_predicted_counts_become_matrices():
    rows = [
        {"item": f"{net}", "network": net, "label": a, "predicted": b, "n": str(n)}
        for net, counts in (("bn", (6, 2, 0, 4)), ("linear", (0, 8, 4, 0)))
        for (a, b), n in zip(("FF", "FM", "MF", "MM"), counts, strict=True)
    ]
    first, second = make_table("t", rows).matrices
    assert (first.name, first.classes) == ("bn", ("F", "M"))
    assert first.cells == (((6, 75, 8), (2, 25, 2)), ((0, 0, 0), (4, 100, 10)))
    assert second.cells[0] == ((0, 0, 0), (8, 100, 10))
    assert make_table("t", [{**rows[0], "n": "n/a"}]).matrices == ()
    assert make_table("t", [{"label": "a", "n": "1"}]).matrices == ()
    many = [{"label": f"c{i}", "predicted": f"c{i}", "n": "1"} for i in range(13)]
    assert make_table("t", many).matrices == ()


def scan_rows(values, name="ml"):
    """Make rows about scans that differ in one number."""
    return [{"participant_id": f"sub-{i:03d}", name: str(v)} for i, v in enumerate(values)]


def test_the_spread_of_numbers_is_what_numpy_says():
    values = np.random.default_rng(0).normal(1400, 100, 60).round(3)
    values[7] = 3000
    strip = find_strips(scan_rows(values))[0]
    low, middle, high = np.percentile(values, [25, 50, 75])
    assert strip.n == 60
    assert [float(x) for x in (*strip.quartiles, strip.median)] == pytest.approx(
        [low, high, middle], rel=1e-3
    )
    reach = 1.5 * (high - low)
    far = [f"sub-{i:03d}" for i, v in enumerate(values) if not low - reach <= v <= high + reach]
    assert "sub-007" in far
    assert [dot.label for dot in strip.dots if dot.is_far] == far
    assert len(strip.dots) == 60
    assert max(strip.dots, key=lambda dot: dot.x).label == "sub-007"


def test_of_many_scans_far_ones_alone_are_drawn_and_what_does_not_vary_is_left_out():
    rows = scan_rows([*range(150), 9999])
    for row in rows:
        row |= {"shape": "96x96x96", "constant": "2", "gone": "n/a"}
    strips = find_strips(rows)
    assert [strip.name for strip in strips] == ["ml"]
    assert [dot.label for dot in strips[0].dots] == ["sub-150"]
    assert find_strips([]) == []


def test_a_dot_leads_to_the_participants_page(site):
    for label, value in (("01", "1.5"), ("02", "2.5")):
        scans = site / "brainstages-toy" / f"sub-{label}" / f"sub-{label}_scans.tsv"
        scans.write_text(f"filename\tqc\tml\na.nii.gz\tpass\t{value}\nb.nii.gz\tpass\t{value}1\n")
    rebuild(site)
    page = (site / "brainstages-toy/toy.html").read_text()
    strips = page[page.index('<section id="spread">') : page.index('<section id="scans">')]
    # By mouse; the keyboard stops at far ones alone, since there may be a thousand dots.
    assert '<a href="sub-01.html" tabindex="-1"><title>sub-01: 1.5</title>' in strips
    assert strips.count("<circle") == 4


def test_the_stages_page_shows_headline_tables_and_figures(site):
    page = (site / "brainstages-toy/toy.html").read_text()
    assert page.index("All is &lt;well&gt;.") < page.index("desc-audit_metrics.tsv")
    assert "Good?" in page
    assert 'src="figures/desc-mask_T1w.png"' in page
    assert 'href="sub-02.html"' in page


def test_a_number_stands_with_its_interval_n_and_baseline(site):
    rows = [{"item": "auc", "value": "0.81234567", "ci_low": "0.7", "ci_high": "0.9", "n": "92"}]
    table = make_table("t", [{**rows[0], "baseline": "0.5"}])
    assert table.columns == ("item", "value", "n", "baseline")
    assert table.rows[0][1].text == "0.8123 [0.7, 0.9]"
    picture = table.rows[0][1].interval
    assert picture["baseline"] < picture["low"] < picture["value"] < picture["high"]
    assert table.numeric == {"value", "n", "baseline"}
    gain = make_table("t", [{"gain": "0.1", "gain_low": "-0.1", "gain_high": "0.3"}])
    assert gain.rows[0][0].interval["baseline"] == pytest.approx(22)  # no gain, a quarter along
    named = make_table("t", [{"auc": "0.8", "auc_low": "0.7", "auc_high": "n/a"}])
    assert named.columns == ("auc",)
    assert named.rows[0][0].text == "0.8"


@pytest.mark.parametrize("page", PAGES)
def test_pages_escape_what_they_show_and_load_nothing_from_outside(site, page):
    text = (site / page).read_text()
    found = Page(text)
    assert found.tags.count("script") == 1
    assert found.handlers == []
    assert found.styled == 0  # the policy would forbid it
    assert not re.search(r"https?://", text)
    for target in [*found.loaded, *found.linked]:
        assert not re.match(r"\w+:(?!,)|//", target), target
        if target and not target.startswith(("data:", "#")):
            assert ((site / page).parent / target).exists() or "crash-" in target, target


def test_a_page_weighs_what_it_and_its_pictures_do(site):
    page = site / "sub-01.html"
    alone = page.stat().st_size
    assert weigh(page) == alone + 3 * len(PNG)
    (site / "brainstages-toy/sub-01/figures/sub-01_desc-mask_T1w.png").write_bytes(PNG + b"x" * 99)
    assert weigh(page) == alone + 3 * len(PNG) + 99


@pytest.mark.parametrize("page", PAGES)
def test_the_policy_lets_only_our_own_script_run(site, page):
    text = (site / page).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)[1]
    assert f"script-src '{report_pages._digest(script)}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_hostile_participant_id_stays_text(site):
    root = site / "brainstages-toy"
    hostile = "02<b onclick=x>"
    (root / f"sub-{hostile}").mkdir()
    (root / f"sub-{hostile}" / "sub-x_scans.tsv").write_text("filename\tqc\nx.nii.gz\tpass\n")
    spec = read_spec(site.parent)
    assert report.write(site, [spec], {"toy": root}, ["01", hostile]) == []
    for page in [*site.glob("*.html"), *root.glob("*.html")]:
        found = Page(page.read_text())
        assert found.handlers == []
        assert "b onclick" not in " ".join(found.tags)


def test_published_numbers_stand_beside_real_ones_only(site):
    runs = report_runs.read_runs(site)
    published = report_results.published_numbers(runs, "toy")
    assert published["participants"] == "7076"
    root = site / "brainstages-toy"
    (root / "plans" / "counts.tsv").write_text("item\tvalue\nparticipants\t92\nmean\t3\n")
    spec = read_spec(site.parent)
    tables = {t.name: t for t in report_results.stage_tables(root, spec, published)}
    counts = tables["counts.tsv"]
    assert counts.columns == ("item", "value", "published")
    assert [c.text for c in counts.rows[0]] == ["participants", "92", "7076"]
    assert counts.rows[1][2].text == ""
    for change in ({"synthetic": True}, {"recipe": ""}):
        assert report_results.published_numbers([{**runs[0], **change}], "toy") == {}
    assert report_results.published_numbers(runs, "another") == {}


def test_what_is_not_real_is_said_on_every_page(site):
    assert "Not real data" not in (site / "brainstages.html").read_text()
    root = site / "brainstages-toy"
    (root / "plans" / "audit.json").write_text(json.dumps({"Provenance": "random-weights"}))
    rebuild(site)
    for page in PAGES:
        assert "Not real data or weights:</b> random-weights" in (site / page).read_text()
    add_run(site, 3, synthetic=True)
    rebuild(site)
    assert "synthetic data; random-weights" in (site / "brainstages.html").read_text()


def test_model_cards_are_tabulated(site):
    root = site / "brainstages-toy"
    assert report_results.model_table(root) is None
    card = {"Task": "classification", "TrainingParticipants": ["bids::sub-01"], "Licence": "CC0"}
    path = root / "models" / "net" / "fold1" / "model.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(card))
    table = report_results.model_table(root)
    assert [c.text for c in table.rows[0]] == ["net/fold1", "classification", "1 people", "CC0"]


def test_the_methods_tell_what_ran_and_what_to_cite(site):
    text = (site / "logs/CITATION.md").read_text()
    assert "Parameters: width 2.0 mm; arm arm01, arm02." in text
    assert "random seed 3" in text
    assert "numpy 2.3" in text
    assert "2 jobs (draw)" in text
    bibliography = (site / "logs/CITATION.bib").read_text()
    assert "@article{Doe2001" in bibliography
    assert "title = {{On <toys>}}" in bibliography
    assert bibliography.count("@article") == 4


def test_one_page_that_cannot_be_written_does_not_keep_the_others(site):
    (site / "brainstages-toy" / "plans" / "audit.json").write_text("{")
    (site / "sub-01.html").unlink()
    roots = {"toy": site / "brainstages-toy"}
    said = report.try_write(site, [read_spec(site.parent)], roots, ["01"])
    assert "audit.json: not valid JSON: Expecting" in said
    assert (site / "brainstages-toy/toy.html").exists()


def test_a_damaged_status_is_passed_over(site):
    (next(site.glob("logs/run-*")) / "status.json").write_text("{")
    assert len(report_runs.read_runs(site)) == 1


def test_a_status_of_another_make_is_a_warning_not_a_crash(site):
    add_run(site, 3, seconds="long", jobs=None)
    roots = {"toy": site / "brainstages-toy"}
    said = report.try_write(site, [read_spec(site.parent)], roots, ["01"])
    assert "the page of the whole could not be written" in said


def test_pages_are_rebuilt_from_derivatives_alone(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    assert brainstages(raw, out, "participant", "group").returncode == 0
    pages = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.html"))
    assert {"brainstages.html", "sub-01.html", "brainstages-beta/beta.html"} <= set(pages)
    for page in pages:
        (out / page).unlink()
    done = brainstages(raw, out, "participant", "group", "--reports-only")
    assert done.returncode == 0, done.stderr
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.html")) == pages
    # Rebuilding is no run of its own: the tiles tell of the run that made the results.
    first = json.loads(min(out.glob("logs/run-*/status.json")).read_text())
    assert f"<b>{first['jobs']['done']} done</b>" in (out / "brainstages.html").read_text()


def test_pages_are_rebuilt_where_raw_data_and_logs_are_gone(raw, tmp_path, brainstages):
    out = tmp_path / "out"
    assert brainstages(raw, out, "participant", "group").returncode == 0
    pages = {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*.html")}
    for page in pages:
        (out / page).unlink()
    shutil.rmtree(raw)
    shutil.rmtree(out / "logs")
    done = brainstages(out / "brainstages-alpha", out, "participant", "group", "--reports-only")
    assert done.returncode == 0, done.stderr
    again = {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*.html")}
    assert again.keys() == pages.keys()
    for page in pages.keys() - {"brainstages.html"}:  # which also tells of runs, from their logs
        assert again[page] == pages[page], page


def test_a_report_that_fails_is_a_field_in_the_status_and_the_run_is_fine(
    raw, tmp_path, brainstages
):
    out = tmp_path / "out"
    (out / "brainstages.html").mkdir(parents=True)  # in the way
    assert brainstages(raw, out, "participant").returncode == 0
    status = json.loads(next(out.glob("logs/run-*/status.json")).read_text())
    assert status["exit_code"] == 0
    assert "the page of the whole could not be written" in status["report_problem"]
