"""The toy cohort, whole and executed: what a second run, or a change of trial or code, makes again."""

import shutil

import pytest

import tiny_cohort
from workflow_runs import REPOSITORY, job_counts, snakemake

DRY = ("--dry-run", "--quiet", "rules", "--cores", "1")
STAGES = ("draw_targets", "generate_anatomies", "check_topology", "build_meshes", "write_inputs")
LIBRARY = "workflow/scripts/cardiocohort"
# what is about the whole cohort follows every change of a batch
ABOUT_ALL = dict.fromkeys(("write_manifest", "write_subjects", "write_report", "write_provenance", "all"), 1)
pytestmark = pytest.mark.long


def of_batches(n: int, *rules: str) -> dict[str, int]:
    """Jobs of `rules` for n batches, and what follows every change of a batch and of the config."""
    return dict.fromkeys(rules, n) | ABOUT_ALL | {"write_config": 1}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A copy of the workflow, and a project in which it has made two arms of a batch each."""
    repository = tmp_path_factory.mktemp("repository")
    for name in ("workflow", "envs", "resources"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, repository / name, ignore=ignored)
    project = tiny_cohort.make_project(tmp_path_factory.mktemp("project"))
    run = snakemake(project, "--quiet", "rules", "--cores", "2", repository=repository)
    assert run.returncode == 0, run.stdout
    return repository, project


def planned(executed, *arguments: str) -> dict[str, int]:
    repository, project = executed
    run = snakemake(project, *DRY, *arguments, repository=repository)
    assert run.returncode == 0, run.stdout
    assert job_counts(run.stdout) or "Nothing to be done" in run.stdout
    return job_counts(run.stdout)


def test_the_trial_is_among_the_results(executed):
    project = executed[1]
    assert (project / "results/cohorts/tiny/cohort.tsv").read_text() == (project / "trial.tsv").read_text()


def test_a_second_run_has_nothing_to_do(executed):
    assert planned(executed) == {}


def test_settings_of_an_arm_remake_its_meshes_and_decks_alone(executed):
    own = ("--config", "arms={large: {meshing: {rv_wall_mm: 5}}}")
    assert planned(executed, *own) == of_batches(1, "build_meshes", "write_inputs")
    own = ("--config", "arms={large: {mechanics: {rv_pressure_kpa: 1}}}")
    assert planned(executed, *own) == of_batches(1, "write_inputs")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(
            "large\t1\tany\t\t\t\t\tcavity: size position", "large\t1\tany\t\t\t\t\tcavity: size"
        ),
        lambda text: text.replace("large\t1\tany\t\t\t\t\t", "large\t1\tany\t\t\t\t9\t"),
        lambda text: text + "new\t2\tany\t\t\t\t\tcavity: size\t\n",
        lambda text: text.replace("small\t2", "small\t3"),
    ],
    ids=["a row", "a seed", "an arm more", "a subject more, in a batch of its own"],
)
def test_a_changed_trial_remakes_the_batches_it_concerns(executed, changed, edit):
    changed(executed[1] / "trial.tsv", edit)
    assert planned(executed) == dict.fromkeys(STAGES, 1) | {"write_config": 1} | ABOUT_ALL


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("population/targets.py", dict.fromkeys(STAGES, 2) | ABOUT_ALL),
        ("topology/gate.py", dict.fromkeys(STAGES[1:], 2) | ABOUT_ALL),
        ("meshing/quality.py", dict.fromkeys(STAGES[3:], 2) | ABOUT_ALL),
        ("exporters/vtu.py", dict.fromkeys(STAGES[4:], 2) | ABOUT_ALL),
        ("report/page.py", {"write_report": 1, "all": 1}),
    ],
)
def test_a_library_change_reruns_its_stages_and_what_follows(executed, changed, module, jobs):
    changed(executed[0] / LIBRARY / module, lambda text: text + "\nNEW = 1\n")
    assert planned(executed) == jobs


def test_another_format_makes_the_decks_alone(executed, changed):
    changed(executed[1] / "config/config.yaml", lambda text: text + "formats: [vtu]\n")
    assert planned(executed) == {"write_inputs": 2, "write_config": 1} | ABOUT_ALL
