"""Whole studies with a known truth, to see whether the verdict is as right as it says.

The simulation does not share the model of the analysis. A population of documents is either taken from the records of
a real study, or drawn by a process of overlap counts that gives what ROUGE gives: bounded, discrete, skewed scores,
alike within a group of documents and erratic to an extent that differs between them. A study draws groups from
it with replacement; what one training did to a document is drawn from the trainings that the population holds for that
document; and every training shifts its method's scores by a skewed amount whose size differs between methods.

    python -m tuneoff.verdict.simulate --studies 2000

prints the figures as JSON.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import binom

from tuneoff.errors import UserError
from tuneoff.stats.multiple_comparisons import LEVEL, half_widths, losses, single_half_widths
from tuneoff.stats.power import Components, plan
from tuneoff.stats.variance_components import Booleans, Floats, Integers, differences, moments
from tuneoff.verdict.data_sizes import crossovers_of
from tuneoff.verdict.load import load_scores
from tuneoff.verdict.scores import Scores, Table, tabulate

SEED_SDS = (
    0.3,
    0.6,
    0.9,
)  # points, one for each method that varies; unequal, as soft prompts are erratic and LoRA is not
_CHUNK_BYTES = 64_000_000


@dataclass(frozen=True)
class Population:
    """Documents with scores of M methods in K trainings; every method's mean over documents is taken as its truth.

    `scores` (M, K, N) in points, `group_of` (N,), `varies` (M,).
    """

    scores: Floats
    group_of: Integers
    varies: Booleans


@dataclass(frozen=True)
class Design:
    """Size of the simulated studies. `seed_sds`: standard deviation of a training's shift, one a varying method."""

    groups: int
    seeds: int
    seed_sds: tuple[float, ...] = SEED_SDS


# Sizes of the starter set (50 papers, three summaries each) and of a data set with one example a document.
DESIGNS = (Design(50, 3), Design(50, 5), Design(300, 3), Design(300, 5))


def overlap_population(
    varying: int = 3, fixed: int = 1, trainings: int = 8, groups: int = 1500, seed: int = 0
) -> Population:
    """A population drawn by counting overlaps, with one to three documents a group.

    A text shares k of its words with a reference. For half of the reference every method finds or misses the same
    words; for the rest k is binomial with logit p = how easy the group is + how well this method suits it (heavy tails)
    + what this training does (more on some documents than on others). The score is 200 k / (length of text + length of
    reference), as ROUGE-1's F-measure. The constants give what SciTLDR gives: single scores with a standard deviation
    of about 15 points, differences of two methods with about 12.
    """
    rng = np.random.default_rng(seed)
    group_of = np.repeat(np.arange(groups), rng.integers(1, 4, groups))
    n_documents, n_methods = len(group_of), fixed + varying
    ease = 0.45 * rng.gumbel(size=groups)[group_of] + 0.2 * rng.standard_normal(n_documents)
    suits = 0.3 * rng.standard_t(4, (n_methods, groups))[:, group_of] + 0.25 * rng.standard_t(
        4, (n_methods, n_documents)
    )
    erratic = rng.gamma(2.0, 0.1, n_documents)
    training = erratic * rng.standard_normal((n_methods, trainings, n_documents))
    chance = expit(-1.0 + ease + suits[:, None] + training)
    reference = rng.integers(15, 45, n_documents)
    length = np.maximum(4, rng.poisson(reference * rng.uniform(0.7, 1.3, n_documents), chance.shape))
    alike = reference // 2
    common = rng.binomial(alike, expit(-1.0 + ease))
    shared = common + rng.binomial(np.maximum(0, np.minimum(length, reference) - alike), chance)
    scores = 200.0 * shared / (length + reference)
    scores[:fixed] = scores[:fixed, :1]
    return Population(scores, group_of, np.arange(n_methods) >= fixed)


def population_of(scores: Scores) -> Population:
    """The documents and trainings of a real study. Raises `UserError` for fewer than two methods or ten groups."""
    table = tabulate(scores)
    if len(table.methods) < 2 or not len(table.group_of) or table.group_of.max() < 9:
        raise UserError("a simulation needs a study with at least two methods and ten document groups")
    return Population(table.values, table.group_of, table.varies)


def draw(population: Population, design: Design, studies: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Group contributions (B, M, S, G) of simulated studies in chunks; all methods have the same true mean, zero."""
    base, training, weights = _parts(population)
    n_methods, n_trainings, n_groups = training.shape
    sds = _seed_sds(population, design)
    size = max(1, _CHUNK_BYTES // (8 * n_methods * design.seeds * design.groups))
    for start in range(0, studies, size):
        count = min(size, studies - start)
        chosen = rng.integers(n_groups, size=(count, design.groups))
        table = np.repeat(base[:, chosen].transpose(1, 0, 2)[:, :, None], design.seeds, axis=2)
        if n_trainings > 1:
            which = rng.integers(n_trainings, size=(count, n_methods, design.seeds, design.groups))
            # Either sign: two trainings that draw the same deviation would otherwise be alike.
            sign = rng.choice((-1.0, 1.0), size=which.shape)
            table += sign * training[np.arange(n_methods)[None, :, None, None], which, chosen[:, None, None]]
        # Left-skewed: a training goes badly wrong more often than surprisingly right.
        shifts = (4.0 - rng.gamma(4.0, size=(count, n_methods, design.seeds))) / 2.0 * sds[:, None]
        sizes = weights[chosen][:, None, None]
        table += sizes * shifts[..., None]
        # A study divides by the documents that it drew; what it reports is a ratio of two sums.
        share = sizes.mean(axis=-1, keepdims=True)
        ratio = table.mean(axis=-1, keepdims=True) / share
        yield ratio + (table - ratio * sizes) / share


def _parts(population: Population) -> tuple[Floats, Floats, Floats]:
    """Of each group, relative to the mean group size: the sum over its documents of the methods' centred scores (M, G),
    of the deviations of each training (M, K, G), and the number of documents (G,)."""
    scores = population.scores - population.scores.mean(axis=(1, 2), keepdims=True)
    n_groups = int(population.group_of.max()) + 1
    counts = np.bincount(population.group_of, minlength=n_groups)
    sums = (
        np.stack(
            [[np.bincount(population.group_of, weights=row, minlength=n_groups) for row in method] for method in scores]
        )
        / counts.mean()
    )
    base = sums.mean(axis=1)
    training = sums - base[:, None]
    n_trainings = scores.shape[1]
    training -= training.mean(axis=-1, keepdims=True)
    if n_trainings > 1:
        training *= np.sqrt(n_trainings / (n_trainings - 1.0))
    training[~population.varies] = 0.0
    return base, training, counts / counts.mean()


def components_of(population: Population, design: Design) -> Components:
    """The true variance components, for planning."""
    base, training, _ = _parts(population)
    residual = np.diag((training**2).mean(axis=(1, 2)))
    return Components(np.cov(base, ddof=0), _seed_sds(population, design) ** 2, residual)


def _seed_sds(population: Population, design: Design) -> Floats:
    """(M,) the design's standard deviations, repeated where there are more varying methods; 0 for the others."""
    sds = np.zeros(len(population.varies))
    sds[population.varies] = np.resize(design.seed_sds, int(population.varies.sum()))
    return sds


def simulate(
    studies: int,
    population: Population | None = None,
    designs: Sequence[Design] = DESIGNS,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """Judge `studies` simulated studies of each design; returns one dict of figures a design.

    Shares are of studies (0..1), differences in points. In truth all methods are equal, so a false winner is a study in
    which any interval excludes zero. Since intervals move with the data, the power at a difference is the share of
    studies whose interval would exclude zero were that difference added. For `loss_coverage` one method is really
    better than all others: the bounds on the loss are tightest then.
    """
    population = overlap_population() if population is None else population
    return [_one_design(population, design, studies, seed) for design in designs]


def _one_design(population: Population, design: Design, studies: int, seed: int) -> dict[str, Any]:
    varies = population.varies
    planned = plan(varies, design.groups, design.seeds, components_of(population, design))
    truth = np.where(np.arange(len(varies)) == len(varies) - 1, 2.0 * planned.smallest_difference, 0.0)
    estimates, widths, singles, bounded = [], [], [], []
    for table in draw(population, design, studies, np.random.default_rng(seed)):
        found = moments(table, varies)
        apart = differences(found)
        estimates.append(apart.estimate)
        for index, mean in enumerate(found.mean):
            row = apart.study(index)
            widths.append(half_widths(row))
            singles.append(single_half_widths(row))
            bounded.append(bool((losses(row, mean + truth) >= truth.max() - truth).all()))
    estimate, width, single = np.concatenate(estimates), np.array(widths), np.array(singles)
    winners = (np.abs(estimate) > width).any(axis=1)
    alone = (np.abs(estimate) <= single).mean(axis=0)
    seen = [(sign * estimate + planned.detectable > width).mean(axis=0) for sign in (1.0, -1.0)]
    power = np.mean(seen, axis=0)
    return {
        "groups": design.groups,
        "seeds": design.seeds,
        "seed_sds": list(design.seed_sds),
        "studies": studies,
        "methods": len(varies),
        "pairs": estimate.shape[1],
        "family_coverage": 1.0 - float(winners.mean()),
        "single_coverage": float(alone.mean()),
        "single_coverage_worst_pair": float(alone.min()),
        "loss_coverage": float(np.mean(bounded)),
        "false_winners": int(winners.sum()),
        "stated_smallest_difference": planned.detectable.round(2).tolist(),
        "power": float(power.mean()),
        "power_lowest_pair": float(power.min()),
        "power_highest_pair": float(power.max()),
        "mean_half_width": float(width.mean()),
    }


def simulate_sizes(
    studies: int, groups: int = 300, seeds: int = 3, seed: int = 1, span: float = 12.0
) -> dict[str, float]:
    """Studies of two methods at four shares whose true difference goes from +`span` to -`span` points, a straight line
    over the logarithm of the amount; where it crosses zero is drawn anew for each study.

    Returns shares of studies: `coverage` (the set holds the true crossing; undetermined excludes nothing), `located`,
    and `wrong_throughout` (one method said to be better at every amount).
    """
    fractions = (0.05, 0.1, 0.3, 1.0)
    population = overlap_population(varying=2 * len(fractions), fixed=0, seed=seed)
    design = Design(groups, seeds)
    rng = np.random.default_rng(seed)
    covered = located = wrong = 0
    examples = 10_000
    counts = {fraction: round(fraction * examples) for fraction in fractions}
    names, both = tuple(f"d{place}" for place in range(groups)), np.array([True, True])
    for table in draw(population, design, studies, np.random.default_rng(seed)):
        for one in table:
            crossing = float(np.exp(rng.uniform(np.log(0.07), np.log(0.7))))
            tables = {}
            for place, fraction in enumerate(fractions):
                truth = span * np.log(crossing / fraction) / np.log(fractions[-1] / fractions[0])
                values = one[2 * place : 2 * place + 2] + np.array([0.0, -truth])[:, None, None]
                tables[fraction] = Table(
                    ("first", "second"), tuple(range(seeds)), names, values, both, np.arange(groups), ()
                )
            [pair] = crossovers_of(tables, counts, LEVEL)
            where = crossing * examples
            inside = pair.low is not None and pair.high is not None and pair.low <= where <= pair.high
            covered += pair.outcome == "undetermined" or (inside and pair.small == "first")
            located += pair.outcome == "located"
            wrong += pair.outcome == "throughout"
    return {"coverage": covered / studies, "located": located / studies, "wrong_throughout": wrong / studies}


def binomial_band(share: float, studies: int, confidence: float = 0.999) -> tuple[float, float]:
    """Between which shares a simulation of `studies` studies falls when the true share is `share`."""
    low, high = binom.interval(confidence, studies, share)
    return float(low) / studies, float(high) / studies


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of `simulate` as JSON, one design a line."""
    parser = argparse.ArgumentParser(prog="python -m tuneoff.verdict.simulate", description=simulate.__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="studies of each design")
    parser.add_argument("--records", type=Path, help="study folder whose documents are drawn (default: generated ones)")
    parser.add_argument("--groups", type=int, help="document groups of each study (default: 50 and 300)")
    parser.add_argument("--seeds", type=int, help="training seeds of each study (default: 3 and 5)")
    parser.add_argument("--seed-sd", type=float, nargs="+", default=SEED_SDS, help="points, one a trained method")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation")
    parser.add_argument("--sizes", action="store_true", help="amounts of data and crossovers instead")
    given = parser.parse_args(arguments)
    if given.studies < 1 or (given.groups or 2) < 2 or (given.seeds or 1) < 1 or min(given.seed_sd) < 0:
        parser.error("needs at least 1 study, 2 groups and 1 seed, and no negative --seed-sd")
    if given.sizes:
        for groups in [given.groups] if given.groups else (50, 300):
            for seeds in [given.seeds] if given.seeds else (3, 5):
                found = simulate_sizes(given.studies, groups, seeds, given.seed)
                print(json.dumps({"groups": groups, "seeds": seeds, "studies": given.studies} | found), flush=True)
        return
    designs = [
        Design(groups, seeds, tuple(given.seed_sd))
        for groups in ([given.groups] if given.groups else (50, 300))
        for seeds in ([given.seeds] if given.seeds else (3, 5))
    ]
    try:
        populations = [population_of(scores) for scores in load_scores(given.records)] if given.records else [None]
        for population in populations:
            for design in designs:
                print(json.dumps(simulate(given.studies, population, [design], given.seed)[0]), flush=True)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
