"""A hostile or careless configuration: refused with a reason, never half understood, never shown around."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from world import config, deployment

from allod.domain.errors import Invalid
from allod.gateway import config as configuration
from allod.store.home import make_home


def refused(text: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        configuration.parse(text)
    return caught.value


@pytest.mark.parametrize("price", ["1e-60", "1e999999", "-1", "inf", "nan", "1e9999999999999999999", "true"])
def test_a_price_that_cannot_be_added_up_exactly_is_refused(price: str) -> None:
    text = config([deployment("d", "answer", price={"input_usd_mtok": 1, "output_usd_mtok": 987654321})])
    refused(text.replace("987654321", price))


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000 + "]" * 5000, "1e-400"])
def test_a_number_or_nesting_that_python_chokes_on_is_an_error_of_ours(value: str) -> None:
    refused(
        config([deployment("d", "answer")], tasks=[{"name": "t", "min_quality": 987654321}]).replace(
            "987654321", value
        )
    )


@pytest.mark.parametrize("url", ["https://user:hunter2@host/v1", "htps://user:hunter2@host/v1", "hunter2"])
def test_a_credential_in_a_base_url_is_refused_and_not_repeated(url: str) -> None:
    error = refused(config([deployment("d", "answer", base_url=url)]))
    assert "hunter2" not in error.explain()


@pytest.mark.parametrize("names", [{"id": "auto"}, {"model": "auto"}])
def test_no_deployment_takes_the_name_auto(names: dict[str, Any]) -> None:
    refused(config([{**deployment("d", "answer"), **names}]))


def test_a_task_may_not_have_the_name_of_a_model() -> None:
    refused(config([deployment("d", "answer")], tasks=[{"name": "answer"}]))


def test_I2_an_empty_list_of_default_classes_is_no_way_down() -> None:
    refused(config([deployment("d", "answer")], apps=[{"id": "a"}], tenant={"default_classes": []}))


@pytest.mark.parametrize("value", [1, 0, "true", []])
def test_a_truth_is_written_as_one(value: Any) -> None:
    refused(config([deployment("d", "answer", inspectable=value)]))
    refused(config([deployment("d", "answer", approved=value)]))


def test_I9_what_holds_salts_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = make_home(tmp_path / "fresh")
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.database.stat().st_mode) == 0o600
    home.database.chmod(0o644)
    make_home(home.root)
    assert stat.S_IMODE(home.database.stat().st_mode) == 0o600


def test_two_who_make_one_home_at_once_make_one_home(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\n"
        "from allod.store.home import load_keys, make_home\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "print(load_keys(make_home(pathlib.Path(sys.argv[1]))).origin)\n"
    )
    for turn in range(3):
        at = str(time.time() + 1.5)
        argv = [sys.executable, "-c", code, str(tmp_path / f"home{turn}"), at]
        makers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        origins = {maker.communicate(timeout=30)[0] for maker in makers}
        assert [maker.returncode for maker in makers] == [0] * 4
        assert len(origins) == 1
