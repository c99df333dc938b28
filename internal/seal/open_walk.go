package seal

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

const mostNested = 20 // multiparts in each other

// walk goes through what no layer covers as a whole any more. A part that has
// protection of its own is opened as a piece of its own; the rest of the
// message gains nothing by it.
func (op *opener) walk(p mail.Part, at string, covers []int, depth int, other bool) {
	if !strings.HasPrefix(p.Media, "multipart/") || p.Ambiguous {
		op.leaf(p, at, covers, other)
		return
	}
	children, ok := p.Parts(op.o.Limits.Parts)
	if !ok || depth >= mostNested || op.leaves+len(children) > op.o.Limits.Parts {
		op.find("structure_broken")
		op.file(p, at, covers)
		return
	}
	hasText := false
	for i, child := range children {
		where := strings.TrimPrefix(at+"."+strconv.Itoa(i+1), ".")
		inner, under, word := op.peel(child, where, covers)
		if n := len(under) - len(covers); n > 0 || word != "" {
			op.findPartly(under[len(covers):])
		}
		if word != "" {
			op.withhold(inner, where, under, word)
			continue
		}
		alternative := p.Media == "multipart/alternative" && hasText && len(under) == len(covers)
		op.walk(inner, where, under, depth+1, other || alternative)
		hasText = hasText || inner.Media == "text/plain" && !inner.Attached()
	}
}

// findPartly says that only a part of the message has this protection.
func (op *opener) findPartly(layers []int) {
	for _, i := range layers {
		if op.states[i].encrypted {
			op.find("part_encrypted")
		}
		if op.states[i].signed {
			op.find("part_signed")
		}
	}
}

// leaf takes note of a part that is no multipart.
func (op *opener) leaf(p mail.Part, at string, covers []int, other bool) {
	if at == "" {
		at = "1"
	}
	out, ok := op.part(p, at, covers)
	if !ok {
		return
	}
	content, decoded := p.Content()
	text := p.Media == "text/plain" || p.Media == "text/html"
	switch {
	case p.Ambiguous:
		op.find("ambiguous_structure")
		out.Attached = true
		content = p.Body
	case op.protection == hpOld && p.Media == "text/rfc822-headers" && slices.Equal(covers, op.root) && p.Params["protected-headers"] != "":
		// The copy of hidden fields for readers who do not know the scheme.
		out.OtherForm = true
		out.Text = private.NewString(p.Text())
	case !text || !decoded || p.Attached():
		out.Attached = true
		if !decoded {
			content = p.Body
		}
		if strings.HasPrefix(p.Media, "message/") {
			op.find("attached_message")
		}
	case p.Media == "text/plain":
		var plain string
		plain, content = op.undisplayed(p, covers, content)
		out.Text, out.OtherForm = private.NewString(plain), other
		if strings.Contains(plain, "-----BEGIN PGP ") && !op.isInline(covers) {
			op.find("armor_in_text")
		}
	default:
		var page string
		page, content = op.undisplayed(p, covers, content)
		out.HTML, out.OtherForm = private.NewString(page), other
	}
	out.Content = private.NewBytes(content)
	op.out.Parts = append(op.out.Parts, out)
}

// part begins a part, unless there are too many.
func (op *opener) part(p mail.Part, at string, covers []int) (Part, bool) {
	if op.leaves++; op.leaves > op.o.Limits.Parts {
		op.find("structure_broken")
		return Part{}, false
	}
	return Part{Path: at, Layers: slices.Clone(covers), Media: p.Media, Filename: private.NewString(p.Filename(len(op.out.Parts)))}, true
}

// file gives a multipart that does not parse as it stands.
func (op *opener) file(p mail.Part, at string, covers []int) {
	if at == "" {
		at = "1"
	}
	if out, ok := op.part(p, at, covers); ok {
		out.Attached, out.Content, out.Media = true, private.NewBytes(p.Raw), "application/octet-stream"
		op.out.Parts = append(op.out.Parts, out)
	}
}

// withhold lists a part that could not be opened.
func (op *opener) withhold(p mail.Part, at string, covers []int, word string) {
	op.find(word)
	if out, ok := op.part(p, at, covers); ok {
		out.Withheld, out.Attached = word, true
		op.out.Parts = append(op.out.Parts, out)
	}
}

func (op *opener) isInline(covers []int) bool {
	return slices.ContainsFunc(covers, func(i int) bool { return op.out.Layers[i].Inline })
}

// guard takes away what must not be shown of a ciphertext that anybody could
// have altered: everything that fetches or runs something when it is opened,
// which is how altered ciphertexts are made to tell what they say (EFAIL).
func (op *opener) guard() {
	for i, p := range op.out.Parts {
		if p.Withheld != "" || op.proved(p.Layers) || !active(p) {
			continue
		}
		op.out.Parts[i].Withheld = "no_integrity"
		op.out.Parts[i].HTML, op.out.Parts[i].Text, op.out.Parts[i].Content = private.String{}, private.String{}, private.Bytes{}
		op.find("html_withheld")
	}
}

// proved reports whether every encryption among these layers is known to be
// unaltered: by itself, or by a valid signature inside of it. One outside
// proves nothing: whoever altered the ciphertext may have signed it.
func (op *opener) proved(layers []int) bool {
	for n, i := range layers {
		if op.states[i].encrypted && !op.states[i].integrity &&
			!slices.ContainsFunc(layers[n+1:], func(j int) bool { return op.states[j].valid }) {
			return false
		}
	}
	return true
}

// inert are the types that do nothing when they are opened. Anything that is
// not known to be inert is withheld from a message that may be altered, as
// are files that programs open by their names.
var inert = map[string]bool{
	"text/plain": true, "text/csv": true, "text/rfc822-headers": true,
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true,
}

var inertNames = map[string]bool{
	"": true, ".txt": true, ".csv": true, ".png": true, ".jpg": true, ".jpeg": true, ".gif": true, ".webp": true, ".log": true, ".asc": true,
}

func active(p Part) bool {
	return !inert[p.Media] || !inertNames[strings.ToLower(path.Ext(p.Filename.Reveal()))]
}
