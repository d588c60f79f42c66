"""Why settings of a LiteLLM configuration are not carried over, by key."""

from __future__ import annotations

from typing import Final

_BUDGETS: Final = "Allod does not enforce budgets yet, and writes none it does not enforce"
_RATES: Final = "Allod sets no rate per minute; max_concurrent bounds what runs at once"
_SPREAD: Final = "Allod tries the deployments of a task in order and spreads nothing by chance"
_LOGGING: Final = "what happened is in Allod's own log and receipts; nothing is sent to others"
_CACHE: Final = "answers are kept per app, in memory, for the very same request only: set `cache_s` there"
_STORE: Final = "Allod has tables of its own in its home"

BUDGET: Final = ("max_budget", "budget_duration", "rpm", "tpm", "weight")
RESIDENCY: Final = ("region_name", "aws_region_name", "vertex_location", "allowed_model_region")

REASONS: Final = {
    "max_budget": _BUDGETS,
    "budget_duration": _BUDGETS,
    "soft_budget": _BUDGETS,
    "provider_budget_config": _BUDGETS,
    "tag_budget_config": _BUDGETS,
    "max_internal_user_budget": _BUDGETS,
    "internal_user_budget_duration": _BUDGETS,
    "max_end_user_budget": _BUDGETS,
    "default_internal_user_params": _BUDGETS,
    "default_key_generate_params": "keys are made by `allod keys create APP`",
    "upperbound_key_generate_params": "keys are made by `allod keys create APP`",
    "key_generation_settings": "keys are made by `allod keys create APP`",
    "rpm": _RATES,
    "tpm": _RATES,
    "rpm_limit": _RATES,
    "tpm_limit": _RATES,
    "weight": _SPREAD,
    "routing_strategy": _SPREAD,
    "routing_strategy_args": _SPREAD,
    "success_callback": _LOGGING,
    "failure_callback": _LOGGING,
    "callbacks": _LOGGING,
    "service_callbacks": _LOGGING,
    "callback_settings": _LOGGING,
    "alerting": _LOGGING,
    "cache": _CACHE,
    "cache_params": _CACHE,
    "redis_host": _CACHE,
    "redis_port": _CACHE,
    "redis_password": _CACHE,
    "redis_url": _CACHE,
    "database_url": _STORE,
    "store_model_in_db": "models in the proxy's database are not in this file: carry them over by hand",
    "content_policy_fallbacks": "an answer that was withheld is an answer, not a failure to fall back from",
    "allowed_fails": "a deployment that fails is left out for a while by Allod's own measure",
    "cooldown_time": "a deployment that fails is left out for a while by Allod's own measure",
    "enable_pre_call_checks": "every attempt is checked before it is sent, always",
    "enable_tag_filtering": "who may use what is decided by law, facts and tasks, not by tags",
    "tags": "who may use what is decided by law, facts and tasks, not by tags",
    "drop_params": "what a deployment cannot do is a reason not to choose it, not to drop what was asked",
    "guardrails": "filters are Allod's own detection, not carried over",
    "include": "import the included files one by one",
    "input_cost_per_second": "a price by time is not known here: fill in a price by tokens",
    "access_groups": "which app may use which task is said by the app, not by the deployment",
    "extra_headers": "headers to an operator are the driver's own; they may hold secrets",
    "temperature": "sampling is what the caller asks for",
    "max_tokens": "limits are max_output_tokens of the deployment, or what the caller asks for",
    "azure_ad_token": "a token in the file; only api keys are sent",
    "organization": "not sent",
}
