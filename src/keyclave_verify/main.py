"""The command `keyclave-verify`. It reads files and prints a report. Exit status 0: good, 1: a fault, 2: cannot be done."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from keyclave_verify import __version__
from keyclave_verify.approvals import verify_approval
from keyclave_verify.checkpoints import Trust, load_trust, parse_checkpoint, show_time, signature_faults
from keyclave_verify.directory import LogDirectory
from keyclave_verify.log import verify_log
from keyclave_verify.reading import MEGABYTE, read_file
from keyclave_verify.receipts import verify_consistency, verify_receipt
from keyclave_verify.report import ASCII, Fault, Report, Unusable, printable

GOOD, FAULTY, UNUSABLE = 0, 1, 2
_STDIN = "-"
_BUNDLE_BYTES = 64 * MEGABYTE  # a hundred items of the greatest length, each in a receipt, are a sixth of it


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--vkey-file",
        required=True,
        metavar="F",
        help="the log's verifier keys, one a line, obtained from somebody you trust and not with the log; each must have signed",
    )
    common.add_argument("--json", action="store_true", help="print one JSON object")
    parser = argparse.ArgumentParser(
        prog="keyclave-verify",
        description="Verify a Keyclave audit log, and approvals in it, offline, with the log's public keys alone.",
        epilog="Exit status: 0 everything holds, 1 a fault was found, 2 the command cannot be carried out.",
    )
    parser.add_argument("--version", action="version", version=f"keyclave-verify {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    log = commands.add_parser("log", parents=[common], help="verify an exported log as a whole")
    log.add_argument("directory", metavar="DIR", help="the export (spec/log-directory.md)")
    log.add_argument(
        "--checkpoint", action="append", default=[], metavar="OLD", help="a checkpoint that you kept; may be given several times"
    )
    form = log.add_mutually_exclusive_group()
    form.add_argument("--strict", action="store_true", help="also parse every entry and compare it with its canonical form")
    form.add_argument("--opaque", action="store_true", help="the entries are not Keyclave's events: look at their hashes only")

    receipt = commands.add_parser("receipt", parents=[common], help="verify that one event is in the log")
    receipt.add_argument("file", metavar="FILE", help="a receipt (JSON, or .tlog-proof with --leaf); - reads standard input")
    receipt.add_argument("--leaf", metavar="FILE", help="the exact bytes of the entry")
    receipt.add_argument("--opaque", action="store_true", help="the entry is not a Keyclave event")

    consistency = commands.add_parser(
        "consistency", parents=[common], help="verify that the log only grew between two checkpoints"
    )
    consistency.add_argument("old", metavar="OLD", help="the smaller checkpoint")
    consistency.add_argument("new", metavar="NEW", help="the larger checkpoint")
    source = consistency.add_mutually_exclusive_group()
    source.add_argument("--proof", metavar="F", help="a consistency proof (the server's JSON, or a base64 hash a line)")
    source.add_argument("--log", metavar="DIR", help="an exported log to make the proof from")

    approval = commands.add_parser("approval", parents=[common], help="verify an approval: who asked, who signed, what was done")
    approval.add_argument("file", metavar="BUNDLE", help="the bundle (`keyclave approval export`); - reads standard input")
    approval.add_argument("--rp-id", metavar="ID", help="for whom passkeys must have signed, else as the bundle says")
    approval.add_argument(
        "--origin", action="append", default=[], metavar="URL", help="the pages on which they may have signed; repeatable"
    )

    approval.add_argument(
        "--log", metavar="DIR", help="an exported log: look there that nobody was disabled and nothing revoked in between"
    )

    checkpoint = commands.add_parser("checkpoint", parents=[common], help="verify the signatures on a checkpoint")
    checkpoint.add_argument("file", metavar="FILE", help="the checkpoint; - reads standard input")
    return parser


def _read(path: str, most: int = MEGABYTE) -> bytes:
    raw = sys.stdin.buffer.read(most + 1) if path == _STDIN else read_file(Path(path), most)
    if raw is None:
        raise Unusable(f"{path}: cannot be read: there is no such file")
    if len(raw) > most:
        raise Unusable(f"{_label(path)}: cannot be read: it is longer than {most:,} bytes, which none of its kind is")
    return raw


def _label(path: str) -> str:
    return "standard input" if path == _STDIN else path


def _checkpoint(path: str, trust: Trust) -> Report:
    report = Report(trust.origin, "The checkpoint is signed.", {"signatures": None, "states": None})
    try:
        checkpoint = parse_checkpoint(_read(path), _label(path))
    except Fault as fault:
        report.add(fault)
        return report
    report.checks["signatures"] = ", ".join(map(str, trust.keys))
    dated = checkpoint.time(trust)
    report.facts = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex(), "time": dated}
    report.checks["states"] = f"{checkpoint.size:,} entries at {show_time(dated)}, root {checkpoint.root.hex()}"
    report.add(*signature_faults(checkpoint, trust))
    return report


def _consistency(options: argparse.Namespace, trust: Trust) -> Report:
    proof = None if options.proof is None else _read(options.proof)
    log = None if options.log is None else LogDirectory(Path(options.log))
    try:
        old, new = (parse_checkpoint(_read(path), _label(path)) for path in (options.old, options.new))
    except Fault as fault:
        report = Report(trust.origin, "", {"signatures": None, "history": None})
        report.add(fault)
        return report
    return verify_consistency(old, new, trust, proof, log)


def _run(options: argparse.Namespace) -> Report:
    trust = load_trust(_read(options.vkey_file), _label(options.vkey_file))
    if options.command == "log":
        older = [(_label(path), _read(path)) for path in options.checkpoint]
        return verify_log(LogDirectory(Path(options.directory)), trust, older, strict=options.strict, opaque=options.opaque)
    if options.command == "receipt":
        leaf = None if options.leaf is None else _read(options.leaf)
        return verify_receipt(_read(options.file), _label(options.file), trust, leaf, opaque=options.opaque)
    if options.command == "approval":
        pages = tuple(options.origin)
        log = None if options.log is None else LogDirectory(Path(options.log))
        raw = _read(options.file, _BUNDLE_BYTES)
        return verify_approval(raw, _label(options.file), trust, rp_id=options.rp_id, origins=pages, log=log)
    if options.command == "consistency":
        return _consistency(options, trust)
    return _checkpoint(options.file, trust)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        report = _run(options)
        _write(report, as_json=options.json)
    except Unusable as error:
        return _give_up(str(error))
    except Exception as error:  # a mistake of ours: a traceback would end with the status of a fault that was found
        return _give_up(f"it could not be checked: {type(error).__name__}: {error}; tell whoever gave you this program")
    return GOOD if report.good else FAULTY


def _write(report: Report, *, as_json: bool) -> None:
    """Print the report, in signs that the output can take; Unusable where it did not arrive whole."""
    out = sys.stdout
    if out is None:
        raise Unusable("the report cannot be written: there is no standard output")
    color = out.isatty() and not os.environ.get("NO_COLOR")
    in_unicode = codecs.lookup(out.encoding or "utf-8").name == "utf-8"
    if as_json:
        text = report.to_json(ascii_only=not in_unicode)
    elif in_unicode:
        text = report.to_text(color=color)
    else:
        text = report.to_text(color=color, marks=ASCII).encode("ascii", "backslashreplace").decode()
    try:
        print(text, flush=True)
    except OSError as error:
        _abandon(out)
        raise Unusable(f"the report could not be written: {error.strerror}") from None


def _give_up(why: str) -> int:
    try:
        print(f"keyclave-verify: {printable(why)}", file=sys.stderr, flush=True)
    except OSError:
        _abandon(sys.stderr)
    return UNUSABLE


def _abandon(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere: Python would try once more at its end, and end with a status of its own."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
