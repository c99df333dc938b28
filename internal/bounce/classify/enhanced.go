package classify

// meaning is a class, and whether it is for good.
type meaning struct {
	class Class
	hard  bool
}

// exact are statuses (IANA registry "SMTP Enhanced Status Codes") that systems
// use for one thing only, so that they say more than the words beside them.
var exact = map[string]meaning{
	"1.2":  {DNS, true},
	"2.2":  {MailboxFull, false},
	"2.3":  {Content, false},     // longer than the mailbox takes
	"3.1":  {MailboxFull, false}, // the system's disk
	"3.4":  {Content, false},     // larger than the system takes
	"7.20": {Policy, false},      // no passing DKIM signature (RFC 7372)
	"7.21": {Policy, false},
	"7.22": {Policy, false},
	"7.23": {Policy, false}, // SPF
	"7.24": {Policy, false},
	"7.25": {Policy, false}, // reverse DNS
	"7.26": {Policy, false}, // several checks of authentication
	"7.28": {Rate, false},   // mail flood
}

// rough are statuses that are asked where the words say nothing.
var rough = map[string]meaning{
	"1.1":   {MailboxUnknown, true},
	"1.3":   {MailboxUnknown, true}, // bad syntax of the address
	"1.4":   {MailboxUnknown, false},
	"1.6":   {MailboxUnknown, true}, // moved
	"1.7":   {Policy, false},
	"1.8":   {Policy, false},
	"1.9":   {Content, false},
	"1.10":  {DNS, true},             // a null MX (RFC 7505)
	"2.1":   {MailboxUnknown, false}, // disabled
	"2.4":   {MailboxUnknown, false}, // a mailing list that does not expand
	"5.3.2": {DNS, true},             // takes no mail; in 4.3.2 only for now
	"4.3.2": {Other, false},
	"3.3":   {Content, false},
	"4.1":   {Expired, false},
	"4.2":   {Expired, false},
	"4.3":   {DNS, false},
	"4.4":   {DNS, true},
	"4.5":   {Rate, false},
	"4.7":   {Expired, false},
	"4.6":   {Other, false}, // a loop
	"5.2":   {Other, false},
	"5.3":   {Rate, false}, // too many recipients
	"6.0":   {Content, false},
	"6.1":   {Content, false},
	"6.2":   {Content, false},
	"6.3":   {Content, false},
	"6.4":   {Content, false},
	"6.5":   {Content, false},
	"6.6":   {Content, false},
	"6.7":   {Content, false}, // internationalized addresses
	"6.8":   {Content, false},
	"6.9":   {Content, false},
	"6.10":  {Content, false},
	"7.2":   {Policy, false},
	"7.4":   {TLS, false},
	"7.5":   {TLS, false},
	"7.3":   {TLS, false},
	"7.6":   {TLS, false},
	"7.7":   {TLS, false},
	"7.8":   {Policy, false},
	"7.9":   {Policy, false},
	"7.10":  {TLS, false},
	"7.11":  {TLS, false},
	"7.12":  {Policy, false},
	"7.13":  {MailboxUnknown, false}, // user account disabled
	"7.14":  {Policy, false},
	"7.15":  {Rate, false}, // priority too low
	"7.16":  {Content, false},
	"7.17":  {MailboxUnknown, true}, // the mailbox changed hands (RFC 7293)
	"7.18":  {MailboxUnknown, true}, // the domain did
	"7.19":  {Rate, false},
	// Gmail says other things with these three: SPF, no TLS, DKIM.
	"7.27": {DNS, false}, // the sender's domain has a null MX (RFC 7505)
	"7.29": {Policy, false},
	"7.30": {TLS, false}, // REQUIRETLS (RFC 8689)
}

// general are statuses that systems use for everything.
var general = map[string]meaning{
	"7.0": {Policy, false},
	"7.1": {Policy, false},
}

// byCode is the last that is asked (RFC 5321 section 4.2.2).
var byCode = map[int]meaning{
	421: {Rate, false},
	452: {Rate, false},
	454: {TLS, false},
	521: {DNS, false}, // takes no mail (RFC 7504)
	552: {MailboxFull, false},
	556: {DNS, true}, // RFC 7504
}
