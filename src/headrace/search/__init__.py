"""Search over learning rates by layer group that forget little and learn much.

Many processes share a folder: each takes trials of an Optuna study, trains one task after the
other with the rates of a trial, and tells p_s + p_o.  What was found for several pairs of tasks is
combined into one distribution of learning rates, as in Kenneweg et al.
"""
