"""A matrix of small configs, each planned with strict evaluation: jobs of every rule, and what each requests.

A new target is a row of MATRIX, with its rules in REQUESTS.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from workflow_runs import COLUMNS, REPOSITORY, make_bundle, planned_jobs

PROFILES = REPOSITORY / "workflow/profiles"
LOCAL = ("--cores", "8")
# the cores are for the plan alone, which takes one where none are named
SLURM = ("--workflow-profile", str(PROFILES / "slurm"), *LOCAL)
SITE = (*SLURM, "--profile", str(PROFILES / "site_example"))

# rule -> memory (MB), minutes and threads of its jobs; rules that are not here run beside Snakemake
REQUESTS = {
    "draw_targets": (1000, 30, 1),
    "generate_anatomies": (3500, 240, 1),
    "import_anatomies": (2000, 30, 1),
    "check_topology": (2000, 60, 1),
    "build_meshes": (4000, 240, 1),
    "write_inputs": (2000, 60, 1),
    "write_report": (4000, 60, 1),
    "write_subjects": (2000, 240, 1),
    "analyse_trial": (2000, 60, 1),
    "simulate_hearts": (8000, 60, 1),
    "calibrate_arm": (8000, 120, 1),
    "compare_batch": (1000, 60, 1),
    "mesh_refined": (4000, 240, 1),
    "simulate_refined": (8000, 60, 1),
    "solve_land2015": (4000, 60, 1),
    "bench_planning": (1000, 10, 8),
    "bench_sampling": (12000, 60, 8),
    "bench_guidance": (3500, 240, 1),
    "summarise_guidance": (1000, 10, 1),
    "make_label_maps": (3000, 600, 1),
    "make_evaluation_hearts": (1500, 240, 1),
    "sample_arm": (3500, 240, 1),
    "train_ellipsoid_prior": (4000, 240, 1),
    "sample_ellipsoid_targets": (3500, 240, 1),
    "measure_realism": (4000, 240, 1),
    "measure_control": (2000, 60, 1),
    "write_evaluation": (2000, 60, 1),
    "make_reference_population": (3000, 600, 2),
    "train_autoencoder": (8000, 1440, 2),
    "train_autoencoder_left_out": (8000, 1440, 2),
    "train_denoiser": (8000, 1440, 2),
    "write_bundle": (2000, 30, 1),
    "measure_prior": (6000, 120, 2),
}
AGAIN = {
    "draw_again": "draw_targets",
    "generate_again": "generate_anatomies",
    "import_again": "import_anatomies",
    "check_again": "check_topology",
    "mesh_again": "build_meshes",
    "write_inputs_again": "write_inputs",
}
ALL_AGAIN = [again for again in AGAIN if again != "import_again"]
REQUESTS |= {again: REQUESTS[rule] for again, rule in AGAIN.items()}
ON_A_GPU = {
    "generate_anatomies",
    "sample_arm",
    "train_ellipsoid_prior",
    "sample_ellipsoid_targets",
    "generate_again",
    "bench_sampling",
    "bench_guidance",
} | {r for r in REQUESTS if r.startswith("train_")}

MADE = ("draw_targets", "generate_anatomies")
USED = ("check_topology", "build_meshes", "write_inputs")
ONCE = dict.fromkeys(
    ("all", "write_config", "write_manifest", "write_subjects", "write_provenance", "write_report"), 1
)
PRIOR = dict.fromkeys(
    ("make_reference_population", "train_autoencoder", "train_denoiser", "write_bundle", "measure_prior",
     "prior"), 1,
)  # fmt: skip
TWO_TEMPLATES = {
    f"resources/templates/{name}.nii.gz": 0.5 for name in ("T2_rodero2021_case01", "T3_cemrg_healthy")
}
EVALUATION = dict.fromkeys(
    ("make_evaluation_hearts", "train_ellipsoid_prior", "sample_ellipsoid_targets", "measure_realism",
     "measure_control", "write_evaluation", "evaluate"), 1,
)  # fmt: skip


def of(n: int, *rules: str) -> dict[str, int]:
    """A job of each rule for each of `n` batches."""
    return dict.fromkeys(rules, n)


# ---- what a config needs beside it


def arms(*rows: str, columns: str = COLUMNS) -> Callable[[Path], None]:
    """A cohort table of these rows (cells from the left, the rest empty)."""
    cells = [row.split("\t") for row in rows]
    width = columns.count("\t") + 1
    lines = ["\t".join(row + [""] * (width - len(row))) for row in cells]
    return lambda folder: (folder / "trial.tsv").write_text("\n".join([columns, *lines]) + "\n")


TWO = arms("a\t4", "b\t5")
CONSTRAINED = "\t".join(["a", "4", *[""] * 5, "left_ventricle: size position shape", "aorta.volume: x1.2"])
SIBLINGS = arms(
    "a\t5",
    "\t".join(["b", "3", *[""] * 6, "left_ventricle.volume: x0.8", "a"]),
    "\t".join(["c", "2", *[""] * 6, "left_ventricle.volume: x0.9", "base.nii.gz"]),
    columns=f"{COLUMNS}\tbase",
)  # fmt: skip


def with_a_base(folder: Path) -> None:
    SIBLINGS(folder)
    shutil.copy(next((REPOSITORY / "resources/templates").glob("T1*.nii.gz")), folder / "base.nii.gz")


def with_targets(folder: Path) -> None:
    TWO(folder)
    (folder / "targets.tsv").write_text("arm\tstructure\n")  # read by the jobs


def with_maps(folder: Path) -> None:
    (folder / "maps").mkdir()
    for name in ("p1.nii.gz", "p2.nii", "p3.nii.gz"):
        (folder / "maps" / name).touch()


def with_scans(folder: Path) -> None:
    TWO(folder)
    (folder / "scans/p1").mkdir(parents=True)


def with_meshes(folder: Path) -> None:
    TWO(folder)
    (folder / "meshes").mkdir()
    for name in ("p1.elem", "p1.pts"):
        (folder / "meshes" / name).touch()


@dataclass(frozen=True)
class Plan:
    """A config, a target, and the jobs that it takes."""

    jobs: dict[str, int]
    config: dict = field(default_factory=dict)
    target: tuple[str, ...] = ()
    prepare: Callable[[Path], object] = TWO
    how: tuple[str, ...] = LOCAL
    snakefile: str = "workflow/Snakefile"
    minutes: dict[str, int] = field(default_factory=dict)  # of rules, where they are not those of REQUESTS


def evaluation(arms: int, config: dict) -> Plan:
    """The plan of an evaluation that samples this many arms."""
    jobs = EVALUATION | {"sample_arm": arms}
    if "known" in config:  # no grid of ellipsoid hearts
        jobs = {rule: n for rule, n in jobs.items() if "ellipsoid" not in rule}
    return Plan(jobs, {"evaluation": config}, ("evaluate",))


FEW = {"samples": {"dps": 0, "cohort": 0, "extremes": 0}, "strengths": []}
BENCHMARKS = "benchmarks/Snakefile"
OWN = {"label_maps": "maps", "cohort": "mine", "batch_size": 2}
BEATS = {"cycle": {"beats": 2}}
CALIBRATED = {"simulation": BEATS | {"calibrate": {"lv_ef": 0.6, "arterial_mean_kpa": 12}}}
CALIBRATED_MINUTES = {"simulate_hearts": 60 * (1 + 2), "calibrate_arm": 120 * (1 + 2)}
MATRIX = {
    "default": Plan(of(3, *MADE, *USED) | ONCE),
    "inputs only": Plan(of(3, *MADE, *USED) | {"inputs": 1}, target=("inputs",)),
    "constraints and edits": Plan(of(1, *MADE, *USED) | ONCE, prepare=arms(CONSTRAINED)),
    "no constraints": Plan(of(1, *MADE, *USED) | ONCE, prepare=arms("free\t4\tfemale\thealthy")),
    "one patient": Plan(of(1, *MADE, *USED) | ONCE, {"device": "cpu"}, prepare=arms("patient\t1")),
    "one subject per batch": Plan(of(9, *MADE, *USED) | ONCE, {"batch_size": 1}),
    "a batch per arm": Plan(of(2, *MADE, *USED) | ONCE, {"batch_size": 5, "formats": ["vtu"]}),
    "siblings": Plan(of(6, *MADE, *USED) | ONCE, {"batch_size": 2}, prepare=with_a_base),
    "siblings, one batch of their base": Plan(
        # that of the base is checked, since only accepted hearts have siblings
        of(2, *MADE) | {"check_topology": 1},
        {"batch_size": 2},
        ("results/cohorts/demo/anatomies/b-0001.parquet",),
        with_a_base,
    ),
    "explicit targets": Plan(
        of(3, *MADE, *USED) | ONCE, {"targets_table": "targets.tsv"}, prepare=with_targets
    ),
    "own label maps": Plan(of(2, "import_anatomies", *USED) | ONCE, OWN, prepare=with_maps),
    "own label maps, simulated": Plan(
        of(2, "import_anatomies", *USED[:2]) | {"simulate": 1, "simulate_hearts": 3},
        OWN,
        ("simulate",),
        with_maps,
    ),
    "10,000 subjects": Plan(
        of(200, *MADE, *USED) | ONCE, {"batch_size": 50}, prepare=arms("women\t5000", "men\t5000")
    ),
    "trial": Plan(
        of(3, *MADE, *USED) | {rule: 1 for rule in ONCE if rule != "all"} | {"trial": 1, "analyse_trial": 1},
        {"endpoints": {"primary": {"left_ventricle_volume_ml": {}}}},
        ("trial",),
    ),
    "trial of a simulated endpoint": Plan(
        of(3, *MADE, *USED)
        | {rule: 1 for rule in ONCE if rule != "all"}
        | {"trial": 1, "analyse_trial": 1, "simulate_hearts": 9},
        {"endpoints": {"primary": {"simulation_lv_loaded_ml": {}}}},
        ("trial",),
    ),
    "simulation": Plan(
        of(3, *MADE, *USED[:2]) | {"simulate": 1, "simulate_hearts": 9}, target=("simulate",)
    ),
    "simulation in batches of its own": Plan(  # its job of three hearts may need two meshing batches of four
        of(3, *MADE, *USED[:2]) | {"simulate": 1, "simulate_hearts": 4},
        {"simulation": {"batch_size": 3, "cycle": {"beats": 2}}},
        ("simulate",),
        minutes={"simulate_hearts": 3 * 60 * (1 + 2)},
    ),
    "calibration, one job per arm": Plan(
        of(3, *MADE, *USED[:2]) | {"simulate": 1, "simulate_hearts": 9, "calibrate_arm": 2},
        CALIBRATED,
        ("simulate",),
        minutes=CALIBRATED_MINUTES,
    ),
    # all meshes of the arm come first, and the arm's calibration before its hearts
    "calibration before a heart": Plan(
        of(2, *MADE, *USED[:2]) | {"simulate_hearts": 1, "calibrate_arm": 1},
        CALIBRATED,
        ("results/cohorts/demo/simulations/b-0000.tsv",),
        minutes=CALIBRATED_MINUTES,
    ),
    "calibration of an arm alone": Plan(
        of(3, *MADE, *USED[:2]) | {"simulate": 1, "simulate_hearts": 9, "calibrate_arm": 1},
        {"simulation": BEATS, "arms": {"b": {"simulation": {"calibrate": {"lv_ef": 0.5}}}}},
        ("simulate",),
        minutes=CALIBRATED_MINUTES,
    ),
    # c is of siblings of a label map: it is calibrated itself, b has the factors of a
    "calibration of siblings": Plan(
        of(6, *MADE, *USED[:2]) | {"simulate": 1, "simulate_hearts": 10, "calibrate_arm": 2},
        CALIBRATED | {"batch_size": 2},
        ("simulate",),
        with_a_base,
        minutes=CALIBRATED_MINUTES,
    ),
    "calibration of own label maps": Plan(
        of(2, "import_anatomies", *USED[:2]) | {"simulate": 1, "simulate_hearts": 3, "calibrate_arm": 1},
        OWN | CALIBRATED,
        ("simulate",),
        with_maps,
        minutes=CALIBRATED_MINUTES,
    ),
    "refinement": Plan(
        of(3, *MADE, "check_topology")
        | {"mesh_refined": 6, "summarise_refinement": 1, "refinement_study": 1},
        {"refinement": {"edge_lengths_mm": [3, 2.5]}},
        ("refinement_study",),
    ),
    "refinement, simulated": Plan(
        of(2, "import_anatomies", "check_topology")
        | {"mesh_refined": 6, "simulate_refined": 9, "summarise_refinement": 1, "refinement_study": 1},
        OWN | {"refinement": {"simulate": True}},
        ("refinement_study",),
        with_maps,
    ),
    "published problems": Plan({"solve_land2015": 1, "verify_solver": 1}, target=("verify_solver",)),
    "verification": Plan(
        of(3, *MADE, *USED, *ALL_AGAIN, "compare_batch") | {"verify": 1},
        target=("verify",),
    ),
    "verification of own label maps": Plan(
        of(2, "import_anatomies", "import_again", *USED, *list(AGAIN)[3:], "compare_batch") | {"verify": 1},
        OWN,
        ("verify",),
        with_maps,
    ),
    "segmented scans": Plan(
        {"make_label_maps": 1, "label_maps": 1},
        {"segmentations": {"folder": "scans"}},
        ("label_maps",),
        with_scans,
    ),
    "tagged meshes": Plan(
        {"make_label_maps": 1, "label_maps": 1},
        {"segmentations": {"folder": "meshes", "mesh": {"file": "{case}.elem"}}},
        ("label_maps",),
        with_meshes,
    ),
    "prior": Plan(PRIOR, {"bundle": "nowhere"}, ("prior",)),
    "prior with a left-out template": Plan(
        PRIOR | {"train_autoencoder_left_out": 1},
        {"bundle": "nowhere", "prior": {"templates": TWO_TEMPLATES, "leave_out": ["T3_cemrg_healthy"]}},
        ("prior",),
    ),
    "benches": Plan(
        of(3, "draw_targets") | of(1, "bench_planning", "bench_sampling", "bench"),
        target=("bench",),
        snakefile=BENCHMARKS,
    ),
    "bench of guidance": Plan(
        of(3, "draw_targets") | of(1, "bench_guidance", "summarise_guidance", "guidance_bench"),
        target=("guidance_bench",),
        snakefile=BENCHMARKS,
    ),
    # unguided, two methods at three sets of structures, cohorts at none too, four of the ablation, four
    # strengths each, extremes
    "evaluation": Plan(EVALUATION | {"sample_arm": 1 + 6 + 4 + 4 + 8 + 1}, target=("evaluate",)),
    "evaluation of one method": evaluation(1 + 3 + 4, {"known": {"points": 0}} | FEW),
    "evaluation of the baseline too": evaluation(1 + 3 + 4 + 4, {"implicit": "bundle"} | FEW),
    "evaluation of one structure": evaluation(
        1 + 2 + 2 + 4, {"constrained": [["aorta"]], "strengths": [1.0], "extremes": []}
    ),
    "SLURM": Plan(of(3, *MADE, *USED) | ONCE, how=SLURM),
    "SLURM, GPU": Plan(of(3, *MADE, *USED) | ONCE, {"device": "cuda"}, how=SITE),
    "SLURM, GPU, verification": Plan(
        of(3, *MADE, *USED, *ALL_AGAIN, "compare_batch") | {"verify": 1},
        {"device": "cuda"},
        ("verify",),
        how=SITE,
    ),
    "SLURM, GPU, evaluation": Plan(
        # unguided, two methods at one set of structures, cohorts at none too, four arms of the ablation
        EVALUATION | {"sample_arm": 1 + 2 + 2 + 4},
        {"device": "cuda", "evaluation": {"constrained": [["myocardium"]], "strengths": [], "extremes": []}},
        ("evaluate",),
        how=SITE,
    ),
    "SLURM, GPU, prior": Plan(PRIOR, {"bundle": "nowhere", "device": "cuda"}, ("prior",), how=SITE),
}  # fmt: skip


@pytest.mark.parametrize("name", MATRIX)
def test_jobs_and_what_they_request(name, tmp_path):
    plan = MATRIX[name]
    plan.prepare(tmp_path)
    make_bundle(tmp_path / "bundle")
    config = {"bundle": "bundle", "cohort_table": "trial.tsv", "batch_size": 4} | plan.config
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    planned = planned_jobs(tmp_path, *plan.target, *plan.how, snakefile=plan.snakefile)
    assert {rule: len(jobs) for rule, jobs in planned.items()} == plan.jobs
    minutes = {rule: minutes for rule, (_, minutes, _) in REQUESTS.items()} | plan.minutes
    if plan.how == SITE:
        site = yaml.safe_load((PROFILES / "site_example/profile.v9+.yaml").read_text())["set-resources"]
        minutes |= {rule: resources["runtime"] for rule, resources in site.items() if "runtime" in resources}
    for rule, jobs in planned.items():
        for job in jobs:
            assert_requests(rule, job, config.get("device") == "cuda", plan.how == SITE, minutes.get(rule))


def assert_requests(rule: str, job: dict[str, str], cuda: bool, site: bool, minutes: int | None) -> None:
    """One job requests its rule's memory, minutes and threads; on a cluster, partition and account."""
    if rule not in REQUESTS:
        assert not {"mem_mb", "runtime", "gpu"} & job.keys() or site, (rule, job)
        return
    memory, _, threads = REQUESTS[rule]
    assert (int(job["mem_mb"]), int(job["runtime"]), int(job["threads"])) == (memory, minutes, threads), rule
    gpus = int(job.get("gpu", 0))
    assert gpus == (1 if cuda and rule in ON_A_GPU else 0), rule
    if site:
        partition, model = ("gpu", "a100") if gpus else ("standard", None)
        assert (job["slurm_partition"], job.get("gpu_model")) == (partition, model), rule
        assert job["slurm_account"] == "heart_lab", rule
