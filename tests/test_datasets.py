"""Corpora: what arrives is what was registered or nothing; what is read is aligned; what is split does not leak."""

import errno
import gzip
import hashlib
import io
import json
import os
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import datasets
from course_lib.datasets import (
    DownloadError,
    leak_free_split,
    load,
    load_parallel,
    read_lines,
    read_text,
    sentence_key,
)

URL = "https://example.org/owner/repo/c0ffee/data/play%20one.txt"
PATH = "owner/repo/c0ffee/data/play one.txt"  # the layout of a mirror, and of the cache
PLAY = "\n\n".join(f"SPEAKER {i}:\nSpeech number {i}." for i in range(101)).encode()
SPEECHES = PLAY.decode().split("\n\n")

MIRROR = datasets.PROJECT / os.environ.get("COURSE_DATA_MIRROR", "../shared/mirror")
needs_mirror = pytest.mark.skipif(
    not MIRROR.is_dir(), reason=f"no copy of the public corpora at {MIRROR}; set COURSE_DATA_MIRROR to one"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has an empty cache, no mirror and no patience; the network is cut off for all tests."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits between attempts
    monkeypatch.delenv("COURSE_DATA_MIRROR", raising=False)
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry with one corpus of one file; returns its name."""
    registry = tmp_path / "registry.toml"
    registry.write_text(
        f"""
        [play]
        loader = "paragraphs"
        languages = ["en"]
        licence = "free for tests"
        citation = "none"
        note = ""
        [[play.files]]
        url = "{URL}"
        bytes = {len(PLAY)}
        sha256 = "{hashlib.sha256(PLAY).hexdigest()}"
        """,
        encoding="utf-8",
    )
    monkeypatch.setattr(datasets, "REGISTRY", registry)
    return "play"


class CutOff(io.BytesIO):
    """A response whose connection breaks after its first part."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size) or self._break()

    def _break(self) -> NoReturn:
        raise requests.exceptions.ChunkedEncodingError("connection broken: IncompleteRead")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """serve(body, status) makes every request receive that answer; returns the list of URLs asked for."""

    def answer_with(body: bytes | io.BytesIO, status: int = 200) -> list[str]:
        asked: list[str] = []

        def get(url: str, **kwargs: Any) -> requests.Response:
            asked.append(url)
            response = requests.Response()
            response.status_code, response.url = status, url
            response.raw = io.BytesIO(body) if isinstance(body, bytes) else body
            return response

        monkeypatch.setattr(requests, "get", get)
        return asked

    return answer_with


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def texts_of(corpus: datasets.Corpus) -> list[str]:
    return [text for split in corpus.splits for text in corpus.texts(split, "en")]


# Fetching ------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once_and_kept(
    play: str, serve: Callable[..., list[str]], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = serve(PLAY)
    assert texts_of(load(play)) == SPEECHES
    assert files_in(cache) == [cache / PATH]
    notice = capsys.readouterr()
    assert "free for tests" in notice.err and str(cache) in notice.err and notice.err.count("\n") == 1
    assert texts_of(load(play)) == SPEECHES
    assert asked == [URL]
    # A second load has nothing to say: the outputs of a notebook stay the same.
    assert capsys.readouterr() == ("", "")


def test_a_filled_cache_serves_as_a_mirror(
    play: str,
    serve: Callable[..., list[str]],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = serve(PLAY)
    load(play)
    capsys.readouterr()
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(cache))
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "second"))
    assert texts_of(load(play)) == SPEECHES
    assert files_in(tmp_path / "second") == [tmp_path / "second" / PATH]
    assert asked == [URL]
    assert capsys.readouterr() == ("", "")


def test_relative_folders_count_from_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A notebook's kernel starts in notebooks/, a script in the project folder: both must mean the same mirror.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA_MIRROR", "../shared/mirror")
    assert datasets._folder("COURSE_DATA_MIRROR") == datasets.PROJECT / "../shared/mirror"
    monkeypatch.setenv("COURSE_DATA_MIRROR", "")
    assert datasets._folder("COURSE_DATA_MIRROR") is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_a_shared_cache_can_be_read_by_others(play: str, serve: Callable[..., list[str]], cache: Path) -> None:
    serve(PLAY)
    load(play)
    assert (cache / PATH).stat().st_mode & 0o444 == 0o444


# fault 9: the host is dead.
def test_without_network_the_error_says_what_to_do(play: str, cache: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        load(play)
    message = str(caught.value)
    for part in ("'play'", "play one.txt", URL, str(cache / PATH), "COURSE_DATA_MIRROR", datasets.MICROWORLD):
        assert part in message
    assert files_in(cache) == []


# fault 10: the page is gone. fault 11: a log-in or error page arrives in its place. A download cut short, silently
# or not, is the same kind: what is not the registered file is refused, and no trace of it stays.
@pytest.mark.parametrize(
    ("body", "status", "cause"),
    [
        (b"<html>404: Not Found</html>", 404, "404"),
        (b"<html><body>Please log in to the network</body></html>", 200, "not the registered file"),
        (PLAY[:-7], 200, "not the registered file"),
        (b"", 200, "not the registered file"),
        (CutOff(PLAY[:-7]), 200, "IncompleteRead"),
    ],
    ids=["gone", "html", "truncated", "empty", "cut off"],
)
def test_anything_but_the_registered_file_is_refused(
    play: str,
    serve: Callable[..., list[str]],
    cache: Path,
    body: bytes | io.BytesIO,
    status: int,
    cause: str,
) -> None:
    asked = serve(body, status)
    with pytest.raises(DownloadError, match=cause) as caught:
        load(play)
    assert "play one.txt" in str(caught.value)
    assert files_in(cache) == []
    assert asked == [URL] * 3  # tried again twice: most failures of a network are short


# fault 11
def test_a_tampered_copy_in_the_cache_is_fetched_again(play: str, serve: Callable[..., list[str]], cache: Path) -> None:
    serve(PLAY)
    load(play)
    (cache / PATH).write_bytes(PLAY.replace(b"Speech number 53", b"Speech number 59"))
    asked = serve(PLAY)
    assert texts_of(load(play)) == SPEECHES
    assert asked == [URL]
    assert (cache / PATH).read_bytes() == PLAY


# fault 11
def test_a_tampered_copy_is_never_used_offline(play: str, cache: Path) -> None:
    (cache / PATH).parent.mkdir(parents=True)
    (cache / PATH).write_bytes(PLAY + b"!")
    with pytest.raises(DownloadError, match="copy in the cache is damaged") as caught:
        load(play)
    assert str(cache / PATH) in str(caught.value)


def test_a_mirror_is_used_in_place_of_the_network(
    play: str, serve: Callable[..., list[str]], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(PLAY)
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(tmp_path / "mirror"))
    original = tmp_path / "mirror" / PATH
    with pytest.raises(DownloadError, match="COURSE_DATA_MIRROR") as caught:
        load(play)  # it lacks the file
    assert str(original) in str(caught.value)
    original.parent.mkdir(parents=True)
    original.write_bytes(PLAY[7:])
    with pytest.raises(DownloadError, match="into the mirror again"):
        load(play)
    assert files_in(cache) == [] and asked == []


def test_a_full_disk_leaves_nothing_behind(play: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(self: Any, url: str, output: str, _: object) -> NoReturn:
        Path(output).write_bytes(PLAY[:97])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), output)

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", fill)
    with pytest.raises(DownloadError, match="COURSE_DATA_CACHE") as caught:
        load(play)
    assert os.strerror(errno.ENOSPC) in str(caught.value)
    assert files_in(cache) == []


def test_a_stopped_download_leaves_nothing_behind(play: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Any, url: str, output: str, _: object) -> NoReturn:
        Path(output).write_bytes(PLAY[:97])
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        load(play)
    assert files_in(cache) == []


def test_a_cache_that_cannot_be_written_is_named(
    play: str, serve: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(PLAY)
    (tmp_path / "a file").write_text("not a folder")
    monkeypatch.setenv("COURSE_DATA_CACHE", str(tmp_path / "a file"))
    with pytest.raises(DownloadError, match="COURSE_DATA_CACHE") as caught:
        load(play)
    assert str(tmp_path / "a file") in str(caught.value)


# Names ---------------------------------------------------------------------------------------------------


def test_unknown_names_are_answered_with_the_known_ones(play: str, serve: Callable[..., list[str]]) -> None:
    serve(PLAY)
    with pytest.raises(ValueError, match=r"no corpus 'plya' \(did you mean 'play'\?\); it has microworld/par.*, play$"):
        load("plya")
    corpus = load(play)
    with pytest.raises(ValueError, match=r"no split 'tran' \(did you mean 'train'\?\); it has train, valid, test"):
        corpus.texts("tran", "en")
    with pytest.raises(ValueError, match="no language 'zh'; it has en"):
        corpus.texts("train", "zh")
    with pytest.raises(ValueError, match="no column 'attribution'; it has en"):
        corpus.column("train", "attribution")
    with pytest.raises(ValueError, match="not parallel"):
        corpus.pairs("train", "en", "en")
    with pytest.raises(ValueError, match="no column 'draw'"):
        corpus.draws("train")
    with pytest.raises(TypeError, match="takes no options, got seed"):
        load(play, seed=3)


def test_what_is_returned_is_the_readers_own(play: str, serve: Callable[..., list[str]]) -> None:
    serve(PLAY)
    corpus = load(play)
    texts = corpus.texts("train", "en")
    texts.clear()
    assert corpus.texts("train", "en")[0] == SPEECHES[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence", "license", "'play'.*license"),
        ("[[play.files]]", "[[play.fields]]", "'play'.*files"),
        ('"paragraphs"', '"paragraph"', "'play'.*no loader 'paragraph'.*did you mean 'paragraphs'"),
        ('"paragraphs"', '"aligned_lines"', "'play'.*play one.txt needs a split and a language"),
    ],
)
def test_a_wrong_registry_entry_is_named(
    play: str, serve: Callable[..., list[str]], old: str, new: str, message: str
) -> None:
    serve(PLAY)
    registry = datasets.REGISTRY
    registry.write_text(registry.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        load(play)


# The micro-world -----------------------------------------------------------------------------------------


def test_the_micro_world_is_a_corpus_like_any_other() -> None:
    corpus = load("microworld/parallel", train=53, valid=11, test=7, composition=13)
    drawn = ("train", "valid", "test", "test_composition")
    assert corpus.splits == (*drawn, "test_natural")
    assert [len(corpus.texts(split, "zh")) for split in drawn] == [53, 11, 7, 13]
    for split in drawn:
        said = [(draw.zh_text, draw.en_text) for draw in corpus.draws(split)]
        assert corpus.pairs(split, "zh", "en") == said
    assert len(corpus.texts("test_natural", "en")) >= 300
    with pytest.raises(ValueError, match=r"test_natural.*no column 'draw'"):
        corpus.draws("test_natural")  # hand-written


# Reading text --------------------------------------------------------------------------------------------


def write(path: Path, data: str | bytes) -> Path:
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_are_cut_at_line_ends_only(tmp_path: Path, name: str) -> None:
    # A form feed, U+2028 or U+0085 inside a sentence would shift every later line of a parallel text.
    path = write(tmp_path / name, "\ufeffone\x0ctwo\r\n  three\u2028four \nfive\x85six")
    assert read_lines(path) == ["one\x0ctwo", "three\u2028four", "five\x85six"]


def test_text_is_nfc(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Cafe\u0301\n")
    assert read_lines(path) == ["Caf\u00e9"]


def test_line_ends_of_every_system_are_read_alike(tmp_path: Path) -> None:
    # Otherwise running text from Windows would have no blank line, "\n\n", between its paragraphs.
    assert read_text(write(tmp_path / "a.txt", "one\r\n\r\ntwo\r\n")) == "one\n\ntwo\n"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_other_encodings_are_refused_with_the_place(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "\ufeffeins\nzwei\n".encode() + "fünf\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt.*0xfc at offset 14 \(line 3\)"):
        read_lines(path)


@pytest.mark.parametrize("data", ["", "\n", " \r\n\n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, data: str) -> None:
    with pytest.raises(ValueError, match=r"a\.txt: the file is empty"):
        read_text(write(tmp_path / "a.txt", data))


@pytest.mark.parametrize(
    "data",
    [gzip.compress(PLAY)[:-11], b"not gzip at all", gzip.compress(PLAY)[:19] + b"x" * 23],
    ids=["truncated", "not gzip", "tampered"],  # the bytes hold the time and would differ between test processes
)
def test_a_damaged_archive_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.txt\.gz: damaged"):
        read_text(path)


# Parallel text of one's own ------------------------------------------------------------------------------


def test_two_files_make_a_corpus(tmp_path: Path) -> None:
    de = write(tmp_path / "a.de", "eins\nzwei\ndrei\n")
    en = write(tmp_path / "a.en.gz", "one\r\ntwo\r\nthree")
    corpus = load_parallel(de, en, "de", "en", split="train")
    assert corpus.splits == ("train",) and corpus.languages == ("de", "en")
    assert corpus.pairs("train", "en", "de") == [("one", "eins"), ("two", "zwei"), ("three", "drei")]


def test_own_text_is_divided_without_leaks(tmp_path: Path) -> None:
    en = write(tmp_path / "a.en", "".join(f"sentence {i}\n" for i in range(61)))
    de = write(tmp_path / "a.de", "".join(f"Satz {i}\n" for i in range(61)))
    corpus = load_parallel(en, de, "en", "de")
    assert {split: len(corpus.texts(split, "de")) for split in corpus.splits} == {"train": 55, "valid": 3, "test": 3}
    pairs = [pair for split in corpus.splits for pair in corpus.pairs(split, "en", "de")]
    assert sorted(pairs) == sorted((f"sentence {i}", f"Satz {i}") for i in range(61))


@pytest.mark.parametrize(
    ("de", "en", "message"),
    [
        ("eins\nzwei\ndrei\n", "one\ntwo\n", r"a\.de has 3, .*a\.en has 2"),
        ("eins\n\ndrei\n", "one\ntwo\nthree\n", r"a\.de: line 2 is empty"),
        ("eins\n", "\n", r"a\.en: the file is empty"),
        ("eins\nzwei", b"one\n\xff\xfe", r"a\.en: not UTF-8"),
        ("eins\nzwei", "one\ntwo", "2 rows .* cannot be divided"),
        ("ja\n" * 43, "yes\n" * 43, "1 groups .* cannot be divided"),
    ],
)
def test_faulty_parallel_text_is_refused(tmp_path: Path, de: str, en: str | bytes, message: str) -> None:
    paths = write(tmp_path / "a.de", de), write(tmp_path / "a.en", en)
    with pytest.raises(ValueError, match=message):
        load_parallel(*paths, "de", "en")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.de"):
        load_parallel(tmp_path / "none.de", tmp_path / "none.en", "de", "en")
    with pytest.raises(ValueError, match="both 'de'"):
        load_parallel(tmp_path / "none.de", tmp_path / "none.en", "de", "de")


# Splits --------------------------------------------------------------------------------------------------


def keys(texts: list[str]) -> set[str]:
    return {sentence_key(text) for text in texts}


def shared(corpus: datasets.Corpus, language: str) -> set[str]:
    """Sentences that stand in more than one split."""
    train, valid, test = (keys(corpus.texts(split, language)) for split in ("train", "valid", "test"))
    return train & valid | train & test | valid & test


def test_the_key_ignores_case_punctuation_and_width() -> None:
    assert sentence_key("How much is it?") == sentence_key("how much\u3000is it！")
    assert sentence_key("ＡＢＣ 多少钱？") == sentence_key("abc 多少钱")
    assert sentence_key("多少钱？") != sentence_key("多少？")


# Few words, so that sentences repeat on both sides and groups grow through chains of rows; a second, distinct
# number per row on some of them, so that there is something to divide.
ROWS = st.lists(
    st.tuples(st.integers(0, 5) | st.integers(100, 10**6), st.integers(0, 5) | st.integers(100, 10**6)),
    min_size=41,
    max_size=83,
)


@settings(max_examples=15, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_no_sentence_is_in_two_splits_whatever_the_order(rows: list[tuple[int, int]], shuffler: random.Random) -> None:
    rows += [(10**7 + i, 10**7 + i) for i in range(41)]  # enough single rows to fill test and valid

    def divide(rows: list[tuple[int, int]]) -> dict[str, list[tuple[int, int]]]:
        split = leak_free_split([f"en {a}" for a, _ in rows], [f"zh {b}" for _, b in rows])
        assert sorted(row for part in split.values() for row in part) == list(range(len(rows)))
        return {name: [rows[i] for i in part] for name, part in split.items()}

    split = divide(rows)
    for side in (0, 1):
        sides = [{row[side] for row in part} for part in split.values()]
        assert len(set.union(*sides)) == sum(map(len, sides))
    assert len(split["test"]) == len(split["valid"]) == len(rows) // 20
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    assert {name: sorted(part) for name, part in divide(shuffled).items()} == {
        name: sorted(part) for name, part in split.items()
    }


def test_the_split_is_the_same_on_every_machine() -> None:
    # Where no sentence repeats, rows come in the order of their SHA-256. (Python's own hash changes with each start.)
    sentences = [f"sentence {i}" for i in range(61)]
    order = sorted(range(61), key=lambda i: hashlib.sha256(sentences[i].encode()).digest())
    split = leak_free_split(sentences, [f"Satz {i}" for i in range(61)])
    assert split == {"train": order[6:], "valid": order[3:6], "test": order[:3]}


def test_held_out_parts_are_capped() -> None:
    split = leak_free_split([str(i) for i in range(997)], at_most=13)
    assert {name: len(rows) for name, rows in split.items()} == {"train": 971, "valid": 13, "test": 13}


def test_running_text_is_cut_between_speeches(play: str, serve: Callable[..., list[str]]) -> None:
    serve(PLAY)
    corpus = load(play)
    parts = ["\n\n".join(corpus.texts(split, "en")) for split in ("train", "valid", "test")]
    assert "\n\n".join(parts) == PLAY.decode()
    for part, share in zip(parts, (0.90, 0.05, 0.05), strict=True):
        assert len(part) / len(PLAY) == pytest.approx(share, abs=0.02)  # a speech is 1 % of this text


# Other formats -------------------------------------------------------------------------------------------


def entry(loader: str, language: str) -> datasets.Entry:
    return datasets.Entry("own", loader, (language,), "none", "none", "", ())


def poem(*lines: str, **fields: str) -> dict[str, Any]:
    return {"paragraphs": list(lines), "author": "無名氏", "title": "無題"} | fields


def test_poems_that_share_a_line_stay_together(tmp_path: Path) -> None:
    # The same poem in two spellings: two of its four lines differ.
    poems = [poem(*(f"第{i}首，第{k}句。" for k in range(4))) for i in range(59)]
    poems += [poem("另作。", *old["paragraphs"][1:3], "異文。") for old in poems[:17]]
    (tmp_path / "詩").mkdir()
    path = write(tmp_path / "詩" / "a.json", json.dumps(poems, ensure_ascii=False))
    columns = datasets._poems(entry("poems", "zh"), [path])
    where = {line: split for split, texts in columns.items() for text in texts["zh"] for line in text.split("\n")[2:3]}
    for split, texts in columns.items():
        assert {where[text.split("\n")[2]] for text in texts["zh"]} == {split}
        assert set(texts["collection"]) == {"詩"}
    assert sum(len(texts["zh"]) for texts in columns.values()) == len(poems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"paragraphs": ["一。"],\n "author": "甲" "title": "乙"}]', r"a\.json: line 2, column 16: not JSON"),
        (
            json.dumps([poem("一。"), {"paragraphs": ["二。"], "title": "乙"}]),
            r"a\.json: poem 2 has no lines.*'author'",
        ),
        (json.dumps([{"paragraphs": ["二。"], "author": "甲"}]), r"a\.json: poem 1 .*'rhythmic'"),
        (json.dumps([poem("一。"), poem("二。", "")]), r"a\.json: poem 2, '無題', has an empty line"),
        (json.dumps([poem()]), r"a\.json: poem 1, '無題', has an empty line or none"),
    ],
)
def test_faulty_poems_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets._poems(entry("poems", "zh"), [write(tmp_path / "a.json", text)])


PAIR = '{"sentence_good": "She runs.", "sentence_bad": "She run.", "UID": "agreement"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"sentence_good": "She runs."', r"a\.jsonl: line 2, column 30: not JSON"),
        (
            '{"sentence_good": "She runs.", "UID": "x"}',
            r"a\.jsonl: line 2 has no 'sentence_bad'; it has sentence_good, U",
        ),
    ],
)
def test_faulty_pairs_are_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets._minimal_pairs(entry("minimal_pairs", "en"), [write(tmp_path / "a.jsonl", f"{PAIR}\n{line}\n")])


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(f"folder/reviews.{name}", data)
    return path


def test_labels_stay_with_their_sentences(tmp_path: Path) -> None:
    members = {name: "".join(f"{name} {i}\n" for i in range(31)).encode() for name in ("neg", "pos")}
    columns = datasets._polarity(entry("polarity", "en"), [archive(tmp_path / "a.zip", **members)])
    rows = [row for split in columns.values() for row in zip(split["en"], split["label"], strict=True)]
    assert len(rows) == 62 and all(label.startswith(text[:3]) for text, label in rows)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"neg": b"bad\n\nworse\n", "pos": b"good\n"}, r"a\.zip.*reviews\.neg: line 2 is empty"),
        ({"neg": b"bad\n", "pos": b"good\nbetter\xff\n"}, r"a\.zip.*reviews\.pos: not UTF-8: .*\(line 2\)"),
        ({"neg": b"bad\n"}, r"a\.zip: holds 0 files that end in \.pos, expected 1"),
    ],
)
def test_faulty_archives_are_named(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datasets._polarity(entry("polarity", "en"), [archive(tmp_path / "a.zip", **members)])


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", neg=b"bad\n", pos=b"good\n")
    path.write_bytes(path.read_bytes()[:-23])
    with pytest.raises(ValueError, match=r"a\.zip: damaged zip archive"):
        datasets._polarity(entry("polarity", "en"), [path])


# The registry and the real files -------------------------------------------------------------------------


def test_the_registry_is_complete() -> None:
    for name, entry in datasets._read_registry().items():
        assert entry.licence and entry.citation and entry.note and entry.languages and entry.files, name
        for file in entry.files:
            assert urlsplit(file.url).scheme == "https"
            assert len(bytes.fromhex(file.sha256)) == 32 and file.bytes > 0
            assert file.language is None or file.language in entry.languages


@needs_mirror
def test_the_registry_agrees_with_the_manifest() -> None:
    manifest = {}
    for line in (MIRROR / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        name, n_bytes, sha256, _, url = line.split("\t")
        manifest[url] = (name, int(n_bytes), sha256)
    for name, entry in datasets._read_registry().items():
        for file in entry.files:
            assert manifest[file.url] == (name, file.bytes, file.sha256)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA_MIRROR", str(MIRROR))


def counts(corpus: datasets.Corpus) -> dict[str, int]:
    return {split: len(corpus.texts(split, corpus.languages[0])) for split in corpus.splits}


@needs_mirror
@pytest.mark.usefixtures("mirror")
def test_multi30k() -> None:
    corpus = load("multi30k")
    assert counts(corpus) == {"train": 29_000, "valid": 1_014, "test_2016_flickr": 1_000}
    assert corpus.pairs("valid", "de", "en")[1] == (
        "Ein Mann schläft in einem grünen Raum auf einem Sofa.",
        "A man sleeping in a green room on a couch.",
    )
    assert "non-commercial" in str(corpus)


@needs_mirror
@pytest.mark.usefixtures("mirror")
def test_tatoeba() -> None:
    corpus = load("tatoeba-cmn")
    assert counts(corpus) == {"train": 27_155, "valid": 1_000, "test": 1_000}
    assert shared(corpus, "en") == set() and shared(corpus, "zh") == set()
    # Everybody has the same test set: scores can be compared.
    test = "\n".join(map("\t".join, corpus.pairs("test", "zh", "en")))
    assert (
        hashlib.sha256(test.encode()).hexdigest() == "9e78ae8f1757ebd20a5622140766eb7331e0c31a2a993b3ae369b5951c4e2150"
    )
    # The licence asks for the names of the authors: they stay with their pair.
    (raw,) = (MIRROR / file.path for file in datasets._read_registry()["tatoeba-cmn"].files)
    rows = set(raw.read_text(encoding="utf-8").splitlines())
    for split in corpus.splits:
        columns = (corpus.column(split, name) for name in ("en", "zh", "attribution"))
        assert rows.issuperset(map("\t".join, zip(*columns, strict=True)))


@needs_mirror
@pytest.mark.usefixtures("mirror")
def test_tinyshakespeare() -> None:
    corpus = load("tinyshakespeare")
    assert counts(corpus) == {"train": 6_283, "valid": 440, "test": 499}
    (raw,) = (MIRROR / file.path for file in datasets._read_registry()["tinyshakespeare"].files)
    assert "\n\n".join(texts_of(corpus)) + "\n" == raw.read_text(encoding="utf-8")
    assert corpus.texts("train", "en")[1] == "All:\nSpeak, speak."


@needs_mirror
@pytest.mark.usefixtures("mirror")
def test_chinese_poetry() -> None:
    corpus = load("chinese-poetry")
    assert counts(corpus) == {"train": 5_085, "valid": 282, "test": 282}
    lines = {
        split: {sentence_key(line) for text in corpus.texts(split, "zh") for line in text.split("\n")}
        for split in corpus.splits
    }
    assert lines["test"].isdisjoint(lines["train"] | lines["valid"])
    rows = {
        (author, title, text.split("\n")[0])
        for split in corpus.splits
        for author, title, text in zip(*(corpus.column(split, n) for n in ("author", "title", "zh")), strict=True)
    }
    assert ("李白", "橫吹曲辭 關山月", "明月出天山，蒼茫雲海間。") in rows
    # 国 and 國 are one character in two scripts.
    for collection, yes, no in (("全唐诗", "國", "国"), ("宋词", "国", "國")):
        texts = "".join(
            text
            for split in corpus.splits
            for text, of in zip(corpus.texts(split, "zh"), corpus.column(split, "collection"), strict=True)
            if of == collection
        )
        assert yes in texts and no not in texts


@needs_mirror
@pytest.mark.usefixtures("mirror")
def test_rt_polarity() -> None:
    corpus = load("rt-polarity")
    assert counts(corpus) == {"train": 9_596, "valid": 533, "test": 533}
    assert shared(corpus, "en") == set()
    labels = Counter(label for split in corpus.splits for label in corpus.column(split, "label"))
    assert labels == {"negative": 5_331, "positive": 5_331}
    rows = dict(zip(corpus.texts("train", "en"), corpus.column("train", "label"), strict=True))
    assert rows["people cinema at its finest ."] == "positive"
    assert rows["phoned-in business as usual ."] == "negative"


@needs_mirror
@pytest.mark.usefixtures("mirror")
def test_blimp() -> None:
    corpus = load("blimp")
    assert counts(corpus) == {"test": 8_000}
    assert set(Counter(corpus.column("test", "paradigm")).values()) == {1_000}
    good, bad = corpus.texts("test", "en"), corpus.column("test", "unacceptable")
    assert (good[0], bad[0]) == ("Katherine can't help herself.", "Katherine can't help himself.")
    assert all(a != b for a, b in zip(good, bad, strict=True))
