package app

import (
	"context"
	"net/http"
	"time"
)

// readyLimit is how long the database may take for a write while this node
// counts as ready.
const readyLimit = 2 * time.Second

// readyz tells whether this node can do what it is there for. Health is another
// matter: a node that waits for its database must not be killed.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if why := s.unready(r.Context()); why != "" {
		http.Error(w, "not ready: "+why, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// unready says what keeps this node from its work, or "".
func (s *Server) unready(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	switch {
	case !s.ready.Load():
		return "it starts or stops"
	case s.DB.Writable(ctx) != nil:
		return "the database takes no writes"
	case s.engine != nil && !s.engine.Fit():
		return "the lease of this run is in doubt, and nothing is sent until it is renewed"
	}
	return ""
}
