"""The command line's table of contents: every command's name, where it lives and its one line of help.

It is what `keyclave --help` prints, so that help costs no import but this one. A test holds each line to the command
it names.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """`where` is "module:attribute" under `keyclave_cli.commands`."""

    name: str
    where: str
    line: str


SECTIONS: dict[str, tuple[Entry, ...]] = {
    "Server": (
        Entry("init", "programs:init", "Hold the ceremony that makes a server's home."),
        Entry("serve", "programs:serve", "Run the server."),
        Entry("migrate", "programs:migrate", "Bring the server's database to the newest schema."),
        Entry("migrate-store", "programs:migrate_store", "Move the server's whole store to a database, or back into a file."),
        Entry("unseal", "sealing:unseal", "Give custodians' shares until the server is open."),
        Entry("seal", "sealing:seal", "Make the server forget its root key."),
        Entry("share", "share:share", "Say who holds which share of the recovery key."),
        Entry("status", "status:status", "Show how the server is, on one screen."),
        Entry("self-test", "self_test:self_test", "Run the known-answer tests of the server's crypto module."),
        Entry("node", "node:node", "See the nodes that serve one store, and take one out of service."),
        Entry("doctor", "doctor:doctor", "Check connection, clock, credential and record."),
    ),
    "Keys": (
        Entry("key", "key:key", "Create keys and lead them through their life."),
        Entry("use", "use:use", "Use a key on small data: encrypt, sign, MAC."),
    ),
    "Files": (
        Entry("encrypt", "encrypt:encrypt", "Encrypt files and folders on this machine."),
        Entry("decrypt", "decrypt:decrypt", "Decrypt files and folders on this machine."),
        Entry("rewrap", "rewrap:rewrap", "Move files to a newer version, key or context."),
        Entry("inspect", "inspect:inspect", "Show which key version files depend on, offline."),
    ),
    "Record": (Entry("audit", "audit:audit", "Read, export and verify the record."),),
    "People": (
        Entry("login", "login:login", "Log in with a passkey, or by single sign-on, in a browser."),
        Entry("logout", "login:logout", "End the session in use, and forget its token."),
        Entry("whoami", "whoami:whoami", "Show who the server thinks is asking, how surely, and until when."),
        Entry("person", "person:person", "Invite people, and say who may no longer come in."),
        Entry("authenticator", "authenticator:authenticator", "List, enrol and revoke what you prove yourself with."),
        Entry("recovery", "recovery:recovery", "Make recovery codes, and see how many are left."),
        Entry("session", "sessions:session", "List and end sessions."),
        Entry("credential", "credential:credential", "Issue, list and revoke credentials."),
        Entry("workload", "workload:workload", "Let services call by a certificate."),
        Entry("grant", "grant:grant", "Grant applications uses of keys, and take grants away."),
        Entry("eligibility", "elevation:eligibility", "Say who may take on which role when they need it."),
        Entry("elevate", "elevation:elevate", "Take on a role you are eligible for, for minutes; it ends by itself."),
        Entry("elevation", "elevation:elevation", "See who has taken on which role, and end it early."),
        Entry("break-glass", "break_glass:break_glass", "In an emergency: open one patient's records at once."),
        Entry("review", "break_glass:review", "Review a break-glass of somebody else; without one, list those that wait."),
        Entry("alarm", "break_glass:alarm", "See when the glass was broken, and say that you have seen it."),
        Entry("approval", "approval:approval", "Ask for what nobody does alone, and see it through."),
        Entry("approve", "approve:approve", "Read what somebody asks for, and sign its hash with an enrolled key."),
        Entry("policy", "policy:policy", "Keep the policy as files, and see what a change would do."),
        Entry("who-can", "who_can:who_can", "Show who may do an operation on a key, and by what."),
        Entry("tenant", "tenant:tenant", "Create tenants."),
        Entry("profile", "profile:profile", "Name the servers and credentials you use."),
    ),
    "Tools": (
        Entry("openapi", "openapi:openapi", "Print the server's OpenAPI description."),
        Entry("completion", "completion:completion", "Print a completion script for a shell."),
    ),
}

BY_NAME: dict[str, Entry] = {entry.name: entry for section in SECTIONS.values() for entry in section}
