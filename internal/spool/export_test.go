package spool

// Queries that the tests ask the engines to explain.
const (
	LinesLite     = linesLite
	LinesPostgres = linesPostgres
	DueLately     = lately
	DueInLine     = dueInLine
	DueInLines    = dueInLines
	DueNotices    = dueNotices
	OldReports    = oldReports
)
