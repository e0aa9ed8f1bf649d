"""TetGen in a process of its own: `python tetgen_child.py in.npz out.npz`. Owned by meshing.

TetGen can end its process on hard surfaces; `tetrahedra.tetrahedralize` starts this file and judges
what comes back. in.npz: points, facets, min_ratio, min_dihedral, max_volume, megabytes (limit of memory);
out.npz: points, tets.
"""

import resource
import sys

import numpy as np


def main(source: str, target: str) -> None:
    import tetgen  # not where the parent imports this module for its path

    given = np.load(source)
    limit = int(given["megabytes"] * 1e6)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    mesher = tetgen.TetGen(given["points"], given["facets"].astype(np.int32))
    points, tets, *_ = mesher.tetrahedralize(
        plc=True,
        quality=True,
        nobisect=True,
        minratio=float(given["min_ratio"]),
        mindihedral=float(given["min_dihedral"]),
        fixedvolume=True,
        maxvolume=float(given["max_volume"]),
        opt_scheme=7,
        opt_iterations=8,
        optmaxdihedral=160.0,
        quiet=True,
    )
    np.savez(target, points=points, tets=tets)


if __name__ == "__main__":
    main(*sys.argv[1:3])
