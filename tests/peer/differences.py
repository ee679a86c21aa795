"""The reviewed list of differences between hkswitch and HAP-NodeJS, and why each one stays, or does not.

An unused entry makes `make test-peer` fail: remove it. The first entry that fits counts.
Sections and tables are those of the HAP specification, release R2.
"""

from typing import Final

from tests.peer.compare import Difference, Judgement

OURS, EITHER = Judgement.OURS, Judgement.EITHER
NO_JSON: Final = '400 json {"status":-70410}'
BAD_TLV: Final = "400 tlv state=2 error=1"
LISTED: Final = "200 tlv state=2 identifier[36] public_key[32] permissions=1 *"

HTTP: Final = (
    Difference(
        ("verify: bytes in the clear behind M3",),
        "closed",
        "400",
        OURS,
        "nothing is answered that any device could have sent into a controller's connection",
    ),
    Difference(
        ("unpaired: HEAD *", "paired: HEAD *", "admin: HEAD *"),
        "405 *",
        "*",
        EITHER,
        "HAP has no HEAD, and a 405 names the methods that there are; HAP-NodeJS accepts any method",
    ),
    Difference(
        ("unpaired: *", "paired: *"),
        '40* json {"status":-70409}',
        '470 json {"status":-70401}',
        EITHER,
        "hkswitch refuses an unknown method or path before it asks for authorization",
    ),
    Difference(
        ("unpaired: * /pairings", "paired: * /pairings"),
        "405 tlv state=2 error=1",
        '470 json {"status":-70401}',
        EITHER,
        "the same at /pairings",
    ),
    Difference(
        ("unpaired: *", "paired: *", "admin: *", "verify: by GET"),
        "405 tlv state=2 error=1",
        "*00 tlv state=2 error=*",
        EITHER,
        "HAP-NodeJS accepts pairing messages with any method",
    ),
    Difference(
        ("unpaired: * /identify", "paired: * /identify", "admin: * /identify"),
        '405 json {"status":-70409}',
        "*",
        OURS,
        "/identify is a POST (6.7.6); HAP-NodeJS accepts any method",
    ),
    Difference(
        ("admin: * /characteristics", "admin: * /prepare", "admin: * /resource"),
        '40* json {"status":-70409}',
        NO_JSON,
        EITHER,
        "405 and 404 are more precise than 400; hkswitch has no cameras",
    ),
    Difference(
        (
            "admin: PUT /accessories",
            "admin: POST /accessories",
            "admin: DELETE /accessories",
            "admin: GET /Accessories",
        ),
        "*",
        "*",
        OURS,
        "HAP-NodeJS accepts any method, and ignores the case of paths",
    ),
    Difference(
        ("admin: POST /pairings",),
        BAD_TLV,
        "200 tlv state=2 error=1",
        EITHER,
        "400 is for a malformed TLV (table 4-2)",
    ),
    Difference(
        ("unpaired: POST /pair-verify",),
        "200 tlv state=2 error=2",
        BAD_TLV,
        EITHER,
        "no controller is paired, so none can be verified",
    ),
    Difference(
        ("http *: chunks", "http *: a length and chunks", "http *: chunks that are none"),
        "*",
        "*",
        OURS,
        "a server may refuse a body without a length (RFC 9112, 6.3), and no controller sends chunks",
    ),
    Difference(
        ("http *: a body of 100 KiB",),
        "*",
        "*",
        EITHER,
        "600 writes have 64 KiB, and a server may refuse more (RFC 9110, 15.5.14)",
    ),
    Difference(
        ("http *: HTTP/1.0*", "http *: HTTP/2.0"),
        "*",
        "*",
        EITHER,
        "HAP is HTTP/1.1; h11 answers others in that version, and goes on",
    ),
    Difference(
        (
            "http *: no version",
            "http *: two Hosts",
            "http *: two blanks",
        ),
        "400",
        "*",
        OURS,
        "h11 is stricter than Node.js here",
    ),
    Difference(
        ("http *: an empty line first",),
        "400",
        "*",
        EITHER,
        "a server should ignore it (RFC 9112, 2.2); h11 does not, and no controller sends one",
    ),
    Difference(
        ("http *: two Hosts", "http *: two blanks", "http *: an empty line first"),
        "closed afterwards",
        "still open",
        EITHER,
        "the connection is closed behind the 400",
    ),
    Difference(
        ("http *: another encoding",),
        "501",
        "400",
        OURS,
        "501 is for an encoding that a server does not know (RFC 9112, 6.1)",
    ),
    Difference(
        ("pipelined *: no HTTP between",),
        "400",
        "closed",
        OURS,
        "the malformed request is answered too",
    ),
    Difference(
        ("http *: bare line feeds", "http *: a folded header", "http *: two lengths alike"),
        "*",
        "400",
        EITHER,
        "Node.js is stricter than h11 here; without proxies, leniency is harmless",
    ),
    Difference(
        (
            "http *: a method in small letters",
            "http *: a method of its own",
            "http *: no slash",
            "http *: HTTP/2's preface",
        ),
        "40* json *",
        "400",
        EITHER,
        "unknown methods and paths are valid HTTP",
    ),
    Difference(
        (
            "http before: a method *",
            "http before: no slash",
            "http before: HTTP/2's preface",
            "http before: bare line feeds",
            "http before: a folded header",
            "http before: two lengths alike",
            "http after: a method *",
            "http after: no slash",
            "http after: HTTP/2's preface",
            "http after: bare line feeds",
            "http after: a folded header",
            "http after: two lengths alike",
        ),
        "still open",
        "closed afterwards",
        EITHER,
        "Node.js closes after a syntax error",
    ),
    Difference(
        ("pipelined *: no HTTP between", "pipelined *: Connection: close between"),
        "200 json *",
        "*",
        OURS,
        "earlier requests are answered first",
    ),
    Difference(
        ("pipelined *",),
        '200 json *"value":true*',
        '200 json *"value":false*',
        OURS,
        "pipelined requests are done one after the other (RFC 9112, 9.3.2); HAP-NodeJS does them at once",
    ),
    Difference(
        ("frame: one byte",),
        "silence",
        "closed",
        OURS,
        "the other byte of the length may be in the next segment",
    ),
)

READING: Final = (
    Difference(
        ("*",),
        "207 json *-70409*",
        "207 json *-70410*",
        OURS,
        "-70409 is Resource does not exist (table 6-11)",
    ),
    Difference(
        ("read: ?id=<web.On>,<web.On>", "write: the same twice", "write: a value, and ev of the same"),
        "20*",
        '422 json {"status":-70410}',
        EITHER,
        "the specification does not forbid duplicates; HAP-NodeJS cannot handle them",
    ),
    Difference(
        ("write: a value, and ev of the same",),
        '200 json *"value":true*',
        '200 json *"value":false*',
        EITHER,
        "the same, seen afterwards",
    ),
    Difference(
        ("read: ?id=<web.On>&id=<mail.On>", "read: ?id=99999999999999999999.1"),
        NO_JSON,
        "20*",
        EITHER,
        "hkswitch accepts one list of 64-bit IDs",
    ),
    Difference(
        ("read: a text with all flags",),
        "200 json *",
        '200 json *"maxLen":64*',
        EITHER,
        "a text may be as long whether that is said or not (table 6-3)",
    ),
    Difference(
        ("read: ?id=<gone.Manufacturer>", "read: ?id=<gone.On>,<gone.Model>"),
        "207 json *-70402*",
        "20* json *value*",
        EITHER,
        "a group whose state is not known is unreachable as a whole",
    ),
)

WRITING: Final = (
    Difference(("write: none", "timed write: no item"), "20*", "silence", OURS, "HAP-NodeJS never answers"),
    Difference(
        ("write: *", "prepare: *", "pipelined *: a malformed body between"),
        NO_JSON,
        '500 json {"status":-70403}',
        OURS,
        "a malformed body is a client error",
    ),
    Difference(
        ("write: ev *",),
        "207 json *-70410*",
        "204",
        OURS,
        "HAP-NodeJS accepts any JavaScript value as a boolean",
    ),
    Difference(
        ("write: *",),
        NO_JSON,
        "207 json *-70410*",
        OURS,
        "one malformed item makes the request malformed, and none of it is done",
    ),
    Difference(
        ("write: one that is none beside one that is",),
        '200 json *"at":"web.On","value":false*',
        '200 json *"at":"web.On","value":true*',
        OURS,
        "the same, seen afterwards",
    ),
    Difference(("write: On 1.0",), "20*", "20*", EITHER, "no controller writes a boolean as a fraction"),
    Difference(
        ("prepare: *",),
        '200 json {"status":-70410}',
        "*",
        OURS,
        "hkswitch says in the body that a ttl or a pid is none",
    ),
    Difference(
        ("prepare: {'ttl': 2500, 'pid': 0}",),
        '200 json {"status":0}',
        NO_JSON,
        OURS,
        "a pid is any 64-bit number (table 6-7)",
    ),
    Difference(
        ("prepare: {'ttl': 0, 'pid': 1}",),
        '200 json {"status":0}',
        NO_JSON,
        EITHER,
        "a write that is prepared for no time is too late in any case",
    ),
    Difference(
        ("timed write: prepared twice with other pids, the first",),
        "20*",
        "20*",
        EITHER,
        "each pid is valid until it expires; HAP-NodeJS keeps the last one only",
    ),
    Difference(
        ("timed write: a pid that is a fraction",),
        "20*",
        "20*",
        EITHER,
        "1.0 is not a whole number in Python",
    ),
)

EVENTS: Final = (
    Difference(
        ("events: on and off again", "events: a start that fails late"),
        "heard * late",
        "heard *",
        OURS,
        "at most one event a second for each characteristic (6.8)",
    ),
)

PAIRING: Final = (
    Difference(
        ("verify: M3 * inside",),
        "200 tlv state=4 error=2",
        "200 tlv state=4 error=1",
        OURS,
        "an M3 without a proof is answered with Authentication (5.7.4)",
    ),
    Difference(
        ("setup: M3 without a proof",),
        "400 tlv state=4 error=1",
        "200 tlv state=4 error=2",
        EITHER,
        "400 is for a malformed TLV (table 4-2)",
    ),
    Difference(
        ("setup: M5 without data",),
        "400 tlv state=6 error=1",
        "200 tlv state=4 error=2",
        OURS,
        "the error of M5 is M6 (5.6.6), and 400 is for a malformed TLV (table 4-2)",
    ),
    Difference(
        ("verify: *", "setup: M3 *", "setup: M5 *"),
        "*00 tlv state=* error=*",
        '500 json {"status":-70403}',
        OURS,
        "HAP-NodeJS raises",
    ),
    Difference(
        ("verify: M1 a key of *", "verify: M1 a state *", "setup: M1 a state *"),
        BAD_TLV,
        "200 tlv state=2 *",
        OURS,
        "such a key makes the shared secret public (RFC 7748, 6.1); a state is one byte",
    ),
    Difference(
        ("verify: M1 *state*", "verify: M3 state 5", "setup: M1 *state*"),
        BAD_TLV,
        "400 tlv state=* error=1",
        EITHER,
        "an unknown state has no next one",
    ),
    Difference(
        ("verify: again after success", "verify: M1 after success"),
        "*",
        "*",
        OURS,
        "HAP-NodeJS forgets to encrypt when it is verified again",
    ),
    Difference(
        ("verify: of a bridge that is not paired", "setup: pair-verify between"),
        "200 tlv state=2 error=2",
        "200 tlv state=*",
        EITHER,
        "no controller is paired, so none can be verified; HAP-NodeJS says so after M3",
    ),
    Difference(
        ("verify: a request in the clear behind M3",),
        "closed",
        "200 json *",
        OURS,
        "any device could have sent it: HAP-NodeJS answers it as the controller's",
    ),
    Difference(
        ("setup: M1 cut off", "setup: M1 twice", "setup: M1 after M3", "setup: M3 state 1"),
        "*",
        "*",
        OURS,
        "M1 starts over, and needs no method; HAP-NodeJS wants a new connection",
    ),
    Difference(
        ("setup: *",),
        "200 tlv state=* error=1",
        "400 tlv state=* error=1",
        EITHER,
        "both refuse a step out of order",
    ),
    Difference(
        ("setup: M5 *",),
        "200 tlv state=6 error=2",
        "200 tlv state=4 error=*",
        OURS,
        "the error of M5 is M6, with Authentication (5.6.6)",
    ),
    Difference(
        ("setup: another connection begins",),
        "200 tlv state=2 error=7",
        "200 tlv state=2 salt*",
        OURS,
        "one controller pairs at a time (5.6.2); HAP-NodeJS lets them overlap",
    ),
)

PAIRINGS: Final = (
    Difference(
        ("pairings: *",),
        BAD_TLV,
        "200 tlv state=2 error=1",
        EITHER,
        "400 is for a malformed TLV (table 4-2), and 200 carries an error too",
    ),
    Difference(
        ("pairings: add *",),
        "*00 tlv state=2 error=1",
        "200 tlv state=2",
        OURS,
        "HAP-NodeJS adds invalid controllers, or demotes the last admin",
    ),
    Difference(
        ("pairings: remove *",),
        BAD_TLV,
        "200 tlv state=2",
        EITHER,
        "an ID that cannot exist is refused, or ignored",
    ),
    Difference(("pairings: add *",), LISTED, "*", OURS, "the same, seen in the list"),
    Difference(
        ("pairings: remove the user in small letters",),
        "*",
        "*",
        EITHER,
        "UUIDs ignore case; HAP-NodeJS compares bytes",
    ),
    Difference(
        ("pairings: list a state twice",),
        BAD_TLV,
        LISTED,
        OURS,
        "two values of a type in a row are one (14.1), and no state",
    ),
    Difference(
        ("pairings: list method 1", "pairings: list state 3", "pairings: list without a state"),
        BAD_TLV,
        "silence",
        OURS,
        "HAP-NodeJS never answers",
    ),
)

DIFFERENCES: Final = (*HTTP, *READING, *WRITING, *EVENTS, *PAIRING, *PAIRINGS)
