"""spark.secure and what does not go with it."""

from __future__ import annotations

import pytest

from freshet.errors import SettingsError
from freshet.settings import load

SECURE = "spark.secure=true"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["spark.secret_file=secret"], "spark.secure: true"),
        ([SECURE, "spark.conf.spark.authenticate=false"], "spark.authenticate: true"),
        ([SECURE, "spark.conf.spark.network.crypto.enabled=False"], "spark.network.crypto.enabled: true"),
        ([SECURE, "spark.conf.spark.network.crypto.saslFallback=true"], "saslFallback: false"),
        ([SECURE, "spark.conf.spark.io.encryption.enabled=false"], "spark.io.encryption.enabled: true"),
        ([SECURE, "spark.master=spark://here:7077"], "a secret_file with the secret"),
        ([SECURE, "spark.master=yarn", "spark.secret_file=secret"], "no secret_file but for spark://"),
        ([SECURE, "spark.master=spark://here:7077", "spark.secret_file=secret", "spark.conf.spark.authenticate.secret=canary"], "one secret"),
        ([SECURE, "spark.conf.spark.ui.enabled=true"], "spark.ui.filters"),
        ([SECURE, "spark.master=yarn", "spark.conf.spark.ui.enabled=true", "spark.conf.spark.ui.filters=a.Filter"], "spark.ssl.ui.enabled"),
    ],
)
def test_what_makes_no_sense_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load([], {}, sets)
    assert said in str(refused.value) and len(refused.value.facts["problems"]) == 1
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "sets",
    [
        [], ["spark.conf.spark.ui.enabled=true"], [SECURE], [SECURE, "spark.master=yarn"], [SECURE, "spark.conf.spark.authenticate=true"],
        [SECURE, "spark.conf.spark.network.crypto.cipher=AES/CTR/NoPadding"], [SECURE, "spark.master=spark://here:7077", "spark.secret_file=s"],
        [SECURE, "spark.master=spark://here:7077", "spark.conf.spark.authenticate.secret=canary"],
        [SECURE, "spark.conf.spark.ui.enabled=true", "spark.conf.spark.ui.filters=a.Filter"],
    ],
)  # fmt: skip
def test_what_makes_sense_is_taken(sets: list[str]) -> None:
    settings = load([], {}, sets)[0]
    assert type(settings).from_json(settings.to_json()).spark.secure == (SECURE in sets)
