"""Rows and CSV files hold the numbers and nothing that a spreadsheet would run."""

import csv
import io
import json
import math

import numpy as np
from test_charts import statistics

from hookscope.dashboard.drawing.ranking import channel_numbers, distance, order
from hookscope.dashboard.drawing.tables import (
    SORTS,
    channel_columns,
    channel_csv,
    channel_rows,
    in_order,
    layer_csv,
    statistics_rows,
)

A = np.array([[[0, 2]], [[-4, math.nan]]], np.float32)
B = np.array([[[1, 1]], [[-4, -4]]], np.float32)


def test_a_row_per_statistic_with_its_explanation():
    rows = {row["key"]: row for row in statistics_rows([statistics(A), statistics(B)])}
    assert rows["mean"]["A"] == "-0.6667"
    assert rows["mean"]["B"] == "-1.5"
    assert rows["zeros"]["A"] == "25.0 %"
    assert rows["nan"]["A"] == "1"
    assert rows["quantile3"]["name"] == "50 %"
    assert rows["quantile3"]["A"] == "0"
    assert rows["quantile0"]["name"] == "1 %"
    assert rows["count"]["A"] == "4"
    assert all(row["help"].endswith(".") and len(row["help"]) > 20 for row in rows.values())
    assert "B" not in statistics_rows([statistics(A)])[0]


def test_channel_rows_are_plain_json_numbers():
    ranked = order(A, B, "difference")
    rows = channel_rows([channel_numbers(A), channel_numbers(B)], ranked, distance(A, B))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [row["channel"] for row in rows] == [0, 1]
    assert [row["rank"] for row in rows] == [1, 2]
    assert (rows[0]["A_mean"], rows[0]["B_std"], rows[0]["difference"], rows[1]["A_nan"]) == (1, 0, 1, 1)
    nothing = channel_rows([channel_numbers(np.full((1, 2), math.nan, np.float32))], np.array([0]))
    assert nothing[0]["A_mean"] is None


def test_the_tables_columns_are_the_rows_fields():
    for labels, inputs in ((("A", "B"), [A, B]), (("A",), [A])):
        gap = distance(A, B) if len(inputs) == 2 else None
        both = (np.zeros(2), np.ones(2)) if len(inputs) == 2 else None
        row = channel_rows([channel_numbers(each) for each in inputs], np.arange(2), gap, labels, both)[0]
        columns = channel_columns(labels)
        assert [column["field"] for column in columns] == list(row)
        assert all(column["headerTooltip"] for column in columns)


def test_csv_has_every_digit():
    values = np.array([[[0.1, 0.2]]], np.float32)
    rows = list(csv.DictReader(io.StringIO(channel_csv([channel_numbers(values)], np.array([0])))))
    assert float(rows[0]["A mean"]) == np.float64(values.astype(np.float64).mean())
    assert rows[0]["A NaN"] == "0"
    two = channel_csv([channel_numbers(A), channel_numbers(B)], np.array([1, 0]), distance(A, B))
    assert two.splitlines()[0].endswith(",mean |A - B|")
    assert two.splitlines()[2].startswith("0,2,1.0,")


def test_a_table_and_its_file_are_in_the_walls_order_or_in_that_of_the_column_that_was_chosen():
    values = np.array([[[3.0]], [[math.nan]], [[1.0]], [[2.0]]], np.float32)
    numbers, ranked = [channel_numbers(values)], np.array([3, 0, 1, 2])

    def listed(sort: str) -> list[object]:
        return [row["channel"] for row in in_order(channel_rows(numbers, ranked), sort)]

    assert listed("") == listed("B_mean.asc") == [3, 0, 1, 2]  # a column that is not there changes nothing
    assert listed("A_mean.asc") == [1, 2, 3, 0] and listed("A_mean.desc") == [0, 3, 2, 1]  # as ag-grid has NaN
    lines = [line.split(",")[0] for line in channel_csv(numbers, ranked).splitlines()]
    assert lines == ["channel", "3", "0", "1", "2"]
    lines = [line.split(",")[0] for line in channel_csv(numbers, ranked, listed=[1, 2, 3, 0]).splitlines()]
    assert lines == ["channel", "1", "2", "3", "0"]
    assert {column["field"]: column["sort"] for column in channel_columns(("A",), sort="A_mean.desc")}[
        "A_mean"
    ] == "desc"
    fields = {column["field"] for column in channel_columns(("A", "B"), ("share", "effect", "estimate"), restored=True)}
    assert {f"{field}.{way}" for field in fields for way in ("asc", "desc")} == SORTS


def test_layer_csv():
    rows = list(csv.reader(io.StringIO(layer_csv("blocks.0", 1, [statistics(A)]))))
    assert rows[0] == ["layer", "call", "input", "statistic", "value"]
    assert ["blocks.0", "1", "A", "max", "2.0"] in rows
    assert ["blocks.0", "1", "A", "NaN", "1"] in rows


def test_text_that_a_spreadsheet_would_run_is_quoted():
    assert "'=cmd" in layer_csv("=cmd", 0, [statistics(A)])
    assert ",-0.666" in layer_csv("x", 0, [statistics(A)]), "a negative number stays a number"
