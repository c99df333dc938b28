package mail

import (
	netmail "net/mail"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/private"
)

// maxMailbox bounds what ParseMailbox looks at.
const maxMailbox = 2000

// Mailbox is an address with the name people see, as it stands in From or To.
type Mailbox struct {
	Name    private.String
	Address Address
}

// NewMailbox joins a name, possibly empty, and an address.
func NewMailbox(name string, a Address) Mailbox {
	return Mailbox{Name: private.NewString(name), Address: a}
}

// ParseMailbox reads one mailbox as people write it: a bare address, or
// "Name" <address>. Groups, lists and control characters are refused, also
// when they come out of an encoded word.
func ParseMailbox(s string) (name string, a Address, err error) {
	s = strings.Trim(s, " ")
	if len(s) > maxMailbox {
		return "", Address{}, badAddress("The address with its name is too long.")
	}
	if err := cleanText(s); err != nil {
		return "", Address{}, err
	}
	if !strings.HasSuffix(s, ">") {
		a, err := ParseAddress(s)
		return "", a, err
	}
	parser := netmail.AddressParser{WordDecoder: &words}
	m, perr := parser.Parse(s)
	if perr != nil {
		return "", Address{}, badAddress("The address is not of the form \"Name\" <name@example.org>.")
	}
	a, err = fromNetMail(m)
	if err != nil {
		return "", Address{}, err
	}
	if err := cleanText(m.Name); err != nil {
		return "", Address{}, fault.New(fault.Invalid, "bad_name", "The name before the address contains a control character.")
	}
	return m.Name, a, nil
}

// fromNetMail takes over what net/mail has parsed; it gives the local part
// without quotes.
func fromNetMail(m *netmail.Address) (Address, error) {
	i := strings.LastIndexByte(m.Address, '@')
	if i < 0 {
		return Address{}, badAddress("The address has no @ and domain.")
	}
	if err := cleanText(m.Address); err != nil {
		return Address{}, err
	}
	return newAddress(m.Address[:i], m.Address[i+1:])
}
