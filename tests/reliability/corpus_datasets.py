"""Datasets, settings and command lines that people get wrong: name → damage, exit code, words.

A damage gets the dataset's root (four participants, sound) and returns options to add. The words
are a pattern that what is said must match; ``OK`` cases must be planned as if nothing was.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path


class Options(list):
    """What a damage adds to the command line."""


Damage = Callable[[Path], object]
OK = 0
DATASETS: dict[str, tuple[int, str, Damage]] = {}


def _add(name: str, code: int, words: str, damage: Damage) -> None:
    assert name not in DATASETS
    DATASETS[name] = (code, words, damage)


def _bytes(file: str, content: bytes | str) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda root: (root / file).write_bytes(data)


def _folder_instead(file: str) -> Damage:
    def damage(root: Path) -> None:
        (root / file).unlink(missing_ok=True)
        (root / file).mkdir()

    return damage


def _link_instead(file: str, to: str) -> Damage:
    def damage(root: Path) -> None:
        (root / file).unlink(missing_ok=True)
        (root / file).symlink_to(to)

    return damage


DESCRIPTION = "dataset_description.json"
_add("no description", 16, f"{DESCRIPTION} is missing", lambda r: (r / DESCRIPTION).unlink())
for title, content in {
    "empty": "",
    "cut short": '{"Name": "x", "BIDSV',
    "a comma too many": '{"Name": "x", "BIDSVersion": "1.10.0",}',
    "not JSON": "Name: x",
    "UTF-16": '{"Name": "x"}'.encode("utf-16"),
    "Latin-1": '{"Name": "Müller", "BIDSVersion": "1.10.0"}'.encode("latin-1"),
    "random": bytes(range(256)),
    "nested without end": "[" * 100_000,
    "a number of 5000 digits": '{"Name": ' + "1" * 5000 + "}",
    "control characters": '{"Name": "a\x00b"}',
}.items():
    remedy = "(correct it there|write the file anew|save it as UTF-8)"
    words = rf"{DESCRIPTION}: not valid JSON: .*{remedy}"
    _add(f"description {title}", 16, words, _bytes(DESCRIPTION, content))
for title, content in {"null": "null", "a number": "3", "a text": '"Name BIDSVersion"'}.items():
    words = f"{DESCRIPTION}: found .*, such as"
    _add(f"description {title}", 16, words, _bytes(DESCRIPTION, content))
_add("description a list", 16, "found .*, such as", _bytes(DESCRIPTION, '["Name", "BIDSVersion"]'))
_add(
    "description without version",
    16,
    "BIDSVersion missing; write",
    _bytes(DESCRIPTION, '{"Name": "x"}'),
)
_add("description a folder", 16, f"{DESCRIPTION} is missing", _folder_instead(DESCRIPTION))
_add("description in a circle", 16, "is missing", _link_instead(DESCRIPTION, DESCRIPTION))
for title, extra in {
    "makers null": {"GeneratedBy": None},
    "makers a text": {"GeneratedBy": "us"},
    "makers odd": {"GeneratedBy": [None, 3, {"Name": ["x"]}]},
    "DOI a number": {"DatasetDOI": 3},
    "name a list": {"Name": []},
    "licence a list": {"License": [1]},
    "markup": {"Name": "<script>alert(1)</script>"},
}.items():
    whole = {"Name": "x", "BIDSVersion": "1.10.0", **extra}
    _add(f"description with {title}", OK, "", _bytes(DESCRIPTION, json.dumps(whole)))
_add(
    "description with a mark",
    OK,
    "",
    _bytes(DESCRIPTION, b'\xef\xbb\xbf{"Name": "x", "BIDSVersion": "1.10.0"}'),
)

TABLE = "participants.tsv"
for title, content in {
    "Latin-1": "participant_id\tname\nsub-01\tMüller\n".encode("latin-1"),
    "UTF-16": "participant_id\tage\nsub-01\t20\n".encode("utf-16"),
    "bytes": bytes(range(256)) * 9,
    "an open quote": 'participant_id\tnote\nsub-01\t"never closed\nsub-02\tx\n',
    "a cell of a megabyte": "participant_id\tnote\nsub-01\t" + "x" * 2**20 + "\n",
}.items():
    _add(
        f"table with {title}", 16, rf"{TABLE}: (not a text|after line \d+)", _bytes(TABLE, content)
    )
for title, content in {
    "nothing": "",
    "a header alone": "participant_id\tage\n",
    "blanks": "  \n\t\t\n\n",
    "old line ends": "participant_id\tage\rsub-01\t20\r",
    "Excel's line ends": b"\xef\xbb\xbfparticipant_id\tage\r\nsub-01\t20\r\n",
    "no column of names": "who\tage\nsub-01\t3\n",
    "commas": "participant_id,age\nsub-01,3\n",
    "rows twice": "participant_id\tage\nsub-01\t3\nsub-01\t4\n",
    "short rows": "participant_id\tage\tsex\nsub-01\n",
    "long rows": "participant_id\tage\nsub-01\t3\t4\t5\n",
    "columns twice": "participant_id\tage\tage\nsub-01\t3\t4\n",
    "names without sub-": "participant_id\tage\n01\t3\n",
    "people who are not there": "participant_id\tage\nsub-99\t3\n",
    "NUL": "participant_id\tage\nsub-01\t\x00\n",
    "markup": "participant_id\tage\nsub-01\t<img src=x onerror=alert(1)>\n",
}.items():
    _add(f"table of {title}", OK, "", _bytes(TABLE, content))
_add("no table", OK, "", lambda r: (r / TABLE).unlink())
_add("table a folder", OK, "", _folder_instead(TABLE))
_add("table in a circle", OK, "", _link_instead(TABLE, TABLE))
for title, content in {"cut": '{"age":', "a list": "[1]", "Latin-1": b'{"a":"\xfc"}'}.items():
    _add(f"dictionary {title}", OK, "", _bytes("participants.json", content))
_add("README of bytes", OK, "", _bytes("README.md", bytes(range(256))))
_add(".bidsignore of bytes", OK, "", _bytes(".bidsignore", bytes(range(256))))

IMAGE = "sub-02/anat/sub-02_T1w.nii.gz"


def _tree(change: Callable[[Path], object]) -> Damage:
    return lambda root: change(root)


def _also(path: str) -> Damage:
    """Put a copy of an image beside the others."""

    def damage(root: Path) -> None:
        target = os.fsencode(root) + b"/" + (path if isinstance(path, bytes) else path.encode())
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as handle:
            handle.write((root / IMAGE).read_bytes())

    return damage


_add(
    "no participants",
    18,
    "no sub-",
    lambda r: ([path.rename(r / f"person{path.name[4:]}") for path in [*r.glob("sub-*")]]),
)
_add("a participant is a file", OK, "", _bytes("sub-05", "x"))
_add("a participant in a circle", OK, "", _link_instead("sub-05", "sub-05"))
_add("a participant leads nowhere", OK, "", _link_instead("sub-05", "nowhere"))
_add(
    "a participant is the dataset",
    OK,
    "sub-05.* left out|sub-05: no file",
    _link_instead("sub-05", "."),
)
_add(
    "a participant without files",
    OK,
    "sub-05: no file matches",
    _tree(lambda r: (r / "sub-05").mkdir()),
)
_add(
    "a session without files",
    OK,
    "",
    _tree(lambda r: (r / "sub-01/ses-1/anat").mkdir(parents=True)),
)
for title, name in {
    "a copy": "sub-02 (copy)",
    "an old one": "sub-02_old",
    "no label": "sub-",
    "a dot": "sub-0.2",
    "a line end": "sub-0\n2",
    "a percent": "sub-%s",
    "markup": "sub-<b>",
    "a quote": "sub-'2",
    "a dollar": "sub-$(id)",
}.items():
    _add(
        f"folder with {title}",
        OK,
        "left out, since a label",
        _also(f"{name}/anat/sub-02_T1w.nii.gz"),
    )
_add(
    "folder of bytes", OK, "left out, since a label", _also(b"sub-\xff\xfe/anat/sub-02_T1w.nii.gz")
)
_add("folder in another script", OK, "", _also("sub-é脳/anat/sub-é脳_T1w.nii.gz"))
_add(
    "case clash",
    OK,
    "",
    lambda r: (_also("sub-a/anat/sub-a_T1w.nii.gz")(r), _also("sub-A/anat/sub-A_T1w.nii.gz")(r)),
)
_add(
    "name and folder disagree",
    OK,
    "name and folder disagree",
    _also("sub-02/anat/sub-03_T1w.nii.gz"),
)
for title, name in {
    "a space": "sub-02_acq-a b_T1w.nii.gz",
    "bytes": b"sub-02_acq-\xff_T1w.nii.gz",
    "a line end": "sub-02_acq-a\nb_T1w.nii.gz",
    "a semicolon": "sub-02_acq-;id_T1w.nii.gz",
    "no key": "sub-02_-x_T1w.nii.gz",
    "two dashes": "sub-02_acq-a-b_T1w.nii.gz",
    "an editor's copy": "sub-02_T1w (1).nii.gz",
    "a resource fork": "._sub-02_T1w.nii.gz",
    "capitals": "sub-02_T1W.NII.GZ",
    "245 letters": f"sub-02_acq-{'a' * 223}_T1w.nii.gz"[:255],
    "a backup": "sub-02_T1w.nii.gz~",
}.items():
    path = b"sub-02/anat/" + name if isinstance(name, bytes) else f"sub-02/anat/{name}"
    _add(f"name with {title}", OK, "2 files match" if title == "245 letters" else "", _also(path))
_add(
    "two images",
    OK,
    "2 files match.*bids-filter-file",
    _also("sub-02/anat/sub-02_acq-b_T1w.nii.gz"),
)
_add("an image is a folder", OK, "sub-02: no file matches", _folder_instead(IMAGE))
_add("an image in a circle", OK, "", _link_instead(IMAGE, "sub-02_T1w.nii.gz"))
_add("an image leads nowhere", OK, "", _link_instead(IMAGE, "../.git/annex/x"))
_add(
    "an image is an endless device",
    OK,
    "sub-02: no file matches",
    _link_instead(IMAGE, "/dev/zero"),
)
_add("an image is a terminal", OK, "sub-02: no file matches", _link_instead(IMAGE, "/dev/stdin"))
_add(
    "an image is a pipe",
    OK,
    "sub-02: no file matches",
    lambda r: ((r / IMAGE).unlink(), os.mkfifo(r / IMAGE)),
)
_add("a link to a folder above", OK, "", _link_instead("sub-02/anat/up", "../.."))
_add("a link in every folder", OK, "", _link_instead("sub-02/loop", ".."))
_add("a dataset inside", OK, "", _also("sub-02/sub-03/anat/sub-03_T1w.nii.gz"))
_add("sixty folders deep", OK, "", _also("sub-02/" + "a/" * 60 + "sub-02_bold.nii.gz"))
_add(
    "a thousand other files",
    OK,
    "",
    lambda r: [(r / f"sub-02/anat/{n}.dcm").touch() for n in range(1000)],
)
_add("a pipe at the root", OK, "", lambda r: os.mkfifo(r / "README.pipe"))
_add("a stimulus of bytes", OK, "", _also(b"stimuli/\xff.mp4"))


def _option(flag: str, name: str, content: str | bytes, more: tuple[str, ...] = ()) -> Damage:
    def damage(root: Path) -> Options:
        path = root.parent / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Options([flag, path, *more])

    return damage


BILLION = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x]"]
    + [
        f"{chr(97 + n)}: &{chr(97 + n)} [{', '.join(['*' + chr(96 + n)] * 9)}]"
        for n in range(1, 12)
    ]
)
for title, content in {
    "empty": "",
    "a list": "[]",
    "a number": "1",
    "entities a list": '{"t1w": []}',
    "no such entity": '{"t1w": {"visit": "1"}}',
    "cut": '{"t1w": {',
    "Latin-1": b'{"t1w": {"acquisition": "\xfc"}}',
    "nested": "[" * 50_000,
    "digits": "9" * 6000,
}.items():
    _add(
        f"filter {title}",
        64,
        r"filter\.json: .*(such as|or such|correct it there|write the file anew|save it as UTF-8)",
        _option("--bids-filter-file", "filter.json", content),
    )
for title, content in {
    "any": '{"t1w": {"run": "*"}}',
    "values nested": '{"t1w": {"run": {"a": [1]}}}',
    "values a list of null": '{"t1w": {"run": [null, 3.5, true]}}',
    "not": '{"t1w": {"acquisition": "!"}}',
}.items():
    _add(f"filter {title}", -1, "", _option("--bids-filter-file", "filter.json", content))
for title, content in {
    "unknown": "sede: 3",
    "a list": "- 1",
    "cut": "random_seed: [1",
    "tabs": "\trandom_seed: 1",
    "Latin-1": b"work_dir: \xfc",
    "binary": bytes(range(128, 256)),
    "an object": "x: !!python/object/apply:os.system [id]",
    "a date of month 13": "work_dir: 2020-13-45",
    "a billion laughs": BILLION,
    "laughs in an option": BILLION.replace("l: ", "work_dir: "),
    "laughs in a parameter": BILLION.replace("l: ", "alpha: "),
    "no cores": "nprocs: 0",
    "minus cores": "nprocs: -4",
    "no number": "memory_gb: .nan",
    "endless memory": "memory_gb: .inf",
    "a seed below zero": "random_seed: -1",
    "a seed too large": "random_seed: 99999999999999999999",
    "a runner": "runner: magic",
    "a plugin": "plugin: ../x",
    "paths of numbers": "weights: {offset: 3}",
    "a path that is not there": "weights: {offset: /nowhere/x}",
    "a stage's name": "derivatives: {alpha: /tmp}",
    "a label": "participant_label: [../01]",
    "a parameter out of range": "alpha: {addend: 1000}",
    "a parameter NaN": "alpha: {addend: .nan}",
    "a parameter of another type": "alpha: {addend: [1]}",
    "a switch of text": "dry_run: 'yes'",
    "nested": "[" * 3000,
    "keys of lists": "? [1, 2]\n: 3",
    "merge of nothing": "<<: 3",
    "digits": "random_seed: " + "9" * 6000,
}.items():
    expected = 66 if "not there" in title else 64
    words = r"line \d+, column \d+: \w+|expected \w+|: no such |letters and digits only"
    words += r"|is a stage's name; choose another|month must be in 1..12|value has 6000 digits"
    _add(f"settings {title}", expected, words, _option("--config-file", "settings.yaml", content))
for title, content in {
    "syntax": "a = ",
    "digits": "random_seed = " + "9" * 6000,
    "nested": "a = " + "[" * 5000,
    "bytes": b"a = '\xff'",
    "twice": "nprocs = 1\nnprocs = 2",
}.items():
    _add(
        f"settings in TOML {title}",
        64,
        r"settings\.toml: .*save it as UTF-8" if title == "bytes" else r"settings\.toml: .*\w",
        _option("--config-file", "settings.toml", content),
    )
for title, content in {
    "empty": "",
    "a list": "[]",
    "no plugin": "plugin: 3",
    "arguments a list": "{plugin: Linear, plugin_args: [1]}",
    "an object": "!!python/name:os.system",
}.items():
    _add(
        f"plugin file {title}", 64, r"plugin\.yaml", _option("--use-plugin", "plugin.yaml", content)
    )
_add(
    "plugin arguments null",
    OK,
    "",
    _option("--use-plugin", "plugin.yaml", "{plugin: Linear, plugin_args: {a: null, 1: [null]}}"),
)
for title, options in {
    "a label with a path": ["--participant-label", "../../etc"],
    "bytes": ["--stages", "\udcff"],
    "no memory": ["--mem-gb", "-1"],
    "memory NaN": ["--mem-gb", "nan"],
    "a seed below zero": ["--random-seed", "-1"],
    "weights of nothing": ["--weights", "offset="],
    "a preset": ["--preset", "huge"],
    "a recipe with a path": ["--recipe", "../../x"],
    "a parameter NaN": ["--alpha-addend", "nan"],
    "a parameter": ["--alpha-addend", "1e9"],
    "an unknown option": ["--alfa-addend", "1"],
    "a stage with a path": ["--stages", "../alpha"],
}.items():
    words = r"expected \w+|no (stage|preset|recipe) '|see brainstages --help|digits only|in UTF-8"
    _add(f"option {title}", 64, words, lambda r, o=options: Options(o))
_add(
    "option people who are not there",
    18,
    "no participant 77",
    lambda r: Options(["--participant-label", "77"]),
)


def matches(words: str, said: str) -> bool:
    """Tell whether what was said holds the words, over several lines too."""
    return bool(re.search(words, said, flags=re.DOTALL))
