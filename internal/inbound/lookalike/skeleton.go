package lookalike

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// alike are letters that look like one of the Latin alphabet, each behind the
// one that it is taken for: the ones of Unicode's confusables (UTS 39) that
// IDNA lets into a name. Case and accents are gone before.
var alike = table(
	"aаαɑạ", "bЬƄьв", "cсϲƈ", "dԁɗđ", "eеєɛҽ", "fƒ", "gɡցǥ", "hһнհ", "iіιıɩ", "jјʝ", "kκкƙ", "lӏłⅼ", "mмϻ", "nոռηп", "oоοσօ", "pрρƿ", "qԛգ", "rгɼ", "sѕʂ",
	"tтτŧ", "uυսʋц", "vνѵ", "wԝωшɯ", "xхχ", "yуүγʏ", "zʐƶ",
)

// twins are digits that are read as letters. l, i and 1 are one, since most
// typefaces draw them alike.
var twins = strings.NewReplacer("0", "o", "1", "l", "i", "l", "|", "l", "5", "s", "3", "e", "4", "a", "8", "b", "2", "z", "9", "g")

// pairs are letters that run together. rn is read as m, and nn too.
var pairs = strings.NewReplacer("rn", "m", "nn", "m", "vv", "w", "cl", "d")

func table(groups ...string) map[rune]rune {
	out := map[rune]rune{}
	for _, g := range groups {
		letters := []rune(g)
		for _, r := range letters[1:] {
			out[r] = letters[0]
		}
	}
	return out
}

// skeleton is what the eye keeps of a label.
func skeleton(label string) string {
	return strings.ReplaceAll(folded(written(label)), "-", "")
}

// written is a label in letters, small and Latin.
func written(label string) string {
	if text, err := idna.Punycode.ToUnicode(label); err == nil {
		label = text
	}
	return plain(label)
}

// folded joins what looks alike: single letters first, so that c1 is cl, which
// is d.
func folded(s string) string { return pairs.Replace(twins.Replace(s)) }

// plain makes letters small, Latin and without accents.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		r = unicode.ToLower(r)
		if latin, ok := alike[r]; ok {
			return latin
		}
		return r
	}, norm.NFKD.String(strings.ToLower(s)))
}

// titles stand before and behind names and belong to nobody.
var titles = []string{"dr", "md", "phd", "prof", "mr", "mrs", "ms", "miss", "rn", "np", "pa", "do", "dds", "dmd", "jr", "sr", "med", "mag", "dipl", "ing", "msc", "bsc", "via"}

const nameMax = 200 // octets of a name that are looked at

// NameKey is what a name has in common with all that are read as the same:
// "Dr. Ada Löwe", "Lowe, Ada" and "ADA LOWE (MD)" have one. A name of a single
// word has none: "Reception" is said everywhere.
func NameKey(name string) string {
	if len(name) > nameMax {
		return ""
	}
	var words []string
	for _, w := range strings.FieldsFunc(plain(name), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if len([]rune(w)) < 2 || slices.Contains(titles, w) {
			continue
		}
		words = append(words, folded(w))
	}
	if len(words) < 2 {
		return ""
	}
	slices.Sort(words)
	return strings.Join(slices.Compact(words), " ")
}
