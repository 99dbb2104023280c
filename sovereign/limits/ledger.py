"""All accounts of one gateway: take what a call may cost, settle what it did, tell what is left.

A call takes from every limit that covers it, or from none. What covers a call depends on its key
and model only, so it is looked up once for each pair of them.

Accounts are made when they are first needed. There are never more than keys, tenants and models
there are, times limits: names that a client chose do not make any.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sovereign.limits.accounts import (
    ASK,
    UNREACHABLE,
    Account,
    Moment,
    RateAccount,
    SeatsAccount,
    WindowAccount,
)
from sovereign.limits.money import Price, Prices
from sovereign.limits.rules import Rule
from sovereign.limits.tally import Row, Tally, Used, spent
from sovereign.limits.windows import day_of, days_of


class Costs(NamedTuple):
    """What a call takes. `tokens` is of what is counted every minute, `budget` of the calendar's.

    Of the first only the prompt is set aside, and its answer follows once it is known: tokens come
    back by themselves. A budget does not, so what an answer may have at most is set aside too.
    """

    requests: int
    tokens: int
    concurrent: int
    spend: int
    budget: int


Wrap = Callable[[Account], Account]


class Caller(NamedTuple):
    """Who calls what. `model` is one of the policy, or "" for any other name."""

    tenant: str
    key: str
    model: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The accounts that a call of this key and model takes from, each with its place in `Costs`.

    `own` are those of requests and those of tokens of which the caller may know what is left.
    """

    caller: Caller
    accounts: tuple[tuple[Account, int], ...]
    own: tuple[tuple[Account, ...], tuple[Account, ...]]


@dataclass(frozen=True, slots=True)
class Lacking:
    """There is not enough. `wait_ns` is the longest wait, or `ASK`, or `UNREACHABLE`.

    `never` says that the call would take more than all there is of it.
    """

    account: Account
    wait_ns: int
    never: bool = False


@dataclass(slots=True)
class Hold:
    """What one call has taken, until it is settled. Settling again does nothing."""

    plan: Plan
    costs: Costs
    begun: Moment
    settled: bool = field(default=False)


class Ledger:
    """The accounts. `tally` is what was used in this calendar month, and grows."""

    def __init__(
        self, rules: Iterable[Rule], prices: Prices, tally: Tally, wrap: Wrap | None = None
    ) -> None:
        """`wrap` makes accounts shared ones; by default they are this gateway's alone."""
        self.rules = tuple(rules)
        self.prices = prices
        self.tally = tally
        self._wrap = wrap
        self._plans: dict[Caller, Plan] = {}
        self._accounts: dict[tuple[str, str], Account] = {}

    def plan(self, caller: Caller, now: Moment) -> Plan:
        """What a call of this caller takes from."""
        found = self._plans.get(caller)
        if found is None:
            covering = [rule for rule in self.rules if rule.covers(*caller)]
            accounts = tuple(
                (self._account(rule, rule.holder(*caller), now), _place(rule)) for rule in covering
            )
            own = [account for account, _ in accounts if account.rule.is_own]
            requests = tuple(each for each in own if each.rule.counts == "requests")
            tokens = tuple(each for each in own if each.rule.counts == "tokens")
            found = self._plans[caller] = Plan(caller, accounts, (requests, tokens))
        return found

    def expected(self, caller: Caller, now: Moment, prompt: int, answer: int) -> Costs:
        """What a call may cost whose prompt and answer have at most so many tokens."""
        price = self.price(caller, now)
        spend = price.of(prompt, answer) if price else 0
        return Costs(1, prompt, 1, spend, prompt + answer)

    def actual(self, caller: Caller, begun: Moment, used: Used) -> Costs:
        """What a call did cost."""
        price, tokens = self.price(caller, begun), used.tokens_in + used.tokens_out
        spend = price.of(used.tokens_in, used.tokens_out) if price else 0
        return Costs(used.requests, tokens, 1, spend, tokens)

    def price(self, caller: Caller, now: Moment) -> Price | None:
        """What a token costs this caller today."""
        return self.prices.on(caller.model, day_of(now.s)) if self.prices else None

    def take(self, plan: Plan, now: Moment, costs: Costs) -> Hold | Lacking:
        """Set aside what a call may cost, of everything or of nothing."""
        lacking = None
        for account, place in plan.accounts:
            wait = account.wait_ns(now, costs[place])
            if wait and (lacking is None or _is_worse(wait, lacking.wait_ns)):
                lacking = Lacking(account, wait, costs[place] > account.rule.at_most)
        if lacking is not None:
            return lacking
        for account, place in plan.accounts:
            account.reserve(now, costs[place])
            if _is_known_at_once(account, place):
                account.settle(now, now, costs[place], costs[place])
        return Hold(plan, costs, now)

    def settle(self, hold: Hold, now: Moment, used: Used, counted: Used | None) -> None:
        """Give back what was set aside and take what the call used.

        Args:
            used: what it is charged, an estimate where the engine did not say.
            counted: what its completion says, which goes to the tally; None: it has none.
        """
        if hold.settled:
            return
        hold.settled = True
        caller = hold.plan.caller
        actual = self.actual(caller, hold.begun, used)
        if counted is not None:
            row = Row(day_of(hold.begun.s), caller.tenant, caller.key, caller.model)
            self.tally.add(row, counted)
        for account, place in hold.plan.accounts:
            if not _is_known_at_once(account, place):
                account.settle(now, hold.begun, hold.costs[place], actual[place])

    def _account(self, rule: Rule, holder: str, now: Moment) -> Account:
        found = self._accounts.get((rule.id, holder))
        if found is None:
            found = self._made(rule, holder, now)
            self._accounts[rule.id, holder] = found
        return found

    def _made(self, rule: Rule, holder: str, now: Moment) -> Account:
        if not rule.every:
            return SeatsAccount(rule, holder)
        if rule.every == "minute":
            made: Account = RateAccount(rule, holder)
        else:
            window = WindowAccount(rule, holder)
            window.at(now)
            window.used = self.used_before(rule, holder, now)
            made = window
        return self._wrap(made) if self._wrap else made

    def used_before(self, rule: Rule, holder: str, now: Moment) -> int:
        """What the tally says was used of a limit in its current window."""
        every = "day" if rule.every == "day" else "month"
        sums = self.tally.among(range(*days_of(every, day_of(now.s))), models=rule.models)
        own = [
            (row, used)
            for row, used in sums
            if rule.covers(row.tenant, row.key, row.model)
            and rule.holder(row.tenant, row.key, row.model) == holder
        ]
        if rule.counts == "spend":
            return spent(self.prices, own)
        if rule.counts == "requests":
            return sum(used.requests for _, used in own)
        return sum(used.tokens_in + used.tokens_out for _, used in own)


def _place(rule: Rule) -> int:
    """Where in the costs of a call stands what a rule counts."""
    if rule.counts == "tokens" and rule.every != "minute":
        return Costs._fields.index("budget")
    return Costs._fields.index(rule.counts)


def _is_known_at_once(account: Account, place: int) -> bool:
    """A request of so many a minute is one, however it ends; nobody may knock for nothing."""
    return place == 0 and account.rule.every == "minute"


def _is_worse(wait: int, than: int) -> bool:
    """What is known to be used up is told before what nobody knows; asking comes last."""
    order = {ASK: 0, UNREACHABLE: 1}
    return (order.get(wait, 2), wait) > (order.get(than, 2), than)
