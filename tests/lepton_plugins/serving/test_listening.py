"""Where a server listens: Unix sockets and TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import stat
from pathlib import Path

import grpc
import httpx
import pytest

from lepton_plugins.errors import AddressTaken, InvalidInput, PairInvalid, PathMissing
from lepton_plugins.serving.grpc_messages import SERVICE, message
from lepton_plugins.serving.run import serve
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.tls import check_pair


def test_a_unix_socket(deployment, start_server, tmp_path):
    path = tmp_path / "lepton.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with start_server(deployment.path, tmp_path, host=str(path)) as server:
        assert f" at unix:{path} " in server.said
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            assert client.get("/v2/models/flights").json()["name"] == "flights"
            assert client.get("/lepton/plan").json()["model"] == "flights"
        with pytest.raises(AddressTaken):
            serve(deployment.path, str(path))
    assert not path.exists()


def test_a_file_that_is_no_socket_stays(deployment, tmp_path):
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(AddressTaken):
        serve(deployment.path, str(path))
    assert path.read_text() == "mine"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = built.sign(key, hashes.SHA256())
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=plain)
    )
    return files


def test_tls_over_http_and_grpc(deployment, start_server, tmp_path):
    certificate, key = make_certificate(tmp_path)
    settings = {"certificate": str(certificate), "key": str(key), "grpc_port": 0}
    with start_server(deployment.path, tmp_path, **settings) as server:
        assert server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=server.url, verify=trusted) as client:
            inputs = [{"name": f"x{i}", "shape": [1], "datatype": "FP64", "data": [1.0]} for i in range(4)]
            for _ in range(10):
                assert client.post("/v2/models/flights/infer", json={"inputs": inputs}).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http") + "/ping")
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(server.grpc_address, credentials) as channel:
            live = channel.unary_unary(
                f"/{SERVICE}/ServerLive",
                request_serializer=message("ServerLiveRequest").SerializeToString,
                response_deserializer=message("ServerLiveResponse").FromString,
            )
            assert live(message("ServerLiveRequest")(), timeout=10).live


def test_files_for_tls_that_are_not_there(tmp_path):
    with pytest.raises(PathMissing):
        ServingSettings(certificate=tmp_path / "none.pem")
    key = tmp_path / "key.pem"
    key.write_text("")
    with pytest.raises(InvalidInput):
        ServingSettings(key=key)


def test_files_for_tls_that_do_not_fit_are_one_clear_error(tmp_path):
    certificate, key = make_certificate(tmp_path)
    check_pair(certificate, key)
    other = tmp_path / "other"
    other.mkdir()
    _, wrong = make_certificate(other)
    locked = other / "locked.pem"
    locked.write_bytes(encrypted(key))
    for pair, told in (
        ((certificate, wrong), "key values mismatch"),
        ((certificate, None), "one of the two isn't in it"),
        ((key, None), "one of the two isn't in it"),
        ((certificate, locked), "the key is encrypted"),
    ):
        with pytest.raises(PairInvalid) as refused:
            check_pair(*pair)
        assert str(refused.value).startswith("TLS can't be spoken with ")
        assert told in str(refused.value)


def encrypted(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
