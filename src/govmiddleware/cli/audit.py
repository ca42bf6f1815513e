"""`audit`: do the books balance?"""

from __future__ import annotations

import sys
from typing import Annotated, cast

from cyclopts import Parameter

from govmiddleware.app import Governance
from govmiddleware.cli.common import ACTOR, AsJson, Config, Redis, print_json, print_table, with_governance
from govmiddleware.core.audit_log import Head
from govmiddleware.errors import CannotRestore, ConfigurationError, HistoryUnavailable, StoreUnavailable
from govmiddleware.services.audit import Findings
from govmiddleware.services.audit import audit as audit_journal

_COULD_NOT_CHECK = 2


def audit(
    *,
    head: Annotated[
        str | None, Parameter(help="NUMBER:MAC of an entry of the audit log, as the server's log has it.")
    ] = None,
    rebuild: Annotated[
        bool,
        Parameter(
            negative="",
            help="First make every counter what the journal says, also in a store that has lost them. Traffic may run.",
        ),
    ] = False,
    config: Config = None,
    redis: Redis = None,
    json: AsJson = False,
) -> int:
    """Compare every counter with the journal and the open reservations, and verify the audit log.

    Exit code 0 clean, 1 differences, 2 could not check.
    """
    try:
        heads = () if head is None else (Head.read(head),)
    except ValueError as error:
        raise ConfigurationError("--head", head, str(error)) from None

    async def check(governance: Governance) -> Findings:
        if rebuild:
            restored = await governance.registries.restore(actor=ACTOR)
            for kind, names in (("limits", restored.limits), ("API tokens", restored.api_tokens)):
                if names:
                    print(f"{len(names)} {kind} restored: {', '.join(names)}", file=sys.stderr)
            for done in await governance.rebuilding.rebuild():
                if done.counters or done.was_lost:
                    print(f"{done.workspace}: {done.counters} counters restored", file=sys.stderr)
        findings = await audit_journal(governance.journal, governance.history)
        findings.chain = await governance.storage.verify_audit_log(*heads)
        return findings

    try:
        findings = with_governance(check, config, redis)
    except (StoreUnavailable, HistoryUnavailable, CannotRestore) as error:
        print(f"govmiddleware: could not check: {error}", file=sys.stderr)
        return _COULD_NOT_CHECK
    shown = findings.shown()
    if json:
        print_json(shown)
    else:
        differences = cast("list[dict[str, object]]", shown["differences"])
        if differences:
            print_table(differences, list(differences[0]))
        for orphan in findings.orphans:
            print(f"orphan: {orphan} is in the store, and no book explains it")
        for workspace in findings.lost:
            print(f"lost: the store has lost what it had of {workspace}; --rebuild restores it")
        if findings.chain and findings.chain.problem:
            print(f"audit log: {findings.chain.problem}")
        print(
            f"{'ok' if findings.ok else 'NOT OK'}: {findings.checked} checked, {len(differences)} differences"
        )
    return 0 if findings.ok else 1
