"""The check of a job before it works: every rank looks around, rank 0 names what is bad and where.

What is concluded from what was seen (``finding``, ``machine``, ``measured``) imports no torch.
"""
