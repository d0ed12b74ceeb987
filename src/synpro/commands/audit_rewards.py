"""`synpro audit-rewards`: whether a run's rewards rank reference answers above exploits, before RL spends anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from synpro.audit.audit import AuditFailed, audit
from synpro.audit.reference import reference_answers
from synpro.audit.report import page, plain, table, verdict
from synpro.commands.execution import execute_steps, locked_run_dir
from synpro.config import ConfigError, RunConfig
from synpro.corpus.store import read_passages
from synpro.operations.registry import build_operation
from synpro.outline import outline
from synpro.rewards.rubric import Rubric
from synpro.runner.artifacts import write_json


def audit_rewards(cfg: RunConfig, runs: Path, log: Callable[[str], None]) -> Path:
    """Run the steps up to the first training of a generator, then feed the rubrics the exploits of `synpro.audit`.

    Logs a table per operation, and writes `audit.json` and `audit.md` into the run directory: the path of the latter. Raises
    AuditFailed when an exploit beats the reference answers, ConfigError when the config trains no generator, and what `run`
    raises.
    """
    first = next((step for step in outline(cfg) if "/train-" in step), None)
    if first is None:
        raise ConfigError("rounds: this config trains no generator, so no reward is used; the audit needs at least one round")
    with locked_run_dir(cfg, runs) as root:
        inputs = execute_steps(cfg, root, before=first)
        if inputs is None:
            raise ConfigError(
                "pretrain.total_tokens: all tokens are used before the first generator is trained; there is nothing to audit"
            )
        from transformers.utils import logging

        logging.disable_progress_bar()  # models open at once here; their bars would break the tables up
        audited = []
        for operation in map(build_operation, cfg.operations.values()):
            rubric = Rubric.build(operation, inputs["scoring"])
            try:
                audited.append(audit(operation, rubric, reference_answers(), read_passages(inputs["corpus"].dir)))
            finally:
                rubric.close()
            for line in ("", *table(audited[-1])):
                log(line)
        write_json(root / "audit.json", plain(audited))
        (root / "audit.md").write_text(page(audited, len(reference_answers())), encoding="utf-8")
    if any(findings.winners for findings in audited):
        raise AuditFailed("the rubric rewards exploits:\n  " + "\n  ".join(verdict(f) for f in audited if f.winners))
    return root / "audit.md"
