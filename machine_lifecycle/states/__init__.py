"""The states of a machine, their table, and what happens in each booting state.

Read in this order: ``names`` (the vocabulary), ``table`` (which fact leads where), ``engine`` (the
stepper built from the table), then one module per state with an activity.
"""

__all__: list[str] = []
