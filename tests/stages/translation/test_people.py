"""Who is in which group."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from stages.translation.people import (
    assign_domains,
    compare_groups,
    control_domains,
    draw_cohort,
)

DOMAINS = ["Young", "Old"]


def by_age(*ages):
    return {f"sub-{i}": {"age": str(age), "sex": "F"} for i, age in enumerate(ages)}


def make_people(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"sub-{i:03d}": {
            "age": f"{rng.uniform(20, 80):.1f}",
            "sex": "FM"[rng.integers(2)],
            "site": "AB"[rng.integers(2)],
        }
        for i in range(n)
    }


def assign(people, **changes):
    options = {"column": "age", "bounds": "45,50", "domains": DOMAINS}
    return assign_domains(people, **(options | changes))


def draw(people, **changes):
    options = {"n_train": 0, "n_test": 0, "test_fraction": 0.2, "seed": 0}
    return draw_cohort(assign(people), people, domains=DOMAINS, **(options | changes))


def test_bounds_take_the_lower_below_and_the_upper_from():
    found = assign(by_age(44.99, 45, 49.99, 50, "n/a"))
    assert found == {"sub-0": "Young", "sub-3": "Old"}


def test_any_column_of_two_values_divides():
    people = by_age(1, 2, 3)
    people["sub-1"]["sex"] = "m"
    found = assign(people, column="sex", bounds="", domains=["F", "M"])
    assert found == {"sub-0": "F", "sub-1": "M", "sub-2": "F"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": "agee"}, r"no column 'agee' \(did you mean 'age'\?\); columns: age, sex"),
        (
            {"bounds": "90,95"},
            "domain 'Old' is empty: no participant with images has age that fits",
        ),
        ({"bounds": "50,45"}, "give two ascending numbers"),
        ({"bounds": "45"}, "give two ascending numbers"),
        ({"domains": ["Young"]}, "give two different names"),
        ({"domains": ["a_b", "c"]}, "letters and digits only"),
        ({"bounds": "", "column": "sex", "domains": ["F", "M"]}, r"domain 'M' is empty.*F \(2\)"),
    ],
)
def test_what_divides_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        assign(by_age(30, 60), **changes)


def test_the_studys_numbers_are_drawn_and_drawn_again_the_same():
    people = make_people(900)
    domain_of = assign(people)
    split = draw(people, n_train=183, n_test=50)
    counts = Counter((domain_of[p], part) for p, part in split.items())
    assert counts == {(d, part): n for d in DOMAINS for part, n in (("train", 183), ("test", 50))}
    assert split == draw(people, n_train=183, n_test=50)
    assert split != draw(people, n_train=183, n_test=50, seed=1)


def test_too_few_shrink_both_parts_alike():
    split = draw(make_people(200), n_train=183, n_test=50)
    parts = Counter(split.values())
    assert parts["test"] / parts["train"] == pytest.approx(50 / 183, rel=0.15)


def test_training_and_test_look_alike():
    people = make_people(400)
    split = draw(people)
    assert Counter(split.values())["test"] == pytest.approx(0.2 * len(split), abs=2)
    table = [
        [sum(people[p]["site"] == s and split[p] == part for p in split) for s in "AB"]
        for part in ("train", "test")
    ]
    assert stats.fisher_exact(table)[1] > 0.5
    ages = [
        [float(people[p]["age"]) for p in split if split[p] == part] for part in ("train", "test")
    ]
    assert stats.ks_2samp(*ages).pvalue > 0.2


def test_controls_do_not_differ():
    people = make_people(300)
    domain_of, split = assign(people), draw(people)
    pairs = control_domains(domain_of, split, people, domains=DOMAINS, seed=0)
    larger = max(DOMAINS, key=lambda d: sum(v == d for v in domain_of.values()))
    assert {domain_of[p] for p in pairs["null"]} == {larger}
    assert set(pairs["shuffled"]) == set(split)
    for own in pairs.values():
        table = [
            [sum(domain_of[p] == d and v == e for p, v in own.items()) for e in DOMAINS]
            for d in DOMAINS
        ]
        assert all(abs(a - b) <= 2 for a, b in table)


def test_imbalance_is_found():
    people = make_people(200)
    domain_of, split = assign(people), draw(people)
    fair = {row["column"]: row["p"] for row in compare_groups(domain_of, split, people, DOMAINS)}
    assert set(fair) == {"sex", "site"} and min(fair.values()) > 0.001
    for p, d in domain_of.items():
        people[p]["sex"] = "F" if d == "Old" else "M"
    unfair = {row["column"]: row["p"] for row in compare_groups(domain_of, split, people, DOMAINS)}
    assert unfair["sex"] < 1e-10
