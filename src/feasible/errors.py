"""The errors that the library raises on top of Python's own."""


class UnsupportedError(ValueError):
    """A combination that cannot work, refused when it is declared; the message names what does work."""
