import json

import pytest
from tokenizer_cases import NEXT, flags, spelled, write_tokenizer

from jaxanatomy.errors import InputError
from jaxanatomy.weights.folder_tokenizer import from_folder

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
TOOL = {"added_tokens_decoder": {str(NEXT): flags("<tool>")}}


@pytest.mark.parametrize(
    "files",
    [
        {CONFIG: TOOL},
        {CONFIG: {"additional_special_tokens": ["<tool>"]}},
        {CONFIG: {"extra_special_tokens": ["<tool>"]}},
        {CONFIG: {"extra_special_tokens": {"tool_token": "<tool>"}}},
        {CONFIG: {"pad_token": "<tool>"}},
        {CONFIG: {"tool_token": flags("<tool>")}},
        {MAP: {"additional_special_tokens": ["<tool>"]}},
        {MAP: {"pad_token": flags("<tool>")}},
        {ADDED: {"<tool>": NEXT}},
    ],
)
def test_a_token_that_any_file_adds_is_one_token(files, tmp_path):
    tokenizer = from_folder(write_tokenizer(tmp_path, files))
    assert spelled(tokenizer, "hello<tool>he") == ["hello", "<tool>", "he"]
    assert tokenizer.vocab_size == NEXT + 1


def test_flags_of_added_tokens_are_used(tmp_path):
    token = flags("<tool>", lstrip=True, single_word=True)
    files = {CONFIG: {"added_tokens_decoder": {str(NEXT): token}}}
    tokenizer = from_folder(write_tokenizer(tmp_path, files))
    assert spelled(tokenizer, "he <tool>") == ["he", "<tool>"]
    assert "<tool>" not in spelled(tokenizer, "he<tool>he")


def test_flags_of_the_config_replace_those_of_the_tokenizer(tmp_path):
    files = {CONFIG: {"added_tokens_decoder": {"0": flags("<|endoftext|>", rstrip=True)}}}
    tokenizer = from_folder(write_tokenizer(tmp_path, files))
    assert spelled(tokenizer, "<|endoftext|> he") == ["<|endoftext|>", "he"]


@pytest.mark.parametrize(("files", "matches"), [({}, True), ({MAP: {"pad_token": "Tool"}}, False)])
def test_tokens_without_flags_are_normalised_unless_special(files, matches, tmp_path):
    folder = write_tokenizer(
        tmp_path,
        {ADDED: {"Tool": NEXT}, **files},
        lambda stored: stored.update(normalizer={"type": "Lowercase"}),
    )
    assert (NEXT in from_folder(folder).encode("a tOOL")) is matches
    assert NEXT in from_folder(folder).encode("a Tool")


def test_special_tokens_are_split_where_the_config_says_so(tmp_path):
    tokenizer = from_folder(write_tokenizer(tmp_path, {CONFIG: {"split_special_tokens": True}}))
    assert "<|endoftext|>" not in spelled(tokenizer, "<|endoftext|>")


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        ({}, (None, None)),
        ({CONFIG: {"bos_token": "<|im_start|>", "eos_token": None}}, (1, None)),
        ({CONFIG: {"eos_token": {"content": "<|im_start|>"}}}, (None, 1)),
        ({MAP: {"bos_token": "<|endoftext|>"}}, (0, None)),
        ({CONFIG: {"eos_token": "<new>"}}, (None, NEXT)),
        # As in transformers: the map counts unless the config lists the added tokens.
        ({CONFIG: {"bos_token": "<|im_start|>"}, MAP: {"bos_token": "<|endoftext|>"}}, (0, None)),
        (
            {
                CONFIG: {"bos_token": "<|im_start|>", "added_tokens_decoder": {}},
                MAP: {"bos_token": "<|endoftext|>"},
            },
            (1, None),
        ),
        ({"config.json": {"bos_token_id": 1, "eos_token_id": 0}}, (1, 0)),
        ({"config.json": {"eos_token_id": [1, 0, 999_999]}}, (None, 1)),
        ({"config.json": {"eos_token_id": []}}, (None, None)),
        ({"config.json": {"bos_token_id": 1}, CONFIG: {"bos_token": "<|endoftext|>"}}, (0, None)),
        ({"config.json": {"bos_token_id": 1}, CONFIG: {"bos_token": None}}, (None, None)),
        ({"config.json": {"bos_token_id": 1}, CONFIG: {}}, (1, None)),
    ],
)
def test_special_ids_of_a_folder(files, ids, tmp_path):
    tokenizer = from_folder(write_tokenizer(tmp_path, files))
    assert (tokenizer.bos_id, tokenizer.eos_id) == ids


def test_bos_that_the_config_asks_for_is_in_the_template_alone(tmp_path):
    files = {CONFIG: {"bos_token": "<|im_start|>", "add_bos_token": True}}
    tokenizer = from_folder(write_tokenizer(tmp_path, files))
    assert tokenizer.adds_bos
    assert spelled(tokenizer, "hello") == ["hello"]


def test_what_decides_no_token_is_passed_over(tmp_path):
    told = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": 10**30,
        "clean_up_tokenization_spaces": True,
        "padding_side": "left",
        "chat_template": "{{ messages }}",
        "add_eos_token": True,
        "add_prefix_space": False,
        "do_lower_case": None,
    }
    tokenizer = from_folder(write_tokenizer(tmp_path, {CONFIG: told}))
    assert spelled(tokenizer, "hello ,") == spelled(
        from_folder(write_tokenizer(tmp_path)), "hello ,"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {CONFIG: {"odd": 1, "strange": 2}},
            "config.json has keys .* not understood: odd, strange;",
        ),
        (
            {MAP: {"odd": 1}},
            "special_tokens_map.json has keys that are not understood: odd; remove",
        ),
        (
            {CONFIG: {"add_prefix_space": True}},
            "has add_prefix_space=true but tokenizer.json does as",
        ),
        (
            {CONFIG: {"do_lower_case": True}},
            "has do_lower_case=true but .* with false; set it to fal",
        ),
        ({CONFIG: {"strip_accents": True}}, "has strip_accents=true but tokenizer.json does as"),
        (
            {CONFIG: {"auto_map": {"AutoTokenizer": "x"}}},
            "auto_map of .* must be unset; got {'Auto",
        ),
        ({CONFIG: {"fix_mistral_regex": True}}, "fix_mistral_regex of .* must be unset; got True"),
        (
            {CONFIG: {"added_tokens_decoder": {"500": flags("<tool>")}}},
            rf"config.json declares '<tool>' as token 500, but after .* it is {NEXT}; save",
        ),
        (
            {ADDED: {"<tool>": 500}},
            rf"added_tokens.json declares '<tool>' as token 500.* is {NEXT}",
        ),
        (
            {CONFIG: {"added_tokens_decoder": {}}, ADDED: {"<tool>": NEXT}},
            "added_tokens.json declares '<tool>' as token .* it is none; save",
        ),
        (
            {CONFIG: {"added_tokens_decoder": {}}, MAP: {"pad_token": "<tool>"}},
            "declares the special tokens <tool> .* that transformers passes over",
        ),
        (
            {CONFIG: {"extra_special_tokens": ["<a>"], "additional_special_tokens": ["<b>"]}},
            "declares the special tokens <b> .* that transformers passes over",
        ),
        (
            {CONFIG: {"added_tokens_decoder": {"0": {**flags("<|endoftext|>"), "odd": 1}}}},
            "an added token of .* must have a content and flags .* correct it",
        ),
        (
            {CONFIG: {"added_tokens_decoder": {str(NEXT): flags("<tool>", lstrip=1)}}},
            "an added token of .* must have a content and flags .* that are true or false; got",
        ),
        (
            {CONFIG: {"added_tokens_decoder": {"one": {}}}},
            "must be an object with ids as keys; got",
        ),
        ({CONFIG: {"added_tokens_decoder": {"9" * 5000: {}}}}, "an object with ids as keys; got"),
        ({CONFIG: {"added_tokens_decoder": []}}, "must be an object with ids as keys; got"),
        ({CONFIG: {"pad_token": 5}}, "a special token of .* must be a string; got 5; correct it"),
        ({CONFIG: {"extra_special_tokens": "<a>"}}, "extra_special_tokens of .* must be a list of"),
        (
            {CONFIG: {"split_special_tokens": "yes"}},
            "split_special_tokens of .* must be true or fal",
        ),
        ({CONFIG: []}, "expected a JSON object in .*tokenizer_config.json; it holds a list"),
        (
            {ADDED: {"<tool>": "5"}},
            "added_tokens.json must give each token its id; '<tool>' has '5'",
        ),
        (
            {"config.json": {"bos_token_id": True}},
            "bos_token_id of .* must be a token's id; got True",
        ),
        (
            {"config.json": {"eos_token_id": ["a"]}},
            "eos_token_id of .* must be a token's id; got a",
        ),
    ],
)
def test_what_is_not_understood_is_refused(files, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        from_folder(write_tokenizer(tmp_path, files))
    assert "\n" not in str(error.value)


def _added(**changes):
    return lambda stored: stored["added_tokens"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda stored: stored.update(odd=1),
            "must be a tokenizer of the tokenizers library; .*fetch",
        ),
        (lambda stored: stored["model"].update(odd=1), "not understood: model.odd; remove them"),
        (
            lambda stored: stored["pre_tokenizer"]["pretokenizers"][0].update(odd=1),
            r"not understood: pre_tokenizer\.pretokenizers\.odd; remove",
        ),
        (
            lambda stored: stored.update(normalizer={"type": "Lowercase", "locale": "tr"}),
            r"not understood: normalizer\.locale; remove",
        ),
        (_added(odd=True), "an added token of .* must have a content, an id and flags"),
        (
            _added(id=7),
            r"json declares '<\|im_start\|>' as token 7, but after its other tokens it is 1",
        ),
        (_added(id=0), "two added tokens of .* have the id 0; fetch it again"),
        (lambda stored: stored.update(added_tokens={"a": 1}), "added_tokens of .* must be a list"),
        (lambda stored: stored.update(model=[]), "must be a tokenizer; it has no object 'model'"),
        (
            lambda stored: stored["model"].update(dropout=0.1),
            r"cuts words at random \(dropout 0\.1\)",
        ),
        (lambda stored: stored["model"]["vocab"].update(he=0), "two tokens of .* have the same id"),
        (
            lambda stored: stored["model"]["vocab"].update(he=[]),
            "ids of the tokens .* whole numbers",
        ),
        (
            lambda stored: stored["model"].update(merges=[["w", "w"]]),
            "the merges of .* must be of its tokens; 'w' .* needs 'ww', which is none",
        ),
        (
            lambda stored: stored["model"].update(merges=[5]),
            "a merge of .* must be two tokens; got",
        ),
    ],
)
def test_what_the_library_would_pass_over_is_refused(change, message, tmp_path):
    folder = write_tokenizer(tmp_path, change=change)
    with pytest.raises(InputError, match=message) as error:
        from_folder(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ({"normalizer": {"type": "Lowercase"}}, {"do_lower_case": True}),
        ({"normalizer": {"type": "Prepend", "prepend": "▁"}}, {"add_prefix_space": True}),
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}},
            {"add_prefix_space": True},
        ),
        (
            {
                "normalizer": {
                    "type": "BertNormalizer",
                    "clean_text": True,
                    "handle_chinese_chars": True,
                    "strip_accents": None,
                    "lowercase": True,
                }
            },
            {"do_lower_case": True, "strip_accents": True, "tokenize_chinese_chars": True},
        ),
    ],
)
def test_settings_that_the_tokenizer_follows_are_accepted(part, settings, tmp_path):
    change = lambda stored: stored.update(part)  # noqa: E731
    assert from_folder(write_tokenizer(tmp_path, {CONFIG: settings}, change)).vocab_size == NEXT
    opposite = {key: not value for key, value in settings.items()}
    with pytest.raises(InputError, match=r"but tokenizer\.json does as with true; set it to true"):
        from_folder(write_tokenizer(tmp_path, {CONFIG: opposite}, change))


@pytest.mark.parametrize(
    "name", ["tokenizer.json", CONFIG, MAP, ADDED, "config.json", "special_tokens_map.json"]
)
@pytest.mark.parametrize("content", [b"{", b"[" * 99_999, b'{"a": 1e999}', b"\xff", b""])
def test_a_damaged_file_is_refused(name, content, tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=rf"expected a JSON object in .*{name}; .*; fetch it again"
    ):
        from_folder(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / CONFIG).mkdir()
    with pytest.raises(InputError, match=r"expected a JSON object in .*tokenizer_config\.json"):
        from_folder(tmp_path)


def test_the_byte_order_mark_of_a_file_is_passed_over(tmp_path):
    write_tokenizer(tmp_path, {CONFIG: TOOL})
    for name in ("tokenizer.json", CONFIG):
        (tmp_path / name).write_text(
            "\ufeff" + json.dumps(json.loads((tmp_path / name).read_text()))
        )
    assert "<tool>" in spelled(from_folder(tmp_path), "<tool>")
