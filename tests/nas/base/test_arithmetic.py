"""What decides the bits of a computation besides the code."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas.base.arithmetic import UNSET, environment, fingerprint, instructions
from nas.base.machine import threads

SAY = "from nas.base.arithmetic import fingerprint; print(fingerprint())"


def elsewhere(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_fingerprint_is_the_same_in_every_process_and_changes_nothing_in_this_one() -> None:
    state = torch.get_rng_state()
    with threads(2):
        here = fingerprint()
        assert torch.get_num_threads() == 2
    assert here == fingerprint() == elsewhere(OMP_NUM_THREADS="2")
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables are those of x86's libraries")
@pytest.mark.parametrize("name", ["MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"])
def test_libraries_set_otherwise_have_another_fingerprint(name: str) -> None:
    value = {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}[name]
    if name == "MKL_CBWR" and not torch.backends.mkl.is_available():
        pytest.skip("torch without MKL")
    assert elsewhere(**{name: value}) != fingerprint()


def test_of_the_c_library_only_the_settings_of_the_processor_count() -> None:
    tuned = "glibc.malloc.arena_max=2:glibc.cpu.hwcaps=-AVX2"
    assert environment({"GLIBC_TUNABLES": tuned})["GLIBC_TUNABLES"] == "glibc.cpu.hwcaps=-AVX2"
    assert set(environment({"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}).values()) == {UNSET}


def test_instructions_are_those_that_compute(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx2 fma constant_tsc avx512_bf16 amx_bf16\n")
    assert instructions(file) == "amx_bf16 avx2 avx512_bf16 fma"
    assert instructions(tmp_path / "none") == ""
