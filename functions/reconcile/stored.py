"""What a look at stored records gave: those that are whole, and the names of those that aren't."""

from collections.abc import Mapping

import msgspec

from persist.record import Record


class Stored(msgspec.Struct, frozen=True):
    """Records by their ids; who is in neither isn't there.

    Attributes
    ----------
    whole : mapping of transaction id to Record and its sealed content
    damaged : mapping of transaction id to why
        Their documents are none of a record, or their content can't be decrypted.
    """

    whole: Mapping[str, tuple[Record, bytes]]
    damaged: Mapping[str, str] = {}
