"""How any kind is reconciled: the contract of a room, the loop, status and events, and the generated manifests.

Written once for all kinds, and knows none of them. `kind.py` is the contract, `reconcile.py` one pass.
"""
