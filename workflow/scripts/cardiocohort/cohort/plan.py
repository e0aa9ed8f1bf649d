"""The plan of a cohort: who is in which batch, with which seed and base. Pure; the Snakefile calls it.

A batch is a dict of plain values, since it goes into the `params` of rules. Batches of a cohort table hold
`arm`, `first`, `last`, `seed`, `base_batch`, `base_map` and `base_sha256`; batches of label maps hold
`label_maps`, files by subject. Batches are named `<arm>-<number>`.
"""

from collections.abc import Collection, Iterable, Mapping

from ..anatomy.domains import split
from ..runtime.artifacts import digest
from ..runtime.errors import InputError
from .table import Arm, batches, subject_name

LISTED = 8  # batches that an error lists
MANY_BATCHES = 3000  # of several jobs each
SUFFIXES = {"targets": "parquet", "anatomies": "parquet"}  # of stage tables; the others are TSV
COHORT = "<cohort>"  # Snakemake's name for the folder of the cohort's results


def batches_of_arms(
    arms: Iterable[Arm], batch_size: int, seed: int, base_maps: Mapping[str, tuple[str, str]]
) -> dict[str, dict]:
    """Batches by name. `seed` is that of arms without their own; `base_maps`: file and sha256 by arm."""
    planned = {}
    for arm in arms:
        plain = arm.to_dict()
        if arm.matched:
            plain["matched"]["seed"] = seed if arm.matched.seed is None else arm.matched.seed
        base_map, base_sha256 = base_maps.get(arm.name, (None, None))
        for batch in batches(arm, batch_size):
            number = batch.name.rpartition("-")[2]
            planned[batch.name] = {
                "arm": plain,
                "first": batch.first,
                "last": batch.last,
                "seed": seed if arm.seed is None else arm.seed,
                # batch k of siblings depends on batch k of their base
                "base_batch": arm.base_arm and f"{arm.base}-{number}",
                "base_map": base_map,
                "base_sha256": base_sha256,
            }
    return planned


def many_batches(arms: Iterable[Arm], batch_size: int) -> str:
    """A warning for so many batches that planning them takes minutes; "" for fewer."""
    count = sum(-(-arm.n // batch_size) for arm in arms)
    if count <= MANY_BATCHES:
        return ""
    return (
        f"{count:,} batches of {batch_size} subjects each: Snakemake plans each stage of each of them, which "
        "may take many minutes; set a larger batch_size (docs/cluster.md)"
    )


def batches_of_label_maps(cohort: str, label_maps: Mapping[str, object], batch_size: int) -> dict[str, dict]:
    """Batches by name of the `label_maps` (file by subject) that replace generation, in order of subjects."""
    members = [(subject, str(path)) for subject, path in sorted(label_maps.items())]
    return {
        f"{cohort}-{number:04d}": {"label_maps": dict(members[first : first + batch_size])}
        for number, first in enumerate(range(0, len(members), batch_size))
    }


def arm_of(batch_name: str) -> str:
    """Name of the arm of a batch."""
    return batch_name.rpartition("-")[0]


def subjects_of(batch: Mapping) -> list[str]:
    """Names of a batch's subjects."""
    if "label_maps" in batch:
        return list(batch["label_maps"])
    return [subject_name(batch["arm"]["name"], i) for i in range(batch["first"], batch["last"] + 1)]


def batch_named(name: str, planned: Mapping[str, dict], cohort: str) -> dict:
    """The batch of this name; InputError that lists the batches of `cohort` if there is none."""
    if name not in planned:
        names = list(planned)
        more = f" ... {names[-1]}, {len(names)} in all" if len(names) > LISTED else ""
        raise InputError(
            f"{name!r} is no batch of cohort {cohort!r}; its batches: " + ", ".join(names[:LISTED]) + more
        )
    return planned[name]


def simulation_batches(planned: Mapping[str, dict], size: int) -> dict[str, dict[str, list[str]]]:
    """Simulation batches of `size` subjects by name: `subjects`, and the batches `meshes` that hold them.

    They are numbered within an arm, as other batches are.
    """
    members: dict[str, list[tuple[str, str]]] = {}
    for name, batch in planned.items():
        members.setdefault(arm_of(name), []).extend((subject, name) for subject in subjects_of(batch))
    return {
        f"{arm}-{number:04d}": {
            "subjects": [subject for subject, _ in pairs[first : first + size]],
            "meshes": sorted({name for _, name in pairs[first : first + size]}),
        }
        for arm, pairs in members.items()
        for number, first in enumerate(range(0, len(pairs), size))
    }


def simulations_of(batches: Mapping[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Names of the simulation batches (`simulation_batches`) with hearts of each batch of meshes."""
    found: dict[str, list[str]] = {}
    for name, batch in batches.items():
        for meshes in batch["meshes"]:
            found.setdefault(meshes, []).append(name)
    return found


def stage_tables(stage: str, names: Iterable[str], folders: Iterable[str] = (COHORT,)) -> list[str]:
    """The tables of a stage: one per folder and batch name."""
    suffix = SUFFIXES.get(stage, "tsv")
    return [f"{folder}/{stage}/{name}.{suffix}" for folder in folders for name in names]


def base_inputs(batch: Mapping, stages: Iterable[str]) -> dict[str, str]:
    """Input files from the base of a batch of siblings: `base_map`, or tables `base_<stage>` of its batch."""
    if batch["base_map"]:
        return {"base_map": batch["base_map"]}
    if not batch["base_batch"]:
        return {}
    return {f"base_{stage}": stage_tables(stage, [batch["base_batch"]])[0] for stage in stages}


def comparisons(siblings: Mapping[str, dict], cohort_table: str) -> list[str]:
    """The tables of every arm of siblings beside its base; InputError where the cohort has no such arm."""
    if not siblings:
        raise InputError(
            f"{cohort_table}: no arm has another arm as its base, so there are no pairs to compare; fill in "
            "the column 'base' (docs/cohort-table.md)"
        )
    return [f"{COHORT}/comparisons/{arm}.tsv" for arm in siblings]


def compared_tables(
    arm: str, siblings: Mapping[str, dict], batches: Iterable[str], simulations: Iterable[str]
) -> dict[str, list[str]]:
    """Tables `simulations` and `anatomies` of an arm of siblings and, with the prefix `base_`, of its base.

    `batches` and `simulations` are the names of all batches and of all simulation batches.
    """
    arms = {"": arm, "base_": siblings[arm]["base"]}
    stages = {"simulations": simulations, "anatomies": batches}
    return {
        f"{prefix}{stage}": stage_tables(stage, [name for name in names if arm_of(name) == own])
        for prefix, own in arms.items()
        for stage, names in stages.items()
    }


def arms_of(planned: Mapping[str, dict]) -> dict[str, dict]:
    """Arms (`Arm.to_dict()`) by name; none in a plan of label maps."""
    return {batch["arm"]["name"]: batch["arm"] for batch in planned.values() if "arm" in batch}


def sizes_of(planned: Mapping[str, dict]) -> dict[str, int]:
    """Requested subjects of each arm."""
    sizes: dict[str, int] = {}
    for name, batch in planned.items():
        sizes[arm_of(name)] = sizes.get(arm_of(name), 0) + len(subjects_of(batch))
    return sizes


def check_arms(named: Iterable[str], planned: Mapping[str, dict], where: str) -> None:
    """InputError for the first name that is no arm of the plan; where: the config key that has the names."""
    arms = arms_of(planned)
    for name in named:
        if name not in arms:
            allowed = ", ".join(arms) or "none, since hearts come from label maps"
            raise InputError(
                f"config key '{where}': {name!r} is no arm of the cohort table; allowed: {allowed}"
            )


def levels_of_arms(planned: Mapping[str, dict], column: str) -> dict[str, tuple[str, ...]]:
    """Levels of a covariate that each arm's subjects can have; none where nothing says so.

    They are an arm's own, else those of the arm that it is matched with or made from.
    """
    arms = arms_of(planned)

    def levels(arm: Mapping) -> tuple[str, ...]:
        if column in arm["covariates"]:
            return Arm.from_dict(arm).covariates[column].levels
        other = arm["matched"] or arms.get(arm["base"])
        return levels(other) if other else ()

    return {name: levels(arm) for name, arm in arms.items()}


def arms_without_base(planned: Mapping[str, dict]) -> list[str]:
    """Names of the arms that explicit targets can be for: siblings have the moments of their base."""
    return [name for name, arm in arms_of(planned).items() if not arm["base"]]


def sibling_arms(planned: Mapping[str, dict]) -> dict[str, dict[str, str]]:
    """Arms whose base is another arm, by name: the `base`, and the `structure` that they edit first, in
    whole or in part.
    """
    arms = arms_of(planned)
    return {
        name: {"base": arm["base"], "structure": split(arm["edits"][0]["structure"].split("/")[0])[0]}
        for name, arm in arms.items()
        if arm["base"] in arms
    }


def one_origin(arm: str, arms: Mapping[str, Mapping], shared: Collection[str]) -> str:
    """Why the hearts of an arm count as one in statistics, as the end of a sentence; "" where they do not.

    arms: `Arm.to_dict()` by name. shared: arms whose subjects all have the same explicit targets.
    """
    while (base := arms[arm]["base"]) in arms:
        arm = base
    if base:
        return f"descend from one label map file ({base})"
    return "have the same explicit targets" if arm in shared else ""


def verified_index(name: str, batch: Mapping) -> int:
    """Position in its arm, or among its label maps, of the subject of a batch that `verify` recomputes.

    Any subject will do, but it is always the same one.
    """
    first, n = (0, len(batch["label_maps"])) if "label_maps" in batch else _range_of(batch)
    return first + int(digest(name)[:8], 16) % n


def verified_subject(name: str, batch: Mapping) -> str:
    """Name of the subject of a batch that `verify` recomputes."""
    index = verified_index(name, batch)
    if "label_maps" in batch:
        return sorted(batch["label_maps"])[index]
    return subject_name(batch["arm"]["name"], index)


def _range_of(batch: Mapping) -> tuple[int, int]:
    return batch["first"], batch["last"] - batch["first"] + 1
