"""Keys and tokens whose form names their service; forms from the services' own descriptions.

Each entry: type, marks (at least one stands in every token; found by the one pass over the text), pattern.
"""

# ruff: noqa: E501 (patterns are not broken)

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

_L: Final = r"(?<![A-Za-z0-9])"
_E: Final = r"(?![A-Za-z0-9])"


class Token(msgspec.Struct, frozen=True, eq=False):
    """One kind of token: its type, the literal marks that announce it, and its whole form."""

    type: str
    marks: tuple[str, ...]
    form: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The form, compiled at its first use: most of them never meet their mark."""
        return compiled(self.form)


@lru_cache(maxsize=256)
def compiled(form: str) -> re.Pattern[str]:
    """Compile a pattern once."""
    return re.compile(form)


def _token(kind: str, marks: str, pattern: str, *, left: str = _L, right: str = _E) -> Token:
    return Token(kind, tuple(marks.split()), left + "(?:" + pattern + ")" + right)


TOKENS: Final[tuple[Token, ...]] = (
    _token(
        "AWS_KEY",
        "AKIA ASIA ABIA ACCA AGPA AIDA AROA AIPA ANPA ANVA",
        "(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA)[A-Z2-7]{16}|(?:AKIA|ASIA)[A-Z0-9]{16}",
    ),
    _token(
        "GITHUB_TOKEN",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        "gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,255}",
    ),
    _token(
        "GITLAB_TOKEN",
        "glpat- gldt- glrt- glptt- glsoat- glcbt- glft- glagent- glimt- gloas-",
        r"gl(?:pat|dt|rt|ptt|soat|cbt|ft|imt|oas)-[A-Za-z0-9_.=-]{20,300}|glagent-[A-Za-z0-9_-]{40,60}",
    ),
    _token(
        "JWT",
        "eyJ",
        r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}|eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"
        r"\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]{10,}){0,2}",
        right=r"(?![A-Za-z0-9_-])",
    ),
    _token(
        "SLACK_TOKEN",
        "xoxb- xoxp- xoxa- xoxr- xoxs- xoxo- xoxc- xoxd- xapp- xoxe",
        r"xox[abcdoprs]-[A-Za-z0-9-]{10,250}|xoxe(?:\.xox[bp])?-[A-Za-z0-9-]{20,250}|xapp-[0-9]-[A-Za-z0-9-]{20,250}",
    ),
    _token(
        "SLACK_WEBHOOK",
        "hooks.slack.com",
        r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9_+/-]{20,120}",
    ),
    _token(
        "STRIPE_KEY",
        "sk_live_ sk_test_ rk_live_ rk_test_ whsec_",
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,247}|whsec_[A-Za-z0-9+/=]{24,64}",
    ),
    _token(
        "GCP_KEY",
        "AIza GOCSPX- ya29.",
        r"AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{20,400}",
    ),
    _token("ANTHROPIC_KEY", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,200}", right="(?![A-Za-z0-9_-])"),
    _token("OPENROUTER_KEY", "sk-or-", r"sk-or-(?:v1-)?[A-Za-z0-9]{32,128}"),
    _token(
        "OPENAI_KEY",
        "sk-",
        r"sk-(?:proj-|svcacct-|admin-|None-)[A-Za-z0-9_-]{20,220}|sk-[A-Za-z0-9]{20,64}",
        right="(?![A-Za-z0-9_-])",
    ),
    _token("HUGGINGFACE_TOKEN", "hf_ api_org_", "hf_[A-Za-z0-9]{30,60}|api_org_[A-Za-z0-9]{34}"),
    _token("GROQ_KEY", "gsk_", "gsk_[A-Za-z0-9]{40,64}"),
    _token("XAI_KEY", "xai-", "xai-[A-Za-z0-9]{60,100}"),
    _token("PERPLEXITY_KEY", "pplx-", "pplx-[A-Za-z0-9]{40,64}"),
    _token("REPLICATE_TOKEN", "r8_", "r8_[A-Za-z0-9]{30,44}"),
    _token("NPM_TOKEN", "npm_", "npm_[A-Za-z0-9]{36}"),
    _token("PYPI_TOKEN", "pypi-", "pypi-AgE[A-Za-z0-9_-]{50,300}", right="(?![A-Za-z0-9_-])"),
    _token("RUBYGEMS_KEY", "rubygems_", "rubygems_[a-f0-9]{48}"),
    _token("TWILIO_KEY", "SK AC", "(?:SK|AC)[0-9a-f]{32}"),
    _token(
        "SENDGRID_KEY", "SG.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64}", right="(?![A-Za-z0-9_-])"
    ),
    _token("MAILGUN_KEY", "key- pubkey-", "(?:pub)?key-[a-f0-9]{32}"),
    _token("MAILCHIMP_KEY", "-us", "[0-9a-f]{32}-us[0-9]{1,2}"),
    _token("DIGITALOCEAN_TOKEN", "dop_v1_ doo_v1_ dor_v1_", "do[opr]_v1_[a-f0-9]{64}"),
    _token("SHOPIFY_TOKEN", "shpat_ shpca_ shppa_ shpss_", "shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _token(
        "DISCORD_TOKEN",
        "discord",
        r"https://(?:canary\.|ptb\.)?discord(?:app)?\.com/api/webhooks/[0-9]{17,20}/[A-Za-z0-9_-]{60,80}",
    ),
    _token(
        "DISCORD_TOKEN",
        ".G .X .Y .Z",
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}",
        right="(?![A-Za-z0-9_-])",
    ),
    _token("TELEGRAM_TOKEN", ":AA", "[0-9]{8,10}:AA[A-Za-z0-9_-]{32,33}", right="(?![A-Za-z0-9_-])"),
    _token("DATABRICKS_TOKEN", "dapi", "dapi[a-f0-9]{32}(?:-[0-9])?"),
    _token("VAULT_TOKEN", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{24,300}", right="(?![A-Za-z0-9_-])"),
    _token("TERRAFORM_TOKEN", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}"),
    _token(
        "GRAFANA_TOKEN", "glsa_ glc_", "glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/]{32,400}={0,3}"
    ),
    _token(
        "SQUARE_TOKEN",
        "sq0atp- sq0csp- EAAA",
        "sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,43}|EAAA[A-Za-z0-9_-]{60}",
        right="(?![A-Za-z0-9_-])",
    ),
    _token(
        "DOPPLER_TOKEN", "dp.", r"dp\.(?:pt|st|sa|ct|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}"
    ),
    _token("LINEAR_KEY", "lin_api_ lin_oauth_", "lin_(?:api|oauth)_[A-Za-z0-9]{40,64}"),
    _token("NOTION_TOKEN", "ntn_ secret_", "ntn_[A-Za-z0-9]{40,50}|secret_[A-Za-z0-9]{43}"),
    _token("POSTMAN_KEY", "PMAK-", "PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _token("NEWRELIC_KEY", "NRAK- NRII- NRJS-", "NRAK-[A-Z0-9]{27}|NRII-[A-Za-z0-9_-]{32}|NRJS-[a-f0-9]{19}"),
    _token("ATLASSIAN_TOKEN", "ATATT3 ATCTT3", "AT[AC]TT3[A-Za-z0-9_=-]{60,300}", right="(?![A-Za-z0-9_=-])"),
    _token("DROPBOX_TOKEN", "sl.", r"sl\.(?:u\.)?[A-Za-z0-9_-]{100,1400}", right="(?![A-Za-z0-9_-])"),
    _token("FACEBOOK_TOKEN", "EAAC EAAG EAAM EAAP EAAB", "EAA[ABCGMP][A-Za-z0-9]{60,300}"),
    _token("CLOUDFLARE_KEY", "v1.0-", r"v1\.0-[a-f0-9]{24}-[a-f0-9]{100,160}"),
    _token("HEROKU_KEY", "HRKU-", "HRKU-[A-Za-z0-9_-]{36,70}", right="(?![A-Za-z0-9_-])"),
    _token("OKTA_TOKEN", "SSWS", "(?<=SSWS )00[A-Za-z0-9_-]{38,42}", left=""),
    _token("FIGMA_TOKEN", "figd_", "figd_[A-Za-z0-9_-]{36,60}", right="(?![A-Za-z0-9_-])"),
    _token("AIRTABLE_TOKEN", "pat", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    _token("ALIBABA_KEY", "LTAI", "LTAI[A-Za-z0-9]{12,26}"),
    _token("TENCENT_KEY", "AKID", "AKID[A-Za-z0-9]{32}"),
    _token(
        "DOCKER_TOKEN", "dckr_pat_ dckr_oat_", "dckr_[po]at_[A-Za-z0-9_-]{27,32}", right="(?![A-Za-z0-9_-])"
    ),
    _token("PLANETSCALE_TOKEN", "pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,64}"),
    _token("SUPABASE_TOKEN", "sbp_ sb_secret_", "sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,50}"),
    _token("SENTRY_TOKEN", "sntrys_ sntryu_", "sntrys_[A-Za-z0-9+/=_-]{50,400}|sntryu_[a-f0-9]{64}"),
    _token("BUILDKITE_TOKEN", "bkua_ bkaj_ bkct_", "bk(?:ua|aj|ct)_[A-Za-z0-9]{32,64}"),
    _token("CIRCLECI_TOKEN", "CCIPAT_ CCIPRJ_", "CCIP(?:AT|RJ)_[A-Za-z0-9_]{30,90}"),
    _token("NETLIFY_TOKEN", "nfp_", "nfp_[A-Za-z0-9]{36,40}"),
    _token("FLY_TOKEN", "fo1_ FlyV1", "fo1_[A-Za-z0-9_-]{40,60}|FlyV1 fm[12]_[A-Za-z0-9+/=]{40,700}"),
    _token(
        "TAILSCALE_KEY",
        "tskey-",
        "tskey-(?:auth|api|client|webhook|scim)-[A-Za-z0-9]{8,32}-[A-Za-z0-9]{20,48}",
    ),
    _token("NGROK_TOKEN", "ngrok", r"(?<=authtoken )[A-Za-z0-9]{27}_[A-Za-z0-9]{20,24}", left=""),
    _token("MAPBOX_TOKEN", "sk.eyJ", r"sk\.eyJ[A-Za-z0-9_-]{40,200}\.[A-Za-z0-9_-]{20,40}"),
    _token("PULUMI_TOKEN", "pul-", "pul-[a-f0-9]{40}"),
    _token(
        "ONEPASSWORD_TOKEN",
        "ops_eyJ A3-",
        "ops_eyJ[A-Za-z0-9+/=]{100,900}|A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}",
    ),
    _token("AGE_KEY", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    _token(
        "AZURE_KEY", "8Q~ 7Q~", r"[A-Za-z0-9_~.]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}", right="(?![A-Za-z0-9_~.-])"
    ),
    _token(
        "AZURE_KEY",
        "AccountKey= SharedAccessKey= sig=",
        r"(?<=AccountKey=)[A-Za-z0-9+/]{40,90}={0,2}|(?<=SharedAccessKey=)[A-Za-z0-9+/]{40,90}={0,2}"
        r"|(?<=[?&]sig=)[A-Za-z0-9%+/]{40,90}={0,2}",
        left="",
        right="",
    ),
)
BEARER: Final = re.compile(r"(?i:\bbearer)[ \t]+([A-Za-z0-9._~+/-]{20,2000}=*)")
BASIC: Final = re.compile(
    r"(?i:authorization)[\"']?\s*[:=]\s*[\"']?(?i:basic)[ \t]+([A-Za-z0-9+/]{8,400}={0,2})"
)
PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^-]{16,8192}?(?:-----END [A-Z0-9 ]{4,40}-----)|[\sA-Za-z0-9+/=:,\\-]{16,8192})"
    r"|PuTTY-User-Key-File-[0-9]: [^\n]{4,60}(?:\n[^\n]{0,200}){0,80}"
)
