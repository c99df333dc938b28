package dkim

import "github.com/sealpost/sealpost/internal/db"

// Count counts the keys of all organizations by state, for a gauge.
func Count(tx *db.Tx) (map[State]int, error) {
	n := map[State]int{New: 0, Active: 0, Retiring: 0, Retired: 0}
	_, err := db.All(tx, func(row db.Row) (struct{}, error) {
		var state string
		var count int
		err := row.Scan(&state, &count)
		n[State(state)] = count
		return struct{}{}, err
	}, "SELECT state, count(*) FROM dkim_keys GROUP BY state")
	return n, err
}
