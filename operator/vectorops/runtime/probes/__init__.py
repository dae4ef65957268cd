"""What the probes of the pod are told, who finds it out, and the server that tells it.

`health` holds what is known and answers the three paths, `server` brings the answers out, `watchdog` compares what the
watch delivered with what is there, `crds` what the API server serves with what this operator knows.
"""
