package cms

import "errors"

// ToDER makes DER of BER.
func ToDER(ber []byte, max int) ([]byte, error) {
	return nil, errors.New("cms: not built yet")
}
