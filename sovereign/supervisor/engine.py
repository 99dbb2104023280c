"""From settings to a started engine: find the program, check the weights, become it.

The weights are hashed against the digest the policy pins before anything is started; a
model whose facts name a package but whose file differs is not served.
"""

import importlib.util
import os
import resource
from pathlib import Path

from sovereign import eventlog
from sovereign.engines import ENGINES, LaunchSpec
from sovereign.errors import BadInput, EngineMissing, UnknownName, WeightsDiffer
from sovereign.policy import Policy
from sovereign.policy.shapes import Model
from sovereign.settings import Home


def launch_spec(home: Home, policy: Policy) -> LaunchSpec:
    """Everything that starts this home's engine.

    Raises:
        UnknownName: the settings name a model that no fact describes.
        BadInput: the settings name weights that are not there.
        EngineMissing: the engine or the package with the weights is not installed.
        WeightsDiffer: the weights are not those the policy pins.
    """
    chosen = home.settings.engine
    model = policy.models.get(chosen.model)
    if model is None:
        raise UnknownName(
            f"no model is called {chosen.model!r}",
            accepted=", ".join(sorted(policy.models)),
            next_step="set engine.model in sovereign.yaml",
        )
    weights = Path(chosen.weights) if chosen.weights else packaged(model)
    if not weights.exists():
        raise BadInput(
            f"there are no weights at {weights} (engine.weights)",
            accepted="a GGUF file, or a folder of safetensors; empty: the model's package",
            next_step="make deploy WEIGHTS=/path/to/weights",
        )
    host, _, port = chosen.listen.rpartition(":")
    return LaunchSpec(
        found=ENGINES[chosen.name].find(),
        model=weights,
        served_name=model.id,
        host=host.strip("[]"),
        port=int(port),
        context=min(chosen.context, model.context),
        state_dir=home.models / chosen.name,
        embeds=only_embeds(model),
        thinks="reasoning" in (*model.capabilities, *model.advertised),
        gpus=chosen.gpus,
    )


def only_embeds(model: Model) -> bool:
    """A model of vectors, with which nobody can chat: its engine is started as one of those."""
    return "embeddings" in model.capabilities and "chat" not in model.capabilities


def packaged(model: Model) -> Path:
    """The weights out of the package the model's facts name.

    Raises:
        BadInput: the facts name no package, so the settings must name the weights.
        EngineMissing: the package is not installed.
    """
    package = model.sources.package
    if package is None:
        raise BadInput(
            f"the weights of {model.id} come out of no package",
            accepted="engine.weights in sovereign.yaml: a GGUF file, or a folder of safetensors",
            next_step="make deploy MODEL=… WEIGHTS=/path/to/weights",
        )
    module = package.name.replace("-", "_")
    spec = importlib.util.find_spec(module)
    for folder in [] if spec is None else list(spec.submodule_search_locations or ()):
        path = Path(folder) / package.file.removeprefix(f"{module}/")
        if path.is_file():
            return path
    raise EngineMissing(
        f"the weights of {model.id} are not installed",
        found=f"no package {package.name}",
        accepted=f"{package.name}=={package.version}",
        next_step="make setup",
    )


def check_weights(home: Home, policy: Policy, spec: LaunchSpec) -> str:
    """Hash the weights against the pinned digest; return the digest.

    Raises:
        WeightsDiffer: they are not the ones the settings or the policy pin. Nothing was started.
    """
    chosen = home.settings.engine
    found = ENGINES[chosen.name].model_digest(spec.model)
    package = policy.models[chosen.model].sources.package
    if chosen.weights_digest and found != chosen.weights_digest:
        raise WeightsDiffer(
            f"the weights of {spec.served_name} are not those the settings pin",
            found=found,
            accepted=f"{chosen.weights_digest} (engine.weights_digest)",
            next_step="bring the weights again, or pin others on purpose",
        )
    if chosen.weights or package is None:
        return found
    if found != f"sha256:{package.sha256}":
        raise WeightsDiffer(
            f"the weights of {spec.served_name} are not those the policy pins",
            found=found,
            accepted=f"sha256:{package.sha256} (policies/facts/models.yaml)",
            next_step="make setup, to install the pinned package again",
        )
    return found


def become(home: Home, policy: Policy) -> None:
    """Check the weights and replace this process by the engine; only returns by raising."""
    spec = launch_spec(home, policy)
    digest = check_weights(home, policy, spec)
    engine = ENGINES[home.settings.engine.name]
    engine.prepare(spec)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    eventlog.emit("engine-starting", engine=engine.name, model=spec.served_name, digest=digest)
    command = engine.command(spec)
    os.execve(command[0], command, engine.environment(spec))  # noqa: S606 - no shell is wanted
