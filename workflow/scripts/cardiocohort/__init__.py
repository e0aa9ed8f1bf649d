"""The library of the workflow, in rooms: subpackages that import from lower floors only.

Units everywhere: mL, mm, mm^2, degrees, kPa. World axes are RAS+ (x grows to the patient's right,
y to the front, z to the head). docs/architecture.md lists every module.

The public functions (`__all__`) are in `api`, and the errors that they raise in `runtime.errors`. The first
use of one loads its module, because the Snakefile imports this package.
"""

from importlib import import_module

__version__ = "0.2.0"

__all__ = [
    "InputError",
    "SubjectError",
    "check_heart",
    "draw_targets",
    "heart_grid",
    "load_prior",
    "mean_heart",
    "measure_heart",
    "mesh_heart",
    "sample_heart",
]


def __getattr__(name: str):
    if name in __all__:
        module = "runtime.errors" if name.endswith("Error") else "api"
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
