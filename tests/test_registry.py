# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The registries hold real classes, decorators store and return, importing stays cheap."""

from __future__ import annotations

import subprocess
import sys
import typing
import warnings

import pytest
import torch
import torchvision
from torch import nn

import compressai.typing as compressai_typing
from compressai import registry

DECORATORS = [
    ("CRITERIONS", "register_criterion"),
    ("DATASETS", "register_dataset"),
    ("MODELS", "register_model"),
    ("MODULES", "register_module"),
    ("OPTIMIZERS", "register_optimizer"),
    ("SCHEDULERS", "register_scheduler"),
    ("TRANSFORMS", "register_transform"),
]


@pytest.fixture(params=DECORATORS, ids=lambda pair: pair[0])
def table_and_register(request, monkeypatch):
    table = getattr(registry, request.param[0])
    yield table, getattr(registry, request.param[1])
    for name in [name for name in table if name.startswith("test-")]:
        del table[name]


def test_decorator_stores_the_object_and_returns_it_unchanged(table_and_register):
    table, register = table_and_register

    class Thing(nn.Module):
        pass

    assert register("test-thing")(Thing) is Thing
    assert table["test-thing"] is Thing


def test_registering_another_object_under_a_known_name_replaces_it_and_warns(table_and_register):
    table, register = table_and_register

    class First(nn.Module):
        pass

    class Second(nn.Module):
        pass

    register("test-thing")(First)
    with pytest.warns(UserWarning, match="test-thing"):
        register("test-thing")(Second)
    assert table["test-thing"] is Second


def test_registering_the_same_definition_again_is_silent(table_and_register):
    table, register = table_and_register

    def define():
        class Thing(nn.Module):
            pass

        return Thing

    register("test-thing")(define())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = register("test-thing")(define())
    assert table["test-thing"] is again


def test_decorator_without_parentheses_is_refused(table_and_register):
    _, register = table_and_register
    with pytest.raises(TypeError, match="name as a string"):
        register(nn.Module)


def test_optimizers_are_the_optimizer_classes_of_torch():
    for name in ("Adam", "AdamW", "SGD"):
        assert registry.OPTIMIZERS[name] is getattr(torch.optim, name)


def test_schedulers_hold_nothing_but_schedulers_and_miss_none():
    namespace = torch.optim.lr_scheduler
    base = namespace.LRScheduler
    assert all(issubclass(item, base) for item in registry.SCHEDULERS.values())
    assert set(registry.SCHEDULERS) >= {"ReduceLROnPlateau", "CosineAnnealingLR", "StepLR"}
    assert not {"Any", "Counter", "Optimizer", "Tensor"} & set(registry.SCHEDULERS)


def test_transforms_are_those_of_torchvision_from_all_three_places():
    from compressai.registry import torchvision as by_library
    from compressai.registry import transforms as by_kind

    assert registry.TRANSFORMS is by_library.TRANSFORMS is by_kind.TRANSFORMS
    assert by_library.register_transform is registry.register_transform
    assert registry.TRANSFORMS["RandomCrop"] is torchvision.transforms.RandomCrop
    assert registry.TRANSFORMS["Compose"] is torchvision.transforms.Compose


def test_modules_share_one_table():
    from compressai.registry import torch as tables

    for name, _ in DECORATORS[:-1]:
        assert getattr(tables, name) is getattr(registry, name)


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NO_TABLE"):
        _ = registry.NO_TABLE


def test_typing_aliases_exist():
    for name in compressai_typing.__all__:
        assert getattr(compressai_typing, name) is not None
    assert torch.optim.Adam.__mro__[1] in typing.get_args(compressai_typing.TOptimizer)


def test_importing_the_registry_does_not_import_torchvision():
    code = (
        "import sys, types; package = types.ModuleType('compressai');"
        f"package.__path__ = [{registry.__path__[0].rsplit('/', 1)[0]!r}];"
        "sys.modules['compressai'] = package; import compressai.registry;"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
