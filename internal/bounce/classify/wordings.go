package classify

// What is spoken of: words that stand on one side of many patterns.
const (
	mailbox = "user/username/recipient/addressee/mailbox/mail box/account/address/alias/subscriber/customer/person/inbox/local part/recip"
	holder  = "user/username/recipient/mailbox/mail box/account/address/alias/subscriber/customer"
	storage = "mailbox/mail box/inbox/account/user/recipient/mail folder/mailfolder/folder/maildir/message store/storage/mail store/disk/" +
		"space/quota/partition/file system/filesystem"
	message = "message/email /emails /e mail /mail /mails /content/data /body"
	file    = "attachment/attached/file /files /file name/filename/file type/extension/archive/zip/executable/" +
		"anhang/anhänge/dateianh/dateityp/pièce jointe/pièces jointes/fichier/adjunto/archivo/allegat/anexo/arquivo/bijlage/" +
		"załącznik/вложени/添付/附件/첨부"
	missing = "unknown/unknow /not known/unk /not found/notfound/wasnt found/not be found/isnt found/couldnt be found/does not exist/" +
		"doesnt exist/dont exist/do not exist/did not exist/not exist/no longer exist/nonexist/non exist/not valid/isnt valid/" +
		"invalid/not recognized/not recognised/not listed/not in our/not registered/no longer/never existed/not local/" +
		"not available/unavailable/isnt available/not a local/absent/been removed/was removed/deleted/obsolete/incorrect/" +
		"misspelled/undeliverable/wrong/mistyped/not in the list/does not work/doesnt work/not on this server/not on this system/" +
		"no entry/not customer/has left/left the"
	closed = "disabled/suspended/suspension/locked/inactive/deactivated/not active/isnt active/expired/closed/terminated/cancel/" +
		"discontinued/frozen/blocked/archived/decommission/retired/no longer active/not activated/migrated/hangup/inactivity/on hold/not allowed to receive"
	refused = "reject/refuse/denied/deny/block/not allowed/not permitted/not accept/disallowed/unauthorized/not authorized/prohibited/" +
		"forbidden/banned/restricted/filtered"
	forbidden = refused + "/illegal/unacceptable/unsafe/dangerous/not accepted/" +
		"erlaubt/zugelassen/gestattet/zulässig/verboten/gesperrt/interdit/autoris/permitid/prohibid/proibid/bloquead/consentit/" +
		"vietat/bloccat/toegestaan/dozwolon/запрещ/недопустим/許可/禁止/允许/拒否/拒绝/허용/금지"
)

var (
	reasons = compile(wordings)
	denials = compile(refusals)
)

// wordings are asked from the top, so what is sure of its meaning stands above
// what others say in passing: "blocked, because the sender is not
// authenticated" is about the sender and no block list.
var wordings = []wording{
	{meaning{Policy, false}, []string{
		"groups+google+com", // no permission to post, in any language
		"permission…post", "only…members/subscribers…post", "members/subscribers+only", "only+members/subscribers", "send mail as",
		"source of/spam from/spam source/spam abuse/sends spam/sending spam/spammer/spam trap/spamtrap",
		"list of…approved/allowed+senders", "not…approved/allowed/safe+sender", "moderated/moderator/awaiting moderation", "not+member/a member",
	}},
	{meaning{Spam, false}, []string{
		"as+spam/junk/bulk/unsolicited", "surbl/uribl", "url /urls /link /links /uri …listed/blocked/blacklist/blocklist",
		"blocked/blacklisted/malicious/suspicious/bad+url/urls/link/links ",
		"due to/considered/classified as/identified as/detected as/flagged as/marked as/rejected as/recognized as/appears to be/" +
			"judged to be/suspicion of/suspected/likely/looks like/probability/as…spam /spams/spamming/unsolicited/junk",
		"spam+filter/engine/points/score/detected/detection/rejected/rejection/discarded/content/message not/mail/classification/" +
			"message rejected/outbreak/verdict/signature/probability/likelihood/level/threshold/check/test/found",
		"by+spam /spamassassin/rspamd/junk", "unsolicited+bulk/commercial/mail/message", "mcspamsignature", // Mimecast
		"нежелательн+почт/рассыл/сообщени/письм", "url/link/domain…listed…spam database", "likely+unsolicited", "dt spm", // NetEase 163
	}},
	// Gmail limits the rate of what it cannot authenticate.
	{meaning{Policy, false}, []string{"spf/dkim/dmarc…didnt pass/did not pass/not pass/fail"}},
	// How the message is made.
	{meaning{Content, false}, []string{
		"rfc/rfc5322/rfc2822/rfc822…compliant/conform/violat", "not+rfc", "rfc5322/rfc2822", "rfc+5322/2822/822",
		"missing/duplicate/multiple/invalid/malformed/bad…header", "header…missing/invalid/malformed/syntax/error/fail/not allowed",
		"multiple+addresses/from", "bare/lone+lf /cr /linefeed/line feed/newline", "valid/missing+message id/from header/date",
		"line/lines+too long/limit/length", "line+is+too long", "maximum line length", "line…characters/octets/bytes",
		"too many+from/header", "lines+longer",
		message + "…malformed/corrupt/syntax error/not properly formatted/improperly formatted", "invalid/corrupt/malformed/bad+message",
		"improper use of 8 bit", "smtputf8", "body type", "conversion…required/failed/not supported/prohibited", "media…not supported",
		"mime+error/format/structure/part/boundary/headers", "date header", "empty+subject/message/mail", "html+mail/message/email",
		"encrypted+message/mail/content/file ",
	}},
	// How large it is.
	{meaning{Content, false}, []string{
		message + "…too large/too big/oversize/is larger/is big", "message/mail +too long", message + "+size/length…exceed/limit/large/maximum/over",
		message + "…exceed…maximum size/size limit/message size/limit of…bytes/mb /kb /megabytes", message + "…size+exceed/limit",
		"exceed…message size/mail size/email size/maximum size/databytes",
		"sendsizelimit", // Exchange
		"nachricht/mail /email…zu groß/zu gross/größe/grösse", "message/courriel/mail …trop+volumineux/gros/grand", "taille…message…dépass/maxim",
		"mensaje/correo…demasiado grande/excede…tamaño", "mensagem…muito grande/tamanho", "messaggio…troppo grande/dimension", "bericht…te groot",
		"письмо/сообщени…слишком больш", "слишком больш+письмо/сообщени", "wiadomość…zbyt duża/za duża/rozmiar",
		"размер…сообщени/письма…превыш", "メール…サイズ", "サイズ…超", "邮件…过大/太大/大小", "大小…超过", "메시지…크기",
	}},
	{meaning{Content, false}, []string{
		file + "…" + forbidden, "запрещ/禁止/許可され+вложени/附件/添付",
		"unacceptable/offensive/inappropriate/profane/prohibited/forbidden/banned+language/word",
		"prohibited/banned/forbidden/illegal/unacceptable/blocked/dangerous/encrypted/potentially executable/contains an/contains…" +
			"attachment/attached/file /file name/executable/extension/archive",
		"infected/contains/containing/found/detected…virus/malware/trojan/worm ", "virus/malware…found/detected/infected/contained", message + "…infected",
		"phishing", "password protected", "unsafe/harmful/malicious/dangerous/active+content", "html…script", "content presents a potential",
		"contient/virenbefall/enthält/contiene/contém/zawiera/содержит…virus/viren/wirus/вирус",
	}},
	{meaning{TLS, false}, []string{
		"tls/starttls/ssl /encryption/encrypted connection/secure connection/secure channel…required/requires/not supported/" +
			"not offered/fail/handshake/negotiat/not available/unavailable/refused/error/needed/version/mandatory/first",
		"must/need/require/requires/required/enforce/without/over a/support/supports/supported/cannot/could not/unable to/fail/" +
			"failed/error/not…tls/starttls/ssl /secure connection/encrypted connection/encrypted transport",
		"plaintext/plain text/cleartext/clear text/unencrypted+connection/session/smtp/transport/transmission", "unencrypted",
		"must be/was not/wasnt/not/requires/need+encrypted", "encrypted+session/connection", "encryption/cipher+too weak/weak", "weak+encryption/cipher", "encryption/encrypted…required/needed", "insecure connection",
		"certificate…not trusted/untrusted/invalid/verif/expired/mismatch/does not match/validation/not signed/self signed/fail",
		"untrusted/invalid/expired…certificate",
		"server certificate", "dane/tlsa/mta sts/sts …fail/invalid/polic/no match/mismatch", "no matching dane",
		"verschlüssel/chiffrement/chiffré/cifrado/criptograf/crittograf/szyfrowan/шифрован/暗号化/加密/암호화…" +
			"erforderlich/requis/requerid/obligat/richiest/obbligat/wymagan/требует/必/需/필요",
		"tls/starttls…erforderlich/verlangt/obligat/requerid/richiest/wymagan/требует/必/需", "requiert/requiere/requer/richiesta/exige/требуется…tls/starttls",
		"verschlüsselte/sichere/connexion/conexión/conexão/connessione+verbindung/chiffré/sécurisé/cifrada/segura/criptografada/sicura/cifrata",
	}},
	// A mail that goes round.
	{meaning{Other, false}, []string{
		"hop count", "too many+hops/received/mail servers/servers", "message/mail /routing/forwarding/email…loop", "loops+back",
		"looping", "loop+detected", "duplicate/duplicated+message id", "exceeded…hops",
	}},
	{meaning{MailboxFull, false}, []string{"too many messages in…mailbox/inbox/folder/maildir"}},
	{meaning{Rate, false}, []string{
		"too much+email/mail from/messages/traffic",
		"too many/many+connection/concurrent/simultaneous/session/message/mail/email/e mail/recipient/error/bad command/" +
			"invalid/bad/wrong/failed/command/rcpt/smtp/unknown/transaction/request",
		"rate+limit/control/exceed/too", "ratelimit", "throttl", "slow+down", "too+fast/quickly/frequent", "more slowly",
		"sending/send/sender/sends/relay/message/mail /mails/email/daily/hourly/recipient/outgoing/outbound/submission/connection/" +
			"connections/session/delivery/user sending+rate/limit/quota/frequency/threshold",
		"limit/quota/maximum/number…per+hour/day/minute/second/connection/session", "per+hour/minute/second/day",
		"mail/message/sender/traffic+volume", "triplet", "hourly/daily…quota/limit",
		"quota of messages", "number of+messages/recipients/connections/emails/mails",
		"exceed…rate/connection/connections/number of/maximum number/the limit/messages allowed/recipients",
		"max/maximum+number/message/messages/recipient/recipients/connection/connections/conn ",
		"concurrent/simultaneous+connection/smtp/session", "connection+rate/frequency/limit", "receiving…rate/quickly/too fast/too many",
		"unusual/excessive+rate/amount/volume/number/errors", "mail flood", "flooding", "volume…too high", "back off", "frequency+limit", "frequency",
		"thread limit", "has sent…too",
		"server/servers/system/ports/host/lines/service/mta…busy/overload", "too busy", "under heavy load", "load too high",
		"resources temporarily unavailable", "high volume of",
		"greylist/graylist/grey list/gray list/postgrey/liste grise/lista grigia/lista gris/грейлист/серый спис/серого спис/グレイリスト/灰名单",
		"rl00000", "cxmxrt/cxcnct", // Comcast, Cox
		"aup i 13/aup in 13",                                 // Spectrum
		"hl+icc/ifc", "mi+cel/dmc/ccl/sfq", "rp+drc/ccl/cel", // NetEase 163
		"limite/limit…horaire/par heure/por hora/pro stunde/denvoi/de envío/de envio/di invio", "par heure/per ora/por hora/pro stunde/par minute/al minuto/por minuto/pro minute/в час/в минуту",
		"numero massimo/número máximo/nombre maximal/nombre maximum/maximale anzahl/höchstzahl…messag/mensaj/mensagen/nachricht/destinat/empfänger/conexi/conex/connes/connexion/verbindung",
		"частот", "лимит…отправ/сообщени/писем/соединен", "queue+quota",
		"zu viele+verbindung/nachricht/mails/e mails/empfänger", "trop de+connexion/message/mail/destinataire",
		"zbyt+wiele/często/dużo", "te veel+verbindingen/berichten",
		"demasiad+conexiones/mensajes/destinatarios/correos",
		"muitas/muitos/excesso de+conexões/mensagens/destinatários", "troppe/troppi+connessioni/messaggi/destinatari",
		"слишком+много/часто", "频率", "连接数", "发送…过多/超", "接続数", "접속/연결/발송/전송…초과/제한/많", "送信数", "送信…上限/制限",
	}},
	// The mailbox takes nothing for want of space.
	{meaning{MailboxFull, false}, []string{
		storage + "…full /over quota/overquota/over its/over their/out of space/no space/out of storage/no room/exhausted/used up/exceed/" +
			"over limit/size limit/reached/too large/overflow/no more",
		"full+mailbox/inbox/mail box/folder", "quota/overquota", "over+storage/disk/its limit",
		"exceed/exceeding/exceeded…storage/quota/mailbox/disk/allocation",
		"insufficient/not enough/no/no more/lack of/out of/low on+disk/storage/space/system storage/free space/room",
		"insufficient…storage/space", "space not enough", "maximum mailbox size", "mailbox+size/limit",
		"too much mail data", // NTT docomo
		"aup in 16",          // Spectrum
		"postfach/mailbox/speicherplatz/kontingent/speicherlimit/konto…voll/überschritten/überlaufen/erschöpft", "speicher…überschritten/voll",
		"boîte/messagerie/bal /compte…plein/satur/dépass", "quota+dépassé", "espace…insuffisant",
		"buzón/casilla/cuenta/cuota/bandeja…llen/excedid/sin espacio/superad", "caixa/cota/conta/quota…chei/excedid/lotad/cheio",
		"casella/mailbox/spazio…pien/esaurit/superat", "postvak/mailbox/postbus…vol ", "skrzynka…pełna/przepełnion/pełn", "schránk…pln",
		"postlåda/brevlåda/innboks/postkasse…full/fuld",
		"ящик/почтовый/место/квот…переполн/превыш/заполнен/закончил", "пepeполнен", "kutusu…dolu",
		"メールボックス…一杯/いっぱい/満杯/容量/フル", "容量…超/オーバー/不足", "邮箱/信箱/空间/容量…满/滿/不足/超", "사서함/메일함/편지함/용량…가득/초과/부족",
	}},
	{meaning{Policy, false}, []string{
		// Who the sender is could not be proved.
		"unauthenticated", "authentication…fail/required/check/result/level/information/missing/credential/unsuccessful/not pass",
		"not+authenticated/been authenticated/authenticat", "fails authentication", "sender+authentication", "authenticate",
		"dmarc", "spf ", "dkim", "sender id", "senderid", "sender policy framework", "domainkeys", "arc+validation/chain/seal", "mi spf", // NetEase 163
		"cxsndr", "lpn007+405/517", // Cox, LaPoste
		// Its address has no proper name.
		"ptr", "reverse+dns/hostname/address/name/lookup/mapping/record/resolution", "reverse…lookup", "rdns", "forward confirmed", "fcrdns",
		"find/resolve/lookup/resolving…your+hostname/host name/reverse/ip/address/name", "ip name lookup failed", "client+host…not found",
		"hostname of your",
		"rückwärtsauflösung", "dns+inverse/inverso", "inverso", "逆引き", "反向解析",
		"name was rejected", "helo/ehlo", "fqdn", "fully qualified",
	}},
	{meaning{Policy, false}, []string{
		// Its address stands on a list.
		"block/blocked/black/deny/drop/bounce/sperr/blocking+list",
		"blocklist/blacklist/denylist/sperrliste/droplist/rejectlist/blackhole", "blocklisted",
		"is/are/currently/ip/been/client/url/domain+listed", "listed+on/at/by", "rbl /dnsbl/rbldns/drbl/dnsrbl/sbl /xbl /pbl /zen ",
		"spamhaus/spamcop/barracudacentral/sorbs/uceprotect/senderbase/talosintelligence/invaluement/mailspike/psbl/abusix/abuseat/" +
			"backscatterer/cloudmark sender",
		"client/ip /your server/your mail server/your network/mail server at/traffic/mailserver/subnet/ip range/country/isp…block/" +
			"banned/blacklist/reject/refused/denied/not accept/not allowed/disallow/poor/untrusted",
		"host/server/domain/sender/network…blocked/banned/blacklist",
		"blocked+using/by/for abuse/ip/sender/see/from", "blocked…abuse", "banned", "reputation", "sender score", "senderscore",
		"open+proxy/relay", "abusive", "netblock", "dynamic+ip/address/pool/host", "dynamically assigned",
		"dial up/dialup", "residential+ip/address", "generic+hostname/rdns/name", "bogon", "client host rejected",
		"your+ip/mail server/server/host/network/access/country/isp/provider",
		"sending/source/originating/sender/connecting+ip/server/host/mta/address", "ip+rejected/block/is block/bloqu/gesperrt/blacklist",
		"server ip", "invalid ip", "bad sender ip",
		"werent+sent", "part of their network", "traffic not accepted", "access denied+banned/bad", // Microsoft
		"messages from…deferred", "user complaints", "unexpected volume", "unsolicited+mail from/from", // Yahoo
		"bl00/es0000", "cxbl/cdrbl/ipbl", // Comcast, Cox
		"hl+rep/mep", "dt+rbl", "wm+bli/blu", // NetEase 163
		"nemesis esmtp service not available", // GMX, web.de
		"ask your postmaster for help",        // T-Online
		"not accepting…from/connections", "refused to talk", "votre+ip/serveur",
		"adresse ip…bloqu/list", "liste noire", "lista+negra", "lista nera", "ihre+ip/server",
		"gesperrt…ip ", "absender…gesperrt", "чёрн+спис", "ブラックリスト", "黑名单", "封禁", "blocked+senders", "connection+rejected/denied",
		"connection…denied/refused by policy/rejected by",
	}},
	{meaning{Other, false}, []string{
		"scanner/scanning/scan /milter/ldap/directory server…fail/error/unavailable/not available/not reachable/unreachable/timeout/timed out",
		"unable to/cannot/could not+scan", "procmail", "queue file write error", "maildrop", "unknown+reason/error/problem/cause/failure",
		"mail server/mailserver/home directory/verification/database+is not/not/unavailable/is unavailable/temporarily"}},
	{meaning{Policy, false}, []string{
		// It is about the sender, whatever else is said to be missing.
		"after mail from/reply to mail from/reply to mail command",
		"sender…address/verif/domain/unknown/invalid/not/bad/reject/denied/refuse/unverif/does/policy/no ",
		"unroutable/unrouteable/unknown/invalid/bad/fake/forged/unverified/spoofed+sender/from address",
		"domain of+sender/your", "sender domain", "your domain", "envelope sender", "of+sender/the sender",
		"return/from/mail from/reply to+address+is/does/doesnt/not/unknown/invalid",
		"internal+use/only/senders/users", "sending…suspended/paused/disabled",
		"external/outside+sender/address/mail/email", "from+outside/external",
		"your+address/email address/e mail address/account/mailbox+is/does/doesnt/not/unknown/invalid",
		"from+unknown/invalid/nonexistent/unresolvable+domain/host/sender", "return path…invalid", "callback", "callout",
		"absender", "expéditeur", "emetteur", "remitente", "remetente", "mittente", "afzender", "nadawc", "送信者", "送信元", "差出人",
		"发件人", "寄件人", "отправител", "발신자",
	}},
	{meaning{DNS, true}, []string{
		"host or domain name not found", "nxdomain", "nonexistentdomain/infodomainnonexistent",
		"null mx", "nullmx", "mx/srv…no smtp service", "bad destination system", "host unknown", "unknown host",
		"domain/domain name/hostname/host name+not found/is unknown/unknown/does not exist/doesnt exist/" +
			"not exist/couldnt be found/could not be found/was not found/wasnt found/is invalid/invalid/is not valid/expired/has expired",
		"domain/domäne/zieldomain/empfängerdomain/rechner/rechnername…existiert nicht/unbekannt/nicht gefunden/gibt es nicht",
		"domaine/dominio/domein/domena…inconnu/nexiste/introuvable/no existe/não existe/desconocid/desconhecid/inexistent/inesistent/" +
			"inexistant/no encontrad/não encontrad/não foi encontrad/sconosciut/non esiste/bestaat niet/nie istnieje/nieznan",
		"no such/no valid+domain/host/mx ",
		"nonexistent/non existent/non existing/unknown/invalid/illegal/bad/unresolvable+domain/host/hosts/mail domain",
		"domain of recipient/recipient domain/recipients domain+not found/does not exist/unknown/invalid/doesnt exist/not exist",
		"resolve…recipient domain", "find the recipient domain",
		"nie znaleziono+domen", "ドメイン…見つかり/存在", "ホスト…見つかり", "域名…不存在/无效/错误", "找不到域名", "домен…не найден/не существует", "도메인…없",
	}},
	{meaning{MailboxUnknown, false}, []string{
		// The mailbox is closed, for now or for good.
		holder + "…" + closed, "mailbox/account/user…not accepting", holder + "…no longer accept", "recipient/user/address+verification fail",
		"suppression list/suppressed/previously bounced/history of bounc", // of a service that sends
		"disabled/suspended/blocked+for this+user/mailbox/account/recipient",
		"disabled/inactive/suspended/expired/closed/locked/archived/deactivated+recipient/user/mailbox/account/email/address",
		"mailbox unavailable or access denied", "no+active account/active user/active mailbox", "no valid+recipient",
		"mailbox/user/account/recipient…temporar/currently…unavailable/not available/unable/not exist",
		"mailbox/user/account/recipient…unavailable/not available+right now/now/at this time/at the moment/temporar/currently/try",
		"archivee", "no longer in service", "cannot/cant/could not/couldnt/unable to+verify…recipient/address/user",
		"konto/postfach/benutzer/empfänger/adresse…gesperrt/deaktiviert/abgeschaltet/inaktiv",
		"compte/boîte/utilisateur/adresse…désactivé/suspendu/bloqué/fermé/inactif",
		"cuenta/buzón/usuario…desactivad/suspendid/deshabilitad/bloquead/inactiv",
		"conta/caixa/usuário…suspens/desativad/bloquead/inativ", "account/casella/utente…disabilitat/sospes/disattivat",
		"アカウント/利用/受信…停止/無効", "帐号/账号/账户/帐户/邮箱/用户…禁用/停用/冻结/锁定", "被禁用/已停用/冻结/注销", "휴면/해지+계정", "ящик/пользовател/аккаунт/адрес…заблокирован/отключен/удален/приостановлен",
	}},
	{meaning{MailboxUnknown, true}, []string{
		mailbox + "…" + missing, "email/e mail+does not exist/doesnt exist/not found/unknown/invalid/is not valid",
		"unknown/unknow/no such/no such a/invalid/bad/nonexistent/non existent/non existing/incorrect/wrong/illegal/unrecognized/" +
			"undeliverable/no matching/not a/not a valid/not a known/not a local/isnt a valid/isnt a known/not a registered/not our/" +
			"not a deliverable/unknown or illegal/disabled or unknown/unknown local/invalid local+user/recipient/addressee/mailbox/" +
			"mail box/address/local/account/alias/email/e mail/virtual/person/subscriber/customer/destination/name/one by that/" +
			"gateway user/recip",
		"no entry", "no +mailbox/mail box/account/users here/one by that",
		"no +user/recipient+found/by that/here/called/named/with that/with this/exists",
		"user/recipient…does not have/doesnt have/dont have…account/mailbox", "group/list+you tried…not exist",
		"client+@+unknown/not found", "not have/dont have/havent/hasnt…that user/mailbox/user called/account",
		"find/locate/deliver to/have/got/exist/exists…that+user/mailbox/recipient/account/address", "find/locate+user/mailbox/recipient", "find/locate+the/your/your intended/this+user/mailbox/recipient/person/address",
		"no record of+a/any/this/that/such/such a+user/mailbox/recipient/person/address/account", "nobody+here/with/by/named", "not+one of our+users/customers/subscribers", "rcpt to+unknown",
		"double checking the recipient", "cannot/cant/can not/unable to/could not/couldnt+deliver mail for/deliver mail to/deliver to+@",
		"unknown in…table", "address/recipient+error", "name was not found", "name is not recognized", "recipient name is not",
		"dont recognize", "not listed in", "no longer+works/with/at/employed/here/valid/exists/in use/on server/on file/available",
		"left+the company/the organi/our company", "havent…that user", "isnt known",
		"recipnotfound/recipientnotfound/exrecipnotfound/adr recip", "ofr+416", "lpn007 416", "list of allowed recipients", // Exchange, Orange, LaPoste
		"benutzer/empfänger/empfaenger/adresse/postfach/mailbox/email adresse/e mail adresse/konto/adressat/benutzerkonto/empfängerpostfach/mailkonto…unbekannt/" +
			"nicht bekannt/existiert nicht/nicht gefunden/nicht vorhanden/ungültig/nicht existent/nicht mehr/gibt es nicht/gelöscht/entfernt/" +
			"nicht verfügbar",
		"unbekannte/ungültige/falsche/kein solche+benutzer/empfänger/adress/postf/konto", "kein/keine+postfach/benutzer/empfänger",
		"hat kein+postfach/konto", "existiert nicht",
		"utilisateur/destinataire/adresse/boîte/compte/bal …inconnu/invalide/inexistant/introuvable/nexiste/n existe/" +
			"pas trouvé/erroné",
		"nexiste+pas/plus", "n existe+pas/plus", "aucun+destinataire/utilisateur",
		"usuario/destinatario/dirección/buzón/cuenta/casilla…desconocid/no existe/inexistente/inválid/" +
			"no encontrad/no válid/no es válid/no se",
		"no existe", "no se+encontró/ha encontrado",
		"usuário/destinatário/endereço/conta/caixa…desconhecid/não existe/inexistente/inválid/" +
			"não encontrad/não foi encontrad",
		"não existe",
		"utente/destinatario/indirizzo/casella/account…sconosciut/non esiste/inesistent/non trovat/non valid/non è valid", "non esiste",
		"gebruiker/ontvanger/adres/mailbox/postvak…onbekend/bestaat niet/niet gevonden/ongeldig", "onbekende+gebruiker/ontvanger/adres", "bestaat niet",
		"okänd/ukendt/ukjent+mottagare/användare/bruger/modtager/mottaker/bruker/adress", "tuntematon+vastaanottaja/käyttäjä",
		"użytkownik/odbiorc/adres/skrzynk/konto…nie istnieje/nieznan/nie znaleziono", "nieznany/nieprawidłowy+odbiorca/użytkownik/adres",
		"nie+ma takiego/istnieje", "neexistuje", "neznámý+uživatel/příjemce",
		"kullanıcı/alıcı/adres…bulunamadı/bilinmiyor/geçersiz", "nem létez", "ismeretlen+felhasználó/címzett", "utilizator+necunoscut/inexistent",
		"пользовател/ящик/получател/адрес/адресат/абонент…не найден/не существует/неизвест/не зарегистрирован/несуществ/недействител",
		"несуществующ/не существует/нет такого/неизвестный получатель",
		"宛先…不明/見つか/存在/誤/無効", "ユーザ/ユーザー/アドレス/受信者/メールボックス/利用者…見つか/存在し/不明/使われて/使用されて/ありません/いません/登録されて", "見つかりません/見つからない/存在しません/存在しない",
		"用户/收件人/邮箱/地址/帐号/账号/账户/信箱/使用者/收件者…不存在/无效/未找到/找不到/不正确", "无此/没有这个/没有此/无该/查無此/找不到+用户/收件人/邮箱/人/帐号", "无此用户/没有这个用户/没有此收件人/查無此人/找不到收件人/没有该用户",
		"사용자/수신자/메일 주소/메일주소/계정/주소/받는…존재하지/없습니다/없는/찾을 수", "존재하지 않/없는 사용자",
	}},
	{meaning{MailboxUnknown, true}, []string{"recipient address rejected+access denied/user unknown/unverified"}},
	{meaning{Content, false}, []string{
		"virus/malware/malicious/infected/trojan/phish/worm /viren/schadsoftware/antivirus/病毒/ウイルス/ウィルス/바이러스/вирус/clamav/macro",
		"size limit", "mailsize", "executable/potential security issue/too large/too big/message size/maximum size/size limit/exceeds…size/exceed…size/" +
			"size exceeds/exceeds fixed/message length/larger than",
		"zu groß/trop volumineux/demasiado grande/muito grande/サイズ/大きすぎ", "invalid/non ascii+character", "character set", "charset…not",
		"message+format/syntax", "mail format", "parse error", "unparseable", "no body", "empty+message/body", "8 bit", "media error",
	}},
	{meaning{Spam, false}, []string{
		"spam/antispam/junk/unsolicited/ube /uce /bulk mail/bulk email/suspected/suspicious/suspicion/unwanted/looks like/advertis/bayes/" +
			"rspamd/spamassassin/dspam/brightmail/cloudmark/vade/commtouch",
		"ofr 506", // Orange
		"content…reject/denied/filter/refused/block", message + "…filter", "mailcontent", "reject/blocked/refused/denied…content/filter",
		"message content", "prohibited/unacceptable/objectionable/denied+content",
		"score+is/too/exceed/of", "high score", "message+scored", "hits…required", "pbl",
		"unerwünscht/werbemail/werbung/indésirable/pourriel/no deseado/correo basura/lixo eletrônico/indesejad/indesiderat/" +
			"ongewenst/niechcian/graymail/greymail/marketing/迷惑メール/スパム/垃圾/广告/спам/스팸/광고",
	}},
	{meaning{DNS, true}, []string{
		"not accept/accepts no/not accepting/not receive/doesnt receive/doesnt accept/take no/takes no+mail/email/e mail/any",
		"domain/host/server…not accept/accepts no…mail/email", "no mail accepted", "mail not accepted for domain",
		"smtp…not supported at this",
		"host/hostname/mail server/server/domain/mx…not found/does not exist/doesnt exist/cannot be found/could not be found/" +
			"unknown/unrouteable/no longer",
		"domain…not valid/invalid/not exist/expired/no mail server/dont/doesnt",
		"name or service not known", "name service error", "bad/invalid/illegal+destination/host/domain", "unrouteable/unroutable",
		"no/mx+mx /mail exchanger/relevant/record/records/mail host/mail server/a record/aaaa/dns/address associated/route to domain",
		"mx+not found",
		"invalid+dns/mx /a ", "all relevant mx",
		"domain of recipient/recipient domain/recipients domain/domain…be resolved/not resolve/doesnt resolve/does not have", "mx+points/resolves",
		"couldnt find/cannot find/unable to find/could not find/could not locate/cant locate/unable to resolve/cannot resolve/" +
			"couldnt resolve/could not resolve…host/domain/mail exchanger/recipient domain",
		"lookup…failed domain", "responded with code nxdomain", "best preference mx",
	}},
	{meaning{DNS, false}, []string{
		"dns…error/fail/timeout/query/lookup/server/soft/temporary/problem", "temporary+name", "domain/mx/host/name/cname/address+lookup", "name server/nameserver",
		"name resolution", "resolution fail", "dns+auflösung", "host name lookup failure", "host lookup", "servfail",
		"unable to resolve/couldnt resolve/could not resolve/cannot resolve", "namensauflösung", "résolution dns", "解析失败", "域名解析",
	}},
	{meaning{Expired, false}, []string{
		"could not find a gateway", "retry+timeout/time not/limit/count", "timeout exceeded", "expired", "timed out/time out/timeout",
		"too long…queue", "queue…too long", "queued for", "been in the queue", "undelivered for", "undeliverable for", "for the last",
		"has been trying", "not been collected", "giving up",
		"multiple retries", "tried+many/several", "queue+time/lifetime", "in the queue+for", "host/server+down", "maximum+time in/queue time", "did not/didnt/not+answer", "closed+connection/the connection",
		"retries…exceeded/exhaust", "retries exhausted", "several+attempts/times", "too many attempts", "too old", "attempts…fail", "fail…attempts",
		"failing for a long",
		"deliver…within", "could not be delivered for", "within/after/for/for more than…hours/days/day /hour", "too long+in/for",
		"connection+refused/reset/lost/died/closed/was dropped/dropped/broken/failure/error/failed/timed", "lost connection",
		"connection…terminated", "unable to/could not/couldnt/cannot/failed to/cant/not+connect/reach/establish", "able to establish",
		"establish+an smtp/a connection", "requests to connect",
		"not reachable/unreachable/no route to host/network is down/network error/host is down/not responding/not respond/" +
			"did not respond/no answer/bad connection/no response/no reply from/server is down/deferred connection/" +
			"unavailable connecting/no connection/connect error",
		"conversation with", "delivery temporarily suspended", "temporarily delayed", "delayed",
		"will be retried/will retry/will continue to try/still trying/still being/not yet been delivered",
		"primary target ip address responded",
		"zeitüberschreitung/nicht erreichbar/abgelaufen/expiré/délai/injoignable/ne répond pas/tiempo de espera/expirado/" +
			"tempo esgotado/tempo scaduto/tempo limite/não foi possível conectar/inaccesible/non raggiungibile/niet bereikbaar/nicht erreicht/истек/не отвечает",
		"verbindung…abgelehnt", "tiempo…agotado", "タイムアウト/応答", "接続…失敗/できません", "超时", "连接…失败", "无法连接", "연결…없/실패", "시간 초과",
	}},
	{meaning{Rate, false}, []string{"try again in", "try later…minutes", "please retry in", "temporarily+deferred/rate", "deferred due to"}},
	{meaning{Policy, false}, []string{
		"relay/relaying…denied/not /prohibited/access", "not/unable/cannot/cant/no/refus…relay", "domain…not hosted/not local/not handled/not here", "allowed rcpthosts",
		"authentication required", "sender+address rejected/rejected", "policy/policies…violation/reject/security",
		"security+policy/policies", "violat/against/due to…policy",
	}},
	{meaning{Other, false}, []string{
		"system/internal/mailer/local/software/technical/unexpected/server/input output+error/problem", "internal+server/bug",
		"error in processing", "lookup+fail/error", "shutting down/shutdown/maintenance", "service…unavailable", "service+not available", "temporarily unavailable",
		"temporary+failure/local problem/system problem/server error",
		"could not create/cannot create/cannot open/unable to open", "command+died/failed", "exit status", "exited with", "pipe ",
		"script", "configuration+error/problem", "misconfigur/incorrectly configured", "child process", "local delivery failed",
		"i o error", "system resources", "out of memory",
		"transaction failed", "queue file", "action aborted", "system not capable", "database",
		"interner fehler/erreur interne/error interno/erro interno/внутренняя ошибка/内部エラー/システムエラー/系统错误/内部错误", "bad sequence",
		"command+not/unrecognized", "syntax error", "system…unavailable",
	}},
	{meaning{Rate, false}, []string{"too many", "too much"}},
	{meaning{Policy, false}, []string{
		"authoriz/authoris/unauthoriz", "authenticat", "permission", "sender/mail from/from address/originator",
		"policy/policies", "administrative/administrator", "restriction", "preferences", "whitelist/allowlist/white list",
		"complaint/abuse", "only…from", "only+known", "not wanted/doesnt want/does not want/dont want/do not want",
		"nicht+berechtigt/erlaubt/zugelassen",
	}},
}

// refusals say no and hardly why.
var refusals = []wording{
	{meaning{MailboxUnknown, true}, []string{"address rejected", "recipient+rejected/refused"}},
	{meaning{Policy, false}, []string{
		refused,
		"verweigert/abgelehnt/refusé/interdit/non autorisé/rechazado/denegado/no permitido/rejeitad/negado/não permitid/rifiutat/" +
			"odrzucon/geweigerd/zabronion", "nimmt…keine/nicht",
		"n accepte/naccepte/non accetta/no acepta/não aceita/не принимает",
		"拒否/許可/拒绝/拒收/策略/权限/отклонен/запрещ/거부/차단",
	}},
}
