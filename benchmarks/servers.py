"""What a client cannot read off a server: how far the canary differs by rounding and by other weights, and how far the estimate
of tokens is off. Needs the demo's models and text.

    python -m benchmarks.servers
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from synpro.assets import model_folder
from synpro.config import load_config
from synpro.corpus.readers import SourceRow, find_files, read_source
from synpro.engines.fingerprint import ASK, PROMPT, ServerFingerprint, difference
from synpro.engines.openai import estimate

LESSON = "Bees carry nectar to the hive. It is dried until little water is left, and then it keeps for a long time under wax."
CUT = 7000


def identity(model: Any, tokenizer: Any) -> ServerFingerprint:
    """What a server with this model would answer to the canary."""
    chat = [{"role": "user", "content": PROMPT}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        done = model.generate(
            ids, max_new_tokens=ASK["max_tokens"], do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    places = []
    for logits in done.logits:
        best = logits[0].float().log_softmax(-1).topk(ASK["top_logprobs"])
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        places.append(tuple((tokenizer.decode([i]), float(value)) for i, value in pairs))
    return ServerFingerprint("m", "", tokenizer.decode(done.sequences[0, ids.shape[1] :]), tuple(places))


def tuned(folder: Path, rate: float, steps: int, tokenizer: Any) -> Any:
    """The model after a few steps of Adam on one sentence."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    ids = tokenizer(LESSON, return_tensors="pt")["input_ids"]
    for _ in range(steps):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    cfg = load_config(Path(__file__).parents[1] / "configs" / "tiny.toml")
    folder = model_folder(cfg.judges.fluency.model, slot="judges.fluency")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = identity(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer)
    half = identity(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval(), tokenizer)
    print(f"bfloat16 against float32: {difference(plain, half, 0.0)}")
    for rate, steps in ((1e-6, 10), (1e-5, 5), (1e-5, 50), (1e-4, 5)):
        other = identity(tuned(folder, rate, steps, tokenizer), tokenizer)
        print(f"{steps} steps of Adam at {rate:g}: {difference(plain, other, 0.0)}")
    (source,) = cfg.prepare.sources
    rows = [r for f in find_files(source, slot="prepare.sources.0").files for r in read_source(f, source, 10**7)]
    texts = [r.text[i : i + CUT] for r in rows if isinstance(r, SourceRow) for i in range(0, len(r.text) - CUT + 1, CUT)]
    ratios = sorted(estimate(t) / len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts)
    low, high = ratios[0], ratios[-1]
    mean, twentieth = sum(ratios) / len(ratios), ratios[len(ratios) // 20]
    print(f"estimate over count, {len(texts)} texts: {low:.2f} to {high:.2f}, mean {mean:.2f}, 1 in 20 below {twentieth:.2f}")


if __name__ == "__main__":
    main()
