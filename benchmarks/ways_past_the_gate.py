"""Ways to bring samples past the topology gate, compared on the same targets and noise.

    python benchmarks/ways_past_the_gate.py results/cohorts/hard_targets --arms unguided six --subjects 100

The folder is a cohort's, with its targets drawn. The table `ways.tsv` and the figure `ways.png` go to --out.
Each way begins with the same sample, and what it adds is timed by itself:

| way | what is done with a sample that the gate rejects |
|---|---|
| `repairs` | the bounded repairs of the gate's table alone |
| `repairs x<f>` | the same, with f times their volumes |
| `attempts` | further attempts, three in all |
| `steps` | topology guidance on the final latent |
| `restarts` | the same, and then restarts: what a cohort does |
| `loop` | nothing; the rules' terms act while each sample is drawn |
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort.anatomy import moments
from cardiocohort.cohort.table import seed_sequence
from cardiocohort.evaluation.intervals import wilson
from cardiocohort.generation.anatomies import arm_and_index
from cardiocohort.generation.constraints import make_constraints
from cardiocohort.generation.judging import Judged, Sampler, improved, judge, open_sampler
from cardiocohort.generation.sampling import make_samples, restarted, sample_labels
from cardiocohort.generation.settings import GuidanceSettings
from cardiocohort.plotting.style import STYLE, plt

ATTEMPTS = 3
FACTORS = (4, 16, 64)
RESTARTS = "restarts"
COLOURS = ("#2b6ca3", "#c0504d", "#b3861b")


def errors(rows: pd.DataFrame, judged: Judged) -> tuple[float, float]:
    """Mean error of the constrained structures: volume (%), centroid (mm); NaN where none is."""
    steered = (rows["constrained"] != "").to_numpy()
    if not steered.any():
        return np.nan, np.nan
    wanted = moments.from_columns(rows)
    volume = 100 * np.abs(judged.achieved.volume_ml / wanted.volume_ml - 1)[steered]
    centroid = np.linalg.norm(judged.achieved.centroid_mm - wanted.centroid_mm, axis=1)[steered]
    return float(volume.mean()), float(centroid.mean())


def in_the_loop(g: Sampler, rows: pd.DataFrame, seed: np.random.SeedSequence) -> Judged:
    """A sample that the rules' terms steer while it is drawn, beside its constraints."""
    constraints = make_constraints([rows], g.prior, g.bundle, ())
    labels, _, _ = sample_labels(g.prior, constraints, [seed], g.settings, rules=g.rules)
    return judge(g, rows, labels[0])


def with_larger_repairs(g: Sampler, factor: float) -> Sampler:
    larger = tuple(replace(rule, maximum=rule.maximum * factor) for rule in g.rules.repairs)
    return replace(g, rules=replace(g.rules, repairs=larger))


def ways(g: Sampler, rows: pd.DataFrame, seed: int) -> list[dict]:
    """One row per way of a subject's target rows: whether it passes, processor seconds, errors."""
    arm, index = arm_and_index(rows["subject"].iloc[0])
    seeds = [seed_sequence(seed, arm, index, "generation", number) for number in range(ATTEMPTS)]
    plain = replace(g.settings, topology_steps=0, restart=replace(g.settings.restart, most=0))
    bare, found = replace(g, settings=plain), []

    def add(way: str, judged: Judged, seconds: float) -> None:
        volume, centroid = errors(rows, judged)
        found.append(
            {
                "arm": arm, "subject": rows["subject"].iloc[0], "way": way, "passes": judged.accepted,
                "cpu_seconds": seconds, "volume": volume, "centroid": centroid,
            }
        )  # fmt: skip

    start = time.process_time()
    (first,) = make_samples(bare, [rows], seeds[:1], [None], ())
    spent = time.process_time() - start
    add("repairs", first.judged, spent)
    for factor in FACTORS:
        add(f"repairs x{factor}", judge(with_larger_repairs(g, factor), rows, first.labels), spent)
    start, judged = time.process_time(), first.judged
    for again in seeds[1:]:
        if not judged.accepted:
            judged = make_samples(bare, [rows], [again], [None], ())[0].judged
    add("attempts", judged, spent + time.process_time() - start)
    start = time.process_time()
    mended = replace(first, judged=improved(g, rows, first.judged, first.latent))
    add("steps", mended.judged, spent + time.process_time() - start)
    (kept,) = restarted(g, [mended], [rows], seeds[:1], [None], ())
    add(RESTARTS, kept.judged, spent + time.process_time() - start)
    start = time.process_time()
    looped = in_the_loop(g, rows, seeds[0])
    add("loop", looped, time.process_time() - start)
    return found


_sampler: Sampler | None = None


def _open(bundle: str, rules: str) -> None:
    global _sampler
    _sampler = open_sampler(bundle, rules, GuidanceSettings(), "cpu")


def _ways(rows: pd.DataFrame, seed: int) -> list[dict]:
    return ways(_sampler, rows, seed)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and way: samples, share that passes with its 95 % interval, cost, medians of errors."""
    rows = []
    for (arm, way), part in found.groupby(["arm", "way"], sort=False):
        n, passes = len(part), int(part["passes"].sum())
        low, high = wilson(passes, n)
        plain = found[(found["arm"] == arm) & (found["way"] == "repairs")]["cpu_seconds"].mean()
        cost = part["cpu_seconds"].mean()
        medians = part.loc[part["passes"], ["volume", "centroid"]].median()
        rows.append((arm, way, n, passes, passes / n, low, high, cost, cost / plain, *medians))
    names = ["arm", "way", "samples", "pass", "share", "low", "high", "cpu_seconds", "cost"]
    return pd.DataFrame(rows, columns=[*names, "volume_percent", "centroid_mm"])


def figure(table: pd.DataFrame):
    """Share of samples that pass against cost, by way and arm."""
    plt.rcParams.update(STYLE)
    arms = list(dict.fromkeys(table["arm"]))
    fig, axes = plt.subplots(1, len(arms), figsize=(4.6 * len(arms), 3.6), layout="constrained", sharey=True)
    for ax, arm, colour in zip(np.atleast_1d(axes), arms, COLOURS, strict=False):
        part = table[table["arm"] == arm]
        # larger repairs cost the same and lie on one another
        part = part[~part["way"].str.startswith("repairs x")]
        for _, row in part.iterrows():
            size = (
                {"fmt": "o", "ms": 8, "mfc": colour}
                if row["way"] == RESTARTS
                else {"fmt": "s", "mfc": "white"}
            )
            reach = 100 * np.array([[row["share"] - row["low"]], [row["high"] - row["share"]]])
            style = {"color": colour, "capsize": 3, "lw": 1}
            ax.errorbar(row["cost"], 100 * row["share"], yerr=reach, **style, **size)
            place = (row["cost"], 100 * row["share"])
            label = {"textcoords": "offset points", "xytext": (2, 8), "rotation": 40, "fontsize": 8}
            ax.annotate(row["way"], place, **label)
        ax.set(title=arm, xlabel="processor time over that of a sample alone", xlim=(0.9, None))
        ax.margins(x=0.25)
    np.atleast_1d(axes)[0].set(ylabel="pass the gate, %", ylim=(None, 107))
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the noise; targets are those of the folder")
    parser.add_argument("--bundle", default="resources/priors/people")
    parser.add_argument("--rules", default="resources/anatomies/heart/topology.tsv")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/bench/ways"))
    o = parser.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    tables = sorted((o.cohort / "targets").glob("*.parquet"))
    if not tables:
        parser.error(f"{o.cohort}: no targets; draw them with `make run ARGS='--until draw_targets ...'`")
    targets = pd.concat(map(pd.read_parquet, tables))
    if unknown := set(o.arms) - set(targets["arm"]):
        parser.error(f"{o.cohort} has no arm {', '.join(sorted(unknown))}")
    rows = [own for _, own in targets.groupby("subject", sort=False)]
    chosen = [own for arm in o.arms for own in [r for r in rows if r["arm"].iloc[0] == arm][: o.subjects]]
    found = []
    with ProcessPoolExecutor(o.processes, initializer=_open, initargs=(o.bundle, o.rules)) as pool:
        for done, new in enumerate(pool.map(partial(_ways, seed=o.seed), chosen), start=1):
            found += new
            print(f"{done} of {len(chosen)} subjects", flush=True)
            pd.DataFrame(found).to_csv(o.out / "samples.tsv", sep="\t", index=False)
    table = summary(pd.DataFrame(found))
    table.round(4).to_csv(o.out / "ways.tsv", sep="\t", index=False)
    print(table.round(3).to_string(index=False))
    figure(table).savefig(o.out / "ways.png", dpi=110)


if __name__ == "__main__":
    main()
