package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/sealpost/sealpost/internal/app"
)

type queueTopCmd struct {
	Once  bool `help:"Show how things stand now, and end."`
	Limit int  `default:"0" placeholder:"N" help:"Most destinations to show; 0 for as many as fit, or all with --once."`
}

// Help says what the columns are.
func (queueTopCmd) Help() string {
	return "Destinations in trouble come first, then the largest, of all nodes together. READY can go now; LATER is scheduled or deferred. " +
		"Both are counted every 10 seconds, up to 100000 deliveries; ≥ says that there are more. CONN are open connections, /MIN what was taken in the last minute. LEFT FOR says how much longer nothing is sent to it, WHY what it is held back for: a name from \"sealpost shaping site\", unreachable or timeout. " +
		"q ends it. With --json it prints one object a line, each second.\n\nWhich domains mail goes to is in the database, not in /metrics: whoever may run this command may see them."
}

const topEvery = time.Second

// Run watches until it is told to end.
func (c queueTopCmd) Run(ctx context.Context, env *environment) error {
	if c.Limit < 0 {
		return usagef("--limit must not be negative.")
	}
	return env.withCore(ctx, func(core *app.Core) error {
		w, err := core.Watch()
		if err != nil {
			return err
		}
		t, err := w.Look(ctx)
		if err != nil {
			return err
		}
		terminal := term.IsTerminal(int(os.Stdout.Fd())) && env.stdout == os.Stdout
		if c.Once || !env.JSON && !terminal {
			return env.result(t, func(p *page) {
				for _, line := range (topScreen{limit: c.Limit}).lines(t) {
					p.linef("%s", line)
				}
			})
		}
		ctx, end := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer end()
		if env.JSON {
			return each(ctx, w, func(t app.Top) error { return env.result(t, nil) })
		}
		return c.live(ctx, end, env, w)
	})
}

// each shows how things stand, every second until ctx ends.
func each(ctx context.Context, w *app.Watcher, show func(app.Top) error) error {
	for {
		t, err := w.Look(ctx)
		if ctx.Err() != nil {
			return nil // told to end
		}
		if err == nil {
			err = show(t)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(topEvery):
		}
	}
}

// Control sequences of every terminal (ECMA-48, and the alternate screen of
// xterm).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	topLeft     = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// live draws over the same screen and gives the terminal back as it was.
func (c queueTopCmd) live(ctx context.Context, end func(), env *environment, w *app.Watcher) error {
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	if before, err := term.MakeRaw(in); err == nil {
		defer func() { _ = term.Restore(in, before) }()
		go quitOnKey(end)
	}
	fmt.Fprint(env.stdout, enterScreen)
	defer fmt.Fprint(env.stdout, leaveScreen)
	return each(ctx, w, func(t app.Top) error {
		s := topScreen{width: 80, height: 24, limit: c.Limit, color: os.Getenv("NO_COLOR") == ""}
		if width, height, err := term.GetSize(out); err == nil {
			s.width, s.height = width, height
		}
		_, err := fmt.Fprint(env.stdout, topLeft+strings.Join(s.lines(t), clearLine+"\r\n")+clearLine+clearBelow)
		return err
	})
}

// quitOnKey ends on q, Q, Ctrl-C and Ctrl-D; in raw mode no signal comes of
// them.
func quitOnKey(end func()) {
	key := make([]byte, 1)
	for {
		if n, err := os.Stdin.Read(key); err != nil || n == 1 && strings.ContainsRune("qQ\x03\x04", rune(key[0])) {
			end()
			return
		}
	}
}

// topScreen lays destinations out. Without a height there is no end to it.
type topScreen struct {
	width, height, limit int
	color                bool
}

const siteLeast = 24 // characters of a destination's name

// lines are what fits on the screen.
func (s topScreen) lines(t app.Top) []string {
	name := max(siteLeast, s.width-75)
	out := []string{s.cut(s.heading(t)), ""}
	row := func(cells ...string) string {
		return fmt.Sprintf("%-*s %8s %7s %5s %6s  %-11s %-8s %s", name, clip(printable(cells[0]), name), cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7])
	}
	out = append(out, s.cut(row("DESTINATION", "READY", "LATER", "CONN", "/MIN", "LAST REPLY", "LEFT FOR", "WHY")))
	room := len(t.Sites)
	if s.limit > 0 {
		room = min(room, s.limit)
	}
	if s.height > 0 {
		room = min(room, max(1, s.height-len(out)-1))
	}
	least := ""
	if t.AtLeast {
		least = "≥"
	}
	for _, d := range t.Sites[:room] {
		left := ""
		if !d.Suspended.IsZero() {
			left = d.Suspended.Sub(t.At).Round(time.Second).String()
		}
		line := s.cut(strings.TrimRight(row(d.Site, tally(d.Ready, least), tally(d.Scheduled, least), tally(d.Connections, ""), tally(d.PerMinute, ""), orDash(d.LastReply), left, d.Why), " "))
		out = append(out, s.paint(d, line))
	}
	switch hidden := len(t.Sites) - room; {
	case len(t.Sites) == 0:
		out = append(out, "Nothing waits and nothing flows.")
	case hidden > 0:
		out = append(out, s.cut(fmt.Sprintf("and %d more", hidden)))
	}
	return out
}

func (s topScreen) heading(t app.Top) string {
	var ready, later, conns, rate int
	for _, d := range t.Sites {
		ready, later, conns, rate = ready+d.Ready, later+d.Scheduled, conns+d.Connections, rate+d.PerMinute
	}
	least := ""
	if t.AtLeast {
		least = "≥"
	}
	nodes := count(len(t.Nodes), "node delivers", "nodes deliver")
	if len(t.Nodes) == 0 {
		nodes = "NO NODE DELIVERS"
	}
	return fmt.Sprintf("%s  %s  ready %s  later %s  connections %d  %d/min", t.At.Format("15:04:05Z"), nodes, tally(ready, least), tally(later, least), conns, rate)
}

func tally(n int, least string) string {
	if n == 0 {
		return "-"
	}
	return least + strconv.Itoa(n)
}

// cut keeps a line from wrapping.
func (s topScreen) cut(line string) string {
	if s.width <= 0 {
		return line
	}
	return clip(line, s.width)
}

func clip(text string, width int) string {
	if r := []rune(text); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return text
}

// paint marks destinations in trouble.
func (s topScreen) paint(d app.TopSite, line string) string {
	if !s.color || d.Trouble() == 0 {
		return line
	}
	if d.Trouble() >= 4 {
		return "\x1b[31m" + line + "\x1b[0m"
	}
	return "\x1b[33m" + line + "\x1b[0m"
}
