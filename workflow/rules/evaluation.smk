# Evaluation, optional: `snakemake evaluate`. Are the hearts of the config's bundle real, and do they do what was
# asked? Sampling is the work; samples are kept, and more of them (config section `evaluation`) are added.
# in  the bundle, the topology rules; hearts that it has not seen: new deformations of its templates, or a folder
# out results/prior/<name>/evaluation/: hearts.parquet, samples/<arm>.parquet with label maps behind them,
#     realism.tsv, fidelity.tsv, coupling.tsv, topology.tsv, extremes.tsv, figures/, evaluation.html


EVALUATION = SETTINGS["evaluation"]
EVALUATED = bundle_metadata.read_card(BUNDLE)
# record of the bundle's training: label maps or templates, shares, left-out templates
TRAINED_ON = SETTINGS["prior"] | EVALUATED.get("training", {})
ARMS = evaluation_arms.arms(EVALUATION)


EVALUATION_FOLDER = (
    f"results/prior/{EVALUATED.get('name', SETTINGS['prior']['name'])}/evaluation"
)


pathvars:
    evaluation=EVALUATION_FOLDER,


KNOWN = ["known"] if EVALUATION["known"]["points"] else []
EVALUATION_TABLES = (
    "realism",
    "fidelity",
    "coupling",
    "topology",
    "extremes",
    *KNOWN,
)
EVALUATION_FIGURES = (
    "realism",
    "control",
    "ablation",
    "coupling",
    "pairs",
    "topology",
    "extremes",
    *KNOWN,
)
KNOWN_RULES = str(REPOSITORY / "resources/topology/ellipsoids.tsv")
EVALUATION_TEMPLATE = WORKFLOW / "scripts/cardiocohort/evaluation/evaluation.html.j2"
PLAIN_ARMS = {name: arm.to_dict() for name, arm in ARMS.items()}
ARM_TABLES = expand("<evaluation>/samples/{arm}.parquet", arm=ARMS)


localrules:
    evaluate,
    variety,
    whole_hearts,


rule evaluate:
    input:
        "<evaluation>/evaluation.html",


if requested("whole_hearts") and workflow.is_main_process:
    check_whole_hearts()


rule whole_hearts:
    input:
        "<evaluation>/whole_hearts/summary.tsv",


if requested("variety") and workflow.is_main_process:
    check_variety()


rule variety:
    input:
        "<evaluation>/variety.tsv",


rule measure_variety:
    input:
        samples=f"<evaluation>/samples/{evaluation_arms.UNGUIDED}.parquet",
        label_maps=lambda wildcards: ancient(list(varied_hearts().values())),
        bundle=ancient(BUNDLE),
        rules=ancient(RULES),
        convention=ancient(CONVENTION),
    output:
        table="<evaluation>/variety.tsv",
    log:
        "<evaluation>/logs/variety.log",
    benchmark:
        "<evaluation>/benchmarks/variety.tsv"
    conda:
        SAMPLING_ENV
    resources:
        mem_mb=more_each_attempt(3000),
        runtime=60,
    params:
        arm=PLAIN_ARMS[evaluation_arms.UNGUIDED],
        label_maps_sha256=lambda wildcards: content_of(varied_hearts().values()),
        resamples=EVALUATION["resamples"],
        seed=EVALUATION["seed"],
        anatomy=ANATOMY_DIGEST,
        rules_sha256=RULES_SHA256,
        convention_sha256=CONVENTION_SHA256,
        nifti_geometry=SETTINGS["nifti_geometry"],
        library=library("measure_variety.py"),
    message:
        "Comparing the variety of samples with that of real hearts"
    script:
        "../scripts/measure_variety.py"


rule measure_whole_hearts:
    input:
        bundle=ancient(BUNDLE),
        weights=ancient(WEIGHTS),
        rules=ancient(RULES),
        convention=ancient(CONVENTION),
        label_maps=lambda wildcards: ancient(list(whole_hearts().values())),
        atlas=lambda wildcards: ancient(fitted_atlas()),
        training=lambda wildcards: ancient(training_hearts()),
    output:
        samples="<evaluation>/whole_hearts/samples.tsv",
        summary="<evaluation>/whole_hearts/summary.tsv",
    log:
        "<evaluation>/logs/whole_hearts.log",
    benchmark:
        "<evaluation>/benchmarks/whole_hearts.tsv"
    conda:
        SAMPLING_ENV
    threads: SETTINGS["threads"]["generation"]
    resources:
        gpu=int(WITH_GPU),
        mem_mb=more_each_attempt(2000 + 2000 * SETTINGS["threads"]["generation"]),
        runtime=480,
    params:
        subjects=lambda wildcards: list(whole_hearts()),
        label_maps_sha256=lambda wildcards: content_of(whole_hearts().values()),
        others_sha256=lambda wildcards: content_of(
            [path for path in (fitted_atlas(), training_hearts()) if path]
        ),
        seeds=EVALUATION["whole_hearts"]["seeds"],
        attempts=EVALUATION["whole_hearts"]["attempts"],
        guidance=SETTINGS["guidance"],
        device=SETTINGS["device"],
        weights_sha256=WEIGHTS_SHA256,
        rules_sha256=RULES_SHA256,
        convention_sha256=CONVENTION_SHA256,
        nifti_geometry=SETTINGS["nifti_geometry"],
        library=library("measure_whole_hearts.py"),
    message:
        "Asking for real hearts by their own moments"
    script:
        "../scripts/measure_whole_hearts.py"


rule make_evaluation_hearts:
    input:
        bundle=ancient(BUNDLE),
        anatomy=ancient(ANATOMY_FILE),
        rules=ancient(RULES),
        values=ancient(REFERENCE_VALUES),
        templates=lambda wildcards: ancient(list(deformed_templates("alike"))),
        left_out=lambda wildcards: ancient(list(deformed_templates("left_out"))),
        label_maps=lambda wildcards: ancient(list(label_maps_of("evaluation").values())),
        convention=ancient(CONVENTION),
    output:
        table="<evaluation>/hearts.parquet",
    log:
        "<evaluation>/logs/hearts.log",
    benchmark:
        "<evaluation>/benchmarks/hearts.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: SETTINGS["threads"]["generation"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: 1500 * threads * attempt,
        runtime=240,
    params:
        subjects=lambda wildcards: list(label_maps_of("evaluation")),
        shares=lambda wildcards: list(deformed_templates("alike").values()),
        left_out_shares=lambda wildcards: list(deformed_templates("left_out").values()),
        digests=lambda wildcards: [
            artifacts.sha256(path)
            for path in (
                REFERENCE_VALUES,
                REFERENCE_RELATIONS,
                *deformed_templates("alike"),
                *deformed_templates("left_out"),
                *CONVENTION,
            )
        ],
        label_maps_sha256=lambda wildcards: content_of(
            label_maps_of("evaluation").values()
        ),
        anatomy=ANATOMY_DIGEST,
        anatomy_sha256=ANATOMY_SHA256,
        nifti_geometry=SETTINGS["nifti_geometry"],
        targets=evaluation_arms.hearts_needed(EVALUATION),
        counts=EVALUATION["hearts"],
        constrained=EVALUATION["constrained"],
        seed=EVALUATION["seed"],
        rules_sha256=RULES_SHA256,
        library=library("make_evaluation_hearts.py"),
    message:
        "Making hearts that the prior has not seen"
    script:
        "../scripts/make_evaluation_hearts.py"


rule sample_arm:
    input:
        unpack(
            lambda wildcards: {
                part: ancient(path) for part, path in bundle_of_arm(wildcards).items()
            }
        ),
        rules=ancient(RULES),
        hearts="<evaluation>/hearts.parquet",
    output:
        table="<evaluation>/samples/{arm}.parquet",
    log:
        "<evaluation>/logs/samples/{arm}.log",
    benchmark:
        "<evaluation>/benchmarks/samples/{arm}.tsv"
    wildcard_constraints:
        arm="|".join(ARMS),
    conda:
        SAMPLING_ENV
    threads: SETTINGS["threads"]["generation"]
    resources:
        gpu=int(WITH_GPU),
        mem_mb=more_each_attempt(2000 + 1500 * SETTINGS["threads"]["generation"]),
        runtime=240,
    params:
        arm=lambda wildcards: PLAIN_ARMS[wildcards.arm],
        seed=EVALUATION["seed"],
        guidance=SETTINGS["guidance"],
        device=SETTINGS["device"],
        card_sha256=lambda wildcards: artifacts.sha256(
            bundle_of_arm(wildcards)["bundle"]
        ),
        bundle_sha256=lambda wildcards: artifacts.sha256(
            bundle_of_arm(wildcards)["weights"]
        ),
        moments_sha256=lambda wildcards: artifacts.sha256(
            bundle_of_arm(wildcards)["moments"]
        ),
        rules_sha256=RULES_SHA256,
        library=library("sample_arm.py"),
    message:
        "Sampling the arm {wildcards.arm}"
    script:
        "../scripts/sample_arm.py"


rule measure_realism:
    input:
        samples=ARM_TABLES,
        hearts="<evaluation>/hearts.parquet",
        bundle=ancient(BUNDLE),
    output:
        table="<evaluation>/realism.tsv",
    log:
        "<evaluation>/logs/realism.log",
    benchmark:
        "<evaluation>/benchmarks/realism.tsv"
    conda:
        "../../envs/evaluation.yaml"
    resources:
        mem_mb=more_each_attempt(4000),
        runtime=240,
    params:
        arms=PLAIN_ARMS,
        resamples=EVALUATION["resamples"],
        seed=EVALUATION["seed"],
        anatomy=ANATOMY_DIGEST,
        library=library("measure_realism.py"),
    message:
        "Comparing samples with hearts that the prior has not seen"
    script:
        "../scripts/measure_realism.py"


rule measure_control:
    input:
        samples=ARM_TABLES,
        hearts="<evaluation>/hearts.parquet",
        bundle=ancient(BUNDLE),
        moments=ancient(BUNDLE_MOMENTS),
    output:
        fidelity="<evaluation>/fidelity.tsv",
        coupling="<evaluation>/coupling.tsv",
        topology="<evaluation>/topology.tsv",
        extremes="<evaluation>/extremes.tsv",
    log:
        "<evaluation>/logs/control.log",
    benchmark:
        "<evaluation>/benchmarks/control.tsv"
    conda:
        "../../envs/evaluation.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=60,
    params:
        arms=PLAIN_ARMS,
        constrained=EVALUATION["constrained"],
        resamples=EVALUATION["resamples"],
        seed=EVALUATION["seed"],
        moments_sha256=BUNDLE_MOMENTS_SHA256,
        anatomy=ANATOMY_DIGEST,
        library=library("measure_control.py"),
    message:
        "Measuring control, coupling and topology"
    script:
        "../scripts/measure_control.py"


rule train_ellipsoid_prior:
    output:
        card="<evaluation>/known_prior/bundle.json",
        weights="<evaluation>/known_prior/weights.safetensors",
        reference="<evaluation>/known_prior/reference_moments.parquet",
    log:
        "<evaluation>/logs/known_prior.log",
    benchmark:
        "<evaluation>/benchmarks/known_prior.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: SETTINGS["threads"]["generation"]
    resources:
        gpu=int(WITH_GPU),
        mem_mb=more_each_attempt(4000),
        runtime=240,
    params:
        hearts=EVALUATION["known"]["hearts"],
        steps={
            network: EVALUATION["known"][f"{network}_steps"]
            for network in ("autoencoder", "denoiser")
        },
        seed=EVALUATION["seed"],
        device=SETTINGS["device"],
        library=library("train_ellipsoid_prior.py"),
    message:
        "Training a prior of hearts whose moments are known"
    script:
        "../scripts/train_ellipsoid_prior.py"


rule sample_ellipsoid_targets:
    input:
        bundle="<evaluation>/known_prior/bundle.json",
        weights="<evaluation>/known_prior/weights.safetensors",
        moments="<evaluation>/known_prior/reference_moments.parquet",
        rules=ancient(KNOWN_RULES),
    output:
        table="<evaluation>/known.tsv",
    log:
        "<evaluation>/logs/known.log",
    benchmark:
        "<evaluation>/benchmarks/known.tsv"
    conda:
        SAMPLING_ENV
    threads: SETTINGS["threads"]["generation"]
    resources:
        gpu=int(WITH_GPU),
        mem_mb=more_each_attempt(2000 + 1500 * SETTINGS["threads"]["generation"]),
        runtime=240,
    params:
        points=EVALUATION["known"]["points"],
        reach=EVALUATION["known"]["reach"],
        seed=EVALUATION["seed"],
        guidance=SETTINGS["guidance"],
        device=SETTINGS["device"],
        rules_sha256=artifacts.sha256(KNOWN_RULES),
        library=library("sample_ellipsoid_targets.py"),
    message:
        "Sampling a grid of exact targets"
    script:
        "../scripts/sample_ellipsoid_targets.py"


rule write_evaluation:
    input:
        **{name: f"<evaluation>/{name}.tsv" for name in EVALUATION_TABLES},
        samples=ARM_TABLES,
        hearts="<evaluation>/hearts.parquet",
        bundle=ancient(BUNDLE),
        variety=measured_apart("variety", "variety.tsv", EVALUATION["real_hearts"]),
        whole_hearts=measured_apart(
            "whole_hearts",
            "whole_hearts/summary.tsv",
            EVALUATION["whole_hearts"]["label_maps"],
        ),
    output:
        **{name: f"<evaluation>/figures/{name}.png" for name in EVALUATION_FIGURES},
        summary="<evaluation>/summary.md",
        page="<evaluation>/evaluation.html",
    log:
        "<evaluation>/logs/page.log",
    conda:
        "../../envs/evaluation.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=60,
    params:
        arms=PLAIN_ARMS,
        constrained=EVALUATION["constrained"],
        template=artifacts.sha256(EVALUATION_TEMPLATE),
        card=card_of_bundle(),
        figures_sha256=lambda wildcards: content_of(filter(None, [card_of_bundle()])),
        card_sha256=artifacts.sha256(BUNDLE),
        library=library("write_evaluation.py"),
    message:
        "Writing the evaluation's charts and page"
    script:
        "../scripts/write_evaluation.py"
