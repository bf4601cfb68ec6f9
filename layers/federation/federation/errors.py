"""The root of the errors that the federation raises, and the two that many parts share."""


class FederationError(Exception):
    """Root of all errors raised here; `reason` is a code that programs may compare.

    Examples
    --------
    >>> FederationError("inbox_unreachable", "SQS did not confirm").reason
    'inbox_unreachable'
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class InvalidField(FederationError):
    """A field of the input breaks a rule.

    Attributes
    ----------
    field : str
        Dotted path of the field, such as `position.latitude_e7`.
    rule : str
        What must hold, as a sentence.
    """

    def __init__(self, field: str, rule: str, reason: str = "invalid_field") -> None:
        super().__init__(reason, f"{field}: {rule}" if field else rule)
        self.field = field
        self.rule = rule


class SettingsError(FederationError):
    """Settings are missing or malformed; the message names all of them at once."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("bad_settings", "settings: " + "; ".join(problems))
        self.problems = problems
