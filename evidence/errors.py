"""Every error that may leave `evidence`: the bytes that were handed in are wrong.

Programming mistakes stay `ValueError` or `TypeError`; nothing else leaves a parser.
Each class has a stable `code` that appears in reports, problems and logs.

    EvidenceError                     evidence_error
    ├── FormatInvalid                 format_invalid
    │   ├── TooLarge                  too_large
    │   ├── NotCanonical              not_canonical
    │   │   ├── DuplicateKey          duplicate_key
    │   │   ├── NumberRefused         number_refused      a float, or beyond ±(2^53−1)
    │   │   └── TextRefused           text_refused        control, bidi or noncharacter
    │   ├── StatementInvalid          statement_invalid
    │   │   ├── FieldUnknown          field_unknown
    │   │   ├── FieldMissing          field_missing
    │   │   ├── FieldInvalid          field_invalid
    │   │   ├── KindUnknown           kind_unknown
    │   │   └── VersionUnknown        version_unknown     a later major version
    │   ├── LeafInvalid               leaf_invalid
    │   ├── KeyInvalid                key_invalid
    │   ├── NoteInvalid               note_invalid
    │   │   └── CheckpointInvalid     checkpoint_invalid
    │   ├── TileInvalid               tile_invalid
    │   ├── ProofFileInvalid          proof_file_invalid
    │   ├── PolicyInvalid             policy_invalid
    │   ├── KnownKeysInvalid          known_keys_invalid
    │   ├── PackageInvalid            package_invalid
    │   └── MediaInvalid              media_invalid
    ├── DigestMismatch                digest_mismatch
    ├── SignatureInvalid              signature_invalid
    ├── ProofInvalid                  proof_invalid
    ├── TimestampInvalid              timestamp_invalid
    │   └── TimestampNotBelieved      timestamp_not_believed   no pinned root at its time
    ├── KeyUnknown                    key_unknown
    ├── KeyNotYetValid                key_not_yet_valid
    ├── KeyRevoked                    key_revoked
    ├── KeySuspected                  key_suspected
    ├── KeyRoleRefused                key_role_refused    the key may not sign this kind
    ├── KeyChainBroken                key_chain_broken
    ├── QuorumMissing                 quorum_missing
    └── TwoHistories                  two_histories
"""

from typing import ClassVar


class EvidenceError(Exception):
    """The bytes are wrong. `detail` is one plain sentence without personal data."""

    code: ClassVar[str] = "evidence_error"

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        """Keep the sentence and, where the fault has a place, its JSON pointer.

        Args:
            detail: one sentence that a non-programmer can read; never echoes input text.
            pointer: RFC 6901 pointer into the document at fault, or empty.
        """
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class FormatInvalid(EvidenceError):
    """The bytes do not have the form that their format demands."""

    code = "format_invalid"


class TooLarge(FormatInvalid):
    """A limit on size, depth or count was passed before anything was interpreted."""

    code = "too_large"


class NotCanonical(FormatInvalid):
    """The bytes are not their own RFC 8785 form."""

    code = "not_canonical"


class DuplicateKey(NotCanonical):
    """An object names the same member twice."""

    code = "duplicate_key"


class NumberRefused(NotCanonical):
    """A number is not an integer within ±(2^53−1)."""

    code = "number_refused"


class TextRefused(NotCanonical):
    """Text holds a control, a lone surrogate, a noncharacter or a bidirectional control."""

    code = "text_refused"


class StatementInvalid(FormatInvalid):
    """The JSON is canonical but is no statement."""

    code = "statement_invalid"


class FieldUnknown(StatementInvalid):
    """A member that the schema does not name."""

    code = "field_unknown"


class FieldMissing(StatementInvalid):
    """A member that the schema demands is absent."""

    code = "field_missing"


class FieldInvalid(StatementInvalid):
    """A member's value is outside what the schema allows."""

    code = "field_invalid"


class KindUnknown(StatementInvalid):
    """The type names no kind of this format."""

    code = "kind_unknown"


class VersionUnknown(StatementInvalid):
    """The kind is known but its major version is a later one: cannot be confirmed."""

    code = "version_unknown"


class LeafInvalid(FormatInvalid):
    """A log entry is no `hashedrekord` 0.0.2 of ours."""

    code = "leaf_invalid"


class KeyInvalid(FormatInvalid):
    """Bytes that should be a public or private key are not."""

    code = "key_invalid"


class NoteInvalid(FormatInvalid):
    """The bytes are no signed note."""

    code = "note_invalid"


class CheckpointInvalid(NoteInvalid):
    """The note's text is no checkpoint, or not one of this log."""

    code = "checkpoint_invalid"


class TileInvalid(FormatInvalid):
    """A tile path, tile or bundle is malformed."""

    code = "tile_invalid"


class ProofFileInvalid(FormatInvalid):
    """The bytes are no `.tlog-proof`."""

    code = "proof_file_invalid"


class PolicyInvalid(FormatInvalid):
    """The bytes are no tlog-policy."""

    code = "policy_invalid"


class KnownKeysInvalid(FormatInvalid):
    """The bytes are no `known-keys.json`, or no lawful successor of one."""

    code = "known_keys_invalid"


class PackageInvalid(FormatInvalid):
    """The container of a package is malformed or hostile."""

    code = "package_invalid"


class MediaInvalid(FormatInvalid):
    """A media container or metadata block cannot be walked."""

    code = "media_invalid"


class DigestMismatch(EvidenceError):
    """The bytes are not those that were named."""

    code = "digest_mismatch"


class SignatureInvalid(EvidenceError):
    """A signature does not verify under the key that it names."""

    code = "signature_invalid"


class ProofInvalid(EvidenceError):
    """An inclusion or consistency proof does not lead to the root."""

    code = "proof_invalid"


class TimestampInvalid(EvidenceError):
    """An RFC 3161 response does not hold for these bytes under these roots."""

    code = "timestamp_invalid"


class TimestampNotBelieved(TimestampInvalid):
    """The token holds for these bytes, but no pinned root stands above it at its time."""

    code = "timestamp_not_believed"


class KeyUnknown(EvidenceError):
    """No registrar enrolled this key."""

    code = "key_unknown"


class KeyNotYetValid(EvidenceError):
    """The key was enrolled at or after this log index."""

    code = "key_not_yet_valid"


class KeyRevoked(EvidenceError):
    """The key was revoked before this log index."""

    code = "key_revoked"


class KeySuspected(EvidenceError):
    """The key was revoked later as suspected by then, and nobody had seen the signature before."""

    code = "key_suspected"


class KeyRoleRefused(EvidenceError):
    """The key's role or organ does not allow it to sign this statement."""

    code = "key_role_refused"


class KeyChainBroken(EvidenceError):
    """A registrar's key statements do not follow each other without a gap."""

    code = "key_chain_broken"


class QuorumMissing(EvidenceError):
    """Too few known witnesses have cosigned the checkpoint."""

    code = "quorum_missing"


class TwoHistories(EvidenceError):
    """A log has signed two trees of the same size with different roots."""

    code = "two_histories"
