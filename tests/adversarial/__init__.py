"""Known bypasses against the real gateway behind every real proxy, with the shipped configurations.

`python -m tests.adversarial table` prints what came of each case, `planted` plants faults.
"""
