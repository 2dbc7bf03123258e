"""A module that cannot be imported: it asks for a package that nobody has."""

import a_package_that_is_not_installed  # noqa: F401
