"""Properties files are read as Java reads them."""

from __future__ import annotations

import pytest

from asparkle.core.errors import ConfigurationError
from asparkle.launcher.settings import read_properties


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("spark.a b", {"spark.a": "b"}),
        ("spark.a=b\nspark.c: d\n\n  spark.e\t f g  ", {"spark.a": "b", "spark.c": "d", "spark.e": "f g"}),
        ("# spark.a b\n! spark.c d", {}),
        ("spark.a b # no comment", {"spark.a": "b # no comment"}),
        ("spark.a b,\\\n   c", {"spark.a": "b,c"}),
        ("spark.a one\\\\\nspark.b two", {"spark.a": "one\\", "spark.b": "two"}),
        ("spark.a", {"spark.a": ""}),
        ("spark.a = b=c", {"spark.a": "b=c"}),
        (r"spark.a tab\there \u00e9", {"spark.a": "tab\there é"}),
        (r"spark.a\ b c", {"spark.a b": "c"}),
        ("spark.a 1\nspark.a 2", {"spark.a": "2"}),
        ("asparkle.a b", {"asparkle.a": "b"}),
        ("spark.a b\r\nspark.c d\r\n", {"spark.a": "b", "spark.c": "d"}),
    ],
)
def test_a_properties_file(tmp_path, text, settings):
    path = tmp_path / "spark-defaults.conf"
    path.write_bytes(text.encode())
    assert read_properties(str(path)) == settings


def test_a_key_of_somebody_else_is_left_out_and_said(tmp_path, capsys):
    (tmp_path / "file").write_text("java.home /usr\nspark.a b")
    assert read_properties(str(tmp_path / "file")) == {"spark.a": "b"}
    assert "'java.home' is left out" in capsys.readouterr().err


def test_garbage_is_refused_with_the_files_name(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="properties file .*file"):
        read_properties(str(tmp_path / "file"))
