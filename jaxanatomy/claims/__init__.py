"""Claims of the papers, each with a rule: which of them hold on a checkpoint.

A claim is an entry of the table of its experiment: rows, a quantity, a rule, a control. `core` says
what a verdict is, `rules` when one is given, `evidence` which runs are read together, `audit` tests
all claims on them. What the papers' figures alone decide is in `figures_ah`, `figures_dg` and
`figures_lr`.
"""
