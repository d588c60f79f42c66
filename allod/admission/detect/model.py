"""What detection says, and which data classes each type of finding raises (DESIGN section 5).

A detector never lowers: its result is a set of classes to add. The table below is the only place where a
type becomes a class; a class that belongs to a pack the tenant has not loaded falls back to base classes,
so that a finding is never lost for want of a pack.
"""

from __future__ import annotations

from typing import Final

import msgspec

from allod.domain.classes import BASE_CLASSES

VERSION: Final = "detect-1"
"""Named in receipts beside the types and counts; changes whenever a detector or its table does."""

SECRET_TYPES: Final[frozenset[str]] = frozenset(
    """
    AGE_KEY AIRTABLE_TOKEN ALIBABA_KEY ANTHROPIC_KEY ATLASSIAN_TOKEN AWS_KEY AWS_SECRET AZURE_KEY
    BEARER_TOKEN BUILDKITE_TOKEN CIRCLECI_TOKEN CLOUDFLARE_KEY DATABRICKS_TOKEN DIGITALOCEAN_TOKEN
    DISCORD_TOKEN DOCKER_TOKEN DOPPLER_TOKEN DROPBOX_TOKEN FACEBOOK_TOKEN FIGMA_TOKEN FLY_TOKEN GCP_KEY
    GITHUB_TOKEN GITLAB_TOKEN GRAFANA_TOKEN GROQ_KEY HEROKU_KEY HUGGINGFACE_TOKEN JWT LINEAR_KEY
    MAILCHIMP_KEY MAILGUN_KEY MAPBOX_TOKEN NETLIFY_TOKEN NEWRELIC_KEY NGROK_TOKEN NOTION_TOKEN NPM_TOKEN
    OKTA_TOKEN ONEPASSWORD_TOKEN OPENAI_KEY OPENROUTER_KEY PASSWORD PERPLEXITY_KEY PLANETSCALE_TOKEN
    POSTMAN_KEY PRIVATE_KEY PULUMI_TOKEN PYPI_TOKEN REPLICATE_TOKEN RUBYGEMS_KEY SENDGRID_KEY
    SENTRY_TOKEN SHOPIFY_TOKEN SLACK_TOKEN SLACK_WEBHOOK SQUARE_TOKEN STRIPE_KEY SUPABASE_TOKEN
    TAILSCALE_KEY TELEGRAM_TOKEN TENCENT_KEY TERRAFORM_TOKEN TWILIO_KEY VAULT_TOKEN XAI_KEY
    """.split()
)
PERSONAL_TYPES: Final[frozenset[str]] = frozenset(
    """
    AE_EID AL_NID AM_PSN AR_CUIT AR_DNI AT_SVNR AU_MEDICARE AU_TFN AZ_FIN BANK_ACCOUNT BD_NID BE_NN
    BG_EGN BR_CNS BR_CPF BR_PIS BR_RG BY_ID CARD CA_HEALTH CA_SIN CH_AHV CL_RUT CN_RIC CO_CC CO_NIT
    CR_CEDULA CU_NI CY_TIC CZ_RC DATE_OF_BIRTH DE_HEALTH_INSURANCE DE_ID_CARD DE_PENSION DE_TAX_ID
    DK_CPR DO_CEDULA DRIVER_LICENSE DZ_NIN EC_CI EE_IK EG_NID EMAIL ES_DNI ES_NIE ES_SS FI_HETU FR_NIR
    FR_SPI GE_PN GH_PIN GR_AFM GR_AMKA GT_CUI HK_ID HR_OIB HU_PERSONAL_ID HU_TAJ HU_TAX_ID IBAN ID_NIK
    IE_PPS IL_ID IN_AADHAAR IN_PAN IN_VOTER IR_MELLI IS_KENNITALA IT_CODICE_FISCALE JP_MYNUMBER KE_ID
    KE_PIN KR_RRN KW_CID KZ_IIN LK_NIC LT_AK LU_MATRICULE LV_PK MA_CIN MD_IDNP MK_EMBG MT_ID MU_NID
    MX_CURP MX_NSS MX_RFC MY_NRIC NG_NIN NL_BSN NO_FNR NP_CITIZENSHIP NZ_IRD NZ_NHI PASSPORT PERSON
    PE_CUI PE_DNI PHONE PH_SSS PK_CNIC PL_ID_CARD PL_NIP PL_PESEL PT_CC PT_NIF RO_CNP RS_JMBG RU_INN
    RU_PASSPORT RU_SNILS SA_NID SE_PERSONNUMMER SG_NRIC SI_EMSO SI_TAX SK_RC STREET_ADDRESS TH_PIN
    TN_CIN TR_TCKN TW_ID UA_RNTRC UA_UNZR UK_NHS UK_NINO UK_UTR US_DEA US_ITIN US_MBI US_NPI US_SSN
    UY_CI VE_CI VN_CCCD ZA_ID
    """.split()
)
"""What identifies or reaches a person."""

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
"""Type to alternatives, best first: the first whose classes the tenant knows is raised, else the last."""

PERSONAL: Final[tuple[tuple[str, ...], ...]] = (("personal",),)
"""What every type raises that is not in the table: those of ``PERSONAL_TYPES``."""
TYPES: Final[frozenset[str]] = PERSONAL_TYPES | frozenset(CLASSES)
"""Every type of finding there is."""


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
        types: how many findings of each type, sorted by type; each class is raised by one of them, also when
            its finding gave way to another (an address inside a token).
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
    """Return the classes a type raises for a tenant that knows the classes ``known``; never empty.

    A class of a pack comes on top of the base's and never in its place: a pack in force takes nothing away
    (I2).
    """
    alternatives = CLASSES.get(kind, PERSONAL)
    for names in alternatives:
        if known.issuperset(names):
            return tuple(dict.fromkeys((*names, *alternatives[-1])))
    return alternatives[-1]
