"""NGSolve, loaded so that PyTorch in the same process is not harmed. Owned by the simulation stage.

NGSolve's wheel makes its OpenBLAS that of every library loaded later. PyTorch would take it for its own (MKL)
and crash in batched products, so that PyTorch, where it is installed, is loaded first.
"""

import importlib.util

if importlib.util.find_spec("torch"):
    importlib.import_module("torch")  # this stage has no other use for it: its own environment lacks it

import ngsolve as ng

__all__ = ["ng"]
