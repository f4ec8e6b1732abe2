"""`metavision data`: what data sets there are, and prepare, show and verify one."""

from collections.abc import Callable

from metavision.cli.parser import Parser

EXAMPLES = """examples
  metavision data list                         what there is, what is here, and how to get the rest
  metavision data prepare miniimagenet         decode once; done by itself on first use
  metavision data prepare cub size=96 split=easyfsl
  metavision data show omniglot                counts, and pictures in outputs/data/omniglot
  metavision data verify folder path=photos    damage, duplicates, classes in two splits

KEY=VALUE sets any key of the data set, those that `metavision train` knows as data.KEY.
"""
ACTIONS = {
    "list": "what there is, what is here, and how to get the rest",
    "prepare": "decode a data set once into the cache",
    "show": "counts, contact sheets and an episode as pictures",
    "verify": "checksums, damage, classes in two splits, duplicates",
}


def main(words: list[str]) -> int:
    parser = Parser(
        prog="metavision data",
        description="Data sets: what there is, and prepare, show and verify one.",
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, what in ACTIONS.items():
        sub = actions.add_parser(name, help=what, description=what)
        if name != "list":
            sub.add_argument("name", metavar="NAME", help="a data set; metavision data list shows them")
            sub.add_argument("options", metavar="KEY=VALUE", nargs="*", help="its options, such as size=84")
    given = vars(parser.parse_args(words))
    from metavision.cli import datasets  # help must not wait for torch

    action = given.pop("action")
    run: Callable[..., int] = datasets.show_list if action == "list" else getattr(datasets, action)
    return run(**given)
