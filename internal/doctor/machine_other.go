//go:build !linux

package doctor

import "errors"

var errUnknown = errors.New("not known on this system")

// DiskOf asks the system about a folder's file system.
func DiskOf(string) (free, all uint64, err error) { return 0, 0, errUnknown }

// SteeredClock asks the kernel whether its clock is synchronized.
func SteeredClock() (bool, error) { return false, errUnknown }

// OpenFiles is how many files the process may have open.
func OpenFiles() (uint64, error) { return 0, errUnknown }
