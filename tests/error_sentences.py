"""Every sentence with which the code refuses something, collected from the code itself.

Placeholders are written "…": `f"There is no class {target}."` is found as "There is no class ….". What is looked at:

- the text of every exception that is raised, but for those in `INTERNAL`, which nobody reads;
- what is passed on as a failure: `Failure(text)`, `_sentence(status, text)`, `refusal(status, text)`, `sentence=text`,
  an answer `{"refused": text}`, a variable in `SENTENCES`, and what is printed to stderr;
- constants of a module that are sentences;
- sentences in the scripts of the page, and what the Makefile echoes to stderr.

Texts are followed through constants, local variables, conditions and functions of the same module.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GAP = "…"
# Caught by our own code, which says something else; or about a call that only our own code makes.
INTERNAL = {
    *("CodecError", "NotTyped", "ProtocolError", "ShelfDamaged", "SystemExit", "TypeError", "OSError"),
    "NotImplementedError",
    "CannotTell",  # the outcome of a rule, which stands in a report beside those of others, and is no error
}
FINDINGS = "hooks/doctor"  # where sentences are findings, each with its own reason and advice
PYTHONS = {"ValueError", "RuntimeError", "KeyError"}
# Which argument of a call is a sentence for a person.
SAID_BY = {"Failure": 0, "_failed": 0, "_sentence": 1, "refusal": 1, "GivenInput": 2}
# Variables and arguments that hold one.
SENTENCES = {"sentence", "waiting_sentence"}
# Functions that give a sentence to whoever calls them in another module.
SAYERS = {"check_port", "describe_exit", "_refusal", "_not_had", "_no_room", "say", "sentence_for"}
SHORTEST = 5  # letters; what is shorter is a part of a sentence
FEW = 12
# What is found and is no error.
NO_ERRORS = (
    "The layers appear here when the model has loaded.",
    "Channels as maps. Click one to enlarge it; or press Enter, and walk with the arrow keys.",
    "Likeness of every layer of A and of B. Arrow keys go from pair to pair, and Enter opens both layers.",
    "Starting the worker.",
    "Without numba, which makes statistics faster: pip install 'hookscope[fast]'.",
    "Hookscope shows what every layer of a vision model computed for a photograph: each channel as a map, its numbers, "
    "and where in the picture the answer comes from.",
    "The job is over.",
    "The channels are muted together, the least important first, and the model is asked anew each time: the removal of "
    "many is not the sum of the removals of each. Beside it random orders: a ranking that does no better has told "
    "nothing.",
    "It is not known how its answer is read.",
    "The model is being loaded.",
    "The sweep was stopped.",
    "This picture has no file.",
    "Look through a set of pictures: which the model gets wrong, what each channel looks for, which channels never "
    "fire. Choose a set above, or bring one; the built-in photographs are a first one. Whoever runs the server offers "
    "folders with --images NAME=FOLDER.",
    "They are seen by whoever has the page's address or a link to it, and by nobody else.",
    "One channel per pass: what this model answers to a picture cannot be had of several at once.",
    "Not copied: copy it from here.",
    "The same pictures gave other numbers when the baseline was written, so the model is not the one that was checked.",
    "It works only on this computer: to show this view to others, export the page instead.",
    "Whoever has it sees this view and its pictures.",
    "Write the shown layers' maps, histograms and numbers for TensorBoard, and the gradients if their tab was opened, "
    "into a new folder on the server.",
    f"Written to {GAP}. See it with: tensorboard --logdir {GAP}",
    f"Written to {GAP}. {GAP} of {GAP} were not computed yet and are left out. See it with: tensorboard --logdir {GAP}",
    "The gradient of the class's logit with respect to what each layer that has weights produced, before any change in "
    "place; layers stand in the order in which the network comes to them.",
    f"The header and the tree are about {GAP}. Click the other picture to change that.",
    "With Shift, what is explained is held against it.",
    "How alike A's and B's models see the built-in photographs, layer by layer: debiased linear CKA is 1 for the same, "
    "whatever the rotation and the scale, and about 0 for nothing in common.",
    "How many of the first five classes both have, by name; and the overlap of all shares, 1 where they are the same "
    "and 0 where no class has a share in both.",
    "What every offered model answers to this picture, and how far it agrees. Each is loaded when this is opened.",
    "The L2 norm of the weights that make this output channel: the root of the sum of their squares.",
    "How far A and B are apart at every layer and function, each from a pass of its own: relative L2, as a share of "
    "what unrelated photographs have there. 1 is as different as any two pictures; below 0.2 the two are the same up "
    "to here.",
    "What each channel of A brings back of A's answer when it alone is put into B's run: the difference of the two "
    "classes' logits, 0 is nothing and 100 % all of it. Estimated at once, then measured, the strongest first.",
    "What of the one side's answer comes back when a layer of the other side's run gets its values: the difference of "
    "the two classes' logits, 0 is nothing and 1 is all of it. Estimated for all layers by one gradient, then "
    "measured.",
    "The means of each channel over each picture, of up to 128 pictures of each set: a bar is how far the two sets are "
    "apart, in deviations of a channel; full colour where that is no chance (p < 0.01 by permutations, of the squared "
    "maximum mean discrepancy with KID's kernel).",
    "A logistic regression on the means of the layer's channels, asked about pictures that it has not seen. The proxy "
    "A-distance 2 (1 - 2 error) is 2 where all are told apart and 0 at chance.",
    "Both models answer the same pictures; each is right where its first class is what the picture is said to show.",
    "Rows are what the pictures are said to show, columns what they are taken for. A click shows these pictures.",
    "The mean size of the level's activation inside a box over that outside of it, in the mean over all boxes: 1 where "
    "the level does not see the object.",
    "No hook is registered on the model now: each is removed as soon as its answer is there.",
    "Pictures that a layer finds alike lie together: each point is the means of the layer's channels over a picture, "
    "laid out in a plane.",
    "The pictures as points. Arrow keys go from point to point, Enter has the picture as A, Space takes it, Escape "
    "leaves all that were taken.",
    "Draw around points to take them, or click a class to take its pictures; what is taken can become a set.",
    "It is for captions, and no picture goes through it.",
    "It is 0 everywhere in every picture, so no picture shows what it looks for.",
    "Mistakes need folders by class, or a labels.csv beside the files.",
    "Nobody says what these pictures show, so no mistakes are counted: for that bring them in folders by class, or "
    "with a labels.csv of file names and classes beside them.",
    "What runs beside a layer, such as a residual addition, may carry more past it.",
    "Over the built-in photographs, because no folder was named.",
)

# the library's own exceptions, which some functions make for others to raise
OURS = {
    node.name
    for node in ast.parse((ROOT / "hooks" / "errors.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
}


@dataclass(frozen=True, order=True)
class Sentence:
    """One sentence, and where it stands."""

    text: str
    place: str


def sentences() -> list[Sentence]:
    """All of them, each once."""
    found: dict[str, str] = {}
    for path in [
        *python_files("src"),
        *python_files("hooks"),
        *python_files("dashboard"),
        ROOT / "tests/find_chromium.py",
    ]:
        where = path.relative_to(ROOT)
        module = Module(ast.parse(path.read_text(encoding="utf-8")), finds=where.is_relative_to(FINDINGS))
        for text, line in module.sentences():
            found.setdefault(text, f"{where}:{line}")
    for path in sorted((ROOT / "assets").glob("*.js")):
        for text in script_sentences(path.read_text(encoding="utf-8")):
            found.setdefault(text, str(path.relative_to(ROOT)))
    for text in re.findall(r'echo "([^"]+\.)"(?: >&2|; exit)', (ROOT / "Makefile").read_text(encoding="utf-8")):
        found.setdefault(normal(re.sub(r"\$\$\w+|\$\(\w+\)", GAP, text)), "Makefile")
    return sorted(Sentence(text, place) for text, place in found.items() if text not in NO_ERRORS)


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def script_sentences(source: str) -> Iterator[str]:
    """Strings of a script that start like a sentence and end like one."""
    for double, template in re.findall(r'"([A-Z][^"\n]* [^"\n]*[.?])"|`([A-Z][^`]* [^`]*[.?])`', source):
        yield normal(double or re.sub(r"\$\{[^}]*\}", GAP, template))


def normal(text: str) -> str:
    """One space between words, one gap where several meet."""
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(rf"{GAP}(?: ?{GAP})+", GAP, text)


class Module:
    """Finds the sentences of one module, and what names in it stand for.

    Arguments:
        finds: whether only what it raises is a refusal, because all else that it says is a finding.
    """

    def __init__(self, tree: ast.Module, finds: bool = False) -> None:
        self.tree = tree
        self.finds = finds
        self.functions: dict[str, list[ast.FunctionDef]] = {}
        self.scopes: dict[ast.AST, ast.AST] = {}
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            self.functions.setdefault(function.name, []).append(function)
            for node in ast.walk(function):
                self.scopes[node] = function
        self.depth = 0

    def sentences(self) -> Iterator[tuple[str, int]]:
        for node in ast.walk(self.tree):
            for said in self._said(node):
                for text in self.texts(said):
                    text = normal(text)
                    if len(re.sub(r"[^A-Za-z]", "", text)) >= SHORTEST and " " in text:
                        yield text, said.lineno

    def _said(self, node: ast.AST) -> Iterator[ast.expr]:
        """The expressions at this node whose value a person reads."""
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and name_of(node.exc.func) not in INTERNAL:
            # Where the exception is made by a function of this module, that one's own calls are looked at.
            name = name_of(node.exc.func)
            for argument in node.exc.args[:1] if name[:1].isupper() else ():
                # Python's own exceptions say a sentence to a person, and half of one to a programmer.
                if name not in PYTHONS or any(text.endswith(".") for text in self.texts(argument)):
                    yield argument
        if self.finds:
            return
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in SAID_BY and len(node.args) > SAID_BY[name]:
                yield node.args[SAID_BY[name]]
            if name == "print" and any(keyword.arg == "file" for keyword in node.keywords):
                yield from node.args[:1]
            yield from (keyword.value for keyword in node.keywords if keyword.arg in SENTENCES)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            name = name_of(node.value.func)
            refusal = name.endswith(("Refused", "Error")) or name in OURS
            yield from node.value.args[:1] if refusal and name not in INTERNAL else ()
        if isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            yield from (value for key, value in zip(keys, node.values, strict=True) if key == "refused")
        if isinstance(node, ast.Assign) and any(name_of(target) in SENTENCES for target in node.targets):
            yield node.value
        # A constant whose name starts with an underscore is a part of a sentence.
        named = name_of(node.targets[0]) if isinstance(node, ast.Assign) and node in self.tree.body else ""
        if isinstance(node, ast.Assign) and named.isupper() and not named.startswith("_"):
            yield from (node.value for text in self.texts(node.value) if re.match(r"[A-Z][a-z' ]+ .*[.…]$", text))
        if isinstance(node, ast.FunctionDef) and node.name in SAYERS:
            yield from returned(node)

    def texts(self, node: ast.expr) -> list[str]:
        """What the value of an expression may be, with gaps."""
        self.depth += 1
        try:
            return list(dict.fromkeys(self._texts(node))) if self.depth < 12 else [GAP]
        finally:
            self.depth -= 1

    def _texts(self, node: ast.expr) -> list[str]:
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=values):
                return ["".join(parts) for parts in product(*(self._part(value) for value in values))]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return [first + second for first in self.texts(left) for second in self.texts(right)]
            case ast.IfExp(body=body, orelse=orelse):
                return self.texts(body) + self.texts(orelse)
            case ast.Name(id=name):
                return self._assigned(node, name) or [GAP]
            case ast.Call(func=ast.Attribute(value=value, attr="rstrip" | "strip")):
                return self.texts(value)
            case ast.Call(func=func) if functions := self.functions.get(name_of(func)):
                return [text for each in functions for value in returned(each) for text in self.texts(value)] or [GAP]
            case ast.Tuple(elts=[first, *_]):
                return self.texts(first)
            case _:
                return [GAP]

    def _part(self, value: ast.expr) -> list[str]:
        """What a placeholder may be: worth following only where it stands for a few texts of our own."""
        if not isinstance(value, ast.FormattedValue):
            return self.texts(value)
        found = self.texts(value.value) if isinstance(value.value, ast.Name | ast.IfExp) else [GAP]
        return found if len(found) <= FEW else [GAP]

    def _assigned(self, node: ast.AST, name: str) -> list[str]:
        scope = self.scopes.get(node, self.tree)
        found = []
        for place in dict.fromkeys((scope, self.tree)):
            body = ast.walk(place) if place is scope else iter(self.tree.body)
            for each in body:
                if isinstance(each, ast.Assign) and any(name_of(target) == name for target in each.targets):
                    found += self.texts(each.value)
                if isinstance(each, ast.For) and isinstance(each.target, ast.Tuple):
                    found += self._in_rows(each, name)
            if found:
                return found
        return found

    def _in_rows(self, loop: ast.For, name: str) -> list[str]:
        """What a loop over a table of this module gives to a name."""
        columns = [name_of(target) for target in loop.target.elts]  # type: ignore[attr-defined]
        tables = [
            each.value
            for each in self.tree.body
            if isinstance(each, ast.Assign) and name_of(each.targets[0]) == name_of(loop.iter)
        ]
        rows = [row for table in tables if isinstance(table, ast.Tuple) for row in table.elts]
        if name not in columns or not all(isinstance(row, ast.Tuple) for row in rows):
            return []
        return [text for row in rows for text in self.texts(row.elts[columns.index(name)])]  # type: ignore[attr-defined]


def name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield node.value


if __name__ == "__main__":
    for sentence in sentences():
        print(f"{sentence.place}\t{sentence.text}")
