"""This machine, as the current user: `make deploy` does it all, and nothing is made here.

Its place is `this-host`, which the policy admits on loopback only.
"""

from infra.shapes import Host, Outputs, Site
from sovereign.policy import THIS_HOST


def outputs(_site: Site) -> Outputs:
    """This machine, reached without ssh."""
    return Outputs((Host("localhost", "127.0.0.1", "", 0, THIS_HOST),))
