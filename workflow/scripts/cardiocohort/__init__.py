"""The library of the workflow, in rooms: subpackages that import from lower floors only.

Units everywhere: mL, mm, mm^2, degrees, kPa. World axes are RAS+ (x grows to the patient's right,
y to the front, z to the head). docs/architecture.md lists every module.
"""

__version__ = "0.2.0"
