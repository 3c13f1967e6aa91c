"""Asks the stand-in and a real Kubernetes API the same, in the same order, and tells where their answers differ.

A stand-in written from memory agrees with the code written from the same memory: both can be wrong together. This is
what keeps ours honest. `python -m tests.cluster.differential` with KUBECONFIG compares it with a live server and can
save that server's answers; `test_differential.py` compares it with the saved ones in every run.
"""
