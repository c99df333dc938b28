package smtpclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/sealpost/sealpost/internal/policy"
)

// Why a transport is too weak.
const (
	WeakNoStartTLS   = "starttls_not_offered"
	WeakRefused      = "starttls_refused"
	WeakNotTLS       = "not_tls"           // something else than TLS was spoken
	WeakVersion      = "tls_version"       // nothing newer than TLS 1.1
	WeakParameters   = "tls_parameters"    // no common suite or curve, or a broken implementation
	WeakHandshake    = "handshake_failed"  // the connection was lost during the handshake
	WeakSuite        = "suite"             // not ECDHE with AES-GCM
	WeakCertificate  = "certificate"       // see Evidence.VerifyError
	WeakUnproved     = "mx_not_proved"     // nothing but plain DNS vouches for the MX name
	WeakSTSMismatch  = "sts_mx_mismatch"   // the MX is not in the enforced MTA-STS policy
	WeakSTSFailed    = "sts_certificate"   // MTA-STS is enforced and the certificate is not valid
	WeakRequireGrade = "require_tls_grade" // REQUIRETLS asks for authenticated
	WeakDANELookup   = "dane_lookup"       // whether the host has TLSA records cannot be told now
	WeakDANEFailed   = "dane_mismatch"     // it has, and shows a certificate of none of them
	WeakPinFailed    = "pin_mismatch"      // it shows a certificate that is not pinned
	WeakPinHost      = "pin_host"          // it is not one of the hosts that are pinned
	WeakRouteFailed  = "route_certificate" // the domain's route names it, and its certificate is not valid for that name
	WeakNoClientCert = "client_certificate_not_asked"
)

// WeakError says that a transport is proved less well than it must be. Nothing
// of any mail has been sent.
type WeakError struct {
	Proved, Wanted policy.Grade
	Evidence       Evidence
	Reason         string // one of the Weak words
	Temporary      bool   // the next attempt may well go better
	cause          error
}

func (e *WeakError) Error() string {
	return fmt.Sprintf("transport to %s is %s and must be %s: %s", e.Evidence.MX, e.Proved, e.Wanted, e.Reason)
}

// Unwrap gives the failure underneath, if any.
func (e *WeakError) Unwrap() error { return e.cause }

// RefusedError says that the peer refused, or that we refused in its place
// because it could not have taken the message.
type RefusedError struct {
	Stage Stage
	Reply Reply
	Local bool // we decided it; the peer was not asked
}

func (e *RefusedError) Error() string {
	who := "the peer"
	if e.Local {
		who = "the client"
	}
	return fmt.Sprintf("refused by %s at %s with %s", who, e.Stage, e.Reply.Status())
}

// Why a connection failed.
const (
	ConnTimeout     = "timeout"
	ConnRefused     = "connection_refused"
	ConnUnreachable = "unreachable"
	ConnClosed      = "connection_lost"
	ConnProtocol    = "protocol_error"
	ConnCanceled    = "canceled" // by us
)

// ConnError says that there is no connection, or none any more, or that the
// peer does not speak SMTP. The message was not taken; another attempt may
// succeed.
type ConnError struct {
	Stage Stage
	Word  string // one of the Conn words
	cause error
}

func (e *ConnError) Error() string { return fmt.Sprintf("%s at %s: %v", e.Word, e.Stage, e.cause) }

// Unwrap gives the cause.
func (e *ConnError) Unwrap() error { return e.cause }

// UnknownError says that the connection was lost after the final dot: the
// message may or may not have been taken.
type UnknownError struct {
	Word  string // one of the Conn words
	cause error
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("outcome unknown: %s after the final dot: %v", e.Word, e.cause)
}

// Unwrap gives the cause.
func (e *UnknownError) Unwrap() error { return e.cause }

// SourceError says that the artifact could not be read. The peer did not get
// the final dot, so it took nothing.
type SourceError struct{ cause error }

func (e *SourceError) Error() string { return "read the artifact: " + e.cause.Error() }

// Unwrap gives the cause.
func (e *SourceError) Unwrap() error { return e.cause }

// errProtocol is wrapped by what a peer does against the protocol.
var errProtocol = errors.New("protocol error")

func protocolError(what string) error { return fmt.Errorf("%w: %s", errProtocol, what) }

// connError names the cause of a failed connection.
func connError(ctx context.Context, stage Stage, err error) *ConnError {
	return &ConnError{Stage: stage, Word: connWord(ctx, err), cause: err}
}

func connWord(ctx context.Context, err error) string {
	var n net.Error
	switch {
	case errors.Is(err, errProtocol):
		return ConnProtocol
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ConnTimeout
	case ctx.Err() != nil:
		return ConnCanceled
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return ConnTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return ConnRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ConnUnreachable
	}
	return ConnClosed
}

// isIO reports whether err comes from the connection and not from what was
// said over it.
func isIO(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled)
}
