"""Training: the loss, learning-rate schedules, and the loop that every model of the course goes through.

Losses are in nats and *sums* over tokens, returned with the number of tokens: a mean over batches of unequal size would
weigh their tokens unequally.
"""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.batching import IGNORE, Batch, TokenBatches
from course_lib.checkpoints import load_checkpoint, save_checkpoint
from course_lib.models import Model, evaluating

# --- Loss ------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
    """Cross-entropy between targets and predictions, in its readable form.

    With label smoothing ε (Szegedy et al. 2016, section 7) the target distribution over V tokens is 1 − ε + ε/V at the
    right token and ε/V at every other one, the special tokens included (as in PyTorch); it sums to 1.

    Args:
        logits: ``(..., V)``.
        targets: ``(...)``, token ids; IGNORE takes no part.
        label_smoothing: ε.

    Returns:
        The sum of the loss over the valid targets, in nats, and their number. Without a valid target the sum is 0, and
        so are its gradients; a mean would be 0/0.
    """
    valid = targets != IGNORE
    chosen = logits[valid].to(torch.promote_types(logits.dtype, torch.float32))  # 16 bits are too few for a sum
    log_probabilities = chosen.log_softmax(dim=-1)  # (N, V)
    right = log_probabilities.gather(1, targets[valid][:, None])  # (N, 1)
    loss = -(1 - label_smoothing) * right.sum()
    if label_smoothing:  # without it a token of probability 0 is harmless, unless it is the right one
        loss = loss - label_smoothing * log_probabilities.mean(dim=1).sum()
    return loss, len(right)


def fused_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, int]:
    """The value and gradients of ``cross_entropy(F.linear(hidden, weight, bias), targets, label_smoothing)``, faster.

    Only valid positions are projected, and the gradients are computed along with the loss, while the logits are at
    hand: those are then overwritten, not stored. Memory is bounded whatever the number of positions. Runs in the
    precision of ``weight``, under autocast too. Cannot be differentiated twice.

    Args:
        hidden: ``(..., d_model)``.
        weight: ``(V, d_model)``, of the output layer.
        bias: ``(V,)`` or None.
        targets: ``(...)``, token ids or IGNORE.
        label_smoothing: ε, see :func:`cross_entropy`.
    """
    if weight.dtype.itemsize < 4:  # the shortcuts below would lose too many digits
        return cross_entropy(
            torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias), targets, label_smoothing
        )
    targets = targets.reshape(-1)
    hidden = hidden.reshape(-1, hidden.size(-1)).to(weight.dtype)
    valid = (targets != IGNORE).nonzero().squeeze(1)
    if len(valid) < len(targets):
        hidden, targets = hidden.index_select(0, valid), targets.index_select(0, valid)
    with_gradients = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    with torch.autocast(hidden.device.type, enabled=False):
        loss = _LinearCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing, with_gradients)
    return loss, len(targets)


class _LinearCrossEntropy(torch.autograd.Function):
    """Notation: N positions, V tokens, H hidden (N, d), W weight (V, d), Z = H Wᵀ + b, y targets, ε smoothing.

    The loss is Σ logsumexp(Z) − (1 − ε) Z[y] − ε mean(Z), its gradient G = softmax(Z) − (1 − ε) onehot(y) − ε/V for Z,
    G W for H, Gᵀ H for W and Gᵀ 1 for b. Passes over the (N, V) matrix are what is slow. With E = exp(Z − max) and s
    its row sums, softmax(Z) = E / s: the division is left to the smaller matrices E W and H, the other two terms of G
    never meet Z, and beside the multiplications only maximum, difference, exp and sum are left, in place.
    """

    MAX_LOGITS = 1 << 22  # in memory at one time: 16 MiB in float32; many more positions are done in pieces

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        epsilon: float,
        with_gradients: bool,
    ) -> Tensor:
        vocab_size = weight.size(0)
        right = 1 - epsilon
        mean_weight = weight.mean(dim=0)  # gives the mean of a row of logits without looking at them
        mean_bias = 0.0 if bias is None else bias.mean()
        loss = hidden.new_zeros(())
        if with_gradients:
            d_hidden = torch.empty_like(hidden)
            d_weight = (hidden.sum(dim=0) * (-epsilon / vocab_size)).repeat(vocab_size, 1)
            d_bias = None if bias is None else torch.full_like(bias, -epsilon / vocab_size * len(hidden))
        rows = max(1, _LinearCrossEntropy.MAX_LOGITS // vocab_size)
        for start in range(0, len(hidden), rows):
            h, y = hidden[start : start + rows], targets[start : start + rows]
            logits = h @ weight.t() if bias is None else torch.addmm(bias, h, weight.t())
            wanted = right * logits.gather(1, y[:, None]).squeeze(1)
            if epsilon:  # without smoothing a token that a bias of −∞ excludes is harmless; 0 · ∞ would not be
                wanted += epsilon * (h @ mean_weight + mean_bias)
            maximum = logits.amax(dim=1, keepdim=True)
            exp = logits.sub_(maximum).exp_()
            total = exp.sum(dim=1, keepdim=True)
            loss += ((maximum + total.log()).squeeze(1) - wanted).sum()
            if with_gradients:
                d_hidden[start : start + rows] = (exp @ weight).div_(total)
                d_weight.addmm_(exp.t(), h / total)
                if d_bias is not None:
                    d_bias.addmv_(exp.t(), 1 / total.squeeze(1))
        if with_gradients:
            d_hidden.sub_(epsilon * mean_weight).sub_(weight.index_select(0, targets), alpha=right)
            d_weight.index_add_(0, targets, hidden, alpha=-right)
            if d_bias is not None:
                d_bias.index_add_(0, targets, hidden.new_full((len(hidden),), -right))
            ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only with create_graph=True
            raise RuntimeError("the fused loss cannot be differentiated twice; use cross_entropy")
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return d_hidden * d_loss, d_weight * d_loss, None if d_bias is None else d_bias * d_loss, None, None, None


def evaluate(model: Model, batches: Iterable[Batch]) -> float:
    """Cross-entropy in nats per target over all ``batches``, without smoothing and dropout.

    It does not depend on how the examples are divided into batches.

    Raises:
        ValueError: if there is no valid target.
    """
    loss, n_targets = 0.0, 0
    with evaluating(model):
        for batch in batches:
            batch_loss, n = _loss(model, batch.to(model.head.weight.device))
            loss, n_targets = loss + batch_loss.item(), n_targets + n
    if n_targets == 0:
        raise ValueError("batches holds no valid target: it is empty, used up, or all its targets are IGNORE")
    return loss / n_targets


def _loss(model: Model, batch: Batch, label_smoothing: float = 0.0) -> tuple[Tensor, int]:
    hidden = model.features(*batch.inputs)
    return fused_linear_cross_entropy(hidden, model.head.weight, model.head.bias, batch.targets, label_smoothing)


# --- Schedules -------------------------------------------------------------------------------------------------------
# Each gives the factor of the peak learning rate in step 0, 1, …, total_steps − 1. It is 1 when the warm-up ends, and
# positive in every step.


def warmup_linear(step: int, total_steps: int, warmup_steps: int) -> float:
    """Up in a straight line, then down in a straight line that meets zero after the last step."""
    return min((step + 1) / warmup_steps, (total_steps - step) / max(1, total_steps - warmup_steps), 1.0)


def inverse_sqrt(step: int, total_steps: int, warmup_steps: int) -> float:
    """Up in a straight line, then down as 1/√step (Vaswani et al. 2017, equation 3); needs no ``total_steps``."""
    return min((step + 1) / warmup_steps, math.sqrt(warmup_steps / (step + 1)))


def cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Up in a straight line, then down along half a cosine (Loshchilov & Hutter 2017, equation 5, one cycle)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "warmup_linear": warmup_linear,
    "inverse_sqrt": inverse_sqrt,
    "cosine": cosine,
}


# --- Configuration and records ---------------------------------------------------------------------------------------

AVERAGE_EVERY = 8  # steps between updates of the moving average


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, beside the initial weights and the data.

    Attributes:
        steps: number of updates.
        lr: peak learning rate.
        warmup: share of the steps in which the learning rate rises.
        schedule: "warmup_linear", "inverse_sqrt" or "cosine".
        betas: of AdamW (Loshchilov & Hutter 2019).
        weight_decay: of AdamW, applied to matrices but not to biases and gains.
        label_smoothing: ε of the training loss; validation is always without.
        clip: largest norm of the gradient, over all parameters together; ``math.inf`` for no limit.
        accumulate: batches per update. The gradient is that of one batch of all their tokens.
        average_decay: if given, an exponential moving average of the weights is kept, validated, and is the result:
            an average over about the last 1 / (1 − decay) steps (fewer at the start). It costs one more copy of the
            weights and, taken every eighth step, less than one per cent of the time.
        validate_every: steps between validations; None: only after the last step.
        patience: stop after so many validations without improvement, and return the weights of the best one.
        autocast: "bfloat16" computes the hidden states in mixed precision; only sensible on hardware made for it.
        device: "cpu", "cuda", "mps", or "auto", see :func:`pick_device`.
        seed: of the dropout.
        checkpoint_path: where the state is saved, at the start, every ``checkpoint_every`` steps, at the end, and when
            interrupted; None: nowhere.
        checkpoint_every: steps between checkpoints.
    """

    steps: int
    lr: float = 2e-3
    warmup: float = 0.06
    schedule: str = "warmup_linear"
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    average_decay: float | None = None
    validate_every: int | None = None
    patience: int | None = None
    autocast: Literal["bfloat16"] | None = None
    device: str = "cpu"
    seed: int = 0
    checkpoint_path: str | os.PathLike[str] | None = None
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "validate_every", "patience", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "label_smoothing", "average_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        for name in ("steps", "validate_every"):
            value = getattr(self, name)
            if self.average_decay is not None and value is not None and value < AVERAGE_EVERY:
                raise ValueError(
                    f"{name} must be at least {AVERAGE_EVERY} with average_decay, got {value}: before that step the "
                    "average is still the initial weights; set average_decay to None for so short a run"
                )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.autocast not in (None, "bfloat16"):
            raise ValueError(f'autocast must be None or "bfloat16", got {self.autocast!r}')

    def lr_at(self, step: int) -> float:
        """The learning rate in step 0, 1, …"""
        return self.lr * SCHEDULES[self.schedule](step, self.steps, max(1, round(self.warmup * self.steps)))


class Step(NamedTuple):
    """One update.

    Attributes:
        step: 1 for the first.
        loss: training loss in nats per token, label smoothing and dropout included.
        lr: learning rate.
        grad_norm: norm of the gradient before clipping.
        tokens: number of targets.
        cpu_seconds: CPU time of this process since training began, over all threads; validation included, and pauses
            between an interruption and a resumption excluded.
        wall_seconds: the same by the clock on the wall.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens: int
    cpu_seconds: float
    wall_seconds: float


class Validation(NamedTuple):
    """Cross-entropy on the validation set after ``step`` updates, in nats per token."""

    step: int
    loss: float


@dataclass
class History:
    """What happened in a training run, to plot."""

    steps: list[Step] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)

    def best(self) -> Validation | None:
        """The validation of lowest loss, the first if there are several; None without validations."""
        return min(self.validations, key=lambda validation: validation.loss, default=None)


def pick_device(name: str) -> torch.device:
    """A device by name. "auto" is a CUDA device if there is one, otherwise the CPU.

    Apple's "mps" is only taken when named: its results differ from those of the other two by more than rounding in some
    versions.

    Raises:
        ValueError: if the device does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be "cpu", "cuda", "mps" or "auto", got {name!r}') from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if available["cuda"] and device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} does not exist: this machine has {torch.cuda.device_count()} CUDA device(s)")
    if not available.get(device.type, False):
        raise ValueError(f'device {name!r} is not available on this machine; use "cpu", or "auto"')
    return device


# --- The loop --------------------------------------------------------------------------------------------------------


class Trainer:
    """Trains a model.

    The result is a function of the initial weights, the data and the configuration alone: the dropout has its own
    stream of random numbers, seeded by ``config.seed``, and the caller's stream is left as it was. A run that was
    interrupted, even by ``kill -9``, and resumed from its checkpoint ends with the same weights to the bit as one that
    was not (on the same machine and number of threads; on a GPU but for sums whose order is not fixed).

    Args:
        model: a model of the course, or any module with its ``features`` and ``head``. Moved to ``config.device``.
        train: the batches to learn from.
        config: see :class:`TrainConfig`.
        valid: batches to validate on, iterated over as a whole each time.
        on_step: called after each update. It must not draw from PyTorch's global generator.
        progress: show a progress bar, which disappears at the end. The environment variable TQDM_DISABLE=1 turns all
            of them off: set it where outputs are stored and compared.

    Attributes:
        history: the records so far.
        step: the number of updates so far.
    """

    def __init__(
        self,
        model: Model,
        train: TokenBatches,
        config: TrainConfig,
        valid: Iterable[Batch] | None = None,
        on_step: Callable[[Step], None] | None = None,
        progress: bool = True,
    ) -> None:
        if config.patience is not None and valid is None:
            raise ValueError("patience needs batches to validate on; give valid, or set patience to None")
        if isinstance(model, Model):
            _check_ids(train, model.config.vocab_size)
        self.device = pick_device(config.device)
        self.model = model.to(self.device)
        self.train = train
        self.config = config
        self.valid = valid
        self.on_step = on_step
        self.progress = progress
        self.history = History()
        self.step = 0
        self._parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self._parameters if p.dim() > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in self._parameters if p.dim() <= 1], "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=config.betas,
            fused=True,
        )
        self._average = _copies(self._parameters) if config.average_decay is not None else None
        self._best: list[Tensor] | None = None  # with patience: the weights of the best validation
        self._random = {  # states of the generators
            device.type: torch.Generator(device).manual_seed(config.seed).get_state()
            for device in (torch.device("cpu"), self.device)
        }
        self._seconds = (0.0, 0.0)  # CPU and wall time of earlier calls of run
        self._started = (0.0, 0.0)  # when run began, had it not been interrupted in between
        self._interrupted = False
        self._has_saved = False

    def run(self, resume: bool = False) -> History:
        """Train to the end; afterwards the model holds the resulting weights and is in evaluation mode.

        Ctrl-C (or the stop button of a notebook) lets the step or validation under way finish, saves a checkpoint and
        raises KeyboardInterrupt; calling ``run`` again goes on. A second Ctrl-C stops at once: the last checkpoint
        is still whole.

        Args:
            resume: go on from the checkpoint at ``config.checkpoint_path``, if there is one.

        Raises:
            FileExistsError: if there is a checkpoint which neither was written by this trainer nor is to be resumed.
            CheckpointError: if it belongs to another model, configuration or data.
            FloatingPointError: if the loss or the gradient is not finite. The weights are those before that step, and
                the last checkpoint stays.
        """
        path = self.config.checkpoint_path
        if path is not None and self.step == 0 and not self._has_saved and Path(path).exists():
            if not resume:
                raise FileExistsError(
                    f"{path}: there is a checkpoint; use run(resume=True), delete it, or choose another"
                )
            self._load(path)
        with self._session() as bar:
            if self.step == 0:
                self._save()  # at once, to find out now that there is no such folder or no room
            while not self._is_done():
                record = self._update()
                bar.set_postfix_str(f"loss {record.loss:.2f}", refresh=False)
                bar.update()
                if self.on_step is not None:
                    self.on_step(record)
                last = self.step == self.config.steps
                if self.valid is not None and (last or self.step % (self.config.validate_every or math.inf) == 0):
                    self._validate(self.valid)
                if self._interrupted or self._is_done() or self.step % self.config.checkpoint_every == 0:
                    self._save()
                if self._interrupted:
                    raise KeyboardInterrupt(f"training stopped after step {self.step}")
            bar.total = bar.n  # so that early stopping does not look like a failure
        result = self._result()
        if result is not None:
            _copy(result, self._parameters)
        return self.history

    def _is_done(self) -> bool:
        best, validations = self.history.best(), self.history.validations
        if self.step == self.config.steps:
            return True
        if self.config.patience is None or best is None:
            return False
        return len(validations) - 1 - validations.index(best) >= self.config.patience

    def _update(self) -> Step:
        lr = self.config.lr_at(self.step)
        batches = [self.train.next_batch().to(self.device) for _ in range(self.config.accumulate)]
        tokens = sum(batch.n_targets for batch in batches)
        total = 0.0
        for batch in batches:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast is not None):
                loss, _ = _loss(self.model, batch, self.config.label_smoothing)
            (loss / tokens).backward()  # by the tokens of all batches: the sum is the gradient of one large batch
            total += loss.item()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        grad_norm = norm.item()
        if not (math.isfinite(total) and math.isfinite(grad_norm)):
            raise FloatingPointError(
                f"step {self.step + 1}: loss {total / tokens}, gradient norm {grad_norm}, at learning rate {lr:.3g}. "
                "Lower lr or lengthen warmup. The model keeps the weights of the step before, and a checkpoint on the "
                "disk is untouched"
            )
        if grad_norm > self.config.clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self._average is not None and self.config.average_decay is not None and self.step % AVERAGE_EVERY == 0:
            # At the start a shorter memory: the initial weights must not linger.
            decay = min(self.config.average_decay, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._parameters, 1 - decay**AVERAGE_EVERY)
        record = Step(self.step, total / tokens, lr, grad_norm, tokens, *self._clock())
        self.history.steps.append(record)
        return record

    def _validate(self, valid: Iterable[Batch]) -> None:
        with _swapped(self._parameters, self._average):
            self.history.validations.append(Validation(self.step, evaluate(self.model, valid)))
            if self.config.patience is not None and self.history.best() is self.history.validations[-1]:
                self._best = _copies(self._parameters)

    def _result(self) -> list[Tensor] | None:
        """The weights to use, if they are not those in training."""
        return self._best if self._best is not None else self._average

    def _save(self) -> None:
        if self.config.checkpoint_path is None:
            return
        state = {
            "config": self._identity(),
            "data": self.train.identity,
            "position": self.train.state_dict(),
            "step": self.step,
            "parameters": [p.data for p in self._parameters],
            "average": self._average,
            "best": self._best,
            "random": _random_state(self.device),
            "seconds": self._clock(),
            "steps": torch.tensor(self.history.steps, dtype=torch.float64),
            "validations": torch.tensor(self.history.validations, dtype=torch.float64),
        }
        # The model in the file is the one to use; the weights in training are beside it.
        with _swapped(self._parameters, self._result()):
            save_checkpoint(self.config.checkpoint_path, self.model, self.optimizer, state)
        self._has_saved = True

    def _load(self, path: str | os.PathLike[str]) -> None:
        expected = {"config": self._identity(), "data": self.train.identity}
        state = load_checkpoint(path, self.model, self.optimizer, expected)
        _copy(state["parameters"], self._parameters)
        self._average, self._best = (
            None if tensors is None else [tensor.to(self.device) for tensor in tensors]
            for tensors in (state["average"], state["best"])
        )
        self.train.load_state_dict(state["position"])
        self.step = state["step"]
        self._random = state["random"]
        self._seconds = state["seconds"]
        for step, loss, lr, grad_norm, tokens, cpu, wall in state["steps"].tolist():
            self.history.steps.append(Step(int(step), loss, lr, grad_norm, int(tokens), cpu, wall))
        self.history.validations = [Validation(int(step), loss) for step, loss in state["validations"].tolist()]

    def _identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one it continues."""
        config = asdict(self.config) | {"device": self.device.type}  # what "auto" means differs between machines
        del config["checkpoint_path"], config["checkpoint_every"]
        return config

    def _clock(self) -> tuple[float, float]:
        """CPU and wall-clock seconds of training."""
        return time.process_time() - self._started[0], time.perf_counter() - self._started[1]

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        """All that must be set up for training and put back afterwards, whatever happens. Yields the progress bar."""
        self._started = time.process_time() - self._seconds[0], time.perf_counter() - self._seconds[1]
        self._interrupted = False
        callers_random = _random_state(self.device)
        callers_handler = signal.getsignal(signal.SIGINT)
        handles_signals = threading.current_thread() is threading.main_thread()

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, callers_handler)  # a second Ctrl-C does what it did before
            bar.set_description_str("stopping after this step")

        disable = not self.progress or os.environ.get("TQDM_DISABLE", "0") != "0"
        bar = tqdm(total=self.config.steps, initial=self.step, desc="training", leave=False, disable=disable)
        try:
            _set_random_state(self._random, self.device)
            self.optimizer.zero_grad()  # of gradients from before
            if handles_signals:
                signal.signal(signal.SIGINT, interrupt)
            self.model.train()
            yield bar
        finally:
            if handles_signals:
                signal.signal(signal.SIGINT, callers_handler)
            self.model.eval()
            self._seconds = self._clock()
            self._random = _random_state(self.device)
            _set_random_state(callers_random, self.device)
            bar.close()


def _check_ids(batches: TokenBatches, vocab_size: int) -> None:
    """On a GPU an id too large would end the whole process, by a message that names nothing."""
    for i, example in enumerate(batches.examples):
        for tokens in example if isinstance(example, tuple) else (example,):
            if max(tokens) >= vocab_size or min(tokens) < 0:
                raise ValueError(
                    f"example {i} holds the id {max(tokens) if min(tokens) >= 0 else min(tokens)}, but the model has "
                    f"{vocab_size} tokens; encode with the tokeniser that the model was built for"
                )


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@torch.no_grad()
def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for new, old in zip(source, target, strict=True):
        old.copy_(new)


@contextlib.contextmanager
def _swapped(parameters: Sequence[Tensor], tensors: Sequence[Tensor] | None) -> Iterator[None]:
    """Let the parameters be ``tensors`` for a while, without copying; None leaves them alone."""
    originals = [p.data for p in parameters]
    try:
        for p, tensor in zip(parameters, tensors or originals, strict=True):
            p.data = tensor
        yield
    finally:
        for p, original in zip(parameters, originals, strict=True):
            p.data = original


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that dropout draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"])
