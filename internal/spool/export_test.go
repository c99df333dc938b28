package spool

// Queries that the tests ask the engines to explain.
const (
	DueDeliveries = dueDeliveries
	DueNotices    = dueNotices
)
