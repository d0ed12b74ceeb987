"""synthesize: run a generator over the whole corpus, passage by passage; join the texts of one document (method.md, step 5).

Differences from the paper: every text passes filters before it may be trained on, because a small generator loops, copies and
drifts; a passage may be asked again, may have several versions, and of many candidates the best may be chosen. Nothing is
dropped without a row that says why: kept + dropped = answers. The work is in `synpro.synthesis`.
"""

from __future__ import annotations

from collections.abc import Sequence

from synpro.operations.base import OperationConfig
from synpro.operations.registry import build_operation
from synpro.records import Corpus, Generator, Shard
from synpro.rewards.registry import needs_of
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from synpro.synthesis.settings import SynthesizeConfig

__all__ = ["SynthesizeConfig", "synthesize"]


def synthesize(
    cfg: SynthesizeConfig,
    *,
    operation: OperationConfig,
    scoring: Scoring,
    corpus: Corpus,
    generator: Generator,
    round: int,
    ctx: StepContext,
    tasks: Sequence[str] = (),
) -> Shard:
    """Rewrite every passage of the corpus' train split and write the shard. No text may contain an item of `tasks`.

    A shard that kept nothing of a small corpus is written too. Raises TooFewKept when almost nothing is kept from the first
    chunk on, TooManyFailures when too many passages have no answer, and what the engine, the judges and the files raise.
    """
    from synpro.corpus.store import batched_passages
    from synpro.synthesis.blocks import Blocks
    from synpro.synthesis.shard import row_maker, write_shard

    op, index = build_operation(operation), None
    if tasks and not cfg.keep_contaminated:
        from synpro.corpus.contamination import BenchmarkIndex
        from synpro.lm.tasks import benchmark_items

        index = BenchmarkIndex.of(benchmark_items(tasks))
    blocks = Blocks(cfg, op, generator, scoring, corpus, ctx, index)
    count = blocks.run(lambda: batched_passages(corpus.dir, blocks.block_size), row_maker(op, generator, round))
    ctx.logger.metrics(step=0, **blocks.seconds)
    rows = (row for number in range(count) for row in blocks.rows(number))
    # Without a reward that uses the encoder, nothing is embedded: it is not open.
    max_embedded = cfg.max_embedded if "encoder" in needs_of(operation.weights) else 0
    shard = write_shard(op, scoring, corpus, round, rows, max_embedded, ctx)
    return shard
