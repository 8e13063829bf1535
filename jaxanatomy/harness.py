"""Tasks of lm-evaluation-harness on a model and its variants (needs the [eval] extra).

    scorer = Scorer(model, ja.variants(model, "cut/span/12-14"))
    lm_eval.simple_evaluate(Harness(scorer, "cut/span/12-14"), tasks=["lambada_openai"])

Whichever variant is asked first, a request is scored under all of them by one sweep: they share
layers, and the choices of a question its prompt. What the model writes (`generate_until`) is
written by the variant as a model of its own.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from jaxanatomy.data.prefixes import Scored, pack_sequences
from jaxanatomy.errors import InputError, choose
from jaxanatomy.interventions.materialise import materialise
from jaxanatomy.interventions.variants import BASELINE, Variant
from jaxanatomy.measures.answers import READINGS, of_sequences
from jaxanatomy.measures.completions import complete_tokens
from jaxanatomy.study import required_tokenizer
from jaxanatomy.sweep import Measured, Sweep, SweepOptions
from jaxanatomy.weights import Checkpoint

Pair = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a context and of a continuation
PIECE = 32  # tokens that are written before stop sequences are looked for
Answer = tuple[float, bool]  # log-likelihood in nats, and whether greedy decoding would write it


def writing(
    settings: Mapping[str, Any], context_length: int, task: str = "this task"
) -> tuple[int, list[str]]:
    """How many tokens a request has the model write, and the stop sequences.

    Args:
      settings: The second argument of a `generate_until` request.
      context_length: Tokens that the model takes.
      task: Its name, for the message.

    Raises:
      InputError: It draws tokens, or takes as many as the context holds.
    """
    wanted = normalize_gen_kwargs(dict(settings))
    if wanted["do_sample"]:
        raise InputError(
            f"a model is asked for its likeliest tokens; {task} of lm-eval draws them "
            f"({json.dumps(settings, sort_keys=True)}); choose another task"
        )
    steps = wanted["max_gen_toks"]
    if steps >= context_length:
        raise InputError(
            f"{task} of lm-eval asks for {steps} tokens, and the context is {context_length}; "
            "choose another task"
        )
    return steps, wanted["until"]


class Scorer:
    """Scores continuations under several variants, each once."""

    def __init__(
        self,
        model: Checkpoint,
        variants: Sequence[Variant],
        options: SweepOptions | None = None,
    ):
        """Takes a model.

        Args:
          model: The model, with its tokenizer.
          variants: With unique names.
          options: How to sweep.
        """
        self.model, self.variants = model, {each.name: each for each in variants}
        self.tokenizer = required_tokenizer(model)
        self._options = options
        self._answers: dict[Pair, dict[str, Answer]] = {}
        self._placed: Sweep | None = None

    def __repr__(self) -> str:
        return f"Scorer({self.model.id!r}, {len(self.variants)} variants)"

    def score(self, pairs: Sequence[Pair], variant: str) -> list[Answer]:
        """The answer of a variant to each pair of a context and a continuation."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._answers]
        if new:
            self._sweep(new)
        return [self._answers[pair][variant] for pair in pairs]

    def clear(self) -> None:
        """Forgets what was scored."""
        self._answers.clear()

    def flops(self) -> int:
        """Matrix-product work of the last sweep; see `Sweep.flops`."""
        return self._placed.flops()

    def write(self, prompts: Sequence[Sequence[int]], steps: int, variant: str) -> list[list[int]]:
        """The likeliest `steps` tokens after each prompt."""
        steps_of = self.variants[variant].steps
        changed = materialise(self.model.config, self.model.params, steps_of)
        return complete_tokens(*changed, prompts, steps)

    def _sweep(self, pairs: Sequence[Pair]) -> None:
        share = not self.model.config.has_windows
        batches = pack_sequences([Scored(*pair) for pair in pairs], share=share)
        variants = list(self.variants.values())
        sweep = Sweep(self.model.config, variants, batches, READINGS, self._options)
        sweep.compile(self._placed)
        if self._placed is not None and self._placed.lanes.sharding == sweep.lanes.sharding:
            sweep.share_weights(self._placed)
        else:
            sweep.place(self.model.params)
        self._placed = sweep
        parts = [sweep.run(chunk) for chunk in range(len(sweep.chunks))]
        measured = {name: Measured.joined([part[name] for part in parts]) for name in READINGS}
        nll_VI, greedy_VI = of_sequences(measured)
        for name, nll_I, greedy_I in zip(measured["nll"].variants, nll_VI, greedy_VI, strict=True):
            for pair, nll, greedy in zip(pairs, nll_I.tolist(), greedy_I.tolist(), strict=True):
                self._answers.setdefault(pair, {})[name] = (-nll, greedy)


class Harness(TemplateLM):
    """One variant of a scorer, as lm-evaluation-harness takes a model."""

    def __init__(self, scorer: Scorer, variant: str = BASELINE):
        """Scores nothing yet.

        Raises:
          InputError: The scorer has no such variant.
        """
        super().__init__()
        choose("variant", variant, scorer.variants)
        self._scorer, self._variant = scorer, variant
        self._tokenizer = scorer.tokenizer

    def __repr__(self) -> str:
        return f"Harness({self._scorer!r}, {self._variant!r})"

    @property
    def max_length(self) -> int:
        """Tokens that the model takes."""
        return self._scorer.model.config.context_length

    @property
    def eot_token_id(self) -> int:
        """What ends a text; where the tokenizer names nothing, what begins one."""
        found = (self._tokenizer.eos_id, self._tokenizer.bos_id)
        known = [each for each in found if each is not None]
        if not known:
            raise InputError(
                f"the tokenizer of {self._scorer.model.id} names no token that begins or ends a "
                "text, which this task of lm-eval needs; choose another task"
            )
        return known[0]

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context, as in the harness's own models."""
        bos = self._tokenizer.bos_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        """For caches of requests."""
        return self._scorer.model.id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids, after BOS where the tokenizer's own template has it."""
        del kwargs
        ids = list(self._tokenizer.encode(string))
        wanted = self._tokenizer.adds_bos if add_special_tokens is None else add_special_tokens
        bos = [self._tokenizer.bos_id] if wanted and self._tokenizer.adds_bos else []
        return ids if ids[:1] == bos else [*bos, *ids]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[Answer]:
        del disable_tqdm, kwargs
        found = self._score([(context, own) for _, context, own in requests])
        for (texts, _, _), answer in zip(requests, found, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-likelihood of whole texts, each token with as much context as fits."""
        del disable_tqdm
        pairs, owner = [], []
        for index, request in enumerate(requests):
            windows = get_rolling_token_windows(
                self.tok_encode(*request.args), self.prefix_token_id, self.max_length, 1
            )
            own = [make_disjoint_window(window) for window in windows]
            pairs += own
            owner += [index] * len(own)
        likelihoods = [likelihood for likelihood, _ in self._score(pairs)]
        totals = np.bincount(owner, likelihoods, minlength=len(requests)).tolist()
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes up to a stop sequence, greedily.

        Raises:
          InputError: A task that draws tokens, or takes as many as the context holds.
        """
        del disable_tqdm
        settings = [json.dumps(request.args[1], sort_keys=True) for request in requests]
        found = [""] * len(requests)
        for setting in dict.fromkeys(settings):
            chosen = [index for index, own in enumerate(settings) if own == setting]
            steps, until = writing(json.loads(setting), self.max_length)
            room = self.max_length - steps
            prompts = [self.tok_encode(requests[index].args[0])[-room:] for index in chosen]
            texts = self._write(prompts, steps, until)
            for index, text in zip(chosen, texts, strict=True):
                found[index] = text
                self.cache_hook.add_partial("generate_until", requests[index].args, text)
        return found

    def _write(self, prompts: Sequence[list[int]], steps: int, until: Sequence[str]) -> list[str]:
        """What follows each prompt, some tokens at a time: of those that have not stopped."""
        written: list[list[int]] = [[] for _ in prompts]
        texts = [""] * len(prompts)
        going = range(len(prompts))
        for done in range(0, steps if prompts else 0, PIECE):
            asked = [[*prompts[index], *written[index]] for index in going]
            pieces = self._scorer.write(asked, min(PIECE, steps - done), self._variant)
            still = []
            for index, piece in zip(going, pieces, strict=True):
                written[index] += piece
                texts[index], stopped = self._text(written[index], until)
                still += [] if stopped else [index]
            if not (going := still):
                break
        return texts

    def _score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Answer]:
        """Scores pairs, the beginnings of contexts that are too long left out."""
        longest = max((len(own) for _, own in pairs), default=0)
        if longest > self.max_length:
            raise InputError(
                f"a continuation of {longest} tokens is longer than the context of "
                f"{self.max_length}; choose another task"
            )
        cut = [
            (tuple(context)[-(self.max_length + 1 - len(own)) :], tuple(own))
            for context, own in pairs
        ]
        return self._scorer.score(cut, self._variant)

    def _text(self, ids: list[int], until: Sequence[str]) -> tuple[str, bool]:
        """What was written up to the end token or the first stop sequence, and whether one came."""
        end = self._tokenizer.eos_id
        whole = text = self._tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)
        for stop in filter(None, until):
            text = text.split(stop)[0]
        return text, end in ids or text != whole
