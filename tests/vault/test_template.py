# ruff: noqa: E501 (one template a line)
from __future__ import annotations

import time

import pytest
from gguf_writer import TEMPLATE
from hypothesis import given, settings
from hypothesis import strategies as st

from allod.domain.errors import Invalid
from allod.vault import template

REFUSED = {
    "long-range": "{% for i in range(1000000000) %}{% endfor %}",
    "long-range-with-start": "{% for i in range(0, 999999, 1) %}{% endfor %}",
    "long-range-outside-a-loop": "{{ range(50000)|list }}",
    "long-range-by-name": "{% set n = 1000000000 %}{% for i in range(n) %}{% endfor %}",
    "negative-range": "{% for i in range(-1000000000, 0) %}{% endfor %}",
    "nested-loops": "{% for i in range(900) %}{% for j in range(900) %}x{% endfor %}{% endfor %}",
    "loop-over-literal-text": "{% for c in '" + "a" * 20_000 + "' %}{% endfor %}",
    "deep-loops": "{% for a in x %}" * 9 + "{% endfor %}" * 9,
    "text-times-number": "{{ 'a' * 100000000 }}",
    "number-times-text": "{{ 1000 * 'aaaa' }}",
    "list-times-number": "{{ [1, 2] * 900 }}",
    "big-factor": "{{ n * 50000 }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "dunder-attribute": "{{ ''.__class__.__mro__ }}",
    "dunder-item": "{{ messages['__class__'] }}",
    "private-attribute": "{{ messages._x }}",
    "include": "{% include 'etc' %}",
    "import": "{% import 'x' as y %}",
    "extends": "{% extends 'x' %}",
    "not-a-template": "{% if %}",
    "unclosed": "{% for x in y %}",
    "deep-parentheses": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "many-nots": "{{ " + "not " * 15_000 + "1 }}",
    "number-without-end": "{{ " + "9" * 5_000 + " }}",
    "too-long": "x" * (template.MAX_TEMPLATE_BYTES + 1),
    "too-long-in-bytes": "\u00e4" * (template.MAX_TEMPLATE_BYTES // 2 + 1),
    "too-many-parts": "{{a+b}}" * 9_000,
}


@pytest.mark.parametrize("case", REFUSED)
def test_dangerous_templates_are_refused_fast(case: str) -> None:
    began = time.process_time()
    with pytest.raises(Invalid) as caught:
        template.check(REFUSED[case])
    assert time.process_time() - began < 2.0
    assert caught.value.why


@pytest.mark.parametrize(
    "text",
    [
        TEMPLATE,
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
        "{{ raise_exception('roles must alternate') }}{{ strftime_now('%Y') }}",
        "{% set ns = namespace(i=0) %}{% for i in range(messages|length) %}{% set ns.i = ns.i + 1 %}{% endfor %}",
        "{% macro a(x) %}{{ x|tojson(indent=4) }}{% endmacro %}{{ a(tools) }}",
        "{{ '  ' * depth }}{{ depth * '  ' }}",
        "{{ messages[0]['content'].split('</think>')[-1].lstrip('\\n') }}",
    ],
)
def test_ordinary_templates_pass(text: str) -> None:
    template.check(text)


def test_comparisons_of_content_with_fixed_text_are_flagged() -> None:
    hidden = "{% for m in messages %}{% if 'deploy' in m.content %}{{ 'leak' }}{% endif %}{{ m['content'] }}{% endfor %}"
    assert template.check(hidden) == ("line 1: content is compared with 'deploy'",)
    assert template.check("{% if m['content'] == 'x' %}{% endif %}") == (
        "line 1: content is compared with 'x'",
    )
    for spelling in ("m.content|lower", "m['content'].strip()", "content[:6]", "(m.content|trim).upper()"):
        assert len(template.check("{% if " + spelling + " == 'DEPLOY' %}{% endif %}")) == 1, spelling
    for usual in (
        "m.role == 'user'",
        "'</think>' in m.content",
        "m.content == ''",
        "content['type'] == 'text'",
    ):
        assert template.check("{% if " + usual + " %}{% endif %}") == (), usual


@settings(max_examples=300, deadline=2000)
@given(st.text(st.sampled_from("{}%#-+*()[]'\"|.,= \nabfori0123456789_"), max_size=400))
def test_any_text_is_judged_cleanly(text: str) -> None:
    try:
        template.check(text)
    except Invalid as error:
        assert error.why  # noqa: PT017
