"""The four places that MongoDB URIs and certificates are read from; each imports its own client."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec

from federation.errors import FederationError
from federation.limits import SETTING_CONNECT_TIMEOUT_S, SETTING_READ_TIMEOUT_S
from federation.regions import CONTINENTS

#: A token and private keys pass here: in clear only within one machine.
_TLS_OR_LOOPBACK: Final = r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$))"


class RoutesUnavailable(FederationError):
    """No URI can be had now; the store behind it counts as unavailable."""

    def __init__(self, detail: str) -> None:
        super().__init__("routes_unavailable", detail)


class Routes(msgspec.Struct, frozen=True):
    """What a provider tells: continent to URI, and the certificates for all clusters (PEM)."""

    uris: dict[str, str]
    ca_pem: str = ""
    client_pem: str = ""


class EnvironmentProvider(msgspec.Struct, frozen=True):
    """`MONGO_URI_ASIA` … `MONGO_URI_MIDDLE_EAST`: on premises, and in tests."""

    mongo_uri_asia: str
    mongo_uri_europe: str
    mongo_uri_north_america: str
    mongo_uri_south_america: str
    mongo_uri_africa: str
    mongo_uri_oceania: str
    mongo_uri_middle_east: str
    mongo_ca_pem: str = ""
    mongo_client_pem: str = ""

    def read(self) -> Routes:
        """What the environment said at start-up."""
        uris = {one.value: getattr(self, f"mongo_uri_{one.name.lower()}") for one in CONTINENTS}
        return Routes(uris, self.mongo_ca_pem, self.mongo_client_pem)


class SsmProvider(msgspec.Struct, frozen=True):
    """Parameter Store: `<prefix>/Europe/uri` and so on, `<prefix>/ca_pem`, `<prefix>/client_pem`."""

    mongo_parameters: str

    def read(self) -> Routes:
        """All parameters by one call, which takes ten names; secure ones are decrypted."""
        from botocore.exceptions import BotoCoreError, ClientError

        from federation.secrets import settings_client

        prefix = self.mongo_parameters.rstrip("/")
        uri_names = {f"{prefix}/{one.value}/uri": one.value for one in CONTINENTS}
        pem_names = {f"{prefix}/{member}": member for member in ("ca_pem", "client_pem")}
        try:
            answer = settings_client("ssm").get_parameters(
                Names=[*uri_names, *pem_names], WithDecryption=True
            )
        except (BotoCoreError, ClientError) as error:
            raise RoutesUnavailable(f"parameters {prefix}: {_why(error)}") from error
        values = {one["Name"]: one["Value"] for one in answer["Parameters"]}
        uris = {uri_names[name]: text for name, text in values.items() if name in uri_names}
        pems = {pem_names[name]: text for name, text in values.items() if name in pem_names}
        return _checked({"uris": uris, **pems}, f"parameters {prefix}")


class SecretsManagerProvider(msgspec.Struct, frozen=True):
    """One JSON secret: `uris` {continent: URI}, `ca_pem`, `client_pem`."""

    mongo_secret: str

    def read(self) -> Routes:
        """The secret's current version."""
        from botocore.exceptions import BotoCoreError, ClientError

        from federation.secrets import fetch_secret

        source = f"secret {self.mongo_secret}"
        try:
            members = msgspec.json.decode(fetch_secret(self.mongo_secret))
        except (BotoCoreError, ClientError) as error:
            raise RoutesUnavailable(f"{source}: {_why(error)}") from error
        except msgspec.DecodeError:
            raise RoutesUnavailable(f"{source} is not JSON") from None
        return _checked(members, source)


class VaultProvider(msgspec.Struct, frozen=True):
    """A secret of Vault's KV engine, version 2, with the members of the JSON secret.

    With `VAULT_TOKEN` that token is used; without it, Vault's AWS method checks who the function
    is (a signed `GetCallerIdentity`) and gives the rights of `vault_role`; `vault_server_id` binds
    that proof to one Vault (`iam_server_id_header_value` there). `vault_cacert` is the file of the
    CA that signed the server's certificate; by default the public CAs are trusted.
    """

    vault_addr: Annotated[str, msgspec.Meta(pattern=_TLS_OR_LOOPBACK)]
    vault_path: str
    vault_mount: str = "secret"
    vault_namespace: str = ""
    vault_cacert: str = ""
    vault_token: str = ""
    vault_role: str = "love-persist"
    vault_server_id: str = ""

    def read(self) -> Routes:
        """The secret's current version."""
        import hvac
        from hvac.exceptions import VaultError
        from requests.exceptions import RequestException

        source = f"Vault secret {self.vault_mount}/{self.vault_path}"
        client = hvac.Client(
            self.vault_addr,
            # An empty token is no token; `None` would take one out of the user's home directory.
            token=self.vault_token,
            namespace=self.vault_namespace or None,
            verify=self.vault_cacert or True,
            timeout=(SETTING_CONNECT_TIMEOUT_S, SETTING_READ_TIMEOUT_S),
            allow_redirects=False,
        )
        try:
            if not self.vault_token:
                self._log_in(client)
            answer = client.secrets.kv.v2.read_secret_version(
                self.vault_path, mount_point=self.vault_mount, raise_on_deleted_version=True
            )
            members = answer["data"]["data"]
        except (VaultError, RequestException) as error:
            raise RoutesUnavailable(f"{source}: {type(error).__name__}") from error
        except (TypeError, KeyError, ValueError):
            raise RoutesUnavailable(f"{source}: the answer is not one of Vault") from None
        finally:
            client.adapter.close()
        return _checked(members, source)

    def _log_in(self, client: Any) -> None:
        import botocore.session

        found = botocore.session.get_session().get_credentials()
        if found is None:
            raise RoutesUnavailable("there are neither a VAULT_TOKEN nor AWS credentials")
        credentials = found.get_frozen_credentials()
        client.auth.aws.iam_login(
            credentials.access_key,
            credentials.secret_key,
            credentials.token,
            # The request goes to the global STS, which wants the signature of hvac's default region.
            role=self.vault_role,
            header_value=self.vault_server_id or None,
        )


RouteProvider = EnvironmentProvider | SsmProvider | SecretsManagerProvider | VaultProvider

PROVIDERS: Final[Mapping[str, type[RouteProvider]]] = {
    "environment": EnvironmentProvider,
    "ssm": SsmProvider,
    "secrets_manager": SecretsManagerProvider,
    "vault": VaultProvider,
}


def _checked(members: object, source: str) -> Routes:
    try:
        routes = msgspec.convert(members, Routes)
    except msgspec.ValidationError as error:
        raise RoutesUnavailable(f"{source}: {error}") from None
    if routes.uris.keys().isdisjoint(CONTINENTS):
        raise RoutesUnavailable(f"{source} names no MongoDB URI")
    return routes


def _why(error: Exception) -> str:
    """AWS' own error code, such as `ResourceNotFoundException`, or the kind of fault."""
    response: Mapping[str, Any] = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
