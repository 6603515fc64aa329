"""Phrases in the diagnostic text of mail servers, and the classification that each stands for.

The phrases are ones that large hosters, mail servers and spam filters are known to write, in the languages of their
users. `shared.classification.diagnostic_text` compares them with a text.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.vocabulary import Classification

C = Classification

WORD_SETS: Mapping[str, str] = {
    "RECIPIENT": """
        user; users; username; userid; recipient; recipients; mailbox; mailboxes; account; accounts; address;
        addresses;
        addressee; alias; rcpt; inbox; envelope recipient; maildrop; mail box
    """,
    "MAILBOX": """
        user; recipient; mailbox; account; address; addressee; inbox; customer; subscriber; alias; maildrop; mail box
    """,
    "UNKNOWN": """
        unknown; invalid; nonexistent; non existent; nonexisting; inexistent; unrecognized; unrecognised; undefined;
        unregistered; undeliverable; bad; wrong; incorrect; illegal
    """,
    "FOUND": """
        found; known; exist; exists; existing; valid; registered; recognized; recognised; listed; present; here;
        local;
        hosted; defined; provisioned; in directory; on file; correct
    """,
    "CLOSED": """
        disabled; deactivated; inactive; suspended; closed; expired; frozen; locked; terminated; cancelled; canceled;
        archived; discontinued; abandoned; dormant; deleted; removed; not active; not activated; not enabled;
        no longer active; no longer valid; no longer available; no longer in use; no longer used;
        no longer in service;
        no longer accepts mail; no longer accepting mail; no longer works; no longer exists; not in use
    """,
    "QUOTA": "quota; storage; storage limit; storage space; disk space; diskspace; disk quota; mailbox quota; space",
    "SENDER": """
        sender; senders; sender address; senders address; sender mail; sender mail address; sender domain;
        senders domain; envelope sender; mail from; mailfrom; from address; return path; reverse path; originator;
        originator address; sender account; senders account; sender mailbox; senders mailbox; from domain; from header
    """,
    "REFUSED": """
        rejected; denied; refused; blocked; invalid; unknown; not allowed; not permitted; not authorized;
        not authorised; not accepted; not found; not exist; not verified; not valid; not resolve; unverifiable; empty;
        missing; disallowed; restricted; forbidden; unauthorized; unauthenticated; unresolvable; required
    """,
    "SERVER": """
        server; servidor; serveur; serwer; serwera; сервер; сервера; servera; host; hosts; hostname; dns; rdns; ptr; mx;
        record; records; registro; enregistrement; eintrag; rekord; rekordu; zaznam; запись; записи; reverse; inverso;
        inversa; helo; ehlo
    """,
    "SPAM": "spam; junk; ube; uce; bulk; unsolicited; advertising; advertisement",
    "HELO": """
        helo; ehlo; your host; your hostname; your server; your domain; your ip; your mail server; client;
        client host;
        sending host; sending server; sending domain; sending system; connecting host; reverse; rdns; ptr
    """,
    "DESTINATAIRE": "utilisateur; destinataire; adresse; compte; boite; usager; abonne; messagerie; alias; mailbox",
    "EMPFANGER": """
        benutzer; empfanger; empfaenger; adresse; empfangeradresse; mailadresse; postfach; nutzer; konto; mailbox;
        adressat; account; alias
    """,
    "DESTINATARIO": """
        usuario; usuaria; utilizador; destinatario; destinataria; cuenta; conta; direccion; endereco; buzon; casilla;
        caixa; el correo; persona; pessoa; utente; indirizzo; casella; account; mailbox; alias
    """,
    "ARTICULO": "a; o; el; la; lo; l; ningun; ninguna; nenhum; nenhuma; este; esta; ese; esa; dicho; dicha",
    "GEBRUIKER": "gebruiker; ontvanger; adres; mailadres; mailbox; geadresseerde; account; postvak; postbus; alias",
    "ODBIORCA": """
        uzytkownik; uzytkownika; adresat; adresata; odbiorca; odbiorcy; konto; konta; adres; adresu; skrzynka;
        skrzynki
    """,
    "ПОЛУЧАТЕЛЬ": """
        пользователь; пользователя; адресат; адресата; получатель; получателя; ящик; ящика; адрес; адреса; аккаунт;
        учетная запись; абонент; user; mailbox
    """,
    "PRIJEMCE": """
        uzivatel; uzivatele; prijemce; prijemca; schranka; schranky; adresa; adresat; ucet; pouzivatel; konto
    """,
    "MOTTAGARE": """
        anvandaren; anvandare; mottagaren; mottagare; mottagarens; adressen; adress; kontot; konto; brevladan;
        brevlada;
        brugeren; modtageren; kontoen; postkassen; brukeren; mottakeren; mailadressen; postadressen
    """,
    "CIMZETT": "felhasznalo; cimzett; cimzettje; cim; mail cim; postafiok; fiok; postalada",
    "DESTINATARUL": """
        utilizatorul; utilizator; destinatarul; destinatar; adresa; contul; cont; casuta; casuta postala
    """,
    "수신자": """
        사용자; 사용자가; 사용자는; 사용자입니다; 수신자; 수신자가; 수신자는; 수신자입니다; 수신인; 수신인이; 계정;
        계정이;
        계정은; 계정입니다; 주소; 주소가; 주소는; 주소입니다; 메일함; 메일함이; 사서함; 사서함이; 사서함은
    """,
    "NGUOI": "nguoi dung; nguoi nhan; dia chi; tai khoan; hop thu; hom thu",
}
"""Words and groups of words that phrases name in capitals."""


class Pattern(NamedTuple):
    """Phrases of one meaning, separated by semicolons. A `general` one never outranks an enhanced code.

    "a/b" stands for either word, a word in capitals for any of its set in `WORD_SETS`, "…" for any words in between.
    A phrase that begins with "=" counts only if the text says nothing else.
    """

    classification: Classification
    meaning: str
    text: str
    general: bool = False

    @property
    def phrases(self) -> list[str]:
        """The phrases, with single spaces."""
        return [" ".join(phrase.split()) for phrase in self.text.split(";")]


SENDING_LIMITS = Pattern(
    C.POLICY_REJECTION,
    "limits of the sending account, which resemble a full mailbox",
    """
    submission/sending/outgoing/outbound/sender/smtp/relay/relaying quota/limit/limits/rate; user sending quota;
    quota/limit/limits for sending;
    sending account; sending email account; your account; your mailbox CLOSED; emails/messages per hour/day;
    max emails per;
    max defers and failures; hourly/daily limit/quota/limits; daily smtp relay limit; sender over quota;
    sender … quota; you/youve exceeded/reached; you have exceeded/reached; limit on the number of;
    send limit/quota; shut down due to your; suspended/disabled/closed/blocked due to your spam;
    limite d'envoi; limite de envio; limite di invio; versandlimit; sendelimit; verzendlimiet;
    limit wysylki; 发信频率; 发送频率; 送信数; 送信制限
    """,
)

SENDING_ACCOUNT = Pattern(
    C.POLICY_REJECTION,
    'the sender\'s account, in other languages: a server that says "your" speaks to the sender',
    """
    ihr/ihres/ihrem/ihren/dein/deines/deinem konto/benutzerkonto/kundenkonto/mailkonto/nutzerkonto/account/postfach;
    ihr/dein mail/smtp konto; ihr/dein benutzer; ihr/ihre/dein/deine abonnement/vertrag/mailbox;
    absenderkonto; senderkonto; sendende/sendendes/sendender/versendende/versendendes konto/account/benutzer;
    votre/ton compte/abonnement/boite/messagerie/utilisateur; compte expediteur/emetteur/d'envoi;
    compte de l'expediteur;
    su/tu/vuestra/vuestro cuenta/usuario/buzon/casilla/plan/suscripcion; cuenta remitente/emisora; cuenta de envio;
    cuenta del remitente; cuenta que envia; usuario/cuenta smtp;
    tuo/suo/vostro account/utente/conto/abbonamento/piano; tua/sua/vostra casella/utenza/mailbox;
    account mittente; account/casella del mittente; account di invio; utente/account smtp;
    sua/seu/tua/teu/vossa/vosso conta/usuario/utilizador/plano/assinatura/caixa; conta remetente; conta do remetente;
    conta de envio; conta smtp;
    uw/jouw/je/jullie account/abonnement/mailbox/postvak/gebruiker; verzendende/afzendende account/gebruiker;
    account van de afzender;
    twoje/twojego/twoj/panstwa/pana/pani konto/konta/skrzynka/abonament; twoja skrzynka; konto nadawcze;
    ваш/вашего аккаунт/аккаунта/ящик/ящика/тариф; ваш почтовый ящик; ваша/вашей учетная/учетной запись/записи;
    ваша подписка; ваш акаунт/тариф; ваш обліковий запис; вашого облікового запису; ваша скринька;
    ваша поштова скринька; вашият акаунт/профил/потребител; вашата кутия; вашата пощенска кутия;
    vas/vaseho ucet/uctu; vase/vasa schranka/konto; vas/vaseg nalog/racun/naloga/racuna; vase sanduce;
    vas predal; ваш налог; ваше сандуче; вашата сметка;
    ditt/din/dit/jeres/ert/deres konto/kontot/kontoen/postkasse/mailkonto/abonnement; din brevlada/postkasse;
    konto/kontot/kontoen som skickade/skickar/sendte/sender; kontoen din; kontoen der sendte; avsandarkonto;
    avsandarkontot; afsenderkonto; afsenderkontoen; avsenderkonto; avsenderkontoen;
    tilisi; tilinne; kayttajatilisi; hesabiniz; hesabinizin; posta kutunuz;
    on fiokja/postafiokja; fiokod; contul dvs/dumneavoastra/tau; casuta dvs/ta;
    귀하의 계정/계정이/계정은/메일함/메일함이; 당신의 계정/계정이/계정은; 고객님의 계정/계정이/계정은;
    tai khoan cua ban; hop thu cua ban; λογαριασμος σας;
    您的账户; 您的账号; 您的帐户; 您的帐号; 您的帳號; 您的帳戶; 你的账户; 你的账号;
    你的帐户; 你的帐号; 你的帳號; あなたのアカウント; お客様のアカウント
    """,
)

NAMELESS = Pattern(
    C.INVALID_RECIPIENT,
    "nothing of that name exists, in other languages; not counted if a server or a record is named",
    """
    existiert nicht; n'existe pas/plus; no existe; no encontrado/encontrada; non esiste; sconosciuto; inesistente;
    nao existe; nao encontrado/encontrada; desconhecido; bestaat niet; nie istnieje; nie znaleziono; nieistniejacy;
    nie odnaleziono/odnaleziony; nie zostal/zostala znaleziony/znaleziona; не существует; нет такого; такого … нет;
    несуществующий; neexistuje; neexistujici/neexistujuca; няма такъв/такава
    """,
)

SENDER_ADDRESS = Pattern(
    C.POLICY_REJECTION,
    "the sender's address",
    """
    SENDER REFUSED; SENDER … unknown; SENDER … not exist; SENDER … not found; SENDER … rejected; sender verify;
    sender verification; sender callout; sender address; sender domain; senders domain; senders address;
    senders system; domain of sender; domain of the sender; domain of mail from;
    invalid/bad/unknown/blocked/fake/forged/bogus/illegal/null/empty/missing sender/senders;
    unauthorized/unverified/unauthenticated/denied/rejected/nonexistent sender/senders; non existent sender;
    bad/bogus/invalid/illegal/empty/forged/unacceptable mail from; bad/invalid from; mail from domain;
    mailfrom domain; mail from … domain; mail from your address; mail from your domain; from your domain;
    from header; from address; from field; no valid from; address in from; addresses in from;
    valid address in from; domain in from; domain used in from; return path; return address; sending user;
    sender account; sender mailbox; senders account; senders mailbox; you are sending from; youre sending from;
    not accept mail/mails/messages from; verification failed for; callout verification; callback setup;
    callback verification; unverifyable/unverifiable sending; unable to verify sender; verify sender; verify your;
    sender verified; dead domain; sender must; senders must; domain must resolve; must resolve; domain must exist;
    real domain name required; domain name required; badmailfrom; envelope sender; envelope from;
    null reverse path; originating address; not owner of; not owned by; send as; sendasdenied; sender rewrite;
    sender flagged; sender mx; sender has null mx; sender address has null mx; sender not; senders not;
    deny/denies/denied/refuse/refuses/refused/reject/rejects/rejected/block/blocks/blocked the sender/senders;
    your email address; your address; your sender; you are not allowed/permitted/authorized;
    youre not allowed/permitted/authorized; not allowed to use; not belong to you; domain may not exist;
    dns check failed; sender … no such; mailbox/account of sender
    """,
)
ABOUT_SENDER = (SENDING_LIMITS, SENDING_ACCOUNT, SENDER_ADDRESS)
"""Patterns whose words resemble those about a recipient. A condemning pattern beside them means the sender."""

UNNAMED_RECIPIENT = Pattern(
    C.POLICY_REJECTION,
    "an answer to the connection, HELO or MAIL FROM: no recipient had been named yet",
    """
    in reply to mail from; in reply to helo; in reply to ehlo; after mail from; after helo; after ehlo;
    after initial connection; after connecting; refused to talk to me; while performing the helo;
    while performing the ehlo; did not like our mail from; did not like our helo; did not like our ehlo
    """,
    general=True,
)
"""Beside this pattern, no pattern of `ADDRESS_INVALID` counts: the server had not yet been given the recipient."""

RECIPIENT_DENIED = Pattern(
    C.INVALID_RECIPIENT,
    "no such mailbox, as Microsoft says it beside 5.4.1",
    """
    recipient address rejected access denied
    """,
)
"""The pattern that counts only beside `RECIPIENT_DENIED_CODE`: other servers write these words for a policy."""

RECIPIENT_DENIED_CODE = "5.4.1"

BARE_REFUSAL = Pattern(
    C.POLICY_REJECTION,
    "a refusal without a reason, which says less than any enhanced code",
    """
    rejected; refused; denied; declined; reject; rejects; declines; not accepted; not accept; unable to accept;
    no permission; not permit; not allow; not approved; disallow; block; delivery not; not trusted
    """,
    general=True,
)
"""The pattern that counts only if no enhanced code says more."""

PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        C.TRANSIENT_FAILURE,
        "greylisting: the server asks for another attempt",
        """
        greylist; greylisted; greylisting; grey/gray listed/listing; graylist; graylisted; graylisting;
        come back later; internal resources are temporarily; triplet; wait … before retrying; please wait … try again;
        灰名单; グレイリスト
        """,
    ),
    SENDING_LIMITS,
    Pattern(
        C.POLICY_REJECTION,
        "who may write to the recipient",
        """
        resolver.rst.notauthorized; restrictedtorecipientspermission; allowed/known/approved/blocked/safe senders;
        list of senders; senders only; customer block list; bypass list; blocked by the recipient;
        blocked by the user; blocked by sender; rejected by recipient/recipients/user; refused by recipient;
        blocked you; blocked messages from; blocked your address; accept/accepts email from;
        accept/accepts messages/posts from; only accepting mail from; receive mail from; not … whitelist;
        not whitelisted; member of the list; non member/members; nonmember; members only; subscribers only;
        only subscribers; subscribers can post; not subscribed; closed mailing list; moderated;
        restricted/private list; not allowed to post/write/mail; not permitted to post; tenant allow block list;
        permission to send to; not accepting mail from; delivery restriction/restrictions;
        not have permission/permissions; previously bounced; envelope blocked; manually blocked; known contacts;
        not in … address book; challenge response; nur mitglieder; liste fermee; lista cerrada; lista chiusa;
        拒收名单; 拒绝接收; gateway user; registered users only; registered senders; not on … list; permitted senders;
        authorised senders; authorized senders; restricted recipient; restricted to recipients; inbounds disabled;
        only members; list closed; closed list; internal mail/mails/messages/senders/use/users only;
        external/outside senders/mail/mails/messages not; mapiexceptionnotauthorized;
        organizational/organization settings; recipients rules;
        closed group
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "authentication of the sender: DMARC, DKIM, SPF, reverse DNS, TLS",
        """
        dmarc; dmarcrejection; dkim; domainkeys; domain keys; spf; sender policy framework; senderid; sender id;
        unauthenticated; not authenticated; not authenticate; smtp authentication; smtp auth;
        authentication/authentification/auth required/needed/requise/requerida/erforderlich/obrigatoria/richiesta;
        authentication failure/failed/checks/mechanism/credentials/unsuccessful;
        without/requires/required authentication; proper/incorrect/pass/failed authentication; auth first;
        resolver.rst.authrequired; sendernotauthenticatedformailbox; reverse dns; rdns; ptr; no reverse;
        reverse lookup/resolution/name/mapping/record; hostname lookup; spoof; spoofed; spoofing; impersonation;
        impersonate; starttls; tls/ssl required; requires tls; tls connection/version; encryption required/needed;
        require encryption; unencrypted; certificate; mta sts; tlsa; not allowed to send; not permitted to send;
        not authorized to send; not authorised to send; your hostname; your reverse hostname; please authenticate;
        authenticate first; must authenticate; must be authenticated; authenticate with; invalid dns; bad dns;
        invalid ip; smtp mx only; xoauth; batv; prvs; bounce address tag; backscatter; unsigned dsn; third party dsns;
        not signed; no/invalid signature; signature verification; domain … mismatches; mismatches client ip;
        header sender mismatch; sender mismatch; not aligned; fcrdns; fully qualified; fqdn; credentials invalid;
        invalid credentials; anonymous clients; client not authenticated; not have permissions to send;
        permission to send as; mechanism too weak; ipv6 sending guidelines; cryptographic failure; message integrity;
        trust relationship; security features; login required; username and password; bad username or password;
        authenticated senders only; arc validation; verify/resolve hostname; no/bad/invalid hostname;
        hostname mismatch; requires encryption; encryption tls; authentication turned on; submitter failed;
        not verified sender; mail address not verified; insecure connection; secure connection required;
        outbounds disabled; anti spoofing;
        auth error/failed/failure; authentication error; helo/ehlo … not resolve
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "authentication of the sender, in other languages",
        """
        authentifizierung; anmeldung erforderlich; authentification; autenticacion; autenticarse; autenticazione;
        autenticacao; authenticatie; uwierzytelnienia; uwierzytelnianie; autoryzacja; аутентификация; авторизация;
        身份验证; 身份认证; 认证失败; 未认证; 反向解析; 送信ドメイン認証; 認証;
        автентифікація; авторизація; автентифікації; авторизації
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the sending server or the sender's domain, which has no record in the DNS",
        """
        HELO … nxdomain; nxdomain … HELO; not exist for/in HELO; not exist … helo/ehlo;
        SENDER … nxdomain; nxdomain … SENDER; SENDER … no mx; SENDER … no valid mx; SENDER … no dns;
        SENDER … no valid dns; SENDER … no mail servers; SENDER … empty mx; no mx … SENDER; no valid mx … SENDER;
        no dns … SENDER; no valid dns … SENDER; no mail servers … SENDER; empty mx … SENDER;
        mx record/records … SENDER … empty; 服务器不存在; 伺服器不存在; 主机不存在; 记录不存在; 記錄不存在;
        找不到服务器; 找不到主机;
        找不到dns; 找不到 dns; サーバーが存在しま; サーバーが見つかり; ホストが存在しま; ホストが見つかり;
        レコードが存在しま;
        レコードが見つかり
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the rules and the credentials of a user, which are no recipient",
        """
        RECIPIENT agent/agents/credential/credentials/certificate/certificates/password/passwords/token;
        no matching RECIPIENT … in auth/authentication/sasl; RECIPIENT policy/policies not FOUND;
        no matching/known/such/valid RECIPIENT policy/policies/rule/rules/agent/group/permission;
        not match any RECIPIENT policy/policies/rule/rules
        """,
    ),
    SENDER_ADDRESS,
    Pattern(
        C.POLICY_REJECTION,
        "the sender's address, in other languages",
        """
        emetteur; expediteur … invalide/inconnu/refuse/rejete/bloque; adresse d'expedition; adresse expediteur;
        adresse de l'expediteur; absenderadresse; absender … unbekannt/ungultig/ungueltig/abgelehnt/gesperrt;
        absender nicht; absenderdomain; remitente … invalido/desconocido/rechazado/bloqueado/autorizado;
        direccion del remitente; mittente … non/rifiutato/sconosciuto/bloccato; indirizzo del mittente;
        remetente … invalido/desconhecido/rejeitado/bloqueado/autorizado; endereco do remetente;
        afzender … onbekend/ongeldig/geweigerd/geblokkeerd; adres van de afzender; nadawca … nieznany/odrzucony;
        adres nadawcy; отправителя; отправитель; 发件人; 發件人; 寄件人; 寄件者; 发信人; 发信地址; 送信者; 差出人;
        送信元;
        adresse/domain des absenders; absender/absenders … existiert/gefunden; nie znaleziono nadawcy;
        nadawca … nie; konto/domena/domeny nadawcy; відправник; відправника; odesilatel; odesilatele; odosielatel;
        odosielatela; posiljalac; posiljaoca; posiljatelj; posiljatelja; пошиљалац; пошиљаоца; подател; подателя;
        подателят; изпращач; изпращача; изпращачът;
        absender … berechtigt/erlaubt/zugelassen/autorisiert; expediteur … autorise/interdit;
        mittente … autorizzato/consentito;
        avsandare; avsandaren; avsandarens; avsandaradress; avsandaradressen; avsandardoman; avsandardomanen;
        afsender;
        afsenderen; afsenderens; afsenderadressen; afsenderdomæne; afsenderdomænet; avsender; avsenderen; avsenderens;
        avsenderadressen; lahettaja; lahettajan; lahettajaa; lahettajaosoite; gonderen; gonderenin; gonderici;
        gondericinin; felado; feladoja; feladot; expeditor; expeditorul; expeditorului; 발신자; 발신자를; 발신자의;
        보낸 사람; 발신 도메인;
        nguoi gui; αποστολεα; αποστολεας;
        remitente no; remetente nao; expediteur … introuvable/n'existe; mittente … trovato;
        del remitente; do remetente; del mittente; de l'expediteur; van de afzender; domena nadawcza;
        remitente/remetente inexistente; mittente inesistente;
        expediteur inexistant; dominio remitente/remetente/mittente; domaine expediteur/emetteur; afzenderdomein;
        afzender bestaat; kuldo; kuldoje; kuldojenek; kuldonek; kuldot; 발신자가; 발신자는;
        발신인; 발신인이; 발신 도메인이/도메인은/도메인을/도메인의; 송신자; 송신자가; 송신자의; 보낸 사람이/사람의
        """,
    ),
    Pattern(
        C.MAILBOX_FULL,
        "the mailbox is full",
        """
        mailbox/inbox/mailfolder/maildir/mailstore/maildrop full; mailbox/inbox/account/user too full;
        mailbox for user is full; mailbox … full; mail box is full; full mailbox/inbox; account full; user is full;
        mailbox store full; mailboxfull; mailbox size exceeded; mailbox size limit; mailbox size exceeds; over quota;
        overquota; overquotatemp; overquotaperm; over its/their/his/allowed/mail/storage/disk/allocated quota;
        over the allowed quota; user over … quota; quota exceeded/full/reached/violation/overflow/overdrawn/used;
        quota limit/usage/limits/size exceeded/reached; quota … exceeded; not enough quota; insufficient quota;
        overdrawn … quota; exceeded/exceed/exceeds/exceeding/reached QUOTA;
        exceeded/exceed/exceeds/exceeding its/their/his/your/mailbox/allowed/maximum/allocated/mail QUOTA;
        mailbox exceeded/exceeds; mailbox … exceeded/exceeds; exceed/exceeds/exceeded mailbox;
        exceed/exceeds/exceeded … mailbox size; exceed/exceeds/exceeded maximum allowed storage; exceeds allowed size;
        user exceeded; recipient exceeded; mailbox has reached; mailbox limit exceeded; mailbox … limit exceeded;
        mailbox at limit; mailbox over limit; mailbox over … limit; limit of mailbox; maximum mailbox size;
        maximum storage; overlimit; over flow; overflow; capacity exceeded; exceeded/exceeds … capacity;
        out of storage; out of space; out of disk space; not have enough space/storage; not enough space/storage;
        not enough disk space; no more space; no space left in mailbox; no space left for; no space available;
        insufficient mailbox; insufficient storage in; lack of space; no room; no storage; recipient storage full;
        storage full; storage … full; storage allocation exceeded; storage limit exceeded; account storage limit;
        disk space limit; space … used up; used up … space; exhausted allowed storage space; quotaexceededexception;
        quotaexceeded; too many messages on the server; too many messages in; too many mails in; too much mail;
        diskspace quota; storage quota; mailbox quota; disk quota; mail quota; blocks/block/inode limit exceeded;
        MAILBOX at its/storage/quota/size/message limit;
        MAILBOX at its storage/quota/size/message limit; storage limit; recipient … insufficient storage/space;
        no more room; overfull;
        mailbox too large;
        reached its/their/his/maximum/allowed QUOTA
        """,
    ),
    Pattern(
        C.MAILBOX_FULL,
        "the mailbox is full, in other languages",
        """
        postfach/mailbox/briefkasten … voll; postfach … uberfullt/ueberfuellt/uberschritten/ueberschritten; uberfullt;
        ueberfuellt; speichervolumen; speicherplatz … uberschritten/ueberschritten/erschopft/erschoepft/voll/belegt;
        kein speicherplatz; speicherlimit; postfachgrosse;
        kontingent … erschopft/erschoepft/uberschritten/ueberschritten;
        quota … uberschritten/ueberschritten/depasse/depassee/excedida/excedido/superata/superada/ultrapassada;
        boite/boites/messagerie/bal … pleine/saturee/remplie; quota depasse; quota atteint;
        espace … insuffisant/depasse; espace disque; capacite de la boite; compte sature;
        buzon/casilla/bandeja/cuenta … lleno/llena/saturado/saturada; espacio … agotado/insuficiente; sin espacio;
        cuota … excedida/superada/sobrepasada/excedido/agotada; supera/excede/excedio la cuota; excedido … cuota;
        casella/mailbox … piena/pieno/esaurita; casella … esaurito; quota … esaurita; spazio … esaurito/insufficiente;
        caixa/conta … cheia/lotada/excedeu; cota/quota … esgotada/excedeu/ultrapassou/excedida; sem espaco;
        espaco … insuficiente/esgotado; mailbox/postvak/postbus/inbox … vol; quotum … overschreden;
        quota overschreden; opslaglimiet; opslagruimte; skrzynka/konto … pelna/pelne/przepelniona/przepelnione;
        przepelniona skrzynka; brak miejsca; przekroczono … limit/pojemnosc/quota; limit … przekroczony;
        przekroczony … limit; przekroczono … limitu; pojemnosc skrzynki; quota przekroczona;
        ящик … переполнен/полон/заполнен; переполнен; превышена … квота; квота … превышена/исчерпана;
        превышен … лимит/размер/объем; недостаточно … места; нет места; メールボックス … 容量; 容量オーバー; 容量を超;
        容量が; 一杯; いっぱい; 満杯; 空き容量; 邮箱已满; 郵箱已滿; 信箱已满; 信箱已滿; 邮箱满; 信箱滿; 空间不足;
        空間不足; 空间已满; 空間已滿; 容量已满; 容量已滿; 容量不足; 超出配额; 配额; 超过容量; 超出容量; 爆满;
        скринька/скриньку/ящик … переповнена/переповнено/переповнений/заповнена/заповнено/повна; переповнена;
        переповнено; перевищено … квоту/ліміт/розмір; квота … перевищена/вичерпана; квоту … перевищено;
        недостатньо … місця; немає місця; schranka … plna/preplnena/zaplnena; prekrocena kvota; kvota … prekrocena;
        nedostatek mista; nedostatok miesta; кутия/кутията … пълна/препълнена; sanduce/sanducic … pun/puno/prepun;
        сандуче … пуно; predal … poln; prekoracena kvota;
        zuviele/viele mails/nachrichten auf/im; brevladan/brevlada/inkorgen/inkorg … full;
        indbakken/indbakke/postkassen/postkasse/innboksen/innboks … fuld/fyldt/full; postilaatikko … taynna;
        kutusu … dolu/doldu; kota/kotasi … asti/asildi/doldu; postafiok … megtelt/tele; casuta … plina;
        메일함이/사서함이 가득;
        용량 초과; 용량을 초과; 할당량 초과; 할당량을 초과; hop thu … day;
        espace/stockage … sature/plein/atteint; speicher … voll/erschopft/belegt;
        almacenamiento … lleno/agotado/insuficiente;
        depassement de quota; casilla/cuenta/buzon … excedido/excedida/sobrepasado; contingent … erschopft
        """,
    ),
    # After the full mailboxes, for which it does not matter who is addressed.
    SENDING_ACCOUNT,
    Pattern(
        C.INVALID_DOMAIN,
        "a name server that answered that the domain does not exist",
        """
        nxdomain; smtpsend.dns.nonexistentdomain; dns domain … not exist
        """,
    ),
    Pattern(
        C.DNS_FAILURE,
        "a name server that did not answer",
        """
        dns failure/error/timeout/lookup/query/problem/server/resolution; dns temporarily; soft dns; temporary dns;
        servfail; no dns response; host not found try again; temporary lookup failure; lookup failed temporarily;
        lookup failure/timeout; lookup timed out; name server reply/timeout/failure/error; name server timed out;
        no answer from name server; nameserver … timeout/failure/error; name resolution; temporary domain failure;
        temporarily unable to look up; temporarily unable to resolve; unable to resolve; not resolve;
        failed to resolve; unable to look up host; cname lookup; mx lookup; domain lookup; resolver error;
        no relevant answers; dns soft; dns type … servfail
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the format of the message",
        """
        rfc compliant; rfc violation; rfcmessagenoncompliant; not comply with rfc;
        duplicate/duplicated/multiple/missing/invalid/illegal header/headers/date;
        bad/malformed/bogus/unacceptable header/headers; duplicate/duplicated/missing/invalid/no message id;
        multiple/missing from; multiple addresses in from; too many headers; header error; header too long;
        headers too long; header line; malformed; invalid/illegal character/characters; non printable;
        control characters; nul characters; non ascii; improperly/incorrectly formatted; bare lf/newline/cr;
        line too long; lines too long; line limit; line length; line exceeds;
        mime header/headers/error/complexity/nesting/type; invalid/bad mime; too many mime; nested too deep;
        media error; media not supported; conversion required; conversion not; no/empty/missing/blank subject;
        empty message; undisclosed recipients; charset; recursive cname; invalid content;
        cat.invalidcontent; from header missing; no from header;
        without valid; without date/subject/message; without message id
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the size or the parts of the message",
        """
        message/mail/letter/attachment/body/file too big/large/long; message … too big/large; too large;
        message/mail size; size exceeds/exceed/exceeded; exceeds size; exceeds … size; size limit; max/maximum size;
        maximum/max message/mail size; message/mail length; length exceeds; message/mail exceeds; larger than;
        bigger than; exceeds/exceeded maximum message/allowed/length/permitted; limit of bytes; bytes max;
        too many bytes; oversized; oversize; size of message; size of your message; resolver.rst.recipsizelimit;
        resolver.rst.recipientsizelimit; routing.sizelimit; header size; attachment; attachments; attached file/files;
        filename; bad filename; file type/types/extension/name; blocked/dangerous/unsafe/zip file; file not allowed;
        executable; blocked extension; potential security issue; security issue; macro; macros; password protected;
        encrypted archive/zip; too many recipients; too many addresses; number of recipients;
        banned/forbidden/prohibited/disallowed file/files/extension/extensions/attachment; executables; extension not;
        =too big; =too long
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the size or the parts of the message, in other languages",
        """
        taille … message; message trop gros/volumineux/grand/lourd; piece jointe; pieces jointes; zu gross;
        nachrichtengrosse; anhang; anhange; demasiado grande; tamano … mensaje; archivo adjunto; adjuntos;
        troppo grande; dimensioni … messaggio; allegato; allegati; muito grande; tamanho; anexo; anexos; te groot;
        bijlage; bijlagen; zbyt duza; zbyt duzy; rozmiar; zalacznik; слишком большой; размер письма; размер сообщения;
        вложение; вложения; 邮件过大; 邮件太大; 信件过大; 邮件大小; 信件大小; 附件; サイズ; 添付;
        trop volumineux/gros/lourd; zu lang; demasiado largo
        """,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "the sender's reputation",
        """
        reputation; senderscore; sender score; senderbase; unusual rate/amount/activity/volume/sending/traffic;
        unexpected volume; user complaints; spam complaints; complaint rate; many complaints; complaints about;
        suspicious activity; sending activity; spam activity; s3140; s3150; tss04; tss09; untrusted ip; spamtrap;
        spam trap; spamtraps; unfortunately messages from; unfortunately some messages from; mail flood;
        low/poor/bad score; spam rate; rate … spam; репутация; репутации; 信誉; レピュテーション
        """,
    ),
    Pattern(
        C.SPAM_CONTENT,
        "the content of the message",
        """
        spam content; likely/considered/declared/deemed/appears unsolicited; appears to be unsolicited;
        unsolicitedmessageerror; unsolicited bulk/message/mail;
        detected/identified/classified/considered/regarded as SPAM;
        marked/flagged/tagged/rejected/recognized/recognised as SPAM;
        treated/scored/categorized/rated/filtered/suspected/judged/declared/deemed as SPAM;
        declared/deemed/considered SPAM; message/mail/content as spam;
        spam detected/detection/message/messages/score/mail/filter/filters/filtering;
        spam/virus content/classification/check/scan/policy/rule/rules/level/threshold/engine/checker;
        spam … exceeded;
        spam count/points/test/probability/signature/pattern/statistics/reject/refused/phrase/url/embedded;
        looks/seems/appears/appeared/looked like SPAM; looks like it might be SPAM; appears/seems to be SPAM;
        probability of spam; suspicion of spam;
        possible/suspected/probable/likely/definite/potential/obvious/high SPAM; spam like; contains spam;
        because it is spam; blocked for spam; rejected due to spam; rejected for spam; as spam; spam or virus;
        spam is not; no spam; not want spam; not accept spam; spam … not accepted; spam … rejected; spam … refused;
        spamassassin; spamprofiler; spamfilter; spamd; dspam; bogofilter; mailmarshal; recurrent pattern; rpd;
        antispam; anti spam; anti virus; antivirus; virus; viruses; malware; trojan; worm; ransomware; eicar;
        phishing; phish; scam; fraud; fraudulent; infected; hoax; malicious; harmful; clamav; suspicious;
        prohibited/unacceptable/objectionable/inappropriate/offensive/forbidden/banned content;
        unwanted/dangerous/restricted/illegal/disallowed/undesirable/questionable/bad/unsafe content;
        content rejected/denied/refused/blocked/filter/filters/filtering;
        content restriction/restrictions/policy/scan/check/rejection; content examination/reasons/presents;
        message content; mail content; its content; nature of the content; content of message; body content;
        message/mail body; body contains; message/mail filtered;
        bad/blacklisted/blocklisted/malicious/listed/blocked url/urls/link/links/uri; url in message; url blacklist;
        url … listed; link/links in message; contains url/link/virus/unsafe/forbidden/prohibited; contained url;
        message contains … url; forbidden/banned/bad word/words; word filter; prohibited text; quarantined;
        bulk mail/mails/message; bulk.advertising; bulk advertising/precedence; advertising; advertisement;
        promotional; sales mail; newsletters; mass mailing; mail bombing; unwanted mail; chain letter; porn;
        pornography; uribl; uribl.com; surbl; surbl.org; ph01; dt spm; mail score; hash filter; bayes; bayesian;
        message scored; scored points; reject id;
        viral
        """,
    ),
    Pattern(
        C.SPAM_CONTENT,
        "the content of the message, in other languages",
        """
        spamverdacht; spamerkennung; als spam; spam erkannt; als unerwunscht; virenverdacht; viren;
        unerwunschter inhalt; comme spam; comme etant du spam; comme indesirable;
        contenu … indesirable/refuse/rejete/interdit; mail rejete; message rejete; message indesirable;
        courrier indesirable; pourriel; contenu … message; como spam; correo no deseado; correo basura;
        contenido … mensaje/rechazado/prohibido; come spam; posta indesiderata; contenuto … messaggio/rifiutato;
        indesiderata; como lixo; conteudo … mensagem/rejeitado/bloqueado; lixo eletronico; als ongewenst; ongewenste;
        inhoud … geweigerd; antyspamowy; antyspamowe; jako spam; tresc … wiadomosci; спам; спама; спамом; вирус;
        вирусы; содержимое; нежелательное; нежелательная; 垃圾邮件; 垃圾郵件; 垃圾信; 病毒; 邮件内容; 敏感; 反垃圾;
        迷惑メール; スパム; ウイルス; ウィルス
        """,
    ),
    Pattern(
        C.ROUTING_ERROR,
        "a server that is not the recipient's, or a loop",
        """
        routing error; relay access; relaying/relay denied/rejected/forbidden/prohibited/disabled; relay attempt;
        relaying … denied; relay … denied; relay/relaying not permitted/allowed/authorized/supported/accepted/enabled;
        not relay; unable to relay; not permitted to relay; not allowed to relay; not authorized to relay;
        open relay not; refuse to relay; denies relay; relay operation; as a relay; relay mail;
        not support mail relay; no relay/relaying; not allow relay/relaying; rcpthosts;
        not local host/domain/recipient; non local recipient/domain/host/mail/user; verification failed for non local;
        local user/users only; domain not in my list; domain not local/hosted/handled/served; not host domain;
        not handle mail for; not accept mail for; not a gateway; not our domain; not responsible for;
        not configured for; not a mail server for; not the mail server for; not for this server; not for this domain;
        not an mx; not mx for; host not mx; recipient not in route; no route found; unable to route;
        incorrect hostname; wrong server; wrong mail server; mail loop; mailloop; mail loops; loops back;
        loops back to; mx problem; smtpsend.dns.mxloopback; too many hops; hop count; exceeded hops; hops exceeded;
        maximum hops; routing loop; transport loop; forwarding loop; message loop; looping; loop detected;
        message depth exceeded; points to local host; too many received; misconfigured forwarding; forwarding failed;
        list expansion; incorrectly configured; weiterleitung … schleife; relais refuse; relais interdit;
        reenvio no permitido; retransmision; inoltro non; пересылка; 中继; 中繼; 转发; 中継; insecure mail relay;
        not an open relay; not provisioned; journaling; mx points to; no longer hosted here; relaying mail;
        third party relay; not relaying; gateway to;
        denied relay; allowed/permitted to be relayed; mail loop suspected
        """,
    ),
    Pattern(
        C.INACTIVE_MAILBOX,
        "the mailbox is closed because nobody uses it",
        """
        MAILBOX … inactivity; inactivity … MAILBOX; over inactivity; due to extended inactivity
        """,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "block lists, and what the sender's server did",
        """
        spam block; spamhaus; spamhauss; spamhaus.org; spamcop; spamcop.net; barracudacentral; barracudacentral.org;
        sorbs; sorbs.net; abuseat.org; uceprotect; uceprotect.net; mailspike.net; mailspike.org; invaluement;
        invaluement.com; dnsbl; dnsbls; dnswl; manitu.net; nixspam; backscatterer; psbl; spfbl; rbl; rbls; xbl; sbl;
        pbl; cbl; zen; drbl; black list; blacklist; blacklisted; black listed; blacklists; blacklisting; blackholed;
        realtime blackhole; block list; blocklist; blocklists; blocklisted; blocklisting; block listed; denylist;
        denylisted; deny list; on our list; listed by; listed as abusive/spammer/spam; ip/host/server … listed;
        address listed; ip found; because ip is in; banned; client host … blocked; ip … blocked; blocked … ip;
        ip/server/host/domain/network/mta blocked; access/connection … blocked; blocked using; blocked see;
        blocked because/due; you have been blocked; youve been blocked;
        blocked for abuse/spam/spamming/sending/too/excessive/violation/violations/policy/security;
        ip rejected/refused/denied/forbidden; ip address rejected/refused/denied; reject ip;
        ip not allowed/accepted/permitted; ip temporarily; network … block list; suspected spam ip;
        suspicious/unknown/bad/dynamic ip; dynamic ips/address/host/pool; dynamically assigned; dial up; dialup;
        residential; dhcp; adsl; dsl; generic hostname; open relay; open proxy; bad neighborhood; spammer; spammers;
        spammy; spamming; sending/sends/sent spam; source of spam; spam source/sources; spam sender; spam relay;
        spam ips; too many spam/spams; abusive; abuse detected; due to abuse; for abuse; compromised; hijacked;
        infected host; zombie; zombied; botnet; honeypot; harvest; harvesting; harvest attack; dictionary attack;
        directory harvest; bounce attacks; mail bomb; not accepted from; not accept connections;
        connections not accepted; mail from your ip; from your ip; your network; your isp; traffic not accepted;
        not allowed to connect; access refused; server access … forbidden; no access from;
        not authorized … directly to our servers; frequency limited; connection denied;
        too many invalid/unknown/failed/bad/nonexistent recipients/users; invalid recipients from;
        excessive unknown recipients; excessive userid unknowns; excessive invalid; bad recipients;
        recipients unknown; too many bounces; too many errors from; too many messages/mails from; too many same;
        too many unwanted; unwanted messages; sent too many; sent to too many; received too many;
        excessive/high volume; bulk/poor/untrusted sender; ip is hangup; mi spb; rp trc; dt rbl; hl rep; vs99; vs1;
        permanently deferred; problem occurred ask your postmaster; not welcome; delist; delisting; unblock;
        removal request; ipcheck; hostile; dsbl; dsbl.org; njabl.org; ordb.org; spamrats.com; hostkarma;
        junkemailfilter.com; abusix; abusix.zone; senderbase.org; cloudmark.com; trendmicro.com;
        not accepting connections;
        no valid recipients from
        """,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "block lists, in other languages",
        """
        ip bloquee; adresse ip; ip adresse; direccion ip; indirizzo ip; endereco ip; lista negra; lista nera;
        liste noire; schwarze liste; auf … blacklist; lista de bloqueo; lista de bloqueio; czarna lista;
        czarnej liscie; trop de spam; черный список; черном списке; ip адрес; 黑名单; 黑名單; 发信ip; 频率限制; 频率;
        ブラックリスト; 接続元;
        listas negras; lista de bloqueos/bloqueios/bloqueados; lista de rechazo; lista/liste di blocco; liste nere;
        listes noires; liste de blocage/rejet; sperrliste; sperrlisten; blockliste; blocklisten; negativliste;
        schwarzen liste; ip/server gesperrt/blockiert; ip/server wurde/wird/ist gesperrt/blockiert; zwarte lijst;
        blokkeerlijst; blokkeringslijst; ip geblokkeerd; czarna liste; czarnych listach; adres/adresu ip;
        lista/liscie/listach blokad/blokowanych/zablokowanych; черного списка; черных списках; черные списки;
        список/списке/списка блокировки/блокировок/заблокированных; стоп лист/листе; блок лист/листе; блэклист;
        блеклист; чорний список; чорному/чорного списку; чорних списках; ip адреса/адресу/адресою;
        список/списку блокування/заблокованих; ваш сервер … заблокован/заблокирован; ваш сервер заблоковано;
        чорны спіс; чорным спісе; черен списък; черния списък; черни списъци; ip adresa/adresu/adrese;
        cerna/cerne/cernou listina/listine/listinu; cerny/cernem seznam/seznamu; cierny/ciernom zoznam/zozname;
        cierna/ciernej/ciernu listina/listine/listinu; crna/crnoj/crne/crnu lista/listi/liste/listu;
        crni/crnem seznam/seznamu; црна/црној листа/листи; svartlistad; svartlistat; svart lista; sparrlista;
        sparrlistan; sortliste; sortlistet; svarteliste; svartelistet; svartliste; svartlistet; blokeringsliste;
        mustalla listalla; estolista; estolistalla; feketelista; feketelistan; lista neagra; lista de blocare;
        kara liste; kara listede; 블랙리스트; 블랙리스트에; 차단 목록; 차단 목록에; 차단목록; 차단목록에; 阻止列表;
        封锁列表; 封鎖名單; 屏蔽列表; ブロックリスト; 拒否リスト
        """,
    ),
    Pattern(
        C.PROTOCOL_ERROR,
        "a greeting is missing, or an address is malformed",
        """
        bad address syntax; address syntax; helo/ehlo/hello first; send/say/need/expected helo/ehlo/hello
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the sender, in other words",
        """
        your domain; your ip; your ip address; your server; your host; your mail server; your smtp; your mailserver;
        your system; your provider; your mta; your company; your organization;
        sending domain/ip/ips/server/host/mta/system/address; sender ip; senders ip; senders server;
        senders mail server; senders host; client host; client host rejected; client ip/address/domain/rejected;
        remote ip; connecting host/ip; mail servers ip; smtp server must; server must; must greet; helo; ehlo;
        ip for sending; not allowed access; secumail; host network; unauthorized/unauthorised host/ip/server;
        votre domaine; votre serveur; ihre domain; ihr server; su dominio; su servidor; vostro dominio; tuo dominio;
        seu dominio; seu servidor; uw domein; uw server; ваш домен; ваш сервер; вашего
        """,
    ),
    Pattern(
        C.TRANSIENT_FAILURE,
        "a mailbox that is temporarily unavailable or receives too much at once",
        """
        temporarily disabled/suspended/locked/inactive/blocked/deactivated/closed/unavailable/rejected/over;
        disabled temporarily; temporary locked/disabled; temporarily not available; temporarily on hold;
        mailbox/user/account/recipient temporarily; mailbox/account/user/recipient busy; mailbox in use;
        mailbox server too busy; too quickly; at a rate; receive/receiving limit/limits; receiving too; receives too;
        recipient thread limit; rate limited recipient; rate limit … recipient; ratelimit; unverified address;
        message threshold; message/messages/mails per connection; per connection; per session; out of memory;
        out of allow; under maintenance; under migration;
        MAILBOX on hold for/pending
        """,
    ),
    Pattern(
        C.INACTIVE_MAILBOX,
        "the mailbox is closed",
        """
        MAILBOX CLOSED; MAILBOX permanently/currently/administratively CLOSED; MAILBOX … disabled;
        MAILBOX … deactivated; MAILBOX … suspended; MAILBOX … not active; MAILBOX … inactive;
        MAILBOX … no longer valid; mailbox … closed/discontinued;
        disabled/deactivated/inactive/suspended/closed MAILBOX;
        expired/frozen/terminated/archived/abandoned/dormant MAILBOX; inactive/disabled email address/account;
        accountdisabledexception; deactivated; recipient suspend; mailbox/account/recipient/user blocked;
        currently suspended; permanently suspended/disabled/closed; disableduser; inactiveuser; no longer in use;
        no longer accepts mail; no longer accepting mail; no longer active; no longer valid; no longer works;
        no longer work; no longer employed; no longer with; no longer at; no longer available; no longer receives;
        no longer monitored; no longer in service; no longer used; no longer exists; no longer on;
        mailbox/account/user/recipient/address is no longer; has left the company; has left the organization;
        left our company; discontinued; user or domain is disabled; user … deleted;
        mailbox/user/recipient/account/address has moved; no forwarding address; been replaced by; address changed;
        address retired; not used for; user account not activated;
        not accepting any mail; not accept any mail; mailbox disabled for; mailbox owner has changed;
        domain owner has changed; former employee; not monitored; decommissioned; not enabled for mail;
        not mail enabled; =suspended; recipient not receiving; not active user;
        MAILBOX … not in service; MAILBOX blocked for receiving; =deleted; =disabled;
        MAILBOX on hold; MAILBOX shut down; MAILBOX shutdown; MAILBOX … been shut down
        """,
    ),
    Pattern(
        C.INACTIVE_MAILBOX,
        "the mailbox is closed, in other languages",
        """
        konto/postfach/mailbox/account/benutzer … deaktiviert/gesperrt/inaktiv;
        konto/postfach/mailbox/account/benutzer … geschlossen/stillgelegt/geloscht/abgelaufen;
        nicht mehr aktiv/gultig/gueltig/erreichbar/verwendet/genutzt/vorhanden; stillgelegt;
        compte/boite/utilisateur/adresse/mailbox … desactive/desactivee/suspendu/suspendue;
        compte/boite/utilisateur/adresse/mailbox … ferme/fermee/inactif/inactive;
        compte/boite/utilisateur/adresse … archivee/archive/bloque/bloquee/resilie/supprime/supprimee/cloture;
        n'est plus active/valide/utilisee/utilise/actif;
        cuenta/usuario/buzon/casilla/direccion/correo … desactivado/desactivada/suspendido;
        cuenta/usuario/buzon/casilla/direccion/correo … suspendida/inactivo/inactiva;
        cuenta/usuario/buzon/casilla … deshabilitado/deshabilitada/cancelada/bloqueada;
        cuenta/usuario/buzon/casilla … bloqueado/cerrada/eliminada/eliminado; ya no esta activa; ya no es valida;
        ya no existe; ya no se utiliza; conta/usuario/caixa/endereco … desativada/desativado/suspensa/suspenso;
        conta/usuario/caixa/endereco … inativa/inativo/bloqueada/bloqueado;
        conta/usuario/caixa … cancelada/cancelado/encerrada/excluida/desabilitada; nao esta mais ativo;
        casella/account/utente/indirizzo/mailbox … disattivata/disattivato/sospesa;
        casella/account/utente/indirizzo/mailbox … sospeso/inattiva/inattivo/disabilitata;
        casella/account/utente/indirizzo … disabilitato/chiusa/chiuso/bloccata;
        casella/account/utente/indirizzo … bloccato/cessata/cessato/scaduta/scaduto; inibita alla ricezione;
        non piu attiva; non piu attivo; non e piu attiva; non e piu valido; non attiva; non attivo;
        account/mailbox/gebruiker/postvak/adres … gedeactiveerd/geblokkeerd/opgeheven;
        account/mailbox/gebruiker/postvak/adres … geschorst/inactief/uitgeschakeld; niet meer actief;
        niet meer in gebruik; niet langer actief; bestaat niet meer;
        konto/skrzynka/uzytkownik/adres … zablokowane/zablokowana/zablokowany;
        konto/skrzynka/uzytkownik/adres … nieaktywne/nieaktywna/nieaktywny/zawieszone;
        konto/skrzynka … zawieszona/usuniete/usunieta/wylaczone/wylaczona/wygaslo; konto zamkniete;
        ящик/аккаунт/пользователь/адрес … заблокирован/отключен/удален/неактивен/закрыт/приостановлен;
        учетная запись … заблокирована/отключена/удалена/неактивна; больше не используется; неактивен;
        アカウント … 無効; アカウント … 停止; 利用停止; 使用停止; 無効になって; 無効な状態; 現在使われて;
        使用されておりません; 利用されておりません; 解約; 退会; 閉鎖; 停用; 被冻结; 已冻结; 凍結; 已禁用; 被禁用;
        已注销; 已锁定; 被锁定; 已过期; 未激活; 已关闭; 停權; 已失效;
        скринька/адреса/адресу/скриньку … заблокована/заблоковано/видалена/видалено/неактивна/вимкнена/закрита;
        користувач/користувача/ящик/акаунт … заблокований/заблоковано/видалений/видалено/неактивний/деактивовано;
        обліковий запис … заблоковано/вимкнено/видалено/деактивовано/призупинено/неактивний;
        більше не використовується; schranka/adresa … zablokovana/zrusena/deaktivovana/neaktivni/neaktivna/smazana;
        ucet/uzivatel/pouzivatel … zablokovan/zablokovany/zrusen/zruseny/smazan/zmazany;
        ucet/uzivatel/pouzivatel … deaktivovan/deaktivovany/neaktivni/neaktivny;
        konto … zablokovane/zrusene/deaktivovane/neaktivne;
        nalog/korisnik/racun … deaktiviran/blokiran/obrisan/ugasen;
        кутията/кутия … деактивирана/блокирана/закрита/изтрита;
        профилът/акаунтът/потребителят … деактивиран/блокиран/закрит/изтрит;
        cuenta/usuario/buzon/casilla/direccion … expirado/expirada/caducado/caducada/vencido/vencida;
        conta/usuario/caixa … expirada/expirado/expirou;
        kontot/anvandaren/adressen/brevladan … inaktiverat/inaktiverad/avaktiverat/avstangt/avstangd/sparrat/sparrad;
        konto/brukeren/brugeren/bruker/bruger/postkassen … deaktivert/deaktiveret/sperret/spaerret/lukket/stengt;
        tili/kayttaja … suljettu/poistettu; hesap/hesabi … kapatildi/kapali/askiya; hesap devre disi; 비활성화;
        휴면 계정; 정지된 계정;
        benutzerkonto/nutzerkonto/mailkonto/kundenkonto … deaktiviert/gesperrt/geschlossen/geloscht/abgelaufen
        """,
    ),
    Pattern(
        C.INVALID_DOMAIN,
        "no such domain, or it accepts no mail",
        """
        invalid/unknown/nonexistent/illegal/inexistent/unresolvable/unregistered/bad domain; non existent domain;
        domain … not exist; domain … not found; domain … unknown; domain … expired; domain UNKNOWN; domain suspended;
        domain not registered/valid/exists/known/resolved; domain name not found/exist; bad domain name;
        no such domain; no such mail domain; unknown mail domain; unrouteable/unroutable mail/domain; nxdomain;
        smtpsend.dns.nonexistentdomain; host/hostname unknown; unknown/bad/illegal/invalid/nonexistent host;
        host not found; host … not exist; no such host; illegal host domain; host or domain name not found; null mx;
        nullmx; not find any host; unable to find any host; not find host; not find … domain; unable to find … domain;
        find recipient domain; not find a mail exchanger; not find mail server; point/points to non existent; no mx;
        no valid mx; no mx record/records/host; no mail exchanger/exchangers/server/servers/host; no valid mail;
        no smtp service; no mail service; no valid hosts; no hosts for; no address associated;
        no route for current request; domain/host/server not accept mail/messages; domain … not accept mail;
        domain not receive mail; mail receiving disabled; domain has no mail/mx; domain … not have mail;
        bad destination system/host; destination host unknown; no inbound mail;
        mx record/records … empty; domain … empty mx; domain … no mail servers; no mail servers for domain;
        no mail servers … recipient domain; domain … no valid dns; domain … no dns record/records
        """,
    ),
    Pattern(
        C.INVALID_DOMAIN,
        "no such domain, in other languages",
        """
        domain existiert nicht; domain … nicht gefunden; domain unbekannt; unbekannte domain;
        ungultige/ungueltige domain; domaine inconnu/inexistant/invalide/introuvable; domaine … n'existe pas;
        nom de domaine … invalide/inexistant/inconnu;
        dominio inexistente/desconocido/invalido/desconhecido/sconosciuto/inesistente; dominio … no existe;
        dominio nao existe; dominio non esiste; dominio … non trovato; dominio no encontrado; dominio nao encontrado;
        domein … bestaat niet; onbekend domein; domein niet gevonden; domena nie istnieje; nieznana domena;
        nieprawidlowa domena; домен … не существует; домен … не найден; неизвестный домен; несуществующий домен;
        域名不存在; 域名无效; 无效域名; 網域不存在; ドメイン … 存在しま; ドメイン … 見つかり; ドメイン不明;
        存在しないドメイン;
        домен … не знайдено/існує/знайдений/зареєстровано; невідомий/неіснуючий домен; домена … не найдено;
        domena neexistuje; domena … nenalezena/nenajdena/neznama; domena … nebyla/nebola nalezena/najdena;
        neznama/neexistujici/neexistujuca domena; домейн/домейнът … не съществува; непознат домейн;
        domena/domen ne postoji; domena ne obstaja; домен не постоји; nepoznata/neznana domena;
        domaine … introuvable/inconnu/inexistant; dominio … inexistente/desconocido/desconhecido/sconosciuto;
        domain … existiert … nicht; domain … unbekannt/ungultig
        """,
    ),
    RECIPIENT_DENIED,
    Pattern(
        C.INVALID_RECIPIENT,
        "no such mailbox",
        """
        RECIPIENT UNKNOWN; UNKNOWN RECIPIENT; UNKNOWN email/local/virtual/destination/or RECIPIENT;
        RECIPIENT not FOUND; RECIPIENT … not exist; RECIPIENT … not exists; RECIPIENT … not found;
        RECIPIENT … unknown; RECIPIENT … not known; RECIPIENT … not listed; RECIPIENT … not a valid;
        recipient/user/mailbox/account … invalid/nonexistent; unknown or illegal/invalid RECIPIENT;
        unknown or invalid; no such RECIPIENT; no such local RECIPIENT; no such mail/person/member/name/login/id;
        no such virtual user; no RECIPIENT found/here/named/exists/by/with/of/matching; no mailbox; no local mailbox;
        no valid recipient/recipients; no one here; no one with; nobody here; nobody by that name; there is no one;
        no person; no employee; unknown local part; unknown username; unknown customer/member/virtual;
        not a valid/known/local/registered/current/recognized RECIPIENT; not a user; not user of; not a customer;
        not our user/customer/subscriber; not local address; not local user; recipient/recipients not local;
        not have … account/mailbox; not have account; have no mailbox/account; has no mailbox;
        not find … user/recipient/mailbox; not find … address/account/alias;
        unable to find … user/recipient/mailbox/account/alias; alias user; unable to locate … user/recipient/mailbox;
        not locate … user/recipient/mailbox; not accept user; not recognize recipient/user;
        not found in ldap/directory/database/our; not in directory/database/ldap; not listed in; not present in;
        not listed on; no … in name directory; not on this server; not on this system; no records of user;
        no record of; no longer known; address … wrong; email wrong; recipient may contain; delivery userid;
        bad destination; destination mailbox address; badrcptto; rcpt … not exist; rcpt not exist;
        mailbox name not allowed; mailbox unallocated; mailbox path; unassigned address; nosuchuser;
        resolver.adr.recipnotfound; resolver.adr.recipientnotfound; resolver.adr.recipient;
        resolver.adr.exrecipnotfound; resolver.adr.exrecipientnotfound; recipientnotfound; recipnotfound; notfound;
        recipient address rejected access denied … outlook.com; recipient address rejected access denied as;
        validrcptto; recipient refuses to accept; rejected recipients; recipient not accepted; recipient denied;
        envelope recipient denied; user lookup failed; undeliverable recipient; not receiving mail at;
        reserved by rfc; email not exist; unrouteable/unroutable/unresolvable address; recipient not ok;
        badrecipientto; not email addresses; no mail box; not a mailbox; address not ok;
        not a deliverable RECIPIENT; no matching RECIPIENT; not match any RECIPIENT; no known RECIPIENT;
        not recognise recipient/user
        """,
    ),
    Pattern(
        C.INVALID_RECIPIENT,
        "no such mailbox, in other languages",
        """
        unbekannter/ungultiger/ungueltiger benutzer/empfanger/empfaenger/adresse;
        unbekannte/ungultige/unzulassiger benutzer/empfanger/empfaenger/adresse;
        benutzer/empfanger/empfaenger/adresse/empfangeradresse … unbekannt/ungultig/ungueltig;
        postfach/mailbox/nutzer/konto/adressat … unbekannt/ungultig/ungueltig;
        benutzer/empfanger/empfaenger/adresse/postfach/mailbox/nutzer/konto … existiert nicht;
        benutzer/empfanger/empfaenger/adresse … nicht gefunden/bekannt/vorhanden/vergeben;
        postfach/mailbox/nutzer/konto … nicht gefunden/bekannt/vorhanden/vergeben; unbekannte empfangeradresse;
        kein benutzer/empfanger/empfaenger/postfach; EMPFANGER … existiert nicht;
        unzustellbar; adresse … falsch;
        utilisateur/destinataire/adresse … inconnu/inconnue/invalide/inexistant/inexistante;
        compte/boite/usager/abonne … inconnu/inconnue/invalide/inexistant/inexistante;
        utilisateur/destinataire/adresse/compte/boite … introuvable/incorrecte/erronee;
        DESTINATAIRE … n'existe pas; DESTINATAIRE … n'existe plus;
        aucun utilisateur/compte; pas d'utilisateur; mauvaise adresse;
        usuario/destinatario/cuenta … desconocido/desconocida/inexistente/invalido/invalida;
        direccion/buzon/casilla/correo … desconocido/desconocida/inexistente/invalido/invalida;
        DESTINATARIO … no existe/encontrado/encontrada; no existe ARTICULO DESTINATARIO; no existe tal DESTINATARIO;
        usuario … no valido;
        utente/destinatario/indirizzo/casella/account … sconosciuto/sconosciuta/inesistente/errato;
        utente/destinatario/indirizzo/casella/account … non esiste/trovato/valido/trovata/esistente/valida;
        DESTINATARIO … non esiste; non esiste ARTICULO DESTINATARIO; destin sconosciuto;
        conta/endereco/caixa … desconhecido/desconhecida/inexistente/invalido/invalida;
        usuario/destinatario … desconhecido; DESTINATARIO … nao existe/encontrado/encontrada;
        DESTINATARIO … nao foi encontrado/encontrada/localizado/localizada; nao existe ARTICULO DESTINATARIO;
        gebruiker/ontvanger/adres/mailbox/geadresseerde … onbekend/ongeldig/bestaat;
        gebruiker/ontvanger/adres … niet gevonden; onbekende gebruiker/ontvanger; onbekend adres;
        GEBRUIKER … bestaat niet;
        ongeldig adres; ongeldige ontvanger;
        uzytkownik/adresat/odbiorca/konto/adres/skrzynka … nieznany/nieprawidlowy/nieistniejacy;
        ODBIORCA … nie istnieje; nie istnieje taki/takie/taka ODBIORCA; nie istnieje ODBIORCA;
        nie znaleziono ODBIORCA; nie znaleziono takiego ODBIORCA;
        ODBIORCA … nie znaleziono;
        nie ma takiego konta/uzytkownika/adresu; nieznany uzytkownik/adresat/odbiorca;
        nieprawidlowy adres; brak takiego uzytkownika; brak takiego konta;
        nieistniejacy/nieistniejaca/nieistniejace ODBIORCA;
        пользователь/адресат/получатель/ящик/адрес … не найден/существует/зарегистрирован;
        ПОЛУЧАТЕЛЬ … не существует; не существует ПОЛУЧАТЕЛЬ; не существует такого ПОЛУЧАТЕЛЬ;
        неизвестный пользователь/получатель/адресат; пользователь/адресат/получатель неизвестен;
        нет такого ПОЛУЧАТЕЛЬ;
        такого ПОЛУЧАТЕЛЬ нет; такого … ПОЛУЧАТЕЛЬ нет; несуществующий ПОЛУЧАТЕЛЬ;
        несуществующий почтовый;
        неверный адрес; недействительный адрес; 存在しません; 存在しない;
        見つかりません; 宛先不明; あて先不明; 宛先が不明; ユーザー不明; 不明なユーザー; 該当するユーザー;
        リストにありません; 登録されていません; アドレスは無効; 無効なアドレス; メールアドレスが間違; 不存在;
        无此用户; 無此用戶; 無此帳號; 无此帐号; 无此邮箱; 没有此用户; 没有这个用户; 查无; 查無; 找不到; 用户未找到;
        地址错误; 地址無效; 地址无效; 无效用户; 无效的收件人; 无效收件人; 未知用户; 无法找到; 收件人未知;
        пользователя/адресата/получателя/адреса/ящика … не найдено/существует/обнаружено;
        пользователь/адресат/получатель/ящик/адрес … не обнаружен/найдено;
        учетная запись … не найдена/существует/зарегистрирована;
        пользователь/адресат/получатель/ящик/адрес отсутствует; =не найден; =не найдено;
        користувач/користувача/адресат/адресата/абонент/абонента … не знайдено/знайдений/існує/зареєстрований;
        одержувач/одержувача/отримувач/отримувача … не знайдено/знайдений/існує/зареєстрований;
        скринька/скриньку/скриньки/ящик/ящика … не знайдено/знайдена/знайдений/існує/зареєстровано;
        адреса/адресу/адреси … не знайдено/знайдена/існує/зареєстровано; обліковий запис … не знайдено/існує;
        користувач/адресат/абонент/одержувач/отримувач/скринька/адреса … відсутній/відсутня;
        невідомий користувач/адресат/одержувач/отримувач; немає такого/такої; такого … немає; такої … немає;
        неіснуючий/неіснуюча користувач/одержувач/отримувач/адресат/адреса/скринька; =не знайдено; =не існує;
        недійсна/неправильна/невірна адреса; корыстальнік/карыстальнік/атрымальнік … не знойдзены/існуе;
        uzivatel/prijemce/prijemca/schranka/adresa/ucet/pouzivatel … neexistuje/neznamy/neznama;
        uzivatel/prijemce/schranka/adresa/ucet … nenalezen/nenalezena;
        uzivatel/prijemce/schranka/adresa/ucet … nebyl/nebyla nalezen/nalezena;
        pouzivatel/prijemca/schranka/adresa/ucet … nenajdeny/nenajdena;
        pouzivatel/prijemca/schranka/adresa/ucet … nebol/nebola najdeny/najdena;
        neznamy uzivatel/prijemce/prijemca/pouzivatel/adresat; neznama adresa; PRIJEMCE … neexistuje;
        neexistuje PRIJEMCE;
        neexistujici/neexistujuci/neexistujuca PRIJEMCE;
        korisnik/primalac/primatelj/adresa/nalog/sanduce … ne postoji; korisnik/primalac/primatelj … nije pronaden;
        nepoznat/nepoznati korisnik/primalac/primatelj; uporabnik/prejemnik/predal/naslov … ne obstaja;
        neznan uporabnik/prejemnik; корисник/прималац/адреса/примач/налог … не постоји/постои;
        непознат корисник/прималац/примач/получател/потребител/адресат; неизвестен получател/потребител/адресат;
        потребител/потребителят/получател/получателят/адрес/адресът/кутия/кутията … не съществува;
        потребител/потребителят/получател/получателят/адрес/адресът/кутия/кутията … не … намерен/намерена;
        няма такъв/такава потребител/получател/адресат/адрес/кутия; nie odnaleziono ODBIORCA;
        ODBIORCA … nie odnaleziono/odnaleziony;
        ODBIORCA … nie zostal/zostala/zostalo znaleziony/znaleziona/znalezione;
        nessun utente/destinatario/indirizzo/account/mailbox; nessuna casella/mailbox;
        nenhum usuario/destinatario/utilizador; ningun usuario/destinatario/buzon; 无此收件人; 無此收件人; 无此地址;
        無此地址; 无此账号;
        无此账户; 没有该用户; 沒有此用戶; anvandaren/mottagaren/adressen/kontot/brevladan … finns inte;
        MOTTAGARE … hittades inte; =hittades inte;
        okand anvandare/mottagare/adress; brugeren/modtageren/adressen/kontoen/postkassen … findes ikke;
        ukendt bruger/modtager/adresse; brukeren/mottakeren/adressen/kontoen/postkassen … finnes ikke;
        MOTTAGARE … eksisterer ikke; =eksisterer ikke;
        ukjent bruker/mottaker/adresse; kayttajaa/vastaanottajaa/osoitetta … loydy;
        tuntematon kayttaja/vastaanottaja/osoite; kullanici/alici/adres/hesap … bulunamadi;
        boyle bir kullanici/alici/adres/hesap; bilinmeyen kullanici/alici; gecersiz alici/kullanici;
        ismeretlen felhasznalo/cimzett/cim; CIMZETT … nem letezik; nem letezo CIMZETT; nem letezik ilyen CIMZETT;
        =nem letezik;
        utilizator/destinatar/adresa … necunoscut/necunoscuta/inexistent/inexistenta;
        DESTINATARUL … nu exista; nu exista DESTINATARUL; nu exista acest/aceasta/niciun/nicio DESTINATARUL;
        =nu exista;
        사용자를/수신자를/계정을/주소를 찾을;
        존재하지 않는 수신자; 존재하지 않는 메일/이메일 주소/주소입니다/계정;
        수신자 … 존재하지 않습니다; =존재하지 않습니다; 알 수 없는 사용자/수신자; 없는 사용자/수신자/계정;
        NGUOI … khong ton tai; khong ton tai NGUOI; =khong ton tai;
        αγνωστος χρηστης/παραληπτης;
        kein solcher/solches benutzer/empfanger/empfaenger/nutzer/postfach/konto;
        benutzer/empfanger/empfaenger/adresse/empfangeradresse/postfach/nutzer … existiert … nicht;
        aucune boite/adresse/messagerie; aucun destinataire/usager/abonne;
        no se encontro DESTINATARIO; no se encontro ARTICULO DESTINATARIO; DESTINATARIO … no se encontro;
        no se ha encontrado DESTINATARIO; no se ha encontrado ARTICULO DESTINATARIO;
        DESTINATARIO … no se ha encontrado; no pudo encontrarse ARTICULO DESTINATARIO;
        DESTINATARIO … no pudo encontrarse; nao foi encontrado/encontrada/localizado ARTICULO DESTINATARIO;
        DESTINATARIO … non trovato/trovata; non trovato/trovata ARTICULO DESTINATARIO; =no se encontro;
        =no se ha encontrado; =no pudo encontrarse; =nao foi encontrado; =non trovato; =non trovata;
        nieprawidlowy odbiorca/uzytkownik; adres/odbiorca/uzytkownik … nieprawidlowy; ユーザーはいません;
        そのようなユーザー; そのような宛先
        """,
    ),
    NAMELESS,
    Pattern(
        C.PROTOCOL_ERROR,
        "the SMTP dialogue",
        """
        protocol error; protocol violation; smtputf8; 8bitmime; syntax error; command unrecognized/unrecognised;
        unrecognized/unrecognised/unknown/unexpected/invalid/unsupported command; too many bad commands;
        command not implemented/recognized/recognised/supported/allowed/accepted; bad sequence of commands;
        bad sequence; sequence error; out of sequence; improper command; must issue; pipelining;
        synchronization error; no data after; bad syntax; argument required; valid rcpt command; not decode response
        """,
    ),
    Pattern(
        C.CONNECTION_ERROR,
        "no answer, or a broken connection",
        """
        connection error/refused/reset/died/dropped/closed/lost;
        connection timeout/aborted/broken/interrupted/timed/terminated/abort; connection unexpectedly closed;
        connection … failed; connection attempt; lost connection; bad connection; no connection; not connect;
        unable to connect; failed to connect; connect failed; no route to host; host unreachable; host is down;
        network unreachable; network down; network error; unreachable; not reachable; unable to reach; timed out;
        timeout; greeting failed; no answer from host; not establish; unable to establish; able to establish;
        unable to contact; no smtp servers were available; execution expired; end of file reached; unexpected eof;
        broken pipe; not responding; no response; not respond; socket error; read error; tls/ssl handshake;
        handshake failed; tls negotiation; starttls failed; server refused; smtp connection;
        communication/communications failure/error;
        closed/dropped/reset connection; connection expired; attempts to connect; connect … failed;
        connections to … failed;
        establish connection; ssl routines; ssl/tls error
        """,
    ),
    Pattern(
        C.SPAM_CONTENT,
        "spam, general words",
        """
        spam; ube; uce; junk mail; junkmail
        """,
        general=True,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "blocked, general words",
        """
        blocked; blocking; unsolicited
        """,
        general=True,
    ),
    Pattern(
        C.TRANSIENT_FAILURE,
        "temporary, general words",
        """
        transient failure; try again; try later; retry; retry later; temporarily; temporary; server/system busy;
        too busy; overloaded; service not available; service unavailable;
        too many connections/sessions/concurrent/mails/messages; too many simultaneous; too fast; slow down;
        concurrent; maximum number of connections; connection limit/rate; throttled; throttling; rate limit;
        rate limited; rate limits; rate exceeded; insufficient disk space; insufficient system storage;
        insufficient system resources; system resources; resources unavailable; resource limit; mail system full;
        system is full; disk full; no space left on; local error in processing; error in processing;
        error while being processed; internal error; internal server/system error; internal failure; local problem;
        system error/failure; server error; encountered an error; configuration error/problem; misconfigured;
        load too high; shutting down; deferred; mail system congestion; congestion; directory server;
        not accepting network messages; system not accepting; unable to chdir; not create output; output file;
        unable to open; not update mailbox; transport error; mailer error; i o error;
        disk/write/database/unexpected/fatal error; error occurred; locked by; currently unavailable;
        currently not available; unavailable at this time; not available at this time; unable to process; not process;
        momentarily; operation timed; malfunction; too much load; system load; high load; system call;
        input output error; thread limit; threads; journal
        """,
        general=True,
    ),
    Pattern(
        C.TRANSIENT_FAILURE,
        "temporary, in other languages",
        """
        spater; spaeter; erneut versuchen; vorubergehend; zu viele verbindungen; plus tard; ressayer; reessayer;
        trop de connexions; temporairement; mas tarde; intente; temporalmente; demasiadas conexiones; mais tarde;
        tente novamente; temporariamente; muitas conexoes; riprovare; piu tardi; temporaneamente; troppe connessioni;
        probeer; tijdelijk; te veel verbindingen; sprobuj; pozniej; tymczasowo; попробуйте; позже; повторите;
        временно; しばらく; 後ほど; 一時的; 稍后; 稍後; 重试; 系统繁忙; 系統忙碌; 暂时;
        спробуйте; пізніше; тимчасово; повторіть; pozdeji; zkuste; docasne; neskor; skuste; kasnije; privremeno;
        pokusajte; poskusite; zacasno; касније; привремено; опитайте; късно
        """,
        general=True,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "a refusal of service, which is about the sender unless another attempt is asked for",
        """
        service refused; service refuse; service denied
        """,
        general=True,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "a policy, general words",
        """
        policy; policies; administrative; administratively; prohibited; forbidden; not permitted; not allowed;
        not authorized; not authorised; unauthorized; unauthorised; access denied; permission denied;
        message/mail/mails/messages/delivery rejected/refused/denied/declined; rejected your message;
        message/mail not accepted; suppressed; suppression list; restricted; restriction; restrictions; non compliant;
        non compliance; compliance; not meet; transaction/connection rejected; verification failure/failed; aup;
        violates; violation; disallowed; not acceptable; unacceptable; rejected by the server;
        rejected by filter/rule; rejected by the remote; filtered; filter; refuse; mail flow rule; transport.rules;
        screened; untrusted; terms of service; guidelines
        """,
        general=True,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "a policy, in other languages",
        """
        abgelehnt; verweigert; zuruckgewiesen; nicht erlaubt; rechazado; rechazada; denegado; no permitido; rifiutato;
        rifiutata; respinto; non consentito; non autorizzato; rejeitado; rejeitada; recusado; recusada; nao permitido;
        geweigerd; niet toegestaan; odrzucono; odrzucona; odrzucony; odmowa; отклонено; отказано; запрещено; 拒绝;
        拒絕; 被拒; 拒否;
        відхилено; відмовлено; заборонено; odmitnuto; odmitnuta; odmitnut; odmietnute; odmietnuta; odbijeno; odbijena;
        zavrnjeno; одбијено; отхвърлено; отхвърлена; забранено;
        keine berechtigung; nicht berechtigt; pas/non autorise; pas autorisee; no tiene permiso/permisos;
        no autorizado; nao autorizado; sem permissao; geen toestemming; niet gemachtigd; brak uprawnien; нет прав;
        没有权限; 権限がありません
        """,
        general=True,
    ),
    UNNAMED_RECIPIENT,
    Pattern(
        C.INVALID_RECIPIENT,
        "no such mailbox, in words that servers also write for policies",
        """
        mailbox unavailable; mailbox unavaiable; mailbox not available; mailbox … unavailable;
        account/user unavailable; account/user/recipient not available; not exist; not exists; =recipient rejected;
        =recipient address rejected; =address rejected; =recipient refused; =user rejected; =recipient not accepted;
        =sorry no mailbox; =not found; =unknown; =invalid recipient address; =recipient verification failed
        """,
        general=True,
    ),
    Pattern(
        C.TRANSIENT_FAILURE,
        "an attempt that was given up because of time",
        """
        delivery time expired; message expired; queue.expired; maximum number of delivery attempts;
        in the queue too long; queue too long; retry timeout exceeded; retry time; retries; multiple retries;
        multiple attempts; delivery attempts; failed … attempts; not delivered within/for/after; not be delivered for;
        not yet delivered; undeliverable for; not collected; message timed out; expired in queue; giving up; give up;
        lifetime expired; message too old; too old; failing for a long time; past expiration;
        delivery expired; hours of retries; days of retries
        """,
        general=True,
    ),
    BARE_REFUSAL,
)
"""In order of precedence: the first pattern that a text contains decides.

Reasons on the sender's side come before an invalid address, and temporary reasons before permanent ones. A text that
gives two reasons is so decided in favour of the recipient. General words come last, an invalid address at the end.
"""

ADDRESS_INVALID = frozenset({C.INVALID_RECIPIENT, C.INACTIVE_MAILBOX, C.INVALID_DOMAIN})
"""Classifications that mean that an address or its domain does not exist (any more)."""

SENDER_AT_FAULT = frozenset({C.SPAM_BLOCK, C.SPAM_CONTENT, C.POLICY_REJECTION})
"""Classifications of failures whose cause is the sender or the message, never the recipient."""
