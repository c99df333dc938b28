package policy

// Decide makes the plan for one delivery.
func Decide(doc Document, facts Facts) Plan { return Plan{} }

// Narrow decides again, later, within the plan.
func Narrow(was Plan, doc Document, facts Facts) Plan { return was }

// Release is Narrow after a person has let a held delivery go: rules hold it
// no more. A delivery without a seal stays held.
func Release(was Plan, doc Document, facts Facts) Plan { return was }

// StripTriggers removes from a subject what only policy was meant to read.
func StripTriggers(subject string, triggers []string) string { return subject }
