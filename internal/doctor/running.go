package doctor

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/sealpost/sealpost/internal/zone"
)

const jobLate = 10 * time.Minute // beyond three of its intervals

// jobs looks when the periodic tasks were last done that some node leads.
func (d Deps) jobs(ctx context.Context) []Finding {
	if d.Jobs == nil {
		return nil
	}
	all, err := d.Jobs(ctx)
	if err != nil {
		return warning("Try again when the database answers.", "It is not known when periodic tasks were last done.")
	}
	var found []Finding
	known := 0
	for _, j := range all {
		if j.DoneAt.IsZero() {
			continue // it is leased, and nobody has said anything yet
		}
		known++
		if late := d.Clock.Now().Sub(j.DoneAt); late > 3*j.Every+jobLate {
			found = append(found, warning("See the log of the nodes for "+j.Name+".", "The periodic task %s was last done %s ago; it is to be done every %s.",
				j.Name, late.Round(time.Second), j.Every)...)
		}
	}
	if found == nil && known > 0 {
		return good("All %d periodic tasks that are known were done in time.", known)
	}
	return found
}

// domains tells what was found when the DNS of sender domains was last asked.
func (d Deps) domains(ctx context.Context) []Finding {
	if d.Domains == nil {
		return nil
	}
	all, err := d.Domains(ctx)
	if err != nil {
		return warning("Try again when the database answers.", "It is not known what the DNS says of the sender domains.")
	}
	var found []Finding
	for _, r := range all {
		if r.State == zone.Bad {
			found = append(found, wrong("Run \"sealpost domain check "+r.Domain+"\": it says what to publish.", "The DNS of %s is wrong, as of %s.",
				r.Domain, r.CheckedAt.UTC().Format(time.DateTime))...)
		}
	}
	if found == nil && len(all) > 0 {
		domains := "1 sender domain"
		if len(all) > 1 {
			domains = fmt.Sprintf("%d sender domains", len(all))
		}
		return good("The DNS of %s has what mail needs.", domains)
	}
	return found
}

// scanners connects to what looks into mail for members. While one is away all
// that mail is deferred.
func (d Deps) scanners(ctx context.Context) []Finding {
	var found []Finding
	for _, s := range []struct{ name, setting, address string }{
		{"Rspamd", "inbound.rspamd", d.Config.Inbound.Rspamd},
		{"ClamAV", "inbound.clamav", d.Config.Inbound.ClamAV},
	} {
		if s.address == "" {
			continue
		}
		network, addr := dialed(s.address)
		conn, err := d.Dial(ctx, network, addr)
		if err != nil {
			found = append(found, wrong("Start it, or correct "+s.setting+".", "%s does not answer at %s: mail for members is deferred.", s.name, s.address)...)
			continue
		}
		_ = conn.Close()
		found = append(found, good("%s answers at %s.", s.name, s.address)...)
	}
	return found
}

// dialed is where to connect to for a URL that the configuration has checked.
func dialed(address string) (network, addr string) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "tcp", address
	case u.Scheme == "unix":
		return "unix", u.Path
	case u.Port() != "":
		return "tcp", u.Host
	case u.Scheme == "https":
		return "tcp", u.Host + ":443"
	}
	return "tcp", u.Host + ":80"
}
