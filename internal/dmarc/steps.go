package dmarc

import (
	"net/netip"
	"slices"
	"strings"
)

// Providers that steps have words for.
const (
	microsoft = "Microsoft 365"
	google    = "Google Workspace"
)

// byName are names of hosts that providers send from. A name was found to lead
// back to its address before it is looked for here.
var byName = []struct{ suffix, provider string }{
	{".outbound.protection.outlook.com", microsoft},
	{".google.com", google},
	{".amazonses.com", "Amazon SES"},
	{".sendgrid.net", "SendGrid"},
	{".mailgun.net", "Mailgun"},
	{".mtasv.net", "Postmark"},
	{".mcsv.net", "Mailchimp"},
	{".mandrillapp.com", "Mailchimp Transactional"},
	{".exacttarget.com", "Salesforce Marketing Cloud"},
	{".hubspotemail.net", "HubSpot"},
	{".pphosted.com", "Proofpoint"},
	{".mimecast.com", "Mimecast"},
	{".zoho.com", "Zoho Mail"},
	{".secureserver.net", "GoDaddy"},
}

// microsoftRanges are those of Exchange Online Protection, as Microsoft
// publishes them for its customers' firewalls.
var microsoftRanges = []netip.Prefix{
	netip.MustParsePrefix("40.92.0.0/15"), netip.MustParsePrefix("40.107.0.0/16"),
	netip.MustParsePrefix("52.100.0.0/14"), netip.MustParsePrefix("104.47.0.0/17"),
	netip.MustParsePrefix("2a01:111:f400::/48"), netip.MustParsePrefix("2a01:111:f403::/48"),
}

// provider tells whose host it is, where that is known.
func provider(source, host string) string {
	for _, p := range byName {
		if strings.HasSuffix(host, p.suffix) {
			return p.provider
		}
	}
	if a, err := netip.ParseAddr(source); err == nil && slices.ContainsFunc(microsoftRanges, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return microsoft
	}
	return ""
}

// steps says what to do about a source.
func steps(domain string, asked Disposition, s Source) []string {
	switch {
	case s.Known && s.Messages > 0 && s.Passed < s.Messages:
		return []string{"Some mail from here fails DMARC though it leaves as it should. Run \"sealpost domain check " + domain +
			"\" and correct what it says of SPF and DKIM; mail that lists or forwarders changed cannot be helped."}
	case s.Known:
		return nil
	case s.Passed > 0:
		return passing(domain, s)
	}
	return failing(domain, asked, s)
}

// passing is for mail that receivers take for genuine though it did not come
// through us: nobody sealed it.
func passing(domain string, s Source) (out []string) {
	switch s.Provider {
	case microsoft:
		out = append(out, "Mail leaves from Microsoft 365 directly, past Sealpost. In the Exchange admin center, make an outbound connector "+
			"from Microsoft 365 to Sealpost for all domains (*), and check that no transport rule goes around it.")
	case google:
		out = append(out, "Mail leaves from Google directly, past Sealpost. In the Google Admin console, set Sealpost as the outbound gateway for all users.")
	case "":
		out = append(out, "Find out which system this is, and have it hand its mail to Sealpost by SMTP or the API; "+
			"if it may send by itself, name its network in [[reports.source]].")
	default:
		out = append(out, "Somebody sends by "+s.Provider+" in your name. Have that system hand its mail to Sealpost, or, if it may send by itself, "+
			"name its network in [[reports.source]].")
	}
	if s.SPF > 0 {
		out = append(out, "The SPF record of "+domain+" or of a name below it permits this host: once its mail comes through Sealpost, take out the term that does.")
	}
	if len(s.Keys) > 0 {
		out = append(out, "It signs with a DKIM key of yours: remove "+strings.Join(s.Keys, ", ")+" from the DNS once it need not sign any more.")
	}
	return out
}

// failing is for mail that receivers doubt: a forgotten system or a forger.
func failing(domain string, asked Disposition, s Source) []string {
	who := "this host"
	if s.Provider != "" {
		who = s.Provider
	}
	out := []string{"If a system of yours sends by " + who + ", have it hand its mail to Sealpost; otherwise somebody forges your name, or a forwarder changed your mail."}
	switch asked {
	case Reject:
		return out
	case Quarantine:
		return append(out, "Receivers put forged mail aside. With p=reject in the DMARC record of "+domain+" they refuse it.")
	}
	return append(out, "Receivers deliver forged mail, because the DMARC record of "+domain+" asks for nothing. "+
		"Once all your own sources pass, set p=quarantine and then p=reject.")
}
