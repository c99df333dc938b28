package ledger

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
)

// Type is what kind of fact an entry tells. Clients ignore types they do not
// know; the ledger itself refuses to write them.
type Type string

// The types. A change of meaning is a new type, never an edit of an old one.
const (
	MessageAccepted Type = "message.accepted"

	DeliverySealed     Type = "delivery.sealed"
	DeliveryAttempted  Type = "delivery.attempted"
	DeliveryHeld       Type = "delivery.held"
	DeliveryReleased   Type = "delivery.released"
	DeliveryScheduled  Type = "delivery.scheduled"
	DeliveryDeferred   Type = "delivery.deferred"
	DeliveryRetried    Type = "delivery.retried"
	DeliveryWaiting    Type = "delivery.waiting"
	DeliveryDelivered  Type = "delivery.delivered"
	DeliveryRead       Type = "delivery.read"
	DeliveryFailed     Type = "delivery.failed"
	DeliveryExpired    Type = "delivery.expired"
	DeliveryCanceled   Type = "delivery.canceled"
	DeliverySuppressed Type = "delivery.suppressed"
	DeliveryReported   Type = "delivery.reported"   // a peer reported, and nothing changed
	DeliveryComplained Type = "delivery.complained" // the recipient complained

	PickupCodeSent    Type = "pickup.code_sent"
	PickupCodeRefused Type = "pickup.code_refused"
	PickupOpened      Type = "pickup.opened"
	PickupDownloaded  Type = "pickup.downloaded"
	PickupRevoked     Type = "pickup.revoked"

	NoticeSent   Type = "notice.sent"
	NoticeFailed Type = "notice.failed"

	OrgCreated   Type = "org.created"
	OrgLimited   Type = "org.limited"
	OrgDestroyed Type = "org.destroyed"

	DomainAdded    Type = "domain.added"
	DomainVerified Type = "domain.verified"
	DomainRemoved  Type = "domain.removed"

	DomainBypassSeen Type = "domain.bypass_seen"
	DomainBypassMore Type = "domain.bypass_more"
	TLSReportSent    Type = "tlsreport.sent"
	TLSReportFailed  Type = "tlsreport.failed"

	DomainReturnPath    Type = "domain.return_path"
	DomainReturnPathOff Type = "domain.return_path_off"
	DomainRouted        Type = "domain.routed"
	DomainRouteOff      Type = "domain.route_off"
	InboundReceived     Type = "inbound.received"

	SuppressAdded    Type = "suppress.added"
	SuppressRemoved  Type = "suppress.removed"
	SuppressAllowed  Type = "suppress.allowed"
	SuppressImported Type = "suppress.imported"

	APIKeyCreated Type = "apikey.created"
	APIKeyRevoked Type = "apikey.revoked"

	PolicyPublished Type = "policy.published"

	KeyringAdded     Type = "keyring.added"
	KeyringProposed  Type = "keyring.proposed"
	KeyringTrusted   Type = "keyring.trusted"
	KeyringReplaced  Type = "keyring.replaced"
	KeyringRemoved   Type = "keyring.removed"
	KeyringRevoked   Type = "keyring.revoked"
	KeyringRefused   Type = "keyring.refused"
	KeyringWithdrawn Type = "keyring.withdrawn"

	KeyCreated   Type = "key.created"
	KeyRotated   Type = "key.rotated"
	KeyDestroyed Type = "key.destroyed"

	PartnerChanged  Type = "partner.changed"
	PartnerRemoved  Type = "partner.removed"
	PartnerExpiring Type = "partner.expiring"

	IdentityCreated   Type = "identity.created"
	IdentityRequested Type = "identity.requested"
	IdentityInstalled Type = "identity.installed"
	IdentityRenewed   Type = "identity.renewed"
	IdentityRotated   Type = "identity.rotated"
	IdentityRetired   Type = "identity.retired"
	IdentityRevoked   Type = "identity.revoked"
	IdentityExpiring  Type = "identity.expiring"

	RetentionPublished Type = "retention.published"
	RetentionPurged    Type = "retention.purged"
	RetentionStopped   Type = "retention.stopped" // the clock may have jumped
	RetentionResumed   Type = "retention.resumed"
	HoldPlaced         Type = "hold.placed"
	HoldLifted         Type = "hold.lifted"
	LedgerPruned       Type = "ledger.pruned"

	PoolSlowed    Type = "pool.slowed"
	DKIMCreated   Type = "dkim.created"
	DKIMActivated Type = "dkim.activated"
	DKIMRetiring  Type = "dkim.retiring"
	DKIMRetired   Type = "dkim.retired"

	ZoneChanged   Type = "zone.changed"
	ZonePublished Type = "zone.published"

	CertificateObtained Type = "certificate.obtained"
)

var types = map[Type]bool{
	MessageAccepted: true,
	DeliverySealed:  true, DeliveryAttempted: true, DeliveryHeld: true, DeliveryReleased: true,
	DeliveryScheduled: true, DeliveryDeferred: true, DeliveryRetried: true, DeliveryWaiting: true,
	DeliveryDelivered: true, DeliveryRead: true, DeliveryFailed: true, DeliveryExpired: true,
	DeliveryCanceled: true, DeliverySuppressed: true, DeliveryReported: true, DeliveryComplained: true,
	PickupCodeSent: true, PickupCodeRefused: true, PickupOpened: true, PickupDownloaded: true, PickupRevoked: true,
	NoticeSent: true, NoticeFailed: true,
	OrgCreated: true, OrgLimited: true, OrgDestroyed: true,
	DomainAdded: true, DomainVerified: true, DomainRemoved: true,
	DomainBypassSeen: true, DomainBypassMore: true, TLSReportSent: true, TLSReportFailed: true,
	DomainReturnPath: true, DomainReturnPathOff: true, DomainRouted: true, DomainRouteOff: true,
	InboundReceived: true,
	SuppressAdded:   true, SuppressRemoved: true, SuppressAllowed: true, SuppressImported: true,
	APIKeyCreated: true, APIKeyRevoked: true,
	PolicyPublished: true,
	KeyringAdded:    true, KeyringProposed: true, KeyringTrusted: true, KeyringReplaced: true,
	KeyringRemoved: true, KeyringRevoked: true, KeyringRefused: true, KeyringWithdrawn: true,
	KeyCreated: true, KeyRotated: true, KeyDestroyed: true,
	PartnerChanged: true, PartnerRemoved: true, PartnerExpiring: true,
	IdentityCreated: true, IdentityRequested: true, IdentityInstalled: true, IdentityRenewed: true,
	IdentityRotated: true, IdentityRetired: true, IdentityRevoked: true, IdentityExpiring: true,
	RetentionPublished: true, RetentionPurged: true, RetentionStopped: true, RetentionResumed: true, HoldPlaced: true, HoldLifted: true, LedgerPruned: true,
	PoolSlowed:  true,
	DKIMCreated: true, DKIMActivated: true, DKIMRetiring: true, DKIMRetired: true,
	ZoneChanged: true, ZonePublished: true,
	CertificateObtained: true,
}

// PrivateLabel is the label of the sealed part of an entry; its row is the
// entry's id. It is fixed for ever.
const PrivateLabel = "ledger.private.v1"

const (
	leafVersion = 1
	leafLimit   = 256 << 10
	timeForm    = "2006-01-02T15:04:05.000000Z"
)

// Fact is something that happened, to be written with the act itself. Data is
// a struct that stands in clear in the ledger for ever and so holds no content,
// no name and no local part of an address. Private is a struct sealed under
// Key, the data key of the object it tells of, and becomes unreadable with it.
type Fact struct {
	Type     Type
	Message  id.ID // zero: about no message
	Delivery id.ID // zero: about no delivery
	At       time.Time
	Data     any
	Private  any
	Key      *custody.DataKey
}

// Append writes one entry per fact into the ledger of the transaction's
// organization, in the order given. Call it after the row the fact tells of is
// locked or inserted: the entry's number is taken here, and the order of
// numbers is the order of facts about one object.
func Append(tx *db.Tx, facts ...Fact) error {
	leaves := make([][]byte, len(facts))
	for i := range facts {
		leaf, err := encode(tx.Org(), &facts[i])
		if err != nil {
			return fmt.Errorf("ledger entry %s: %w", facts[i].Type, err)
		}
		leaves[i] = leaf
	}
	if len(facts) == 0 {
		return nil
	}
	return insert(tx, facts, leaves)
}

// AppendNumbered is Append of one fact, and gives the number by which
// ByNumber finds its entry.
func AppendNumbered(tx *db.Tx, fact Fact) (num int64, err error) {
	leaf, err := encode(tx.Org(), &fact)
	if err != nil {
		return 0, fmt.Errorf("ledger entry %s: %w", fact.Type, err)
	}
	if err := tx.Row(insertEntry+" RETURNING num", tx.Org(), fact.Message, fact.Delivery, leaf).Scan(&num); err != nil {
		return 0, fmt.Errorf("write ledger entry: %w", err)
	}
	_, err = tx.Exec("INSERT INTO ledger_unplaced (org_id, num) VALUES (?, ?)", tx.Org(), num)
	return num, err
}

const (
	insertEntry    = `INSERT INTO ledger_entries (org_id, message_id, delivery_id, leaf) VALUES (?, ?, ?, ?)`
	insertUnplaced = `INSERT INTO ledger_unplaced (org_id, num) VALUES (?, last_insert_rowid())`

	// PostgreSQL counts per round trip, so all rows go in one. The identity
	// column is filled after the sort, so numbers follow the order given.
	insertAll = `WITH fresh AS (
		INSERT INTO ledger_entries (org_id, message_id, delivery_id, leaf)
		SELECT ?::bytea, m, d, l
		FROM unnest(?::bytea[], ?::bytea[], ?::bytea[]) WITH ORDINALITY AS u (m, d, l, i) ORDER BY i
		RETURNING org_id, num)
	INSERT INTO ledger_unplaced (org_id, num) SELECT org_id, num FROM fresh`
)

func insert(tx *db.Tx, facts []Fact, leaves [][]byte) error {
	if tx.Pick("one", "all") == "one" {
		for i, leaf := range leaves {
			if _, err := tx.Exec(insertEntry, tx.Org(), facts[i].Message, facts[i].Delivery, leaf); err != nil {
				return fmt.Errorf("write ledger entry: %w", err)
			}
			if _, err := tx.Exec(insertUnplaced, tx.Org()); err != nil {
				return fmt.Errorf("write ledger entry: %w", err)
			}
		}
		return nil
	}
	messages, deliveries := make([][]byte, len(facts)), make([][]byte, len(facts))
	for i := range facts {
		messages[i], deliveries[i] = facts[i].Message[:], facts[i].Delivery[:]
	}
	if _, err := tx.Exec(insertAll, tx.Org(), messages, deliveries, leaves); err != nil {
		return fmt.Errorf("write ledger entries: %w", err)
	}
	return nil
}

// encode gives the leaf: one line of JSON with its fields in this order and
// empty ones left out. These bytes are what is stored, hashed and exported.
func encode(org id.ID, f *Fact) ([]byte, error) {
	if !types[f.Type] {
		return nil, errors.New("no such type of entry")
	}
	if f.At.IsZero() {
		return nil, errors.New("the fact has no time")
	}
	entry := id.New()
	b := make([]byte, 0, 512)
	b = append(b, `{"v":1,"id":"`...)
	b = append(b, entry.Text(id.Event)...)
	b = append(b, `","org":"`...)
	b = append(b, org.Text(id.Org)...)
	b = append(b, `","type":"`...)
	b = append(b, f.Type...)
	b = append(b, `","at":"`...)
	b = f.At.UTC().AppendFormat(b, timeForm)
	if !f.Message.IsZero() {
		b = append(b, `","message_id":"`...)
		b = append(b, f.Message.Text(id.Message)...)
	}
	if !f.Delivery.IsZero() {
		b = append(b, `","delivery_id":"`...)
		b = append(b, f.Delivery.Text(id.Delivery)...)
	}
	b = append(b, '"')
	b, err := appendParts(b, org, entry, f)
	if err != nil {
		return nil, err
	}
	b = append(b, '}')
	if len(b) > leafLimit {
		return nil, errors.New("the entry has " + strconv.Itoa(len(b)) + " bytes, more than a ledger entry may have")
	}
	return b, nil
}

func appendParts(b []byte, org, entry id.ID, f *Fact) ([]byte, error) {
	if f.Data != nil {
		data, err := marshal(f.Data)
		if err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
		if s := string(data); s != "{}" && s != "null" {
			b = append(append(b, `,"data":`...), data...)
		}
	}
	if f.Private == nil {
		return b, nil
	}
	if f.Key == nil || f.Key.Org != org {
		return nil, errors.New("a private part needs a key of the organization")
	}
	plain, err := marshal(f.Private)
	if err != nil {
		return nil, fmt.Errorf("private part: %w", err)
	}
	b = append(b, `,"private":{"key":"`...)
	b = append(b, f.Key.ID.Text(id.DataKey)...)
	b = append(b, `","box":"`...)
	b = base64.StdEncoding.AppendEncode(b, f.Key.Seal(PrivateLabel, entry, plain))
	return append(b, `"}`...), nil
}

func marshal(v any) ([]byte, error) {
	if err := checkPart(v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
