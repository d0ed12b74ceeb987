"""`synpro audit-rewards`: whether a run's rewards rank reference answers above exploits, before RL spends anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from synpro.audit.audit import AuditFailed, audit
from synpro.audit.exploits import EXPLOITS
from synpro.audit.reference import NoReferenceAnswer, reference_answers
from synpro.audit.report import page, plain, table, verdict
from synpro.commands.execution import execute_steps, locked_run_dir
from synpro.config import ConfigError, RunConfig
from synpro.judges.languages import read_languages
from synpro.language.identification import UNSURE
from synpro.operations.registry import build_operation
from synpro.outline import outline
from synpro.rewards.rubric import Rubric
from synpro.runner.artifacts import write_json


def audit_rewards(cfg: RunConfig, runs: Path, log: Callable[[str], None], operations: Sequence[str] = ()) -> Path:
    """Run the steps up to the first training of a generator, then feed the rubrics the exploits of `synpro.audit`, on reference
    passages in the language of most of the corpus where there are some (German), else on the English ones. `operations` names
    those that are audited, none all of the config's.

    Logs a table per operation, and writes `audit.json` and `audit.md` (of chosen operations `audit-NAME.json` and `.md`) into
    the run directory: the path of the latter. Raises AuditFailed when an exploit beats the reference answers, ConfigError when
    the config trains no generator or has no such operation, and what `run` raises.
    """
    if unknown := [name for name in operations if name not in cfg.operations]:
        raise ConfigError(f"operations: the config has no {unknown[0]!r}; it has {', '.join(cfg.operations)}")
    chosen = list(dict.fromkeys(operations or cfg.operations))
    file = "-".join(("audit", *chosen)) if operations else "audit"
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
        languages = {c: share for c, share in read_languages(inputs["corpus"].dir).items() if c != UNSURE}
        subjects = reference_answers(max(languages, key=lambda code: languages[code], default="en"))
        for operation in (build_operation(cfg.operations[name]) for name in chosen):
            rubric = Rubric.build(operation, inputs["scoring"])
            log(f"{operation.name}: scoring {len(subjects)} reference answers and {len(EXPLOITS)} exploits of each (minutes)")
            try:
                audited.append(audit(operation, rubric, subjects))
            except NoReferenceAnswer as problem:
                log(f"{operation.name}: not audited: {problem}")
                continue
            finally:
                rubric.close()
            for line in ("", *table(audited[-1]), *filter(None, [str(rubric.failures)])):
                log(line)
        if not audited:
            raise ConfigError("operations: none of them has reference answers, so nothing was audited")
        write_json(root / f"{file}.json", plain(audited))
        (root / f"{file}.md").write_text(page(audited, len(subjects)), encoding="utf-8")
    if any(findings.winners for findings in audited):
        raise AuditFailed("the rubric rewards exploits:\n  " + "\n  ".join(verdict(f) for f in audited if f.winners))
    return root / f"{file}.md"
