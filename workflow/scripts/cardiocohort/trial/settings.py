"""The config section `endpoints`. Owned by the trial stage; light: the Snakefile imports it."""

from dataclasses import dataclass

from ..runtime.keys import key, schema_of


@dataclass(frozen=True)
class Hypothesis:
    """How an endpoint is tested: test, margin, unit."""

    test: str = key(
        "superiority",
        "superiority: the arm differs from the reference arm by more than `margin`; equivalence: by less.",
        enum=["superiority", "equivalence"],
    )
    margin: float = key(
        0.0,
        "In the unit of the column. superiority: 0 tests for any difference, a positive margin for an arm "
        "that is larger by more than it, a negative one for an arm that is smaller. equivalence: above 0.",
        minimum=-1e9,
        maximum=1e9,
    )
    unit: str | None = key(None, "Unit of the margin, which must be the column's (subjects.schema.json).")


OF_A_COLUMN = schema_of(Hypothesis, " ".join(Hypothesis.__doc__.split()))
COLUMNS_OF = (
    "columns of subjects.tsv, each with `test` (superiority or equivalence), `margin` and `unit`; "
    "`{}` tests for any difference"
)


@dataclass(frozen=True)
class Endpoints:
    """The config section `endpoints`."""

    primary: dict = key(
        {},
        f"Primary endpoints: {COLUMNS_OF}. Their p values are adjusted together (Holm).",
        additionalProperties=OF_A_COLUMN,
    )
    secondary: dict = key(
        {}, f"Secondary endpoints: {COLUMNS_OF}. Not adjusted.", additionalProperties=OF_A_COLUMN
    )
    reference_arm: str | None = key(
        None, "The arm that every other arm is compared with; null takes the first arm.", minLength=1
    )
    adjust_for: list = key(
        ["age_years", "bsa_m2", "sex"],
        "Covariates of the adjusted contrast of unpaired arms. Those that the hearts do not differ in, or "
        "that are not known, are left out.",
        items={"type": "string", "minLength": 1, "description": "column of a covariate"},
        uniqueItems=True,
    )
    alpha: float = key(0.05, "Two-sided error rate of the tests.", exclusiveMinimum=0, exclusiveMaximum=0.5)
    power: float = key(0.8, "Power that sample sizes are given for.", exclusiveMinimum=0, exclusiveMaximum=1)
    resamples: int = key(
        1000, "Resampled trials behind every point of a power curve.", minimum=100, maximum=100000
    )
    seed: int = key(1, "Seed of the resamples.", minimum=0, maximum=9007199254740991)
