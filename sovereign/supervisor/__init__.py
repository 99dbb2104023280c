"""Bring up engine, gateway and controller as the current user, and keep them up within bounds.

On a managed host systemd does this; here one small process does, with no root and nothing
installed. `deployment.py` is the story of `make deploy`, `watch.py` keeps the processes.
"""
