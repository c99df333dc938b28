// Command sealpost is the whole product: a server, and the commands that set
// it up and look after it.
//
// Invariants:
//   - Results go to standard output, everything else to standard error. With
//     --json the result is one JSON object in one line.
//   - The exit code is 0 when done, 1 when it failed and 2 when the command
//     line was wrong; 3 when "open" has opened a mail with doubts.
//   - What cannot be taken back is only rehearsed until --apply is given.
//   - Commands open the database directly and work while a server runs.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sealpost/sealpost/internal/config"
)

var version = "0.1.0-dev" // set by -ldflags for releases

// cli is the command line.
type cli struct {
	Config string `short:"c" env:"SEALPOST_CONFIG" placeholder:"FILE" help:"Configuration file. /etc/sealpost/sealpost.toml when it exists."`
	JSON   bool   `name:"json" help:"Print the result as one JSON object."`

	Serve serveCmd `cmd:"" group:"run" help:"Run a node of the server."`
	Demo  demoCmd  `cmd:"" group:"run" help:"Show the whole product on this machine, in a temporary folder."`
	Send  sendCmd  `cmd:"" group:"run" help:"Send a message through the API."`

	Setup    configCmd   `cmd:"" name:"config" group:"setup" help:"Describe, show and check the configuration."`
	Migrate  migrateCmd  `cmd:"" group:"setup" help:"Bring the database to the schema of this version."`
	Keys     keysCmd     `cmd:"" group:"setup" help:"Make, list and rotate the keys of this installation."`
	Org      orgCmd      `cmd:"" group:"setup" help:"Create, limit and destroy organizations."`
	Domain   domainCmd   `cmd:"" group:"setup" help:"Prove sender domains; look at what a recipient's domain can do."`
	DKIM     dkimCmd     `cmd:"" name:"dkim" group:"setup" help:"Keys that sign for sender domains, and the DNS records they need."`
	APIKey   apikeyCmd   `cmd:"" name:"apikey" group:"setup" help:"Issue and revoke keys for the API and for SMTP."`
	Identity identityCmd `cmd:"" group:"setup" help:"Keys of the organization's own addresses, which sign and open mail."`
	Keyring  keyringCmd  `cmd:"" group:"setup" help:"Keys and certificates of recipients: where they come from and how far they are trusted."`
	Shaping  shapingCmd  `cmd:"" group:"setup" help:"Rules for how much a destination gets at once."`
	Partner  partnerCmd  `cmd:"" group:"setup" help:"Pinned certificates of partners' mail hosts, and client certificates shown to them."`
	Policy   policyCmd   `cmd:"" group:"setup" help:"Show, publish and try out an organization's policy."`

	Doctor    doctorCmd    `cmd:"" group:"operate" help:"Look at this installation and its surroundings, and say what is wrong and what to do."`
	Open      openCmd      `cmd:"" group:"operate" help:"Open an encrypted or signed mail and say what is known about it."`
	Queue     queueCmd     `cmd:"" group:"operate" help:"See what is not settled yet; hold, release, retry and cancel it."`
	Pool      poolCmd      `cmd:"" group:"operate" help:"Where mail leaves from, and how those addresses stand."`
	Report    reportCmd    `cmd:"" group:"operate" help:"What receivers report of mail in the names of our domains, and of TLS with our mail hosts."`
	Ledger    ledgerCmd    `cmd:"" group:"operate" help:"Export the record of what happened and verify it."`
	Version   versionCmd   `cmd:"" group:"operate" help:"Show the version and the cryptographic module."`
	Suppress  suppressCmd  `cmd:"" group:"operate" help:"Addresses that nothing is sent to: why, since when, and for how long."`
	Retention retentionCmd `cmd:"" group:"operate" help:"How long things are kept, what a purge destroys, proof of it, and the archive's copy."`
	Hold      holdCmd      `cmd:"" group:"operate" help:"Legal holds: keep things from being destroyed."`
}

const description = `Sealpost seals every message that leaves an organization with the strongest method its recipient can open.

A new installation:

  $ sealpost config describe > sealpost.toml   # edit it
  $ export SEALPOST_CONFIG=$PWD/sealpost.toml
  $ sealpost config check
  $ sealpost migrate --apply
  $ sealpost keys init
  $ sealpost org create clinic --name "Riverside Clinic"
  $ sealpost domain add clinic.example
  $ sealpost domain verify clinic.example
  $ sealpost apikey create --name lab-notices
  $ sealpost serve`

func main() {
	os.Exit(run(os.Args[1:], &environment{
		variables: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}))
}

// run is main for given arguments; it gives the exit code.
func run(args []string, env *environment) int {
	var root cli
	parser, err := newParser(&root, env.stdout, env.stderr)
	if err != nil {
		return env.report(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return env.reportUsage(err)
	}
	env.configFile, env.JSON = root.Config, root.JSON
	command.BindTo(context.Background(), (*context.Context)(nil))
	command.Bind(env)
	return env.report(command.Run())
}

func newParser(root *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(root,
		kong.Name("sealpost"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run:"}, {Key: "setup", Title: "Set up:"}, {Key: "operate", Title: "Operate:"},
		}),
		// Durations are written as in the configuration: 30d.
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
			var text string
			if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
				return err
			}
			d, err := config.ParseDuration(text)
			target.SetInt(int64(d))
			return err
		})),
		kong.UsageOnError())
}

// reportUsage tells what is wrong with the command line.
func (e *environment) reportUsage(err error) int {
	text := strings.Replace(err.Error(), `must be one of "",`, "must be one of ", 1) // "" is a flag that is not given
	if !strings.HasSuffix(text, "?") {
		text += "."
	}
	where := "sealpost"
	if bad := (*kong.ParseError)(nil); errors.As(err, &bad) && bad.Context != nil {
		if node := bad.Context.Selected(); node != nil {
			where = node.FullPath()
		}
	}
	e.sayf("sealpost: %s\nSee \"%s --help\".", text, where)
	return exitUsage
}
