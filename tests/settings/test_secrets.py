"""What of a text is kept back before it is shown, and what is not."""

from __future__ import annotations

import pytest

from freshet.settings.secrets import redacted


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("https://host/events?password=hunter2&since=3", "https://host/events?password=[redacted]&since=3"),
        ("wasbs://box@host/events?sv=2024&sig=ab%2Bc", "wasbs://box@host/events?sv=2024&sig=[redacted]"),
        ("jdbc:sqlserver://host;user=ann;Password=hunter2;ssl=true", "jdbc:sqlserver://host;user=ann;Password=[redacted];ssl=true"),
        ("https://host/x?X-Amz-Security-Token=abc", "https://host/x?X-Amz-Security-Token=[redacted]"),
        ("at 'https://host/x?access_key=abc': no", "at 'https://host/x?access_key=[redacted]': no"),
        ("s3a://me:hunter2@bucket/events", "s3a://[redacted]@bucket/events"),
        ('PlainLoginModule required username="a" password="hunter2";', 'PlainLoginModule required username="a" password="[redacted]";'),
        ("cannot log in: user=ann, secret = x/y+z.", "cannot log in: user=ann, secret = [redacted]"),
        ("/data/password=3/part.json", "/data/password=3/part.json"),  # a partition is no address
        ("https://host/x?monkeys", "https://host/x?monkeys"),
        ("https://host/x?from=3&to=4", "https://host/x?from=3&to=4"),
    ],
)
def test_what_an_address_carries_of_its_user_is_kept_back(told: str, shown: str) -> None:
    assert redacted(told) == shown
    assert redacted({"source": {"path": [told]}}) == {"source": {"path": [shown]}}


def test_a_long_line_without_an_end_takes_no_square_of_its_length() -> None:
    assert redacted("?password" * 20_000) == "?password" * 20_000
