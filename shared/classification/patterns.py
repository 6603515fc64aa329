"""Phrases in the diagnostic text of mail servers, and the classification that each stands for.

The phrases are ones that Gmail, Microsoft, Yahoo, Apple, mail servers and spam filters are known to write.
`shared.classification.diagnostic_text` compares them with a text.
"""

from typing import NamedTuple

from shared.vocabulary import Classification

C = Classification


class Pattern(NamedTuple):
    """Phrases of one meaning, separated by semicolons. "…" stands for any words in between."""

    classification: Classification
    meaning: str
    text: str

    @property
    def phrases(self) -> list[str]:
        """The phrases, with single spaces."""
        return [" ".join(phrase.split()) for phrase in self.text.split(";")]


PATTERNS: tuple[Pattern, ...] = (
    Pattern(
        C.TRANSIENT_FAILURE,
        "greylisting: the server asks for another attempt",
        """
        greylist; greylisted; greylisting; grey listed; grey listing; graylist; graylisted; graylisting;
        come back later; internal resources are temporarily
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "limits of the sending account, which resemble a full mailbox",
        """
        submission quota; sending quota; sending limit; sending limits; relay limit; sending account;
        sending email account; your account; emails per hour; daily limit; sender quota; sender over quota; sender rate
        """,
    ),
    Pattern(
        C.MAILBOX_FULL,
        "the mailbox is full",
        """
        mailbox full; mailbox is full; mailbox too full; full mailbox; inbox full; inbox is full;
        mailfolder is full; over quota; overquota; overquotatemp; overquotaperm; over its quota;
        over the allowed quota; over allowed quota; over the quota; quota exceeded; quota is exceeded;
        exceeded quota; exceeded its quota; exceeded their quota; exceeds quota; exceeded the quota;
        exceeded storage; exceeding their quota; quota violation; quota full; disk quota; mailbox quota;
        storage quota; mailbox size limit exceeded; mailbox has exceeded; mailbox exceeds; exceed … mailbox size;
        exceed maximum allowed storage; out of storage; not enough space; no space left in mailbox;
        recipient storage full; space has been used up; exhausted allowed storage space; quotaexceededexception;
        too many messages on the server; disk space limit; postfach voll; postfach ist voll; das speichervolumen;
        boite pleine; boîte pleine; boite du destinataire pleine; buzon lleno; buzón lleno; casella piena;
        caixa cheia
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "authentication of the sender: DMARC, DKIM, SPF, reverse DNS, TLS",
        """
        dmarc; dkim; spf; sender policy framework; unauthenticated; not authenticated; authentication required;
        authentication failure; authentication failed; authentication checks; resolver.rst.authrequired;
        reverse dns; rdns; ptr; reverse lookup; hostname lookup; helo; ehlo; spoof; spoofed; spoofing;
        impersonation; starttls; tls required; tls is required; encryption required; certificate; mta sts;
        not allowed to send; your hostname; your reverse hostname; auth required; authentication is required;
        please authenticate; authenticate first; must authenticate; must be authenticated; invalid dns; invalid ip;
        bad dns; smtp mx only
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the sender's address",
        """
        sender rejected; sender denied; sender refused; sender verify; sender verification; sender domain;
        sender address; domain of sender; sender not allowed; sender is not allowed; sender not authorized;
        sender is blocked; invalid sender; bad sender; unknown sender; blocked sender; blocked senders;
        mail from domain; from header; from address; allowed senders; resolver.rst.notauthorized;
        blocked by the recipient; blocked by recipient; rejected by recipient; rejected by recipients;
        customer block list; mail from command; fake sender; nonexistent sender; non existent sender;
        sender … does not exist; sender doesnt exist; sender … unknown; sender … not found; sending user;
        does not accept mail from; verification failed for; callout verification; callback setup; known senders;
        member of the list; non members
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the format of the message",
        """
        rfc compliant; rfcmessagenoncompliant; duplicate header; duplicate headers; malformed; invalid characters;
        improperly formatted; bare lf; bare newline
        """,
    ),
    Pattern(
        C.PROTOCOL_ERROR,
        "the SMTP dialogue",
        """
        protocol error; protocol violation; smtputf8; 8bitmime; syntax error; command unrecognized;
        unrecognized command; too many bad commands; command not implemented; bad sequence of commands; improper command
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the size or the parts of the message",
        """
        message too big; message is too big; too large; size exceeds; size limit; maximum message size;
        max message size; larger than; resolver.rst.recipsizelimit; resolver.rst.recipientsizelimit; header size;
        attachment; attachments; file type; potential security issue; too many recipients
        """,
    ),
    Pattern(
        C.SPAM_CONTENT,
        "the content of the message",
        """
        spam content; likely unsolicited; unsolicitedmessageerror; detected as spam; identified as spam;
        classified as spam; considered spam; considered as spam; regarded as spam; marked as spam; rejected as spam;
        message as spam; spam detected; spam message; spam score; is spam; looks like spam; appears to be spam;
        probability of spam; possible spam; suspected spam; spam like; virus; viruses; malware; phishing; phish;
        infected; prohibited content; content rejected; content filter; content denied; message content;
        message filtered; suspicious url; antispam; quarantined;
        nature of the content; because of its content; uribl; uribl.com; surbl; surbl.org; ph01; dt spm; mail score;
        hash filter
        """,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "block lists and the sender's reputation",
        """
        spam block; spamhaus; spamhaus.org; spamcop; spamcop.net; barracudacentral.org; sorbs; sorbs.net;
        abuseat.org; uceprotect; uceprotect.net; mailspike.net; mailspike.org; invaluement.com; dnsbl; manitu.net;
        dnsbls; rbl; rbls; black list; blacklist; blacklisted; black listed; blacklists; block list; blocklist;
        blocklisted; block listed; denylist; deny list; reputation; unsolicited; unusual rate; unusual amount;
        unexpected volume; user complaints; suspicious activity; unfortunately messages from;
        unfortunately some messages from; s3140; s3150; tss04; tss09; banned; client host … blocked; ip … blocked;
        blocked … ip; spammer; sending spam; open relay; open proxy; dynamic ip; bad neighborhood;
        not accepted from this ip; mail from your ip; traffic not accepted; zombie; too many spams; spam source;
        blocked see; too many invalid recipients; excessive unknown recipients; excessive userid unknowns; spamtrap;
        spam trap; frequency limited; connection denied; bounce attacks; ip is hangup; mi spb; rp trc
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "the sender, in other words",
        """
        your domain; your ip; your server; your host; sending domain; senders domain; sending ip; sender ip; senders ip;
        sending server; sending host; client host rejected
        """,
    ),
    Pattern(
        C.ROUTING_ERROR,
        "a server that is not the recipient's, or a loop",
        """
        routing error; relay access denied; relaying denied; relay denied; relay not permitted;
        relaying not permitted; relay not allowed; relaying not allowed; relaying is not allowed;
        relay is not allowed; unable to relay; cannot relay; do not relay; not permitted to relay; relay prohibited;
        relaying prohibited; rcpthosts; mail loop; loops back to; smtpsend.dns.mxloopback; too many hops;
        hop count exceeded; routing loop; is looping; loop detected; email loop; points to local host
        """,
    ),
    Pattern(
        C.DNS_FAILURE,
        "a name server that did not answer",
        """
        dns failure; dns error; dns timeout; dns lookup; dns query; servfail; host not found try again;
        temporary lookup failure; lookup failed temporarily; lookup timed out; name server reply;
        name server timeout; name server timed out; temporary dns; temporarily unable to look up
        """,
    ),
    Pattern(
        C.TRANSIENT_FAILURE,
        "a mailbox that is temporarily unavailable or receives too much at once",
        """
        temporarily disabled; disabled temporarily; temporarily suspended; temporarily locked; temporary locked;
        temporarily unavailable; temporarily inactive; too quickly; at a rate; receive limit; receiving limits;
        recipient thread limit; unverified address
        """,
    ),
    Pattern(
        C.INACTIVE_MAILBOX,
        "the mailbox is closed",
        """
        inactive mailbox; mailbox disabled; mailbox is disabled; mailbox has been disabled; mailbox inactive;
        mailbox is inactive; mailbox closed; mailbox is closed; mailbox suspended; mailbox has been suspended;
        mailbox expired; mailbox is locked; account disabled; account has been disabled; account … is disabled;
        accountdisabledexception; account inactive; account … is inactive; account … is not active;
        account suspended; account is suspended; account has been suspended; account closed; account is closed;
        account has been closed; account expired; account is locked; deactivated; user suspended; user disabled;
        user is disabled; user inactive; inactive user; user is inactive; user not active; recipient suspend;
        recipient is disabled; currently suspended; disableduser; inactiveuser; address is no longer;
        mailbox is no longer; account is no longer; no longer in use; no longer accepts mail;
        no longer accepts email; no longer active; no longer works; no longer employed; has left the company;
        discontinued
        """,
    ),
    Pattern(
        C.INVALID_DOMAIN,
        "no such domain, or it accepts no mail",
        """
        invalid domain; domain … does not exist; domain doesnt exist; domain name not found; domain not found;
        no such domain; unknown domain; unrouteable mail domain; unroutable mail domain; nxdomain;
        nonexistent domain; non existent domain; smtpsend.dns.nonexistentdomain; host unknown; unknown host;
        host not found; no such host; null mx; couldnt find any host; cannot find any host;
        point to non existent hosts; no mx record; domain does not accept mail; host does not accept mail;
        server does not accept mail
        """,
    ),
    Pattern(
        C.INVALID_RECIPIENT,
        "no such mailbox",
        """
        invalid recipient; invalid recipients; invalid mailbox; invalid user; invalid address; user unknown;
        unknown user; user not found; user is unknown; user not known; users not found; no such user;
        no such recipient; no such mailbox; no such address; no such account; no such person; no such local user;
        no such email; no user found; no mailbox found; unknown recipient; recipient unknown; recipient … not found;
        unknown mailbox; mailbox unknown; mailbox not found; mailbox not present; unknown address; address unknown;
        address not found; address could not be found; unknown email address; unknown local part; unknown account;
        account unknown; account not found; user doesnt exist; user … does not exist; user … was not found;
        mailbox doesnt exist; mailbox … does not exist; account doesnt exist; account … does not exist;
        recipient doesnt exist; recipient … does not exist; address doesnt exist; address … does not exist;
        recipient not exist; recipient not exists; user not exist; nonexistent user; non existent user;
        does not have … account; doesnt have … account; no account by that name; not our customer;
        not a valid recipient; not a valid mailbox; not a valid user; not a known user; not a local user;
        bad destination mailbox; bad recipient; badrcptto; unrouteable address; unroutable address;
        undeliverable address; no mailbox here; mailbox name not allowed; mailbox unallocated;
        not listed in domino directory; there is no one at this address; nosuchuser; resolver.adr.recipnotfound;
        resolver.adr.recipientnotfound; recipientnotfound; resolver.adr.exrecipnotfound;
        resolver.adr.exrecipientnotfound; recipient address rejected access denied … outlook.com;
        benutzer unbekannt; unbekannter benutzer; unbekannter empfänger; empfänger unbekannt;
        postfach existiert nicht; utilisateur inconnu; destinataire inconnu; destinataire invalide;
        adresse inconnue; usuario desconocido; usuario no existe; no existe el usuario; destinatario desconocido;
        utente sconosciuto; destinatario sconosciuto; indirizzo inesistente; usuário desconhecido;
        usuario inexistente; nie ma takiego konta; nie istnieje; user not local; unknown local user;
        unknown virtual user; unknown or illegal alias; addressee unknown; recipient is not local; not a local address;
        no valid recipients; cant accept user; user is not found; mailbox invalid; rcpt … does not exist;
        no existe dicha persona; no existe ese usuario; nonexistent account; non existent account; mailbox is not found;
        no one here by that name; unable to find user; validrcptto
        """,
    ),
    Pattern(
        C.CONNECTION_ERROR,
        "no answer, or a broken connection",
        """
        connection error; connection refused; connection reset; connection died; connection dropped;
        connection was dropped; connection closed; connection lost; lost connection; could not connect;
        couldnt connect; unable to connect; cannot connect; failed to connect; no route to host;
        network unreachable; network is unreachable; timed out; timeout; greeting failed; no answer from host;
        establish an smtp connection; no smtp servers were available; execution expired; end of file reached
        """,
    ),
    Pattern(
        C.SPAM_CONTENT,
        "spam, general words",
        """
        spam; spamming; ube; uce; junk mail; junkmail
        """,
    ),
    Pattern(
        C.SPAM_BLOCK,
        "blocked, general words",
        """
        blocked; blocking
        """,
    ),
    Pattern(
        C.TRANSIENT_FAILURE,
        "temporary, general words",
        """
        transient failure; try again; try later; retry; temporarily; temporary; server busy; too busy; overloaded;
        service not available; too many connections; too many sessions; throttled; throttling; rate limit;
        rate limited; rate limits; rate exceeded; insufficient disk space; insufficient system storage;
        insufficient system resources; mail system full; system is full; delivery time expired; message expired;
        queue.expired; maximum number of delivery attempts; local error in processing; internal error;
        internal server error; local problem; essayer plus tard; später
        """,
    ),
    Pattern(
        C.POLICY_REJECTION,
        "a policy, general words",
        """
        policy; policies; administrative prohibition; administratively; prohibited; forbidden; not permitted;
        not allowed; not authorized; unauthorized; access denied; permission denied; message rejected;
        message refused; mail rejected; mail refused; email rejected; message was rejected;
        message has been rejected; rejected your message; suppressed; suppression list; restricted; not authorised;
        unauthorised; message denied; message was denied; mail denied; mail is rejected; message not accepted;
        non compliant
        """,
    ),
    Pattern(
        C.INVALID_RECIPIENT,
        "no such mailbox, in words that servers also write for policies",
        """
        mailbox unavailable; mailbox is unavailable; mailbox not available; does not exist; doesnt exist
        """,
    ),
)
"""In order of precedence: the first pattern that a text contains decides.

Reasons on the sender's side come before an invalid address, and temporary reasons before permanent ones. A text that
gives two reasons is so decided in favour of the recipient. General words come last, an invalid address at the end.
"""

ADDRESS_INVALID = frozenset({C.INVALID_RECIPIENT, C.INACTIVE_MAILBOX, C.INVALID_DOMAIN})
"""Classifications that mean that an address or its domain does not exist (any more)."""
