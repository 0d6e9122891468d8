"""The source of a class in a notebook changes with all that it uses, and with nothing else."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType

import pytest

from pipeline.stage import notebook

CELL = '''
class Word:
    """Say a word."""

    def run(self):
        return helper() * TIMES
'''
HELPER = "def helper():\n    return 'word'\n"


class Kernel:
    """Runs cells as IPython does: in one module without a file, each known by its lines."""

    def __init__(self) -> None:
        self.module = ModuleType("kernel_of_a_test")
        self.count = 0

    def run(self, text: str) -> None:
        self.count += 1
        name = f"<cell {self.count}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), vars(self.module))

    def source(self, name: str = "Word") -> str | None:
        return notebook.source(getattr(self.module, name))


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    monkeypatch.setitem(sys.modules, made.module.__name__, made.module)
    made.run(HELPER)
    made.run("TIMES = 2\n")
    made.run(CELL)
    return made


@pytest.mark.parametrize(
    "edit",
    [
        CELL.replace("helper() *", "helper() +"),
        HELPER.replace("'word'", "'other'"),
        "TIMES = 3\n",
        "def helper():\n    return deeper()\ndef deeper():\n    return 'word'\n",
    ],
)
def test_an_edit_of_the_class_or_of_what_it_uses_counts(kernel, edit):
    before = kernel.source()
    kernel.run(edit)
    assert before is not None
    assert kernel.source() != before


def test_what_the_class_does_not_use_does_not_count(kernel):
    before = kernel.source()
    kernel.run("other = 5\nword = 'run'\n" + CELL + "\nshown = Word().run()\n")
    assert kernel.source() == before


def test_a_decorated_class_and_method_are_found(kernel):
    kernel.run("import functools\ndef keep(it):\n    return it\n")
    decorated = CELL.replace("class", "@keep\nclass").replace("    def", "    @keep\n    def")
    kernel.run(decorated)
    assert "@keep\nclass Word" in (kernel.source() or "")


def test_a_class_whose_lines_are_not_known_has_no_source(kernel):
    exec(CELL, vars(kernel.module))
    assert kernel.source() is None


RICH = '''
class Word(Mixin):
    """Say a word."""

    factor = FACTOR

    @functools.cached_property
    def size(self):
        return SIZE

    def run(self):
        all_of = [made(1), part(), KIT["tool"](), POINT, one(1), other(1), bare()]
        return [cached(), wrapped(), timed(), LONG, STOP, FORM, self.mixed(), self.size, all_of]
'''
CELLS = {
    "STOP": "STOP = {'a', 'b'}\n",
    "FORM": "import re\nFORM = {'form': re.compile('a')}\n",
    "FACTOR": "FACTOR = 1\n",
    "SIZE": "SIZE = 1\n",
    "cached": "import functools\n@functools.cache\ndef cached():\n    return 1\n",
    "wrapped": (
        "def keep(it):\n    @functools.wraps(it)\n    def kept():\n        return it()\n"
        "    return kept\nDEEP = 1\n@keep\ndef wrapped():\n    return DEEP\n"
    ),
    "keep": "def keep(it):\n    return functools.wraps(it)(lambda: it() * 1)\n",
    "BY": "BY = 1\n",
    "by": (
        "def by(it):\n    @functools.wraps(it)\n    def times():\n        return BY * it()\n"
        "    return times\n@keep\n@by\ndef timed():\n    return 'a'\n"
    ),
    "made": "def make(n):\n    return lambda x: x * n\nmade = make(1)\n",
    "part": "def add(n):\n    return n\npart = functools.partial(add, 1)\n",
    "KIT": "def tool():\n    return 1\nKIT = {'tool': tool}\n",
    "POINT": (
        "import dataclasses\n@dataclasses.dataclass\nclass Point:\n    x: int\nPOINT = Point(1)\n"
    ),
    "one": "one = lambda x: x + 1\n",
    "other": "other = lambda x: x + 5 - 1\n",
    "bare": (
        "def twice(it):\n    def both():\n        return it() + it()\n    return both\n"
        "@twice\ndef bare():\n    return 1\n"
    ),
    "LONG": f"LONG = re.compile('{'x' * 300}1')\n",
    "Mixin": "class Mixin:\n    def mixed(self):\n        return 1\n",
}


@pytest.mark.parametrize("name", CELLS)
def test_all_that_a_class_uses_counts(kernel, name):
    for text in (*CELLS.values(), RICH):
        kernel.run(text)
    before = kernel.source()
    for text in (*CELLS.values(), RICH):  # the same, in another order of the set
        kernel.run(text.replace("{'a', 'b'}", "{'b', 'a'}"))
    assert kernel.source() == before
    edited = CELLS[name].replace("1", "2").replace("'a'", "'c'")
    assert edited != CELLS[name]
    kernel.run(edited)
    kernel.run(RICH)
    assert kernel.source() != before


def test_what_a_stage_changes_itself_is_no_edit_of_its_text(kernel):
    kernel.run("SAID = []\n" + CELL.replace("TIMES", "len(SAID)"))
    before, text = kernel.source(), notebook.source(kernel.module.Word, constants=False)
    kernel.module.SAID.append(1)
    assert kernel.source() != before
    assert notebook.source(kernel.module.Word, constants=False) == text
    kernel.run(HELPER.replace("word", "other"))
    assert notebook.source(kernel.module.Word, constants=False) != text


def test_a_class_in_an_indented_block_may_have_a_text_at_the_margin(kernel):
    lines = CELL.replace("Say a word.", "Say\na word.").strip().splitlines()
    inner = "\n".join(line if line.startswith("a word") else "    " + line for line in lines)
    kernel.run(f"if True:\n{inner}\n")
    before = kernel.source()
    kernel.run("TIMES = 3\n")
    assert kernel.source() != before


def test_objects_of_any_kind_can_be_walked(kernel):
    """A node that reaches itself, data without a dictionary, and what answers every attribute."""
    kernel.run(
        "import dataclasses\n"
        "@dataclasses.dataclass\nclass Node:\n    value: int\n    me: object = None\n"
        "@dataclasses.dataclass(slots=True)\nclass Thin:\n    value: int\n"
        "class Open(dict):\n    __getattr__ = dict.__getitem__\n"
        "class Proxy:\n    def __call__(self):\n        return 1\n"
        "    def __getattr__(self, name):\n        raise RuntimeError(name)\n"
        "NODE = Node(1)\nNODE.me = NODE\nOPEN, PROXY = Open(a=1), Proxy()\n"
    )
    kernel.run("DEEP = {'all': [Node(7), {'thin': Thin(1)}]}\n")
    kernel.run(CELL.replace("TIMES", "NODE.value + OPEN['a'] + PROXY() + len(DEEP)"))
    before = kernel.source()
    assert before is not None
    for edit in ("NODE.value = 2\n", "DEEP = {'all': [Node(7), {'thin': Thin(2)}]}\n"):
        kernel.run(edit)
        assert kernel.source() != before
        before = kernel.source()


def test_all_of_several_partial_functions_count(kernel):
    kernel.run("from functools import partial\ndef add(n, m=0):\n    return n\n")
    kernel.run("PARTS = [partial(add, n) for n in range(20)]\n" + CELL.replace("TIMES", "PARTS"))
    texts = {kernel.source() for _ in range(5)}
    assert len(texts) == 1
    for number in range(20):
        assert f"add [[{number}], {{}}]" in texts.copy().pop()


def test_which_value_is_where_counts_and_nothing_else(kernel):
    kernel.run(
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    a: int\n"
        "    made: dataclasses.InitVar[int] = 0\n"
        "    def __post_init__(self, made):\n        self.kept = made\n"
        "def f():\n    return 1\ndef g():\n    return 2\n"
    )
    kernel.run(CELL.replace("TIMES", "len(PAIR) + len(BY) + SHARED.a + OTHER.a"))
    texts = []
    for edit in (
        "PAIR, BY = [C(7), C(8)], {'one': f, 'two': g}\nSHARED = OTHER = C(1)\n",
        "PAIR = [C(8), C(7)]\n",
        "BY = {'one': g, 'two': f}\n",
        "OTHER = C(1, made=5)\n",
    ):
        kernel.run(edit)
        texts.append(kernel.source())
        assert kernel.source() == texts[-1]
    assert len({*texts}) == 4
