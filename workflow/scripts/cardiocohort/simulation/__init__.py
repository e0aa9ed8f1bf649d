"""Passive inflation of both ventricles in a finite element solver (NGSolve). Owned by the simulation stage.

`problem` states the equations, `elements` evaluates them, `factors` and `newton` solve them, `continuation`
raises the load, `subject` is one heart's run from mesh to tables, `land2015` holds the published problems
that the solver is verified on.
"""
