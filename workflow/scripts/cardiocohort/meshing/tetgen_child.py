"""TetGen in a process of its own: `python tetgen_child.py in.npz out.npz`. Owned by meshing.

TetGen can end its process on hard surfaces; `tetrahedra.tetrahedralize` starts this file and judges
what comes back. in.npz: points, facets, min_ratio, min_dihedral, max_volume, megabytes (limit of memory),
fine (R, 4): a point in each region with smaller tetrahedra, and their largest volume;
out.npz: points, tets. Exit status REFUSED: the surface cannot be filled; other failures are not its own.
"""

import resource
import sys

import numpy as np

REFUSED = 3


def main(source: str, target: str) -> None:
    import tetgen  # not where the parent imports this module for its path

    given = np.load(source)
    limit, (_, most) = int(given["megabytes"] * 1e6), resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:  # a site may allow less
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        points, tets = fill(tetgen, given)
    except (RuntimeError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    np.savez(target, points=points, tets=tets)


def fill(tetgen, given) -> tuple[np.ndarray, np.ndarray]:
    mesher = tetgen.TetGen(given["points"], given["facets"].astype(np.int32))
    for number, (*point, volume) in enumerate(given["fine"].tolist(), 1):
        mesher.add_region(number, point, volume)
    has_regions = len(given["fine"]) > 0
    points, tets, *_ = mesher.tetrahedralize(
        plc=True,
        quality=True,
        nobisect=True,
        minratio=float(given["min_ratio"]),
        mindihedral=float(given["min_dihedral"]),
        fixedvolume=True,
        maxvolume=float(given["max_volume"]),
        varvolume=has_regions,
        regionattrib=has_regions,  # without it TetGen does not read the volumes of regions
        opt_scheme=7,
        opt_iterations=8,
        optmaxdihedral=160.0,
        quiet=True,
    )
    return points, tets


if __name__ == "__main__":
    main(*sys.argv[1:3])
