"""What stopping a study at a look would save, and how often it would be wrong, on simulated studies.

A study is judged after 3, 4, 5 and 6 seeds (`tuneoff.stats.sequential`). A method that is shown to lose more than the
margin gets no further seeds; the study ends when all is settled, or when further seeds would hardly narrow the
intervals. It is compared with six seeds of every method, judged once. Documents and trainings are drawn as in
`benches/simulation.py`.

    python benches/looks.py --studies 500 --records results/scitldr_a --groups 618

The figures are printed as JSON, one set of true means a line.

Shapes: M methods, S seeds, G groups.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from simulation import SEED_SDS, Design, Population, draw, overlap_population, population_of

from tuneoff.results.study_dir import StudyDir
from tuneoff.spec.study import MARGIN
from tuneoff.stats.moderation import study_differences
from tuneoff.stats.multiple_comparisons import compare_with_best, simultaneous_half_widths
from tuneoff.stats.sequential import look, look_seeds
from tuneoff.stats.variance_components import Booleans, Floats, estimate_means
from tuneoff.verdict.scores import load_scores

_ROUNDING = 1e-9

TRUTHS = ("equal", "spread", "close")


def true_means(truth: str, methods: int, rng: np.random.Generator) -> Floats:
    """(M,) points: all equal, drawn with a standard deviation of 3, or 0 to 3 in equal steps."""
    if truth == "equal":
        return np.zeros(methods)
    return rng.normal(0, 3, methods) if truth == "spread" else rng.permutation(np.linspace(0, 3, methods))


def follow(table: Floats, varies: Booleans, truth: Floats, margin: float = MARGIN) -> dict[str, float]:
    """Carry out one study (M, S, G) look by look; what it cost, and whether its statements are true."""
    methods = len(truth)
    looks, used = look_seeds(table.shape[1]), list[float]()
    active, candidates = np.ones(methods, dtype=bool), np.ones(methods, dtype=bool)
    upper, wrong, runs, before = np.full((methods, methods), np.inf), False, 0, 0
    apart = truth[:, None] - truth
    for seeds in looks:
        runs += (seeds - before) * int((active & varies).sum())
        before = seeds
        index = np.flatnonzero(active)
        found = look(table[index, :seeds], varies[index], looks, used, margin)
        used.append(found.level)
        here = np.ix_(index, index)
        upper[here] = found.upper
        wrong |= bool((apart[here] > found.upper + _ROUNDING).any())
        candidates[index] &= found.candidates
        active[index[found.stopped]] = False
        if found.settled or found.documents_limit:
            break
    losers = truth < truth.max() - margin
    return {
        "runs": runs,
        "looks": len(used),
        "covered": bool((apart <= upper + _ROUNDING).all()),
        "wrong": wrong,
        "best_stopped": not active[truth.argmax()],
        "excluded": float((~candidates)[losers].mean()) if losers.any() else np.nan,
    }


def judge_once(table: Floats, varies: Booleans, truth: Floats, margin: float = MARGIN) -> dict[str, float]:
    """The same study with all its seeds, judged once."""
    means = estimate_means(table, varies)
    found = study_differences(means, [table.mean(axis=-1)]).differences
    true = truth[found.first] - truth[found.second]
    losers = truth < truth.max() - margin
    candidates = compare_with_best(found, means.mean).candidates
    return {
        "runs": table.shape[1] * int(varies.sum()),
        "covered": bool((np.abs(found.estimate - true) <= simultaneous_half_widths(found) + _ROUNDING).all()),
        "excluded": float((~candidates)[losers].mean()) if losers.any() else np.nan,
    }


def simulate_looks(
    studies: int, population: Population, design: Design, truth: str, seed: int = 1, margin: float = MARGIN
) -> dict[str, Any]:
    """Mean figures of `studies` studies, carried out look by look and judged once.

    `excluded` is the share of the methods that truly lose more than the margin and are shown not to be the best.
    """
    rng = np.random.default_rng(seed + 1)
    by_look, once = [], []
    for tables in draw(population, design, studies, np.random.default_rng(seed)):
        for one in tables:
            means = true_means(truth, len(one), rng)
            table = one + means[:, None, None]
            by_look.append(follow(table, population.varies, means, margin))
            once.append(judge_once(table, population.varies, means, margin))

    def mean(rows: Sequence[dict[str, float]], key: str) -> float | None:
        values = [row[key] for row in rows if not np.isnan(row[key])]
        return float(np.mean(values)) if values else None

    runs, all_runs = mean(by_look, "runs") or 0.0, mean(once, "runs") or 0.0
    return {
        "truth": truth,
        "groups": design.groups,
        "seeds": design.seeds,
        "seed_sds": list(design.seed_sds),
        "studies": studies,
        "methods": len(population.varies),
        "runs": runs,
        "runs_once": all_runs,
        "saved": 1.0 - runs / all_runs,
        "looks": mean(by_look, "looks"),
        "coverage_at_the_stop": mean(by_look, "covered"),
        "wrong_at_any_look": mean(by_look, "wrong"),
        "best_stopped": mean(by_look, "best_stopped"),
        "excluded": mean(by_look, "excluded"),
        "excluded_once": mean(once, "excluded"),
        "coverage_once": mean(once, "covered"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of `simulate_looks` as JSON, one set of true means a line."""
    parser = argparse.ArgumentParser(prog="python benches/looks.py", description=simulate_looks.__doc__)
    parser.add_argument("--studies", type=int, default=500, help="studies of each set of true means")
    parser.add_argument("--records", type=Path, help="study folder to draw documents from (default: generated scores)")
    parser.add_argument("--groups", type=int, default=300, help="document groups of each study")
    parser.add_argument("--seeds", type=int, default=6, help="most training seeds of a method")
    parser.add_argument("--seed-sd", type=float, nargs="+", default=SEED_SDS, help="SD between seeds, one per method")
    parser.add_argument("--truth", choices=TRUTHS, nargs="+", default=TRUTHS, help="true means")
    given = parser.parse_args(arguments)
    population = overlap_population(varying=5)
    if given.records:
        population = population_of(load_scores(StudyDir(given.records).load())[0])
    design = Design(given.groups, given.seeds, tuple(given.seed_sd))
    for truth in given.truth:
        print(json.dumps(simulate_looks(given.studies, population, design, truth)), flush=True)


if __name__ == "__main__":
    main()
