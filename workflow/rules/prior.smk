# The generative prior, made once a data set: `snakemake prior`. The trained one ships in resources/priors/.
# in  templates (deformed at random) or a folder of label maps, the anatomy, the topology rules
# out results/prior/<name>/: population/ with hearts.tsv and reference_moments.parquet, autoencoder/, denoiser/,
#     bundle/ (what config key `bundle` names), card/ (figures on held-out hearts and on a left-out template)


PRIOR = SETTINGS["prior"]
if PRIOR["label_maps"]:  # these are no templates
    PRIOR = PRIOR | {"leave_out": []}


pathvars:
    prior=f"results/prior/{PRIOR['name']}",


localrules:
    prior,


with plain_errors():
    PRIOR_TEMPLATES = {
        place(path, "prior.templates"): share
        for path, share in ({} if PRIOR["label_maps"] else PRIOR["templates"]).items()
    }
    PRIOR_START, PRIOR_START_CARD = [], None
    if PRIOR["warm_start"]:
        PRIOR_START = place(f"{PRIOR['warm_start']}/bundle.json", "prior.warm_start")
        PRIOR_START_CARD = bundle_metadata.read_card(PRIOR_START)
    if (
        requested("prior") or requested("reference_parts")
    ) and workflow.is_main_process:
        anatomy_folder.check_grid(OWN_GRID, ANATOMY_FILE)
        atlases = [p for p in PRIOR_TEMPLATES if p.endswith(".safetensors")]
        for path in atlases:
            anatomy_folder.check_atlas_of(path, OWN_ANATOMY, OWN_GRID, ANATOMY_FILE)
        check_labels([p for p in PRIOR_TEMPLATES if p not in atlases], whole=True)
        check_prior_covariates()
    PRIOR_CHANNELS = OWN_ANATOMY.n_channels
    PRIOR_CELLS = OWN_GRID.shape[0] // 2

PRIOR_LEFT_OUT = [
    path
    for path in PRIOR_TEMPLATES
    if Path(path).name.split(".")[0] in PRIOR["leave_out"]
]
PRIOR_START_SHA256 = PRIOR_START_CARD["weights_sha256"] if PRIOR_START_CARD else ""
PRIOR_RECORD = (
    "n",
    "leave_out",
    "conditioning",
    "seed",
    "label_maps",
    "templates",
    "autoencoder",
    "autoencoder_left_out",
    "denoiser",
    "machine",
)
NETWORKS = {"channels": PRIOR_CHANNELS, "cells": PRIOR_CELLS} | PRIOR["networks"]
PRIOR_TOLD = []
if PRIOR["conditioning"] == "heat_maps":
    NETWORKS["condition_channels"] = PRIOR_CHANNELS - 1
    PRIOR_TOLD = "<prior>/population/reference_moments.parquet"


rule prior:
    input:
        "<prior>/bundle/bundle.json",
        "<prior>/card/card.json",


rule make_reference_population:
    input:
        **OWN_COVARIATES,
        anatomy=ancient(ANATOMY_FILE),
        rules=ancient(RULES),
        values=ancient(REFERENCE_VALUES),
        templates=ancient(list(PRIOR_TEMPLATES)),
        label_maps=lambda wildcards: ancient(list(label_maps_of("prior").values())),
        covariates=lambda wildcards: ancient(prior_covariates()),
        convention=ancient(CONVENTION),
    output:
        reference="<prior>/population/reference_moments.parquet",
        hearts="<prior>/population/hearts.tsv",
    log:
        "<prior>/logs/population.log",
    benchmark:
        "<prior>/benchmarks/population.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, threads, attempt: 1500 * threads * attempt,
        runtime=600,
    params:
        subjects=lambda wildcards: list(label_maps_of("prior")),
        label_maps_sha256=lambda wildcards: content_of(label_maps_of("prior").values()),
        covariates_sha256=lambda wildcards: content_of(
            filter(None, [prior_covariates()])
        ),
        known_covariates_sha256=COVARIATES_SHA256,
        anatomy=ANATOMY_SHA256,
        shares=list(PRIOR_TEMPLATES.values()),
        n=PRIOR["n"],
        seed=PRIOR["seed"],
        held_out_share=PRIOR["held_out_share"],
        digests=[
            artifacts.sha256(path)
            for path in (
                RULES,
                REFERENCE_VALUES,
                REFERENCE_RELATIONS,
                *PRIOR_TEMPLATES,
                *CONVENTION,
            )
        ],
        nifti_geometry=SETTINGS["nifti_geometry"],
        library=library("make_reference_population.py"),
    message:
        "Making the reference population of the prior"
    script:
        "../scripts/make_reference_population.py"


rule train_autoencoder:
    input:
        anatomy=ancient(ANATOMY_FILE),
        hearts="<prior>/population/hearts.tsv",
        start=ancient(PRIOR_START),
    output:
        weights="<prior>/autoencoder/weights.safetensors",
        losses="<prior>/autoencoder/losses.tsv",
        figure="<prior>/autoencoder/losses.png",
        reconstructions="<prior>/autoencoder/reconstructions.png",
    log:
        "<prior>/logs/autoencoder.log",
    benchmark:
        "<prior>/benchmarks/autoencoder.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: 2 * PRIOR["processes"]
    resources:
        gpu=PRIOR["processes"] * WITH_GPU,
        mem_mb=more_each_attempt(6000 + 2000 * PRIOR["processes"]),
        runtime=1440,
    params:
        networks=NETWORKS,
        fit=PRIOR["autoencoder"] | {"seed": PRIOR["seed"], "start": PRIOR_START_SHA256},
        leave_out=[],
        device=SETTINGS["device"],
        processes=PRIOR["processes"],
        anatomy=ANATOMY_SHA256,
        start_card=PRIOR_START_CARD,
        library=library("train_autoencoder.py"),
    message:
        "Training the autoencoder"
    script:
        "../scripts/train_autoencoder.py"


use rule train_autoencoder as train_autoencoder_left_out with:
    input:
        anatomy=ancient(ANATOMY_FILE),
        hearts="<prior>/population/hearts.tsv",
    output:
        weights="<prior>/autoencoder_left_out/weights.safetensors",
        losses="<prior>/autoencoder_left_out/losses.tsv",
        figure="<prior>/autoencoder_left_out/losses.png",
        reconstructions="<prior>/autoencoder_left_out/reconstructions.png",
    log:
        "<prior>/logs/autoencoder_left_out.log",
    benchmark:
        "<prior>/benchmarks/autoencoder_left_out.tsv"
    params:
        networks=NETWORKS,
        fit=PRIOR["autoencoder_left_out"] | {"seed": PRIOR["seed"]},
        leave_out=PRIOR["leave_out"],
        device=SETTINGS["device"],
        processes=PRIOR["processes"],
        anatomy=ANATOMY_SHA256,
        start_card=None,
        library=library("train_autoencoder.py"),
    message:
        "Training an autoencoder that has not seen the left-out template"


rule train_denoiser:
    input:
        anatomy=ancient(ANATOMY_FILE),
        hearts="<prior>/population/hearts.tsv",
        autoencoder="<prior>/autoencoder/weights.safetensors",
        moments=PRIOR_TOLD,
        start=ancient(PRIOR_START),
    output:
        weights="<prior>/denoiser/weights.safetensors",
        losses="<prior>/denoiser/losses.tsv",
        figure="<prior>/denoiser/losses.png",
    log:
        "<prior>/logs/denoiser.log",
    benchmark:
        "<prior>/benchmarks/denoiser.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: 2 * PRIOR["processes"]
    resources:
        gpu=PRIOR["processes"] * WITH_GPU,
        mem_mb=more_each_attempt(6000 + 2000 * PRIOR["processes"]),
        runtime=1440,
    params:
        networks=NETWORKS,
        fit=PRIOR["denoiser"] | {"seed": PRIOR["seed"], "start": PRIOR_START_SHA256},
        device=SETTINGS["device"],
        processes=PRIOR["processes"],
        anatomy=ANATOMY_SHA256,
        start_card=PRIOR_START_CARD,
        library=library("train_denoiser.py"),
    message:
        "Training the denoiser"
    script:
        "../scripts/train_denoiser.py"


rule write_bundle:
    input:
        anatomy=ancient(ANATOMY_FILE),
        reference="<prior>/population/reference_moments.parquet",
        hearts="<prior>/population/hearts.tsv",
        autoencoder="<prior>/autoencoder/weights.safetensors",
        denoiser="<prior>/denoiser/weights.safetensors",
        losses=[
            "<prior>/autoencoder/losses.tsv",
            "<prior>/denoiser/losses.tsv",
        ],
    output:
        card="<prior>/bundle/bundle.json",
        weights="<prior>/bundle/weights.safetensors",
        reference="<prior>/bundle/reference_moments.parquet",
    log:
        "<prior>/logs/bundle.log",
    conda:
        "../../envs/prior.yaml"
    resources:
        mem_mb=more_each_attempt(2000),
        runtime=30,
    params:
        name=PRIOR["name"],
        networks=NETWORKS,
        training={key: PRIOR[key] for key in PRIOR_RECORD},
        start=PRIOR_START_CARD,
        anatomy=ANATOMY_SHA256,
        repository=str(REPOSITORY),
        library=library("write_bundle.py"),
    message:
        "Writing the bundle"
    script:
        "../scripts/write_bundle.py"


rule measure_prior:
    input:
        anatomy=ancient(ANATOMY_FILE),
        bundle="<prior>/bundle/bundle.json",
        weights="<prior>/bundle/weights.safetensors",
        hearts="<prior>/population/hearts.tsv",
        rules=ancient(RULES),
        left_out=(
            "<prior>/autoencoder_left_out/weights.safetensors"
            if PRIOR["leave_out"]
            else []
        ),
        templates=ancient(PRIOR_LEFT_OUT),
    output:
        card="<prior>/card/card.json",
        page="<prior>/card/CARD.md",
        reconstructions="<prior>/card/reconstructions.png",
        samples="<prior>/card/unguided_samples.png",
    log:
        "<prior>/logs/card.log",
    benchmark:
        "<prior>/benchmarks/card.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: 2
    resources:
        mem_mb=more_each_attempt(6000),
        runtime=120,
    params:
        networks=NETWORKS,
        anatomy=ANATOMY_SHA256,
        leave_out=PRIOR["leave_out"],
        samples=PRIOR["card_samples"],
        seed=PRIOR["seed"],
        rules_sha256=RULES_SHA256,
        templates_sha256=[artifacts.sha256(path) for path in PRIOR_LEFT_OUT],
        library=library("measure_prior.py"),
    message:
        "Measuring the prior for its card"
    script:
        "../scripts/measure_prior.py"
