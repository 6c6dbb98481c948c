"""Settings written by hand."""

import re

import msgspec
import pytest
from dlmodels.errors import RepositoryError, SettingError
from dlmodels.settings import parse_settings


class Oven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of no particular meaning."""

    degrees: float = 180.0
    trays: tuple[int, ...] = ()


def test_good_values_become_the_struct() -> None:
    assert parse_settings({"degrees": 200, "trays": [1, 3]}, Oven, "oven") == Oven(200.0, (1, 3))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"degree": 1},
            "oven has a setting 'degree', which does not exist. Did you mean 'degrees'? Valid are: degrees, trays",
        ),
        ({"xyz": 1}, "oven has a setting 'xyz', which does not exist. Valid are: degrees, trays"),
        ({"degrees": "hot"}, "oven: degrees: Expected `float`, got `str`"),
        ({"degrees": True}, "oven: degrees: Expected `float`, got `bool`"),
        ({"trays": [1, "x"]}, "oven: trays[1]: Expected `int`, got `str`"),
    ],
)
def test_bad_settings_are_named_with_what_is_valid(values: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        parse_settings(values, Oven, "oven")


def test_the_error_can_be_another() -> None:
    with pytest.raises(RepositoryError):
        parse_settings({"": 1}, Oven, "oven", RepositoryError)
