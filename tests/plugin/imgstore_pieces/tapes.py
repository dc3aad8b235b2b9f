"""A driver whose library is not there."""

import a_library_of_tapes  # noqa: F401
