"""The operator's settings, from the environment: one field a variable, `TINYML_` in front.

docs/operator.md lists them; a contract test compares.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Self


class SettingsError(Exception):
    """A variable holds what the operator cannot use. The message names it and what is accepted."""


def compiler_version() -> str:
    """Return the compiler that this distribution carries, as a build request names it."""
    try:
        return f"tinymlaas-{metadata.version('tinymlaas')}"
    except metadata.PackageNotFoundError:
        return "tinymlaas-0.0.0"


@dataclass(frozen=True)  # no slots: from_env reads the defaults off the class
class Settings:
    """Seconds end in `_s`. Lists are separated by commas, `builder_command` as a shell would.

    `namespaces` empty: all. `allowed_hosts`: hosts that `http(s)://` sources may name (none by
    default). `allowed_buckets`: buckets that `s3://` sources may name besides the operator's own
    (`*`: every one that its credentials read), as tenants are given URLs that the operator signs.
    `s3_public_endpoint`: the endpoint as pods and gateways reach it, if they reach it by another
    name; presigned URLs are made for it.
    """

    s3_bucket: str
    s3_endpoint: str | None = None
    s3_public_endpoint: str | None = None
    namespaces: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_buckets: tuple[str, ...] = ()
    compiler: str = "tinymlaas-0.0.0"
    toolchain: str = "ziglang-0.17.1"
    builder_image: str = "tinymlaas-builder:latest"
    builder_command: tuple[str, ...] = ("python3", "-m", "tinyml_compiler")
    builder_cpu: str = "2"
    builder_memory: str = "4Gi"
    build_deadline_s: int = 1800
    build_attempts: int = 5
    retry_first_s: float = 5.0
    retry_most_s: float = 300.0
    url_lifetime_s: int = 3600
    job_ttl_s: int = 3600
    http_host: str = "0.0.0.0"  # noqa: S104 - the Service's pod address
    http_port: int = 8080
    sweep_s: float = 60.0
    workers: int = 4
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read TINYML_*. Raises SettingsError."""
        bucket = env.get("TINYML_S3_BUCKET", "")
        if not bucket:
            raise SettingsError("TINYML_S3_BUCKET is not set: name the bucket for artifacts")
        return cls(
            s3_bucket=bucket,
            s3_endpoint=env.get("TINYML_S3_ENDPOINT") or None,
            s3_public_endpoint=env.get("TINYML_S3_PUBLIC_ENDPOINT") or None,
            namespaces=_list(env, "TINYML_NAMESPACES"),
            allowed_hosts=_list(env, "TINYML_ALLOWED_HOSTS"),
            allowed_buckets=_list(env, "TINYML_ALLOWED_BUCKETS"),
            compiler=env.get("TINYML_COMPILER") or compiler_version(),
            toolchain=env.get("TINYML_TOOLCHAIN") or cls.toolchain,
            builder_image=env.get("TINYML_BUILDER_IMAGE") or cls.builder_image,
            builder_command=_command(env, "TINYML_BUILDER_COMMAND", cls.builder_command),
            builder_cpu=env.get("TINYML_BUILDER_CPU") or cls.builder_cpu,
            builder_memory=env.get("TINYML_BUILDER_MEMORY") or cls.builder_memory,
            build_deadline_s=_integer(env, "TINYML_BUILD_DEADLINE_S", cls.build_deadline_s, 10),
            build_attempts=_integer(env, "TINYML_BUILD_ATTEMPTS", cls.build_attempts, 1),
            retry_first_s=_number(env, "TINYML_RETRY_FIRST_S", cls.retry_first_s),
            retry_most_s=_number(env, "TINYML_RETRY_MOST_S", cls.retry_most_s),
            url_lifetime_s=_integer(env, "TINYML_URL_LIFETIME_S", cls.url_lifetime_s, 60),
            job_ttl_s=_integer(env, "TINYML_JOB_TTL_S", cls.job_ttl_s, 60),
            http_host=env.get("TINYML_HTTP_HOST") or cls.http_host,
            http_port=_integer(env, "TINYML_HTTP_PORT", cls.http_port, 0),
            sweep_s=_number(env, "TINYML_SWEEP_S", cls.sweep_s),
            workers=_integer(env, "TINYML_WORKERS", cls.workers, 1),
            log_level=env.get("TINYML_LOG_LEVEL") or cls.log_level,
        )


def _list(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in env.get(name, "").split(",") if part.strip())


def _command(env: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(env.get(name, ""))) or default
    except ValueError as error:
        raise SettingsError(f"{name} is {env[name]!r}, not a command line: {error}") from error


def _integer(env: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise SettingsError(f"{name} is {text!r}, not a whole number of at least {least}")
    return int(text)


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 86400:
        raise SettingsError(f"{name} is {text!r}, not a number of seconds above 0 and below 86400")
    return value
