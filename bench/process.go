package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ticksPerSecond is the unit of the times in /proc on Linux (USER_HZ).
const ticksPerSecond = 100

// process is what /proc tells of one process.
type process struct {
	pid, parent int
	own         time.Duration // CPU time of this process
	reaped      time.Duration // and of its children that have ended
}

// parseStat reads /proc/PID/stat. The name in brackets can hold anything.
func parseStat(stat []byte) (process, error) {
	end := bytes.LastIndexByte(stat, ')')
	before, _, _ := bytes.Cut(stat, []byte(" "))
	if end < 0 {
		return process{}, fmt.Errorf("stat of a process has no name")
	}
	f := bytes.Fields(stat[end+1:])
	if len(f) < 15 {
		return process{}, fmt.Errorf("stat of a process has %d fields", len(f))
	}
	n := make([]int, 6)
	for i, field := range [][]byte{before, f[1], f[11], f[12], f[13], f[14]} {
		var err error
		if n[i], err = strconv.Atoi(string(field)); err != nil {
			return process{}, fmt.Errorf("stat of a process: %w", err)
		}
	}
	ticks := func(n int) time.Duration { return time.Duration(n) * time.Second / ticksPerSecond }
	return process{pid: n[0], parent: n[1], own: ticks(n[2] + n[3]), reaped: ticks(n[4] + n[5])}, nil
}

// family gives processes and all their descendants that live.
func family(roots ...int) []process {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	byParent := map[int][]process{}
	var all []process
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		p, err := parseStat(stat)
		if err != nil {
			continue
		}
		byParent[p.parent] = append(byParent[p.parent], p)
		if slices.Contains(roots, p.pid) {
			all = append(all, p)
		}
	}
	for i := 0; i < len(all); i++ {
		all = append(all, byParent[all[i].pid]...)
	}
	return all
}

// cpu is the CPU time that a family has used, those included that have ended
// and were waited for.
func cpu(roots ...int) time.Duration {
	var sum time.Duration
	for _, p := range family(roots...) {
		sum += p.own + p.reaped
	}
	return sum
}

// parseBusy reads the first line of /proc/stat: the time that all processors
// together were not idle (proc_stat(5)).
func parseBusy(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var ticks int
	for i, f := range bytes.Fields(line) {
		// user nice system idle iowait irq softirq steal guest guest_nice, the
		// last two within user and nice.
		if i < 1 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.Atoi(string(f))
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// awaitRest returns when the processors were nearly idle for a second, or after
// the longest wait.
func awaitRest(ctx context.Context, longest time.Duration) {
	for end := time.Now().Add(longest); time.Now().Before(end) && ctx.Err() == nil; {
		others := watchOthers(os.Getpid())
		time.Sleep(time.Second)
		if others() < 0.1 {
			return
		}
	}
}

// watchOthers measures what part of all processors went to processes that are
// not this benchmark's: to those it is a loss.
func watchOthers(servers ...int) func() float64 {
	ours := func() time.Duration {
		sum, own := cpu(os.Getpid()), family(os.Getpid())
		for _, server := range servers {
			if !slices.ContainsFunc(own, func(p process) bool { return p.pid == server }) {
				sum += cpu(server)
			}
		}
		return sum
	}
	busy := func() time.Duration {
		stat, _ := os.ReadFile("/proc/stat") // without it nobody else is seen
		return parseBusy(stat)
	}
	began, busyBefore, oursBefore := time.Now(), busy(), ours()
	return func() float64 {
		all := time.Since(began) * time.Duration(runtime.NumCPU())
		return max(0, float64(busy()-busyBefore-(ours()-oursBefore))/float64(all))
	}
}

// memory is the largest that a family was seen to be.
type memory struct {
	peaks  int64 // sum of VmHWM of the processes alive at one time
	shared int64 // sum of their proportional sizes (Pss)
}

// parseField finds "Name:   123 kB" in a file of /proc and gives octets.
func parseField(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name+":"))
		if !ok {
			continue
		}
		if f := bytes.Fields(rest); len(f) == 2 && string(f[1]) == "kB" {
			n, _ := strconv.ParseInt(string(f[0]), 10, 64)
			return n << 10
		}
	}
	return 0
}

func measure(roots ...int) (m memory) {
	for _, p := range family(roots...) {
		dir := filepath.Join("/proc", strconv.Itoa(p.pid))
		if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
			m.peaks += parseField(status, "VmHWM")
		}
		if rollup, err := os.ReadFile(filepath.Join(dir, "smaps_rollup")); err == nil {
			m.shared += parseField(rollup, "Pss")
		}
	}
	return m
}

// watchMemory looks at a family once a second until the function it returns
// is called, which looks once more.
func watchMemory(roots ...int) func() memory {
	var most memory
	look := func() {
		m := measure(roots...)
		most.peaks, most.shared = max(most.peaks, m.peaks), max(most.shared, m.shared)
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				look()
			case <-done:
				return
			}
		}
	})
	return func() memory {
		close(done)
		work.Wait()
		look()
		return most
	}
}
