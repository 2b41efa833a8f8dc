"""Checkpoints: what is saved is what is loaded, nothing is lost, and every bad file is named with its cure."""

import ast
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import course_lib
from course_lib import checkpoints
from course_lib.checkpoints import CheckpointError, load_checkpoint, load_model, save_checkpoint, save_model
from course_lib.models import CausalLM, MaskedLM, Model, ModelConfig, Seq2Seq


def config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "vocab_size": 53,
        "d_model": 14,
        "n_heads": 7,
        "n_encoder_layers": 1,
        "n_decoder_layers": 2,
        "d_ff": 11,
    }
    return ModelConfig(**(values | changes))


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(model: Model) -> torch.optim.AdamW:
    """An optimiser that has a state."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    tokens = torch.randint(5, 53, (2, 5))
    inputs = (tokens, tokens) if isinstance(model, Seq2Seq) else (tokens,)
    for _ in range(2):
        model(*inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("family", [Seq2Seq, CausalLM, MaskedLM])
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_comes_back_with_its_class_configuration_and_weights(
    family: type[Model], tied: bool, tmp_path: Path
) -> None:
    model = family(config(tie_embeddings=tied, positions="learned"))
    save_model(tmp_path / "model.safetensors", model)
    loaded = load_model(tmp_path / "model.safetensors", family)
    assert type(loaded) is family
    assert loaded.config == model.config
    assert same(tensors(loaded), tensors(model))
    assert not loaded.training
    assert loaded.head.weight.data_ptr() != model.head.weight.data_ptr()


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:  # fault 85
    sizes = {}
    for tied in (True, False):
        path = tmp_path / f"{tied}.safetensors"
        save_model(path, Seq2Seq(config(tie_embeddings=tied)))
        with safe_open(path, "pt") as file:
            sizes[tied] = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    model = load_model(tmp_path / "True.safetensors")
    assert model.head.weight is model.embedding.tokens.weight
    assert sizes[True] == sum(p.numel() for p in model.parameters())
    assert sizes[False] - sizes[True] == 53 * 14


def test_training_goes_on_to_the_bit(tmp_path: Path) -> None:
    model = Seq2Seq(config())
    optimizer = trained(model)
    save_checkpoint(tmp_path / "c", model, optimizer)
    again = Seq2Seq(config())
    other = torch.optim.AdamW(again.parameters(), lr=0.5, fused=True)
    load_checkpoint(tmp_path / "c", again, other)
    for m, o in ((model, optimizer), (again, other)):
        m.eval()
        m(torch.tensor([[7, 8, 9]]), torch.tensor([[1, 8]])).square().sum().backward()
        o.step()
    assert same(tensors(model), tensors(again))


def test_state_comes_back(tmp_path: Path) -> None:
    state = {
        "text": "你好",
        "numbers": [1, -0.1, float("inf"), True, None],
        "nested": {"rng": torch.get_rng_state(), "double": torch.tensor(1 / 3, dtype=torch.float64)},
        "strided": torch.arange(15.0).reshape(3, 5).t(),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 7),
    }
    model = CausalLM(config())
    save_checkpoint(tmp_path / "c", model, state=state)
    loaded = load_checkpoint(tmp_path / "c", model)
    assert (loaded["text"], loaded["numbers"]) == (state["text"], state["numbers"])
    for name in ("strided", "half", "empty"):
        assert torch.equal(loaded[name], state[name])
        assert loaded[name].dtype == state[name].dtype
    assert torch.equal(loaded["nested"]["rng"], state["nested"]["rng"])
    assert loaded["nested"]["double"].item() == 1 / 3


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [0, object()]}, r"state\.a\.1: .* got <class 'object'>"),
        ({"a": {5: 1}}, r"state\.a: the keys .* must be text, got 5"),
        ({"a": "tensor:b"}, r"state\.a: a text .* must not start with"),
    ],
)
def test_what_cannot_be_stored_is_named(state: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "c", CausalLM(config()), state=state)
    assert not list(tmp_path.iterdir())


def test_loading_and_saving_leave_the_generators_alone(tmp_path: Path) -> None:
    model = CausalLM(config())
    before = torch.get_rng_state()
    save_model(tmp_path / "c", model)
    load_model(tmp_path / "c")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_loaded_does_not_hang_on_the_file(tmp_path: Path) -> None:
    # safetensors maps a file into memory: without a copy, the tensors would change with the file.
    path = tmp_path / "c"
    model = CausalLM(config())
    save_checkpoint(path, model, state={"ones": torch.ones(31)})
    loaded = CausalLM(config())
    state = load_checkpoint(path, loaded)
    with open(path, "r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert state["ones"].sum() == 31
    assert same(tensors(loaded), tensors(model))


# --- Bad files -------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for load in (load_model, lambda path: load_checkpoint(path, CausalLM(config()))):
        with pytest.raises(FileNotFoundError, match=r"gone.safetensors: there is no such checkpoint; check the name"):
            load(tmp_path / "gone.safetensors")


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_model(path, CausalLM(config()))
    data = path.read_bytes()
    for length in (0, 1, 8, 9, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"c\.safetensors: not a whole safetensors file .*another copy"):
            load_model(path)


def test_one_wrong_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    model = CausalLM(config())
    save_model(path, model)
    data = bytearray(path.read_bytes())
    settings = data.index(b'\\"d_ff\\": 11')  # in the header
    for position in (len(data) - 1, len(data) - 4001, settings + 10):
        damaged = bytearray(data)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"c\.safetensors: damaged, its checksum .*another copy"):
            load_model(path)


def test_a_damaged_header_is_found_whatever_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_model(path, CausalLM(config()))
    data = bytearray(path.read_bytes())
    name, checksum = data.index(b"model.blocks"), data.index(b'"course_lib checkpoint":"') + 25
    for position in (*range(name, name + 12), *range(checksum, checksum + 9)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"c\.safetensors: "):
                load_model(path)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such checkpoint"):
        load_model(tmp_path)


def test_an_optimiser_of_other_parameters_is_refused(tmp_path: Path) -> None:
    model = CausalLM(config())
    save_checkpoint(tmp_path / "c", model, trained(model))
    fewer = torch.optim.AdamW(list(model.parameters())[1:])
    with pytest.raises(CheckpointError, match="its optimizer is of other parameters than are trained here"):
        load_checkpoint(tmp_path / "c", model, fewer)


@pytest.mark.parametrize("content", [b"<html>404</html>" * 9, b"PK\x03\x04" * 99, b"\x80\x02}q\x00."])
def test_other_files_are_told_apart(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(tmp_path / "c")


def test_a_safetensors_file_of_others_is_told_apart(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "c")
    with pytest.raises(CheckpointError, match="not a checkpoint written by course_lib"):
        load_model(tmp_path / "c")


def test_a_later_format_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_FORMAT", 2)
    save_model(tmp_path / "c", CausalLM(config()))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"written in format 2 by course_lib .* reads format 1"):
        load_model(tmp_path / "c")


def test_the_fields_that_differ_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    saved = Seq2Seq(config())
    save_checkpoint(tmp_path / "c", saved, trained(saved), {"training": {"lr": 0.1, "betas": (0.9, 0.98)}})
    for model, expected, message in (
        (Seq2Seq(config(d_ff=13, norm="post")), None, r"d_ff is 11 in the file, 13 here; norm is 'pre' in the file"),
        (CausalLM(config()), None, "holds a Seq2Seq, not a CausalLM"),
        (
            Seq2Seq(config()),
            {"training": {"lr": 0.2, "betas": (0.9, 0.98)}},
            "training settings differ: lr is 0.1 in the file, 0.2 here$",
        ),
    ):
        optimizer = torch.optim.AdamW(model.parameters())
        before = tensors(model)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "c", model, optimizer, expected)
        assert same(tensors(model), before)
        assert not optimizer.state_dict()["state"]


def test_tensors_are_matched_by_name_and_shape(tmp_path: Path) -> None:  # fault 6
    # Without a configuration to compare, what differs is found all the same, before anything is loaded.
    def build(**layers: nn.Module) -> nn.Module:
        return nn.ModuleDict(layers)

    save_model(tmp_path / "c", build(a=nn.Linear(3, 5), b=nn.Linear(5, 2)))
    target = build(b=nn.Linear(7, 2), a=nn.Linear(3, 5), c=nn.BatchNorm1d(2))  # another order, buffers
    before = tensors(target)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "c", target)
    assert "b.weight is [2, 5] in the file, [2, 7] here" in str(caught.value)
    assert "c.num_batches_tracked is 'missing' in the file" in str(caught.value)
    assert "a." not in str(caught.value).split("differ:")[1]
    assert same(tensors(target), before)
    other_order = build(b=nn.Linear(5, 2), a=nn.Linear(3, 5))
    load_checkpoint(tmp_path / "c", other_order)
    save_model(tmp_path / "d", other_order)
    with safe_open(tmp_path / "c", "pt") as c, safe_open(tmp_path / "d", "pt") as d:
        assert all(torch.equal(c.get_tensor(name), d.get_tensor(name)) for name in c.keys())  # noqa: SIM118


def test_a_model_of_another_class_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "c", CausalLM(config()))
    with pytest.raises(CheckpointError, match="holds a CausalLM, expected a Seq2Seq"):
        load_model(tmp_path / "c", Seq2Seq)
    save_model(tmp_path / "d", nn.Linear(2, 3))
    with pytest.raises(CheckpointError, match=r"holds a Linear, which is not in course_lib\.models; build it"):
        load_model(tmp_path / "d")


def test_a_model_alone_is_not_enough_to_go_on(tmp_path: Path) -> None:
    model = CausalLM(config())
    save_model(tmp_path / "c", model)
    with pytest.raises(CheckpointError, match="holds a model only"):
        load_checkpoint(tmp_path / "c", model, torch.optim.AdamW(model.parameters()))


# --- Nothing is lost -------------------------------------------------------------------------------------------------


class FullDisk:
    """A file that takes some bytes and then reports a full disk."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "wb")  # noqa: SIM115

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        self.file.write(data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    old = CausalLM(config())
    save_model(path, old)
    monkeypatch.setattr(checkpoints, "open", lambda path, mode: FullDisk(path), raising=False)
    with pytest.raises(OSError, match=r"could not write .* untouched\. Make room.*c\.safetensors") as caught:
        save_model(path, CausalLM(config()))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == [path]
    assert same(tensors(load_model(path)), tensors(old))


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interruption_while_saving_leaves_the_old_checkpoint(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "c"
    old = CausalLM(config())
    save_model(path, old)
    monkeypatch.setattr(os, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, CausalLM(config()))
    assert list(tmp_path.iterdir()) == [path]
    assert same(tensors(load_model(path)), tensors(old))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"could not write .*where"):
        save_model(tmp_path / "no" / "where" / "c", CausalLM(config()))


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The other way round, a power cut could leave the name with nothing behind it.
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (calls.append(("fsync", os.fstat(n).st_size)), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("replace", 0)), replace(a, b)))
    save_model(tmp_path / "c", CausalLM(config()))
    assert calls == [("fsync", (tmp_path / "c").stat().st_size), ("replace", 0)]


def test_nothing_in_the_course_unpickles() -> None:  # fault 7
    # A pickle runs whatever its author likes. torch.load would only be allowed with weights_only=True.
    for path in Path(course_lib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", "")]
                assert "pickle" not in modules, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}, path


def test_the_header_says_who_wrote_what(tmp_path: Path) -> None:
    save_model(tmp_path / "c", CausalLM(config()))
    with safe_open(tmp_path / "c", "pt") as file:
        header = json.loads(file.metadata()["course_lib checkpoint"].split(" ", 1)[1])
    assert header["class"] == "CausalLM"
    assert header["config"] == config().to_dict()
    assert header["versions"] == {"course_lib": course_lib.__version__, "torch": str(torch.__version__)}
