"""Sequences on which depth matters: every position is asked K questions, each a step deeper.

k-hop induction (Sanford, Hsu and Telgarsky 2024, arXiv 2402.09268): from a symbol to what
followed its previous occurrence, k times. A model of L layers answers the first few hops; each
layer more adds some. An automaton of one dimension gains about one step a layer. Assignments are
chains of variables that are set to each other, all of them asked.

    task = KHop(alphabet=4, seq_len=40, hops=8)
    batch = make_batch(task, jax.random.split(jax.random.key(0), 32))

A sequence is made by integer arithmetic from a key: inside a jitted step and outside it, it is
the same. Letters here: K questions of a position, Q symbols.
"""

import dataclasses
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxanatomy.errors import InputError, require_whole

NO_ANSWER = -1


class LabelledBatch(NamedTuple):
    """Sequences, and what is asked at each position.

    Attributes:
      token_BT: Symbols 0 .. Q-1; the first token of each sequence is Q, the start. int32.
      label_BTK: The symbol that answers each question; -1 where there is none. int32.
    """

    token_BT: jax.Array
    label_BTK: jax.Array


class DepthTask(Protocol):
    """A task of this module.

    Attributes:
      alphabet: Q symbols.
      seq_len: T tokens, the start among them.
      hops: K questions at each position, from the shallowest to the deepest.
    """

    alphabet: int
    seq_len: int
    hops: int

    def sequence(self, key: jax.Array) -> LabelledBatch:
        """One fresh sequence, without the axis B."""


def make_batch(task: DepthTask, key_B: jax.Array) -> LabelledBatch:
    """A fresh sequence of each key."""
    return jax.vmap(task.sequence)(key_B)


@dataclasses.dataclass(frozen=True)
class KHop:
    """k-hop induction over random strings in which no symbol comes twice in a row.

    Hop 1 of a position is the symbol after the previous occurrence of its own symbol; hop k is
    hop 1 of where hop k-1 ended.

    Attributes:
      alphabet: Q; with two symbols the string would be determined.
      seq_len: T, the start among them.
      hops: K.
    """

    alphabet: int = 4
    seq_len: int = 40
    hops: int = 8

    def __post_init__(self):
        _require_sizes(self, fewest_symbols=3)
        # A hop goes back by a position or more, and ends behind the first symbol.
        if self.hops > self.seq_len - 3:
            raise InputError(
                f"{self.hops} hops need {self.hops + 3} tokens or more, the start among them; got "
                f"seq_len {self.seq_len}; make the sequence longer or ask fewer hops"
            )

    def sequence(self, key: jax.Array) -> LabelledBatch:
        """One fresh sequence."""
        first_key, rest_key = jax.random.split(key)
        N = self.seq_len - 1
        step_N = jax.random.randint(rest_key, (N,), 1, self.alphabet)
        first = jax.random.randint(first_key, (), 0, self.alphabet)
        symbol_N = jnp.cumsum(step_N.at[0].set(first)) % self.alphabet
        place_N = jnp.arange(N)
        same_NN = symbol_N[:, None] == symbol_N[None, :]
        before_NN = same_NN & (place_N[None, :] < place_N[:, None])
        previous_N = jnp.max(jnp.where(before_NN, place_N[None, :], NO_ANSWER), axis=-1)
        next_N = jnp.where(previous_N >= 0, previous_N + 1, NO_ANSWER)
        at_N, labels = place_N, []
        for _ in range(self.hops):
            at_N = _look_up(next_N, at_N)
            labels.append(_look_up(symbol_N, at_N))
        return _with_start(symbol_N, jnp.stack(labels, axis=-1), self.alphabet)


@dataclasses.dataclass(frozen=True)
class Automaton:
    """K steps of an automaton of one dimension: y_i <- rule[y_{i-1}, y_i].

    The rule is a random Latin square, so that both cells matter, always.

    Attributes:
      alphabet: Q.
      seq_len: T, the start among them.
      hops: K steps; position i knows the first i of them.
      rule_seed: Of the rule.
      own_rules: Whether each step has a rule of its own: then layers that are copies of each
        other should not help (a control).
    """

    alphabet: int = 4
    seq_len: int = 40
    hops: int = 8
    rule_seed: int = 0
    own_rules: bool = False

    def __post_init__(self):
        _require_sizes(self, fewest_symbols=2)
        require_whole("rule_seed of Automaton", self.rule_seed, 0)
        if self.hops > self.seq_len - 2:
            raise InputError(
                f"{self.hops} steps need {self.hops + 2} tokens or more, the start among them; got "
                f"seq_len {self.seq_len}; make the sequence longer or ask fewer steps"
            )

    def sequence(self, key: jax.Array) -> LabelledBatch:
        """One fresh sequence."""
        N = self.seq_len - 1
        symbol_N = jax.random.randint(key, (N,), 0, self.alphabet)
        cell_N, labels = symbol_N, []
        for step in range(self.hops):
            rule_QQ = latin_square(self.alphabet, self.rule_seed + step * self.own_rules)
            cell_N = jnp.asarray(rule_QQ)[jnp.pad(cell_N[:-1], (1, 0)), cell_N]
            labels.append(jnp.where(jnp.arange(N) > step, cell_N, NO_ANSWER))
        return _with_start(symbol_N, jnp.stack(labels, axis=-1), self.alphabet)


@dataclasses.dataclass(frozen=True)
class Assignments:
    """Variables set to a value or to one of the last variables, a line `name source` each.

    Where a source stands, question k asks for what stands k lines further up its chain. Lines of
    other chains are between: distractors.

    Attributes:
      names: Variables, each set once, in random order.
      values: What a chain ends in.
      hops: K.
      recent: A line refers to one of so many lines before; the fewer, the longer the chains.
    """

    names: int = 19
    values: int = 4
    hops: int = 8
    recent: int = 3

    def __post_init__(self):
        for name, least in (("names", 2), ("values", 2), ("hops", 1), ("recent", 1)):
            require_whole(f"{name} of Assignments", getattr(self, name), least)
        if self.recent > self.names:
            raise InputError(
                f"recent of Assignments must be {self.names} at most, its names; got {self.recent}"
            )
        if self.hops > self.names - 1:
            raise InputError(
                f"{self.hops} hops need {self.hops + 1} names or more; got {self.names}; add names "
                "or ask fewer hops"
            )

    @property
    def alphabet(self) -> int:
        return self.names + self.values

    @property
    def seq_len(self) -> int:
        return 1 + 2 * self.names

    def sequence(self, key: jax.Array) -> LabelledBatch:
        """One fresh sequence."""
        name_key, parent_key, value_key = jax.random.split(key, 3)
        M, K = self.names, self.hops
        name_M = jax.random.permutation(name_key, M)
        value_M = M + jax.random.randint(value_key, (M,), 0, self.values)
        back_M = jax.random.randint(parent_key, (M,), 0, self.recent + 1)
        parent_M = jnp.where(back_M > 0, jnp.arange(M) - back_M, NO_ANSWER)
        parent_M = jnp.maximum(parent_M, NO_ANSWER)  # -1: the line has a value
        source_M = jnp.where(parent_M >= 0, _look_up(name_M, parent_M), value_M)
        line_M, labels = parent_M, []
        for _ in range(K):
            labels.append(_look_up(source_M, line_M))
            line_M = _look_up(parent_M, line_M)
        label_MK = jnp.stack(labels, axis=-1)
        # Nothing is asked where the name of a line stands.
        label_NK = jnp.stack([jnp.full_like(label_MK, NO_ANSWER), label_MK], axis=1)
        symbol_N = jnp.stack([name_M, source_M], axis=1).reshape(2 * M)
        return _with_start(symbol_N, label_NK.reshape(2 * M, K), self.alphabet)


TASKS = {"khop": KHop, "automaton": Automaton, "assignments": Assignments}


def latin_square(size: int, seed: int) -> np.ndarray:
    """A square in which each row and each column holds every symbol once, int32 [Q, Q].

    Row by row, the symbols of a row given to columns in random order; where a column has only
    symbols that others took, these move on (a Latin rectangle can always be extended).
    """
    rng = np.random.default_rng(seed)
    square = np.full((size, size), -1, np.int32)
    for row in range(size):
        owner: dict[int, int] = {}  # the column of each symbol in this row

        def place(column: int, tried: set[int], row: int = row, owner: dict = owner) -> bool:
            free = set(range(size)) - {*square[:row, column]} - tried
            for symbol in rng.permutation(sorted(free)).tolist():
                tried.add(symbol)
                if symbol not in owner or place(owner[symbol], tried):
                    owner[symbol] = column
                    return True
            return False

        for column in rng.permutation(size).tolist():
            place(column, set())
        for symbol, column in owner.items():
            square[row, column] = symbol
    return square


# What a guesser sees of a position: the symbols so many places back, and whether the one that is
# the most frequent so far.
RULES = (((0,), False), ((0, 1), False), ((0, 2), False), ((0, 1, 2), False), ((0,), True))


def guessing(task: DepthTask, key: jax.Array, batch_size: int = 4096) -> np.ndarray:
    """The accuracy that a position reaches for each question without a hop, [K].

    The likeliest answer to what each of `RULES` sees is learnt on one batch, the best rule for a
    question chosen on another and tried on a third. In k-hop induction that is more than 1 / Q:
    where the symbol two places back is one's own, the answer at one hop stands between, so that
    two of three are guessed. The first two steps of an automaton are such tables. 1 / Q for a
    question that no position is asked.
    """
    Q, batches = task.alphabet, []
    for each in jax.random.split(key, 3):
        token_BT, label_BTK = map(np.asarray, _make_batch(task, jax.random.split(each, batch_size)))
        batches.append((np.stack([_seen(rule, token_BT, Q) for rule in RULES]), label_BTK))
    found = []
    for hop in range(task.hops):
        learnt, chosen, tried = (_asked(*batch, hop) for batch in batches)
        tables = [_likeliest(seen_N, learnt[1], Q) for seen_N in learnt[0]]
        best = np.argmax([_right(*each, chosen[1]) for each in zip(tables, chosen[0], strict=True)])
        asked = len(learnt[1]) and len(tried[1])
        found.append(_right(tables[best], tried[0][best], tried[1]) if asked else 1 / Q)
    return np.array(found)


_make_batch = jax.jit(make_batch, static_argnums=0)


def _seen(rule: tuple[tuple[int, ...], bool], token_BT: np.ndarray, Q: int) -> np.ndarray:
    """What a rule sees of each position, as a number, int64 [B, T]."""
    places, frequent = rule
    T, most = token_BT.shape[1], max(places)
    padded_BT = np.pad(token_BT, ((0, 0), (most, 0)), constant_values=Q)
    parts = [padded_BT[:, most - back :][:, :T] for back in places]
    if frequent:
        parts.append((token_BT[..., None] == np.arange(Q)).cumsum(axis=1).argmax(axis=-1))
    return np.ravel_multi_index(parts, (Q + 1,) * len(parts))


def _asked(seen_RBT: np.ndarray, label_BTK: np.ndarray, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the positions with an answer to a question what each rule sees, [R, N], and those, [N]."""
    asked_BT = label_BTK[..., hop] >= 0
    return seen_RBT[:, asked_BT], label_BTK[asked_BT, hop]


def _likeliest(seen_N: np.ndarray, label_N: np.ndarray, Q: int) -> tuple[np.ndarray, np.ndarray]:
    """What is seen, ascending, and the commonest answer to each."""
    pairs, counts = np.unique(seen_N * Q + label_N, return_counts=True)
    seen, answers = np.divmod(pairs, Q)
    order = np.lexsort((counts, seen))
    last = np.flatnonzero(np.diff(seen[order], append=-1))
    return seen[order][last], answers[order][last]


def _right(table: tuple[np.ndarray, np.ndarray], seen_N: np.ndarray, label_N: np.ndarray) -> float:
    """The share of answers that a table has; 0 without any."""
    seen, answers = table
    if not (len(seen) and len(seen_N)):
        return 0.0
    at_N = np.minimum(np.searchsorted(seen, seen_N), len(seen) - 1)
    return float(((seen[at_N] == seen_N) & (answers[at_N] == label_N)).mean())


def _look_up(value_N: jax.Array, at_N: jax.Array) -> jax.Array:
    """Values at places; -1 where the place is."""
    return jnp.where(at_N >= 0, value_N[jnp.maximum(at_N, 0)], NO_ANSWER)


def _with_start(symbol_N: jax.Array, label_NK: jax.Array, start: int) -> LabelledBatch:
    token_T = jnp.pad(symbol_N, (1, 0), constant_values=start)
    label_TK = jnp.pad(label_NK, ((1, 0), (0, 0)), constant_values=NO_ANSWER)
    return LabelledBatch(token_T.astype(jnp.int32), label_TK.astype(jnp.int32))


def _require_sizes(task: DepthTask, fewest_symbols: int) -> None:
    for name, least in (("alphabet", fewest_symbols), ("seq_len", 4), ("hops", 1)):
        require_whole(f"{name} of {type(task).__name__}", getattr(task, name), least)
