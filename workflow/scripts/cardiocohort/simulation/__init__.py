"""Inflation and beats of both ventricles in a finite element solver (NGSolve). Owned by the simulation stage.

`problem` states the equations, `elements` evaluates them, `factors` and `newton` solve them, `continuation`
raises the load, `unloading` finds the stress-free geometry, `subject` is one heart's run from mesh to tables,
`land2015` holds the published problems that the solver is verified on. A beat: `active` is the tension,
`circulation` the blood outside, `beat` couples them in time, `beats` goes on until they repeat themselves.
"""
