"""Which hosts are connected to, on whosever behalf: `rules` decides, `reaching` resolves, `sockets` and `http` connect.

Whoever writes a VectorStore chooses addresses that are reached from the operator's place in the network. Decided is by
the address that a name has at the very moment of connecting, and connected is to that address, so that a name which
means another one a moment later leads nowhere else. The API server is not asked this way: its address is ours.
"""
