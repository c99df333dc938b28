package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/spool"
)

// sendCmd is a client of the API.
type sendCmd struct {
	APIURL     string `name:"api-url" required:"" env:"SEALPOST_API_URL" placeholder:"URL" help:"Where the API is, such as https://mail.clinic.example."`
	APIKey     string `name:"api-key" env:"SEALPOST_API_KEY" placeholder:"KEY" help:"API key. Others on this machine see it on a command line: rather use the variable or a file."`
	APIKeyFile string `name:"api-key-file" env:"SEALPOST_API_KEY_FILE" placeholder:"FILE" help:"File that holds the API key."`
	CAFile     string `name:"ca-file" placeholder:"FILE" help:"Authorities to trust in place of the system's, in PEM."`

	From    string   `required:"" placeholder:"ADDRESS" help:"Sender, at a verified domain."`
	To      []string `sep:"none" placeholder:"ADDRESS" help:"Recipient, as in --to a@example.org or --to 'Pat Doe <pat@example.org>'. This and the next two can be given several times."`
	Cc      []string `sep:"none" placeholder:"ADDRESS" help:"Recipient of a copy."`
	Bcc     []string `sep:"none" placeholder:"ADDRESS" help:"Recipient of a copy that the others do not see."`
	ReplyTo []string `sep:"none" placeholder:"ADDRESS" help:"Where answers go."`
	Subject string   `placeholder:"TEXT" help:"Subject."`
	Text    string   `placeholder:"TEXT" help:"Text; - reads standard input, @FILE a file."`
	HTML    string   `name:"html" placeholder:"HTML" help:"HTML; - reads standard input, @FILE a file."`
	Attach  []string `sep:"none" placeholder:"FILE" help:"File to attach; can be given several times."`

	Purpose string `enum:",treatment,payment,operations,marketing,generic" default:"" placeholder:"PURPOSE" help:"Why it is sent: treatment, payment, operations, marketing or generic. That of the key when not given."`
	Seal    string `enum:",pgp,smime,tls,portal" default:"" placeholder:"SEAL" help:"Use no other seal than this: pgp, smime, tls or portal."`
	SendAt  string `placeholder:"WHEN" help:"Not before: a duration such as 2h, or 2030-12-31T08:00:00Z."`

	IdempotencyKey string `placeholder:"KEY" help:"The same message sent again with the same key is not sent twice. One is made up when not given."`
	Wait           bool   `help:"Watch until every delivery is settled; the exit code is 1 if one could not be made."`
	Timeout        string `default:"5m" placeholder:"DURATION" help:"How long --wait watches. (default: 5m)"`
}

// Help shows examples.
func (sendCmd) Help() string {
	return "Examples:\n\n" +
		"  $ export SEALPOST_API_URL=https://mail.clinic.example SEALPOST_API_KEY_FILE=key\n" +
		"  $ sealpost send --from dr@clinic.example --to pat@example.org --subject Results --text @results.txt --attach scan.pdf\n" +
		"  $ fortune | sealpost send --from dr@clinic.example --to pat@example.org --text - --seal portal --wait"
}

type wireMessage struct {
	From        string     `json:"from"`
	To          []string   `json:"to,omitempty"`
	Cc          []string   `json:"cc,omitempty"`
	Bcc         []string   `json:"bcc,omitempty"`
	ReplyTo     []string   `json:"reply_to,omitempty"`
	Subject     string     `json:"subject,omitempty"`
	Text        string     `json:"text,omitempty"`
	HTML        string     `json:"html,omitempty"`
	Attachments []wireFile `json:"attachments,omitempty"`
	Purpose     string     `json:"purpose,omitempty"`
	Seal        string     `json:"seal,omitempty"`
	SendAt      time.Time  `json:"send_at,omitzero"`
}

type wireFile struct {
	Filename    string `json:"filename"`
	ContentType string `json:"content_type,omitempty"`
	Content     string `json:"content"` // base64
}

// Run sends.
func (c sendCmd) Run(ctx context.Context, env *environment) error {
	wait, err := config.ParseDuration(c.Timeout)
	if err != nil {
		return usagef("--timeout: %v", err)
	}
	m, err := c.message(env)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	sent, err := client.send(ctx, m, c.IdempotencyKey)
	if err != nil {
		return err
	}
	if !c.Wait {
		return env.result(sent, sent.tell)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := client.watch(ctx, &sent); err != nil {
		return err
	}
	if err := env.result(sent, sent.tell); err != nil {
		return err
	}
	if n := sent.open(); n > 0 {
		env.sayf("sealpost: %s not made.", count(n, "delivery was", "deliveries were"))
		return errSaid
	}
	return nil
}

// message makes what is posted out of the command line.
func (c sendCmd) message(env *environment) (m wireMessage, err error) {
	if len(c.To)+len(c.Cc)+len(c.Bcc) == 0 {
		return m, usagef("Name a recipient with --to, --cc or --bcc.")
	}
	if c.Text == "" && c.HTML == "" && len(c.Attach) == 0 {
		return m, usagef("Give the message something to say with --text, --html or --attach.")
	}
	if c.Text == "-" && c.HTML == "-" {
		return m, usagef("Standard input can be read for --text or for --html, not for both.")
	}
	m = wireMessage{From: c.From, To: c.To, Cc: c.Cc, Bcc: c.Bcc, ReplyTo: c.ReplyTo, Subject: c.Subject, Purpose: c.Purpose, Seal: c.Seal}
	if m.SendAt, err = moment(c.SendAt, time.Now()); err != nil {
		return m, err
	}
	if m.Text, err = env.content(c.Text); err != nil {
		return m, err
	}
	if m.HTML, err = env.content(c.HTML); err != nil {
		return m, err
	}
	for _, name := range c.Attach {
		content, err := env.readInput(name, contentLimit)
		if err != nil {
			return m, err
		}
		m.Attachments = append(m.Attachments, wireFile{filepath.Base(name), mime.TypeByExtension(filepath.Ext(name)),
			base64.StdEncoding.EncodeToString(content)})
	}
	return m, nil
}

// contentLimit bounds what is read into memory; servers accept less.
const contentLimit = 1 << 30

// content gives a text, or what is read for it.
func (e *environment) content(text string) (string, error) {
	name, isFile := strings.CutPrefix(text, "@")
	if !isFile && text != "-" {
		return text, nil
	}
	content, err := e.readInput(name, contentLimit)
	return string(content), err
}

func (c sendCmd) client() (*apiClient, error) {
	key := c.APIKey
	switch {
	case key == "" && c.APIKeyFile == "":
		return nil, usagef("Give the API key with SEALPOST_API_KEY, SEALPOST_API_KEY_FILE or --api-key-file.")
	case key == "":
		text, err := os.ReadFile(c.APIKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the API key: %w", err)
		}
		key = strings.TrimSpace(string(text))
	}
	return newAPIClient(c.APIURL, key, c.CAFile)
}

// sentMessage is the answer of the API, and what became of it.
type sentMessage struct {
	ID         string         `json:"id"`
	Deliveries []sentDelivery `json:"deliveries"`
}

func (m sentMessage) tell(p *page) {
	p.linef("Accepted as %s.\n", m.ID)
	rows := [][]string{{"RECIPIENT", "STATE", "SEAL", "GRADE", "WHY"}}
	for _, d := range m.Deliveries {
		seal := orDash(d.Seal)
		if d.Seal != "" && !d.Final {
			seal += " expected"
		}
		why := d.Reason
		if d.State.Settled() {
			why = d.Code // the sentence is that of the forecast
		}
		rows = append(rows, []string{d.Recipient, string(d.State), seal, orDash(d.Grade), orDash(why)})
	}
	p.table(rows...)
}

// open counts the deliveries that did not succeed.
func (m sentMessage) open() (n int) {
	for _, d := range m.Deliveries {
		if !slices.Contains([]spool.State{spool.Delivered, spool.Waiting, spool.Read}, d.State) {
			n++
		}
	}
	return n
}
