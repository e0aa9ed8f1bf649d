"""The `snakemake` object of one job outside Snakemake: for a debugger or a notebook. Owned by no stage.

    from cardiocohort.runtime.mock_snakemake import mock_snakemake
    import build_meshes

    build_meshes.main(mock_snakemake("build_meshes", batch="healthy_women-0000"))

PyPSA-Eur has a helper of the same name and purpose.
"""

import asyncio
from pathlib import Path

from .errors import InputError

SNAKEFILE = Path(__file__).resolve().parents[3] / "Snakefile"


def mock_snakemake(
    rule: str,
    workdir: str | Path = ".",
    config: dict | None = None,
    snakefile: str | Path = SNAKEFILE,
    **wildcards: str,
):
    """The `snakemake` object that the script of `rule` gets for these wildcards.

    Parameters
    ----------
    rule: a rule with a script, such as "build_meshes".
    workdir: the working directory of the run. The paths of the object are relative to it, so call
        `os.chdir(workdir)` before the script's `main`.
    config: values that replace those of the config file.
    wildcards: one value per wildcard of the rule's output, such as batch="healthy_women-0000".

    Nothing runs and nothing is locked; the folders of the outputs and of the log are made. Raises InputError
    for a rule without a script and for missing wildcards.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.dag import DAG
    from snakemake.script import Snakemake
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        Quietness,
        ResourceSettings,
        StorageSettings,
    )

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        api_workflow = api.workflow(
            ResourceSettings(cores=1), ConfigSettings(config=config or {}), StorageSettings(),
            snakefile=Path(snakefile), workdir=Path(workdir),
        )  # fmt: skip
        api_workflow.dag(DAGSettings())
        workflow = api_workflow._workflow
        scripts = {r.name: r for r in workflow.rules if r.script}
        if rule not in scripts:
            raise InputError(f"{rule!r} is no rule with a script; allowed: {', '.join(sorted(scripts))}")
        missing = sorted(scripts[rule].wildcard_names - wildcards.keys())
        if missing:
            raise InputError(f"rule {rule!r}: the wildcard {missing[0]!r} is missing; pass {missing[0]}=...")
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        dag = DAG(workflow, rules=workflow.rules, targetrules=set(), targetfiles=set())
        job = asyncio.run(dag.job_factory.new(scripts[rule], dag, wildcards))
        for path in (*job.output, *job.log):
            (Path(workdir) / path).parent.mkdir(parents=True, exist_ok=True)
        return Snakemake(
            job.input, job.output, job.params, job.wildcards, job.threads, job.resources, job.log,
            workflow.config, rule, None, str(SNAKEFILE.parent / "scripts"),
        )  # fmt: skip
