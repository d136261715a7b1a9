"""One folder for whatever is kept between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim._cache import cache_dir


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"ARCHSIM_CACHE": "{home}/own", "XDG_CACHE_HOME": "{home}/xdg"}, "own"),
        ({"ARCHSIM_CACHE": "~/own"}, "own"),
        ({"ARCHSIM_CACHE": "", "XDG_CACHE_HOME": "{home}/xdg"}, "xdg/archsim"),
        ({"XDG_CACHE_HOME": ""}, ".cache/archsim"),
        ({}, ".cache/archsim"),
    ],
)
def test_the_folder_is_chosen_by_the_environment(
    environment: dict[str, str], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ARCHSIM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert cache_dir() == tmp_path.resolve() / folder
    assert not cache_dir().exists()
