"""A user's file that is replaced by another one, be it older: what was made from it is made again.

Plans of the real workflow, in this process. Results are empty files that Snakemake takes as made (`--touch`).
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from heart_anatomy import HEART
from synthetic_population import reference_frame
from workflow_runs import COLUMNS, REPOSITORY, TEMPLATES, make_bundle

SEGMENTED = {"folder": "scans", "covariates": "people.tsv", "whole_heart": ["heart.nii.gz"]}
SEGMENTED |= {"sources": {name: [f"labels.nrrd:{i + 1}"] for i, name in enumerate(HEART.structures)}}
FEW_ARMS = {"constrained": [["aorta"]], "samples": {"dps": 0, "cohort": 0, "extremes": 0}, "strengths": []}
# two configs that between them read every kind of file, and the targets that read them
GENERATED = {
    "cohort_table": "trial.tsv",
    "targets_table": "targets.tsv",
    "reference_table": "reference.tsv",
    "covariates_table": "covariates.tsv",
    "segmentations": SEGMENTED,
    "evaluation": FEW_ARMS | {"implicit": "implicit"},
}
OWN = {
    "label_maps": "maps",
    "cohort": "mine",
    "prior": {"label_maps": "prior_maps", "covariates": "people.tsv", "warm_start": "bundle"},
    "evaluation": FEW_ARMS | {"label_maps": "unseen"},
}
TARGETS = {"all", "verify", "evaluate", "prior", "verify_solver"}
# the files of every route of a user's hearts, and the rules that read them
GENERATED_ROUTES = {
    "heart.nii.gz": {"draw_targets", "generate_anatomies"},
    "scans/c2/labels.nrrd": {"make_label_maps"},
}
OWN_ROUTES = {
    "maps/p1.nii.gz": {"import_anatomies"},
    "prior_maps/p1.nii.gz": {"make_reference_population"},
    "unseen/p2.nii": {"make_evaluation_hearts"},
}
CONFIGS = [
    (GENERATED, TARGETS | {"label_maps"}, GENERATED_ROUTES),
    (OWN, TARGETS, OWN_ROUTES),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the workflow whose own tables can be changed."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("workflow", "envs", "resources", "config"):
        shutil.copytree(
            REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "priors")
        )
    return copy


@pytest.fixture
def project(tmp_path, monkeypatch):
    for bundle in ("bundle", "implicit"):
        make_bundle(tmp_path / bundle)
    for folder in ("maps", "prior_maps", "unseen"):
        for name in ("p1.nii.gz", "p2.nii"):
            _write(tmp_path / folder / name, f"content of {name}")
    _write(tmp_path / "people.tsv", "content of people.tsv")
    shutil.copy(TEMPLATES[0], tmp_path / "heart.nii.gz")  # bases of siblings are read before any job
    reference_frame(16).to_csv(tmp_path / "reference.tsv", sep="\t", index=False)
    for case in ("c1", "c2"):
        _write(tmp_path / f"scans/{case}/labels.nrrd", f"labels of {case}")
        _write(tmp_path / f"scans/{case}/heart.nii.gz", f"heart of {case}")
    rows = (
        f"{COLUMNS}\tbase",
        "alone\t3\tany\thealthy\t\t\t\tleft_ventricle: all\t\t",
        "sibling\t3\t\t\t\t\t\tleft_ventricle: all\tleft_ventricle.volume: +10 %\theart.nii.gz",
    )
    _write(tmp_path / "trial.tsv", "\n".join(rows) + "\n")
    _write(tmp_path / "covariates.tsv", "column\tkind\nward\tcategorical\n")
    _write(tmp_path / "targets.tsv", "arm\tstructure\nalone\taorta\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextmanager
def planned(repository, config, targets, executor="dryrun", forceall=False):
    """The jobs that Snakemake plans, all of them and those that it would run."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        api_workflow = api.workflow(
            ResourceSettings(cores=1),
            ConfigSettings(config={"bundle": "bundle"} | config),
            snakefile=repository / "workflow/Snakefile",
        )
        dag = api_workflow.dag(DAGSettings(targets=targets, forceall=forceall))
        dag.execute_workflow(executor=executor)
        yield api_workflow._workflow.dag


def make(repository, config, targets):
    """Have Snakemake take empty results as made from the inputs as they are."""
    with planned(repository, config, targets) as dag:
        outputs = [path for job in dag.jobs for path in job.output]
    for path in outputs:
        _write(Path(path), "")
    with planned(repository, config, targets, "touch", forceall=True):
        pass


def rules_to_run(repository, config, targets):
    with planned(repository, config, targets) as dag:
        return {job.rule.name for job in dag.jobs if dag.needrun(job)}


def replace(path, content):
    """Put another file in the place of `path`, which is an hour older, as `cp -p` and unzip do."""
    before = path.stat()
    new = path.with_name("new")
    new.write_bytes(content)
    older = before.st_mtime_ns - 3600 * 10**9
    os.utime(new, ns=(older, older))
    new.replace(path)


@pytest.mark.parametrize(("config", "targets", "routes"), CONFIGS)
def test_a_replaced_file_with_an_older_time_reruns_what_depends_on_it(
    repository, project, config, targets, routes
):
    def rules():
        return rules_to_run(repository, config, targets)

    targets = targets - {"all", "verify", "verify_solver"} | {"inputs"}
    make(repository, config, targets)
    assert rules() == set()
    contents = {project / name: (project / name).read_bytes() for name in routes}
    for path in contents:
        os.utime(path)
    assert rules() == set(), "only the times are new"
    for path, content in contents.items():
        replace(path, content)
    assert rules() == set(), "the same contents"
    for path in contents:
        replace(path, other_content(path))
    assert set.union(*routes.values()) <= rules()


def source_files(repository, config, targets):
    """(rule, wildcards) -> (files that no rule makes, with whether they are ancient; params that count)."""
    with planned(repository, config, targets) as dag:
        made = {path for job in dag.jobs for path in job.output}
        return {
            (job.rule.name, str(job.wildcards)): (
                {str(path): path.is_ancient for path in job.input if path not in made},
                set(map(repr, job.non_derived_params)),
            )
            for job in dag.jobs
        }


def other_content(path):
    """Something else that the workflow can still plan with."""
    text = path.read_bytes()
    if path.name in ("bundle.json", "anatomy.json"):
        return text.replace(b"96, 96, 96", b"112, 112, 112")  # a larger field, which the base map fits too
    return text + (b"\0" if path.suffix == ".gz" else b"\n")  # zeros behind it are no part of a gzip file


def rounds(jobs):
    """The files that jobs read, in groups of which no job reads two."""
    readers = {}
    for job, (inputs, _) in jobs.items():
        for path in inputs:
            readers.setdefault(path, set()).add(job)
    groups = []
    for path in readers:
        for group in groups:
            if not any(readers[path] & readers[other] for other in group):
                group.append(path)
                break
        else:
            groups.append([path])
    return groups


@pytest.mark.parametrize(("config", "targets", "routes"), CONFIGS)
def test_every_file_of_the_user_counts_by_its_content(repository, project, config, targets, routes):
    """In the params of each job that reads it, and not by its time. Weights count by the card's digest."""
    before = source_files(repository, config, targets)
    assert set(routes) < {path for inputs, _ in before.values() for path in inputs}
    for inputs, _ in before.values():
        assert all(inputs.values()), [path for path, ancient in inputs.items() if not ancient]
        inputs.pop("bundle/weights.safetensors", None)
    for group in rounds(before):
        contents = {path: Path(path).read_bytes() for path in group}
        for path in group:
            assert other_content(Path(path)) != contents[path]
            replace(Path(path), other_content(Path(path)))
        after = source_files(repository, config, targets)
        for path, content in contents.items():
            replace(Path(path), content)
        for job, (inputs, params) in before.items():
            changed = set(group) & set(inputs)
            assert bool(changed) <= (after[job][1] != params), f"{job} does not see the content of {changed}"
