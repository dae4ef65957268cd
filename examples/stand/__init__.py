"""The stand: the whole world vectorops works in, real, on one machine.

A Kubernetes API (`cluster`), and around it what a cluster of the runbook has, each a local process that is
gone when its owner is. The demo and the tests use the same stand, so what the demo shows is what is tested.
Not part of the product: nothing under `operator/` imports it.
"""
