"""What the tests of the calibration share: an environment without settings, and a file for the store."""

import os
from pathlib import Path

import pytest

from tests.support.calibrate_command import COUNT


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every `DECANT_...` out of the environment."""
    for name in [name for name in os.environ if name.startswith("DECANT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is to be: in folders that are still to be made."""
    return tmp_path / "made" / "if need be" / "rollouts.db"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a store that the environment names, as `decant calibrate` and the served toy find it."""
    path = tmp_path / "rollouts.db"
    monkeypatch.setenv("DECANT_CALIBRATION__STORE", str(path))
    monkeypatch.setenv("DECANT_CALIBRATION__ROLLOUTS", str(COUNT))
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")  # the command sets it, and would leave it set
    return path
