"""One vLLM engine in a process of its own, stepped by hand, so that tests control and observe its scheduler.

python -m tests.support.guided_engine JOB.json RESULT.json
"""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]


@dataclass
class GuidedRequest:
    """A request that arrives before step `arrives`, and is aborted after `leaves` further ones."""

    prompt: list[int]
    guides: dict[str, float] = field(default_factory=dict)
    policy: float = 1.0
    params: Json = field(default_factory=dict)
    arrives: int = 0
    leaves: int | None = None


@dataclass
class EngineProcess:
    """A process whose engine runs batches of requests one after another."""

    process: "subprocess.Popen[bytes]"
    folder: Path

    @classmethod
    def start(
        cls, folder: Path, policy: Path, guides: Json, engine: Json, batches: list[list[GuidedRequest]]
    ) -> "EngineProcess":
        folder.mkdir()
        requests = [[asdict(request) for request in batch] for batch in batches]
        job = {"policy": str(policy), "guides": guides, "engine": engine, "batches": requests}
        (folder / "job.json").write_text(json.dumps(job, default=str))
        files = (f"{folder}/{name}.json" for name in ("job", "result"))
        command = [sys.executable, "-m", "tests.support.guided_engine", *files]
        quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1"}
        with (folder / "log").open("w") as log:
            environment = {**os.environ, **quiet, "VLLM_USE_V2_MODEL_RUNNER": "0"}
            return cls(subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment), folder)

    def result(self) -> Json:
        self.process.wait(600)
        assert self.process.returncode == 0, (self.folder / "log").read_text()[-3000:]
        found: Json = json.loads((self.folder / "result.json").read_text())
        return found

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def main(job: Path, result: Path) -> None:
    from pydantic import TypeAdapter
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    from server.engines.guided.plan import Plan, plan
    from server.settings import AnyGuide, PolicySettings

    job_fields = json.loads(job.read_text())
    settings = PolicySettings(model=job_fields["policy"], engine=job_fields["engine"])
    guides = TypeAdapter(dict[str, AnyGuide]).validate_python(job_fields["guides"])
    made, arguments = plan(guides, settings) if guides else (Plan(), settings.engine)
    engine = LLMEngine.from_engine_args(EngineArgs(model=settings.model, **arguments))
    counts: Counter[str] = Counter()
    core = engine.engine_core.engine_core
    _watch(core.scheduler, counts)
    batches = [_run(engine, made, [GuidedRequest(**request) for request in batch]) for batch in job_fields["batches"]]
    model = core.model_executor.driver_worker.worker.model_runner.model
    shared = {name: _shared(guide, model.policy) for name, guide in model.models.items()} if guides else {}
    attention = sorted(engine.vllm_config.compilation_config.static_forward_context)
    result.write_text(json.dumps({"batches": batches, "counts": counts, "shared": shared, "attention": attention}))


def _run(engine: Any, plan: Any, requests: list[GuidedRequest]) -> list[Json | None]:
    """Run a batch; return the report of each request, None for an aborted one."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind

    ended: dict[str, Json] = {}
    step = 0
    while step <= max(request.arrives for request in requests) or engine.has_unfinished_requests():
        for i, request in enumerate(requests):
            if request.arrives == step:
                weights = plan.weights(request.guides, request.policy)
                params = SamplingParams(**request.params, extra_args=plan.extra_args(weights), detokenize=False)
                params.output_kind = RequestOutputKind.FINAL_ONLY
                engine.add_request(str(i), tokens_input(request.prompt, cache_salt=plan.salt(weights)), params)
            if request.leaves is not None and request.arrives + request.leaves == step:
                engine.abort_request([str(i)])
        for output in engine.step():
            if output.finished:
                ended[output.request_id] = _report(output)
        step += 1
    return [ended.get(str(i)) for i in range(len(requests))]


def _report(output: Any) -> Json:
    def logprobs(entries: Any, tokens: Any) -> list[float | None]:
        return [entry and entry[token].logprob for entry, token in zip(entries or (), tokens, strict=False)]

    return {
        "tokens": [list(o.token_ids) for o in output.outputs],
        "logprobs": [logprobs(o.logprobs, o.token_ids) for o in output.outputs],
        "prompt_logprobs": logprobs(output.prompt_logprobs, output.prompt_token_ids),
        "cached": output.num_cached_tokens,
    }


def _watch(scheduler: Any, counts: "Counter[str]") -> None:
    inner = scheduler.schedule

    def schedule(*args: Any, **kwargs: Any) -> Any:
        output = inner(*args, **kwargs)
        counts["preempted"] += len(output.preempted_req_ids or ())
        for new in output.scheduled_new_reqs:
            reached = new.num_computed_tokens + output.num_scheduled_tokens[new.req_id]
            counts["chunked"] += reached < len(new.prompt_token_ids)
        return output

    scheduler.schedule = schedule


def _shared(guide: Any, policy: Any) -> list[str]:
    """Return the names of the guide's modules with weights that are the policy's own objects."""
    theirs = dict(policy.named_modules(remove_duplicate=False))
    own = guide.named_modules(remove_duplicate=False)
    return [name for name, module in own if theirs.get(name) is module and next(module.parameters(), None) is not None]  # type: ignore[union-attr]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
