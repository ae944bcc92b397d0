"""Evidence and confidence beyond the plain mean and its largest probability, learned on some samples of records.

Evidence of the stages seen so far: their mean; a mean with learned weights; a product of powers (a weighted mean of
log probabilities, renormalised), also with one learned offset per class. Confidence: the largest probability, the
margin between the two largest, the entropy, or a logistic gate that predicts whether leaving is as right as the final.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from dynamic_exit.records import Records
from dynamic_exit.search.outcomes import OutcomeCache

# below it a probability says nothing more against a class; between 0.003 and 0.05 it hardly matters
FLOOR = np.float32(0.01)
# what the learned powers of log probabilities sum to, more or less: for the search of chains, which learns none
_POWER = 1.2
_FOLDS = 4
_EM_STEPS = 30
_OFFSET_STEPS = 8
_OFFSET_PENALTY = 3.0
_CLASS_PENALTY = 10.0

Stages = tuple[int, ...]


class Pool:
    """The kept classes of records, side by side: what each stage gives to the classes that another one keeps.

    Args:
        records: The records.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.truth = records.truth
        self.classes = 1 + int(max(self.truth.max(), records.topk_classes.max()))
        self._pairs: dict[tuple[int, int], np.ndarray] = {}

    def take(self, rows: np.ndarray) -> "Pool":
        """Return the pool of some samples, integers (n,)."""
        return Pool(self.records.take(rows))

    def _pair(self, one: int, other: int) -> np.ndarray:
        # float32 (N, K): the other's probabilities of the one's classes, 0 where it did not keep them
        if (one, other) not in self._pairs:
            # a kept class is never worth exactly nothing, so that 0 means not kept
            share = np.maximum(self.records.topk_probabilities[other], np.float32(1e-8))
            wanted, known = self.records.topk_classes[one], self.records.topk_classes[other]
            found = np.zeros(wanted.shape, dtype=np.float32)
            for k in range(self.records.kept):
                found += np.where(wanted == known[:, k : k + 1], share[:, k : k + 1], np.float32(0))
            self._pairs[one, other] = found
        return self._pairs[one, other]

    def candidates(self, seen: Stages) -> "Candidates":
        """Return every class that one of the stages seen keeps."""
        shares = np.stack([np.concatenate([self._pair(s, t) for s in seen], axis=1) for t in seen])
        kept = self.records.kept
        new = np.ones(shares.shape[1:], dtype=bool)
        for place in range(1, len(seen)):
            part = slice(kept * place, kept * (place + 1))
            new[:, part] = ~(shares[:place, :, part] > 0).any(axis=0)
        classes = np.concatenate([self.records.topk_classes[s] for s in seen], axis=1)
        return Candidates(shares, classes, new, (classes == self.truth[:, None]) & new, self.classes)


@dataclass(frozen=True)
class Candidates:
    """The candidate classes of N samples under m stages; C = m times kept.

    Attributes:
        shares: float32 (m, N, C); each stage's probability of each candidate.
        classes: int32 (N, C).
        new: bool (N, C); False where a class comes again.
        hit: bool (N, C); the right class, at most once a row.
        total: How many classes there are.
    """

    shares: np.ndarray
    classes: np.ndarray
    new: np.ndarray
    hit: np.ndarray
    total: int

    def logs(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """float32 (m, n, C): the floored log probabilities."""
        return np.log(self.shares[:, rows] + FLOOR)


@dataclass(frozen=True)
class Evidence:
    """A distribution over the candidates of n samples.

    Attributes:
        share: float32 (n, C); 0 where a class comes again.
        rest: float32 (n,); what all other classes share.
    """

    share: np.ndarray
    rest: np.ndarray


def mean_evidence(candidates: Candidates, rows: np.ndarray | slice, weights: np.ndarray) -> Evidence:
    """Return the weighted mean of the stages' probabilities; float32 (m,) weights that sum to 1."""
    share = np.tensordot(weights, candidates.shares[:, rows], 1) * candidates.new[rows]
    return Evidence(share, np.maximum(1 - share.sum(axis=1), 0))


def product_evidence(
    candidates: Candidates, rows: np.ndarray | slice, powers: np.ndarray, offsets: np.ndarray | None = None
) -> Evidence:
    """Return the product of the stages' floored probabilities to some powers, times exp(offset of the class)."""
    powers = powers.astype(np.float32)
    return _softmax(np.tensordot(powers, candidates.logs(rows), 1), candidates, rows, powers, offsets)


def _softmax(
    utility: np.ndarray,
    candidates: Candidates,
    rows: np.ndarray | slice,
    powers: np.ndarray,
    offsets: np.ndarray | None,
) -> Evidence:
    new = candidates.new[rows]
    if offsets is not None:
        utility = utility + offsets[candidates.classes[rows]]
    top = utility.max(axis=1, keepdims=True)
    raw = np.exp(utility - top) * new
    # a class that nobody kept has the floor's probability at every stage
    rest = (candidates.total - new.sum(axis=1)) * np.exp(powers.sum() * np.log(FLOOR) - top[:, 0])
    whole = raw.sum(axis=1) + rest
    return Evidence((raw / whole[:, None]).astype(np.float32), (rest / whole).astype(np.float32))


def learn_weights(candidates: Candidates, rows: np.ndarray) -> np.ndarray:
    """Learn the weights of a mean: expectation maximisation of the right class's likelihood; float32 (m,)."""
    given = np.stack([(share[rows] * candidates.hit[rows]).sum(axis=1) for share in candidates.shares])
    # what a stage did not keep shares what is left
    given = np.maximum(given, 1e-4)
    weights = np.full(len(given), 1 / len(given))
    for _ in range(_EM_STEPS):
        part = weights[:, None] * given
        weights = (part / part.sum(axis=0)).mean(axis=1)
    return weights.astype(np.float32)


def learn_powers(candidates: Candidates, rows: np.ndarray, penalty: float = 1e-3) -> np.ndarray:
    """Learn the powers of a product: a conditional logit on floored log probabilities; float32 (m,)."""
    known = rows[candidates.hit[rows].any(axis=1)]
    logs, hit = candidates.logs(known), candidates.hit[known]
    never = np.where(candidates.new[known], np.float32(0), np.float32(-np.inf))

    def loss(powers: np.ndarray) -> tuple[float, np.ndarray]:
        utility = np.tensordot(powers.astype(np.float32), logs, 1) + never
        top = utility.max(axis=1, keepdims=True)
        raw = np.exp(utility - top)
        whole = raw.sum(axis=1, keepdims=True)
        value = float((np.log(whole[:, 0]) + top[:, 0] - utility[hit]).mean(dtype=np.float64))
        slope = np.array([((raw / whole - hit) * log).sum(dtype=np.float64) for log in logs]) / len(known)
        return value + penalty * float(powers @ powers), slope + 2 * penalty * powers

    start = np.full(len(logs), _POWER / len(logs))
    return minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-7}).x.astype(np.float32)


def learn_offsets(candidates: Candidates, rows: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Learn one offset per class on top of a product: penalised diagonal Newton steps; float32 (classes,)."""
    # where the right class is no candidate, all of them would be pushed down
    known = rows[candidates.hit[rows].any(axis=1)]
    utility = np.tensordot(powers, candidates.logs(known), 1)
    classes = candidates.classes[known].ravel()
    seen = np.bincount(classes, weights=candidates.hit[known].ravel(), minlength=candidates.total)
    offsets = np.zeros(candidates.total, dtype=np.float32)
    for _ in range(_OFFSET_STEPS):
        share = _softmax(utility, candidates, known, powers, offsets).share
        share /= share.sum(axis=1, keepdims=True)
        given = np.bincount(classes, weights=share.ravel(), minlength=candidates.total)
        curve = np.bincount(classes, weights=(share * (1 - share)).ravel(), minlength=candidates.total)
        step = (seen - given - 2 * _OFFSET_PENALTY * offsets) / (curve + 2 * _OFFSET_PENALTY)
        offsets = (offsets + step).astype(np.float32)
    return offsets


@dataclass(frozen=True)
class Answers:
    """What a stage's evidence says about N samples.

    Attributes:
        prediction: int32 (N,).
        right: bool (N,).
        top: float32 (N, 3); the three largest probabilities, falling.
        entropy: float32 (N,); in nats.
        own: float32 (m, N); each stage's own probability of the prediction.
    """

    prediction: np.ndarray
    correct: np.ndarray
    top: np.ndarray
    entropy: np.ndarray
    own: np.ndarray


def answers(candidates: Candidates, found: Evidence) -> Answers:
    """Return the answers that evidence on all samples gives."""
    row = np.arange(len(found.share))
    best = found.share.argmax(axis=1)
    top = -np.sort(np.partition(-found.share, 2, axis=1)[:, :3], axis=1)
    others = np.maximum(candidates.total - candidates.new.sum(axis=1), 1)
    entropy = -(found.share * np.log(found.share + 1e-12)).sum(axis=1) - found.rest * np.log(
        found.rest / others + 1e-12
    )
    return Answers(
        candidates.classes[row, best], candidates.hit[row, best], np.abs(top), entropy, candidates.shares[:, row, best]
    )


def learned_answers(
    kind: str, candidates: Candidates, learn: np.ndarray, report: np.ndarray, fold: np.ndarray
) -> Answers:
    """Learn evidence on some rows. Offsets of a row to learn on come from other folds; weights and powers are too few.

    Args:
        kind: ``mean``, ``weighted mean``, ``product`` or ``product+offsets``.
        candidates: The candidates of all samples.
        learn: integers (n,); rows whose labels may be used.
        report: integers; all other rows.
        fold: integers (n,); the fold of each row to learn on.

    Returns:
        The answers on all samples.
    """
    everyone, stages = slice(None), len(candidates.shares)
    if kind == "mean":
        return answers(candidates, mean_evidence(candidates, everyone, np.full(stages, 1 / stages, dtype=np.float32)))
    if kind == "weighted mean":
        return answers(candidates, mean_evidence(candidates, everyone, learn_weights(candidates, learn)))
    powers = learn_powers(candidates, learn)
    if kind == "product":
        return answers(candidates, product_evidence(candidates, everyone, powers))
    share = np.zeros(candidates.new.shape, dtype=np.float32)
    rest = np.zeros(len(share), dtype=np.float32)
    for known, wanted in _parts(learn, report, fold):
        offsets = learn_offsets(candidates, known, powers)
        found = product_evidence(candidates, wanted, powers, offsets)
        share[wanted], rest[wanted] = found.share, found.rest
    return answers(candidates, Evidence(share, rest))


def _parts(learn: np.ndarray, report: np.ndarray, fold: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    # (rows to learn on, rows to apply to): each fold from the others, the report from all
    return [(learn, report), *((learn[fold != f], learn[fold == f]) for f in range(_FOLDS))]


def folds(count: int, seed: int) -> np.ndarray:
    """Return a random fold for each of some samples."""
    return np.random.default_rng(seed).permutation(count) % _FOLDS


def plain_confidence(kind: str, given: Answers, classes: int = 1000) -> np.ndarray:
    """Return ``top-1``, ``margin`` or ``entropy`` as a confidence, float32 (N,) in 0..1."""
    if kind == "entropy":
        return np.clip(1 - given.entropy / np.log(classes), 0, 1).astype(np.float32)
    value = given.top[:, 0] - given.top[:, 1] if kind == "margin" else given.top[:, 0]
    return np.clip(value, 0, 1).astype(np.float32)


def gate_confidence(
    kind: str,
    given: Answers,
    final: Answers,
    own_top: np.ndarray,
    learn: np.ndarray,
    report: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """Return the score of a logistic gate: the probability that leaving is at least as right as the final.

    Args:
        kind: What it looks at: ``class``: the top-1 probability and how often this predicted class was right;
            ``agreement``: the top-1 probability and which stages answer alike; ``gate``: these, the margin, the
            entropy, the next probabilities and every stage's own.
        given: The stage's answers.
        final: The final's answers, by its own evidence.
        own_top: int32 (m, N); the classes that the stages seen answer by themselves.
        learn: integers (n,); rows whose labels may be used.
        report: integers; all other rows.
        fold: integers (n,); the fold of each row to learn on: its score is learned on the others.

    Returns:
        float32 (N,) in 0..1.
    """
    wanted = given.correct >= final.correct
    features = _features(kind, given, own_top)
    score = np.zeros(len(wanted), dtype=np.float32)
    for known, rows in _parts(learn, report, fold):
        x, new = features[known], features[rows]
        if kind != "agreement":
            x = np.column_stack([x, _class_rates(given, wanted, known, known, own=True)])
            new = np.column_stack([new, _class_rates(given, wanted, known, rows, own=False)])
        middle, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
        if wanted[known].all():
            score[rows] = 1
            continue
        model = LogisticRegression(C=1.0, max_iter=200).fit((x - middle) / spread, wanted[known])
        score[rows] = model.predict_proba((new - middle) / spread)[:, 1]
    return score


def _features(kind: str, given: Answers, own_top: np.ndarray) -> np.ndarray:
    log_odds = np.log(given.top + 1e-3) - np.log(1 - given.top + 1e-3)
    agree = [(top == given.prediction).astype(np.float32) for top in own_top]
    if kind == "class":
        return log_odds[:, :1]
    if kind == "agreement":
        return np.column_stack([log_odds[:, :1], *agree])
    margin = given.top[:, 0] - given.top[:, 1]
    return np.column_stack([log_odds, margin, given.top[:, 0], given.entropy, *np.log(given.own + FLOOR), *agree])


def _class_rates(given: Answers, wanted: np.ndarray, known: np.ndarray, rows: np.ndarray, own: bool) -> np.ndarray:
    # per predicted class how often it was right, and as right as the final, drawn to the mean; without the row itself
    columns = []
    classes = 1 + int(given.prediction.max())
    count = np.bincount(given.prediction[known], minlength=classes)
    for value in (given.correct, wanted):
        mean = value[known].mean()
        total = np.bincount(given.prediction[known], weights=value[known], minlength=classes)
        of = given.prediction[rows]
        less = value[rows] if own else 0.0
        columns.append((total[of] - less + _CLASS_PENALTY * mean) / (count[of] - own + _CLASS_PENALTY))
    return np.column_stack(columns)


class MarginChains(OutcomeCache):
    """Chains for the search of stages: the margin of a product of equal powers, which needs no learning.

    Args:
        pool: The samples to search on.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.records, "mean")
        self._pool = pool

    def _answer(self, seen: Stages) -> tuple[np.ndarray, np.ndarray]:
        if seen not in self._answers:
            candidates = self._pool.candidates(seen)
            found = product_evidence(candidates, slice(None), np.full(len(seen), _POWER / len(seen)))
            row, best = np.arange(len(found.share)), found.share.argmax(axis=1)
            top = -np.partition(-found.share, 1, axis=1)[:, :2]
            self._answers[seen] = (top[:, 0] - top[:, 1], candidates.hit[row, best])
        return self._answers[seen]
