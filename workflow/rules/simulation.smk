# Simulation, optional: `snakemake simulate`, a passive inflation of every heart in NGSolve, and
# `snakemake verify_solver`, published problems in the same solver; `snakemake paired_comparison`, the
# inflations of digital siblings beside those of their bases.
# in  <cohort>/meshes/<batch>.tsv and the meshes behind it; with simulation.cycle.reference_bsa_m2 also
#     <cohort>/targets/<batch>.parquet, for the subjects' body surface
# out <cohort>/calibrations/<arm>.json: factors of stiffness, tension and resistance that the arm's hearts take, with
#     targets in `simulation.calibrate`; runs of its mean heart in <cohort>/calibrations/<arm>/.
#     <cohort>/simulations/<batch>.tsv: how each run ended; files in <cohort>/simulations/<batch>/<subject>/.
#     These batches are smaller than the meshes' (config key simulation.batch_size).
#     <cohort>/comparisons/<arm>.tsv, .summary.tsv, .png for every arm of siblings: pairs, means, figure.
#     results/verification/land2015.tsv: problem, quantity, value_mm, published_low_mm, published_high_mm, ...


LAND2015 = str(REPOSITORY / "resources/verification/land2015.tsv")


localrules:
    simulate,
    paired_comparison,
    compare_pairs,
    verify_solver,


SIMULATING = [
    target
    for target in ("simulate", "paired_comparison", "refinement_study")
    if requested(target)
]
if trial_simulates():
    SIMULATING.append(f"trial with endpoint {SIMULATED_ENDPOINTS[0]}")
if DECKS_FOLLOW_SIMULATIONS:
    SIMULATING.append("all with decks.follow: simulations")

for target in SIMULATING:
    with plain_errors():
        check_biventricular(SETTINGS, target)
        check_body_surface(SETTINGS)
        plan.check_arms(
            SETTINGS["simulation"]["cycle"]["contractility"],
            BATCHES,
            "simulation.cycle.contractility",
        )

if requested("paired_comparison"):
    with plain_errors():
        plan.comparisons(SIBLING_ARMS, SETTINGS["cohort_table"])


if workflow.is_main_process:
    with plain_errors():
        check_calibrations(
            SETTINGS, dict.fromkeys(map(plan.arm_of, BATCHES)), SIBLING_BASES
        )
        if (
            simulated()
            or requested("paired_comparison")
            or (requested("refinement_study") and SETTINGS["refinement"]["simulate"])
        ):
            # nobody is drawn for explicit targets, nor for siblings
            drawn = [] if TARGETS_TABLE else plan.arms_without_base(BATCHES)
            levels = plan.levels_of_arms(BATCHES, covariates.GROUP)
            conditions = {
                arm: own for arm, own in levels.items() if own or arm in drawn
            }
            for text in check_contractions(SETTINGS, conditions, SIBLING_BASES):
                warn(text)


rule simulate:
    input:
        lambda wildcards: plan.stage_tables("simulations", simulation_batches()),


rule calibrate_arm:
    input:
        meshes=lambda wildcards: plan.stage_tables(
            "meshes", [name for name in BATCHES if plan.arm_of(name) == wildcards.arm]
        ),
        people=lambda wildcards: people_of(
            [name for name in BATCHES if plan.arm_of(name) == wildcards.arm]
        ),
    output:
        calibration="<cohort>/calibrations/{arm}.json",
    log:
        "<cohort>/logs/calibrations/{arm}.log",
    benchmark:
        "<cohort>/benchmarks/calibrations/{arm}.tsv"
    conda:
        SOLVER_ENV
    threads: SETTINGS["threads"]["simulation"]
    resources:
        mem_mb=more_each_attempt(8000),
        # a job that is cut off goes on from its last run
        runtime=120 * (1 + SETTINGS["simulation"]["cycle"]["beats"]),
    params:
        arm=lambda wildcards: wildcards.arm,
        mechanics=lambda wildcards: section_of(SETTINGS, wildcards.arm, "mechanics"),
        simulation=lambda wildcards: section_of(SETTINGS, wildcards.arm, "simulation"),
        library=library("calibrate_arm.py"),
    message:
        "Calibrating arm {wildcards.arm} on its mean heart"
    script:
        "../scripts/calibrate_arm.py"


rule simulate_hearts:
    input:
        meshes=lambda wildcards: plan.stage_tables(
            "meshes", simulation_batches()[wildcards.batch]["meshes"]
        ),
        people=lambda wildcards: people_of(
            simulation_batches()[wildcards.batch]["meshes"]
        ),
        calibration=calibration_of,
    output:
        table="<cohort>/simulations/{batch}.tsv",
    log:
        "<cohort>/logs/simulations/{batch}.log",
    benchmark:
        "<cohort>/benchmarks/simulations/{batch}.tsv"
    conda:
        SOLVER_ENV
    threads: SETTINGS["threads"]["simulation"]
    resources:
        mem_mb=more_each_attempt(8000),
        runtime=60
        * SETTINGS["simulation"]["batch_size"]
        * (1 + SETTINGS["simulation"]["cycle"]["beats"]),
    params:
        subjects=lambda wildcards: simulation_batches()[wildcards.batch]["subjects"],
        mechanics=of_arm("mechanics"),
        # what a calibration aims at does not matter here, the factors that it found do
        simulation=lambda wildcards: {
            key: value
            for key, value in of_arm("simulation")(wildcards).items()
            if key != "calibrate"
        },
        library=library("simulate_hearts.py"),
    message:
        "Simulating the hearts of {wildcards.batch}"
    script:
        "../scripts/simulate_hearts.py"


rule paired_comparison:
    input:
        lambda wildcards: plan.comparisons(SIBLING_ARMS, SETTINGS["cohort_table"]),


rule compare_pairs:
    input:
        unpack(
            lambda wildcards: plan.compared_tables(
                wildcards.arm, SIBLING_ARMS, BATCHES, simulation_batches()
            )
        ),
    output:
        pairs="<cohort>/comparisons/{arm}.tsv",
        summary="<cohort>/comparisons/{arm}.summary.tsv",
        figure=report(
            "<cohort>/comparisons/{arm}.png",
            category="Figures",
            labels={"figure": "{arm} beside its base"},
        ),
    log:
        "<cohort>/logs/comparisons/{arm}.log",
    conda:
        "../../envs/report.yaml"
    params:
        arm=lambda wildcards: wildcards.arm,
        base=lambda wildcards: SIBLING_ARMS[wildcards.arm]["base"],
        structure=lambda wildcards: SIBLING_ARMS[wildcards.arm]["structure"],
        one_origin=lambda wildcards: plan.one_origin(
            wildcards.arm, plan.arms_of(BATCHES), arms_of_one_target()
        ),
        library=library("compare_pairs.py"),
    message:
        "Comparing the hearts of {wildcards.arm} with those they were made of"
    script:
        "../scripts/compare_pairs.py"


rule verify_solver:
    input:
        "results/verification/land2015.tsv",


rule solve_land2015:
    input:
        published=ancient(LAND2015),
    output:
        table="results/verification/land2015.tsv",
    log:
        "results/verification/logs/land2015.log",
    conda:
        SOLVER_ENV
    threads: SETTINGS["threads"]["simulation"]
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        published_sha256=artifacts.sha256(LAND2015),
        library=library("simulate_land2015.py"),
    message:
        "Solving the three problems of Land et al. (2015)"
    script:
        "../scripts/simulate_land2015.py"
