package policy

// forecast says which seal to expect, from what is known of the recipient and
// the domain today. Nothing is decided by it.
func (p *Plan) forecast(doc Document, facts Facts) {
	known := facts.Posture
	p.Forecast, p.ForecastGrade, p.ForecastReason = "", None, ""
	if p.Refuse != "" || len(p.Seals) == 0 {
		return
	}
	if known.NullMX {
		p.ForecastReason = "The recipient's domain takes no mail."
		return
	}
	if known.STSEnforce && known.TLSKnown && known.CanTLS < Verified {
		p.ForecastReason = "The servers of the recipient's domain do not meet its own MTA-STS policy."
		return
	}
	grade := known.expect()
	for _, s := range p.Seals {
		if grade < p.needs(s) || !doc.takes(s, facts.Keys) {
			continue
		}
		p.Forecast = s
		if s == TLS {
			p.ForecastGrade = grade
		}
		break
	}
	p.ForecastReason = p.explain(known, grade)
}

// needs is the grade of transport a seal cannot do without: the artifact of
// pgp and smime travels at the floor of notices.
func (p *Plan) needs(s Seal) Grade {
	switch {
	case s == TLS:
		return p.Floor
	case s == Portal:
		return p.NoticeFloor
	default:
		return Encrypted
	}
}

// expect is the grade a connection will likely reach. A domain nobody has
// talked to yet is expected to have a valid certificate, as most have, and
// nothing better.
func (k Posture) expect() Grade {
	grade := Verified
	if k.TLSKnown {
		grade = k.CanTLS
	}
	if grade >= Verified && (k.STSEnforce || k.DANE) {
		grade = Authenticated
	}
	return grade
}

func (p *Plan) explain(known Posture, grade Grade) string {
	switch {
	case p.Forecast == "" && !p.Allows(TLS) && !p.Allows(Portal):
		return "No key of the recipient is known yet; it is looked for before the first attempt."
	case p.Forecast == "":
		return "The recipient's domain is not known to offer a transport that any seal of the plan may use."
	case p.Forecast == TLS && known.TLSKnown:
		return "The recipient's domain is known to offer " + grade.String() + " TLS."
	case p.Forecast == TLS && (known.STSEnforce || known.DANE):
		return "The recipient's domain publishes how its servers are proved."
	case p.Forecast == TLS:
		return "Nothing is known yet of the recipient's domain; most offer verified TLS."
	case p.Forecast == Portal && p.Allows(TLS):
		return "The recipient's domain is not known to offer " + p.Floor.String() + " TLS."
	case p.Forecast == Portal:
		return "The portal is what the plan allows."
	default:
		return "A key of the recipient is known."
	}
}
