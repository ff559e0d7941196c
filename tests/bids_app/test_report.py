"""Pages: failures first, captions from the spec, hostile text harmless, nothing from a network."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bids_app import report
from specs.reading import read_yaml
from specs.schema import parse_spec

SPEC = """
name: toy
version: "1"
summary: A toy <b>stage</b>.
image: toy
steps:
  draw:
    summary: Draws.
    level: participant
    over: [sub]
    inputs: {image: {from: raw, query: {suffix: T1w}, help: x}}
    outputs:
      mask:
        bids: {datatype: figures, desc: mask, suffix: T1w, extension: .png}
        metadata: {Description: The outline.}
      arms:
        bids: {datatype: figures, desc: "arm{arm}", suffix: T1w, extension: .png}
        metadata: {Description: One arm.}
"""


class Links(HTMLParser):
    """Collect what a page would load or link to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture
def site(tmp_path):
    """A stage's dataset with two participants, figures, scans and a failed run."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    spec = parse_spec(read_yaml(tmp_path / "spec.yaml"), file=tmp_path / "spec.yaml")
    out = tmp_path / "out"
    root = out / "brainstages-toy"
    for label in ("01", "02"):
        figures = root / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        for desc in ("armB2", "mask", "other"):
            (figures / f"sub-{label}_desc-{desc}_T1w.png").write_bytes(b"png")
        scans = root / f"sub-{label}" / f"sub-{label}_scans.tsv"
        scans.write_text("filename\tqc\tnote\nanat/x.nii.gz\tfail\t<script>alert(1)</script>\n")
    (root / "figures").mkdir()
    (root / "figures" / "desc-mask_T1w.png").write_bytes(b"png")
    (root / "audit_metrics.tsv").write_text("metric\tvalue\nauc\t0.5\n")
    (root / "plans").mkdir()
    (root / "plans" / "audit.json").write_text(json.dumps({"Headline": "All is <well>."}))
    for number, failures in (
        (1, [_failure("01", "old news")]),
        (2, [_failure("01", "4D <image>")]),
    ):
        run = out / "logs" / f"run-2026010{number}"
        run.mkdir(parents=True)
        status = {
            "run": run.name,
            "stages": ["toy"],
            "recipe": "sex-slices",
            "synthetic": False,
            "exit_code": 1,
            "reason": "x",
            "seconds": 1,
            "failures": failures,
            "participants": {"01": "failed"},
            "jobs": {"done": 1, "skipped": 0, "failed": 1},
        }
        (run / "status.json").write_text(json.dumps(status))
    report.write(out, [spec], {"toy": root}, ["01", "02"])
    return out


def _failure(participant, reason):
    return {"participant": participant, "stage": "toy", "step": "draw", "reason": reason}


def test_captions_come_from_the_spec_in_its_order(site):
    page = (site / "brainstages-toy/sub-01.html").read_text()
    assert page.index("The outline.") < page.index("One arm.")
    assert "sub-01/figures/sub-01_desc-armB2_T1w.png" in page
    assert "desc-other" not in page


def test_the_latest_failures_stand_first_and_only_where_they_belong(site):
    page = (site / "brainstages-toy/sub-01.html").read_text()
    assert "old news" not in page
    assert page.index("4D &lt;image&gt;") < page.index("<figure>")
    assert "What failed" not in (site / "brainstages-toy/sub-02.html").read_text()
    start = (site / "brainstages.html").read_text()
    assert start.index("What failed") < start.index("Stages")


def test_the_stages_page_shows_headline_tables_and_figures(site):
    page = (site / "brainstages-toy/toy.html").read_text()
    assert page.index("All is &lt;well&gt;.") < page.index("audit_metrics.tsv")
    assert 'src="figures/desc-mask_T1w.png"' in page
    assert '<a href="sub-02.html">sub-02</a>' in page


@pytest.mark.parametrize(
    "page", ["brainstages.html", "brainstages-toy/toy.html", "brainstages-toy/sub-01.html"]
)
def test_pages_escape_what_they_show_and_load_nothing_from_outside(site, page):
    links = Links()
    links.feed((site / page).read_text())
    assert "script" not in links.tags
    for target in links.found:
        assert not target.startswith(("http", "//"))
        if not target.startswith("data:"):
            assert ((site / page).parent / Path(target)).exists() or target.endswith("app.log"), (
                target
            )


def test_published_numbers_stand_beside_real_ones_only(site):
    runs = report.read_runs(site)
    published = report.published_numbers(runs, "toy")
    assert published["participants"] == "7076"
    root = site / "brainstages-toy"
    (root / "plans" / "counts.tsv").write_text("item\tvalue\nparticipants\t92\nmean\t3\n")
    counts = report.stage_tables(root, published)[0]
    assert counts["rows"][0] == {"item": "participants", "value": "92", "published": "7076"}
    assert counts["rows"][1]["published"] == ""
    assert report.published_numbers([{**runs[0], "synthetic": True}], "toy") == {}
    assert report.published_numbers([{**runs[0], "recipe": ""}], "toy") == {}
    assert report.published_numbers(runs, "another") == {}


def test_a_report_that_cannot_be_written_is_a_warning(site, tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    spec = parse_spec(read_yaml(tmp_path / "spec.yaml"), file=tmp_path / "spec.yaml")
    (site / "brainstages-toy" / "plans" / "audit.json").write_text("{")
    assert "Expecting" in report.try_write(site, [spec], {"toy": site / "brainstages-toy"}, ["01"])
