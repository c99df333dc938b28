package config

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
)

// Reports is the section of that name.
type Reports struct {
	Organization string         `toml:"organization" example:"Riverside Clinic" doc:"Who reports, as those read it who ask for TLS reports. hostname when not given."`
	Contact      string         `toml:"contact" example:"postmaster@example.org" doc:"Address or URL for questions about TLS reports. postmaster at hostname when not given."`
	Addresses    []netip.Prefix `toml:"addresses" example:"198.51.100.10/32" doc:"Addresses that this installation's mail comes from, as the internet sees them, where neither [[pool]] nor this machine's interfaces name them. Mail of our domains from elsewhere is reported as having left past Sealpost."`
	Source       []ReportSource `toml:"source" doc:"Other systems that send in the name of an organization as they should."`
}

// ReportSource is a system that sends by itself.
type ReportSource struct {
	Org      string         `toml:"org" example:"clinic" doc:"Short name of the organization."`
	Name     string         `toml:"name" example:"Payroll" doc:"Name of the system in summaries."`
	Networks []netip.Prefix `toml:"networks" example:"203.0.113.0/28" doc:"Networks that its mail comes from."`
}

const maxReportName = 60

func (l *loader) checkReports() {
	for _, f := range [][2]string{{"reports.organization", l.config.Reports.Organization}, {"reports.contact", l.config.Reports.Contact}} {
		if len(f[1]) > 200 || strings.ContainsFunc(f[1], unicode.IsControl) {
			l.wrong(f[0], "must be one line of at most 200 octets")
		}
	}
	for i, s := range l.config.Reports.Source {
		key := fmt.Sprintf("reports.source[%d]", i)
		if !slugForm.MatchString(s.Org) {
			l.at(key, ".org", "must be the short name of an organization: small letters, digits and -")
		}
		if s.Name == "" || len(s.Name) > maxReportName || strings.ContainsFunc(s.Name, unicode.IsControl) {
			l.at(key, ".name", fmt.Sprintf("must be a name of at most %d octets", maxReportName))
		}
		if len(s.Networks) == 0 {
			l.at(key, ".networks", "must name at least one network")
		}
	}
}
