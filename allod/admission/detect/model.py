"""What detection says, and which data classes each type of finding raises (DESIGN section 5).

A detector never lowers: its result is a set of classes to add. The table below is the only place where a type
becomes a class; a class that belongs to a pack the tenant has not loaded falls back to base classes, so that a
finding is never lost for want of a pack.
"""

from __future__ import annotations

from typing import Final

import msgspec

from allod.domain.classes import BASE_CLASSES

VERSION: Final = "detect-1"
"""Named in receipts beside the types and counts; changes whenever a detector or its table does."""

SECRET_TYPES: Final[frozenset[str]] = frozenset(
    """
    AGE_KEY AIRTABLE_TOKEN ALIBABA_KEY ANTHROPIC_KEY ATLASSIAN_TOKEN AWS_KEY AWS_SECRET AZURE_KEY BEARER_TOKEN
    BUILDKITE_TOKEN CIRCLECI_TOKEN CLOUDFLARE_KEY DATABRICKS_TOKEN DIGITALOCEAN_TOKEN DISCORD_TOKEN DOCKER_TOKEN
    DOPPLER_TOKEN DROPBOX_TOKEN FACEBOOK_TOKEN FIGMA_TOKEN FLY_TOKEN GCP_KEY GITHUB_TOKEN GITLAB_TOKEN
    GRAFANA_TOKEN GROQ_KEY HEROKU_KEY HUGGINGFACE_TOKEN JWT LINEAR_KEY MAILCHIMP_KEY MAILGUN_KEY MAPBOX_TOKEN
    NETLIFY_TOKEN NEWRELIC_KEY NGROK_TOKEN NOTION_TOKEN NPM_TOKEN OKTA_TOKEN ONEPASSWORD_TOKEN OPENAI_KEY
    OPENROUTER_KEY PASSWORD PERPLEXITY_KEY PLANETSCALE_TOKEN POSTMAN_KEY PRIVATE_KEY PULUMI_TOKEN PYPI_TOKEN
    REPLICATE_TOKEN RUBYGEMS_KEY SENDGRID_KEY SENTRY_TOKEN SHOPIFY_TOKEN SLACK_TOKEN SLACK_WEBHOOK SQUARE_TOKEN
    STRIPE_KEY SUPABASE_TOKEN TAILSCALE_KEY TELEGRAM_TOKEN TENCENT_KEY TERRAFORM_TOKEN TWILIO_KEY VAULT_TOKEN
    XAI_KEY
    """.split()
)

_CONFIDENTIAL: Final = ("confidential",)
_STATE: Final = ("confidential", "restricted")
_HEALTH: Final = ("phi",)
CLASSES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    **dict.fromkeys(SECRET_TYPES, (_CONFIDENTIAL,)),
    "MARKING_STATE": (_STATE,),
    "MARKING_CONFIDENTIAL": (_CONFIDENTIAL,),
    "MARKING_INTERNAL": (("internal",),),
    "MARKING_PRIVILEGED": (("privileged",), _CONFIDENTIAL),
    "MARKING_EXPORT": (("export",), _STATE),
    "MARKING_BCSI": (("bcsi",), _STATE),
    "INSIDER_INFORMATION": (("mnpi",), _CONFIDENTIAL),
    "TRADE_SECRET": (("trade-secret",), _CONFIDENTIAL),
    "HEALTH": (_HEALTH,),
    "MEDICAL_RECORD": (_HEALTH,),
    "SPECIAL_CATEGORY": (("special",),),
}
"""Type to alternatives, best first: the first alternative whose classes the tenant knows is raised."""

PERSONAL: Final[tuple[tuple[str, ...], ...]] = (("personal",),)
"""Every type that is not in the table: contacts, identifiers, cards, accounts, names, addresses, births."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant sets about detection.

    Attributes:
        known_classes: the classes the tenant's packs know; others fall back (see ``CLASSES``).
        without: types that are not wanted, for example ``PERSON``.
        max_chars: a longer text is scanned up to here and reported as incomplete.
        max_decoded_chars: so much text inside base64 and hexadecimal blobs is looked at; more is incomplete.

    """

    known_classes: frozenset[str] = BASE_CLASSES
    without: frozenset[str] = frozenset()
    max_chars: int = 2_000_000
    max_decoded_chars: int = 262_144


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One place in the text: ``start`` and ``end`` (exclusive) in characters of the text as it was given."""

    start: int
    end: int
    type: str
    class_: str


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one scan; it holds no text.

    Attributes:
        types: how many findings of each type, sorted by type.
        classes: every class to add; not expanded.
        findings: in order of their place, without overlaps.
        complete: False when the text was over size, the deadline passed or a detector failed: the caller adds
            ``unscanned``.
        version: of the detectors.

    """

    types: dict[str, int]
    classes: frozenset[str]
    findings: tuple[Finding, ...]
    complete: bool
    version: str = VERSION


class Hit(msgspec.Struct, frozen=True):
    """A finding before overlaps are settled: positions in a view, type, and how sure it is (higher wins)."""

    start: int
    end: int
    type: str
    score: float


def classes_of(kind: str, known: frozenset[str]) -> tuple[str, ...]:
    """Return the classes a type raises for a tenant that knows the classes ``known``; never empty."""
    alternatives = CLASSES.get(kind, PERSONAL)
    for names in alternatives:
        if known.issuperset(names):
            return names
    return alternatives[-1]
