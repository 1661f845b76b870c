"""What `spark.secure` asks of Spark, by what Spark's own page on security offers, and what does not go with it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import PydanticCustomError

from freshet.settings.fields import related

SECRET = "spark.authenticate.secret"

# Set by `spark.secure`; spark.conf may say otherwise where REQUIRED does not stand against it.
SECURED = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    "spark.network.crypto.saslFallback": "false",  # the older protocol would do where the newer one fails
    # By default AES in counter mode: nobody can read it, but who can write to the wire can flip bits of it.
    "spark.network.crypto.cipher": "AES/GCM/NoPadding",
    "spark.network.crypto.authEngineVersion": "2",
    "spark.io.encryption.enabled": "true",
    "spark.io.encryption.keySizeBits": "256",
    "spark.acls.enable": "true",
}
REQUIRED = {
    name: SECURED[name]
    for name in (
        "spark.authenticate", "spark.network.crypto.enabled", "spark.network.crypto.saslFallback", "spark.io.encryption.enabled",
        "spark.acls.enable",
    )
}  # fmt: skip


def is_standalone(master: str) -> bool:
    """Whether the cluster is Spark's own, whose workers were given a secret before: it has to be told."""
    return master.startswith("spark://")


def wrong(master: str, conf: Mapping[str, str], secure: bool, secret_file: str | None) -> PydanticCustomError | None:
    """What does not go together, None where all does."""
    if not secure:
        return related("spark.secure: true where there is a secret_file", "secure", "secret_file") if secret_file else None
    against = [name for name, wanted in REQUIRED.items() if conf.get(name, wanted).strip().lower() != wanted]
    if against:
        wanted = ", ".join(f"{name}: {REQUIRED[name]}" for name in against)
        return related(f"{wanted} (or nothing) where secure is true", "secure", "conf")
    if secret_file and SECRET in conf:
        return related(f"one secret, in secret_file or as {SECRET}", "secret_file", "conf")
    if secret_file and not is_standalone(master):
        return related("no secret_file but for spark://: elsewhere each session has a secret of its own", "secret_file", "master")
    if is_standalone(master) and not secret_file and SECRET not in conf:
        return related("a secret_file with the secret that the workers of this cluster were given", "secure", "secret_file")
    return _ui(master, conf)


def _ui(master: str, conf: Mapping[str, str]) -> PydanticCustomError | None:
    """Spark's UI asks nobody who he is unless a filter does, and is not encrypted unless it has a key."""
    if conf.get("spark.ui.enabled", "false").strip().lower() != "true":
        return None
    if not conf.get("spark.ui.filters"):
        return related("a spark.ui.filters that asks who comes, or no spark.ui.enabled, where secure is true", "secure", "conf")
    has_key = "true" in (conf.get("spark.ssl.enabled", "").strip().lower(), conf.get("spark.ssl.ui.enabled", "").strip().lower())
    if not master.startswith("local") and not has_key:
        return related("spark.ssl.ui.enabled with its key, or no spark.ui.enabled, where secure is true", "secure", "conf")
    return None
