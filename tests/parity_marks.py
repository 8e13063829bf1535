"""What all modules that run live transformers are marked with."""

import pytest

PARITY = (
    pytest.mark.parity,
    # Other libraries' notices about their own insides; ours stay errors.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
)
