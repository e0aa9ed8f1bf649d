# After a pilot run on the machine that is to do the work: `snakemake batch_size` says how many subjects a
# job should have for it to last 10 to 60 minutes (docs/cluster.md). Nothing else depends on it.
# in  the manifest, the benchmark files of the cohort's batches
# out <cohort>/batch_size.tsv: seconds and memory of every stage, job length at the proposed batch size


localrules:
    batch_size,
    propose_batch_size,


rule batch_size:
    input:
        "<cohort>/batch_size.tsv",


rule propose_batch_size:
    input:
        manifest="<cohort>/manifest.tsv",
    output:
        table="<cohort>/batch_size.tsv",
    log:
        "<cohort>/logs/batch_size.log",
    conda:
        "../../envs/report.yaml"
    params:
        benchmarks=f"results/cohorts/{SETTINGS['cohort']}/benchmarks",
        library=library("propose_batch_size.py"),
    message:
        "Proposing a batch size"
    script:
        "../scripts/propose_batch_size.py"
