"""Machines you have already: nothing is made, so no engine runs; their places are judged.

A place is what the operator declares; the controller attests it again once the machine runs.
"""

from infra.resolve import machine_hosts
from infra.shapes import Outputs, Site


def outputs(site: Site) -> Outputs:
    """The machines named in the stack."""
    return Outputs(machine_hosts(site))
