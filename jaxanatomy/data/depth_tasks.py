"""Sequences on which depth matters: every position is asked K questions, each a step deeper.

k-hop induction (Sanford, Hsu and Telgarsky 2024, arXiv 2402.09268): from a symbol to what
followed its previous occurrence, k times. A model of L layers answers the first few hops; each
layer more adds some. An automaton of one dimension gains about one step a layer. Assignments are
chains of variables that are set to each other, all of them asked.

    task = KHop(alphabet=4, seq_len=40, hops=8)
    batch = task.batch(jax.random.key(0), batch_size=32)

Batches are made by integer arithmetic from a key: inside a jitted step and outside it they are
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

    def batch(self, key: jax.Array, batch_size: int) -> LabelledBatch:
        """Fresh sequences."""


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

    def batch(self, key: jax.Array, batch_size: int) -> LabelledBatch:
        """Fresh sequences."""
        first_key, rest_key = jax.random.split(key)
        N = self.seq_len - 1
        step_BN = jax.random.randint(rest_key, (batch_size, N), 1, self.alphabet)
        first_B = jax.random.randint(first_key, (batch_size,), 0, self.alphabet)
        symbol_BN = jnp.cumsum(step_BN.at[:, 0].set(first_B), axis=1) % self.alphabet
        place_N = jnp.arange(N)
        same_BNN = symbol_BN[:, :, None] == symbol_BN[:, None, :]
        before_BNN = same_BNN & (place_N[None, None, :] < place_N[None, :, None])
        previous_BN = jnp.max(jnp.where(before_BNN, place_N[None, None], NO_ANSWER), axis=-1)
        next_BN = jnp.where(previous_BN >= 0, previous_BN + 1, NO_ANSWER)
        at_BN, labels = jnp.broadcast_to(place_N[None], (batch_size, N)), []
        for _ in range(self.hops):
            at_BN = _look_up(next_BN, at_BN)
            labels.append(_look_up(symbol_BN, at_BN))
        return _with_start(symbol_BN, jnp.stack(labels, axis=-1), self.alphabet)


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
        if self.hops > self.seq_len - 2:
            raise InputError(
                f"{self.hops} steps need {self.hops + 2} tokens or more, the start among them; got "
                f"seq_len {self.seq_len}; make the sequence longer or ask fewer steps"
            )

    def batch(self, key: jax.Array, batch_size: int) -> LabelledBatch:
        """Fresh sequences."""
        N = self.seq_len - 1
        symbol_BN = jax.random.randint(key, (batch_size, N), 0, self.alphabet)
        cell_BN, labels = symbol_BN, []
        for step in range(self.hops):
            rule_QQ = latin_square(self.alphabet, self.rule_seed + step * self.own_rules)
            left_BN = jnp.pad(cell_BN[:, :-1], ((0, 0), (1, 0)))
            cell_BN = jnp.asarray(rule_QQ)[left_BN, cell_BN]
            is_known_1N = jnp.arange(N)[None] > step
            labels.append(jnp.where(is_known_1N, cell_BN, NO_ANSWER))
        return _with_start(symbol_BN, jnp.stack(labels, axis=-1), self.alphabet)


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

    def batch(self, key: jax.Array, batch_size: int) -> LabelledBatch:
        """Fresh sequences."""
        name_key, parent_key, value_key = jax.random.split(key, 3)
        M, shape = self.names, (batch_size, self.names)
        name_BM = jnp.argsort(jax.random.uniform(name_key, shape), axis=1)
        value_BM = M + jax.random.randint(value_key, shape, 0, self.values)
        back_BM = jax.random.randint(parent_key, shape, 0, self.recent + 1)
        parent_BM = jnp.where(back_BM > 0, jnp.arange(M)[None] - back_BM, NO_ANSWER)
        parent_BM = jnp.maximum(parent_BM, NO_ANSWER)  # -1: the line has a value
        source_BM = jnp.where(parent_BM >= 0, _look_up(name_BM, parent_BM), value_BM)
        line_BM, labels = parent_BM, []
        for _ in range(self.hops):
            labels.append(_look_up(source_BM, line_BM))
            line_BM = _look_up(parent_BM, line_BM)
        label_BMK = jnp.stack(labels, axis=-1)
        pairs_BN = jnp.stack([name_BM, source_BM], axis=-1).reshape(batch_size, 2 * M)
        asked_BMPK = jnp.stack([jnp.full_like(label_BMK, NO_ANSWER), label_BMK], axis=2)
        label_BNK = asked_BMPK.reshape(batch_size, 2 * M, self.hops)
        return _with_start(pairs_BN, label_BNK, self.alphabet)


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


def guessing(task: DepthTask, key: jax.Array, batch_size: int = 4096) -> np.ndarray:
    """The accuracy that a position reaches for each question by its own symbol alone, [K].

    The likeliest answer to each symbol, found on one batch and tried on another. In k-hop
    induction it lies above 1 / Q: no symbol follows itself.
    """
    (token_BT, label_BTK), (other_BT, tried_BTK) = (
        jax.tree.map(np.asarray, task.batch(each, batch_size)) for each in jax.random.split(key)
    )
    counts_KSQ = np.zeros((task.hops, task.alphabet + 1, task.alphabet))
    for hop, counts_SQ in enumerate(counts_KSQ):
        answered = label_BTK[..., hop] >= 0
        np.add.at(counts_SQ, (token_BT[answered], label_BTK[answered, hop]), 1)
    guess_KS = counts_KSQ.argmax(axis=-1)
    guess_BTK = np.moveaxis(guess_KS[:, other_BT], 0, -1)
    answered = tried_BTK >= 0
    return ((guess_BTK == tried_BTK) & answered).sum((0, 1)) / answered.sum((0, 1))


def _look_up(value_BN: jax.Array, at_BN: jax.Array) -> jax.Array:
    """Values at places; -1 where the place is."""
    found_BN = jnp.take_along_axis(value_BN, jnp.maximum(at_BN, 0), axis=1)
    return jnp.where(at_BN >= 0, found_BN, NO_ANSWER)


def _with_start(symbol_BN: jax.Array, label_BNK: jax.Array, start: int) -> LabelledBatch:
    token_BT = jnp.pad(symbol_BN, ((0, 0), (1, 0)), constant_values=start)
    label_BTK = jnp.pad(label_BNK, ((0, 0), (1, 0), (0, 0)), constant_values=NO_ANSWER)
    return LabelledBatch(token_BT.astype(jnp.int32), label_BTK.astype(jnp.int32))


def _require_sizes(task: DepthTask, fewest_symbols: int) -> None:
    for name, least in (("alphabet", fewest_symbols), ("seq_len", 4), ("hops", 1)):
        require_whole(f"{name} of {type(task).__name__}", getattr(task, name), least)
