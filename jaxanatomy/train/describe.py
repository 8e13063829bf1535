"""What the arms of a plan are and cost, before anything is trained."""

from jaxanatomy.growth.stages import total_flops, total_steps
from jaxanatomy.model import parameter_count
from jaxanatomy.train.arm_plan import ArmPlan


def describe_arms(plan: ArmPlan, batch_size: int, seq_len: int) -> list[str]:
    """The arms of a plan, their stages and what they cost, a line each.

    Args:
      plan: Of an experiment.
      batch_size: Sequences of a batch.
      seq_len: Tokens of each.
    """
    config = plan.config
    main = plan.main(config.learning_rates[0])
    lines = [f"{parameter_count(plan.model):,} parameters, {len(main)} seeds"]
    if plan.tuning:
        rates = ", ".join(f"{rate:g}" for rate in config.learning_rates)
        lines.append(f"learning rates {rates}: {len(plan.tuning)} more seeds of each arm tune it")
    for arm, stages in plan.arms.items():
        cost = total_flops(stages, batch_size, seq_len)
        size, unit = (1e15, "PFLOP") if cost > 1e15 else (1e12, "TFLOP")
        steps = total_steps(stages)
        depths = ", ".join(f"{stage.config.num_layers} layers {stage.steps}" for stage in stages)
        lines.append(f"{arm}: {steps} steps ({depths}), {cost / size:,.3f} {unit} a seed")
    return lines
