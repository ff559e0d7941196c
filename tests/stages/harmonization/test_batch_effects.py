"""ComBat: the published equations by a naive loop, planted effects, sites nobody has seen."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from stages.harmonization.batch_effects import Combat, apply_combat, fit_combat

AGE_SLOPE = np.linspace(-0.04, 0.02, 30)


def make_cohort(seed=0, n=480, p=30):
    """Three scanners with planted shifts and scales; age has a known slope in every feature."""
    rng = np.random.default_rng(seed)
    site = rng.choice(["Guys", "HH", "IOP"], n)
    age = rng.uniform(20, 80, n)
    shift = {s: rng.normal(0, 1.0, p) for s in ("Guys", "HH", "IOP")}
    scale = {"Guys": 1.0, "HH": 1.6, "IOP": 0.7}
    noise = rng.normal(size=(n, p))
    rows = [shift[s] + scale[s] * e for s, e in zip(site, noise, strict=True)]
    return np.array(rows) + age[:, None] * AGE_SLOPE[:p] + 10, list(site), age[:, None]


def naive_combat(features, sites, x):
    """Write the equations of Johnson et al. 2007 feature by feature, site by site."""
    names = sorted(set(sites))
    n, p = features.shape
    site = np.array(sites)
    out = np.empty_like(features)
    z, sigma, kept = np.empty_like(features), np.empty(p), np.empty_like(features)
    for v in range(p):
        columns = [np.where(site == s, 1.0, 0.0) for s in names] + list(x.T)
        design = np.column_stack(columns)
        b = np.linalg.solve(design.T @ design, design.T @ features[:, v])
        alpha = sum((site == s).sum() / n * b[i] for i, s in enumerate(names))
        sigma[v] = np.sqrt(np.mean((features[:, v] - design @ b) ** 2))
        kept[:, v] = alpha + x @ b[len(names) :]
        z[:, v] = (features[:, v] - kept[:, v]) / sigma[v]
    for s in names:
        inside = site == s
        m = inside.sum()
        hat = [z[inside, v].mean() for v in range(p)]
        var = [z[inside, v].var(ddof=1) for v in range(p)]
        tau2, gbar = np.var(hat, ddof=1), np.mean(hat)
        mean, s2 = np.mean(var), np.var(var, ddof=1)
        lam, theta = (mean**2 + 2 * s2) / s2, (mean**3 + mean * s2) / s2
        for v in range(p):
            g, d = hat[v], var[v]
            for _ in range(500):
                g = (m * tau2 * hat[v] + d * gbar) / (m * tau2 + d)
                d = (theta + 0.5 * ((z[inside, v] - g) ** 2).sum()) / (m / 2 + lam - 1)
            out[inside, v] = sigma[v] / np.sqrt(d) * (z[inside, v] - g) + kept[inside, v]
    return out


def site_auc(features, sites):
    model = LogisticRegression(max_iter=3000)
    z = (features - features.mean(0)) / features.std(0)
    p = cross_val_predict(model, z, sites, cv=5, method="predict_proba")
    return roc_auc_score(sites, p, multi_class="ovr")


def test_agrees_with_the_equations_written_out():
    features, sites, age = make_cohort(n=60, p=8)
    model = fit_combat(features, sites, age)
    ours = apply_combat(model, features, sites, age)
    np.testing.assert_allclose(ours, naive_combat(features, sites, age), atol=1e-5)


def test_a_planted_shift_vanishes_and_the_planted_slope_stays():
    features, sites, age = make_cohort(n=1200)
    train = np.arange(len(sites)) % 3 > 0
    names = np.array(sites)
    model = fit_combat(features[train], list(names[train]), age[train])
    cleaned = apply_combat(model, features[~train], list(names[~train]), age[~train])
    assert site_auc(features[~train], names[~train]) >= 0.9
    assert site_auc(cleaned, names[~train]) <= 0.6
    every = apply_combat(model, features, sites, age)
    slope = np.polyfit(age[:, 0], every, 1)[0]
    strong = np.abs(AGE_SLOPE) > 0.02
    np.testing.assert_allclose(slope[strong], AGE_SLOPE[strong], rtol=0.10)


def test_a_covariate_that_is_not_kept_is_lost_with_the_site():
    """HH is older: without age among the covariates its share of the effect goes with the site."""
    features, sites, age = make_cohort(n=2000)
    apart = np.array(sites) == "HH"
    age = age + 25.0 * apart[:, None]
    features = features + 25.0 * apart[:, None] * AGE_SLOPE
    kept = apply_combat(fit_combat(features, sites, age), features, sites, age)
    none = np.empty((len(sites), 0))
    lost = apply_combat(fit_combat(features, sites, none), features, sites, none)
    slope_kept, slope_lost = (np.polyfit(age[:, 0], f, 1)[0][0] for f in (kept, lost))
    assert slope_kept == pytest.approx(AGE_SLOPE[0], rel=0.1)
    assert abs(slope_lost) < 0.85 * abs(AGE_SLOPE[0])


def test_without_a_site_effect_hardly_anything_changes():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(400, 20))
    sites = ["a", "b"] * 200
    none = np.empty((400, 0))
    out = apply_combat(fit_combat(features, sites, none), features, sites, none)
    assert np.abs(out - features).max() < 0.25


def test_a_model_survives_json():
    features, sites, age = make_cohort(n=40, p=5)
    model = fit_combat(features, sites, age)
    again = Combat.from_json(json.loads(json.dumps(model.to_json())))
    np.testing.assert_array_equal(
        apply_combat(again, features, sites, age), apply_combat(model, features, sites, age)
    )


def test_an_unseen_site_is_refused_by_name():
    features, sites, age = make_cohort(n=40, p=5)
    model = fit_combat(features, sites, age)
    with pytest.raises(ValueError, match=r"site Utrecht was not seen.*Guys, HH, IOP"):
        apply_combat(model, features[:1], ["Utrecht"], age[:1])


def test_what_cannot_be_fitted_is_said():
    features, sites, age = make_cohort(n=40, p=5)
    with pytest.raises(ValueError, match="site Oslo has one person"):
        fit_combat(features, ["Oslo", *sites[1:]], age)
    with pytest.raises(ValueError, match="one site only"):
        fit_combat(features, ["a"] * 40, age)
    with pytest.raises(ValueError, match="1 are constant"):
        fit_combat(np.column_stack([features, np.ones(40)]), sites, age)
    with pytest.raises(ValueError, match="constant or told by the site"):
        fit_combat(features, sites, np.ones((40, 1)))
