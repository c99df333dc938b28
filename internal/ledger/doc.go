// Package ledger is the append-only record of facts: one RFC 6962 Merkle tree
// per organization, with signed checkpoints and a verification that needs
// nothing but a file.
//
// An entry walks like this:
//
//	Append ── ledger_entries + ledger_unplaced   with the act, in its transaction
//	Place ─── ledger_positions + tiles + head    soon after, by whoever leads
//	Notary ── ledger_checkpoints                 each hour or thousand entries
//	Read ──── webhooks, DSNs, statistics         behind a cursor each
//	Prune ─── leaves of whole segments go        years later, hashes stay
//
// Invariants:
//   - A fact is written once, in the transaction of the act it tells of. No
//     entry, no act. Entries are never changed.
//   - Leaves go only from the beginning of a ledger, in whole segments that a
//     signed checkpoint covers and all readers have read, and in the
//     transaction of an entry that tells of it. Their hashes and all
//     checkpoints stay, so every root can still be computed.
//   - An entry's number comes from a database sequence, taken after the row it
//     tells of is locked. So numbers order the facts about one object; between
//     objects a lower number may become visible later than a higher one.
//   - Place gives positions 0, 1, 2, … to the entries it can see, in the order
//     of their numbers, holding the organization's head row. A number that
//     becomes visible late gets a later position, so positions never change
//     and have no gaps. UNIQUE (org_id, seq) stands behind it: two leaders at
//     once are slow, not wrong.
//   - The leaf is the entry's bytes exactly as stored and exported; its hash is
//     SHA-256(0x00 || leaf) (RFC 6962 section 2.1). Hashes are kept as tiles of
//     height 8 and are never computed from the entries again, so an entry that
//     was changed later contradicts its own hash.
//   - A leaf holds ciphertext and data-key ids, never keys: rotation and
//     destruction of keys leave every leaf valid. What names a person is in the
//     sealed part.
//   - For one size of one tree there is at most one checkpoint.
package ledger
