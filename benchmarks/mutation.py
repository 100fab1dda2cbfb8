"""Mutation testing: change one operator, number or statement at a time and see whether a test fails.

Each module is changed at up to `--mutants` places, drawn by `--seed`, in a copy of the project; its own tests, without
the slow ones, run on each mutant in a process forked after the libraries are imported. A mutant that no test notices
survives.
"""

import ast
import importlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tqdm import tqdm

TESTS = {
    "pipeline/keypoints/geometry.py": ["tests/keypoints/test_geometry.py", "tests/data/test_align.py"],
    "pipeline/keypoints/metrics.py": ["tests/keypoints/test_metrics.py"],
    "pipeline/data/align.py": ["tests/data/test_align.py"],
    "pipeline/data/folds.py": ["tests/data/test_folds.py"],
    "pipeline/models/codecs.py": ["tests/models/test_codecs.py"],
    "pipeline/models/losses.py": ["tests/models/test_losses.py", "tests/models/test_codecs.py"],
    "pipeline/models/checkpoint.py": ["tests/models/test_checkpoint.py"],
    "pipeline/training/loader.py": ["tests/training/test_engine.py", "tests/training/test_augment.py"],
    "pipeline/training/engine.py": ["tests/training/test_engine.py"],
    "pipeline/inference/predict.py": ["tests/inference/test_predict.py", "tests/training/test_train.py"],
    "pipeline/inference/ensemble.py": ["tests/inference/test_ensemble.py"],
    "pipeline/inference/shape.py": ["tests/inference/test_shape.py"],
    "pipeline/evaluation/intervals.py": ["tests/evaluation/test_intervals.py"],
    "pipeline/inference/intervals.py": ["tests/evaluation/test_intervals.py"],
    "pipeline/evaluation/compare.py": ["tests/evaluation/test_compare.py"],
    "pipeline/evaluation/submission.py": ["tests/evaluation/test_submission.py"],
}
LIBRARIES = ["cv2", "hypothesis", "jinja2", "matplotlib.pyplot", "pandas", "pydantic", "ruamel.yaml", "scipy.stats",
             "sklearn.linear_model", "sklearn.model_selection", "timm", "timm.optim", "timm.scheduler",
             "timm.utils", "torch"]
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
               ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
             ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.MatMult: ast.Add}
MESSAGES = (ast.Raise, ast.Assert, ast.JoinedStr)  # what a person reads is not asserted word by word
MINUTES = 3  # CPU time after which a mutant counts as killed: it loops


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield every mutant as its line, what was changed, and the whole source."""
    count = len(_places(ast.parse(source)))
    for number in range(count):
        tree = ast.parse(source)
        node = _places(tree)[number]
        before = ast.unparse(node)
        _change(node)
        yield node.lineno, f"{before} → {ast.unparse(node)}", ast.unparse(tree)


def _places(tree: ast.AST) -> list[ast.AST]:
    """List what can be changed, but for annotations, class attributes, defaults, decorators and messages."""
    found: list[ast.AST] = []
    for name, value in ast.iter_fields(tree):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, MESSAGES) or name in (
                    "annotation", "returns", "decorator_list", "args" if isinstance(tree, ast.FunctionDef) else ""):
                continue
            if isinstance(tree, ast.ClassDef) and not isinstance(child, ast.FunctionDef):
                continue
            if _changeable(child):
                found.append(child)
            found += _places(child)
    return found


def _changeable(node: ast.AST) -> bool:
    match node:
        case ast.Compare(ops=[operator]):
            return type(operator) in COMPARISONS
        case ast.BinOp(op=operator, left=left, right=right):
            return type(operator) in OPERATORS and not any(map(_is_text, (left, right)))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return False  # an axis counted from the end, which is the same one in most arrays
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.USub()) | ast.AugAssign():
            return True
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float)
        case ast.Expr(value=ast.Call()):
            return True
    return False


def _is_text(node: ast.AST) -> bool:
    """Whether this is a string, as in the path `folder / "oof.npz"`, which no change leaves valid."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _change(node: ast.AST) -> None:
    """Change a node in place."""
    match node:
        case ast.Compare():
            node.ops = [COMPARISONS[type(node.ops[0])]()]
        case ast.BinOp():
            node.op = OPERATORS[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        case ast.UnaryOp():
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
            if isinstance(node.op, ast.Not):  # twice is not at all
                node.operand = ast.UnaryOp(op=ast.Not(), operand=node.operand)
        case ast.AugAssign():
            node.op = OPERATORS.get(type(node.op), ast.Sub)()
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=value):
            node.value = value + 1
        case ast.Expr():
            node.value = ast.Constant(value=None)


def survives(tests: list[str]) -> bool:
    """Run tests in a forked process and return whether all passed."""
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (60 * MINUTES, 60 * MINUTES))
        silence = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silence, stream)
        os._exit(pytest.main([*tests, "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@click.command()
@click.argument("modules", nargs=-1)
@click.option("--mutants", "number", default=15, show_default=True, help="Most mutants of a module.")
@click.option("--seed", default=0, show_default=True)
def main(modules: tuple[str, ...], number: int, seed: int) -> None:
    """Print a table of MODULES (default: all that make numbers), the score, and the mutants that survive."""
    for name in LIBRARIES:
        importlib.import_module(name)
    copy, rows, survivors = Path(tempfile.mkdtemp()), [], []
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, copy / name)
    os.environ.setdefault("KEYPOINT_FOLDS_DATA", str(Path.cwd().parent / "shared" / "data"))
    sys.dont_write_bytecode = True
    sys.path[:] = [str(copy), *(path for path in sys.path if Path(path).resolve() != Path.cwd())]
    os.chdir(copy)
    try:
        for module in modules or TESTS:
            source = Path(module).read_text()
            if not survives(TESTS[module]):
                raise click.ClickException(f"{module}: its tests fail before any change")
            found = list(mutants(source))
            drawn = sorted(random.Random(f"{seed} {module}").sample(range(len(found)), min(number, len(found))))
            killed = 0
            for line, change, text in tqdm([found[place] for place in drawn], module):
                Path(module).write_text(text)
                if survives(TESTS[module]):
                    survivors.append(f"- {module}:{line}: `{' '.join(change.split())[:150]}`")
                else:
                    killed += 1
            Path(module).write_text(source)
            rows.append((module, len(found), len(drawn), killed))
    finally:
        shutil.rmtree(copy)
    click.echo("| module | places | mutants | killed |\n|---|---|---|---|")
    for row in rows:
        click.echo("| {} | {} | {} | {} |".format(*row))
    tried, killed = (sum(row[column] for row in rows) for column in (2, 3))
    click.echo(f"\nScore: {killed} of {tried} ({100 * killed / tried:.0f}%). Survivors:\n" + "\n".join(survivors))


if __name__ == "__main__":
    main()
