import typer
from typer.testing import CliRunner

from taskspec.cli.models import models
from taskspec.models.catalog import CATALOG


def test_every_model_is_listed_with_licence_and_presence(monkeypatch, tmp_path):
    monkeypatch.setenv("TASKSPEC_CACHE", str(tmp_path))
    app = typer.Typer()
    app.command()(models)
    result = CliRunner().invoke(app)
    assert result.exit_code == 0
    rows = {line.split("\t")[0]: line.split("\t") for line in result.output.splitlines()}
    for entry in CATALOG.values():
        assert entry.licence in rows[entry.name] and rows[entry.name][-1] in ("yes", "no")
        assert entry.kind in rows[entry.name]
    assert rows["smollm2-135m-instruct-q4_1"][-1] == "no"
