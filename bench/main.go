// Command bench measures Sealpost and Postfix side by side: the same messages
// by the same generator, through a relay on loopback, over verified TLS to the
// same sink. "make bench" runs it; docs/benchmarks.md tells what came out.
//
// Invariants:
//   - Both servers run with their defaults, or with what makes Postfix faster,
//     on the same file system, which is not a memory disk, with every sync
//     that they make on their own.
//   - A server is set up afresh for every round, and only one runs at a time.
//   - The sink, the server and the generator are processes of their own; what
//     is reported of a server was read from the kernel's account of its
//     processes.
//   - A round in which a message was refused, or did not arrive, is no result:
//     the command fails.
//   - Nothing outside the temporary folder is changed; the machine's own
//     Postfix is neither read nor touched.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what the command line can change.
type options struct {
	messages int
	warmup   int
	size     int
	sessions int
	reuse    bool
	rounds   int
	patient  time.Duration

	parts []string // what is measured, in this order
	dkim  bool

	apiRate     int
	arrivalRate int
	openFor     time.Duration // each open loop

	queued, queuedFor int // deliveries, domains of the full queue

	only    string   // "sealpost", "postfix" or "" for both
	mainCF  []string // lines to add
	binary  string
	dir     string
	profile string
	seals   []string // measure only these seals
	keep    bool
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		cancel()
		os.Exit(1)
	}
}

// run is main for given arguments. The words "sink", "serve" and "fill" are for the
// processes that the command starts of itself.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "sink":
			return runSink(ctx, args[1:], os.Stdin, out)
		case "serve":
			return runServe(ctx, args[1:])
		case "fill":
			return runFill(ctx, args[1:])
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return compare(ctx, o, out)
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.messages, "n", 10000, "messages of a round")
	f.IntVar(&o.warmup, "warmup", 300, "messages before a round that are not counted")
	f.IntVar(&o.size, "size", 10<<10, "octets of a message's body")
	f.IntVar(&o.sessions, "sessions", 40, "SMTP sessions at a time")
	f.BoolVar(&o.reuse, "reuse", false, "send many messages over one incoming connection instead of one over each")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of each server; the median is reported")
	f.DurationVar(&o.patient, "patient", 0, "wait at most so long before each round for other programs to come to rest")
	f.Func("parts", "measure only `some` of "+strings.Join(allParts(), ","), func(list string) error {
		o.parts = strings.Split(list, ",")
		return nil
	})
	f.BoolVar(&o.dkim, "dkim", true, "sign with RSA-2048: Sealpost itself, Postfix by OpenDKIM")
	f.IntVar(&o.apiRate, "api-rate", 300, "requests to the API a second")
	f.IntVar(&o.arrivalRate, "arrival-rate", 150, "messages a second that arrive by SMTP, whether those before were answered or not")
	f.DurationVar(&o.openFor, "open-for", 30*time.Second, "how long messages arrive at a fixed rate")
	f.IntVar(&o.queued, "queued", 1_000_000, "deliveries in the full queue")
	f.IntVar(&o.queuedFor, "domains", 10_000, "domains that they go to")
	f.StringVar(&o.only, "only", "", "measure only \"sealpost\" or \"postfix\"")
	f.Func("postfix-set", "`parameter = value` for Postfix, beside ours; can be repeated", func(line string) error {
		o.mainCF = append(o.mainCF, line)
		return nil
	})
	f.StringVar(&o.binary, "sealpost", "bin/sealpost", "program to measure")
	f.StringVar(&o.dir, "dir", os.TempDir(), "folder for temporary files; not on a memory disk")
	f.StringVar(&o.profile, "profile", "", "run Sealpost inside this command, write CPU and heap profiles to this folder and say where the time goes")
	f.Func("seals", "measure only what sealing to recipients' own keys costs: `tls,pgp,smime` or some of them", func(list string) error {
		o.seals = strings.Split(list, ",")
		return nil
	})
	f.BoolVar(&o.keep, "keep", false, "keep the temporary folder, with the logs of the servers")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("%q is not understood; see -help", f.Arg(0))
	case slices.ContainsFunc(o.seals, func(s string) bool { return s != "tls" && s != "pgp" && s != "smime" }):
		return o, errors.New("-seals names tls, pgp and smime")
	case o.messages < 1 || o.rounds < 1 || o.sessions < 1 || o.size < 1 || o.warmup < 0 || o.apiRate < 1:
		return o, errors.New("numbers are at least 1")
	case o.only != "" && o.only != sealpostName && o.only != postfixName:
		return o, fmt.Errorf("-only is %q or %q", sealpostName, postfixName)
	}
	if o.profile != "" || o.seals != nil {
		o.only = sealpostName
	}
	if o.parts == nil {
		o.parts = allParts()
	}
	for _, p := range o.parts {
		if !slices.Contains(allParts(), p) {
			return o, fmt.Errorf("-parts knows %s", strings.Join(allParts(), ", "))
		}
	}
	return o, nil
}
