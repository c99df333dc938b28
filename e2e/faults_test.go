package e2e

import "net/http"

// probe asks the server's health listener and gives the status, 0 when it does
// not answer.
func (s *site) probe(path string) int {
	resp, err := http.Get("http://" + s.metrics + path)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
