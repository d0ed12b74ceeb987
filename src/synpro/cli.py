"""The command line: each command reads its options, calls a function of `synpro.commands`, and prints what it returns."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from synpro.commands.arguments import check_file, check_filled, write_file, write_rows
from synpro.disk import disk_error, explain
from synpro.runner.process_group import exit_process

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
Sets = Annotated[list[str] | None, typer.Option("--set", help="override a key: --set pretrain.optimizer.learning_rate=1e-3")]
Runs = Annotated[Path, typer.Option("--runs", help="the folder that holds run directories")]
Run = Annotated[Path, typer.Argument(help="a run directory, for example runs/tiny", metavar="RUN")]
Out = Annotated[Path | None, typer.Option("--out", help="JSONL to write; the terminal when left out")]


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


@app.command()
def run(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    until: Annotated[str | None, typer.Option(help="the step to end after, for example round-01/probe", metavar="STEP")] = None,
) -> None:
    """Start a run, or resume it where it stopped. Ends with the report."""
    from synpro.commands.run import run as run_config
    from synpro.config import load_config
    from synpro.runner.progress import duration

    done = run_config(load_config(config, set_ or []), runs, until)
    if done.next_step is not None:
        typer.echo(f"\ndone up to {until}; `synpro run` resumes with {done.next_step}")
        return
    _print([f"\nthe run took {duration(done.seconds)} this time\n", *done.summary, f"\nreport: {done.report}"])


@app.command()
def generate(config: Config, set_: Sets = None, runs: Runs = Path("runs")) -> None:
    """Only generate: rewrite the corpus without pretraining a model. The same lineage, resume and report as `run`."""
    run(config, [*(set_ or []), "generate_only=true"], runs, None)


@app.command()
def submit(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    slurm: Annotated[bool, typer.Option("--slurm", help="as a chain of Slurm jobs (the only scheduler so far)")] = False,
    now: Annotated[bool, typer.Option("--now", help="also queue the jobs")] = False,
    option: Annotated[list[str] | None, typer.Option(help="an option of every job: --option=--account=mine")] = None,
    gpu_option: Annotated[
        list[str] | None, typer.Option(help="an option of the jobs on GPUs: --gpu-option=--partition=gpu")
    ] = None,
    gpus: Annotated[bool, typer.Option(help="ask for GPUs")] = True,
    time: Annotated[str, typer.Option(help="longest time of a job")] = "24:00:00",
    cpus_per_gpu: Annotated[int, typer.Option(help="cores for each GPU")] = 8,
    gib_per_gpu: Annotated[int, typer.Option(help="memory of the machine for each GPU, GiB")] = 96,
) -> None:
    """Write a run, or what is left of it, as a chain of jobs for a cluster; queue them if asked."""
    from synpro.commands.submit import SlurmOptions
    from synpro.commands.submit import submit as submit_run
    from synpro.config import ConfigError, load_config

    if not slurm:
        raise ConfigError("submit: say which scheduler: --slurm")
    options = SlurmOptions(tuple(option or ()), tuple(gpu_option or ()), gpus, time, cpus_per_gpu, gib_per_gpu)
    _print(submit_run(load_config(config, set_ or []), runs, options, now))


@app.command()
def compare(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    results: Annotated[Path | None, typer.Option(help="also publish table, numbers and pictures in this folder")] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", help="steps in parallel (the result is the same); default: what the cores hold"),
    ] = None,
) -> None:
    """Compare arms (repetition, prompts alone, SynPro, oracle, ...) at equal tokens, or resume a comparison."""
    from synpro.commands.compare import NUMBERS, run_comparison
    from synpro.commands.configs import load_comparison
    from synpro.report.comparison import summary
    from synpro.runner.progress import duration

    done = run_comparison(load_comparison(config, set_ or []), runs, results, jobs)
    _print([f"\nthe comparison took {duration(done.seconds)} this time\n", *summary(done.numbers)])
    typer.echo(f"\nnumbers: {done.dir / NUMBERS}\nreport: {done.report}")
    if done.published is not None:
        typer.echo(f"published: {done.published}")


@app.command()
def check(
    config: Config,
    set_: Sets = None,
    assets: Annotated[bool, typer.Option("--assets", help="also fetch every model and corpus it names")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="also run the steps up to the first probe and audit the rewards")
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Say whether a config can run, before anything is spent."""
    from synpro.commands.check import check as check_config
    from synpro.commands.configs import load_any_config

    cfg = load_any_config(config, set_ or [])
    check_config(cfg, assets, typer.echo, runs / cfg.name)
    if audit:
        audit_rewards(config, set_, runs)


@app.command()
def rehearse(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    time: Annotated[str, typer.Option(help="longest time of a job: a step that cannot resume must fit into it")] = "24:00:00",
    shapes: Annotated[bool, typer.Option("--shapes", help="only what needs no weights: for a small machine")] = False,
    calibrate: Annotated[bool, typer.Option(help="measure this machine for four seconds, where it has no GPU")] = True,
) -> None:
    """Every stage of a run with its real models and shapes and small counts, before it is paid for; exit 1 for what must not be
    started."""
    from synpro.commands.rehearse import rehearse as rehearse_config
    from synpro.commands.rehearse import seconds_of
    from synpro.commands.shapes import check_shapes
    from synpro.config import load_config

    cfg = load_config(config, set_ or [])
    if shapes:
        _print(check_shapes(cfg, runs))
    else:
        _print(rehearse_config(cfg, runs, typer.echo, seconds_of(time), calibrate))


@app.command("audit-rewards")
def audit_rewards(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    operation: Annotated[list[str] | None, typer.Option(help="only this one (may be given several times)")] = None,
) -> None:
    """Feed the rewards exploits beside reference answers; exit 1 when one beats them. Runs the steps up to the first probe."""
    from synpro.commands.audit_rewards import audit_rewards as audit
    from synpro.config import load_config

    typer.echo(f"\naudit: {audit(load_config(config, set_ or []), runs, typer.echo, operation or ())}")


@app.command()
def plan(
    config: Config,
    set_: Sets = None,
    runs: Runs = Path("runs"),
    calibrate: Annotated[bool, typer.Option(help="measure this machine for ten seconds")] = True,
    gpus: Annotated[int | None, typer.Option(help="plan for so many GPUs: does it fit, GPU-hours, cost")] = None,
    gpu: Annotated[str, typer.Option(help="which: a100, h100 or h200 (80, 80, 141 GB)")] = "h100",
    mfu: Annotated[float, typer.Option(help="share of a GPU's peak FLOP/s that training reaches")] = 0.4,
    decode_mfu: Annotated[float, typer.Option(help="the same while text is generated token by token")] = 0.05,
    price: Annotated[float | None, typer.Option(help="price of a GPU-hour")] = None,
) -> None:
    """Tokens, steps, FLOPs, memory, disk and time of a run, before it starts; on a cluster, GPU-hours and cost."""
    from synpro.config import load_config
    from synpro.planning.gpu_plan import GpuPlan, gpu_by_name
    from synpro.planning.tables import format_gpu_plan, format_plan

    cfg = load_config(config, set_ or [])
    root = runs / cfg.name
    if gpus is None:
        _print(format_plan(cfg, root, calibrate))
    else:
        _print(format_gpu_plan(cfg, root, GpuPlan(gpus, gpu_by_name(gpu), mfu, decode_mfu, price)))


@app.command()
def status(
    run: Run, watch: Annotated[bool, typer.Option("--watch", help="renewed every two seconds, until all is done")] = False
) -> None:
    """Where a run is, step by step, and how long it has left."""
    from synpro.commands.status import format_status
    from synpro.commands.status import status as step_states
    from synpro.commands.status import watch as watch_steps

    if watch:
        watch_steps(run)
        return
    _print(format_status(run, step_states(run)))


@app.command()
def step(
    config: Config,
    name: Annotated[str, typer.Argument(help="name of the step, for example round-01/probe")],
    set_: Sets = None,
    runs: Runs = Path("runs"),
) -> None:
    """Run one step again, and say whether its result changed."""
    from synpro.commands.step import rerun_step
    from synpro.config import load_config

    differences = rerun_step(load_config(config, set_ or []), runs, name)
    if not differences:
        typer.echo(f"{name}: done" + ("" if differences is None else ", every file the same to the byte as before"))
        return
    typer.echo(f"{name}: done, and different from before:\n  " + "\n  ".join(differences))
    typer.echo("later steps were made from the old result; `synpro run` will refuse them and say which")


@app.command("train-verifier")
def train_verifier(config: Config, set_: Sets = None, runs: Runs = Path("runs")) -> None:
    """Train a run's faithfulness verifier and print how good it is, by type of corruption, on held-out documents."""
    from synpro.commands.train_verifier import train_verifier as train
    from synpro.config import load_config
    from synpro.faithfulness.report import table_lines

    folder, report = train(load_config(config, set_ or []), runs)
    if report is None:
        typer.echo('no verifier is trained: train_verifier.kind = "none" checks claims by rule')
        return
    _print([*table_lines(report), "", f"report: {folder / 'report.html'}"])


@app.command()
def why(run: Run, text_id: Annotated[str, typer.Argument(help="id of a document, passage or rewrite")]) -> None:
    """Where a text came from: source, prompt, generator, round, scores, and why it was kept or dropped."""
    from synpro.report.lineage import format_lineage
    from synpro.report.lineage import why as lineage

    _print(format_lineage(lineage(run, text_id)))


@app.command()
def rewrite(
    run: Run,
    file: Annotated[Path, typer.Argument(help="text to rewrite: a file or folder, in any format that prepare.sources reads")],
    operation: Annotated[str, typer.Option(help="which generator of the run")] = "rephrase",
    out: Out = None,
) -> None:
    """Use a trained generator alone, on a file of your own."""
    from synpro.commands.rewrite import rewrite as rewrite_texts
    from synpro.commands.rewrite import rewrite_row

    check_file("--out", out, reads=file)
    rows = [rewrite_row(r) for r in rewrite_texts(run, file, operation)]
    write_rows(rows, out, f"{sum(r['text'] is not None for r in rows)} of {len(rows)} passages rewritten")


@score.command()
def influence(
    run: Run,
    file: Annotated[Path, typer.Argument(help="texts to score: a file or folder, in any format that prepare.sources reads")],
    round_: Annotated[int | None, typer.Option("--round", help="whose probe; the newest when left out")] = None,
    out: Out = None,
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16 for many texts on a GPU")] = "float32",
) -> None:
    """What each text would teach the model: its loss before minus that after learning the reference task, nats per token."""
    from synpro.commands.score import score_influence, score_row

    check_file("--out", out, reads=file)
    scored = score_influence(run, file, round_, dtype, log=typer.echo if out is not None else lambda line: None)
    if scored is None:
        return  # the first process of torchrun has the scores of all
    known = [s.influence for s in scored if s.influence is not None]
    positive = f"{sum(value > 0 for value in known)} of {len(known)} texts have positive influence"
    write_rows([score_row(s) for s in scored], out, f"{positive}, {len(scored) - len(known)} have none")


@app.command()
def export(
    run: Run,
    to: Annotated[Path, typer.Option(help="a new folder")],
    format: Annotated[
        str, typer.Option(help="parquet (Hugging Face dataset), dolma, olmo, megatron, nanotron, model")
    ] = "parquet",
    content: Annotated[str, typer.Option(help="organic, synthetic or mixture")] = "mixture",
    round_: Annotated[list[int] | None, typer.Option("--round", help="only texts of this round; may be repeated")] = None,
    operation: Annotated[list[str] | None, typer.Option(help="only texts of this operation; may be repeated")] = None,
    min_score: Annotated[list[str] | None, typer.Option(help="smallest raw score: faithfulness=0.8")] = None,
    push: Annotated[str | None, typer.Option(help="also upload to this repository of the hub", metavar="ORG/NAME")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="with --push: only list what would be uploaded")] = False,
) -> None:
    """Write a run's texts as a dataset, JSON lines or token arrays, or the model of a round; with a card."""
    from synpro.commands.export import MODEL, check_push, export_lines, parse_selection
    from synpro.commands.export import export as export_run
    from synpro.commands.export import push as push_folder

    check_push(push, dry_run)
    done = export_run(run, to, format, parse_selection(content, round_ or [], operation or [], min_score or []))
    _print(export_lines(done))
    if push is not None:
        names = push_folder(to, push, "model" if format == MODEL else "dataset", dry_run=dry_run)
        _print([f"{'would upload' if dry_run else 'uploaded'}: {name}" for name in names])


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="a Hugging Face folder, such as RUN/round-00/pretrain/hf", metavar="PATH")],
    task: Annotated[list[str] | None, typer.Option(help="one of the twelve tasks; all when left out")] = None,
    max_items: Annotated[int | None, typer.Option(help="only the first items of each task")] = None,
    lambada: Annotated[bool, typer.Option("--lambada", help="also LAMBADA's accuracy by lm-eval, from the hub")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Zero-shot scores of any exported checkpoint: the paper's twelve tasks, and its average of nine."""
    from synpro.commands.evaluate import evaluate as evaluate_model
    from synpro.lm import suite

    check_file("--out", out, reads=model)
    scores = evaluate_model(model, task or (), max_items, log=typer.echo)
    _print(suite.score_table(scores)[len(scores) :])  # its rows were printed as they came
    more = {"LAMBADA by lm-eval": suite.score_lambada(model, max_items=max_items)} if lambada else {}
    for name, values in more.items():
        typer.echo(f"{name}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items()))
    if out is not None:
        write_file("--out", out, suite.scores_to_json(scores, more))


@app.command()
def report(
    run: Run,
    serve: Annotated[bool, typer.Option("--serve", help="serve it on 127.0.0.1, renewed while the run goes on")] = False,
    port: Annotated[int, typer.Option(help="with --serve; 0 takes any", min=0, max=65535)] = 8765,
    out: Annotated[
        Path | None, typer.Option(help="HTML to write instead, of a run that is somebody else's (not with --serve)")
    ] = None,
) -> None:
    """Write RUN/report.html: one page, everything inside, to be opened or sent. For a comparison, its compare.html."""
    from synpro.commands.report import serve as serve_report
    from synpro.commands.report import write_report

    if serve:
        serve_report(run, port, typer.echo)
        return
    typer.echo(f"report: {write_report(run, out)}")


@app.command("config")
def config_keys(
    docs: Annotated[bool, typer.Option("--docs", help="as the page docs/config.md (the default)")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="as a JSON schema, for editors")] = False,
) -> None:
    """Print every key of a config, with type, default, unit, range and source."""
    from synpro.commands.config_docs import config_page, schema_text

    sys.stdout.write(schema_text() if schema and not docs else config_page())


def main() -> None:
    """Entry point. Errors for people are one block on stderr (exit code 1); Ctrl-C and SIGTERM end the running step (130)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        check_filled(sys.argv[1:])
        app()
    except SystemExit as end:
        if end.code == 130:  # what Typer makes of an interrupt
            typer.echo("\nstopped; run the same command again", err=True)
        exit_process(int(end.code or 0))
        raise
    except Exception as problem:
        if (broken := disk_error(problem)) is not None:
            typer.echo(f"error: {explain(broken, None)}", err=True)
        elif type(problem).__module__.startswith("synpro."):  # every error class of ours is written for people
            typer.echo(f"error: {problem}", err=True)
        else:
            raise
        exit_process(1)
        sys.exit(1)


if __name__ == "__main__":
    main()
