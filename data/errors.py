"""The error behind all that a user of the data package can mend."""


class DataError(ValueError):
    """Something a user asked for or gave cannot work; the message says what and why."""

    code = "invalid_data"
