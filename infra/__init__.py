"""Plan what a site would be made of, and let the policy judge every piece before it exists.

    stack.py      what the operator writes: infra/stacks/NAME.yaml
    resolve.py      what that means: a model that fits a machine, at a price, in a place
    shapes.py     `Site` in, `Outputs` out: the whole contract of a cloud
    clouds/       one file a cloud, each in the words of that cloud
    guard/        asks `sovereign.residency.decide` about every resource, inside the engine
    simulator/    a cloud that can say no, for rehearsals without an account
    engine.py     drives the real Pulumi engine
    plan.py       puts the answer together; __main__.py prints it

`sovereign` never imports this package.
"""
