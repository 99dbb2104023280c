"""Work out what a stack means: the model it names, a machine that fits it, and the place.

Pure: a stack, the policy and the shop's list go in, a `Site` comes out. Whether the place is
allowed is not decided here; the guard asks that of every resource.
"""

from infra.offers import Shop
from infra.shapes import Host, Offer, Site
from infra.stack import Stack
from sovereign.errors import UnknownName
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import Model

USABLE_PERCENT = 90
"""How much of a GPU an engine may take; the rest is the driver's and a reserve (vLLM: 0.9)."""


def model_of(policy: Policy, name: str) -> Model:
    """Return the model called `name`, by id or alias.

    Raises:
        UnknownName: the policy knows no such model.
    """
    for model in policy.models.values():
        if name in (model.id, *model.aliases):
            return model
    raise UnknownName(f"there is no model {name!r}", accepted=", ".join(policy.models))


def memory_needed_gb(model: Model, precision: str) -> int | None:
    """Return the GPU memory that `model` needs in `precision`; None when it was never stated.

    Raises:
        UnknownName: the precision is not one of the model's, or one of several has to be named.
    """
    known = model.min_gpu_memory_gb
    if not known and not precision:
        return None
    if not precision and len(known) == 1:
        return next(iter(known.values()))
    if precision not in known:
        raise UnknownName(
            f"{model.id}: precision {precision!r}", accepted=", ".join(known) or "none stated"
        )
    return known[precision]


def fits(gpu_memory_gb: int, needed_gb: int | None) -> bool:
    """True when a machine holds the model; without a stated need, any machine does."""
    return gpu_memory_gb * USABLE_PERCENT >= (needed_gb or 0) * 100


def site(name: str, stack: Stack, policy: Policy, shop: Shop | None) -> Site:
    """Return what `stack` means.

    Raises:
        UnknownName: a model, precision or machine type that is in no table, or a machine
            that does not hold the model.
    """
    model = model_of(policy, stack.model)
    needed = memory_needed_gb(model, stack.precision)
    _refuse_small(stack, model, needed)
    return Site(
        stack=name,
        cloud=stack.cloud,
        zone=stack.zone,
        region=shop.region_of.get(stack.zone, stack.zone) if shop else "",
        place=_place(stack),
        offer=_offer(stack, model, needed, shop) if shop else None,
        nodes=len(stack.machines) or stack.nodes,
        model=model.id,
        engine=stack.engine,
        profile=stack.profile,
        environment=stack.environment,
        allow_from=stack.allow_from,
        gateway_port=stack.gateway_port,
        disk_gb=stack.disk_gb,
        admin_key=stack.admin_key,
        backups=stack.backups,
        machines=stack.machines,
    )


def _refuse_small(stack: Stack, model: Model, needed: int | None) -> None:
    """A machine that states no memory is taken at its owner's word."""
    small = [
        f"{machine.name} ({machine.gpu_memory_gb} GB)"
        for machine in stack.machines
        if machine.gpu_memory_gb and not fits(machine.gpu_memory_gb, needed)
    ]
    if small:
        raise UnknownName(
            f"{', '.join(small)} cannot hold {model.id}, which needs {needed} GB of GPU memory",
            accepted=f"machines of which {USABLE_PERCENT} % suffice, or another precision",
        )


def _place(stack: Stack) -> str:
    if stack.cloud == "local":
        return THIS_HOST
    return f"{stack.cloud}:{stack.zone}" if stack.zone else ""


def _offer(stack: Stack, model: Model, needed: int | None, shop: Shop) -> Offer:
    """The machine type named, or the smallest that fits.

    In a zone the shop does not have we choose among all it sells, so that the guard sees the
    whole plan and says itself what is wrong with the place.
    """
    sold = shop.sold_in(stack.zone) if stack.zone in shop.region_of else shop.sold_anywhere()
    fitting = [offer for offer in sold if fits(offer.gpu_memory_gb, needed)]
    if stack.shape:
        fitting = [offer for offer in fitting if offer.id == stack.shape]
    if not fitting:
        need = f"{needed} GB of GPU memory" if needed else "a GPU"
        what = stack.shape or "a machine type"
        raise UnknownName(
            f"{what} in {stack.zone} for {model.id}, which needs {need}",
            found=", ".join(f"{offer.id} ({offer.gpu_memory_gb} GB)" for offer in sold) or "none",
            accepted="a shape of that zone with enough memory, or another precision",
        )
    return fitting[0]


def machine_hosts(site: Site) -> tuple[Host, ...]:
    """The machines a static stack names, as hosts."""
    return tuple(Host(m.name, m.address, m.user, m.port, m.place) for m in site.machines)
