"""What the text of a failure says and how far it is trusted: each judgement is a test here."""

import html
import quopri
from collections.abc import Callable, Iterator

import pytest

from shared.classification import diagnostic_text
from shared.classification.classify import Hardness, classify, find_codes, hardness
from shared.classification.patterns import ADDRESS_INVALID, PATTERNS, RECIPIENT_DENIED, RECIPIENT_DENIED_CODE, Pattern
from shared.vocabulary import Classification, EventType

C = Classification


def judge(text: str, **known: str) -> Classification:
    """As the providers' adapters do: the codes out of the text, and the text beside them."""
    smtp_status, enhanced_code = find_codes(*known.values(), text)
    return classify(enhanced_code=enhanced_code, smtp_status=smtp_status, text=text)


def test_no_route_to_a_domain_is_an_invalid_domain() -> None:
    assert judge("554 5.4.4 SMTPSEND.DNS.NonExistentDomain; nonexistent domain") is C.INVALID_DOMAIN
    assert classify(enhanced_code="5.4.4") is C.INVALID_DOMAIN


def test_no_route_for_a_fault_that_passes_is_no_invalid_domain() -> None:
    assert judge("5.4.4 Name service error for x.example: Host not found, try again") is C.DNS_FAILURE
    assert judge("5.4.4 connect to mx.x.example: Connection refused") is C.CONNECTION_ERROR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.7.1", C.POLICY_REJECTION),
        ("550 5.7.1 Message refused by policy", C.POLICY_REJECTION),
        ("550 5.7.1 Delivery not authorized", C.POLICY_REJECTION),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", C.SPAM_BLOCK),
        ("550 5.7.1 Messages from [192.0.2.1] weren't sent. Part of their network is on our block list", C.SPAM_BLOCK),
        ("550-5.7.1 [192.0.2.1 12] Our system has detected that this message is\n550-5.7.1 likely unsolicited mail.",
         C.SPAM_CONTENT),
        ("550 5.7.1 message is suspicious due to the very low reputation of the sending domain", C.SPAM_BLOCK),
        ("550 5.7.1 <gone@x.example>: Relay access denied", C.ROUTING_ERROR),
        ("550 5.7.1 <gone@x.example>: Recipient address rejected: Access denied", C.POLICY_REJECTION),
        ("550 5.7.1 This message is not RFC 5322 compliant. To reduce spam, this message has been blocked.",
         C.POLICY_REJECTION),
        ("550 5.7.1 RESOLVER.RST.AuthRequired; authentication required", C.POLICY_REJECTION),
        ("550 5.7.1 User unknown in virtual mailbox table", C.INVALID_RECIPIENT),
    ],
)  # fmt: skip
def test_only_the_text_distinguishes_spam_from_rules_in_a_bare_5_7_1(text: str, expected: Classification) -> None:
    assert judge(text) is expected


@pytest.mark.parametrize("text", ["452 4.2.2 Mailbox full", "552 5.2.2 Over quota", "550 Mailbox is full", "5.2.2"])
def test_a_full_mailbox_is_full_whichever_code_says_so_and_even_if_the_server_gave_up(text: str) -> None:
    assert judge(text) is C.MAILBOX_FULL
    assert hardness(EventType.BOUNCED, C.MAILBOX_FULL) is Hardness.SOFT


@pytest.mark.parametrize(
    "text",
    [
        "450 4.2.0 <maria@x.example>: Recipient address rejected: Greylisted, see http://postgrey.example/help",
        "451 4.7.1 Greylisting in action, please come back later",
        "greylisted",
        "421 graylisted - try again later; listed at spamhaus",
        "451 Internal resources are temporarily unavailable",
    ],
)
def test_greylisting_is_a_transient_failure(text: str) -> None:
    assert judge(text) is C.TRANSIENT_FAILURE


@pytest.mark.parametrize(
    "text",
    [
        "550 5.7.26 Unauthenticated email from shop.example is not accepted due to domain's DMARC policy",
        "421 4.7.32 From: header isn't aligned with either the authenticated SPF or DKIM domain",
        "550 Message rejected due to DMARC",
        "554 5.7.9 Message not accepted for policy reasons (DKIM)",
        "DMARC",
    ],
)
def test_a_failure_of_dmarc_is_a_policy_for_its_cure_is_a_record_of_the_sender(text: str) -> None:
    assert judge(text) is C.POLICY_REJECTION


def test_microsofts_access_denied_says_that_there_is_no_such_recipient() -> None:
    denied = (
        "5.4.1 Recipient address rejected: Access denied. AS(201806281) [{}.prod.protection.outlook.com 2026-01-01]"
    )
    assert judge(denied.format("BN8NAM12FT030.eop-nam12"), status="550") is C.INVALID_RECIPIENT
    page = "For more information see https://aka.ms/EXOSmtpErrors"
    assert judge(f"550 5.4.1 Recipient address rejected: Access denied. {page} [x.outlook.com]") is C.INVALID_RECIPIENT
    assert judge("550 5.4.1 Recipient address rejected: Access denied") is C.INVALID_RECIPIENT
    assert judge("450 4.4.1 Recipient address rejected: Access denied") is C.POLICY_REJECTION
    assert judge("550 5.4.1 Relay Access Denied") is C.ROUTING_ERROR
    assert judge("550 5.4.1 no answer from host") is C.CONNECTION_ERROR
    assert classify(enhanced_code="5.4.1", smtp_status="550") is C.ROUTING_ERROR


def test_microsofts_null_mx_is_an_unknown_recipient() -> None:
    assert judge("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found") is C.INVALID_RECIPIENT
    assert judge("556 5.1.10 Recipient address has null MX") is C.INVALID_DOMAIN


def test_a_gmail_mailbox_that_gets_too_much_at_once_is_not_inactive() -> None:
    text = "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents delivery"
    assert judge(text) is C.TRANSIENT_FAILURE
    assert judge("550 5.2.1 The email account that you tried to reach is disabled") is C.INACTIVE_MAILBOX


def test_a_disabled_account_is_the_senders_unless_the_text_means_the_recipients() -> None:
    assert classify(enhanced_code="5.7.13") is C.POLICY_REJECTION
    assert judge("525 5.7.13 Your account has been disabled") is C.POLICY_REJECTION
    assert judge("550 5.7.13 STOREDRV.Deliver; account disabled") is C.INACTIVE_MAILBOX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 550 and 554 say little, and the text says more.
        ("550 Requested action not taken: mailbox unavailable", C.INVALID_RECIPIENT),
        ("550 5.5.0 Requested action not taken: mailbox unavailable", C.INVALID_RECIPIENT),
        ("550 No Such User Here", C.INVALID_RECIPIENT),
        ("550 Message rejected as spam by Content Filtering.", C.SPAM_CONTENT),
        ("550 Administrative prohibition", C.POLICY_REJECTION),
        ("550 Poor Reputation Sender", C.SPAM_BLOCK),
        ("550 relay not permitted", C.ROUTING_ERROR),
        ("550 JunkMail rejected - mx [192.0.2.1] is in an RBL", C.SPAM_BLOCK),
        ("550 Sender verify failed", C.POLICY_REJECTION),
        ("550 5.1.0 Address rejected.", C.INVALID_RECIPIENT),
        ("550 5.1.0 192.0.2.1 is not allowed to send from <shop.example> per its SPF record", C.POLICY_REJECTION),
        ("553 5.3.0 <gone@x.example>... No such user", C.INVALID_RECIPIENT),
        ("554 delivery error: dd This user doesn't have a yahoo.com account (gone@yahoo.com)", C.INVALID_RECIPIENT),
        ("554 30 Sorry, your message to gone@yahoo.com cannot be delivered. This mailbox is disabled (554.30).",
         C.INACTIVE_MAILBOX),
        ("554 Message not allowed - [PH01] Email not accepted for policy reasons.", C.SPAM_CONTENT),
        ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
         C.SPAM_BLOCK),
        ("554 Transaction failed: reject due to policy restrictions", C.POLICY_REJECTION),
        ("554 5.2.0 STOREDRV.Deliver; mailbox full", C.MAILBOX_FULL),
        ("552 message size exceeds fixed maximum message size", C.POLICY_REJECTION),
        ("552 5.3.0 Submission quota exceeded", C.POLICY_REJECTION),
        ("550 Unrouteable address", C.INVALID_RECIPIENT),
        ("550 <gone@x.example>... Host unknown (Name server: x.example: host not found)", C.INVALID_DOMAIN),
        ("550 Domain of sender address shop@nowhere.example does not exist", C.POLICY_REJECTION),
        ("550 Domain not found (in reply to MAIL FROM command)", C.POLICY_REJECTION),
        ("450 Client host rejected: cannot find your hostname, [192.0.2.1]: Host not found", C.POLICY_REJECTION),
        ("550 too many invalid recipients", C.SPAM_BLOCK),
        ("550 This account has been suspended", C.INACTIVE_MAILBOX),
        ("550 account temporarily disabled", C.TRANSIENT_FAILURE),
        ("554 5.0.0 Virus found in message", C.SPAM_CONTENT),
        ("554 5.6.0 Email message is malformed. Not accepted.", C.POLICY_REJECTION),
        ("550 5.0.350 Requested action not taken: policy violation detected", C.POLICY_REJECTION),
        ("550 <gone@x.example> does not exist", C.INVALID_RECIPIENT),
        ("550 gone@x.example... Mailbox not available", C.INVALID_RECIPIENT),
        ("550 ESMTP Exim 4.94.2: no such user here", C.INVALID_RECIPIENT),
        ("550 The recipient may contain a non-existent account, please check the recipient address.",
         C.INVALID_RECIPIENT),
        ("550 permanent failure for one or more recipients (gone@x.example:550 5.1.1 User unknown)",
         C.INVALID_RECIPIENT),
        # No code at all.
        ("mailbox full", C.MAILBOX_FULL),
        ("user unknown", C.INVALID_RECIPIENT),
        ("Spamhaus", C.SPAM_BLOCK),
        ("recipient is suppressed", C.POLICY_REJECTION),
        ("452 mailbox full: Delivery to maria@customer.example failed at 192.0.2.25:25 (mx1.customer.example)",
         C.MAILBOX_FULL),
        ("Maximum number of delivery attempts (18) has been reached.", C.TRANSIENT_FAILURE),
        ("Connection refused - connect(2) for mx1.customer.example port 25", C.CONNECTION_ERROR),
        ("execution expired", C.CONNECTION_ERROR),
        ("Sorry, I couldn't find any host named nowhere.example. (#5.1.2)", C.INVALID_DOMAIN),
        ("Sorry, no mailbox here by that name.", C.INVALID_RECIPIENT),
        ("Empfänger unbekannt", C.INVALID_RECIPIENT),
        ("Postfach voll", C.MAILBOX_FULL),
        ("smtp; 550 Utilisateur inconnu", C.INVALID_RECIPIENT),
        ("mail for x.example loops back to myself", C.ROUTING_ERROR),
        # Nothing that is known.
        ("no", C.UNCLASSIFIED),
        ("550 no", C.UNCLASSIFIED),
        ("550 5.2.0 no", C.UNCLASSIFIED),
        ("553 no", C.UNCLASSIFIED),
        ("554 no", C.POLICY_REJECTION),
        ("554 5.7.1 Your message was blocked due to your IP address being listed in Spamhaus", C.SPAM_BLOCK),
        ("550 spam message rejected due to your content", C.SPAM_CONTENT),
        ("550 mailbox is closed group", C.POLICY_REJECTION),
        ("550 5.2.1 account suspended for nonpayment", C.INACTIVE_MAILBOX),
        ("550 5.1.1 User not found in authentication directory", C.INVALID_RECIPIENT),
        ("550 O e-mail informado não existe", C.INVALID_RECIPIENT),
        ("550 L'email gone@x.example n'existe pas", C.INVALID_RECIPIENT),
        ("550 Нет такого почтового ящика", C.INVALID_RECIPIENT),
        ("550 user1 disabled", C.INACTIVE_MAILBOX),
    ],
)  # fmt: skip
def test_where_codes_say_little_the_text_does(text: str, expected: Classification) -> None:
    assert judge(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "450 4.1.0 User unknown",
        "450 user unknown",
        "451 4.7.1 account disabled",
        "421 domain not found",
        "450 4.2.0 mailbox unavailable",
    ],
)
def test_a_temporary_failure_condemns_no_address_whatever_it_writes(text: str) -> None:
    assert judge(text) is C.TRANSIENT_FAILURE


@pytest.mark.parametrize(
    "text",
    [
        "550 <mailbox.full@customer.example>: no",
        "550 <spam@customer.example>: no",
        "550 said mx.spam.dmarc.example: no",
        "550 our hotspam fullmailbox: no",
    ],
)
def test_names_say_nothing_by_chance(text: str) -> None:
    assert judge(text) is C.UNCLASSIFIED


@pytest.mark.parametrize(
    "text",
    [
        "550 Requested action not taken: mailbox unavailable",
        "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        "550 <gone@x.example>: Mailbox is unavailable",
    ],
)
def test_the_words_of_550_itself_condemn(text: str) -> None:
    assert judge(text) is C.INVALID_RECIPIENT


@pytest.mark.parametrize(
    "text",
    [
        "550-Requested action not taken: mailbox unavailable\n550 Reject due to policy restrictions.",
        "550 5.7.1 Requested action not taken: mailbox unavailable. Reject due to policy restrictions",
        "550 Requested action not taken: mailbox unavailable invalid DNS MX or A/AAAA resource record",
        "550 5.7.1 Requested action not taken: mailbox unavailable invalid DNS MX or A/AAAA resource record",
        "550 Mailbox unavailable or access denied",
        "550 Requested action not taken: Fake sender",
    ],
)
def test_a_rule_that_is_named_beside_the_words_of_550_outranks_them(text: str) -> None:
    assert judge(text) is C.POLICY_REJECTION


@pytest.mark.parametrize(
    "text",
    [
        "550 Sender frequency limited.",
        "550 Ip frequency limited. http://service.mail.qq.com/cgi-bin/help?subtype=1&&no=1000725",
        "550 Domain frequency limited",
        "550 Connection denied",
        "550 Suspected bounce attacks",
        "550 Mail is rejected by recipients",
        "550 RP:TRC",
        "550 Please authenticate first",
        "550 smtp auth required",
        "550 sender does not exist",
        "550 non-existent sender",
        "550 Sending user unknown",
        "550 Sender's domain does not exist",
        "553 sorry, your domain does not exist",
        "550 5.1.0 Sender IP 192.0.2.1 address rejected",
        "550 The sending IP (192.0.2.1) is not authorised",
        "550 Email from your domain is not accepted",
        "550-Verification failed for <shop@shop.example>",
        "550 Previous (cached) callout verification failure",
        "550 Message filtered",
        "550 Message denied by cloudfilter",
        "550 Message not accepted due to failed antispam check",
        "550 permanent failure for one or more recipients (maria@x.example:blocked)",
        "550 This mailbox accepts mail from known senders only",
        "550 Mailing list does not accept posts from non-members",
    ],
)
def test_what_blames_the_sender_says_nothing_of_the_recipient(text: str) -> None:
    assert hardness(EventType.BOUNCED, judge(text)) is Hardness.NONE


@pytest.mark.parametrize(
    "text",
    [
        "550 User has exhausted allowed storage space.",
        "550 User has too many messages on the server.",
        "554 5.2.0 STOREDRV.Deliver.Exception:QuotaExceededException",
    ],
)
def test_a_full_mailbox_has_many_names(text: str) -> None:
    assert judge(text) is C.MAILBOX_FULL


def test_a_text_outranks_neither_the_providers_word_nor_a_specific_code() -> None:
    assert classify(word="spam_block", text="user unknown") is C.SPAM_BLOCK
    assert judge("550 5.7.26 mailbox full") is C.POLICY_REJECTION


def test_a_word_that_only_says_that_the_provider_gave_up_comes_last() -> None:
    assert classify(word="retries_exhausted") is C.TRANSIENT_FAILURE
    assert classify(word="retries_exhausted", enhanced_code="4.2.2") is C.MAILBOX_FULL
    assert classify(word="suppressed", text="no") is C.POLICY_REJECTION


def test_only_the_beginning_of_a_text_is_read() -> None:
    assert judge("x " * 500 + "user unknown") is C.UNCLASSIFIED


@pytest.mark.parametrize("wording", PATTERNS, ids=lambda row: row.meaning)
def test_every_phrase_is_found_unless_an_earlier_row_takes_it(wording: Pattern) -> None:
    rank = PATTERNS.index(wording)
    code = RECIPIENT_DENIED_CODE if wording is RECIPIENT_DENIED else ""
    for phrase in wording.phrases:
        for words in diagnostic_text.expand(phrase.removeprefix("=")):
            text = " ".join(words).replace(" .", ".").lstrip(".").replace("…", "one or two").upper()
            found = diagnostic_text.find(f"550 {text}.", code)
            assert found, text
            assert PATTERNS.index(found[0]) <= rank, text


@pytest.mark.parametrize("wording", PATTERNS, ids=lambda row: row.meaning)
def test_a_phrase_keeps_its_meaning_without_articles_and_auxiliary_verbs(wording: Pattern) -> None:
    telling = {"deactivated", "discontinued", "inactivity", "decommissioned", "desconhecido", "inesistente"}
    for phrase in wording.phrases:
        for words in diagnostic_text.expand(phrase.removeprefix("=")):
            assert words, phrase
            if wording.classification in ADDRESS_INVALID and len(words) == 1 and not phrase.startswith("="):
                # One word condemns only if it is the name of an error, or can mean nothing else.
                assert len(words[0]) >= 9 or words[0] in telling | {"nullmx", "notfound", "nxdomain"}, phrase


DEAD = """
User unknown|No such user here|The recipient does not exist|Sorry, no mailbox here by that name|invalid address
This mailbox is disabled|recipient is blocked|account closed by its user|This address no longer accepts mail
Domain x.example does not accept mail|domain has no MX|The user's account has been suspended|rcpt dosn't exist
Benutzer unbekannt|Die Empfängeradresse existiert nicht|Das Postfach ist deaktiviert|Adresse nicht gefunden
Destinataire inconnu|Cet utilisateur n'existe pas|Boîte aux lettres désactivée|Le domaine n'existe pas
Usuario desconocido|El buzón no existe|La cuenta ha sido suspendida|El dominio no existe
Utente sconosciuto|La casella di posta non esiste|Casella di posta disattivata|Il dominio non esiste
Usuário desconhecido|A conta de e-mail não existe|Caixa postal desativada|O domínio não existe
Gebruiker onbekend|Het e-mailadres bestaat niet|Account is geblokkeerd|Domein bestaat niet
Użytkownik nieznany|Konto nie istnieje|Skrzynka zablokowana|Domena nie istnieje
Пользователь не найден|Почтовый ящик не существует|Почтовый ящик заблокирован|Домен не существует
ユーザーが存在しません|宛先メールアドレスが見つかりません|このアカウントは無効です|存在しないドメインです
用户不存在|收件人不存在|邮箱已被冻结|域名不存在
Одержувача не знайдено|Поштову скриньку не знайдено|Невідомий отримувач|Домен не існує|Скринька заблокована
Пользователя не найдено|Учётная запись не найдена|Няма такъв потребител|Адресът не съществува|Корисник не постоји
Uživatel neexistuje|Schránka příjemce nebyla nalezena|Doména neexistuje|Účet je zablokován|Neznámy príjemca
Account on hold|The account has been shut down|Domain x.example has no valid DNS records
due to extended inactivity new mail is not currently being accepted for this mailbox
not a deliverable address|No matching user|account blocked for receiving|Mailbox blocked due to inactivity
Kein solcher Benutzer hier|Der Empfänger existiert auf diesem Server nicht|Benutzerkonto deaktiviert
Aucune boîte aux lettres à ce nom|No se encontró el destinatario|O endereço não foi encontrado|Nessun utente trovato
Användaren finns inte|Brugeren findes ikke|Brukeren finnes ikke|Käyttäjää ei löydy|Kullanici bulunamadi
Esta casilla ha expirado
Ismeretlen felhasználó|Destinatar inexistent|사용자를 찾을 수 없습니다|無此收件人|ユーザーはいません
DNS error: lookup of x.example (MX) responded with NXDOMAIN|MX record for recipient domain is empty
Korisnik ne postoji|Nepoznat primalac|Uporabnik ne obstaja|Nie odnaleziono odbiorcy
unknown|<gone@x.example> disabled|gone@x.example: not found|<gone@x.example> n'existe pas
Mottagaren hittades inte|A címzett nem létezik|Nem létező felhasználó|No existe ese usuario|Utilizatorul nu există
Người dùng không tồn tại
사용자가 존재하지 않습니다|존재하지 않는 사용자|No se encontró la cuenta|El usuario no se ha encontrado
Utente non trovato|El destinatario no pudo encontrarse|Usuário não foi encontrado|Mottakeren eksisterer ikke
No se encontró el buzón
User billing not found|服务器返回 用户不存在|Utente inesistente
No mail servers for domain x.example|The domain has an empty MX|NXDOMAIN|DNS domain x.example does not exist
"""
FULL = """
Mailbox full.Try later|The user is over quota|exceeded storage allocation|The inbox is out of storage space
Das Postfach des Empfängers ist voll|Speicherplatz überschritten|Boîte aux lettres pleine|Quota dépassé
El buzón está lleno|Cuota excedida|La casella del destinatario è piena|Caixa postal cheia|Cota excedida
De mailbox zit vol|Skrzynka odbiorcy jest pełna|Почтовый ящик переполнен|Превышена квота
メールボックスが一杯です|メールボックスの容量を超えています|邮箱已满|收件人邮箱空间不足
Benutzer hat zuviele Mails auf dem Server|L'espace de stockage est saturé|Inkorgen är full|Indbakken er fuld
Posta kutusu dolu|메일함이 가득 찼습니다|The mailbox has no more room|jane is overfull
user's mailbox is at its storage limit
The recipient has reached its quota|The recipient has insufficient storage|dépassement de quota
Скринька переповнена|Перевищено квоту|Schránka je plná|Překročena kvóta|Poštansko sanduče je puno
Su buzón está lleno|Sua caixa de correio está cheia|La sua casella è piena|Votre boîte est pleine|Ihr Postfach ist voll
Uw mailbox is vol|Your mailbox is full
"""
LIVING = """
Client host unknown|HELO name not found in DNS|The domain in your From address does not exist
Your server is not listed in our whitelist|authentication failed: user unknown|sender account disabled
the sender's address was not found|The account you are sending from does not exist|DKIM key not found in DNS
Unable to contact LDAP directory server|too many invalid recipients|user not found in member list: non-members
SMTP error from remote mail server after MAIL FROM:<a@x.example>: 550 user unknown
host mx.x.example[192.0.2.1] said: 550 No such user (in reply to MAIL FROM command)
host mx.x.example[192.0.2.1] said: 550 domain not found (in reply to HELO command)
User has blocked you|The recipient has blocked messages from your address|not a member of the list
Recipient address rejected: see the page|Recipient address rejected: Message too large|delivery suspended
unknown host in HELO|PTR record does not exist|Host not found, try again|License expired
absender unbekannt|L'adresse de l'expéditeur n'existe pas|La dirección del remitente no existe
L'indirizzo del mittente non esiste|Адрес отправителя не существует|发件人不存在|送信者が存在しません
Адресу відправника не знайдено|Домен відправника не існує|Адресът на подателя не съществува|Nie znaleziono nadawcy
Avsändarens adress finns inte|Afsenderens adresse findes ikke|Lähettäjän osoitetta ei löydy|발신자를 찾을 수 없습니다
Gönderenin adresi bulunamadi|Adresa expeditorului nu există|El remitente no se encontró|sender: no such user here
Domain may not exist or DNS check failed|connection closed due to inactivity|no valid recipients from mx.x.example
Your account has been blocked for sending spam|The mailbox of the sender does not exist
HELO argument does not resolve
Adresa odesílatele neexistuje|Adresa pošiljaoca ne postoji|Die Adresse des Absenders existiert nicht
Ваша IP-адреса заблокована|Vaše IP adresa je zablokována|Ihr Server wurde gesperrt|Twój adres IP jest zablokowany
"""
OF_OTHERS = """
mail.example.com unknown|[2001:db8::1] unknown|example.com not found|relay.example.net suspended|192.0.2.7 disabled
relay.example.com disabled|TLS1.2 disabled|host mail.example.com unknown|mail.example.com [192.0.2.7] is unknown
mail.example.com has been disabled|mail.example.com - unknown|mail.example.com wasn't found
not found: mail.example.com|unknown [2001:db8::1]|disabled: TLS1.0|mail.example.com не найден|x.example hittades inte
No se encontró el registro DNS|No se encontró el servidor|No se encontró el dominio del remitente
No se ha encontrado el registro PTR|No pudo encontrarse el servidor|El servidor de correo no existe
Nao foi encontrado registro DNS reverso|Nao foi encontrado registro MX para o dominio do remetente
O servidor não existe|Registro DNS não encontrado|Servidor no encontrado|host non trovato|Reverse non trovato
Il server non esiste|Serverul nu exista|Inregistrarea DNS nu exista|A küldő domain nem létezik|A szerver nem létezik
Máy chủ không tồn tại|hittades inte i DNS|Serveren eksisterer ikke|서버가 존재하지 않습니다|존재하지 않는 서버
Le serveur n'existe pas|L'enregistrement DNS n'existe pas|Der DNS-Eintrag existiert nicht|De server bestaat niet
Serwer nie istnieje|Nie znaleziono rekordu DNS|Сервер не существует|Запись DNS не существует|Server neexistuje
HELO NXDOMAIN|Bad HELO: NXDOMAIN|your host nxdomain|DNS domain does not exist for HELO example.com|NXDOMAIN for EHLO x
client hostname mx.x.example: NXDOMAIN|NXDOMAIN for your hostname|reverse DNS: NXDOMAIN|sending server is NXDOMAIN
no DNS record for host.example|no valid dns for host 192.0.2.1|From domain has no DNS records|sender no valid dns
empty mx for sender|No mail servers configured for from domain|MX record for the sender is empty
no MX for sender domain
No MX record for your host|HELO has no valid DNS
dominio del remitente inexistente|dominio do remetente inexistente|발신 도메인이 존재하지 않습니다
dominio del mittente inesistente|domaine de l'expéditeur inexistant|Domein van de afzender bestaat niet
Die Domain des Absenders existiert nicht|A küldő címe ismeretlen cím|Domeniul expeditorului nu există
Ihr Kundenkonto ist gesperrt|Ihr Benutzerkonto ist abgelaufen|Ihr Konto ist gesperrt|Das Absenderkonto ist gesperrt
Su cuenta ha expirado|Su cuenta ha vencido, renueve su plan|Su usuario SMTP ha caducado|Tu cuenta ha sido suspendida
Din konto er deaktiveret|Kontot som skickade mailet är avstängt|Ditt konto är avstängt|Kontoen din er sperret
Votre compte est suspendu|Votre compte a été désactivé|Il tuo account è scaduto|Il vostro account è sospeso
Sua conta foi suspensa|Sua conta expirou|Uw account is geblokkeerd|Je account is opgeheven
Twoje konto jest zablokowane
Ваш аккаунт заблокирован|Ваша учетная запись отключена|Ваш обліковий запис заблоковано|Váš účet je zablokován
Vaš nalog je blokiran|Hesabiniz kapatildi: hesap kapali|귀하의 계정은 정지된 계정입니다|您的帐号已被冻结
message blocked for receiving server policy|This account has been shut down due to your spam
no known user agent|no matching recipient policy|no matching user found in AUTH|user agent not found
server does not recognise user credentials|account on hold for billing|account suspended due to spamming
服务器不存在|DNS记录不存在|サーバーが存在しません|レコードが見つかりません|host sconosciuto|servidor desconhecido
server inesistente
user certificate not found|mailbox on hold pending payment|user password expired
"""
BLOCK_LISTED = """
Ihre IP steht auf einer Sperrliste|Ihr Server ist auf einer Blockliste eingetragen|Uw IP staat op een zwarte lijst
Server staat op een blokkeerlijst|Votre serveur est sur une liste de blocage|Su IP está en una lista de bloqueados
IP in lista di blocco|Seu servidor está em listas negras|Serwer na liście blokad|Цей сервер внесено до чорного списку
Сервер внесён в чёрный список|IP в списке блокировки|Server je na černé listině|Server je na čiernej listine
Server je na crnoj listi|Сървърът попадна в черния списък|Servern finns på en spärrlista|Din server er sortlistet
Serveren er svartelistet|Palvelin on mustalla listalla|Sunucu kara listede|A szerver feketelistán van
블랙리스트에 등록
服务器在阻止列表中|ブロックリストに登録されています
"""


def listed(texts: str) -> list[str]:
    """The texts of a table: one line or "|" apart."""
    return [text for line in texts.strip().splitlines() for text in line.split("|")]


@pytest.mark.parametrize("text", listed(DEAD))
def test_a_dead_address_is_recognized_in_many_languages(text: str) -> None:
    assert judge(f"550 {text}") in ADDRESS_INVALID
    assert judge(f"450 {text}") not in ADDRESS_INVALID


@pytest.mark.parametrize("text", listed(FULL))
def test_a_full_mailbox_is_recognized_in_many_languages(text: str) -> None:
    assert judge(f"552 {text}") is C.MAILBOX_FULL


@pytest.mark.parametrize("text", listed(BLOCK_LISTED))
def test_a_block_list_is_the_senders_fault_in_many_languages(text: str) -> None:
    assert judge(f"550 {text}") is C.SPAM_BLOCK


@pytest.mark.parametrize("text", listed(LIVING))
def test_what_is_said_of_the_sender_or_of_the_server_condemns_no_recipient(text: str) -> None:
    assert judge(f"550 {text}") not in ADDRESS_INVALID


@pytest.mark.parametrize("code", ["550", "550 5.7.1", "554"])
@pytest.mark.parametrize("text", listed(OF_OTHERS))
def test_what_is_gone_or_closed_condemns_only_if_it_is_a_recipient(text: str, code: str) -> None:
    assert hardness(EventType.BOUNCED, judge(f"{code} {text}")) is not Hardness.HARD


@pytest.mark.parametrize("text", ["mail server at its limit", "connection at its limit"])
def test_the_limit_of_a_server_is_no_full_mailbox(text: str) -> None:
    assert judge(f"550 {text}") is not C.MAILBOX_FULL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 gone@x.example...User unknown", C.INVALID_RECIPIENT),
        ("550 User not found:gone@x.example", C.INVALID_RECIPIENT),
        ("552 Mailbox full.Try later", C.MAILBOX_FULL),
        ("550 RESOLVER.ADR.RecipientNotFound; not found", C.INVALID_RECIPIENT),
        ("550 user.unknown.example: xyzzy", C.UNCLASSIFIED),
        ("550 blocked-mailbox.full-quota.example said xyzzy", C.UNCLASSIFIED),
        ("550 E-Mail address unknown", C.INVALID_RECIPIENT),
        ("550 Kullan\u0131c\u0131 bulunamad\u0131", C.INVALID_RECIPIENT),
        ("550 L'utilisateur n'existe pas", C.INVALID_RECIPIENT),
        ("550 ＵＳＥＲ　ＵＮＫＮＯＷＮ", C.INVALID_RECIPIENT),  # noqa: RUF001 (letters of double width)
    ],
)
def test_words_are_found_where_servers_leave_out_the_blanks(text: str, expected: Classification) -> None:
    assert judge(text) is expected


SAID = """
550 5.1.1 User unknown|552 5.2.2 Quota exceeded|550 Address rejected|554 This user doesn't have a yahoo.com account
550 User not listed in Domino Directory|550 recipient does not exist
550 Requested action not taken: mailbox unavailable
550 5.7.1 Message rejected due to content policy|450 4.2.0 Greylisted|550 Pełna skrzynka, użytkownik nieznany
554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org|550 L'adresse n'existe pas
"""
WRAPPED = (
    "{}",
    "smtp; {}",
    "Diagnostic-Code: smtp; {}",
    "host mx.x.example[192.0.2.1] said: {} (in reply to RCPT TO command)",
    "host a.x.example[192.0.2.1] said: host b.x.example[192.0.2.2] said: {} (in reply to end of DATA command)",
    "SMTP error from remote mail server after RCPT TO:<a@x.example>: host mx.x.example [192.0.2.1]: {}",
    "192.0.2.1 does not like recipient.\nRemote host said: {}\nGiving up on 192.0.2.1.",
    "Remote Server returned '{}'",
    "x.example rejected your message to the following email addresses: {}",
    "{}, relay=mx.x.example[192.0.2.1]",
    "{} [DB5EUR03FT012.eop-EUR03.prod.protection.outlook.com 2026-01-02T11:12:13.123Z 08DD]",
    "{} - https://x.example/docs/DOC-1369#550",
)
"""What servers, bounce messages and providers write around a reply."""


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("reply", listed(SAID))
def test_what_is_written_around_a_reply_does_not_change_its_meaning(reply: str, wrapper: str) -> None:
    smtp_status, enhanced_code = find_codes(reply)

    def read(text: str) -> Classification:
        return classify(enhanced_code=enhanced_code, smtp_status=smtp_status, text=text)

    assert read(wrapper.format(reply)) is read(reply)


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.replace(" ", "  "),
        lambda text: text.replace(" ", "\r\n\t"),
        lambda text: text.replace(" ", "=20"),
        lambda text: text.replace(" ", "\\r\\n", 2),
        lambda text: html.escape(text).replace(" ", "&nbsp;"),
        lambda text: quopri.encodestring(text.encode()).decode(),
        lambda text: "550-" + text.replace(" ", "\r\n550-5.1.1 ", 3),
    ],
)
@pytest.mark.parametrize("reply", listed(SAID))
def test_how_a_reply_is_encoded_or_wrapped_does_not_change_its_meaning(
    reply: str, written: Callable[[str], str]
) -> None:
    smtp_status, enhanced_code = find_codes(reply)

    def read(text: str) -> Classification:
        return classify(enhanced_code=enhanced_code, smtp_status=smtp_status, text=text)

    assert read(written(reply)) is read(reply)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 Service refused, please try later", C.SPAM_BLOCK),
        ("421 Service refused, please try later", C.TRANSIENT_FAILURE),
        ("554 5.7.1 blocked, try again later", C.SPAM_BLOCK),
        ("554 local problem, try again later", C.TRANSIENT_FAILURE),
    ],
)
def test_try_later_in_a_permanent_refusal_of_the_sender_is_no_soft_bounce(text: str, expected: Classification) -> None:
    assert judge(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "List is closed; only members may post",
        "mailbox accepts internal mail only",
        "Message contains a file with a banned extension",
        "This message scored 9.1 points",
        "Le message est trop volumineux",
        "Der Absender ist nicht berechtigt",
        "exceeded its quota for sending messages",
        "Message bounced due to organizational settings",
        "HELO argument does not resolve",
        "auth error",
        "5.7.1 closed group",
        "Too big",
        "The mailbox of the sender is full",
    ],
)
def test_a_fault_of_the_sender_or_of_the_message_is_no_soft_bounce(text: str) -> None:
    assert hardness(EventType.BOUNCED, judge(f"550 {text}")) is Hardness.NONE


@pytest.mark.parametrize(
    "text", ["550 Recipient rejected", "host mx.x.example said: 550 Address rejected (in reply to RCPT TO command)"]
)
def test_a_rejected_recipient_without_a_reason_does_not_exist(text: str) -> None:
    assert judge(text) is C.INVALID_RECIPIENT
    assert judge(f"{text} xyzzy") is not C.INVALID_RECIPIENT


def hostile() -> Iterator[str]:
    """What makes careless searches slow: the longest near misses of phrases, and of every pattern of codes."""
    for row in PATTERNS:
        for phrase in row.phrases:
            yield (phrase.partition("…")[0].replace("/", " ") + " ") * 10_000
    yield from (
        unit * 50_000
        for unit in (
            "a",
            "@",
            ".",
            "5.1.",
            "5",
            " 5",
            "550 ",
            "5.1.1.",
            "\n",
            "…",
            "'",
            "l'",
            "a.B",
            "user ",
            "用户",
            "é",
            "&lt;",
            "=20",
            "=C3=A9",
            "=\n",
            "\\n",
            "host said ",
        )
    )


def test_hostile_texts_take_no_longer_than_others() -> None:
    for text in hostile():
        classify(text=text)
        find_codes(text)
