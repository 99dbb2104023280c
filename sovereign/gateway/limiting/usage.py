"""Tell whoever asks what its own key is bound to, what it used, and what is left of its limits.

Nobody else's numbers: what is left of a model's or the site's limit would tell what others do, so
of these only the bound is said. What a tenant's keys share is each of theirs.
"""

from typing import Any

import msgspec

from sovereign.gateway.call import JSON, Call
from sovereign.gateway.callers.identify import identify
from sovereign.gateway.limiting.limit import Limiter
from sovereign.gateway.view import View
from sovereign.keystore import Key
from sovereign.limits.accounts import Account, Moment
from sovereign.limits.money import euros
from sovereign.limits.rules import Rule
from sovereign.limits.tally import Row, Used, spent
from sovereign.limits.windows import day_of, days_of, starts, written
from sovereign.policy import Policy
from sovereign.registry import utcnow


async def answer(policy: Policy, limits: Limiter | None, view: View, call: Call) -> None:
    """Answer `GET /v1/sovereign/usage`."""
    key = await identify(call, view, utcnow())
    body: dict[str, Any] = {"object": "usage", "key": _binding(key), "policy": policy.digest}
    if limits is not None:
        now = limits.clock()
        body |= {
            "limits": _limits(limits, key, _models(policy, key, view), now),
            "used": {
                every: _used(limits, key, range(*days_of(every, day_of(now.s))))
                for every in ("day", "month")
            },
            "prices": _prices(limits, _models(policy, key, view), now),
        }
    await call.respond(200, msgspec.json.encode(body), JSON)


def _binding(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "purpose": key.purpose,
        "basis": key.basis,
        "data": key.data,
        "models": list(key.models),
        "priority": key.priority,
        "expires_at": key.expires_at,
    }


def _models(policy: Policy, key: Key, view: View) -> list[str]:
    """The models that this key may ask for here."""
    served = {model for each in view.snapshot.endpoints for model in each.models}
    return sorted(
        name for name in served & policy.models.keys() if name in key.models or not key.models
    )


def _limits(limits: Limiter, key: Key, models: list[str], now: Moment) -> list[dict[str, Any]]:
    """Each limit that covers a call of this key, once for each allowance."""
    accounts = {
        (account.rule.id, account.holder): account
        for model in (models or [""])
        for account, _ in limits.plan(key, model, now).accounts
    }
    return [_limit(account, now) for _, account in sorted(accounts.items())]


def _limit(account: Account, now: Moment) -> dict[str, Any]:
    rule = account.rule
    told: dict[str, Any] = {
        "id": rule.id,
        "counts": rule.counts,
        "per": rule.per,
        "at_most": _amount(rule, rule.at_most),
        "every": rule.every or None,
        "models": sorted(rule.models),
        "because": rule.because,
    }
    if rule.is_own:
        resets = account.resets_s(now)
        told["left"] = _amount(rule, account.left(now))
        told["resets_at"] = written(now.s + resets)
    elif rule.per == "model":
        told["model"] = account.holder
    return told


def _amount(rule: Rule, amount: int) -> int | str:
    """A number, or euros in words: JSON has no exact fractions."""
    return euros(amount) if rule.counts == "spend" else amount


def _used(limits: Limiter, key: Key, days: range) -> dict[str, Any]:
    """What this key used on these days, by model, each day at its own price."""
    own = list(limits.ledger.tally.among(days, tenant=key.tenant, key=key.id))
    by_model: dict[str, list[tuple[Row, Used]]] = {}
    for row, used in own:
        by_model.setdefault(row.model, []).append((row, used))
    return {
        "since": written(starts(days.start)),
        "resets_at": written(starts(days.stop)),
        "eur": euros(spent(limits.ledger.prices, own)),
        "models": [
            {"model": model, **_sums(sums), "eur": euros(spent(limits.ledger.prices, sums))}
            for model, sums in sorted(by_model.items())
        ],
    }


def _sums(sums: list[tuple[Row, Used]]) -> dict[str, int]:
    total = Used()
    for _, used in sums:
        total = total.plus(used)
    return {
        "requests": total.requests,
        "tokens_in": total.tokens_in,
        "tokens_out": total.tokens_out,
    }


def _prices(limits: Limiter, models: list[str], now: Moment) -> list[dict[str, str]]:
    """What a million tokens cost today, and since when."""
    found = ((model, limits.ledger.prices.on(model, day_of(now.s))) for model in models)
    return [
        {
            "model": model,
            "input": euros(price.input * 10**6),
            "output": euros(price.output * 10**6),
            "since": written(starts(price.since))[:10],
        }
        for model, price in found
        if price is not None
    ]
