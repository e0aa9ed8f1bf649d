# A statistical shape model of a folder of hearts, optional: `snakemake atlas` (docs/atlas.md). The shipped one is
# in resources/atlas/. Hearts are registered one by one and kept: a killed run goes on where it stopped.
# in  a folder of label maps (config key `atlas.label_maps`), the anatomy, the topology rules, the convention
# out results/atlas/<name>/: hearts.tsv, template.nii.gz, registrations.tsv, atlas.safetensors,
#     compactness.tsv, generalisation.tsv, specificity.tsv, examples/, atlas.html


ATLAS = SETTINGS["atlas"]


pathvars:
    atlas=f"results/atlas/{ATLAS['name']}",


localrules:
    atlas,


with plain_errors():
    if requested("atlas"):
        check_atlas(
            ATLAS,
            label_maps_of("atlas"),
            OWN_ANATOMY,
            OWN_GRID,
        )

REGISTRATION = {
    key: ATLAS[key] for key in ("weights", "vessel_reach_mm", "least_overlap")
}


rule atlas:
    input:
        "<atlas>/atlas.safetensors",
        "<atlas>/atlas.html",


rule prepare_atlas_hearts:
    input:
        anatomy=ancient(ANATOMY_FILE),
        rules=ancient(RULES),
        convention=ancient(CONVENTION),
        label_maps=lambda wildcards: ancient(list(label_maps_of("atlas").values())),
    output:
        hearts="<atlas>/hearts.tsv",
    log:
        "<atlas>/logs/hearts.log",
    conda:
        "../../envs/prior.yaml"
    threads: SETTINGS["threads"]["atlas"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: 1500 * threads * attempt,
        runtime=240,
    params:
        subjects=lambda wildcards: list(label_maps_of("atlas")),
        label_maps_sha256=lambda wildcards: content_of(label_maps_of("atlas").values()),
        tables_sha256=[ANATOMY_SHA256, RULES_SHA256],
        convention_sha256=CONVENTION_SHA256,
        nifti_geometry=SETTINGS["nifti_geometry"],
        leave_out=ATLAS["leave_out"],
        cut_vessels=ATLAS["cut_vessels"],
        library=library("prepare_atlas_hearts.py"),
    message:
        "Preparing the hearts of the atlas"
    script:
        "../scripts/prepare_atlas_hearts.py"


rule make_atlas_template:
    input:
        anatomy=ancient(ANATOMY_FILE),
        hearts="<atlas>/hearts.tsv",
    output:
        template="<atlas>/template.nii.gz",
        report="<atlas>/template.json",
    log:
        "<atlas>/logs/template.log",
    benchmark:
        "<atlas>/benchmarks/template.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: SETTINGS["threads"]["atlas"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: 1500 * threads * attempt,
        runtime=1440,
    params:
        **REGISTRATION,
        anatomy_sha256=ANATOMY_SHA256,
        library=library("make_atlas_template.py"),
    message:
        "Making the template of the atlas"
    script:
        "../scripts/make_atlas_template.py"


rule register_atlas_hearts:
    input:
        anatomy=ancient(ANATOMY_FILE),
        hearts="<atlas>/hearts.tsv",
        template="<atlas>/template.nii.gz",
    output:
        registrations="<atlas>/registrations.tsv",
    log:
        "<atlas>/logs/registrations.log",
    benchmark:
        "<atlas>/benchmarks/registrations.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: SETTINGS["threads"]["atlas"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: 1500 * threads * attempt,
        runtime=1440,
    params:
        **REGISTRATION,
        anatomy_sha256=ANATOMY_SHA256,
        library=library("register_atlas_hearts.py"),
    message:
        "Registering the hearts of the atlas"
    script:
        "../scripts/register_atlas_hearts.py"


rule build_atlas:
    input:
        anatomy=ancient(ANATOMY_FILE),
        rules=ancient(RULES),
        template="<atlas>/template.nii.gz",
        registrations="<atlas>/registrations.tsv",
    output:
        atlas="<atlas>/atlas.safetensors",
        compactness="<atlas>/compactness.tsv",
        generalisation="<atlas>/generalisation.tsv",
        specificity="<atlas>/specificity.tsv",
        examples="<atlas>/examples.tsv",
    log:
        "<atlas>/logs/atlas.log",
    benchmark:
        "<atlas>/benchmarks/atlas.tsv"
    conda:
        "../../envs/prior.yaml"
    threads: SETTINGS["threads"]["atlas"]
    resources:
        mem_mb=lambda wildcards, threads, attempt: (3000 + 1500 * threads) * attempt,
        runtime=600,
    params:
        name=ATLAS["name"],
        cell_voxels=ATLAS["cell_voxels"],
        samples=ATLAS["samples"],
        seed=ATLAS["seed"],
        tables_sha256=[ANATOMY_SHA256, RULES_SHA256],
        library=library("build_atlas.py"),
    message:
        "Building the atlas"
    script:
        "../scripts/build_atlas.py"


rule write_atlas_page:
    input:
        anatomy=ancient(ANATOMY_FILE),
        hearts="<atlas>/hearts.tsv",
        template="<atlas>/template.json",
        registrations="<atlas>/registrations.tsv",
        compactness="<atlas>/compactness.tsv",
        generalisation="<atlas>/generalisation.tsv",
        specificity="<atlas>/specificity.tsv",
        examples="<atlas>/examples.tsv",
    output:
        page="<atlas>/atlas.html",
    log:
        "<atlas>/logs/page.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=more_each_attempt(3000),
        runtime=30,
    params:
        name=ATLAS["name"],
        page_template=artifacts.sha256(
            WORKFLOW / "scripts/cardiocohort/report/atlas.html.j2"
        ),
        library=library("write_atlas_page.py"),
    message:
        "Writing the page of the atlas"
    script:
        "../scripts/write_atlas_page.py"
