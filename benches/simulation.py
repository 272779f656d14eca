"""Coverage and power of the verdict, measured on simulated studies whose true result is known.

The effects are additive, as the analysis assumes; their distributions are not. Documents come from the records of a
real study, or are generated from counts of shared words. Such scores are like those of ROUGE: bounded, discrete and
skewed, similar within a group of documents, and more variable on some documents than on others. A study draws groups
with replacement. For each training it draws, per document, one of the trainings that the population has for that
document. In addition, every training shifts the scores of its method by a skewed amount, whose size differs between
methods.

    python benches/simulation.py --studies 2000
    python benches/simulation.py --studies 2000 --records results/scitldr_a --groups 618 --seeds 3
    python benches/simulation.py --studies 2000 --sizes

The figures are printed as JSON, one design a line.

Shapes: M methods, S seeds, K trainings of the population, N documents, G groups, P pairs of methods, B studies.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.special import expit
from scipy.stats import binom

from tuneoff.errors import UserError
from tuneoff.results.study_dir import StudyDir
from tuneoff.stats.moderation import study_differences
from tuneoff.stats.multiple_comparisons import (
    LEVEL,
    bound_widths,
    compare_bounds,
    simultaneous_half_widths,
    single_half_widths,
)
from tuneoff.stats.power import POWER, VarianceComponents, planned_sensitivity
from tuneoff.stats.seed_spread import widen_erratic
from tuneoff.stats.variance_components import (
    Booleans,
    Floats,
    Integers,
    MeanEstimates,
    PairwiseDifferences,
    contrast_variance,
    estimate_means,
    pair_indices,
    pairwise_differences,
)
from tuneoff.verdict.data_sizes import find_crossovers
from tuneoff.verdict.scores import Scores, ScoreTable, load_scores, tabulate

# Points, one per method that varies. Unequal: soft prompts vary more between seeds than LoRA.
SEED_SDS = (0.3, 0.6, 0.9)
_CHUNK_BYTES = 64_000_000
_FAILURE_RATE = 0.3
_LARGEST_FACTOR = 8.0


Rule = Literal["now", "earlier", "known"]
_MANY = 1e6  # degrees of freedom of a variance that is known


@dataclass(frozen=True)
class Population:
    """Scores of M methods in K trainings on N documents. The true mean of a method is its mean over all of them."""

    scores: Floats  # (M, K, N), points
    group_of: Integers  # (N,) group index, from 0
    varies: Booleans  # (M,) False for a method whose texts do not depend on the seed


@dataclass(frozen=True)
class Design:
    """Size of the simulated studies."""

    groups: int
    seeds: int
    seed_sds: tuple[float, ...] = SEED_SDS  # standard deviation of a training's shift, one per varying method, points
    lost: float = 0.0  # points that the last method loses in 3 of 10 trainings
    sets: int = 1  # sets of trainings (fractions of the data) that show how much seeds differ
    shared: float = 0.0  # part of the variance between seeds that is an effect of the seed on all methods alike
    varied: bool = False  # every set of trainings has another standard deviation: scaled inverse chi with 2 df
    folds: int = 1  # parts of a cross-validation; each part of the documents is tested by trainings of its own
    training_sets: float = 0.0  # standard deviation of what a training set adds to the mean of a method, points


# Sizes of the starter set (50 papers, three summaries each) and of a data set with one example a document.
DESIGNS = (Design(50, 3), Design(50, 5), Design(300, 3), Design(300, 5))


def overlap_population(
    varying: int = 3, fixed: int = 1, trainings: int = 8, groups: int = 1500, seed: int = 0
) -> Population:
    """A population with scores generated from counts of shared words, with one to three documents per group.

    A text shares k words with its reference. For half of the reference all methods find or miss the same words. For the
    other half k is binomial, and logit p is the sum of three effects: how easy the group is, how well the method suits
    it (heavy tails), and the training (larger on some documents than on others). The score is 200 k / (length of text +
    length of reference), as in the F-measure of ROUGE-1. The constants reproduce SciTLDR: scores have a standard
    deviation of about 15 points, differences of two methods one of about 12.
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
    half = reference // 2
    common = rng.binomial(half, expit(-1.0 + ease))
    shared = common + rng.binomial(np.maximum(0, np.minimum(length, reference) - half), chance)
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
    """Group contributions (B, M, S, G) of simulated studies, in chunks. The true mean of every method is zero."""
    base, training, weights = _group_effects(population)  # groups are drawn at random, so any part of them is a fold
    n_methods, n_trainings, n_groups = training.shape
    sds = _seed_sds(population, design)
    size = max(1, _CHUNK_BYTES // (8 * n_methods * design.seeds * design.groups))
    for start in range(0, studies, size):
        count = min(size, studies - start)
        chosen = rng.integers(n_groups, size=(count, design.groups))
        table = np.repeat(base[:, chosen].transpose(1, 0, 2)[:, :, None], design.seeds, axis=2)
        if n_trainings > 1:
            which = rng.integers(n_trainings, size=(count, n_methods, design.seeds, design.groups))
            # With a random sign, two trainings that draw the same deviation are not always equal.
            sign = rng.choice((-1.0, 1.0), size=which.shape)
            table += sign * training[np.arange(n_methods)[None, :, None, None], which, chosen[:, None, None]]
        # (B, M, S, folds); without cross-validation there is one training for each seed.
        shifts = np.stack(
            [_shifts(design, sds, (count, n_methods, design.seeds), rng) for _ in range(design.folds)], axis=-1
        )
        shifts += _training_set_effects(design, population.varies, count, rng)[:, :, None]
        sizes = weights[chosen][:, None, None]
        table += sizes * shifts[..., np.arange(design.groups) % design.folds]
        # A study divides by the number of documents that it drew, so its mean is a ratio of two sums.
        mean_size = sizes.mean(axis=-1, keepdims=True)
        ratio = table.mean(axis=-1, keepdims=True) / mean_size
        yield ratio + (table - ratio * sizes) / mean_size


def _shifts(design: Design, sds: Floats, shape: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """(B, M, S) effects of trainings on the mean score of their method; zero on average."""
    # Left-skewed: a training is very bad more often than very good.
    effects: Floats = (4.0 - rng.gamma(4.0, size=shape)) / 2.0
    if design.shared:
        common = (4.0 - rng.gamma(4.0, size=(shape[0], 1, shape[2]))) / 2.0
        effects = np.sqrt(1.0 - design.shared) * effects + np.sqrt(design.shared) * common
    if design.varied:
        sds = sds * np.minimum(np.sqrt(2.0 / rng.chisquare(2, shape[:2])), _LARGEST_FACTOR)
        shifts = effects * sds[..., None]
    else:
        shifts = effects * sds[:, None]
    if design.lost:
        failed = rng.random((shape[0], shape[2])) < _FAILURE_RATE
        shifts[:, -1] -= design.lost * (failed - _FAILURE_RATE)
    return shifts


def _training_set_effects(design: Design, varies: Booleans, studies: int, rng: np.random.Generator) -> Floats:
    """(B, M, folds) what the training sets add to the means of methods; zero on average over data sets.

    Two of K training sets share (K - 2) / (K - 1) of their documents, and so much of their effects correlates.
    """
    shared = (design.folds - 2) / (design.folds - 1) if design.folds > 1 else 1.0
    size = (studies, len(varies), design.folds)
    effects = np.sqrt(shared) * rng.standard_normal((*size[:2], 1)) + np.sqrt(1 - shared) * rng.standard_normal(size)
    return design.training_sets * effects * varies[:, None]


def _trainings(means: Floats, population: Population, design: Design, rng: np.random.Generator) -> list[Floats]:
    """Mean scores (B, M, S) of all sets of trainings: the study's own `means`, and those at other fractions."""
    noise = np.sqrt(np.diag(components_of(population, design).residual) / design.groups)
    sets = [means]
    for _ in range(design.sets - 1):
        other = _shifts(design, _seed_sds(population, design), means.shape, rng)
        sets.append(other + noise[:, None] * rng.standard_normal(means.shape))
    return sets


def _group_effects(population: Population) -> tuple[Floats, Floats, Floats]:
    """Sums over the documents of each group, divided by the mean group size.

    Returns the centred scores of each method (M, G), the deviations of each training (M, K, G), and the number of
    documents (G,).
    """
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


def components_of(population: Population, design: Design) -> VarianceComponents:
    """The true variance components, for planning."""
    base, training, _ = _group_effects(population)
    residual = np.diag((training**2).mean(axis=(1, 2)))
    return VarianceComponents(np.cov(base, ddof=0), _seed_sds(population, design) ** 2, residual)


def _seed_sds(population: Population, design: Design) -> Floats:
    """(M,) standard deviations of the design, repeated if there are more varying methods; 0 for the other methods."""
    sds = np.zeros(len(population.varies))
    sds[population.varies] = np.resize(design.seed_sds, int(population.varies.sum()))
    return sds


def simulate(
    studies: int,
    population: Population | None = None,
    designs: Sequence[Design] = DESIGNS,
    seed: int = 1,
    *,
    rule: Rule = "now",
) -> list[dict[str, Any]]:
    """Judge `studies` simulated studies of each design; one dict of figures per design.

    Coverage and power are fractions of the studies (0..1), differences are in points. All methods are truly equal, so a
    false winner is a study in which any interval excludes zero, and a false best one in which the comparison with the
    best leaves one method. Intervals shift with the data, so the power at a difference is the fraction of studies whose
    interval would exclude zero if the difference were added. For `regret_coverage` one method is truly better than all
    others, because the regret bounds are tightest then. `detected_*` is the difference that 80 % of studies show, and
    `lead_*` the lead of one method over all others with which 80 % of studies name it.

    `rule` judges the same studies by another rule: `earlier` is that before variances were moderated, `known` one that
    knows the true variances between seeds, which is the most that any estimate of them could gain.
    """
    population = overlap_population() if population is None else population
    return [_one_design(population, design, studies, seed, rule) for design in designs]


def _judged(means: MeanEstimates, trainings: Sequence[Floats], rule: Rule, sds: Floats) -> PairwiseDifferences:
    if rule == "known":
        return _with_known_seeds(means, sds)
    found = study_differences(means, trainings)
    return widen_erratic(pairwise_differences(means), found.spread) if rule == "earlier" else found.differences


def _with_known_seeds(means: MeanEstimates, sds: Floats) -> PairwiseDifferences:
    """`sds` (M,) are the true standard deviations between seeds. The part of the documents is estimated."""
    assert means.residual is not None
    first, second = pair_indices(len(sds))
    each = sds**2 / means.n_seeds
    residual = contrast_variance(means.residual, first, second)
    return PairwiseDifferences(
        first,
        second,
        means.mean[first] - means.mean[second],
        contrast_variance(means.documents, first, second),
        each[first] + each[second] + residual,
        residual,
        means.n_groups - 1,
        np.where(means.varies[first] | means.varies[second], _MANY, 0.0),
        means.documents + np.diag(each),
        means.n_seeds,
    )


def _one_design(population: Population, design: Design, studies: int, seed: int, rule: Rule) -> dict[str, Any]:
    varies, sds = population.varies, _seed_sds(population, design)
    first, second = pair_indices(len(varies))
    tuned = varies[first] & varies[second]
    planned = planned_sensitivity(varies, design.groups, design.seeds, components_of(population, design))
    truth = np.where(np.arange(len(varies)) == len(varies) - 1, 2.0 * planned.smallest_difference, 0.0)
    estimates, widths, singles, with_best, pair_limits = [], [], [], [], []
    others = np.random.default_rng(seed + 1)
    for table in draw(population, design, studies, np.random.default_rng(seed)):
        sets = _trainings(table.mean(axis=-1), population, design, others)
        for index, scores in enumerate(table):
            means = estimate_means(scores, varies)
            row = _judged(means, [one[index] for one in sets], rule, sds)
            estimates.append(row.estimate)
            widths.append(simultaneous_half_widths(row))
            singles.append(single_half_widths(row))
            apart = means.mean[:, None] - means.mean
            with_best.append(apart + bound_widths(row))
            pair_limits.append(apart)
            pair_limits[-1][first, second] += widths[-1]
            pair_limits[-1][second, first] += widths[-1]
    estimate, width, single = np.array(estimates), np.array(widths), np.array(singles)
    limits = np.array(with_best)
    candidates = [compare_bounds(one).candidates for one in limits]
    regrets = np.array([compare_bounds(one).regret for one in limits + truth[:, None] - truth])
    winners = (np.abs(estimate) > width).any(axis=1)
    single_coverage = (np.abs(estimate) <= single).mean(axis=0)
    detected = [(sign * estimate + planned.detectable > width).mean(axis=0) for sign in (1.0, -1.0)]
    power = np.mean(detected, axis=0)
    needed = np.quantile(np.concatenate([width - estimate, width + estimate]), POWER, axis=0)
    return {
        "groups": design.groups,
        "seeds": design.seeds,
        "seed_sds": list(design.seed_sds),
        "lost": design.lost,
        "sets": design.sets,
        "shared": design.shared,
        "varied": design.varied,
        "folds": design.folds,
        "training_sets": design.training_sets,
        "rule": rule,
        "studies": studies,
        "methods": len(varies),
        "pairs": estimate.shape[1],
        "family_coverage": 1.0 - float(winners.mean()),
        "single_coverage": float(single_coverage.mean()),
        "single_coverage_worst_pair": float(single_coverage.min()),
        "regret_coverage": float((regrets >= truth.max() - truth).all(axis=1).mean()),
        "false_winners": int(winners.sum()),
        "false_best": int(sum(one.sum() == 1 for one in candidates)),
        "stated_smallest_difference": planned.detectable.round(2).tolist(),
        "power": float(power.mean()),
        "power_lowest_pair": float(power.min()),
        "power_highest_pair": float(power.max()),
        "mean_half_width": float(width.mean()),
        "detected_tuned": float(needed[tuned].mean()) if tuned.any() else None,
        "detected_others": float(needed[~tuned].mean()) if not tuned.all() else None,
        "lead_in_pairs": _lead(np.array(pair_limits), varies),
        "lead_with_best": _lead(limits, varies),
    }


def _lead(limits: Floats, varies: Booleans) -> float:
    """The lead over all others with which 80 % of studies name the leader, mean over the methods that vary.

    `limits` (B, M, M) are upper limits of mean[k] - mean[i] of equal methods.
    """
    methods = range(limits.shape[1])
    largest = [limits[:, [k for k in methods if k != i], i].max(axis=1) for i in methods if varies[i]]
    return float(np.mean(np.quantile(largest, POWER, axis=1)))


def simulate_sizes(
    studies: int, groups: int = 300, seeds: int = 3, seed: int = 1, span: float = 12.0
) -> dict[str, float]:
    """Simulate studies of two methods at four fractions of the data, with a true crossover.

    The true difference falls from +`span` to -`span` points, linearly in the logarithm of the training set size. The
    size at which it is zero is drawn for each study.

    Returns fractions of the studies: `coverage` (the interval contains the true crossover; `undetermined` excludes
    nothing), `located`, and `wrong_throughout` (one method reported as better at every size).
    """
    fractions = (0.05, 0.1, 0.3, 1.0)
    population = overlap_population(varying=2 * len(fractions), fixed=0, seed=seed)
    design = Design(groups, seeds)
    rng = np.random.default_rng(seed)
    covered = located = wrong = 0
    examples = 10_000
    counts = {fraction: round(fraction * examples) for fraction in fractions}
    names, both = tuple(f"d{index}" for index in range(groups)), np.array([True, True])
    for table in draw(population, design, studies, np.random.default_rng(seed)):
        for one in table:
            crossing = float(np.exp(rng.uniform(np.log(0.07), np.log(0.7))))
            tables = {}
            for index, fraction in enumerate(fractions):
                truth = span * np.log(crossing / fraction) / np.log(fractions[-1] / fractions[0])
                values = one[2 * index : 2 * index + 2] + np.array([0.0, -truth])[:, None, None]
                tables[fraction] = ScoreTable(
                    ("first", "second"), tuple(range(seeds)), names, values, both, np.arange(groups), ()
                )
            [pair] = find_crossovers(tables, counts, LEVEL)
            where = crossing * examples
            inside = pair.low is not None and pair.high is not None and pair.low <= where <= pair.high
            covered += pair.outcome == "undetermined" or (inside and pair.small == "first")
            located += pair.outcome == "located"
            wrong += pair.outcome == "throughout"
    return {"coverage": covered / studies, "located": located / studies, "wrong_throughout": wrong / studies}


def binomial_band(probability: float, studies: int, confidence: float = 0.999) -> tuple[float, float]:
    """Range of the observed fraction of `studies` studies for an event of this probability."""
    low, high = binom.interval(confidence, studies, probability)
    return float(low) / studies, float(high) / studies


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of `simulate` or `simulate_sizes` as JSON, one design a line."""
    parser = argparse.ArgumentParser(prog="python benches/simulation.py", description=simulate.__doc__)
    parser.add_argument("--studies", type=int, default=2000, help="studies of each design")
    parser.add_argument("--records", type=Path, help="study folder to draw documents from (default: generated scores)")
    parser.add_argument("--groups", type=int, help="document groups of each study (default: 50 and 300)")
    parser.add_argument("--seeds", type=int, help="training seeds of each study (default: 3 and 5)")
    parser.add_argument(
        "--seed-sd",
        type=float,
        nargs="+",
        default=SEED_SDS,
        help="standard deviation between seeds in points, one per trained method",
    )
    parser.add_argument(
        "--lost", type=float, default=0.0, help="points that the last method loses in 3 of 10 trainings"
    )
    parser.add_argument("--sets", type=int, default=1, help="fractions of the data at which methods are trained")
    parser.add_argument(
        "--shared", type=float, default=0.0, help="part of the variance between seeds that all methods share, 0 to 1"
    )
    parser.add_argument(
        "--varied", action="store_true", help="draw the standard deviation of every set of trainings of every method"
    )
    parser.add_argument("--folds", type=int, default=1, help="parts of a cross-validation")
    parser.add_argument(
        "--training-sets",
        type=float,
        default=0.0,
        help="standard deviation of what another training set would change in the mean of a method, points",
    )
    rules = parser.add_mutually_exclusive_group()
    rules.add_argument("--earlier", action="store_true", help="judge by the rule before seed variances were moderated")
    rules.add_argument("--known", action="store_true", help="judge with the true seed variances, which no study knows")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulation")
    parser.add_argument(
        "--sizes", action="store_true", help="simulate several training set sizes and crossovers instead"
    )
    given = parser.parse_args(arguments)
    if given.studies < 1 or (given.groups or 2) < 2 or (given.seeds or 1) < 1 or min(given.seed_sd) < 0:
        parser.error("needs at least 1 study, 2 groups and 1 seed, and no negative --seed-sd")
    if given.folds < 1 or given.training_sets < 0:
        parser.error("needs at least 1 fold, and no negative --training-sets")
    if given.sets < 1 or given.lost < 0 or not 0 <= given.shared <= 1:
        parser.error("needs at least 1 set of trainings, no negative --lost, and --shared from 0 to 1")
    if given.known and (given.varied or given.lost or given.shared):
        parser.error("--known needs seeds with one standard deviation for each method")
    rule: Rule = "earlier" if given.earlier else "known" if given.known else "now"
    if given.sizes:
        for groups in [given.groups] if given.groups else (50, 300):
            for seeds in [given.seeds] if given.seeds else (3, 5):
                found = simulate_sizes(given.studies, groups, seeds, given.seed)
                print(json.dumps({"groups": groups, "seeds": seeds, "studies": given.studies} | found), flush=True)
        return
    designs = [
        Design(
            groups,
            seeds,
            tuple(given.seed_sd),
            given.lost,
            given.sets,
            given.shared,
            given.varied,
            given.folds,
            given.training_sets,
        )
        for groups in ([given.groups] if given.groups else (50, 300))
        for seeds in ([given.seeds] if given.seeds else (3, 5))
    ]
    try:
        populations = (
            [population_of(scores) for scores in load_scores(StudyDir(given.records).load())]
            if given.records
            else [None]
        )
        for population in populations:
            for design in designs:
                [figures] = simulate(given.studies, population, [design], given.seed, rule=rule)
                print(json.dumps(figures), flush=True)
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
