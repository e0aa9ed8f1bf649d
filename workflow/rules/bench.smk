# Benches, on a quiet machine: `snakemake bench`, or `make bench`. Nothing else depends on them.
# in  the targets of the cohort's subjects (eight are enough), the bundle
# out results/bench/sampling.tsv: method, batch, seconds_per_sample, ratio_to_unguided, peak_mb
#     results/bench/planning.tsv: subjects, batch_size, cpu_seconds, peak_mb (of a dry run)


localrules:
    bench,


rule bench:
    input:
        "results/bench/sampling.tsv",
        "results/bench/planning.tsv",


rule bench_sampling:
    input:
        targets=tables("targets", "parquet"),
        bundle=ancient(BUNDLE),
        weights=ancient(WEIGHTS),
    output:
        table="results/bench/sampling.tsv",
    log:
        "results/bench/logs/sampling.log",
    conda:
        "../../envs/generation.yaml"
    threads: workflow.cores or 1
    resources:
        gpu=1 if SETTINGS["device"] == "cuda" else 0,
        mem_mb=12000,
        runtime=60,
    params:
        guidance=SETTINGS["guidance"],
        device=SETTINGS["device"],
        bundle_sha256=WEIGHTS_SHA256,
        library=library("bench_sampling.py"),
    message:
        "Timing the sampler"
    script:
        "../scripts/bench_sampling.py"


rule bench_planning:
    input:
        bundle=ancient(BUNDLE),
    output:
        table="results/bench/planning.tsv",
    log:
        "results/bench/logs/planning.log",
    conda:
        "../../envs/population.yaml"
    threads: workflow.cores or 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        snakefile=workflow.snakefile,
        batch_size=50,
        library=library("bench_planning.py"),
    message:
        "Timing the planning of large trials"
    script:
        "../scripts/bench_planning.py"
