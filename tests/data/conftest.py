import pytest


class NumberTokenizer:
    """Documents are token ids in words: "5 6 7" is [5, 6, 7]."""

    def __init__(self, bos_id=None):
        self.bos_id = bos_id
        self.encoded = []

    def encode(self, text):
        self.encoded.append(text)
        return [int(word) for word in text.split()]

    def token(self, token_id):
        return f"<{token_id}>"


@pytest.fixture
def number_tokenizer():
    return NumberTokenizer()


@pytest.fixture
def number_tokenizer_with_bos():
    return NumberTokenizer(bos_id=1)
