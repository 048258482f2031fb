"""The TLS proxy before the web nodes: nginx's configuration, and a local authority's certificate.

Does: writes the configuration that `deploy/nginx.conf` shows and that the trial runs: bodies are
streamed both ways, a sender with bad signal is waited for, a node that does not answer is passed
over, and what is for the operator is not answered outside. Makes an authority for one machine,
which a phone can be told to trust. Refuses to log: addresses of phones are personal data.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.private_files import create_private

AUTHORITY = "ca.pem"
CERTIFICATE = "proxy.pem"
KEY = "proxy.key"
_LIFE = timedelta(days=365)
_PASSED_OVER = "max_fails=1 fail_timeout=2s"
_LOCAL_SUBJECT = "Fengni LOCAL TRIAL CA"
_CONFIGURATION = """\
# Written by service/setup/proxy.py; a test holds this file to it.
worker_processes auto;
worker_rlimit_nofile 65536;
error_log {error_log} warn;
pid {pid};
events {{
  worker_connections 16384;  # a phone holds one for keepalive_timeout, and one more leads to a node
}}
http {{
  access_log off;  # addresses of phones are personal data
  client_body_temp_path {temporary}/body;
  proxy_temp_path {temporary}/proxy;
  fastcgi_temp_path {temporary}/fastcgi;
  uwsgi_temp_path {temporary}/uwsgi;
  scgi_temp_path {temporary}/scgi;
  server_tokens off;

  upstream fengni {{
{servers}
    keepalive 32;
    keepalive_timeout 5s;  # a node ends a connection on which it heard nothing for 10 s
  }}

  # A phone with bad signal is waited for; how slow is too slow, the node decides.
  client_header_timeout 60s;
  client_body_timeout 120s;
  send_timeout 120s;
  keepalive_timeout 75s;
  client_max_body_size 64g;  # FENGNI_MAX_CONTENT_BYTES

  server {{
{listens}
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;

    # Bodies are streamed: a node syncs what it acknowledges, and a proxy that buffers would not.
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_connect_timeout 3s;
    proxy_send_timeout 120s;
    proxy_read_timeout 180s;  # longer than FENGNI_REQUEST_TIMEOUT_S and FENGNI_EXPORT_WAIT_S
    proxy_next_upstream error timeout;  # a request of which a node heard something is not repeated

    location / {{
      proxy_pass http://fengni;
    }}
    # For the operator's own network, at each node.
    location = /metrics {{
      return 404;
    }}
    location = /readyz {{
      return 404;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What a proxy stands before, and where.

    Attributes:
        listens: nginx's `listen` arguments, the one with TLS says `ssl`.
        nodes: web nodes, `host:port`.
        certificate: its chain, PEM.
        key: its private key, PEM.
        error_log: file for what goes wrong, or `stderr`.
        pid: file for its process id.
        temporary: folder for what it must put aside.
    """

    listens: Sequence[str]
    nodes: Sequence[str]
    certificate: str
    key: str
    error_log: str
    pid: str
    temporary: str


IN_CONTAINERS = Front(
    listens=("8443 ssl",),
    nodes=("web-1:8000", "web-2:8000"),
    certificate="/run/tls/proxy.pem",
    key="/run/tls/proxy.key",
    error_log="stderr",
    pid="/tmp/nginx.pid",  # noqa: S108  of the container
    temporary="/tmp",  # noqa: S108  the same
)
"""As `deploy/compose.yaml` runs it."""


def nginx_configuration(front: Front) -> str:
    """The whole configuration file."""
    return _CONFIGURATION.format(
        servers="\n".join(f"    server {node} {_PASSED_OVER};" for node in front.nodes),
        listens="\n".join(f"    listen {one};" for one in front.listens),
        certificate=front.certificate,
        key=front.key,
        error_log=front.error_log,
        pid=front.pid,
        temporary=front.temporary,
    )


def make_local_authority(folder: Path, at: datetime) -> None:
    """Make an authority for this machine and a certificate by it for loopback; once.

    The authority's own key is thrown away: nobody can have it vouch for anything else.

    Args:
        folder: gets `ca.pem`, `proxy.pem` and `proxy.key`.
        at: start of validity, UTC.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _LOCAL_SUBJECT)])
    own = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        _certificate(issuer, issuer, ca_key.public_key(), at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(own, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server_only = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _certificate(subject, issuer, key.public_key(), at)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(server_only, critical=False)
        .add_extension(ours, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    create_private(folder / AUTHORITY, authority.public_bytes(Encoding.PEM))
    create_private(folder / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    create_private(folder / KEY, pem)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(hours=1))
        .not_valid_after(at + _LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
