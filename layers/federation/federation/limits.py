"""Every limit of the federation by name; a value that an operator may tune is a setting instead."""

from typing import Final

#: Largest integer that every JSON implementation keeps exactly (RFC 7493, I-JSON).
SAFE_INTEGER_MAX: Final = 2**53 - 1

REQUEST_BODY_BYTES_MAX: Final = 64 * 1024
REQUEST_BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
REQUEST_BATCH_ITEMS_MAX: Final = 100
CONTENT_BYTES_MAX: Final = 16 * 1024
CONTENT_SALT_HEX_MIN: Final = 32
OBJECT_IDS_MAX: Final = 16

#: SQS takes ten entries in one SendMessageBatch and 256 KiB in all of them together.
INBOX_ENTRIES_MAX: Final = 10
INBOX_BYTES_MAX: Final = 256 * 1024

#: A message always fits into one batch (below).
INBOX_MESSAGE_BYTES_MAX: Final = 110 * 1024

#: Step Functions refuses a state's input or output above 256 KiB; a batch grows by its places,
#: votes and rewards on the way, so it enters with less than half of that.
PIPELINE_BYTES_MAX: Final = 256 * 1024
BATCH_BYTES_MAX: Final = 120 * 1024
BATCH_ITEMS_MAX: Final = 100
#: What the states behind `dpos` add at most, so that it knows for how many votes there is room. To a
#: batch: its groups' frames, sums of rewards, what Lambda says of a call, a reason.
PIPELINE_RESERVE_BYTES: Final = 16 * 1024
#: To an item: white space of another encoder, continent, shard, flags, a reason, its work entry.
ITEM_GROWTH_BYTES_MAX: Final = 256
#: To a vote, beside the signature and twice the delegate's name: punctuation, and a reward's digits.
VOTE_GROWTH_BYTES_MAX: Final = 40

LATITUDE_E7_MAX: Final = 90 * 10**7
LONGITUDE_E7_MAX: Final = 180 * 10**7

SHARDS_PER_CONTINENT: Final = 64

#: Connections to DynamoDB that a function keeps open; it handles one batch at a time.
DYNAMODB_CONNECTIONS_MAX: Final = 10

#: Uses and seconds of one content key (DESIGN section 4).
CONTENT_KEY_USES_MAX: Final = 2**20
CONTENT_KEY_LIFETIME_S: Final = 300

SECRET_TTL_S: Final = 60

#: One read of a secret or a parameter; with both attempts it ends within a function's 5 s.
SETTING_CONNECT_TIMEOUT_S: Final = 0.5
SETTING_READ_TIMEOUT_S: Final = 1.0
SETTING_ATTEMPTS_MAX: Final = 2

#: After a failed read of the clusters' URIs, their provider is left alone for so long.
ROUTES_REST_S: Final = 1.0

#: The members of an audit event: what an attacker chooses must not outgrow a message, even with
#: each character escaped. The detail of a double vote holds two ML-DSA signatures.
AUDIT_DETAIL_CHARACTERS_MAX: Final = 16 * 1024
AUDIT_NAME_CHARACTERS_MAX: Final = 1024
AUDIT_EVENT_ID_CHARACTERS_MAX: Final = 64

#: The spool is waited for so long: a refusal must not wait for its record.
AUDIT_CONNECT_TIMEOUT_S: Final = 0.2
AUDIT_READ_TIMEOUT_S: Final = 0.5

#: After a failure the spool is left alone for so long; what is not sent is kept, up to so many.
AUDIT_REST_S: Final = 1.0
AUDIT_BACKLOG_EVENTS_MAX: Final = 1_000
#: Whoever records an event sends what waited before it for so long, no longer.
AUDIT_SENDING_S: Final = 0.5

#: SQS takes ten messages in one request, as many as these bytes hold.
AUDIT_BATCH_EVENTS_MAX: Final = 10
AUDIT_BATCH_BYTES_MAX: Final = 256 * 1024

#: A store that refuses the login is asked again and again: one record for each of them suffices.
STORE_REFUSAL_INTERVAL_S: Final = 60.0
#: A signed query (RFC 9421) is good for so long after it was made, and may be ahead by so much
#: where clocks differ.
QUERY_AGE_S_MAX: Final = 60
QUERY_AHEAD_S_MAX: Final = 5
#: Of `Signature-Input` or `Signature`; one by ML-DSA-65 is 4,413 characters of base64.
SIGNATURE_FIELD_CHARACTERS_MAX: Final = 5_000

#: All header fields of a request, names and values. API Gateway takes 10,240 bytes and adds its own.
REQUEST_HEADERS_BYTES_MAX: Final = 16 * 1024
REQUEST_HEADERS_MAX: Final = 64
REQUEST_PATH_CHARACTERS_MAX: Final = 256
#: Uses, seconds and number of the data keys that encrypt records of DynamoDB and immuDB.
RECORD_KEY_USES_MAX: Final = 2**20
RECORD_KEY_LIFETIME_S: Final = 300.0
RECORD_KEYS_MAX: Final = 100

#: The list of customer keys is read again after so long; after a failed read, after a rest.
CUSTOMER_KEYS_TTL_S: Final = 60.0
CUSTOMER_KEYS_REST_S: Final = 1.0

#: A new data key (`lovectl keys rotate --new-data-key`) is noticed after so long.
DATA_KEY_NAME_TTL_S: Final = 60.0

#: An unwrapped data key of MongoDB's field encryption is kept so long before KMS is asked again.
DATA_KEY_LIFETIME_MS: Final = 300_000

#: Parts per million: uptime is counted in them.
PPM: Final = 1_000_000

#: The delegate registry. Its chain from the pinned one travels in a secret, which holds 64 KiB.
REGISTRY_BYTES_MAX: Final = 256 * 1024
REGISTRY_CANDIDATES_MAX: Final = 256
REGISTRY_DELEGATIONS_MAX: Final = 1_000
REGISTRY_SEATS_MAX: Final = 100
REGISTRY_CHAIN_MAX: Final = 1_000
SECRET_BYTES_MAX: Final = 64 * 1024
#: A standard parameter of SSM holds 4 KB; the compressed registry is cut into such.
PARAMETER_CHARACTERS_MAX: Final = 4_096
#: A refused registry is written down once in so long, not at each call.
REGISTRY_REFUSAL_INTERVAL_S: Final = 60.0

#: Work entries that one round of `reconcile` looks through, and what it takes of them at once: a
#: batch that grows by its votes and rewards, and by the names of its work entries.
PENDING_SCAN_MAX: Final = 1_000
RECONCILE_BATCH_BYTES_MAX: Final = 100 * 1024
#: A pending transaction is tried at least once in so many minutes, however old.
RETRY_PERIOD_MIN_MAX: Final = 64
#: A work entry without a record is of an attempt that has ended; those take seconds.
SPURIOUS_AGE_MS: Final = 3_600_000

#: Copies of a fallback tier that one round moves home. It looks for them and reads them so long, and
#: begins with another home so long: both end well before the function does.
COPIES_A_ROUND_MAX: Final = 50
COPIES_READ_S: Final = 8.0
COPIES_ROUND_S: Final = 15.0
#: After so long a run looks for no more of them: votes are to be collected too.
COPIES_RUN_S: Final = 120.0
#: A marked copy in DynamoDB is kept so long: longer than any backup's window.
RECONCILED_KEPT_S: Final = 35 * 24 * 3600
#: Partitions of the index of copies, for each continent: one takes 1,000 writes a second.
UNRECONCILED_BUCKETS: Final = 4
#: A breaker opens after so many failures in a row.
BREAKER_FAILURES_MAX: Final = 2
#: A payment tries an open breaker when nobody else has for so long: the canary comes each minute.
BREAKER_PATIENCE_S: Final = 90.0
#: Behind the last tier there is nothing: to be refused costs a payment more than to try.
BREAKER_PATIENCE_LAST_TIER_S: Final = 1.0
#: What a read looks for may lie nowhere else.
BREAKER_READ_REST_S: Final = 1.0
#: A try that tells nothing for so long will tell nothing any more: the next one may begin.
BREAKER_TRY_S: Final = 5.0

#: A write to a fallback tier may need several calls: one that looks, one that writes, one that looks at
#: what was refused. None begins after so many times one call's limit.
WRITE_TIMEOUTS_MAX: Final = 3

#: What the canary wrote is kept so long, where stores are deleted from.
CANARY_KEPT_S: Final = 600

#: A dead letter that can be read goes back to the inbox whole so often; then each of its transactions
#: by itself. What took 1,000 tries of at most 30 s each time is parked after so many: two weeks.
REDRIVES_WHOLE_MAX: Final = 3
REDRIVES_MAX: Final = 40
#: Looks at the dead letters in one run, of ten messages each.
REDRIVE_LOOKS_MAX: Final = 20
#: What waits in the inbox is to be stored within this time: who would wait longer is answered 503.
INBOX_DRAIN_S: Final = 60
#: The inbox is asked how much waits at most so often.
INBOX_DEPTH_TTL_S: Final = 1.0
