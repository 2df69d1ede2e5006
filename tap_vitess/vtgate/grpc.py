"""The gRPC side: channel, TLS, credentials, the VStream call, and what gRPC's errors mean.

Python's gRPC refuses messages above 4 MiB unless told otherwise; VTGate sends larger ones, so
the limit is off by default. VTGate's server ends connections that ping more than every 10 s,
so we ping every 30 s. No compression: VTGate knows only snappy, gRPC for Python does not. gRPC
would go through a proxy that the environment names; PyMySQL does not, and neither do we.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError

from tap_vitess._proto import vtgate_pb2 as vtgate
from tap_vitess.errors import ConnectError, ProtocolError, VitessError
from tap_vitess.protocol.decode import StreamEvent, decode_all
from tap_vitess.vtgate.address import Address, Tls
from tap_vitess.vtgate.faults import classify, shorten
from tap_vitess.vtgate.responses import BY_LINE, Responses, Units
from tap_vitess.vtgate.tls import look

METHOD = "/vtgateservice.Vitess/VStream"
HEALTH = "/grpc.health.v1.Health/Check"


class Client:
    """An open channel to VTGate. Use `connect`."""

    def __init__(self, channel: grpc.Channel, address: Address, units: Units) -> None:
        self._address = address
        self._units = units
        self._metadata = tuple(_metadata(address))
        self._call: grpc.UnaryStreamMultiCallable[vtgate.VStreamRequest, bytes] = (
            channel.unary_stream(METHOD, request_serializer=vtgate.VStreamRequest.SerializeToString)
        )

    @contextmanager
    def stream(
        self, request: vtgate.VStreamRequest, *, silence: float = 60.0
    ) -> Iterator[Iterator[Sequence[StreamEvent]]]:
        """Open a VStream and yield its responses' events, of several small ones at once.

        Leaving the block cancels the call.

        Args:
            request: what to ask for, heartbeats included.
            silence: seconds without any response after which the call is given up. Pings do not
                tell: a proxy, or a VTGate that is stuck, answers them.

        Raises:
            VitessError: what the server or the network said, translated by `explain`.
        """
        call = self._call(request, metadata=self._metadata)
        responses = Responses(call, silence, self._units)
        try:
            yield _decoded(responses)
        except grpc.RpcError as error:
            # The cause holds what VTGate said in full, values of rows included.
            raise explain(error, self._address) from None
        finally:
            call.cancel()
            responses.leave()


def _decoded(received: Iterable[list[bytes]]) -> Iterator[Sequence[StreamEvent]]:
    """Decode what has come together; what came before a broken response is given out first."""
    for responses in received:
        alone = len(responses) == 1
        try:
            events = decode_all(_let_go(responses) if alone else responses)
        except DecodeError:
            if alone:
                raise ProtocolError("VTGate sent something other than a VStreamResponse") from None
            yield from _decoded([response] for response in responses)
            continue
        del responses
        yield events
        del events  # a huge one is let go before the next is received, here as in each loop above


def _let_go(responses: list[bytes]) -> Generator[bytes, None, None]:
    """Give a response out and keep none: it may be huge, and is copied as it is decoded."""
    yield responses.pop()


@contextmanager
def connect(address: Address, units: Units = BY_LINE) -> Iterator[Client]:
    """Open a channel to VTGate's gRPC port and see that it answers.

    `units` tells how many responses of a stream come together.

    Raises:
        ConnectError: nothing answers within connect_timeout_seconds.
        AuthError: the user or password is refused.
        ConfigError: a TLS file is not what its setting says.
    """
    where = address.at(address.grpc_port)
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", address.max_message_bytes or -1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # The MySQL port is not reached through one, and one would see the user and the password.
        ("grpc.enable_http_proxy", 0),
        # Else a thread of gRPC's keeps each response until the next one has come (its constant is
        # grpc.experimental.ChannelOptions.SingleThreadedUnaryStream).
        ("SingleThreadedUnaryStream", 1),
    ]
    if address.tls is None:
        channel = grpc.insecure_channel(where, options)
    else:
        if address.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", address.tls.server_name))
        channel = grpc.secure_channel(where, _credentials(address.tls), options)
    _keep_freed_memory(units.kept)
    with channel:
        _greet(channel, address, where)
        yield Client(channel, address, units)


def _keep_freed_memory(block: int) -> None:
    """Let glibc keep freed blocks of up to so many bytes for the next responses.

    It gives memory back to the system only in sizes above the largest block freed so far, or
    twice that (mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), and asking for it again with each
    response costs an eighth of the time. This block is never written to: it takes no memory.
    """
    bytes(block)


def _greet(channel: grpc.Channel, address: Address, where: str) -> None:
    """Ask for the server's health; any answer of a gRPC server will do.

    This says at once what is wrong with host, port, TLS or user, which a VStream hides for 90 s.
    """
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH)
    try:
        check(b"", timeout=address.connect_timeout_seconds, metadata=tuple(_metadata(address)))
    except grpc.RpcError as error:
        code = error.code()
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            timeout = address.connect_timeout_seconds
            if why := look(address.name, address.grpc_port, address.tls, timeout):
                raise ConnectError(f"VTGate's gRPC port {where}: {why}") from None
            said = shorten(address.masked(error.details() or ""))
            raise ConnectError(
                f"VTGate's gRPC port {where} does not answer ({code.name}: {said}): check the "
                "settings host, grpc_port and tls"
            ) from None
        if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
            raise explain(error, address) from None


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def _read(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _metadata(address: Address) -> Iterator[tuple[str, str]]:
    if address.user is not None:
        yield "username", address.user
    if address.password is not None:
        yield "password", address.password
    for name, value in address.grpc_headers.items():
        yield name.lower(), value


def explain(error: grpc.RpcError, address: Address) -> VitessError:
    """Translate a gRPC error into one of ours."""
    code: grpc.StatusCode = error.code()
    return classify("grpc", code.name, address.masked(error.details() or ""))
