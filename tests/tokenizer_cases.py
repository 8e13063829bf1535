"""A small byte-level tokenizer, as GGUF metadata and as the files of a folder."""

import json

from tokenizers import pre_tokenizers

from jaxanatomy.weights.gguf_tokenizer import from_gguf

SPECIAL = ["<|endoftext|>", "<|im_start|>"]
MERGES = ["h e", "l l", "he ll", "Ġ w", "1 2", "12 3", "hell o"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
TOKENS += [merge.replace(" ", "") for merge in MERGES]
FIELDS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.token_type": [3, 3] + [1] * (len(TOKENS) - 2),
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 0,
}
NEXT = len(TOKENS)  # the id of the first token that is added


def flags(content, **given):
    """An added token as files write it, without any flag set."""
    names = ("lstrip", "rstrip", "single_word", "normalized", "special")
    return {"content": content, **dict.fromkeys(names, False), **given}


def write_tokenizer(folder, files=None, change=lambda stored: None):
    """Writes tokenizer.json, which `change` edits first, and other files as JSON."""
    stored = json.loads(from_gguf(FIELDS).backend.to_str())
    change(stored)
    for name, content in {"tokenizer.json": stored, **(files or {})}.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def spelled(tokenizer, text):
    return [tokenizer.token(token) for token in tokenizer.encode(text)]
