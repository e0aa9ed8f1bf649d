# Benches, on a quiet machine: `snakemake bench`, or `make bench`; what settings of guidance cost and reach:
# `snakemake guidance_bench`. Nothing else depends on them.
# in  the targets of the cohort's subjects (eight are enough), the bundle
# out results/bench/sampling.tsv: method, batch, seconds_per_sample, ratio_to_unguided, peak_mb
#     results/bench/planning.tsv: subjects, batch_size, cpu_seconds, peak_mb (of a dry run)
#     results/bench/guidance_{frontier,sensitivity}.{tsv,png}: docs/generation.md


localrules:
    bench,
    guidance_bench,


rule bench:
    input:
        "results/bench/sampling.tsv",
        "results/bench/planning.tsv",


rule guidance_bench:
    input:
        expand(
            "results/bench/guidance_{name}.{suffix}",
            name=("frontier", "sensitivity"),
            suffix=("tsv", "png"),
        ),


rule bench_sampling:
    input:
        targets=tables("targets", "parquet"),
        bundle=ancient(BUNDLE),
        weights=ancient(WEIGHTS),
        moments=ancient(BUNDLE_MOMENTS),
    output:
        table="results/bench/sampling.tsv",
    log:
        "results/bench/logs/sampling.log",
    conda:
        (
            "../../envs/generation_gpu.yaml"
            if SETTINGS["device"] == "cuda"
            else "../../envs/generation.yaml"
        )
    threads: all_cores
    resources:
        gpu=1 if SETTINGS["device"] == "cuda" else 0,
        mem_mb=more_each_attempt(12000),
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
    threads: all_cores
    resources:
        mem_mb=more_each_attempt(1000),
        runtime=10,
    params:
        snakefile=workflow.snakefile,
        batch_size=50,
        library=library("bench_planning.py"),
    message:
        "Timing the planning of large trials"
    script:
        "../scripts/bench_planning.py"


rule bench_guidance:
    input:
        targets=tables("targets", "parquet"),
        bundle=ancient(BUNDLE),
        weights=ancient(WEIGHTS),
        moments=ancient(BUNDLE_MOMENTS),
        rules=ancient(RULES),
    output:
        table="results/bench/guidance_samples.tsv",
    log:
        "results/bench/logs/guidance.log",
    conda:
        (
            "../../envs/generation_gpu.yaml"
            if SETTINGS["device"] == "cuda"
            else "../../envs/generation.yaml"
        )
    threads: SETTINGS["threads"]["generation"]
    resources:
        gpu=1 if SETTINGS["device"] == "cuda" else 0,
        mem_mb=more_each_attempt(2000 + 1500 * SETTINGS["threads"]["generation"]),
        runtime=240,
    params:
        guidance=SETTINGS["guidance"],
        bench=SETTINGS["bench"],
        device=SETTINGS["device"],
        bundle_sha256=WEIGHTS_SHA256,
        moments_sha256=BUNDLE_MOMENTS_SHA256,
        rules_sha256=RULES_SHA256,
        library=library("bench_guidance.py"),
    message:
        "Sampling by many settings of guidance"
    script:
        "../scripts/bench_guidance.py"


rule tell_guidance:
    input:
        samples="results/bench/guidance_samples.tsv",
    output:
        frontier="results/bench/guidance_frontier.tsv",
        frontier_chart="results/bench/guidance_frontier.png",
        sensitivity="results/bench/guidance_sensitivity.tsv",
        sensitivity_chart="results/bench/guidance_sensitivity.png",
    log:
        "results/bench/logs/guidance_charts.log",
    conda:
        "../../envs/evaluation.yaml"
    resources:
        mem_mb=more_each_attempt(1000),
        runtime=10,
    params:
        guidance=SETTINGS["guidance"],
        bench=SETTINGS["bench"],
        library=library("tell_guidance.py"),
    message:
        "Drawing what guidance costs and reaches"
    script:
        "../scripts/tell_guidance.py"
