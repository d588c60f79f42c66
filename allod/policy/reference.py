"""The second key: cedarpy decides, wrapped so that doubt denies.

Cedar by itself is open in two ways that matter here. A forbid whose condition errors is skipped, and the
answer may be Allow with a diagnostic beside it (cedar-policy/cedar issue 2428). And a request that does not
fit the schema gives no decision at all. Allow therefore means: decision Allow, no errors, entities parsed
under the schema, request checked against it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import cedarpy

from allod.domain.errors import Integrity, Invalid


class ReferenceVerdict(NamedTuple):
    """What the reference says: ``allowed`` fail-closed, deciding rule ids sorted, its errors as text."""

    allowed: bool
    reasons: tuple[str, ...]
    errors: tuple[str, ...]


class Reference:
    """Policies and schema parsed once; ``text`` is the Cedar text of all packs in force, joined.

    Rules named in ``without`` are left out of the set (relaxations).

    Raises:
        Invalid: Cedar cannot parse the policies or the schema, or they do not fit each other strictly.

    """

    def __init__(self, text: str, schema: str, without: frozenset[str] = frozenset()) -> None:
        try:
            self._schema = cedarpy.Schema.from_str(schema)
            problems = cedarpy.validate_policies(text, self._schema).errors
            self._policies = _policies(text, without)
        except ValueError as error:
            raise Invalid("the policies cannot be read", str(error), "correct the pack") from error
        if problems:
            raise Invalid("the policies do not fit their schema", str(problems[0]), "correct the pack")

    def entities(self, entities: list[dict[str, Any]]) -> cedarpy.Entities:
        """Parse entities under the schema.

        Raises:
            Integrity: they do not conform; nothing may be decided on them.

        """
        try:
            return cedarpy.Entities.from_json_str(json.dumps(entities), self._schema)
        except ValueError as error:
            raise Integrity(
                "the fleet's facts do not fit the policy schema", str(error), "correct the configuration"
            ) from error

    def decide(
        self, requests: Iterable[Mapping[str, Any]], entities: cedarpy.Entities
    ) -> tuple[ReferenceVerdict, ...]:
        """Decide each request (``request_of``) by itself; the batch call never raises for one of them."""
        results = cedarpy.is_authorized_batch(
            [dict(request) for request in requests], self._policies, entities, self._schema
        )
        return tuple(_verdict(result) for result in results)


def request_of(app: str, deployment: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request in the structured form, which takes any id without quoting; ``context`` is JSON."""
    return {
        "principal": {"type": "Allod::App", "id": app},
        "action": {"type": "Allod::Action", "id": "dispatch"},
        "resource": {"type": "Allod::Deployment", "id": deployment},
        "context": dict(context),
    }


def _policies(text: str, without: frozenset[str]) -> cedarpy.PolicySet:
    if not without:
        return cedarpy.PolicySet.from_str(text)
    est = json.loads(cedarpy.policies_to_json_str(text))
    est["staticPolicies"] = {
        name: policy
        for name, policy in est["staticPolicies"].items()
        if policy["annotations"]["id"] not in without
    }
    return cedarpy.PolicySet.from_json_str(json.dumps(est))


def _verdict(result: cedarpy.AuthzResult) -> ReferenceVerdict:
    errors = tuple(result.diagnostics.errors)
    ids = result.diagnostics.id_annotations_by_reason
    reasons = tuple(sorted(ids.get(reason, reason) for reason in result.diagnostics.reasons))
    allowed = result.decision == cedarpy.Decision.Allow and not errors
    return ReferenceVerdict(allowed, reasons, errors)
