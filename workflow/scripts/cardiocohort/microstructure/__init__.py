"""Rule-based fibre directions on a biventricular mesh. Owned by the meshing stage."""

from .rule import FibreAngles, add_fibres

__all__ = ["FibreAngles", "add_fibres"]
