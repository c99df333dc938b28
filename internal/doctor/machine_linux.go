package doctor

import "syscall"

// DiskOf asks the system about a folder's file system.
func DiskOf(folder string) (free, all uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		return 0, 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), fs.Blocks * uint64(fs.Bsize), nil
}

// unsynchronized is STA_UNSYNC of adjtimex(2).
const unsynchronized = 0x0040

// SteeredClock asks the kernel whether its clock is synchronized.
func SteeredClock() (bool, error) {
	var t syscall.Timex
	if _, err := syscall.Adjtimex(&t); err != nil {
		return false, err
	}
	return t.Status&unsynchronized == 0, nil
}

// OpenFiles is the limit that the process can raise its own to, as Go's
// runtime does.
func OpenFiles() (uint64, error) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return l.Max, err
}
