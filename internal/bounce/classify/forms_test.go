package classify

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// told writes what a form must be read as.
func told(rep Report) string {
	var out []string
	for _, r := range rep.Recipients {
		how := "transient"
		if r.Permanent {
			how = "permanent"
		}
		out = append(out, fmt.Sprintf("%s %s %s %s", r.Sent().Reveal(), r.Kind, r.Class, how))
	}
	if len(out) == 0 {
		return string(rep.Kind)
	}
	return strings.Join(out, "; ")
}

const returnedMessage = "Return-Path: <a@clinic.example>\nReceived: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <1@clinic.example>\nFrom: A <a@clinic.example>\nTo: B <b@y.example>\nSubject: hello\n\nsecret text\n"

var forms = []struct{ name, from, subject, text, want string }{
	{"qmail", "MAILER-DAEMON@mx.example", "failure notice", "Hi. This is the qmail-send program at mx.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\n<b@y.example>:\n192.0.2.1 does not like recipient.\nRemote host said: 550 no such mailbox\nGiving up on 192.0.2.1.\n\n--- Below this line is a copy of the message.\n\n" + returnedMessage, "b@y.example bounce mailbox_unknown permanent"},
	{"qmail two", "MAILER-DAEMON@mx.example", "failure notice", "Hi. This is the qmail-send program at mx.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\n\n<b@y.example>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n<c@z.example>:\nSorry, I couldn't find any host named z.example. (#5.1.2)\n\n--- Below this line is a copy of the message.\n\n" + returnedMessage, "b@y.example bounce mailbox_unknown permanent; c@z.example bounce dns permanent"},
	{"exim", "Mail Delivery System <Mailer-Daemon@mx.example>", "Mail delivery failed: returning message to sender", "This message was created automatically by mail delivery software.\n\nA message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  b@y.example\n    host mx.y.example [192.0.2.1]\n    SMTP error from remote mail server after RCPT TO:<b@y.example>:\n    552 5.2.2 mailbox is over quota\n\n------ This is a copy of the message, including all the headers. ------\n\n" + returnedMessage, "b@y.example bounce mailbox_full permanent"},
	{"exim alias", "Mail Delivery System <Mailer-Daemon@mx.example>", "Mail delivery failed: returning message to sender", "A message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  z@z.example\n    (ultimately generated from b@y.example)\n    Unrouteable address\n\n------ This is a copy of the message, including all the headers. ------\n\n" + returnedMessage, "z@z.example bounce dns permanent"},
	{"exim late", "Mail Delivery System <Mailer-Daemon@mx.example>", "Warning: message 1abc-0001 delayed 24 hours", "This message was created automatically by mail delivery software.\nA message that you sent has not yet been delivered to one or more of its\nrecipients after more than 24 hours on the queue on mx.example.\n\nThe address to which the message has not yet been delivered is:\n\n  b@y.example\n    host mx.y.example [192.0.2.1]: Connection timed out\n\nNo action is required on your part. Delivery attempts will continue for\nsome time.\n", "b@y.example delay expired transient"},
	{"sendmail", "Mail Delivery Subsystem <MAILER-DAEMON@mx.example>", "Returned mail: User unknown", "The original message was received at Mon, 1 Jan 2024 00:00:00 GMT\nfrom host [192.0.2.9]\n\n   ----- The following addresses had permanent fatal errors -----\n<b@y.example>\n\n   ----- Transcript of session follows -----\n... while talking to mx.y.example.:\n>>> RCPT To:<b@y.example>\n<<< 550 <b@y.example>... User unknown\n550 <b@y.example>... User unknown\n\n   ----- Original message follows -----\n" + returnedMessage, "b@y.example bounce mailbox_unknown permanent"},
	{"sendmail deferred", "Mail Delivery Subsystem <MAILER-DAEMON@mx.example>", "Warning: could not send message for past 4 hours", "    **********************************************\n    **      THIS IS A WARNING MESSAGE ONLY      **\n    **  YOU DO NOT NEED TO RESEND YOUR MESSAGE  **\n    **********************************************\n\n   ----- The following addresses had transient non-fatal errors -----\n<b@y.example>\n\n   ----- Transcript of session follows -----\n<b@y.example>... Deferred: Connection refused by mx.y.example.\nWarning: message still undelivered after 4 hours\nWill keep trying until message is 5 days old\n", "b@y.example delay expired transient"},
	{"exchange 5", "System Administrator <postmaster@y.example>", "Undeliverable: hello", "Your message\n\n  To:      B\n  Subject: hello\n  Sent:    Mon, 1 Jan 2024 00:00:00 +0000\n\ndid not reach the following recipient(s):\n\nb@y.example on Mon, 1 Jan 2024 00:00:10 +0000\n    The recipient name is not recognized\n\tThe MTS-ID of the original message is: c=us;a= ;p=y;l=X\n    MSEXCH:IMS:Y:HQ:MAIL 0 (000C05A6) Unknown Recipient\n", "b@y.example bounce mailbox_unknown permanent"},
	{"domino", "postmaster@y.example", "DELIVERY FAILURE: User b (b@y.example) not listed in Domino Directory", "Your message\n\n  Subject: hello\n\nwas not delivered to:\n\n  b@y.example\n\nbecause:\n\n  User b (b@y.example) not listed in Domino Directory\n", "b@y.example bounce mailbox_unknown permanent"},
	{"groupwise", "Mailer-Daemon@y.example", "Message status - undeliverable", "The message that you sent was undeliverable to the following:\n\tb@y.example (mailbox full)\n\nPossibly truncated original message follows:\n\n" + returnedMessage, "b@y.example bounce mailbox_full permanent"},
	{"interscan", "postmaster@y.example", "Mail could not be delivered", "****** Message from InterScan Messaging Security Suite ******\n\nSent <<< RCPT TO:<b@y.example>\nReceived >>> 550 5.1.1 unknown user\n\nUnable to deliver message to <b@y.example> due to too many failures.\n\n************************     End of message     **********************\n", "b@y.example bounce mailbox_unknown permanent"},
	{"mailmarshal", "postmaster@y.example", "Undeliverable Mail: \"hello\"", "Your message:\n   From:    a@clinic.example\n   Subject: hello\n\nCould not be delivered because of\n\n550 5.1.1 <b@y.example>: user unknown\n\nThe following recipients were affected:\n    b@y.example\n\nAdditional Information\n======================\n", "b@y.example bounce mailbox_unknown permanent"},
	{"amavis", "Content-filter at mx.y.example <postmaster@y.example>", "Undeliverable mail, MTA-BLOCKED", "The message WAS NOT DELIVERED to:\n<b@y.example>:\n   554 5.7.0 Reject, id=1 - BANNED: .exe attachment is not allowed\n\nThis nondelivery report was generated by the program amavisd-new at host\nmx.y.example.\n", "b@y.example bounce content permanent"},
	{"courier", "\"Courier mail server at mx.example\" <@mx.example>", "NOTICE: mail delivery status.", "This is a delivery status notification from mx.example,\nrunning the Courier mail server.\n\nThe original message was received on Mon, 1 Jan 2024 00:00:00 +0000\n\n---------------------------------------------------------------------------\n\n                           UNDELIVERABLE MAIL\n\nYour message to the following recipients cannot be delivered:\n\n<b@y.example>:\n    mx.y.example [192.0.2.1]:\n>>> RCPT TO:<b@y.example>\n<<< 550 User unknown.\n", "b@y.example bounce mailbox_unknown permanent"},
	{"opensmtpd", "Mailer Daemon <MAILER-DAEMON@mx.example>", "Delivery status notification: error", "    Hi!\n\n    This is the MAILER-DAEMON, please DO NOT REPLY to this email.\n\n    An error has occurred while attempting to deliver a message for\n    the following list of recipients:\n\nb@y.example: 550 5.2.2 <b@y.example>: mailbox full\n\n    Below is a copy of the original message:\n\n" + returnedMessage, "b@y.example bounce mailbox_full permanent"},
	{"failed recipients", "MAILER-DAEMON@mx.example", "Undelivered Mail", "X-F\nThe mail was not delivered. Reason: 554 5.7.1 refused, spam\n", "q@y.example bounce spam permanent"},
	{"to of the message", "MAILER-DAEMON@mx.example", "Returned mail: service unavailable", "   ----- Transcript of session follows -----\n554 Service unavailable; blocked using zen.spamhaus.org\n\n   ----- Unsent message follows -----\n" + returnedMessage, "b@y.example bounce policy permanent"},
	{"transient text", "MAILER-DAEMON@mx.example", "Undelivered Mail Returned to Sender", "I'm sorry to have to inform you that your message could not\nbe delivered to one or more recipients.\n\n<b@y.example>: host mx.y.example[192.0.2.1] said: 452 4.2.2 mailbox over quota (in reply to RCPT TO command)\n", "b@y.example bounce mailbox_full transient"},
	{"contradiction 550 4.x", "MAILER-DAEMON@mx.example", "Undelivered Mail Returned to Sender", "<b@y.example>: host mx.y.example[192.0.2.1] said: 550 4.2.1 mailbox temporarily disabled (in reply to RCPT TO command)\n", "b@y.example bounce mailbox_unknown transient"},
	{"apache james", "postmaster@y.example", "Re: hello", "Hello. This is the James mail server at y.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\nThis is a permanent error; I've given up. Sorry it didn't work out.\n\nError message below:\n550 - Requested action not taken: no such user here\n\nMessage details:\n  Subject: hello\n  MAIL FROM: a@clinic.example\n  RCPT TO: b@y.example\n  From: a@clinic.example\n  To: b@y.example\n", "b@y.example bounce mailbox_unknown permanent"},
	{"imail", "Postmaster <postmaster@y.example>", "Undeliverable Mail", "Unknown user: b@y.example\n\nOriginal message follows.\n\n" + returnedMessage, "b@y.example bounce mailbox_unknown permanent"},
	{"gmail", "Mail Delivery Subsystem <mailer-daemon@googlemail.com>", "Delivery Status Notification (Failure)", "** Address not found **\n\nYour message wasn't delivered to b@y.example because the address couldn't be found, or is unable to receive mail.\n\nThe response from the remote server was:\n550 5.1.1 no such account\n", "b@y.example bounce mailbox_unknown permanent"},
	{"yahoo", "MAILER-DAEMON@yahoo.com", "Failure Notice", "Sorry, we were unable to deliver your message to the following address.\n\n<b@y.example>:\n554: 5.7.1 message refused by policy\n\n--- Below this line is a copy of the message.\n\n" + returnedMessage, "b@y.example bounce policy permanent"},
	{"german", "MAILER-DAEMON@mx.example", "Unzustellbar: Hallo", "Ihre Nachricht konnte nicht zugestellt werden an:\n\nb@y.example\n\nGrund: Das Postfach des Empfängers ist voll.\n", "b@y.example bounce mailbox_full permanent"},
	{"french", "MAILER-DAEMON@mx.example", "Message non remis", "Votre message n'a pas pu être remis au destinataire suivant :\n\nb@y.example\n\nAdresse inconnue\n", "b@y.example bounce mailbox_unknown permanent"},
	{"italian", "MAILER-DAEMON@mx.example", "Mancato recapito", "Il messaggio non è stato recapitato a:\n\nb@y.example\n\nLa casella di posta è piena.\n", "b@y.example bounce mailbox_full permanent"},
	{"dutch", "MAILER-DAEMON@mx.example", "Onbestelbaar: hallo", "Uw bericht kon niet worden bezorgd bij:\n\n<b@y.example>: het adres bestaat niet\n", "b@y.example bounce mailbox_unknown permanent"},
	{"polish", "MAILER-DAEMON@mx.example", "Nie można dostarczyć wiadomości", "Wiadomość nie została dostarczona do:\n\nb@y.example\n\nUżytkownik nie istnieje.\n", "b@y.example bounce mailbox_unknown permanent"},
	{"russian", "mailer-daemon@corp.example", "Недоставленное сообщение", "К сожалению, Ваше письмо не может быть доставлено одному или нескольким получателям:\n\nb@y.example\n    Почтовый ящик не существует\n", "b@y.example bounce mailbox_unknown permanent"},
	{"spanish", "postmaster@y.example", "No se puede entregar: hola", "No se pudo entregar el mensaje a estos destinatarios:\n\nb@y.example\n\nEl buzón del destinatario está lleno.\n", "b@y.example bounce mailbox_full permanent"},
	{"portuguese", "postmaster@y.example", "Não é possível entregar: olá", "Não foi possível entregar a mensagem para:\n\nb@y.example\n\nO endereço não existe.\n", "b@y.example bounce mailbox_unknown permanent"},
	{"inbox rejected", "Postmaster <postmaster@y.example>", "Your message to b@y.example was rejected", "Your message to b@y.example was rejected.\n\nReason: 550 5.7.1 message identified as spam\n", "b@y.example bounce spam permanent"},
	{"list", "post@lists.y.example", "Your post to list was rejected", "You are not a member.\n", ""},
	{"fml", "friends-admin@y.example\nX-MLServer: fml [fml 4.0]", "You a@clinic.example are not member (friends ML)", "You are not a member of this mailing list <friends@y.example>.\n\nTo join, write to\n\n\tfriends-ctl@y.example\n", "friends@y.example bounce policy permanent"},
	{"fml, about a loop", "friends-admin@y.example\nX-MLServer: fml [fml 4.0]", "Loop Alert: same Message-ID (friends ML)", "There was a mail with this Message-ID in <friends@y.example> before.\n", "friends@y.example bounce other permanent"},
	{"proton", "MAILER-DAEMON <MAILER-DAEMON@mail.example>", "Undelivered Mail Returned to Sender", "This is the mail system at host mail.example.\n\nYour message could not be delivered to one or more recipients. It's attached below.\n\n<b@y.example>: connect to mx.y.example[192.0.2.1]:25: Connection timed out\n", "b@y.example bounce expired permanent"},
	{"angle after rcpt", "MAILER-DAEMON@mx.example", "Delivery failure", "The delivery of your mail failed.\nMAIL FROM:<a@clinic.example> ok\nRCPT TO:<b@y.example> -> 550 no such recipient\n", "b@y.example bounce mailbox_unknown permanent"},
	{"message failed table", "postmaster@y.example", "Delivery Failure", "Could not deliver message to the following recipient(s):\n\nFailed Recipient: b@y.example\nReason: Remote host said: 550 5.1.1 account does not exist\n\n   -- The header and top 20 lines of the message follows --\n\n" + returnedMessage, "b@y.example bounce mailbox_unknown permanent"},
	{"mdaemon", "MDaemon <MDaemon@y.example>", "Permanent Delivery Failure", "The attached message had PERMANENT fatal delivery errors!\n\nAfter one or more unsuccessful delivery attempts the attached message has\nbeen removed from the mail queue on this server.\n\n>>> RCPT To:<b@y.example>\n<<< 550 5.1.1 <b@y.example>, Recipient unknown\n", "b@y.example bounce mailbox_unknown permanent"},
	{"hMailServer", "mailer-daemon@y.example", "Message undeliverable: hello", "Your message did not reach some or all of the intended recipients.\n\n   Sent: Mon, 1 Jan 2024 00:00:00 +0000\n   Subject: hello\n\nThe following recipient(s) could not be reached:\n\nb@y.example\n   Error Type: SMTP\n   Remote server (192.0.2.1) issued an error.\n   hMailServer sent: RCPT TO:<b@y.example>\n   Remote server replied: 550 Unknown user\n\nhMailServer\n", "b@y.example bounce mailbox_unknown permanent"},
	{"zimbra", "MAILER-DAEMON@y.example", "Undelivered Mail Returned to Sender", "<b@y.example>: delivery temporarily suspended: host mx.y.example[192.0.2.1] refused to talk to me: 421 4.7.0 too many connections\n", "b@y.example bounce rate transient"},
	{"smartermail", "System Administrator <postmaster@y.example>", "Delivery Failure", "Could not deliver message to the following recipient(s):\n\nFailed Recipient: b@y.example\nReason: Domain has exceeded the max disk space\n", "b@y.example bounce mailbox_full permanent"},
	{"mercury", "Postmaster@y.example", "Postmaster notify: see transcript for details", "The attached message has failed delivery and has been referred\nto you as postmaster. The following error report or reports\nwere given to explain the problem:\n\n   *** b@y.example\n   User not known at this site.\n", "b@y.example bounce mailbox_unknown permanent"},
}

func formMail(from, subject, text string) string {
	head := "Return-Path: <>\nFrom: " + from + "\nTo: a@clinic.example\nSubject: " + subject + "\n"
	if rest, ok := strings.CutPrefix(text, "X-F\n"); ok {
		head += "X-Failed-Recipients: q@y.example\n"
		text = rest
	}
	return strings.ReplaceAll(head+"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"+text, "\n", "\r\n")
}

func TestForms(t *testing.T) {
	for _, f := range forms {
		if got := told(read(t, []byte(formMail(f.from, f.subject, f.text)))); got != f.want {
			t.Errorf("%s:\n got %s\nwant %s", f.name, got, f.want)
		}
	}
}

func TestCharsets(t *testing.T) {
	for _, c := range []struct {
		name string
		enc  encoding.Encoding
		text string
		want Class
	}{
		{"iso-2022-jp", japanese.ISO2022JP, "宛先のメールアドレスが見つかりません。", MailboxUnknown},
		{"shift_jis", japanese.ShiftJIS, "メールボックスがいっぱいです。", MailboxFull},
		{"euc-jp", japanese.EUCJP, "メールボックスがいっぱいです。", MailboxFull},
		{"gb2312", simplifiedchinese.GBK, "收件人不存在。", MailboxUnknown},
		{"gb18030", simplifiedchinese.GB18030, "收件人邮箱已满。", MailboxFull},
		{"koi8-r", charmap.KOI8R, "Почтовый ящик не существует.", MailboxUnknown},
		{"windows-1251", charmap.Windows1251, "Пользователь не найден.", MailboxUnknown},
		{"euc-kr", korean.EUCKR, "사용자가 존재하지 않습니다.", MailboxUnknown},
		{"iso-8859-1", charmap.ISO8859_1, "Empfänger unbekannt.", MailboxUnknown},
		{"iso-8859-2", charmap.ISO8859_2, "Nie ma takiego użytkownika.", MailboxUnknown},
	} {
		raw, err := c.enc.NewEncoder().String("<b@y.example>:\n" + c.text + "\n")
		if err != nil {
			t.Fatal(err)
		}
		for cte, body := range map[string]string{"8bit": raw, "base64": base64.StdEncoding.EncodeToString([]byte(raw))} {
			mail := "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nTo: a@clinic.example\r\nSubject: Delivery failure\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=" + c.name + "\r\nContent-Transfer-Encoding: " + cte + "\r\n\r\n" + body
			if got, want := told(read(t, []byte(mail))), "b@y.example bounce "+string(c.want)+" permanent"; got != want {
				t.Errorf("%s %s:\n got %s\nwant %s", c.name, cte, got, want)
			}
		}
	}
}
