package doctor

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
)

func (d Deps) database(ctx context.Context) []Finding {
	if d.DB == nil {
		text := "The installation cannot be opened."
		if f := fault.From(d.Failed); f != nil && f.Kind != fault.Internal {
			text = "The installation cannot be opened: " + f.Text
		}
		return wrong("Correct what the sentence names. \"sealpost config check\" looks at the configuration, \"sealpost migrate\" at the schema, \"sealpost keys list\" at the keys.", "%s", text)
	}
	have, want, err := d.DB.SchemaVersions(ctx)
	switch {
	case err != nil:
		return wrong("Start the database, or correct database.url.", "The database does not answer.")
	case have < want:
		return wrong("Run \"sealpost migrate --apply\".", "The schema is of version %d and this program needs %d.", have, want)
	case have > want:
		return wrong("Install the version of this program that migrated the database.", "The schema is of version %d, which is newer than this program's %d.", have, want)
	}
	return append(good("%s answers; its schema is of version %d.", d.DB.Dialect, have), d.databaseClock(ctx)...)
}

// Leases are renewed in database time and doubted on the local clock, so the
// two need not agree, but links, codes and certificates are judged by ours.
const clocksApart = 5 * time.Second

func (d Deps) databaseClock(ctx context.Context) []Finding {
	if d.DB.Dialect == db.SQLite {
		return nil
	}
	var theirs int64
	before := d.Clock.Now()
	if err := d.DB.Read(ctx, db.System, func(tx *db.Tx) (err error) {
		theirs, err = tx.Now()
		return err
	}); err != nil {
		return wrong("See the database's log.", "The database's time cannot be read.")
	}
	apart := time.UnixMicro(theirs).Sub(before)
	if apart > clocksApart || apart < -clocksApart {
		return warning("Let a time service such as chrony steer both machines.", "The clock of the database is %s from this machine's.", apart.Round(time.Second))
	}
	return nil
}

// keys looks at who can read what no backup of the database must hold.
func (d Deps) keys(context.Context) []Finding {
	k := d.Config.Keys
	info, err := os.Stat(k.MasterFile)
	switch {
	case err != nil:
		return wrong("Give this program's user the file that keys.master_file names, or make one with \"sealpost keys init\".", "The master key cannot be read.")
	case info.Mode().Perm()&0o077 != 0:
		return wrong("chmod 600 "+k.MasterFile, "The master key is readable by other users (mode %04o).", info.Mode().Perm())
	}
	if dir, err := os.Stat(k.Dir); err != nil || !dir.IsDir() {
		return wrong("Make the folder that keys.dir names, or run \"sealpost keys init\".", "The folder of the organizations' keys cannot be read.")
	}
	if inside(k.MasterFile, k.Dir) {
		return warning("Move the master key to another disk or a mounted secret, and name it in keys.master_file.", "The master key lies in the folder of the keys that it protects.")
	}
	return good("The master key is readable by its owner alone.")
}

func inside(file, folder string) bool {
	rel, err := filepath.Rel(folder, file)
	return err == nil && filepath.IsLocal(rel)
}

const (
	diskLow   = 0.10
	diskEmpty = 512 << 20 // octets
)

func (d Deps) disk(context.Context) []Finding {
	folder := d.Config.DataDir
	if _, err := os.Stat(folder); err != nil {
		return wrong("Make the folder and give it to this program's user.", "The data folder %s cannot be read.", folder)
	}
	free, all, err := d.Disk(folder)
	switch {
	case err != nil:
		return warning("Look with \"df -h\".", "How full the disk of %s is cannot be told.", folder)
	case free < diskEmpty:
		return wrong("Free space now: nothing more can be accepted when the disk is full.", "The disk of %s has %d MB left.", folder, free>>20)
	case float64(free) < diskLow*float64(all):
		return warning("Free space, or give the data folder a larger disk.", "The disk of %s has %d %% left.", folder, 100*free/all)
	}
	return good("The disk of %s has %d GB left.", folder, free>>30)
}

// files compares the limit of open files with the connections that are
// configured: each takes one, and listeners, the database and logs some.
func (d Deps) files(context.Context) []Finding {
	limit, err := d.Files()
	need := uint64(2*d.Config.Delivery.Concurrency + 1500)
	switch {
	case err != nil:
		return warning("Look with \"ulimit -n\".", "How many files may be open cannot be told.")
	case limit < need:
		return warning("Set LimitNOFILE=65536 in the systemd unit, or lower delivery.concurrency.", "%d files may be open; the configured connections need up to %d.", limit, need)
	}
	return good("%d files may be open.", limit)
}

func (d Deps) clock(context.Context) []Finding {
	steered, err := d.Steered()
	switch {
	case err != nil:
		return warning("Look with \"timedatectl\".", "Whether a time service keeps the clock right cannot be told.")
	case !steered:
		return warning("Start a time service such as chrony or systemd-timesyncd: certificates, links and DKIM signatures are judged by the clock.", "No time service keeps the clock right.")
	}
	return good("A time service keeps the clock right.")
}
