"""Corpora by name: the built-in micro-world, public data that is fetched once, and a reader's own text.

>>> corpus = load("multi30k")                                          # doctest: +SKIP
>>> corpus.pairs("train", "de", "en")[0]                               # doctest: +SKIP
('Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.', 'Two young, White males are outside ...')

Public files are fetched when a cell asks for them, checked against the SHA-256 in ``data/registry.toml`` at every
load, and kept in a cache. Two environment variables change where (a relative path counts from the project folder):

``COURSE_DATA_CACHE``
    the cache, in place of the usual cache folder of the operating system.
``COURSE_DATA_MIRROR``
    a folder to copy from in place of the internet, laid out ``OWNER/REPO/COMMIT/PATH`` like the URLs. A filled
    cache has this layout too, so a copy of it serves a classroom without internet.

To add a public corpus, describe it in ``data/registry.toml``: its files (URL pinned to a commit, bytes, SHA-256),
languages, licence, citation, and the loader that reads it. Line-aligned text files and running text need nothing
more. For another format write one function ``(entry, paths) -> {split: {column: [value, ...]}}`` beside
`_tatoeba`, and name it in `LOADERS`; a column is a language or anything else that belongs to a text (its author, a
label), and all columns of a split have the same length. `leak_free_split` makes the splits if the source has none.
"""

import difflib
import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
import unicodedata
import zipfile
import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from course_lib.microworld import Draw, Story

PROJECT = Path(__file__).resolve().parent.parent
REGISTRY = PROJECT / "data" / "registry.toml"
MICROWORLD = "microworld/parallel"
STORIES = "microworld/stories"

Columns = dict[str, dict[str, list[Any]]]  # split -> column -> values


class DownloadError(OSError):
    """A file of a public corpus could not be had; nothing incomplete was left behind."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts by split and language. ``columns[split][column]`` holds everything; the methods check the names."""

    name: str
    languages: tuple[str, ...]
    licence: str
    citation: str
    note: str  # what to mind when using the corpus
    columns: Mapping[str, Mapping[str, Sequence[Any]]] = field(repr=False)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, e.g. ``("train", "valid", "test")``."""
        return tuple(self.columns)

    def texts(self, split: str, language: str) -> list[str]:
        """All texts of a split in one language. Raises ValueError for a split or a language it does not have."""
        if language not in self.languages:
            raise ValueError(_unknown("language", language, self.languages, self.name))
        return self.column(split, language)

    def pairs(self, split: str, source: str, target: str) -> list[tuple[str, str]]:
        """(source text, target text) of a parallel corpus, in the order of `texts`."""
        if len(self.languages) < 2:
            raise ValueError(f"{self.name} is not parallel: all of it is in {self.languages[0]!r}; use texts()")
        return list(zip(self.texts(split, source), self.texts(split, target), strict=True))

    def column(self, split: str, name: str) -> list[Any]:
        """What else is recorded with each text, e.g. ``column("test", "attribution")`` of tatoeba-cmn."""
        if split not in self.columns:
            raise ValueError(_unknown("split", split, self.splits, self.name))
        if name not in self.columns[split]:
            raise ValueError(_unknown("column", name, self.columns[split], f"{self.name}, split {split!r},"))
        return list(self.columns[split][name])

    def draws(self, split: str) -> "list[Draw]":
        """microworld/parallel only: the draws behind the texts, with meaning, alignment and log-probability."""
        return self.column(split, "draw")

    def stories(self, split: str) -> "list[Story]":
        """microworld/stories only: the stories behind the texts, with events, meanings and log-probabilities."""
        return self.column(split, "story")

    def __str__(self) -> str:
        sizes = " · ".join(f"{split} {len(next(iter(columns.values()))):,}" for split, columns in self.columns.items())
        return f"{self.name} ({', '.join(self.languages)}): {sizes}; licence: {self.licence}"


def names() -> tuple[str, ...]:
    """The name of every corpus that `load` knows."""
    return (MICROWORLD, STORIES, *_read_registry())


def load(name: str, **options: Any) -> Corpus:
    """Return a corpus by name, fetching and checking its files first where it is a public one.

    Args:
        name: one of `names()`.
        options: for the micro-world only, handed to `parallel_corpus` or `story_corpus` of `course_lib.microworld`.

    Raises:
        ValueError: no such corpus, or a file of it is not what its loader can read.
        DownloadError: a file is neither cached nor to be had, or the cache cannot be written.
    """
    if name == MICROWORLD:
        return _microworld(**options)
    if name == STORIES:
        return _stories(**options)
    registry = _read_registry()
    if name not in registry:
        raise ValueError(_unknown("corpus", name, names(), "course_lib.datasets"))
    if options:
        raise TypeError(f"corpus {name!r} takes no options, got {', '.join(options)}")
    entry = registry[name]
    columns = LOADERS[entry.loader](entry, _fetch(entry))
    return Corpus(name, entry.languages, entry.licence, entry.citation, entry.note, columns)


def load_parallel(
    source_path: str | os.PathLike[str],
    target_path: str | os.PathLike[str],
    source: str,
    target: str,
    split: str | None = None,
) -> Corpus:
    """Make a corpus of your own two text files, in which line n of one translates line n of the other.

    Args:
        source_path, target_path: UTF-8 text, one sentence a line, no empty lines; may be compressed (``.gz``).
        source, target: their languages, e.g. ``"en"`` and ``"zh"``.
        split: the name of the one split these files are, e.g. ``"train"``. None divides them into train, valid
            and test by `leak_free_split`.

    Raises:
        ValueError: a file is empty, has an empty line, is not UTF-8, or the two differ in length.
    """
    if source == target:
        raise ValueError(f"source and target are both {source!r}; a parallel corpus has two languages")
    source_path, target_path = Path(source_path), Path(target_path)
    columns = _read_aligned({source: source_path, target: target_path})
    return Corpus(
        name=f"{source_path.name} + {target_path.name}",
        languages=(source, target),
        licence="as you know it",
        citation="",
        note="",
        columns=_take(columns, leak_free_split(*columns.values())) if split is None else {split: columns},
    )


# Reading text ----------------------------------------------------------------------------------------------------


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 file, compressed if it ends in ``.gz``, as NFC with ``\\n`` line ends and no byte order mark.

    Raises ValueError, naming file and place, if it is empty, not UTF-8 or a damaged archive. NFC (Unicode Standard
    Annex 15) gives characters that look the same, such as é and e + ´, the same code points.
    """
    path = Path(path)
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip archive ({error}); copy or download it again") from error
    return _decode(data, path)


def _decode(data: bytes, path: Path) -> str:
    """The text of a file, or of a file in an archive."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} (line {line}); "
            "find out the encoding of the file and save it again as UTF-8"
        ) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected text")
    return unicodedata.normalize("NFC", text)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Read one text a line by `read_text`, without surrounding spaces. An empty line raises ValueError."""
    return _cut_lines(read_text(path), path)


def _cut_lines(text: str, path: str | os.PathLike[str]) -> list[str]:
    # Not str.splitlines: it also cuts at form feeds and U+2028, which would shift every later line of a pair.
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")]
    if "" in lines:
        raise ValueError(f"{path}: line {lines.index('') + 1} is empty; delete it (in a parallel text on both sides)")
    return lines


def _read_aligned(paths: Mapping[str, Path]) -> dict[str, list[str]]:
    """Read one file per language, whose lines correspond."""
    columns = {language: read_lines(path) for language, path in paths.items()}
    if len({len(lines) for lines in columns.values()}) > 1:
        counts = ", ".join(f"{path} has {len(columns[language]):,}" for language, path in paths.items())
        raise ValueError(
            f"unequal numbers of lines: {counts}; line n of each must translate line n of the others, "
            "so look for a sentence that was broken in two or left out"
        )
    return columns


# Splits without leaks --------------------------------------------------------------------------------------------


def sentence_key(text: str) -> str:
    """What two spellings of one sentence share: its letters and digits, without case, punctuation and width."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def leak_free_split(*columns: Sequence[str], at_most: int = 1000) -> dict[str, list[int]]:
    """Divide the rows of a parallel corpus into train, valid and test so that no sentence is in two of them.

    Sentences repeat: "How much is it?" has three translations, and 多少钱？ translates seventeen questions. Rows that
    share a sentence (by `sentence_key`) in any column, directly or through other rows, form a group, and a group
    stays whole. Groups are taken in the order of the smallest SHA-256 of their sentences in the first column: the
    first ones are test, the next valid, 5 % of the rows each but no more than `at_most`, and the rest train.
    The result depends on the sentences alone, not on the order of rows or on the machine.

    Returns the row numbers of each split, group by group in the order of that hash: a random order, so that the
    first n rows are a fair sample even where the file is sorted.
    """
    n_rows = len(columns[0])
    parent = list(range(n_rows))  # a forest: rows with the same root are one group

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # halve the path, so that later look-ups are short
            row = parent[row]
        return row

    keys = [[sentence_key(text) for text in column] for column in columns]
    for column_keys in keys:
        first_row: dict[str, int] = {}
        for row, key in enumerate(column_keys):
            parent[root(row)] = root(first_row.setdefault(key, row))

    digests = [hashlib.sha256(key.encode()).digest() for key in keys[0]]
    groups: dict[int, list[int]] = defaultdict(list)
    for row in range(n_rows):
        groups[root(row)].append(row)

    held_out = min(at_most, n_rows // 20)
    split: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for rows in sorted(groups.values(), key=lambda rows: min(digests[row] for row in rows)):
        for name in ("test", "valid"):
            if len(split[name]) + len(rows) <= held_out:
                split[name] += rows
                break
        else:
            split["train"] += rows
    if not all(split.values()):
        raise ValueError(
            f"{n_rows} rows in {len(groups)} groups that share no sentence cannot be divided into train, valid and "
            "test; 20 rows with different sentences are the least"
        )
    return split


def _take(columns: Mapping[str, Sequence[Any]], split: Mapping[str, Sequence[int]]) -> Columns:
    """Divide columns into splits by row numbers."""
    return {
        name: {key: [values[row] for row in rows] for key, values in columns.items()} for name, rows in split.items()
    }


# Loaders: one small function per file format ---------------------------------------------------------------------


@dataclass(frozen=True)
class RemoteFile:
    """One file of a public corpus, as the registry describes it."""

    url: str
    bytes: int
    sha256: str
    split: str | None = None
    language: str | None = None

    @property
    def path(self) -> str:
        """Where it lies inside a mirror or the cache: OWNER/REPO/COMMIT/PATH."""
        return unquote(urlsplit(self.url).path).lstrip("/")


@dataclass(frozen=True)
class Entry:
    """One public corpus, as the registry describes it."""

    name: str
    loader: str
    languages: tuple[str, ...]
    licence: str
    citation: str
    note: str
    files: tuple[RemoteFile, ...]


def _aligned_lines(entry: Entry, paths: Sequence[Path]) -> Columns:
    """One file for each split and language."""
    splits: dict[str, dict[str, Path]] = defaultdict(dict)
    for file, path in zip(entry.files, paths, strict=True):
        if file.split is None or file.language is None:
            raise ValueError(f"{REGISTRY}: entry {entry.name!r}: {file.path} needs a split and a language")
        splits[file.split][file.language] = path
    return {split: _read_aligned(files) for split, files in splits.items()}


def _paragraphs(entry: Entry, paths: Sequence[Path]) -> Columns:
    """Running text, cut at blank lines; the first 90 % of the characters are train, then 5 % valid and 5 % test."""
    paragraphs = read_text(paths[0]).strip("\n").split("\n\n")
    ends = list(accumulate(len(paragraph) + 2 for paragraph in paragraphs))
    train, valid = (bisect_left(ends, share * ends[-1]) + 1 for share in (0.90, 0.95))
    parts = {"train": paragraphs[:train], "valid": paragraphs[train:valid], "test": paragraphs[valid:]}
    return {split: {entry.languages[0]: texts} for split, texts in parts.items()}


def _tatoeba(entry: Entry, paths: Sequence[Path]) -> Columns:
    """English, Chinese and attribution, separated by tabs; divided by `leak_free_split`."""
    rows = [line.split("\t") for line in read_lines(paths[0])]
    for number, row in enumerate(rows, start=1):
        if len(row) != 3:
            raise ValueError(f"{paths[0]}: line {number} has {len(row)} columns separated by tabs; expected 3")
    english, chinese, attribution = map(list, zip(*rows, strict=True))
    columns = {"en": english, "zh": chinese, "attribution": attribution}
    return _take(columns, leak_free_split(english, chinese))


def _poems(entry: Entry, paths: Sequence[Path]) -> Columns:
    """JSON lists of poems, one line of text for each of their lines; divided by `leak_free_split`."""
    columns: dict[str, list[str]] = {name: [] for name in ("zh", "title", "author", "collection")}
    for path in paths:
        for number, poem in enumerate(_parse_json(read_text(path), path), start=1):
            try:
                lines, author = poem["paragraphs"], poem["author"]
                title = poem["title"] if "title" in poem else poem["rhythmic"]  # the melody that a song is written to
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path}: poem {number} has no lines, author or title: {error}") from error
            if not lines or not all(lines):
                raise ValueError(f"{path}: poem {number}, {title!r}, has an empty line or none")
            for name, value in (("zh", "\n".join(lines)), ("title", title), ("author", author)):
                columns[name].append(value)
            columns["collection"].append(path.parent.name)
    # Some poems are there twice, with characters written in another way: one line that agrees is enough.
    poems = [text.split("\n") for text in columns["zh"]]
    parts = [(lines[0], lines[len(lines) // 2], lines[-1]) for lines in poems]
    return _take(columns, leak_free_split(*zip(*parts, strict=True)))


def _minimal_pairs(entry: Entry, paths: Sequence[Path]) -> Columns:
    """JSON lines, each an acceptable sentence beside one that is not; all of it is test."""
    columns: dict[str, list[str]] = {"en": [], "unacceptable": [], "paradigm": []}
    for path in paths:
        for number, line in enumerate(read_lines(path), start=1):
            pair = _parse_json(line, path, number)
            for name, key in (("en", "sentence_good"), ("unacceptable", "sentence_bad"), ("paradigm", "UID")):
                if key not in pair:
                    raise ValueError(f"{path}: line {number} has no {key!r}; it has {', '.join(pair)}")
                columns[name].append(pair[key])
    return {"test": columns}


def _polarity(entry: Entry, paths: Sequence[Path]) -> Columns:
    """A zip archive of two files, one sentence a line; divided by `leak_free_split`."""
    columns: dict[str, list[str]] = {"en": [], "label": []}
    try:
        with zipfile.ZipFile(paths[0]) as archive:
            for label, suffix in (("negative", ".neg"), ("positive", ".pos")):
                names = [name for name in archive.namelist() if name.endswith(suffix)]
                if len(names) != 1:
                    raise ValueError(f"{paths[0]}: holds {len(names)} files that end in {suffix}, expected 1")
                inside = paths[0] / names[0]
                lines = _cut_lines(_decode(archive.read(names[0]), inside), inside)
                columns["en"] += lines
                columns["label"] += [label] * len(lines)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{paths[0]}: damaged zip archive ({error}); copy or download it again") from error
    return _take(columns, leak_free_split(columns["en"]))


def _parse_json(text: str, path: Path, line: int = 1) -> Any:
    """JSON that begins in this line of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1}, column {error.colno}"
        raise ValueError(f"{path}: {where}: not JSON ({error.msg}); copy or download it again") from error


LOADERS: dict[str, Callable[[Entry, Sequence[Path]], Columns]] = {
    "aligned_lines": _aligned_lines,
    "paragraphs": _paragraphs,
    "tatoeba": _tatoeba,
    "poems": _poems,
    "minimal_pairs": _minimal_pairs,
    "polarity": _polarity,
}


def _microworld(**options: Any) -> Corpus:
    from course_lib.microworld import parallel_corpus  # only here: other corpora need not build the micro-world

    world = parallel_corpus(**options)
    columns: Columns = {
        split: {language: world.texts(split, language) for language in ("en", "zh")} for split in world.splits
    }
    for split in ("train", "valid", "test", "test_composition"):  # the natural pairs are written, not drawn
        columns[split]["draw"] = list(getattr(world, split))
    note = "Drawn from a known grammar: every draw has its meaning, alignment and log-probability."
    return _drawn(MICROWORLD, note, columns)


def _stories(**options: Any) -> Corpus:
    from course_lib.microworld import story_corpus

    columns: Columns = {
        split: {
            "en": [story.en_text for story in stories],
            "zh": [story.zh_text for story in stories],
            "story": list(stories),
        }
        for split, stories in story_corpus(**options).items()
    }
    note = "Drawn from a simulated town: the exact probability of every next word is known, and what is true when."
    return _drawn(STORIES, note, columns)


def _drawn(name: str, note: str, columns: Columns) -> Corpus:
    """A corpus of the micro-world."""
    citation = "the micro-world of this course"
    return Corpus(name=name, languages=("en", "zh"), licence="CC0 1.0", citation=citation, note=note, columns=columns)


# Fetching --------------------------------------------------------------------------------------------------------


def _read_registry() -> dict[str, Entry]:
    with REGISTRY.open("rb") as file:
        tables = tomllib.load(file)
    registry = {}
    for name, table in tables.items():
        try:
            files = tuple(RemoteFile(**fields) for fields in table.pop("files"))
            entry = Entry(name=name, languages=tuple(table.pop("languages")), files=files, **table)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{REGISTRY}: entry {name!r}: missing or unknown field: {error}") from error
        if entry.loader not in LOADERS:
            raise ValueError(_unknown("loader", entry.loader, LOADERS, f"{REGISTRY}: entry {name!r}:"))
        registry[name] = entry
    return registry


def _folder(variable: str) -> Path | None:
    """The folder named by an environment variable, or None if it is unset or empty."""
    value = os.environ.get(variable)
    return PROJECT / Path(value).expanduser() if value else None


def _fetch(entry: Entry) -> list[Path]:
    """Bring the files of a corpus into the cache, verified; return where they lie."""
    import pooch  # only here, with requests: importing this module stays cheap

    cache = _folder("COURSE_DATA_CACHE") or pooch.os_cache("transformer-course")
    mirror = _folder("COURSE_DATA_MIRROR")
    missing = sum(file.bytes for file in entry.files if not (cache / file.path).exists())
    if missing and not mirror:
        message = f"{entry.name}: downloading {_megabytes(missing)} into {cache}. Licence: {entry.licence}"
        print(message, file=sys.stderr)
    return [_fetch_file(entry.name, file, cache, mirror) for file in entry.files]


def _fetch_file(corpus: str, file: RemoteFile, cache: Path, mirror: Path | None) -> Path:
    import pooch
    import requests

    origin = str(mirror / file.path) if mirror else file.url
    offline_cure = (
        "connect to the internet and run this again (once: the file is kept); or set COURSE_DATA_MIRROR to a folder "
        f"that holds {file.path}; or use the built-in corpus {MICROWORLD!r}, which needs no download"
    )

    def download(url: str, output: str, _: object) -> None:
        if mirror:
            shutil.copyfile(origin, output)
        else:
            # Bytes as they lie on the server: then the length it announces is the length that arrives.
            headers = {"Accept-Encoding": "identity"}
            get = pooch.HTTPDownloader(progressbar=file.bytes > 100_000, chunk_size=1 << 16, headers=headers)
            get(url, output, None)
        os.chmod(output, 0o644)  # pooch's temporary file is private; a cache may be shared

    store = pooch.create(
        path=cache,
        base_url="",
        registry={file.path: file.sha256},
        urls={file.path: file.url},
        retry_if_failed=2,
    )
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # its messages are full of paths, and would end up in notebooks
    try:
        return Path(store.fetch(file.path, downloader=download))
    except requests.RequestException as error:  # a kind of OSError, so before it
        cause, cure = f"the download failed: {error}", offline_cure
    except ValueError as error:
        cause = f"what came is not the registered file of {file.bytes:,} bytes: {error}"
        if mirror:
            cure = f"copy {file.url} into the mirror again"
        else:
            cure = f"see whether a log-in page or a proxy stands between, and try again; or {offline_cure}"
    except OSError as error:
        cause = str(error)
        if mirror and not os.access(origin, os.R_OK):
            cure = "correct or unset COURSE_DATA_MIRROR (while it is set, it is used in place of the internet)"
        else:
            size = _megabytes(file.bytes)
            cure = f"free at least {size} there, or set COURSE_DATA_CACHE to a folder that can be written"
    finally:
        logger.setLevel(level)
    kept = cache / file.path
    if kept.exists():
        cause = f"the copy in the cache is damaged or cannot be read, and no fresh one could be had: {cause}"
    raise DownloadError(
        f"corpus {corpus!r}: could not fetch {kept.name}\n"
        f"  from:  {origin}\n  into:  {kept}\n  cause: {cause}\n  cure:  {cure}"
    )


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.2f} MB"


def _unknown(what: str, name: str, known: Sequence[str] | Mapping[str, Any], where: str) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{where} has no {what} {name!r}{hint}; it has {', '.join(known)}"
