"""The simulator as the engine starts it: a resource provider that prints its port.

Speaks the engine's own protocol, `pulumirpc.ResourceProvider`. What is accepted and refused
is decided in `account.py`; this file only translates.
"""

# ruff: noqa: N802 - the methods carry the names of the protocol

import json
import os
import sys
from collections.abc import Mapping
from concurrent import futures
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf import json_format, struct_pb2
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto import provider_pb2 as wire
from pulumi.runtime.proto import provider_pb2_grpc as service

from infra.offers import shop
from infra.simulator.account import Account, CloudRefused, changed, replaced_by
from infra.simulator.shapes import Failure
from infra.simulator.trouble import Trouble

BOOKS_VARIABLE = "SOVEREIGN_SIMULATOR_BOOKS"
SDKS = {"scaleway": ("pulumiverse-scaleway", "scaleway"), "hcloud": ("pulumi-hcloud", "hetzner")}
"""The name the engine calls us by, the package we stand in for, and the shop it belongs to."""


class Provider(service.ResourceProviderServicer):
    """One account behind the engine's protocol."""

    def __init__(self, account: Account, name: str, trouble: Trouble) -> None:
        self._account = account
        self._name, self._version = name, version(SDKS[name][0])
        self._trouble = trouble

    def Handshake(self, request: Any, context: Any) -> wire.ProviderHandshakeResponse:
        """Values reach us plain: no secrets, no references."""
        return wire.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:
        """The version of the SDK we stand in for."""
        return plugin_pb2.PluginInfo(version=self._version)

    def GetSchema(self, request: Any, context: Any) -> wire.GetSchemaResponse:
        """A name and a version; the program brings the types."""
        schema = {"name": self._name, "version": self._version}
        return wire.GetSchemaResponse(schema=json.dumps(schema))

    def CheckConfig(self, request: wire.CheckRequest, context: Any) -> wire.CheckResponse:
        """Refuse settings that the cloud does not have."""
        failures = self._account.check_config(_plain(request.news))
        return wire.CheckResponse(inputs=request.news, failures=_failures(failures))

    def DiffConfig(self, request: wire.DiffRequest, context: Any) -> wire.DiffResponse:
        """Moving a provider moves nothing that states its own place."""
        return wire.DiffResponse(changes=wire.DiffResponse.DIFF_NONE)

    def Configure(self, request: wire.ConfigureRequest, context: Any) -> wire.ConfigureResponse:
        """Take the provider's defaults, if there are such places."""
        try:
            self._account.configure(_plain(request.args))
        except CloudRefused as refusal:
            _refuse(context, refusal)
        return wire.ConfigureResponse(supportsPreview=True)

    def Check(self, request: wire.CheckRequest, context: Any) -> wire.CheckResponse:
        """Refuse types, properties, values and places that the cloud does not have."""
        failures = self._account.check(_kind(request.urn), _plain(request.news))
        return wire.CheckResponse(inputs=request.news, failures=_failures(failures))

    def Diff(self, request: wire.DiffRequest, context: Any) -> wire.DiffResponse:
        """Say what changed, and what of it needs a new resource."""
        old, new = _plain(request.old_inputs), _plain(request.news)
        names = changed(old, new)
        return wire.DiffResponse(
            changes=wire.DiffResponse.DIFF_SOME if names else wire.DiffResponse.DIFF_NONE,
            replaces=replaced_by(_kind(request.urn), old, new),
            diffs=names,
        )

    def Create(self, request: wire.CreateRequest, context: Any) -> wire.CreateResponse:
        """Make it; in a preview, only repeat what was asked."""
        if request.preview:
            return wire.CreateResponse(id="", properties=request.properties)
        try:
            left = self._trouble.before("create", _kind(request.urn))
            made, outputs = self._account.create(
                _kind(request.urn), request.urn, _plain(request.properties)
            )
            self._trouble.after(left)
        except CloudRefused as refusal:
            _refuse(context, refusal)
        return wire.CreateResponse(id=made, properties=_struct(outputs))

    def Read(self, request: wire.ReadRequest, context: Any) -> wire.ReadResponse:
        """What stands under an id; an empty answer when it is gone."""
        found = self._account.read(request.id)
        if found is None:
            return wire.ReadResponse()
        inputs, outputs = found
        return wire.ReadResponse(id=request.id, inputs=_struct(inputs), properties=_struct(outputs))

    def Update(self, request: wire.UpdateRequest, context: Any) -> wire.UpdateResponse:
        """Change it; in a preview, only repeat what was asked."""
        if request.preview:
            return wire.UpdateResponse(properties=request.news)
        try:
            outputs = self._account.update(request.id, _plain(request.news))
        except CloudRefused as refusal:
            _refuse(context, refusal)
        return wire.UpdateResponse(properties=_struct(outputs))

    def Delete(self, request: wire.DeleteRequest, context: Any) -> Empty:
        """Remove it from the books."""
        try:
            if self._trouble.before("delete", _kind(request.urn)) != "lag":
                self._account.delete(request.id)
        except CloudRefused as refusal:
            _refuse(context, refusal)
        return Empty()

    def Cancel(self, request: Any, context: Any) -> Empty:
        """Nothing here takes long enough to be cancelled."""
        return Empty()

    def Attach(self, request: Any, context: Any) -> Empty:
        """We call nothing back."""
        return Empty()


def _kind(urn: str) -> str:
    """The type out of `urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME`."""
    return urn.split("::")[2].rpartition("$")[2]


def _plain(given: struct_pb2.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = json_format.MessageToDict(given)
    return {name: value for name, value in plain.items() if not name.startswith("__")}


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def _failures(failures: list[Failure]) -> list[wire.CheckFailure]:
    return [wire.CheckFailure(property=each.property, reason=each.reason) for each in failures]


def _refuse(context: Any, refusal: CloudRefused) -> NoReturn:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
    raise refusal


def main() -> None:
    """Serve one account until the engine ends us. Our first argument is whose we stand in for."""
    name = sys.argv[1]
    books = Path(os.environ[BOOKS_VARIABLE])
    account = Account(books, shop(SDKS[name][1]))
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    provider = Provider(account, name, Trouble(books))
    service.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
