"""A template and its values become one HTML file that holds everything it shows and fetches nothing."""

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a template of this package. Everything that comes from data is escaped; an unknown name is an error."""
    environment = Environment(
        loader=PackageLoader("dlreport", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)
