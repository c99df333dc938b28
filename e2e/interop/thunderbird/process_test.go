//go:build thunderbird

package thunderbird

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// preferences keep Thunderbird from the network, from its first questions and
// from its own mind about what to open.
const preferences = `
user_pref("marionette.port", 0);
user_pref("network.manage-offline-status", false);
user_pref("offline.startup_state", 3);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.socks", "127.0.0.1");
user_pref("network.proxy.socks_port", 9);
user_pref("network.proxy.socks_remote_dns", true);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("security.OCSP.enabled", 0);
user_pref("security.remote_settings.crlite_filters.enabled", false);
user_pref("services.settings.server", "data:,");
user_pref("app.update.enabled", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("extensions.update.enabled", false);
user_pref("extensions.systemAddon.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.policy.dataSubmissionPolicyBypassNotification", true);
user_pref("datareporting.healthreport.uploadEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("toolkit.telemetry.unified", false);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.winsearch.firstRunDone", true);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.rights.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("mailnews.start_page_override.mstone", "ignore");
user_pref("mail.inappnotifications.enabled", false);
user_pref("calendar.timezone.useSystemTimezone", true);
`

// thunderbird is a running program with a profile of its own.
type thunderbird struct {
	*marionette
	cmd    *exec.Cmd
	ended  chan error
	folder string
	said   bytes.Buffer
}

// start begins with a new profile in the folder.
func start(ctx context.Context, folder string) (*thunderbird, error) {
	t := &thunderbird{folder: folder, ended: make(chan error, 1)}
	profile := filepath.Join(folder, "profile")
	err := errors.Join(os.Mkdir(profile, 0o700), os.WriteFile(filepath.Join(profile, "user.js"), []byte(preferences), 0o600))
	if err != nil {
		return nil, err
	}
	t.cmd = exec.CommandContext(ctx, "thunderbird", "--headless", "--no-remote", "--marionette", "--remote-allow-system-access", "--profile", profile)
	t.cmd.Env = append(os.Environ(), "HOME="+folder, "XDG_CACHE_HOME="+folder, "XDG_RUNTIME_DIR="+folder, "LC_ALL=C.UTF-8", "TZ=UTC", "MOZ_CRASHREPORTER_DISABLE=1")
	t.cmd.Stdout, t.cmd.Stderr = &t.said, &t.said
	// Debian's program is a script around it: both are to end.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	t.cmd.Cancel = func() error { return syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL) }
	t.cmd.WaitDelay = 5 * time.Second
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { t.ended <- t.cmd.Wait() }()
	address, err := t.address(filepath.Join(profile, "MarionetteActivePort"))
	if err == nil {
		t.marionette, err = dial(address)
	}
	if err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// address waits until Thunderbird has written where it listens.
func (t *thunderbird) address(file string) (string, error) {
	deadline := time.After(patience)
	for {
		port, err := os.ReadFile(file)
		if err == nil && len(port) > 0 {
			return "127.0.0.1:" + strings.TrimSpace(string(port)), nil
		}
		select {
		case err := <-t.ended:
			t.ended <- err
			return "", fmt.Errorf("it ended (%v):\n%s", err, t.said.String())
		case <-deadline:
			return "", errors.New("it does not listen")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop returns when all of it has ended.
func (t *thunderbird) stop() {
	if t.marionette == nil || t.quit() != nil {
		_ = t.cmd.Cancel()
	}
	select {
	case <-t.ended:
	case <-time.After(10 * time.Second):
		_ = t.cmd.Cancel()
		<-t.ended
	}
}
