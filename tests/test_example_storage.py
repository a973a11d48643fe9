"""The example of a storage holds the contract, installed as the distribution that it is."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "directory_storage"


@pytest.fixture
def installed(tmp_path):
    """A path on which Python finds it, with what pip would note of its entry points."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    head = {"Metadata-Version": "2.1", "Name": project["name"], "Version": project["version"]}
    (info / "METADATA").write_text("".join(f"{key}: {text}\n" for key, text in head.items()))
    groups = {
        f"[{group}]": [f"{key} = {place}" for key, place in entries.items()]
        for group, entries in project["entry-points"].items()
    }
    lines = [line for group, entries in groups.items() for line in (group, *entries)]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return os.pathsep.join((str(EXAMPLE / "src"), str(tmp_path)))


@pytest.mark.long
def test_the_contract_holds_as_its_readme_says(installed, fast_dir):
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={fast_dir / 'temporary'}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, EXAMPLE / "tests"],
        env={**os.environ, "PYTHONPATH": installed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = (line for line in done.stdout.splitlines() if line.startswith("storage directory:"))
    assert told in (EXAMPLE / "README.md").read_text().splitlines()
