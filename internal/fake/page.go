package fake

import (
	"net/http"
)

func (n *Internet) pages(mux *http.ServeMux) {}
