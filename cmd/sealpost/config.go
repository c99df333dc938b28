package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/pelletier/go-toml/v2"

	"github.com/sealpost/sealpost/internal/config"
)

// configCmd looks at the configuration.
type configCmd struct {
	Describe configDescribeCmd `cmd:"" help:"Print the commented reference, a file to begin with."`
	Show     configShowCmd     `cmd:"" help:"Print the configuration in effect, without secrets."`
	Check    configCheckCmd    `cmd:"" help:"Say everything that is wrong with the configuration."`
}

type configDescribeCmd struct{}

// Help shows the usual first step.
func (configDescribeCmd) Help() string {
	return "Example:\n\n  $ sealpost config describe > /etc/sealpost/sealpost.toml"
}

// Run prints the reference.
func (configDescribeCmd) Run(env *environment) error {
	text := config.Describe()
	if env.JSON {
		return env.result(struct {
			Reference string `json:"reference"`
		}{text}, nil)
	}
	_, err := io.WriteString(env.stdout, text)
	return err
}

type configShowCmd struct{}

// Help says what overrides what.
func (configShowCmd) Help() string {
	return "The environment overrides the file. Secrets that are set read \"[private]\"."
}

// Run prints the configuration in effect.
func (configShowCmd) Run(env *environment) error {
	cfg, err := env.load()
	if err != nil {
		return err
	}
	text := cfg.Show()
	if !env.JSON {
		_, err := io.WriteString(env.stdout, text)
		return err
	}
	shown := struct {
		File   string         `json:"file,omitempty"`
		Config map[string]any `json:"config"`
	}{File: env.file()}
	if err := toml.Unmarshal([]byte(text), &shown.Config); err != nil {
		return fmt.Errorf("read the configuration as shown: %w", err)
	}
	return env.result(shown, nil)
}

type configCheckCmd struct{}

// Help says what is not checked.
func (configCheckCmd) Help() string {
	return "Nothing is opened but the configuration and the files its secrets are in. Mistakes are listed all at once and the exit code is 1.\n\nExample:\n\n  $ sealpost config check --config sealpost.toml"
}

type configMistake struct {
	Line     int    `json:"line,omitempty"`
	Variable string `json:"variable,omitempty"`
	Key      string `json:"key,omitempty"`
	Text     string `json:"text"`
}

// Run checks.
func (configCheckCmd) Run(env *environment) error {
	type check struct {
		OK       bool            `json:"ok"`
		File     string          `json:"file,omitempty"`
		Mistakes []configMistake `json:"mistakes"`
	}
	_, err := env.load()
	var bad *config.Mistakes
	if errors.As(err, &bad) && env.JSON {
		r := check{File: bad.File}
		for _, m := range bad.List {
			r.Mistakes = append(r.Mistakes, configMistake(m))
		}
		return errors.Join(env.result(r, nil), errSaid)
	}
	if err != nil {
		return err
	}
	return env.result(check{OK: true, File: env.file(), Mistakes: []configMistake{}}, func(p *page) {
		if file := env.file(); file != "" {
			p.linef("The configuration in %s is good.", file)
			return
		}
		p.linef("The configuration from the environment is good.")
	})
}
