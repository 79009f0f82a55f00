# SPDX-License-Identifier: BSD-3-Clause-Clear
"""One pass over the training images, one over the test images."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from compressai.checkpoint import unwrap_model
from compressai.entropy_models import EntropyBottleneckVbr
from compressai.training.finite import check_finite
from compressai.training.in_backward import steps_in_backward
from compressai.training.levels import Level, Levels
from compressai.training.processes import Processes
from compressai.training.regularizers import add_regularizers
from compressai.training.report import AverageMeter, Reporter, format_losses
from compressai.training.sampling import RecordingBatchSampler, begin_epoch, item_noise

__all__ = ["LOG_INTERVAL", "test_epoch", "train_one_epoch"]

LOG_INTERVAL = 10
# Names in the log of what levels call models with.
_NOTED = {"s": "level", "quality": "quality"}


def train_one_epoch(
    model: nn.Module,
    criterion: nn.Module | Levels,
    train_dataloader: DataLoader,
    optimizer: optim.Optimizer,
    aux_optimizer: optim.Optimizer,
    epoch: int,
    clip_max_norm: float,
    *,
    precision: str = "fp32",
    memory_format: torch.memory_format = torch.contiguous_format,
    reporter: Reporter | None = None,
    processes: Processes | None = None,
    accumulate: int = 1,
    average: AveragedModel | None = None,
    step_in_backward: bool = False,
) -> None:
    """Train on every batch once.

    Args:
        model: model with ``aux_loss()``, wrapped or not; its output goes to ``criterion``.
        criterion: gives a dictionary with ``loss``, each entry a mean over the batch; or the levels
            of a variable-rate model, of which each batch draws one.
        train_dataloader: batches ``(N, 3, H, W)`` in [0, 1]; with several processes, one with a
            :class:`~.RecordingBatchSampler`.
        optimizer: for the network.
        aux_optimizer: for the quantiles.
        epoch: number shown.
        clip_max_norm: largest norm of the network's gradients; 0 for no limit.
        precision: ``"fp32"`` or ``"bf16"`` (the network only).
        memory_format: layout of the batches.
        reporter: what tells about it.
        processes: this process and the others, which ``model`` was wrapped for.
        accumulate: number of parts that this process goes through its part of a batch in, to save
            memory.
        average: follows the weights.
        step_in_backward: move each parameter as soon as its gradient is there, and keep no
            gradients, see :func:`~.steps_in_backward`.

    Raises:
        NonFiniteLoss: a loss or the norm of the gradients is NaN or infinite; the step is not
            taken.
        ValueError: ``step_in_backward`` with a limit of the norm of all gradients, with batches in
            parts or with several processes, which need all gradients before a step.
    """
    if step_in_backward and (
        clip_max_norm > 0 or accumulate > 1 or (processes is not None and processes.count > 1)
    ):
        raise ValueError(
            "step_in_backward must be with clip_max_norm 0, accumulate 1 and one process, got "
            f"{clip_max_norm}, {accumulate} and {1 if processes is None else processes.count}"
        )
    model.train()
    net = unwrap_model(model)
    device = next(net.parameters()).device
    reporter = reporter or Reporter()
    processes = processes or Processes(device=device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    levels = _levels(criterion)
    begin_epoch(train_dataloader, epoch)

    with reporter.bar(f"epoch {epoch}", len(train_dataloader)):
        for i, batch in enumerate(train_dataloader):
            x = batch.to(device, memory_format=memory_format, non_blocking=True)
            optimizer.zero_grad()
            aux_optimizer.zero_grad()

            level = levels.draw(epoch, i)
            weight = _weight(train_dataloader, i)
            losses: dict[str, Tensor] = {}
            start = 0
            for part in x.chunk(accumulate):
                stop = start + len(part)
                with (
                    _no_exchange(model, unless=stop == len(x)),
                    item_noise(train_dataloader, i, slice(start, stop), device),
                ):
                    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                        out = model(part, **level.arguments)
                    out["x_hat"] = out["x_hat"].float()
                    found = add_regularizers(level.losses(out, part), out, net)
                    share = weight * len(part) / len(x)
                    if step_in_backward:
                        check_finite(found["loss"], "loss", epoch, i, train_dataloader)
                    # Gradients are averaged over the processes, and have to be summed.
                    with _stepping(optimizer, step_in_backward):
                        (found["loss"] * (share * processes.count)).backward()
                _add(losses, found, share)
                start = stop
            losses = dict(zip(losses, processes.sum(list(losses.values()))))
            check_finite(losses["loss"], "loss", epoch, i, train_dataloader)
            if clip_max_norm > 0:
                norm = nn.utils.clip_grad_norm_(parameters, clip_max_norm)
                check_finite(norm, "norm of the gradients", epoch, i, train_dataloader)
            if not step_in_backward:
                optimizer.step()

            aux_loss = _aux_loss(net)
            check_finite(aux_loss, "auxiliary loss", epoch, i, train_dataloader)
            # Not of models without quantiles.
            if aux_loss.requires_grad:
                aux_loss.backward()
            aux_optimizer.step()
            if average is not None:
                average.update_parameters(net)

            if i % LOG_INTERVAL:
                reporter.advance()
                continue
            losses["aux_loss"] = aux_loss
            values = {key: float(loss.detach()) for key, loss in losses.items()}
            seen, total = i * _batch_size(train_dataloader, i, x), len(train_dataloader.dataset)
            reporter.line(
                f"Train epoch {epoch}: [{seen}/{total} ({100.0 * i / len(train_dataloader):.0f}%)]"
                f"\t{format_losses(values)}",
                bar_instead=True,
            )
            reporter.advance(values)
            reporter.record(
                "train",
                epoch=epoch,
                step=epoch * len(train_dataloader) + i,
                batch=i,
                learning_rate=optimizer.param_groups[0]["lr"],
                **{_NOTED[key]: v for key, v in level.arguments.items() if key in _NOTED},
                **values,
            )


def test_epoch(
    epoch: int,
    test_dataloader: DataLoader,
    model: nn.Module,
    criterion: nn.Module | Levels,
    *,
    memory_format: torch.memory_format = torch.contiguous_format,  # noqa: PT028
    reporter: Reporter | None = None,  # noqa: PT028
    processes: Processes | None = None,  # noqa: PT028
) -> Tensor:
    """Average losses over the test batches and levels, in evaluation mode and full precision.

    Args:
        epoch: number shown.
        test_dataloader: batches ``(N, 3, H, W)`` in [0, 1].
        model, criterion, memory_format, reporter, processes: as in :func:`train_one_epoch`.

    Returns:
        The average ``loss``, 0-d.

    Raises:
        NonFiniteLoss: a loss is NaN or infinite.
    """
    model.eval()
    net = unwrap_model(model)
    device = next(net.parameters()).device
    reporter = reporter or Reporter()
    processes = processes or Processes(device=device)
    meters: dict[str, AverageMeter] = {}
    levels = _levels(criterion)
    begin_epoch(test_dataloader, epoch)

    with torch.no_grad():
        for i, batch in enumerate(test_dataloader):
            x = batch.to(device, memory_format=memory_format, non_blocking=True)
            losses: dict[str, Tensor] = {}
            # Without gradients nothing is exchanged but these numbers.
            forward = net if processes.count > 1 else model
            share = _weight(test_dataloader, i) / len(levels.levels)
            for level in levels.levels:
                _add(losses, level.losses(forward(x, **level.arguments), x), share)
            losses = dict(zip(losses, processes.sum(list(losses.values()))))
            check_finite(losses["loss"], "test loss", epoch, i, test_dataloader)
            for key, loss in {**losses, "aux_loss": _aux_loss(net)}.items():
                meters.setdefault(key, AverageMeter()).update(loss)

    values = {key: float(meter.avg) for key, meter in meters.items()}
    reporter.line(f"Test epoch {epoch}: Average losses:\t{format_losses(values)}\n")
    reporter.record("test", epoch=epoch, **values)
    return meters["loss"].avg


test_epoch.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name says


def _levels(criterion: nn.Module | Levels) -> Levels:
    return criterion if isinstance(criterion, Levels) else Levels([Level(criterion)])


def _aux_loss(net: nn.Module) -> Tensor:
    """The auxiliary loss; with the bottlenecks of variable step, which ``aux_loss`` leaves out."""
    variable = (m for m in net.modules() if isinstance(m, EntropyBottleneckVbr))
    return torch.as_tensor(net.aux_loss() + sum(m.loss() for m in variable))


def _weight(loader: DataLoader, number: int) -> float:
    """Which part of a batch this process has."""
    sampler = loader.batch_sampler
    return sampler.weight(number) if isinstance(sampler, RecordingBatchSampler) else 1.0


def _batch_size(loader: DataLoader, number: int, x: Tensor) -> int:
    """Items of a batch, all processes together."""
    sampler = loader.batch_sampler
    return len(sampler.history[number]) if isinstance(sampler, RecordingBatchSampler) else len(x)


def _add(sums: dict[str, Tensor], losses: Mapping[str, Tensor], share: float) -> None:
    """Add the losses of a part of a batch to those of the whole."""
    for key, loss in losses.items():
        value = loss.detach() * share
        sums[key] = sums[key] + value if key in sums else value


def _stepping(
    optimizer: optim.Optimizer, in_backward: bool
) -> contextlib.AbstractContextManager[None]:
    """Within, ``backward()`` takes the step, too, if it is to."""
    return steps_in_backward(optimizer) if in_backward else contextlib.nullcontext()


def _no_exchange(model: nn.Module, *, unless: bool) -> contextlib.AbstractContextManager[None]:
    """Keep gradients in this process, unless they are those of the last part of a batch."""
    if unless or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return model.no_sync()
