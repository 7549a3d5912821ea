"""Fits the weights of src/context/ranking/fittedWeights.json to examples of `tidepool bench context --examples FILE`.

    python3 scripts/fitContextWeights.py EXAMPLES… [--hidden 24] [--epochs 30]

Every fifth repository is held out to choose the epoch. Needs numpy.
"""
import argparse
import json
import re
from pathlib import Path

import numpy as np

RANKING = Path(__file__).resolve().parent.parent / "src" / "context" / "ranking"
VOTES = 18  # features that are there before a candidate's definition is looked at; they stand first
IDS = 4  # repository, position, asked for, candidates that the row stands for


def names_of(file, constant):
    text = (RANKING / file).read_text()
    return re.findall(r'"(\w+)"', re.search(constant + r" = \[(.*?)\] as const", text, re.S)[1])


class Examples:
    """Rows sorted by position, with the place where each position begins."""

    def __init__(self, rows, places):
        keep = np.isin(rows[:, 1], np.unique(rows[rows[:, 2] == 1, 1]))
        rows = rows[keep]
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        self.label = rows[:, 2]
        self.log_weight = np.log(rows[:, 3])
        self.features = rows[:, IDS + places :]
        _, self.starts, self.segment = np.unique(rows[:, 1], return_index=True, return_inverse=True)
        self.place = rows[self.starts, IDS : IDS + places]
        self.ends = np.append(self.starts[1:], len(rows))

    def batch(self, positions):
        rows = np.concatenate([np.arange(self.starts[i], self.ends[i]) for i in positions])
        lengths = self.ends[positions] - self.starts[positions]
        starts = np.append(0, np.cumsum(lengths)[:-1])
        segment = np.repeat(np.arange(len(positions)), lengths)
        return rows, starts, segment, self.place[positions]


def forward(model, examples, rows, segment, place):
    features = examples.features[rows]
    hidden = features @ model["hiddenOfFeature"] + (place @ model["hiddenOfPlace"] + model["hiddenBias"])[segment]
    active = np.maximum(hidden, 0)
    score = active @ model["outOfHidden"] + features @ model["outOfFeature"]
    return features, active, score


def loss_and_error(examples, rows, starts, segment, score):
    """Cross-entropy of what was asked for among all candidates of its position, and its gradient by the scores."""
    logit = score + examples.log_weight[rows]
    logit -= np.maximum.reduceat(logit, starts)[segment]
    exp = np.exp(logit)
    share = exp / np.add.reduceat(exp, starts)[segment]
    label = examples.label[rows]
    wanted = np.add.reduceat(label, starts)
    target = label / wanted[segment]
    loss = -(target * np.log(share + 1e-12)).sum() / len(starts)
    return loss, (share - target) / len(starts)


def fit(train, held, hidden, epochs, seed=0):
    random = np.random.default_rng(seed)
    places, features = train.place.shape[1], train.features.shape[1]
    model = {
        "hiddenOfPlace": random.normal(0, 0.2, (places, hidden)),
        "hiddenOfFeature": random.normal(0, 0.2, (features, hidden)),
        "hiddenBias": np.zeros(hidden),
        "outOfHidden": random.normal(0, 0.2, hidden),
        "outOfFeature": np.zeros(features),
    }
    model["hiddenOfPlace"][~train.place.any(0)] = 0
    model["hiddenOfFeature"][~train.features.any(0)] = 0
    model = {key: value.astype(np.float32) for key, value in model.items()}
    first = {key: np.zeros_like(value) for key, value in model.items()}
    second = {key: np.zeros_like(value) for key, value in model.items()}
    best, best_model, step = np.inf, None, 0
    for epoch in range(epochs):
        rate = 0.006 * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) + 1e-4
        order = random.permutation(len(train.starts))
        total = 0.0
        for at in range(0, len(order), 64):
            positions = order[at : at + 64]
            rows, starts, segment, place = train.batch(positions)
            x, active, score = forward(model, train, rows, segment, place)
            loss, error = loss_and_error(train, rows, starts, segment, score)
            total += loss * len(positions)
            error = error.astype(np.float32)
            back = np.outer(error, model["outOfHidden"]) * (active > 0)
            back_place = np.add.reduceat(back, starts)
            gradient = {
                "outOfFeature": x.T @ error,
                "outOfHidden": active.T @ error,
                "hiddenOfFeature": x.T @ back,
                "hiddenOfPlace": place.T @ back_place,
                "hiddenBias": back.sum(0),
            }
            step += 1
            for key, value in gradient.items():
                value = value + 3e-5 * model[key]
                first[key] = 0.9 * first[key] + 0.1 * value
                second[key] = 0.99 * second[key] + 0.01 * value * value
                model[key] -= rate * (first[key] / (1 - 0.9**step)) / (
                    np.sqrt(second[key] / (1 - 0.99**step)) + 1e-8
                )
        rows, starts, segment, place = held.batch(np.arange(len(held.starts)))
        _, _, score = forward(model, held, rows, segment, place)
        loss, _ = loss_and_error(held, rows, starts, segment, score)
        print(f"epoch {epoch + 1}: fitted {total / len(order):.4f}, held out {loss:.4f}", flush=True)
        if loss < best:
            best, best_model = loss, {key: value.copy() for key, value in model.items()}
    return best_model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("examples", nargs="+")
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    places, features = names_of("place.ts", "placeNames"), names_of("features.ts", "featureNames")
    parts = []
    for file in options.examples:
        part = np.fromfile(file, np.float32).reshape(-1, IDS + len(places) + len(features))
        if parts:
            part[:, :2] += parts[-1][:, :2].max(0) + 1
        parts.append(part)
    rows = np.concatenate(parts)
    is_held = rows[:, 0] % 5 == 2
    train, held = Examples(rows[~is_held], len(places)), Examples(rows[is_held], len(places))
    print(f"{len(train.starts)} positions to fit, {len(held.starts)} held out", flush=True)
    model = fit(train, held, options.hidden, options.epochs)
    for examples in (train, held):
        examples.features = examples.features[:, :VOTES]
    print("screening", flush=True)
    model["screen"] = fit(train, held, 0, 5)["outOfFeature"]
    out = {"hidden": options.hidden, "places": places, "features": features}
    for key, value in model.items():
        out[key] = [round(float(number), 3) for number in value.ravel()]
    (RANKING / "fittedWeights.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
