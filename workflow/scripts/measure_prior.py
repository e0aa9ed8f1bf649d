"""Rule measure_prior: the figures of the card, on held-out hearts, a left-out template, unguided samples."""

from pathlib import Path

import numpy as np
import pandas as pd

from cardiocohort import topology
from cardiocohort.anatomy.bundle_metadata import read_anatomy
from cardiocohort.anatomy.label_map import read_label_map, to_grid
from cardiocohort.diffusion.bundle import load_prior
from cardiocohort.diffusion.networks import Autoencoder, NetworkSettings
from cardiocohort.prior import figures, model_card, training
from cardiocohort.runtime import artifacts, script
from cardiocohort.runtime.outcomes import Outcome


def main(snakemake):
    inputs, p, out = snakemake.input, snakemake.params, snakemake.output
    prior = load_prior(Path(inputs.bundle).parent, "cpu")
    anatomy, _ = read_anatomy(inputs.anatomy)
    rules = topology.load_rules(inputs.rules, anatomy)
    hearts = pd.read_csv(inputs.hearts, sep="\t", keep_default_na=False)
    hearts = hearts[hearts["verdict"] == Outcome.ACCEPTED].set_index("subject")

    def read(rows):
        return {
            s: read_label_map(Path(inputs.hearts).parent / "hearts" / f, anatomy).labels
            for s, f in rows["file"].items()
        }

    held_out = read(hearts[hearts["split"] == "held_out"])
    train = list(read(hearts[hearts["split"] == "train"]).values())
    reconstructed = {
        s: model_card.reconstruct(prior.autoencoder, labels, anatomy.n_channels)
        for s, labels in held_out.items()
    }
    samples = model_card.unguided(prior, p.samples, p.seed)
    unguided = model_card.gate_table(samples, prior, rules)
    kept = model_card.gate_table(list(reconstructed.values()), prior, rules)
    result = {
        "weights_sha256": prior.card["weights_sha256"],
        "held_out_hearts": len(held_out),
        "reconstruction_dice_held_out": model_card.mean_dice(held_out, reconstructed, anatomy),
        "reconstruction_pass_share": float(kept["repaired"].mean()),
        "reconstruction_reasons": kept.loc[~kept["repaired"], "reasons"].tolist(),
        "unguided_samples": p.samples,
        "unguided_pass_share": float(unguided["raw"].mean()),
        "unguided_pass_share_after_repairs": float(unguided["repaired"].mean()),
        "unguided_reasons": unguided.loc[~unguided["repaired"], "reasons"].tolist(),
        "nearest_training_dice_samples": _quartiles(model_card.nearest_dice(samples, train, anatomy)),
        "nearest_training_dice_held_out": _quartiles(
            model_card.nearest_dice(list(held_out.values()), train, anatomy)
        ),
    }
    if p.leave_out:
        left = Autoencoder(NetworkSettings(**p.networks))
        training.load_network(Path(inputs.left_out), left)
        templates = {
            Path(t).name.split(".")[0]: to_grid(read_label_map(t, anatomy), prior.grid).labels
            for t in inputs.templates
        }
        deformed = read(hearts[hearts["origin"].isin(p.leave_out) & (hearts["split"] == "held_out")])
        for name, unseen in (("left_out", templates), ("left_out_deformed", deformed)):
            again = {
                s: model_card.reconstruct(left, labels, anatomy.n_channels) for s, labels in unseen.items()
            }
            result[f"reconstruction_dice_{name}"] = model_card.mean_dice(unseen, again, anatomy)
    artifacts.write_text(out.card, artifacts.readable_json(result))
    artifacts.write_text(out.page, model_card.markdown(result, prior.card))
    pairs = [m for s in list(held_out)[:4] for m in (held_out[s], reconstructed[s])]
    titles = ["held out", "reconstruction"] * (len(pairs) // 2)
    figures.write_slices(pairs, titles, out.reconstructions, anatomy)
    figures.write_slices(samples[:8], [f"sample {i}" for i in range(len(samples[:8]))], out.samples, anatomy)


def _quartiles(values: np.ndarray) -> dict[str, float]:
    return {f"q{q}": float(np.percentile(values, q).round(4)) for q in (25, 50, 75, 100)}


if __name__ == "__main__":
    script.run(main, snakemake)
