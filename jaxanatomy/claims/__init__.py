"""Claims of the papers, each with a rule: which of them hold on a checkpoint.

A claim is an entry of the table of its section: rows, a quantity, a rule, a control. `core` says
what a verdict is, `rules` when one is given, `audit` lists the claims and tests them.
"""
