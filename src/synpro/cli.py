"""The command line. Each command is a few lines; what it does lives elsewhere and is imported when it is called."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="synpro",
    help="Turn scarce human text into more pretraining signal.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

score = typer.Typer(no_args_is_help=True, help="Score texts by a run's own models.")
app.add_typer(score, name="score")

Config = Annotated[Path, typer.Argument(help="a TOML file, for example configs/tiny.toml", metavar="CONFIG")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a value: --set pretrain.learning_rate=1e-3")]
Runs = Annotated[Path, typer.Option("--runs", help="where run directories live")]
Run = Annotated[Path, typer.Argument(help="a run directory, for example runs/tiny", metavar="RUN")]


@app.command()
def run(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    until: Annotated[str | None, typer.Option(help="the step to end after, for example round-01/probe", metavar="STEP")] = None,
) -> None:
    """Start a run, or carry it on where it stopped. Ends with the report."""
    from synpro.config import load
    from synpro.session import run as run_config

    run_config(load(config, set_ or []), runs, until)


@app.command()
def submit(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    slurm: Annotated[bool, typer.Option("--slurm", help="as a chain of Slurm jobs (the only scheduler so far)")] = False,
    now: Annotated[bool, typer.Option("--now", help="also queue the jobs")] = False,
    option: Annotated[list[str] | None, typer.Option(help="of every job: --option=--account=mine")] = None,
    gpu_option: Annotated[list[str] | None, typer.Option(help="of jobs on GPUs: --gpu-option=--partition=gpu")] = None,
    gpus: Annotated[bool, typer.Option(help="ask for GPUs")] = True,
) -> None:
    """Write a run, or what is left of it, as jobs for a cluster, one after the other; queue them if asked."""
    from synpro.config import ConfigError, load
    from synpro.submit import submit as submit_run

    if not slurm:
        raise ConfigError("submit: say where to: --slurm")
    for line in submit_run(load(config, set_ or []), runs, option or [], gpu_option or [], gpus, now):
        typer.echo(line)


@app.command()
def compare(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    results: Annotated[Path | None, typer.Option(help="also publish table, numbers and pictures in this folder")] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", help="steps side by side (the result is the same); default: what the cores hold"),
    ] = None,
) -> None:
    """Compare arms (repetition, prompts alone, SynPro, oracle, ...) at equal tokens, or carry a comparison on."""
    from synpro.compare.session import load
    from synpro.compare.session import run as run_comparison

    run_comparison(load(config, set_ or []), runs, results, jobs)


@app.command()
def check(
    config: Config,
    set_: Sets = None,
    assets: Annotated[bool, typer.Option("--assets", help="also fetch every model and corpus it names")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="also do the run's steps up to its first probe and audit its rewards")
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Say whether a config can run, before anything is spent."""
    from synpro.compare.session import check as check_config

    check_config(config, set_ or [], assets)
    if audit:
        audit_rewards(config, set_, runs)


@app.command("audit-rewards")
def audit_rewards(config: Config, set_: Sets = None, runs: Runs = Path("runs")) -> None:
    """Feed the rewards exploits next to honest answers; exit 1 when one beats them. Does the run's steps up to its probe."""
    from synpro.config import load
    from synpro.session import audit_rewards as audit

    audit(load(config, set_ or []), runs)


@app.command()
def plan(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    calibrate: Annotated[bool, typer.Option(help="measure this machine for ten seconds")] = True,
    gpus: Annotated[int | None, typer.Option(help="plan for so many GPUs: does it fit, GPU-hours, cost")] = None,
    gpu: Annotated[str, typer.Option(help="which: a100, h100 or h200 (80, 80, 141 GB)")] = "h100",
    utilisation: Annotated[float, typer.Option(help="share of a GPU's peak that training reaches")] = 0.4,
    writing: Annotated[float, typer.Option(help="the same for writing text token by token")] = 0.05,
    price: Annotated[float | None, typer.Option(help="of a GPU-hour")] = None,
) -> None:
    """Tokens, steps, FLOPs, memory, disk and time of a run, before it starts; on a cluster, GPU-hours and cost."""
    from synpro.config import load
    from synpro.layout import Layout, named
    from synpro.layout import lines as layout_lines
    from synpro.plan import lines

    cfg = load(config, set_ or [])
    root = runs / cfg.name
    if gpus is None:
        planned = lines(cfg, root, calibrate)
    else:
        planned = layout_lines(cfg, root, Layout(gpus, named(gpu), utilisation, writing, price))
    for line in planned:
        typer.echo(line)


@app.command()
def status(run: Run) -> None:
    """Where a run is, step by step, and how long it has left."""
    from synpro.compare.session import status as step_lines

    for line in step_lines(run):
        typer.echo(line)


@app.command()
def step(
    config: Config,
    name: Annotated[str, typer.Argument(help="of the step, for example round-01/probe")],
    set_: Sets = None,
    runs: Runs = Path("runs"),
) -> None:
    """Do one step again, by hand, and say whether its result changed."""
    from synpro.config import load
    from synpro.session import step_again

    step_again(load(config, set_ or []), runs, name)


@app.command("train-verifier")
def train_verifier(config: Config, set_: Sets = None, runs: Runs = Path("runs")) -> None:
    """Train a run's faithfulness verifier and print how good it is, by type of corruption, on held-out documents."""
    from synpro.config import load
    from synpro.session import train_verifier as train

    for line in train(load(config, set_ or []), runs):
        typer.echo(line)


@app.command()
def why(run: Run, text_id: Annotated[str, typer.Argument(help="of a document, passage or rewrite")]) -> None:
    """Where a text came from: source, prompt, generator, round, scores, and why it was kept or dropped."""
    from synpro.run.lineage import format_lines
    from synpro.run.lineage import why as lineage

    for line in format_lines(lineage(run, text_id)):
        typer.echo(line)


@app.command()
def rewrite(
    run: Run,
    file: Annotated[Path, typer.Argument(help="text to rewrite: .txt, or JSONL with a column `text`")],
    operation: Annotated[str, typer.Option(help="which generator of the run")] = "rephrase",
    out: Annotated[Path | None, typer.Option(help="JSONL to write; the terminal when left out")] = None,
) -> None:
    """Use a trained generator alone, on a file of your own."""
    from synpro.session import rewrite as rewrite_file

    rewrite_file(run, file, operation, out)


@score.command()
def influence(
    run: Run,
    file: Annotated[Path, typer.Argument(help="texts to score: .txt, or JSONL with a column `text`")],
    round_: Annotated[int | None, typer.Option("--round", help="whose probe; the newest when left out")] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL to write; the terminal when left out")] = None,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 for many texts on a GPU")] = "float32",
) -> None:
    """What each text would teach the model: its loss before less after learning the reference task, nats per token."""
    from synpro.score import influence as score_file

    score_file(run, file, round_, out, precision)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="a Hugging Face folder, such as RUN/round-00/pretrain/hf", metavar="PATH")],
    task: Annotated[list[str] | None, typer.Option(help="one of the twelve tasks; all when left out")] = None,
    max_items: Annotated[int | None, typer.Option(help="only the first items of each task")] = None,
    lambada: Annotated[bool, typer.Option("--lambada", help="also LAMBADA's accuracy by lm-eval, from the hub")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Zero-shot scores of any exported checkpoint: the paper's twelve tasks, and its average of nine."""
    from synpro.lm import suite

    scores = suite.evaluate_folder(
        model, task or tuple(suite.TASKS), max_items=max_items, told=lambda score: typer.echo(suite.line(score))
    )
    for line in suite.lines(scores)[len(scores) :]:
        typer.echo(line)
    more = {"LAMBADA by lm-eval": suite.lambada(model, max_items=max_items)} if lambada else {}
    for name, values in more.items():
        typer.echo(f"{name}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items()))
    if out is not None:
        out.write_text(suite.as_json(scores, more), encoding="utf-8")


@app.command()
def report(run: Run) -> None:
    """Write RUN/report.html: one page, everything inside, to be opened or sent. For a comparison, its compare.html."""
    from synpro.compare.session import write_report

    typer.echo(f"report: {write_report(run)}")


def main() -> None:
    """Entry point: errors for people go to stderr in one block, with exit code 1. Ctrl-C, and SIGTERM from a scheduler, end the
    step that runs and give 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of an interrupt
            typer.echo("\nstopped; the same command carries on", err=True)
        raise
    except Exception as problem:
        if type(problem).__module__.startswith("synpro."):  # every error class of ours is written for people
            typer.echo(f"error: {problem}", err=True)
            sys.exit(1)
        raise


if __name__ == "__main__":
    main()
