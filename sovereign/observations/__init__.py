"""What a host says of itself, besides its engine: disk, clock, swap, core dumps and GPUs.

`seen.py` and `gpus.py` read and judge nothing; `judge.py` judges by the policy and reads nothing.
What could not be seen is unknown, and unknown is never a pass.
"""
