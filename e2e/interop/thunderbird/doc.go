// Package thunderbird shows that Thunderbird reads what Sealpost seals. It
// starts Thunderbird without a window and with a new profile, gives it keys
// and messages, has it open each message in a tab, and compares what stands
// there with what is expected: text, attachment, subject, and the icons for
// encryption and signature. It holds tests only, which `make thunderbird`
// runs: they have a build tag, because Thunderbird is large.
//
// Invariants:
//   - It passes only when every message was shown exactly as expected, those
//     included that Thunderbird cannot read or must not believe.
//   - Thunderbird's own code opens the messages. The scripts call it and look
//     at its windows, and decide nothing.
//   - Nothing leaves the machine, and nothing stays on it: keys are new, the
//     profile lies in a folder that is removed, the network is shut off.
package thunderbird
