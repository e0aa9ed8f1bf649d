"""Library behind the virtual-heart cohort workflow: one module or subpackage a stage.

Units everywhere: mL, mm, mm^2, degrees, kPa. World axes are RAS+ (x grows to the patient's right,
y to the front, z to the head). docs/architecture.md has the map.
"""

__version__ = "0.2.0"
