"""The zero-shot suite on a small real checkpoint: equal to OLMo-core's own evaluator, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from synpro.lm.suite import (
    AVERAGED_TASKS,
    TASKS,
    SuiteError,
    SuiteScore,
    evaluate_folder,
    score_lambada,
    score_table,
    scores_to_json,
    suite_average,
)
from synpro.lm.training_config import HardwareConfig, OptimizerConfig
from tests.lm.conftest import TINY

LENGTH = 512
"""The evaluator of OLMo-core takes no task whose longest item is longer than what was trained on."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, special_ids, stream_tokens: np.ndarray):
    """A module some steps into training, and its export."""
    from synpro.lm import checkpoint, trainer
    from synpro.lm.batches import TokenStream
    from synpro.lm.callbacks import PretrainCallback

    out = tmp_path_factory.mktemp("suite")
    module = trainer.build_module(
        TINY,
        OptimizerConfig(learning_rate=3e-3),
        HardwareConfig(micro_batch_size=2, dtype="float32"),
        vocab_size=320,
        sequence_length=LENGTH,
        batch_size=2,
        scheduler=trainer.lr_schedule(warmup_steps=0, steps=3, decay_fraction=0.0),
        seed=5,
    )
    stream = TokenStream(lambda n: stream_tokens, folder=out / "data", sequence_length=LENGTH, batch_size=2, dtype="uint16")
    trainer.train(module, stream, PretrainCallback(), steps=3, work_dir=out / "olmo")
    eos, pad = special_ids
    checkpoint.export(module, out / "hf", model=TINY, tokenizer=tokenizer_folder, context=LENGTH, eos=eos, pad=pad)
    return module, out / "hf"


@pytest.mark.parametrize("name", ["COPA", "LAMBADA"])
def test_scores_are_those_of_olmo_cores_own_evaluator(name: str, trained, special_ids) -> None:
    import torch
    from olmo_core.data.utils import get_labels
    from olmo_core.train.callbacks.evaluator_callback import DownstreamEvaluator
    from olmo_eval import HFTokenizer

    module, folder = trained
    items = 10 if name == "LAMBADA" else None
    (ours,) = evaluate_folder(folder, [name], max_items=items)
    eos, pad = special_ids
    tokenizer = HFTokenizer(str(folder / "tokenizer.json"), eos_token_id=eos, pad_token_id=pad)
    evaluator = DownstreamEvaluator(name="downstream", task=TASKS[name], batch_spec=module.eval_batch_spec, tokenizer=tokenizer)
    samples = evaluator.batches.dataset.samples
    evaluator.batches.dataset.samples = [s for s in samples if items is None or s["doc_id"] < items]
    for batch in evaluator:
        with torch.no_grad():
            output = module.eval_batch(batch, labels=get_labels(batch))
        evaluator.update_metrics(batch, output.ce_loss, output.logits)
    theirs = {key.rpartition("(")[2].rstrip(")"): float(value) for key, value in evaluator.compute_metrics().items()}
    assert ours.bits_per_byte == pytest.approx(theirs["BPB v2"], rel=1e-6)
    if ours.value is not None:
        assert ours.value == pytest.approx(theirs["accuracy v2"])
    assert ours.items == (items or 100)


def test_of_100_000_logits_a_position_only_those_of_answers_are_computed(trained, special_ids) -> None:
    from synpro.lm.loss import load_model
    from synpro.lm.tasks import score_task

    (eos, pad), model, projected, seen = special_ids, load_model(trained[1]), [], []
    model.get_output_embeddings().register_forward_hook(lambda head, given, made: projected.append(given[0].shape[0]))
    model.base_model.register_forward_hook(lambda *call: seen.append(call[2].last_hidden_state[..., 0].numel()))
    tokenizer = trained[1] / "tokenizer.json"
    score_task(model, tokenizer, TASKS["COPA"], eos=eos, pad=pad, context=LENGTH, max_items=4)
    assert len(projected) == 8 and sum(projected) < sum(seen) / 4, "eight answers, and not the questions before them"


def test_the_average_is_that_of_nine_in_percent_and_needs_all_of_them() -> None:
    scores = [SuiteScore(n, "acc", 0.1 * (i + 1), 1.0, 10) for i, n in enumerate(AVERAGED_TASKS)] + [
        SuiteScore("COPA", "acc", 1.0, 1.0, 10)
    ]
    assert suite_average(scores) == pytest.approx(50.0) and suite_average(scores[1:]) is None
    assert "50.00" in score_table(scores)[-1] and json.loads(scores_to_json(scores, {}))["tasks"]["COPA"]["value"] == 1.0


def test_what_cannot_be_scored_says_what_to_do(trained, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SuiteError, match=r"no config.json; name an exported model"):
        evaluate_folder(tmp_path)
    with pytest.raises(SuiteError, match="no task 'piqa'; use PIQA"):
        evaluate_folder(trained[1], ["piqa"])
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(SuiteError, match=r"pip install '\.\[lambada\]'"):
        score_lambada(trained[1])
