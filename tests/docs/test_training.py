"""The training code of the pages, run on the garden's small policy; what it writes is a guide."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.engines.guided.adapters import read_config
from server.engines.guided.plan import plan
from server.settings import ImplicitGuide, PolicySettings
from tests.docs.blocks import ROOT, Block, of

POLICY = ROOT / "training" / "garden" / "checkpoints" / "policy"
# What a step has moved: B is 0 before the first, and so no part of the policy's law.
SPY = "\nassert any(p.abs().sum() > 0 for name, p in model.named_parameters() if 'lora_B' in name)\n"


@pytest.mark.parametrize("block", of("training"), ids=lambda block: block.name)
def test_it_runs_as_it_is_printed(block: Block, tmp_path: Path) -> None:
    program = block.text.replace("/models/policy", str(POLICY))
    assert program.count(str(POLICY)) == 2
    (tmp_path / "program.py").write_text(program + SPY)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = tmp_path / "guides" / "helpful"
    config = read_config(str(written))
    assert (config["r"], config["peft_type"]) == (8, "LORA")
    made, _ = plan({"helpful": ImplicitGuide(model=str(written))}, PolicySettings(model=str(POLICY)))
    assert (made.columns[0].model, made.columns[0].adapter) == (str(POLICY), str(written))
