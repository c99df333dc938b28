//go:build thunderbird

package thunderbird

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// marionette speaks the remote control protocol of Mozilla's programs: JSON
// behind its length in decimal and a colon. A command is [0, id, name,
// parameters], its answer [1, id, error, result].
type marionette struct {
	conn net.Conn
	in   *bufio.Reader
	last int
}

// patience is the most that a command may take: Thunderbird makes its windows
// and its key databases within it, on a busy machine too.
const patience = time.Minute

func dial(address string) (*marionette, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	m := &marionette{conn: conn, in: bufio.NewReader(conn)}
	if _, err := m.receive(); err != nil { // who it is
		return nil, errors.Join(fmt.Errorf("greeting of Marionette: %w", err), conn.Close())
	}
	if _, err := m.call("WebDriver:NewSession", map[string]any{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	// The scripts run as parts of the program, not as those of a web page.
	if _, err := m.call("Marionette:SetContext", map[string]any{"value": "chrome"}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	_, err = m.call("WebDriver:SetTimeouts", map[string]any{"script": patience.Milliseconds()})
	return m, err
}

func (m *marionette) receive() ([]byte, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(patience + 10*time.Second)); err != nil {
		return nil, err
	}
	length, err := m.in.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil || n < 0 || n > 16<<20 {
		return nil, errors.New("not the Marionette protocol")
	}
	message := make([]byte, n)
	_, err = io.ReadFull(m.in, message)
	return message, err
}

func (m *marionette) call(name string, parameters any) (json.RawMessage, error) {
	m.last++
	command, err := json.Marshal([]any{0, m.last, name, parameters})
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(command), command); err != nil {
		return nil, err
	}
	message, err := m.receive()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var answer []json.RawMessage
	if err := json.Unmarshal(message, &answer); err != nil || len(answer) != 4 {
		return nil, fmt.Errorf("%s: an answer of another form", name)
	}
	var id int
	var failure *struct{ Error, Message string }
	if err := errors.Join(json.Unmarshal(answer[1], &id), json.Unmarshal(answer[2], &failure)); err != nil || id != m.last {
		return nil, fmt.Errorf("%s: an answer to another command", name)
	}
	if failure != nil {
		return nil, fmt.Errorf("%s: %s: %s", name, failure.Error, failure.Message)
	}
	return answer[3], nil
}

// run has Thunderbird run the body of an asynchronous function with one
// argument, and reads what it returns.
func (m *marionette) run(script string, argument, result any) error {
	answer, err := m.call("WebDriver:ExecuteAsyncScript", map[string]any{
		"script": "const [argument, done] = arguments;\n" +
			"(async () => {\n" + script + "\n})().then(value => done({value}), e => done({failure: String(e) + \"\\n\" + (e.stack || \"\")}));",
		"args": []any{argument}, "sandbox": "system",
	})
	if err != nil {
		return err
	}
	var outcome struct {
		Value struct {
			Value   json.RawMessage
			Failure string
		}
	}
	if err := json.Unmarshal(answer, &outcome); err != nil {
		return err
	}
	if outcome.Value.Failure != "" {
		return errors.New("in Thunderbird: " + outcome.Value.Failure)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(outcome.Value.Value, result)
}

// quit asks Thunderbird to end.
func (m *marionette) quit() error {
	_, err := m.call("Marionette:Quit", map[string]any{"flags": []string{"eForceQuit"}})
	return errors.Join(err, m.conn.Close())
}
