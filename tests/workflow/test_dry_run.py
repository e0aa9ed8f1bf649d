"""What would be run, for small configs; and one clear message where nothing can be run."""

import json
import subprocess
import sys

import pytest

from workflow_runs import (
    COLUMNS,
    REPOSITORY,
    command,
    environment,
    job_counts,
    make_bundle,
    make_cohort_table,
    snakemake,
)

DRY = ("--dry-run", "--quiet", "rules", "--cores", "1")
RULES = ("all", "write_config", "write_manifest", "write_subjects", "write_provenance", "write_report")
ONCE = dict.fromkeys(RULES, 1)


def stages(n_batches: int) -> dict[str, int]:
    names = ("draw_targets", "generate_anatomies", "check_topology", "build_meshes", "write_inputs")
    return dict.fromkeys(names, n_batches)


@pytest.fixture
def workdir(tmp_path):
    """A folder elsewhere than the repository, with a bundle and two arms of 4 and 5."""
    make_bundle(tmp_path / "bundle")
    make_cohort_table(tmp_path / "trial.tsv", {"small": 4, "large": 5})
    return tmp_path


def dry(workdir, *config: str, target: str | None = None):
    targets = [target] if target else []
    own = {"bundle": "bundle", "cohort_table": "trial.tsv"} | dict(pair.split("=", 1) for pair in config)
    pairs = [f"{key}={value}" for key, value in own.items()]
    return snakemake(workdir, *targets, *DRY, "--config", *pairs)


@pytest.mark.parametrize("training", [{"label_maps": "maps"}, {"templates": {"gone.nii.gz": 1.0}}])
def test_a_bundle_without_its_hearts_cannot_be_evaluated(workdir, training):
    path = workdir / "bundle/bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training": training}))
    assert dry(workdir).returncode == 0
    run = dry(workdir, target="evaluate")
    assert run.returncode != 0
    assert ("evaluation.label_maps" if "label_maps" in training else "gone.nii.gz") in run.stdout


def test_the_shipped_config_from_elsewhere(tmp_path):
    """The demo's two arms of four, with the repository's config and tables."""
    make_bundle(tmp_path / "bundle")
    run = snakemake(tmp_path, *DRY, "--config", "bundle=bundle")
    assert run.returncode == 0, run.stdout
    assert job_counts(run.stdout) == stages(2) | ONCE


EXPERIMENTS = {  # target, a rule of it, and its jobs
    "aorta": ("prior", "measure_prior", 1),
    "beat": ("simulate", "simulate_hearts", 8),
    "knee": ("prior", "measure_prior", 1),
    "local_control": ("simulate", "simulate_hearts", 12),
    "right_ventricle": ("paired_comparison", "simulate_hearts", 14),
    "spine": ("prior", "measure_prior", 1),
    "ellipsoids": ("all", "build_meshes", 2),
    "own_reference": ("all", "build_meshes", 2),
    "pulmonary_hypertension": ("trial", "simulate_hearts", 8),
}


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "config/experiments").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_experiments_can_be_planned(path, tmp_path):
    target, rule, jobs = EXPERIMENTS[path.stem]
    run = snakemake(tmp_path, target, *DRY, "--configfile", str(path))
    assert run.returncode == 0, run.stdout
    assert job_counts(run.stdout)[rule] == jobs


BAD = {
    "bundle of another anatomy": (
        ["anatomy=resources/anatomies/knee"],
        ["'bundle'", "labels of another anatomy: myocardium", "has femur, tibia", "'anatomy'"],
    ),
    "folder without an anatomy": (["anatomy=resources/templates"], ["'anatomy'", "has no anatomy.json"]),
    "key of a stage": (["prior={anatomy: a.json}"], ["'prior.anatomy' is now anatomy"]),
    "unknown endpoint": (
        ["endpoints={primary: {left_ventricle_volume: {}}}"],
        ["'endpoints.primary.left_ventricle_volume'", "did you mean", "left_ventricle_volume_ml"],
    ),
    "unknown key": (["batchsize=3"], ["'batchsize'", "batch_size"]),
    "unknown format": (["formats=[stl]"], ["'formats'", "'stl'", "opencarp", "vtu"]),
    "format without cavities": (
        ["meshing={domain: labels}", "formats=[vtu,febio]"],
        ["'formats'", "'febio'", "domain: labels", "calculix, fenicsx, opencarp, surfaces, vtu"],
    ),
    "targets of hearts that do not beat": (
        ["simulation={calibrate: {lv_ef: 0.6}}"],
        ["simulation.calibrate", "lv_ef", "simulation.cycle.beats is 0"],
    ),
    "target of an unknown figure": (
        ["simulation={cycle: {beats: 3}, calibrate: {ejection_fraction: 0.6}}"],
        ["'simulation.calibrate.ejection_fraction' is unknown", "lv_ef"],
    ),
    "an ejection fraction in percent": (
        ["simulation={cycle: {beats: 3}, calibrate: {lv_ef: 60}}"],
        ["'simulation.calibrate.lv_ef'", "60 is greater than the maximum of 0.9"],
    ),
    "two targets of one scalar": (
        ["simulation={cycle: {beats: 3}, calibrate: {lv_ef: 0.6, lv_stroke_ml: 70}}"],
        ["more targets than scalars", "the tension alone answers lv_ef and lv_stroke_ml"],
    ),
    "four targets": (
        [
            "simulation={cycle: {beats: 3}, calibrate: {lv_ef: 0.6, rv_ef: 0.5, lv_peak_kpa: 16, "
            "lv_edv_ml: 120}}"
        ],
        ["4 targets", "at most 3", "stiffness, tension, resistance"],
    ),
    "a target that undoes a weak arm": (
        ["simulation={cycle: {beats: 3, contractility: {large: 0.5}}, calibrate: {lv_ef: 0.6}}"],
        ["'simulation.calibrate.lv_ef'", "contractility of arm 'large'", "arms.large.simulation.calibrate"],
    ),
    "no such bundle": (["bundle=nowhere"], ["'bundle'", "'nowhere'", "looked for"]),
    "bundle without weights": (["bundle=empty"], ["bundle", "weights.safetensors"]),
    "bundle of another format": (["bundle=odd"], ["bundle.json", "format"]),
    "no such table": (["cohort_table=no.tsv"], ["'cohort_table'", "no.tsv"]),
    "unsafe arm": (["cohort_table=unsafe.tsv"], ["unsafe.tsv", "row 2", "'arm'", "../x"]),
    "no subjects": (["cohort_table=none.tsv"], ["none.tsv", "row 2", "'n'"]),
    "targets of no arm": (["targets_table=other.tsv"], ["other.tsv, row 4", "'smal'", "small, large"]),
    "no such rules": (["topology_rules=no.tsv"], ["'topology_rules'", "no.tsv"]),
    "no label maps": (["label_maps=maps", "cohort=mine"], ["maps", ".nii.gz"]),
    "a file for a folder": (["label_maps=trial.tsv", "cohort=mine"], ["'label_maps'", "trial.tsv", "folder"]),
    "a folder for a file": (["reference_table=bundle"], ["'reference_table'", "bundle", "file"]),
    "no such folder": (["label_maps=nomaps", "cohort=mine"], ["'label_maps'", "nomaps"]),
    "unsafe label map": (["label_maps=odd_maps", "cohort=mine"], ["a b.nii", "letters"]),
    "twice the same subject": (["label_maps=twice", "cohort=mine"], ["p1.nii", "second"]),
}


@pytest.mark.parametrize(("config", "message"), BAD.values(), ids=BAD)
def test_bad_input_ends_in_one_message(workdir, config, message):
    for folder, names in {"maps": [], "odd_maps": ["a b.nii"], "twice": ["p1.nii", "P1.nii.gz"]}.items():
        (workdir / folder).mkdir()
        for name in names:
            (workdir / folder / name).touch()
    make_bundle(workdir / "empty")
    (workdir / "empty/weights.safetensors").unlink()
    make_bundle(workdir / "odd")
    (workdir / "odd/bundle.json").write_text("{}")
    (workdir / "unsafe.tsv").write_text(f"{COLUMNS}\n../x\t4\t\t\t\t\t\t\t\n")
    (workdir / "other.tsv").write_text("arm\tstructure\nsmall\taorta\nlarge\taorta\nsmal\taorta\n")
    (workdir / "none.tsv").write_text(f"{COLUMNS}\nx\t0\t\t\t\t\t\t\t\n")

    run = dry(workdir, *config)
    assert run.returncode != 0
    for part in message:
        assert part in run.stdout
    assert "Traceback" not in run.stdout
    assert not (workdir / "results").exists()


def test_a_file_of_no_batch_is_named_with_the_batches(workdir):
    run = dry(workdir, target="results/cohorts/demo/topology/smal-0000.tsv")
    assert run.returncode != 0
    assert "'smal-0000' is no batch of cohort 'demo'" in run.stdout
    assert "small-0000" in run.stdout


def test_the_population_is_described_where_a_condition_is_unknown(workdir):
    """The error of an unknown condition names the target that lists those that exist."""
    table = workdir / "trial.tsv"
    table.write_text(table.read_text().replace("healthy", "amyloidosis"))
    run = dry(workdir)
    assert run.returncode != 0
    assert "'amyloidosis' is not in the reference population" in run.stdout
    assert dry(workdir, target="describe_population").returncode == 0


LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, flush=True)
sys.exit(code)
"""


def cost_of_planning(workdir, config: str) -> tuple[float, float, str]:
    """CPU seconds, MB and output of a dry run with `config` at batch_size 50."""
    (workdir / "config").mkdir(exist_ok=True)
    (workdir / "config/config.yaml").write_text(f"bundle: bundle\nbatch_size: 50\n{config}\n")
    # a fresh interpreter starts it: a child begins with the memory of whoever forks it, and counts it
    launcher = [sys.executable, "-c", LAUNCHER, *command(workdir, *DRY)]
    run = subprocess.run(launcher, capture_output=True, text=True, env=environment())
    assert run.returncode == 0, run.stdout + run.stderr
    cpu, memory = (float(word) for word in run.stdout.splitlines()[-1].split())
    return cpu, memory * (1 if sys.platform == "darwin" else 1024) / 1024**2, run.stdout + run.stderr


def test_planning_ten_thousand_subjects_is_quick_and_small(workdir):
    """Seconds are for a bench (`make bench`); what a test can hold is their ratio, on any machine.

    Starting Snakemake on two batches takes 2.4 CPU s. The bars are 7 CPU s for the 200 batches of a cohort
    table and 8 CPU s for those of label maps: at most 2.9 and 3.3 times as much. Measured: 1.9 and 2.2.
    """
    make_cohort_table(workdir / "two.tsv", {"women": 50, "men": 50})
    make_cohort_table(workdir / "all.tsv", {"women": 5000, "men": 5000})
    (workdir / "maps").mkdir()
    for i in range(10_000):
        (workdir / f"maps/p{i:04d}.nii").write_bytes(b"%d" % i)
    kinds = {"small": "cohort_table: two.tsv", "table": "cohort_table: all.tsv"}
    kinds["maps"] = "label_maps: maps\ncohort: mine"
    # other work slows a shared core down; the second run finds the digests of the label maps
    runs = {kind: [cost_of_planning(workdir, config) for _ in range(2)] for kind, config in kinds.items()}
    own = {"import_anatomies": 200, "check_topology": 200, "build_meshes": 200, "write_inputs": 200}
    expected = {"small": stages(2), "table": stages(200), "maps": own}
    for kind, found in runs.items():
        for _, megabytes, output in found:
            assert job_counts(output) == expected[kind] | ONCE
            assert megabytes <= (230 if kind == "maps" else 200)  # 10,000 paths are inputs
    seconds = {kind: min(cpu for cpu, *_ in found) for kind, found in runs.items()}
    assert seconds["table"] <= 2.9 * seconds["small"]
    assert seconds["maps"] <= 3.3 * seconds["small"]
