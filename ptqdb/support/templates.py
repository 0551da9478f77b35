"""Pages made from Jinja2 templates that lie beside the code which fills them."""

from functools import cache
from typing import Any

import jinja2

from ptqdb.support.text import visible


def render(package: str, name: str, **values: Any) -> str:
    """Fill a template; in HTML every value is escaped unless it is `markupsafe.Markup`.

    Parameters
    ----------
    package
        Where the template lies, such as ``ptqdb.report``.
    name
        Its file name.

    Raises
    ------
    jinja2.UndefinedError
        The template uses a value that is not given.
    """
    return environment(package).get_template(name).render(values)


@cache
def environment(package: str) -> jinja2.Environment:
    """The environment of a package's templates, with the filter ``visible``."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["visible"] = visible
    return found
