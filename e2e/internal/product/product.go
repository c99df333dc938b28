// Package product builds the program that end-to-end tests run.
package product

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Build builds the program into a folder and gives its path. env are settings
// of the build such as GOFIPS140=certified.
func Build(dir string, env ...string) (string, error) {
	binary := filepath.Join(dir, "sealpost")
	build := exec.Command("go", "build", "-o", binary, "github.com/sealpost/sealpost/cmd/sealpost")
	build.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

// Main is what TestMain ends with: it builds the program once, tells where it
// is, and runs the tests.
func Main(m *testing.M, binary *string) (code int) {
	dir, err := os.MkdirTemp("", "sealpost-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if *binary, err = Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
