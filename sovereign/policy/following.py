"""Notice that another policy is in force, and load it. For processes that outlive a change.

Which policy is in force is asked again and again, which costs a `readlink`; files are read only
when the answer is another one. A folder that is edited in place is not noticed: processes
take that up when they start, as they always did.
"""

from collections.abc import Callable

from sovereign.policy.model import Policy

LOOK_EVERY_S = 0.5
"""A process is under the policy in force this long after a change at the latest, plus the time
that loading takes; or it answers nothing."""


class Following:
    """What one process knows of the policy in force."""

    def __init__(self, where: Callable[[], str], load: Callable[[], Policy], digest: str) -> None:
        """
        Args:
            where: a word for what is in force, which costs little to say: the name of its folder,
                `digest` for the shipped one, and whatever else changes when the policy does.
            load: read the policy in force.
            digest: of the policy this process is under.
        """
        self._where = where
        self._load = load
        self._digest = digest
        self._seen = ""

    def look(self) -> Policy | None:
        """Another policy, when another one is in force; None while it is the same.

        Raises:
            PolicyUnreadable: the policy in force does not load, so this process is under a policy
                that is not in force. The next look tries again.
            OSError: nobody can say which policy is in force.
        """
        named = self._where()
        if named == (self._seen or self._digest):
            self._seen = named
            return None
        policy = self._load()
        self._seen = named
        if policy.digest == self._digest:
            return None
        self._digest = policy.digest
        return policy
