"""The bucket that a URI names, with the credentials that each cloud's own tools would use."""

from __future__ import annotations

import functools
import os
import shutil
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import Request, urlopen

from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from ..errors import UserError, nearest
from .uri import URI

OPTIONS = {
    "s3": ("endpoint_override", "scheme", "region"),
    "gs": ("endpoint_override", "scheme"),
    "az": ("endpoint_override", "scheme", "account"),
}
ASKED: dict[str, Any] = {  # of each bucket
    "client_options": {"allow_http": True, "connect_timeout": "10 seconds", "timeout": "120 seconds"},  # for some 64 MB
    "retry_config": {"max_retries": 8, "retry_timeout": timedelta(minutes=1)},  # with longer pauses each time
}


def bucket_of(uri: str) -> ObjectStore:
    """The bucket that a URI of one of `OPTIONS` names. UserError where it lacks something, or there are no credentials.
    Nothing is asked of the cloud yet, but where a bucket of AWS is.
    """
    parts = URI.of(uri)
    made: ObjectStore = {"s3": _s3, "gs": _gs, "az": _az}[parts.scheme](parts)
    return made


def checked(uri: str) -> str:
    """A URI whose options are those of its scheme; UserError where one is not, or no bucket is named."""
    parts = URI.of(uri)
    known = OPTIONS[parts.scheme]
    if not parts.authority:
        raise UserError(f"--out {parts.shown} names no bucket: {parts.scheme}://BUCKET/PREFIX")
    for name in parts.query:
        if name not in known:
            raise UserError(f"--out {parts.shown}?{name}=...: no such option; {nearest(name, known)}")
    return uri


def _s3(parts: URI) -> ObjectStore:
    """One of S3: with the key in the URI, or what AWS's own tools find: environment, files, a role."""
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    given: dict[str, Any] = {}
    if parts.user is not None:
        given = {"access_key_id": unquote(parts.user), "secret_access_key": unquote(parts.password or "")}
    elif os.environ.get("AWS_SKIP_SIGNATURE", "").lower() not in ("1", "true"):
        if session.get_credentials() is None:
            raise UserError(
                f"--out {parts.shown}: no credentials for S3 are where AWS's tools look: AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, ~/.aws, a role. For a public bucket set AWS_SKIP_SIGNATURE=true"
            )
        given = {"credential_provider": Boto3CredentialProvider(session)}
    if endpoint := _endpoint(parts) or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        given["endpoint"] = endpoint
    region = parts.query.get("region") or session.region_name or (None if endpoint else _region(parts.authority))
    return S3Store(parts.authority, region=region or "us-east-1", **ASKED, **given)


def _gs(parts: URI) -> ObjectStore:
    """One of Google Cloud Storage, with what its own tools find: a service account, a login of gcloud, a role."""
    given: dict[str, Any] = {"base_url": endpoint} if (endpoint := _endpoint(parts)) else {}
    return GCSStore(parts.authority, **ASKED, **given)


def _az(parts: URI) -> ObjectStore:
    """A container of Azure, with what is in the environment, a login of its command, or a role."""
    environment = os.environ
    account = parts.query.get("account") or _first("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if account is None:
        raise UserError(
            f"--out {parts.shown} names no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or add ?account=NAME"
        )
    given: dict[str, Any] = {"account_name": account}
    if endpoint := _endpoint(parts):
        given["endpoint"] = endpoint
    if key := environment.get("AZURE_STORAGE_KEY"):  # the name that Azure's command knows
        given["account_key"] = key
    kinds = ("KEY", "TOKEN", "SECRET", "IDENTITY", "MSI", "CREDENTIAL_TYPE")
    told = any(name.startswith("AZURE_") and any(kind in name for kind in kinds) for name in environment)
    if not told and shutil.which("az"):
        given["credential_type"] = "azure_cli"
    return AzureStore(parts.authority, **ASKED, **given)


def _first(*names: str) -> str | None:
    """The first of these variables of the environment that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _endpoint(parts: URI) -> str | None:
    """The service that a URI names instead of the cloud's own."""
    endpoint = parts.query.get("endpoint_override")
    if endpoint and "://" not in endpoint:
        return f"{parts.query.get('scheme', 'https')}://{endpoint}"
    return endpoint


@functools.cache
def _region(bucket: str, host: str = "https://s3.amazonaws.com") -> str | None:
    """The region of a bucket, which AWS tells everybody; None where it does not."""
    try:
        with urlopen(Request(f"{host}/{bucket}", method="HEAD"), timeout=10) as answer:
            told = answer.headers
    except HTTPError as error:  # not for everybody to read, or elsewhere
        told = error.headers
    except OSError:
        return None
    region: str | None = told.get("x-amz-bucket-region")
    return region
