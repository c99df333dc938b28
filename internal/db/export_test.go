package db

// Sweeping is the statement of one transaction of Sweep.
func (d *DB) Sweeping(table, key, condition string) string { return d.sweeping(table, key, condition) }
