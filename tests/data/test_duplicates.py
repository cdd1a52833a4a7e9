"""Identical files and photos that look the same."""

import time

import numpy as np

from data.duplicates import Duplicates


def test_the_same_bytes_are_found_in_any_group(tmp_path, dog):
    for name in "ab":
        dog().save(tmp_path / f"{name}.png")
    duplicates = Duplicates(0)
    assert duplicates.find("a", "pug", tmp_path / "a.png", dog()) is None
    assert duplicates.find("b", "boxer", tmp_path / "b.png", dog()) == ("identical file", "a")


def test_a_resaved_smaller_copy_is_a_near_duplicate_within_its_group_only(tmp_path, dog):
    dog().save(tmp_path / "a.png")
    small = dog().resize((80, 60))
    small.save(tmp_path / "b.jpg", quality=60)
    duplicates = Duplicates(6)
    assert duplicates.find("a", "pug", tmp_path / "a.png", dog()) is None
    assert duplicates.find("b", "pug", tmp_path / "b.jpg", small) == ("near-duplicate", "a")
    assert duplicates.find("b", "boxer", tmp_path / "b.jpg", small) is None


def test_different_photos_are_both_new(tmp_path, dog):
    duplicates = Duplicates(3)
    for seed in range(20):
        path = tmp_path / f"{seed}.png"
        dog(seed=seed).save(path)
        assert duplicates.find(str(seed), "pug", path, dog(seed=seed)) is None


def test_many_photos_in_a_group_stay_fast(tmp_path, dog):
    duplicates = Duplicates(3)
    duplicates._hashes["pug"] = np.random.default_rng(0).integers(0, 2**64, 200_000, np.uint64)
    dog().save(tmp_path / "a.png")
    started = time.perf_counter()
    duplicates.find("a", "pug", tmp_path / "a.png", dog())
    assert time.perf_counter() - started < 1
