"""Nothing of ours is a pickle, nothing foreign is unpickled freely or unpacked, and bombs are refused unopened."""

import ast
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import metavision
from metavision.data import files
from metavision.data.files import open_files
from metavision.errors import InputError

ROOT = Path(metavision.__file__).parent.parent
# By the end of their dotted names: what runs what it reads, or writes where a file says.
BARE = ("eval", "exec", "compile", "__import__")
FORBIDDEN = ("extractall", "extract", "unpack_archive", "dill.load", "dill.loads", "joblib.load", "marshal.loads")
FORBIDDEN += (
    "pickle.load",
    "pickle.loads",
    "pickle.dump",
    "pickle.dumps",
    "Unpickler",
    "read_pickle",
    "torch.save",
    "yaml.load",
)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def offences(source: str) -> list[str]:
    found = []
    for name, call in calls(ast.parse(source)):
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if options.get("filter") == "'data'" or options.get("Loader") == "yaml.BaseLoader":
            continue  # what can't lead out, and what makes texts alone
        last = name.rpartition(".")[2]
        if name in BARE or any(name == word or name.endswith(f".{word}") for word in FORBIDDEN):
            found.append(name)
        if name == "torch.export.load":
            continue  # of nothing but what was exported a moment ago
        if last == "load" and name.startswith("torch") and options.get("weights_only") != "True":
            found.append(f"{name} without weights_only=True")
        if options.get("allow_pickle", "False") != "False" or options.get("shell", "False") != "False":
            found.append(f"{name}({options})")
    return found


def test_what_would_be_an_offence_is_found() -> None:
    for source in (
        "import pickle; pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
        "archive.extractall(p)",
        "subprocess.run(x, shell=True)",
        "eval(x)",
    ):
        assert offences(source), source
    assert not offences("torch.load(f, weights_only=True); np.load(f); model.eval_(); yaml.safe_load(f)")


@pytest.mark.parametrize("folder", ["metavision", "hydra_plugins", "scripts", "benchmarks"])
def test_no_code_runs_what_it_reads(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): offences(path.read_text())
        for path in (ROOT / folder).rglob("*.py")
        if offences(path.read_text())
    }
    # The restricted unpickler itself, which knows a dozen names and calls nothing else.
    assert found == {}, found


def test_a_zip_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/0.png", "w") as member:
        for _ in range(files.LARGEST // 2**24 + 1):
            member.write(bytes(2**24))
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match=r"a/0.png in .* unpacks to 0.55. GB"):
        list(open_files(path).read(["a/0.png"]))


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")])
def test_a_zip_by_a_compression_without_bound_is_refused(method: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/0.png", bytes(1000))
    with pytest.raises(InputError, match=f"by {name}"):
        list(open_files(path).read(["a/0.png"]))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_that_says_more_than_fits_is_refused(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("a/0.png")
    header.type, header.size = kind, files.LARGEST + 1
    path = tmp_path / "bomb.tar"
    path.write_bytes(header.tobuf() + bytes(10240))
    with pytest.raises(InputError, match=r"unpacks to|is no whole tar archive|and no whole zip or tar"):
        list(open_files(path).read(["a/0.png"]))


def test_links_in_a_tar_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "a/0.png"), (tarfile.LNKTYPE, "a/1.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(secret)
            archive.addfile(link)
        plain = tarfile.TarInfo("a/2.png")
        plain.size = 5
        archive.addfile(plain, io.BytesIO(b"plain"))
    opened = open_files(path)
    assert "a/0.png" not in opened.names()
    assert [content for _, content in opened.read(["a/2.png"])] == [b"plain"]
    with pytest.raises(InputError, match=r"a/1.png in .* can't be read"):
        list(opened.read(["a/1.png"]))
