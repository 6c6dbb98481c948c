"""The JSON schema of suites, for editors and other programs: made from what reads them."""

from typing import Any

import msgspec

from dlclient.bench.suite import Suite

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def suite_schema() -> dict[str, Any]:
    """As JSON has it."""
    schema = msgspec.json.schema(Suite)
    return {"$schema": _DIALECT, "title": "A suite of dlbench", **schema}


def suite_schema_text() -> str:
    """As a file."""
    return msgspec.json.format(msgspec.json.encode(suite_schema()), indent=2).decode() + "\n"
