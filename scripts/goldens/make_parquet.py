#!/usr/bin/env python3
"""Writes test/golden/data/pyarrow-*.parquet and pyarrow.json, the same rows as a reader should see them.

    python -m venv V && V/bin/pip install pyarrow
    V/bin/python scripts/goldens/make_parquet.py
"""
import datetime as dt, decimal, json, os
import pyarrow as pa, pyarrow.parquet as pq

out = os.path.join(os.path.dirname(__file__), "..", "..", "test", "golden", "data")
os.makedirs(out, exist_ok=True)
n = 12
days = [dt.date(2024, 2, 29) + dt.timedelta(days=i) for i in range(n)]
table = pa.table({
    "prompt": pa.array([f"Frage {i} ü" for i in range(n)]),
    "kind": pa.array(["easy" if i % 3 else "hard" for i in range(n)]).dictionary_encode(),
    "int32": pa.array([None if i == 5 else i - 3 for i in range(n)], pa.int32()),
    "int64": pa.array([i * 2**51 for i in range(n)], pa.int64()),
    "float": pa.array([i / 4 for i in range(n)], pa.float32()),
    "flag": pa.array([i % 2 == 0 for i in range(n)]),
    "day": pa.array(days),
    "time": pa.array([dt.datetime(2024, 1, 1, 0, 0, i) for i in range(n)], pa.timestamp("us")),
    "price": pa.array([decimal.Decimal(i) / 4 for i in range(n)], pa.decimal128(10, 2)),
    "list": pa.array([[f"t{k}" for k in range(i % 3)] for i in range(n)], pa.list_(pa.string())),
    "messages": pa.array([[{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "ho"}] for i in range(n)]),
    "struct": pa.array([{"a": i, "b": {"c": f"x{i}"}} for i in range(n)]),
})
expected = [{
    "prompt": f"Frage {i} ü", "kind": "easy" if i % 3 else "hard", "int32": None if i == 5 else i - 3,
    "int64": i * 2**51 if i * 2**51 < 2**53 else str(i * 2**51), "float": i / 4, "flag": i % 2 == 0, "day": days[i].isoformat(),
    "time": f"2024-01-01T00:00:{i:02d}.000Z", "price": i / 4, "list": [f"t{k}" for k in range(i % 3)],
    "messages": [{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "ho"}], "struct": {"a": i, "b": {"c": f"x{i}"}},
} for i in range(n)]
for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    pq.write_table(table, os.path.join(out, f"pyarrow-{codec}.parquet"), compression=codec, row_group_size=7)
with open(os.path.join(out, "pyarrow.json"), "w") as f:
    json.dump(expected, f, ensure_ascii=False)
    f.write("\n")
