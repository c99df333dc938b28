package fake

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// PutOutside says where a mail host that is not of this internet takes mail.
// These are the only hosts that it opens connections to, to return mail
// ([Behavior.Returns]).
func (n *Internet) PutOutside(host, addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outside[canonical(host)] = addr
}

// sendBack returns a message that a host has taken, as a mail host that finds
// out later does (RFC 3464). Whoever does not want it for good keeps it.
func (n *Internet) sendBack(h *host, status, sender, to string) {
	_, domain, _ := strings.Cut(sender, "@")
	addr := n.outsideOf(domain)
	if sender == "" || addr == "" {
		return
	}
	for range 10 {
		if n.returned(h, addr, sender, n.report(h.name, status, sender, to)) {
			return
		}
		select {
		case <-n.done:
			return
		case <-time.After(300 * time.Millisecond): // a real host waits longer
		}
	}
}

// returned makes one attempt, and reports whether no other is called for.
func (n *Internet) returned(h *host, addr, to, report string) bool {
	conn, err := n.dialFrom(h, addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	if !n.track(conn) {
		return true
	}
	defer n.untrack(conn)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // of the network: wall time
	err = handBack(conn, h.name, to, report)
	var refused *textproto.Error
	return err == nil || errors.As(err, &refused) && refused.Code >= 500
}

func handBack(conn net.Conn, name, to, report string) error {
	c, err := smtp.NewClient(conn, "there")
	if err != nil {
		return err
	}
	if err := c.Hello(name); err != nil {
		return err
	}
	if ok, _ := c.Extension("STARTTLS"); ok {
		if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
			return err
		}
	}
	if err := c.Mail(""); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, report); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

func (n *Internet) dialFrom(h *host, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second}
	if own, _, err := net.SplitHostPort(n.HostAddr(h.name)); err == nil {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(own)}
	}
	return d.Dial("tcp", addr)
}

// outsideOf finds the mail host of a domain that is not of this internet.
func (n *Internet) outsideOf(domain string) string {
	n.zone.mu.RLock()
	mxs := n.zone.records[canonical(domain)][dns.TypeMX]
	n.zone.mu.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, rr := range mxs {
		if addr := n.outside[canonical(rr.(*dns.MX).Mx)]; addr != "" {
			return addr
		}
	}
	return ""
}

func (n *Internet) report(host, status, sender, to string) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: Mail Delivery System <MAILER-DAEMON@%[1]s>
To: <%[3]s>
Subject: Undelivered Mail Returned to Sender
Date: %[5]s
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="returned"

--returned
Content-Type: text/plain

Your message could not be delivered.

--returned
Content-Type: message/delivery-status

Reporting-MTA: dns; %[1]s

Final-Recipient: rfc822; %[4]s
Action: failed
Status: %[2]s
Diagnostic-Code: smtp; 550 %[2]s <%[4]s>: there is no such mailbox

--returned--
`, host, status, sender, to, n.opts.Clock.Now().Format(time.RFC1123Z)), "\n", "\r\n")
}
