"""Checkpoints: a model, and what is needed to go on training it, in one safetensors file.

A safetensors file holds named tensors behind a JSON header, and nothing that could run when it is loaded (a pickle
can). The header also carries everything that is not a tensor. A file appears whole or not at all, and a checksum finds
damage, so that a checkpoint that loads is the one that was saved.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from course_lib import __version__, models
from course_lib.models import Model, ModelConfig

PathLike = str | os.PathLike[str]
AnyModel = TypeVar("AnyModel", bound=Model)

_KEY = "course_lib checkpoint"  # the entry of the header's metadata that is ours
_FORMAT = 1
_TENSOR = "tensor:"  # in the tree of plain values, the text "tensor:NAME" stands for the tensor NAME


class CheckpointError(ValueError):
    """The file is no checkpoint, is damaged, or belongs to another model."""


def save_checkpoint(
    path: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint.

    The bytes go into a temporary file in the same folder, onto the disk, and only then take the place of an older
    file: whenever the process is killed, ``path`` holds the old checkpoint or the new one. Tensors that share their
    memory, such as tied weights, are stored once.

    Args:
        path: the file to write.
        model: its class name and its ``config``, if it has one, are stored with its weights.
        optimizer: stored if given.
        state: anything else, as nested dicts (keys are text), lists, tensors, numbers, text, None.

    Raises:
        TypeError: if ``state`` holds something else.
        OSError: if the file cannot be written (no such folder, disk full); an older checkpoint is left as it was.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[tuple[object, ...], str] = {}
    content: dict[str, Any] = {"model": model.state_dict(), "state": state or {}}
    if optimizer is not None:
        groups, values = optimizer.state_dict()["param_groups"], optimizer.state_dict()["state"]
        content["optimizer"] = {"groups": groups, "values": {str(i): value for i, value in values.items()}}
    header = {
        "format": _FORMAT,
        "versions": {"course_lib": __version__, "torch": str(torch.__version__)},
        "class": type(model).__name__,
        "config": _config(model),
        "content": {name: _detach_tensors(value, name, tensors, names) for name, value in content.items()},
    }
    text = json.dumps(header)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    entry = f"{_checksum(text, tensors):08x} {text}"
    _write_whole(Path(path), save(tensors, {_KEY: entry}))


def load_checkpoint(
    path: PathLike,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    expected: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Load a checkpoint into ``model`` and ``optimizer``. Everything is checked before anything is changed.

    Args:
        path: the file.
        model: of the class and configuration of the one that was saved.
        optimizer: likewise; None if it is not needed.
        expected: parts of ``state`` that must be as they were saved, such as the configuration of the training.

    Returns:
        The ``state`` that was saved (lists where tuples were, tensors on the CPU).

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, is no checkpoint of ours, or its model differs in class,
            configuration, or the names and shapes of its tensors, or it lacks the optimizer that is asked for, or
            something is not as expected. The message names what differs.
    """
    header = _read(path)
    _compare(path, header, model)
    content = header["content"]
    for name, part in (expected or {}).items():
        _check_equal(path, f"{name} settings", content["state"].get(name, {}), json.loads(json.dumps(part)))
    if optimizer is not None:
        if "optimizer" not in content:
            raise CheckpointError(f"{path}: holds a model only, not what is needed to go on training it")
        values = {int(i): value for i, value in content["optimizer"]["values"].items()}
        try:
            optimizer.load_state_dict({"state": values, "param_groups": content["optimizer"]["groups"]})
        except ValueError as error:
            raise CheckpointError(
                f"{path}: its optimizer is of other parameters than are trained here ({error}); freeze the same ones"
            ) from error
    model.load_state_dict(content["model"])
    state: dict[str, Any] = content["state"]
    return state


def save_model(path: PathLike, model: nn.Module) -> None:
    """Write a model's weights and configuration, to use it and not to go on training it."""
    save_checkpoint(path, model)


def load_model(path: PathLike, expected: type[AnyModel] = Model) -> AnyModel:  # type: ignore[assignment]
    """Build the model that a file of :func:`save_model` or :func:`save_checkpoint` describes, ready to be used.

    Of a checkpoint written during training these are the weights to use: averaged, or the best so far, if the
    training was configured so.

    Args:
        path: the file.
        expected: the class it must be, for instance ``Seq2Seq``. The default allows every class in
            :mod:`course_lib.models`; another model is built by hand and filled by :func:`load_checkpoint`.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: as for :func:`load_checkpoint`, or if the class is unknown or not the expected one.
    """
    header = _read(path)
    model_class = getattr(models, header["class"], None)
    if not (isinstance(model_class, type) and issubclass(model_class, Model)):
        raise CheckpointError(
            f"{path}: holds a {header['class']}, which is not in course_lib.models; build it and use load_checkpoint"
        )
    if not issubclass(model_class, expected):
        raise CheckpointError(f"{path}: holds a {header['class']}, expected a {expected.__name__}")
    try:
        config = ModelConfig.from_dict(header["config"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its configuration is of another version of course_lib: {error}") from error
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, only to be replaced: leave no trace
        model = model_class(config)
    _compare(path, header, model)
    model.load_state_dict(header["content"]["model"])
    return model.eval()


def _config(model: nn.Module) -> dict[str, Any]:
    config = getattr(model, "config", None)
    return {} if config is None else dict(config.to_dict())


def _detach_tensors(value: object, name: str, tensors: dict[str, Tensor], names: dict[tuple[object, ...], str]) -> Any:
    """A copy of a tree in which texts stand for the tensors, which are collected in ``tensors``."""
    if isinstance(value, Tensor):
        memory = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        name = names.setdefault(memory, name)
        tensors[name] = value
        return _TENSOR + name
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name}: the keys of a checkpoint's dicts must be text, got {key!r}")
        return {key: _detach_tensors(part, f"{name}.{key}", tensors, names) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_detach_tensors(part, f"{name}.{i}", tensors, names) for i, part in enumerate(value)]
    if isinstance(value, str) and value.startswith(_TENSOR):
        raise TypeError(f"{name}: a text in a checkpoint must not start with {_TENSOR!r}, got {value!r}")
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{name}: a checkpoint holds tensors, numbers, text, None, lists and dicts, got {type(value)}")


def _attach_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return {key: _attach_tensors(part, tensors) for key, part in value.items()}
    if isinstance(value, list):
        return [_attach_tensors(part, tensors) for part in value]
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value.removeprefix(_TENSOR)]
    return value


def _checksum(text: str, tensors: dict[str, Tensor]) -> int:
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, checksum)
    return checksum


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two processes must not share it
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        cause = f"{error.strerror}: could not write {len(data) / 1e6:.1f} MB. A checkpoint that was there is untouched"
        raise OSError(error.errno, f"{cause}. Make room, or choose another path", str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: PathLike) -> dict[str, Any]:
    """The header of a file, its tensors put back where they belong, after all checks that need no model."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such checkpoint; check the name, or train the model first")
    try:
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_KEY)
            # Copies, so that nothing depends on the file once it is read.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}). It is truncated, damaged, or something else; take "
            "another copy, or train the model again"
        ) from error
    if entry is None:
        raise CheckpointError(f"{path}: a safetensors file, but not a checkpoint written by course_lib")
    checksum, _, text = entry.partition(" ")
    if checksum != f"{_checksum(text, tensors):08x}":
        raise CheckpointError(
            f"{path}: damaged, its checksum is not that of its content; take another copy, or train the model again"
        )
    header: dict[str, Any] = json.loads(text)
    if header["format"] != _FORMAT:
        raise CheckpointError(
            f"{path}: written in format {header['format']} by course_lib {header['versions']['course_lib']}; this "
            f"version reads format {_FORMAT}"
        )
    try:
        header["content"] = _attach_tensors(header["content"], tensors)
    except KeyError as error:
        raise CheckpointError(
            f"{path}: damaged, the tensor {error} is missing; take another copy, or train the model again"
        ) from error
    return header


def _compare(path: PathLike, header: dict[str, Any], model: nn.Module) -> None:
    if header["class"] != type(model).__name__:
        raise CheckpointError(f"{path}: holds a {header['class']}, not a {type(model).__name__}")
    _check_equal(path, "settings of the model", header["config"], json.loads(json.dumps(_config(model))))
    stored, ours = (
        {name: list(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (header["content"]["model"], model.state_dict())
    )
    _check_equal(path, "shapes of the model's tensors", stored, ours)


def _check_equal(path: PathLike, what: str, stored: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    differing = [
        f"{name} is {stored.get(name, 'missing')!r} in the file, {ours.get(name, 'missing')!r} here"
        for name in sorted(stored.keys() | ours.keys())
        if stored.get(name, "missing") != ours.get(name, "missing")
    ]
    if differing:
        raise CheckpointError(f"{path}: the {what} differ: {'; '.join(differing)}")
