package main

import (
	"cmp"
	"crypto/fips140"
	"runtime"
	"runtime/debug"
)

// versionCmd shows what this program is.
type versionCmd struct{}

type versionResult struct {
	Version  string      `json:"version"`
	Revision string      `json:"revision,omitempty"`
	Modified bool        `json:"modified,omitempty"`
	Go       string      `json:"go"`
	Platform string      `json:"platform"`
	FIPS     fipsVersion `json:"fips140"`
}

type fipsVersion struct {
	Module  string `json:"module"`            // version of the Go Cryptographic Module
	Setting string `json:"setting,omitempty"` // GOFIPS140 of the build
	Mode    string `json:"mode"`              // off, on, only
}

// Run prints the version.
func (versionCmd) Run(env *environment) error {
	v := versionResult{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		FIPS: fipsVersion{Module: fips140.Version(), Mode: fipsMode()}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "GOFIPS140":
				v.FIPS.Setting = s.Value
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return env.result(v, func(p *page) {
		revision := orDash(v.Revision)
		if v.Modified {
			revision += " with changes"
		}
		p.table(
			[]string{"sealpost", v.Version},
			[]string{"revision", revision},
			[]string{"go", v.Go + " " + v.Platform},
			[]string{"FIPS 140-3 module", v.FIPS.Module + " (built with GOFIPS140=" + cmp.Or(v.FIPS.Setting, "off") + ")"},
			[]string{"FIPS 140-3 mode", v.FIPS.Mode},
		)
	})
}

func fipsMode() string {
	switch {
	case fips140.Enforced():
		return "only"
	case fips140.Enabled():
		return "on"
	}
	return "off"
}
