"""Requests whose answer, or whose very sending, pseudonyms cannot cover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_SURFACES: Final = frozenset({"chat", "responses", "messages"})
_STEERING: Final = {
    "logprobs": "log probabilities are given per piece of a token, and could not be restored",
    "top_logprobs": "log probabilities are given per piece of a token, and could not be restored",
    "logit_bias": "a bias on single tokens of a model would reach into pseudonyms",
    "stop": "a stop sequence would be compared with pseudonyms, not with what they stand for",
    "stop_token_ids": "a stop sequence would be compared with pseudonyms, not with what they stand for",
    "bad_words": "banned words would be compared with pseudonyms, not with what they stand for",
    "dry_sequence_breakers": "sequences would be compared with pseudonyms, not with what they stand for",
    "audio": "an answer in sound cannot be restored",
    "functions": "the old form of tools is not looked into; use tools",
    "function_call": "the old form of tools is not looked into; use tool_choice",
    "web_search_options": "what an operator searches for would hold pseudonyms",
    "grammar": "a grammar leaves a pseudonym no room",
    "ebnf": "a grammar leaves a pseudonym no room",
    "regex": "a pattern leaves a pseudonym no room",
    "guided_choice": "a choice leaves a pseudonym no room",
    "guided_grammar": "a grammar leaves a pseudonym no room",
    "guided_json": "a schema beside response_format is not looked into",
    "guided_regex": "a pattern leaves a pseudonym no room",
    "json_schema": "a schema beside response_format is not looked into",
    "structured_outputs": "a schema beside response_format is not looked into",
    "continue_final_message": "an answer that goes on in the middle of a text may begin inside a pseudonym",
}
"""Members of a body, and why a request that has one is refused."""


def refuses(body: Mapping[str, Any], surface: str) -> str | None:
    """Return why a request cannot be pseudonymised, or None.

    Judged by what is asked for alone, whatever the texts hold, so that an app learns it on the first request
    and not on the first that names somebody. ``body`` is the neutral form; several choices (``n``) are
    covered.
    """
    if surface not in _SURFACES:
        return {
            "embeddings": "an embedding of pseudonyms is not one of what they stand for",
            "count_tokens": "a count of pseudonyms is not one of what they stand for",
        }.get(surface, "nothing restores answers of this surface")
    for key, why in _STEERING.items():
        if _says(body.get(key)):
            return f"{key}: {why}"
    modalities = body.get("modalities")
    if isinstance(modalities, list) and any(one != "text" for one in modalities):
        return "modalities: an answer that is not text cannot be restored"
    return _unlike_text(body.get("messages"))


def _says(value: object) -> bool:
    return value not in (None, False, 0, "", [], {})


def _unlike_text(messages: object) -> str | None:
    for i, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict):
            return f"messages[{i}] is not a message"
        if message.get("prefix"):
            return f"messages[{i}].prefix: {_STEERING['continue_final_message']}"
        if _says(message.get("audio")) or _says(message.get("function_call")):
            return f"messages[{i}] holds sound, or a call of the old form"
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", "refusal"):
                return (
                    f"messages[{i}].content holds what is not text: nothing looks into images, sound or files"
                )
    return None
