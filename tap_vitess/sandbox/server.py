"""The sandbox as a server: VTGate's gRPC on one port, its MySQL protocol on another.

Guarantees: within `serve` both ports answer, and after it no thread and no socket remains. Requests
are kept in the order in which they came.

Surprising: gRPC answers a call without credentials with UNAUTHENTICATED and one with wrong ones
with PERMISSION_DENIED. mysql-mimic is needed only if MySQL is served, so the gRPC side works
without the extra.
"""

import base64
import hmac
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import grpc

from tap_vitess._proto.vtgate_pb2 import VStreamRequest, VStreamResponse
from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.errors import VStreamError
from tap_vitess.sandbox.faults import Breaker, Fault, Faults
from tap_vitess.sandbox.options import Options
from tap_vitess.sandbox.vstream import VStream

__all__ = ["Fault", "Faults", "Options", "Sandbox", "Tls", "serve"]

_SERVICE = "vtgateservice.Vitess"
# A stream holds a thread for as long as it is open.
_MOST_STREAMS = 200


@dataclass(frozen=True)
class Tls:
    """PEM texts of the gRPC side; with `client_ca`, clients need a certificate issued by it."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None = None


@dataclass
class Sandbox:
    """A running sandbox."""

    cluster: Cluster
    host: str
    grpc_port: int = 0
    mysql_port: int = 0
    requests: list[VStreamRequest] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)


@contextmanager
def serve(
    cluster: Cluster,
    *,
    host: str = "127.0.0.1",
    grpc_port: int = 0,
    mysql_port: int | None = 0,
    username: str | None = None,
    password: str | None = None,
    faults: Faults | None = None,
    options: Options | None = None,
    tls: Tls | None = None,
) -> Iterator[Sandbox]:
    """Serves the cluster; port 0 picks a free port, and a MySQL port of None serves no MySQL."""
    sandbox = Sandbox(cluster, host, faults=Faults() if faults is None else faults)
    credentials = None if username is None else (username, password or "")
    with ExitStack() as stack:
        servicer = _Vitess(sandbox, credentials, options or Options())
        sandbox.grpc_port = stack.enter_context(_serve_grpc(servicer, host, grpc_port, tls))
        if mysql_port is not None:
            from tap_vitess.sandbox.mysql import serve_mysql  # noqa: PLC0415 - an optional extra

            mysql = serve_mysql(cluster, host, mysql_port, credentials, sandbox.faults)
            sandbox.mysql_port = stack.enter_context(mysql)
        yield sandbox


@contextmanager
def _serve_grpc(servicer: "_Vitess", host: str, port: int, tls: Tls | None) -> Iterator[int]:
    with ThreadPoolExecutor(_MOST_STREAMS, thread_name_prefix="sandbox-vstream") as pool:
        server = grpc.server(
            pool,
            options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)],
        )
        server.add_generic_rpc_handlers(servicer.handlers())
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if tls is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, _server_credentials(tls))
        server.start()
        try:
            yield bound
        finally:
            server.stop(grace=None).wait()


def _server_credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.private_key, tls.certificate)],
        root_certificates=tls.client_ca,
        require_client_auth=tls.client_ca is not None,
    )


class _Vitess:
    """VStream, and the health check that VTGate's server answers too."""

    def __init__(
        self, sandbox: Sandbox, credentials: tuple[str, str] | None, options: Options
    ) -> None:
        self._sandbox = sandbox
        self._credentials = credentials
        self._options = options

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        method = grpc.unary_stream_rpc_method_handler(
            self._vstream,
            request_deserializer=VStreamRequest.FromString,
            response_serializer=VStreamResponse.SerializeToString,
        )
        health: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            self._health
        )
        return (
            grpc.method_handlers_generic_handler(_SERVICE, {"VStream": method}),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": health}),
        )

    def _health(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer that it serves; like VTGate's, this needs credentials, too."""
        del request
        try:
            self._check_credentials(context)
        except VStreamError as error:
            context.abort(grpc.StatusCode[error.code], error.details)
        return b"\x08\x01"

    def _vstream(
        self, request: VStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[VStreamResponse]:
        stream = VStream(self._sandbox.cluster, request, self._options)
        if not context.add_callback(stream.stop):
            return
        try:
            self._check_credentials(context)
            self._sandbox.requests.append(request)
            breaker = Breaker(self._sandbox.faults)
            breaker.start()
            for events in breaker.pass_on(stream.responses()):
                yield VStreamResponse(events=events)
        except VStreamError as error:
            context.abort(grpc.StatusCode[error.code], error.details)

    def _check_credentials(self, context: grpc.ServicerContext) -> None:
        if self._credentials is None:
            return
        given = dict(context.invocation_metadata())
        if "authorization" in given:
            # As a gateway in front of VTGate requires it.
            basic = base64.b64encode(":".join(self._credentials).encode()).decode()
            if hmac.compare_digest(str(given["authorization"]), f"Basic {basic}"):
                return
            raise VStreamError("UNAUTHENTICATED", "invalid authorization")
        if "username" not in given or "password" not in given:
            raise VStreamError("UNAUTHENTICATED", "username and password must be provided")
        pair = str(given["username"]), str(given["password"])
        matches = [
            hmac.compare_digest(left.encode(), right.encode())
            for left, right in zip(pair, self._credentials, strict=True)
        ]
        if not all(matches):
            raise VStreamError(
                "PERMISSION_DENIED",
                f'auth failure: caller "{pair[0]}" provided invalid credentials',
            )
